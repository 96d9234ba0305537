//! A namespace with two uplinks, and a FIB task in it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::{FibChange, Gateway, Gateways};
use bgp::{Families, InterfaceIndex, Prefix};
use selvedge::kernel::fib::{
    self, Batch, Counters, Inputs, LocalRoutes, NexthopObjects, Ownership, Request, RouteState, RouteStatus,
    Settings,
};
use selvedge::kernel::interfaces::{self, Interfaces};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};

pub(super) const OURS: Ownership = Ownership { protocol: 186, table: 254, metric: 20 };
/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// Whether the test at hand runs with nexthop objects.
    static OBJECTS: Cell<NexthopObjects> = const { Cell::new(NexthopObjects::On) };
}

/// Runs a test twice, with nexthop objects and with next hops in the routes, each time in a namespace with two
/// uplinks `ens3` and `ens4` (their other ends are `ens31` and `ens41`) and the loopback addresses 1.1.1.1 and
/// fd00::1.
pub(super) fn in_namespace<F: Future<Output = ()>>(test: impl Fn() -> F + Clone + Send + 'static) {
    for objects in [NexthopObjects::Off, NexthopObjects::Auto] {
        in_namespace_with(objects, test.clone());
    }
}

/// As [`in_namespace`], one of the two.
pub(super) fn in_namespace_with<F: Future<Output = ()>>(
    objects: NexthopObjects,
    test: impl FnOnce() -> F + Send + 'static,
) {
    // SAFETY: asks for the effective user only.
    assert_eq!(unsafe { libc::geteuid() }, 0, "this test needs root: it makes a network namespace");
    let thread = std::thread::spawn(move || {
        // SAFETY: moves only this thread to a new namespace; no memory is involved.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
        OBJECTS.set(objects);
        println!("nexthop objects: {objects:?}");
        ip("link set lo up");
        ip("address add 1.1.1.1/32 dev lo");
        ip("address add fd00::1/128 dev lo");
        uplink("ens3");
        uplink("ens4");
        // An address that the kernel still considers is no source.
        let deadline = Instant::now() + PATIENCE;
        while !ip("-6 address show dev lo tentative").is_empty() {
            assert!(Instant::now() < deadline, "fd00::1 stays tentative");
            std::thread::sleep(Duration::from_millis(1));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test());
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// What this test runs with.
pub(super) fn objects() -> NexthopObjects {
    OBJECTS.get()
}

pub(super) fn settings() -> Settings {
    Settings {
        ownership: OURS,
        sweep_after: Settings::SWEEP_AFTER,
        event_buffer: 8 << 20,
        nexthop_objects: objects(),
        nexthop_ids: 1_860_000_000..=1_860_065_535,
    }
}

pub(super) fn uplink(name: &str) {
    ip(&format!("link add name {name} type veth peer name {name}1"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}1 up"));
}

/// Runs `ip` in this thread's namespace; the number of a route's object is left out of what it says.
pub(super) fn ip(arguments: &str) -> String {
    let text = ip_raw(arguments);
    let words = |line: &str| {
        let mut words = line.split(' ').collect::<Vec<_>>();
        if let Some(at) = words.iter().position(|word| *word == "nhid") {
            words.drain(at..at + 2);
        }
        words.join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

/// Deletes every route of ours behind our back. `ip route flush` cannot with objects: it tells the kernel the next
/// hops and the object, which the kernel will not have together.
pub(super) fn flush(family: &str) {
    if objects() == NexthopObjects::Off {
        ip(&format!("{family} route flush proto bgp"));
        return;
    }
    let shown = ip(&format!("{family} route show proto bgp"));
    let all = shown.lines().filter_map(|line| line.split(' ').next());
    let commands: String = all.map(|to| format!("route del {to} proto bgp\n")).collect();
    batch_of(family, &commands);
}

/// Runs many commands of `ip`, a line each.
pub(super) fn batch(commands: &str) {
    batch_of("-4", commands);
}

fn batch_of(family: &str, commands: &str) {
    let mut batch = Command::new("ip").args([family, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    batch.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(batch.wait().unwrap().success());
}

pub(super) fn ip_raw(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    // One line for each route.
    String::from_utf8(output.stdout).unwrap().replace("\n\t", " ").replace("  ", " ").trim().to_owned()
}

pub(super) fn index(name: &str) -> u32 {
    // No process for each: some tests ask a thousand times.
    nix::net::if_::if_nametoindex(name).unwrap()
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn gateways(list: &[(&str, &str)]) -> Gateways {
    let mut gateways: Gateways = list
        .iter()
        .map(|(address, link)| Gateway {
            address: address.parse().unwrap(),
            interface: (!link.is_empty()).then(|| InterfaceIndex(index(link))),
        })
        .collect();
    gateways.sort_unstable();
    gateways
}

pub(super) fn route(to: &str, via: &[(&str, &str)]) -> FibChange {
    FibChange { prefix: prefix(to), gateways: (!via.is_empty()).then(|| gateways(via)) }
}

/// A FIB task with the links it follows, and its inputs.
pub(super) struct Fib {
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) local: watch::Sender<Arc<LocalRoutes>>,
    pub(super) interfaces: watch::Receiver<Arc<Interfaces>>,
    pub(super) dead: watch::Sender<Arc<BTreeSet<Gateway>>>,
    pub(super) failed: watch::Sender<Arc<BTreeSet<Gateway>>>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) inherited: oneshot::Receiver<Families>,
    pub(super) task: JoinHandle<()>,
    pub(super) monitor: JoinHandle<()>,
}

impl Fib {
    pub(super) async fn start() -> Self {
        Self::start_with(settings()).await
    }

    pub(super) async fn start_with(settings: Settings) -> Self {
        let (monitor, interfaces) = interfaces::start().await.unwrap();
        let local = LocalRoutes {
            preferred_source_ipv4: Some("1.1.1.1".parse().unwrap()),
            preferred_source_ipv6: Some("fd00::1".parse().unwrap()),
            ..LocalRoutes::default()
        };
        let (local, local_receiver) = watch::channel(Arc::new(local));
        let (batches, batch_receiver) = mpsc::channel(2);
        let (dead, dead_receiver) = watch::channel(Arc::default());
        let (failed, failed_receiver) = watch::channel(Arc::default());
        let (requests, request_receiver) = mpsc::channel(2);
        let (found, inherited) = oneshot::channel();
        let inputs = Inputs {
            batches: batch_receiver,
            local: local_receiver,
            interfaces: interfaces.clone(),
            dead: dead_receiver,
            failed: failed_receiver,
            requests: request_receiver,
            inherited: Some(found),
        };
        let task = tokio::task::spawn_local(async move { fib::run(settings, inputs).await.unwrap() });
        let monitor = tokio::task::spawn_local(monitor.run());
        Self { batches, local, interfaces, dead, failed, requests, inherited, task, monitor }
    }

    pub(super) async fn want(&self, changes: impl IntoIterator<Item = FibChange>) {
        self.send(Batch { changes: changes.into_iter().collect(), converged: false }).await;
    }

    pub(super) async fn converged(&self) {
        self.send(Batch { changes: Vec::new(), converged: true }).await;
    }

    /// Until the task has taken it: what is asked afterwards is answered with it.
    pub(super) async fn send(&self, batch: Batch) {
        self.batches.send(batch).await.unwrap();
        while self.batches.capacity() < self.batches.max_capacity() {
            tokio::task::yield_now().await;
        }
    }

    /// Sessions that are lost.
    pub(super) fn failed(&self, list: &[(&str, &str)]) {
        self.failed.send_replace(Arc::new(gateways(list).into_iter().collect()));
    }

    pub(super) fn dead(&self, list: &[(&str, &str)]) {
        self.dead.send_replace(Arc::new(gateways(list).into_iter().collect()));
    }

    pub(super) fn blackholes(&self, prefixes: &[&str]) {
        self.local.send_modify(|local| {
            Arc::make_mut(local).blackholes = prefixes.iter().map(|text| prefix(text)).collect();
        });
    }

    pub(super) async fn counters(&self) -> Counters {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Counters { reply }).await.unwrap();
        answer.await.unwrap()
    }

    pub(super) async fn routes(&self) -> Vec<RouteStatus> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (reply, answer) = oneshot::channel();
            self.requests.send(Request::Routes { after, limit: 100, reply }).await.unwrap();
            let page = answer.await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.prefix);
            all.extend(page);
        }
    }

    pub(super) async fn state(&self, to: &str) -> Option<RouteState> {
        self.routes().await.into_iter().find(|status| status.prefix == prefix(to)).map(|status| status.state)
    }

    /// Until the task says so.
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut(&Counters) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.counters().await;
            if holds(&counters) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {counters:?}, {:?}", self.routes().await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn installed(&self, routes: usize) {
        self.until("installed", |c| c.installed == routes && c.pending == 0 && c.failed == 0).await;
    }

    /// Ends both tasks as a stop does.
    pub(super) async fn stop(self) {
        let Self { batches, local, interfaces, dead, failed, requests, task, monitor, inherited: _ } = self;
        drop((batches, local, dead, failed, requests));
        task.await.unwrap();
        drop(interfaces);
        monitor.await.unwrap();
    }
}

/// IPv4 routes that all go the same way.
pub(super) const MANY: usize = 500;

pub(super) fn many(legs: &[(&str, &str)]) -> Vec<FibChange> {
    (0..MANY).map(|number| route(&format!("10.{}.{}.0/24", number / 256, number % 256), legs)).collect()
}

/// The nexthop object that the first of them names, as `ip` has it.
pub(super) fn group_of_many() -> String {
    ip_raw("route show 10.0.0.0/24").split(' ').nth(2).unwrap().to_owned()
}

pub(super) fn routes_on(group: &str) -> usize {
    ip_raw("route show proto bgp").matches(&format!("nhid {group} ")).count()
}

/// Whether a listing of routes has this number of next hops in all.
pub(super) fn has_legs(count: usize) -> impl Fn(&str) -> bool {
    move |text| text.matches("via inet6").count() == count
}

/// The table as `ip` shows it, by polling: for changes that no answer of the task can announce.
pub(super) async fn shows(arguments: &str, expected: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = ip(arguments);
        if expected(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "ip {arguments}: {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
