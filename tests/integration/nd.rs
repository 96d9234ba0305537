//! Router Discovery over veth pairs of the real kernel, and against FRR.
//!
//! Nothing sleeps: a test waits for the event it is about, and [`PATIENCE`] is how long until that is a failure.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;
use selvedge::nd::packet::{ALL_NODES, Advertisement};
use selvedge::nd::{
    self, Command, Event, MacAddress, RouterLifetime, RunError, Settings, Status, Uplink, Uplinks,
};
use socket2::{Domain, Protocol, Type};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
/// Discovery takes a millisecond. Whoever waits for a periodic advertisement instead takes 7.5 s and longer.
const AT_ONCE: Duration = Duration::from_secs(2);

const LEFT: Ipv6Addr = link_local(1);
const RIGHT: Ipv6Addr = link_local(2);
const STRANGER: Ipv6Addr = link_local(3);

const fn link_local(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
}

#[tokio::test]
async fn two_nodes_discover_each_other() {
    let Some([left, right]) = namespaces("two-nodes") else { return };
    cable(&left, &right, "up0");
    let (left_uplinks, right_uplinks) = (uplink(&left, "up0", LEFT), uplink(&right, "up0", RIGHT));
    let started = Instant::now();
    let mut left_node = Node::start(&left, left_uplinks);
    let mut right_node = Node::start(&right, right_uplinks);
    let events = (left_node.event().await, right_node.event().await);
    let took = started.elapsed();
    assert_eq!(events, (seen(&left, "up0", RIGHT), seen(&right, "up0", LEFT)));
    eprintln!("two nodes discovered each other {took:?} after the first one was started");
    assert!(took < AT_ONCE, "{took:?}");

    let status = left_node.status().await;
    let [uplink] = status.uplinks.as_slice() else { panic!("{status:?}") };
    assert_eq!(uplink.router.map(|router| router.address), Some(RIGHT));
    assert_eq!(uplink.alarms, []);
    assert_eq!((uplink.counters.discarded, uplink.counters.send_failures), (0, 0), "{uplink:?}");
    left_node.stop();
    right_node.stop();
}

#[tokio::test]
async fn a_forgotten_router_is_found_again_at_once() {
    let Some([left, right]) = namespaces("forget") else { return };
    cable(&left, &right, "up0");
    let mut left_node = Node::start(&left, uplink(&left, "up0", LEFT));
    let mut right_node = Node::start(&right, uplink(&right, "up0", RIGHT));
    assert_eq!(left_node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(right_node.event().await, seen(&right, "up0", LEFT));
    let forget = Command::Forget { interface: left.index("up0"), router: RIGHT };
    let started = Instant::now();
    left_node.commands.send(forget).await.unwrap();
    let event = left_node.event().await;
    assert!(started.elapsed() < AT_ONCE, "by solicitation: {:?}", started.elapsed());
    assert_eq!(event, seen(&left, "up0", RIGHT));
    left_node.stop();
    right_node.stop();
}

#[tokio::test]
async fn an_interface_made_again_with_another_index_is_a_new_uplink() {
    let Some([left, right]) = namespaces("new-index") else { return };
    cable(&left, &right, "up0");
    let mut left_node = Node::start(&left, uplink(&left, "up0", LEFT));
    let mut right_node = Node::start(&right, uplink(&right, "up0", RIGHT));
    assert_eq!(left_node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(right_node.event().await, seen(&right, "up0", LEFT));
    let before = left.index("up0");

    left.ip("link delete up0");
    left_node.uplinks.send_replace(Arc::default());
    right_node.uplinks.send_replace(Arc::default());
    cable(&left, &right, "up0");
    assert_ne!(left.index("up0"), before);
    left_node.uplinks.send_replace(uplink(&left, "up0", LEFT));
    right_node.uplinks.send_replace(uplink(&right, "up0", RIGHT));
    assert_eq!(left_node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(right_node.event().await, seen(&right, "up0", LEFT));
    left_node.stop();
    right_node.stop();
}

#[tokio::test]
async fn an_advertisement_with_hop_limit_64_is_ignored() {
    let Some([left, right]) = namespaces("hop-limit") else { return };
    cable(&left, &right, "up0");
    right.ip(&format!("-6 address add {STRANGER}/64 dev up0 nodad"));
    let mut node = Node::start(&left, uplink(&left, "up0", LEFT));
    node.is_listening().await;
    // In this order on one cable: the first that were believed would be the first event.
    right.advertise("up0", STRANGER, 64);
    right.advertise("up0", RIGHT, 255);
    assert_eq!(node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(node.status().await.uplinks[0].counters.discarded, 1);
    node.stop();
}

#[tokio::test]
async fn an_advertisement_from_a_pod_is_ignored() {
    let Some([left, right]) = namespaces("pod") else { return };
    cable(&left, &right, "up0");
    cable(&left, &right, "pod0");
    // As a pod would that knows how the ToR is called.
    right.ip(&format!("-6 address add {STRANGER}/64 dev pod0 nodad"));
    let mut node = Node::start(&left, uplink(&left, "up0", LEFT));
    node.is_listening().await;
    right.advertise("pod0", STRANGER, 255);
    right.advertise("up0", RIGHT, 255);
    assert_eq!(node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(node.status().await.foreign_messages, 1, "it did arrive");
    node.stop();
}

#[tokio::test]
async fn a_send_on_a_link_that_is_down_does_not_end_the_task() {
    let Some([left, right]) = namespaces("down") else { return };
    cable(&left, &right, "up0");
    left.ip("link set up0 down");
    // The snapshot is behind the kernel, as it always is for a moment.
    let mut node = Node::start(&left, uplink(&left, "up0", LEFT));
    assert!(node.status().await.uplinks[0].counters.send_failures > 0);
    left.ip("link set up0 up");
    left.ip(&format!("-6 address replace {LEFT}/64 dev up0 nodad"));
    let mut other = Node::start(&right, uplink(&right, "up0", RIGHT));
    assert_eq!(node.event().await, seen(&left, "up0", RIGHT));
    assert_eq!(other.event().await, seen(&right, "up0", LEFT));
    node.stop();
    other.stop();
}

#[tokio::test]
async fn frr_and_we_learn_each_other() {
    let Some([host, tor]) = namespaces("frr") else { return };
    if !Path::new("/usr/lib/frr/bgpd").exists() {
        eprintln!("SKIPPED frr_and_we_learn_each_other: needs the package frr");
        return;
    }
    cable(&host, &tor, "up0");
    let mut node = Node::start(&host, uplink(&host, "up0", LEFT));
    // FRR dials a neighbor only when it has learned its address from an advertisement.
    let listener = host.run(|| std::net::TcpListener::bind("[::]:179").unwrap());
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let _frr = Frr::start(&tor, "up0");
    assert_eq!(node.event().await, seen(&host, "up0", RIGHT));
    let (_, peer) = timeout(PATIENCE, listener.accept()).await.expect("FRR dials us").unwrap();
    let SocketAddr::V6(peer) = peer else { panic!("dialled from {peer}") };
    assert_eq!((*peer.ip(), peer.scope_id()), (RIGHT, host.index("up0").0));

    // It answers a solicitation at once: so quickly do we learn it when it is there before us.
    node.stop();
    let uplinks = uplink(&host, "up0", LEFT);
    let started = Instant::now();
    let mut node = Node::start(&host, uplinks);
    let event = node.event().await;
    let took = started.elapsed();
    assert_eq!(event, seen(&host, "up0", RIGHT));
    eprintln!("FRR was discovered {took:?} after the start of the task");
    assert!(took < AT_ONCE, "{took:?}");
    node.stop();
}

fn seen(namespace: &Namespace, device: &str, router: Ipv6Addr) -> Event {
    Event::RouterSeen { interface: namespace.index(device), router }
}

fn uplink(namespace: &Namespace, device: &str, link_local: Ipv6Addr) -> Arc<Uplinks> {
    let uplink = Uplink {
        name: device.to_owned(),
        link_local: Some(link_local),
        mac: Some(namespace.mac(device)),
        running: true,
        router_lifetime: RouterLifetime::ZERO,
    };
    Arc::new(Uplinks::from([(namespace.index(device), uplink)]))
}

/// `nd::run` on a thread of its own in a namespace. Ends when its channels are dropped.
struct Node {
    uplinks: watch::Sender<Arc<Uplinks>>,
    events: mpsc::Receiver<Event>,
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Node {
    fn start(namespace: &Namespace, uplinks: Arc<Uplinks>) -> Self {
        let (uplinks, uplinks_receiver) = watch::channel(uplinks);
        let (events_sender, events) = mpsc::channel(1);
        let (commands, commands_receiver) = mpsc::channel(1);
        let settings = Settings::default();
        let task = nd::run(settings, uplinks_receiver, events_sender, commands_receiver);
        let thread = namespace.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
        });
        Self { uplinks, events, commands, thread }
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event").expect("the task runs")
    }

    async fn status(&self) -> Status {
        let (answer, status) = oneshot::channel();
        self.commands.send(Command::Show(answer)).await.expect("the task runs");
        status.await.expect("an answer")
    }

    /// Until the first snapshot is in, and with it the memberships: before that the task answers nothing.
    async fn is_listening(&self) {
        assert_ne!(self.status().await.uplinks, []);
    }

    fn stop(self) {
        let Self { uplinks, events, commands, thread } = self;
        drop((uplinks, events, commands));
        thread.join().expect("no panic").expect("a silent end");
    }
}

/// Two, or a loud word about what is missing.
fn namespaces(test: &str) -> Option<[Namespace; 2]> {
    // SAFETY: `geteuid` has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED nd {test}: needs root for network namespaces");
        return None;
    }
    Some([Namespace::new(test, "l"), Namespace::new(test, "r")])
}

/// Joins the two with a veth pair of one name, up, with addresses that are usable at once.
fn cable(left: &Namespace, right: &Namespace, device: &str) {
    left.ip(&format!("link add {device} type veth peer name {device} netns {}", right.name));
    for (namespace, address) in [(left, LEFT), (right, RIGHT)] {
        namespace.ip(&format!("link set {device} addrgenmode none"));
        namespace.ip(&format!("link set {device} up"));
        namespace.ip(&format!("-6 address add {address}/64 dev {device} nodad"));
    }
}

/// A network namespace that goes when this does.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(test: &str, side: &str) -> Self {
        let name = format!("nd-{test}-{}-{side}", std::process::id());
        let namespace = Self { name };
        run_process(Process::new("ip").args(["netns", "add", &namespace.name]));
        namespace
    }

    fn ip(&self, arguments: &str) {
        run_process(Process::new("ip").args(["-n", &self.name]).args(arguments.split(' ')));
    }

    /// A thread of its own in this namespace.
    fn spawn<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::spawn(move || {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open, and `setns` changes this thread alone.
            let status = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
            body()
        })
    }

    fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(body).join().expect("no panic")
    }

    fn index(&self, device: &str) -> InterfaceIndex {
        let device = std::ffi::CString::new(device).unwrap();
        // SAFETY: the name is a C string that lives through the call.
        InterfaceIndex(self.run(move || unsafe { libc::if_nametoindex(device.as_ptr()) }))
    }

    fn mac(&self, device: &str) -> MacAddress {
        let link = run_process(Process::new("ip").args(["-n", &self.name, "-o", "link", "show", device]));
        let text = link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        MacAddress(octets.try_into().unwrap())
    }

    /// Sends one Router Advertisement, good but for what the arguments make of it.
    fn advertise(&self, device: &str, source: Ipv6Addr, hop_limit: u32) {
        let scope = self.index(device).0;
        self.run(move || {
            let socket = socket2::Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
            socket.set_multicast_hops_v6(hop_limit).unwrap();
            socket.bind(&SocketAddrV6::new(source, 0, 0, scope).into()).unwrap();
            let advertisement =
                Advertisement { router_lifetime: RouterLifetime::ZERO, source_link_layer: None };
            let all_nodes = SocketAddrV6::new(ALL_NODES, 0, 0, scope);
            socket.send_to(&advertisement.to_octets(), &all_nodes.into()).unwrap();
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Process::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// The order in which they start: bgpd that does not find zebra tries again only 10 s later.
const DAEMONS: [&str; 2] = ["zebra", "bgpd"];

/// zebra and bgpd with one unnumbered neighbor, ended by their process ids when this is dropped.
struct Frr {
    directory: PathBuf,
}

impl Frr {
    fn start(namespace: &Namespace, device: &str) -> Self {
        let frr = Self { directory: std::env::temp_dir().join(&namespace.name) };
        fs::create_dir(&frr.directory).unwrap();
        let configuration = format!(
            "router bgp 65004\n bgp router-id 4.4.4.4\n no bgp ebgp-requires-policy\n \
             neighbor {device} interface remote-as external\n"
        );
        fs::write(frr.file("zebra", "conf"), "").unwrap();
        fs::write(frr.file("bgpd", "conf"), configuration).unwrap();
        // The daemons give root up before they read any of it.
        run_process(Process::new("chown").args(["-R", "frr:frr"]).arg(&frr.directory));
        for daemon in DAEMONS {
            // With `-d` the process that is started ends when the daemon it leaves behind is ready.
            let mut command = Process::new("ip");
            command.args(["netns", "exec", &namespace.name]).arg(format!("/usr/lib/frr/{daemon}"));
            command.args(["-d", "-F", "datacenter", "-P", "0"]);
            command.arg("-f").arg(frr.file(daemon, "conf")).arg("-i").arg(frr.file(daemon, "pid"));
            command.arg("-z").arg(frr.directory.join("zserv.api")).arg("--vty_socket").arg(&frr.directory);
            command.arg("--log").arg(format!("file:{}", frr.file(daemon, "log").display()));
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.unwrap().success(), "{command:?}");
        }
        frr
    }

    fn file(&self, daemon: &str, suffix: &str) -> PathBuf {
        self.directory.join(format!("{daemon}.{suffix}"))
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        for daemon in DAEMONS {
            let pid = fs::read_to_string(self.file(daemon, "pid")).unwrap_or_default();
            if let Ok(pid @ 2..) = pid.trim().parse() {
                // SAFETY: a signal to a process that this test started and that holds its pid file.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(self.file(daemon, "log"));
                eprintln!("{daemon}: {}", log.unwrap_or_default());
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The standard output of a command that must succeed.
fn run_process(command: &mut Process) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
