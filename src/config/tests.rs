mod any;

use std::fs;
use std::num::NonZeroU8;
use std::path::Path;

use super::*;

/// A configuration with the AS number and then this text.
pub(super) fn with(text: &str) -> Config {
    parsed(text).unwrap_or_else(|error| panic!("{error}"))
}

fn parsed(text: &str) -> Result<Config, ConfigError> {
    parse(&format!("[bgp]\nlocal-as = 65001\n{text}"), "test.toml")
}

/// Everything wrong with a configuration with the AS number and then this text.
pub(super) fn problems(text: &str) -> Vec<Problem> {
    match parsed(text) {
        Err(ConfigError::Invalid { problems, .. }) => problems,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn everything_but_the_as_number_has_a_default() {
    let expected = Config {
        bgp: Bgp {
            local_as: Asn(65001),
            router_id: None,
            keepalive: Duration::from_secs(3),
            hold_time: HoldTime::from_secs(9).unwrap(),
            graceful_restart: Some(Duration::from_secs(30)),
            stale_time: Duration::from_secs(120),
        },
        loopback: Loopback { interface: "lo".to_owned(), advertise: true },
        prefix_lists: vec![],
        policies: vec![],
        neighbors: vec![],
        kubernetes: None,
        pods: Pods { static_blocks: vec![], node_cidrs: None, calico: None },
        services: None,
        readiness: None,
        drain: Drain { on_cordon: false },
        cni: None,
        fib: Fib {
            protocol: 186,
            metric: 20,
            table: 254,
            max_paths: 16,
            nexthop_objects: NexthopObjects::Auto,
            nexthop_ids: 1_860_000_000..=1_860_065_535,
        },
        sysctl: Sysctl { manage: false },
        control: Control { socket: "/run/selvedge/control.sock".into() },
    };
    assert_eq!(with(""), expected);
    // Tables without a key are the same as none.
    assert_eq!(with("[loopback]\n[pods]\n[fib]\n[sysctl]\n[control]\n"), expected);
    assert_eq!(with("[pods.static]\n"), expected);
}

#[test]
fn what_asks_kubernetes_is_off_where_it_is_left_out() {
    let server = "[kubernetes]\nin-cluster = true\n";
    let state = PathBuf::from("/var/lib/selvedge/cluster.json");
    let kubernetes = Some(Kubernetes { access: Access::ServiceAccount, node_name: None, state });
    assert_eq!(with(server), Config { kubernetes: kubernetes.clone(), ..with("") });
    let borrowed = Borrowed::Advertise { community: None, limit: 100 };
    let calico = Some(Calico { api: CalicoApi::Any, borrowed });
    let pods = Pods { static_blocks: vec![], node_cidrs: Some(NodeCidrs {}), calico };
    let services = Some(Services {
        load_balancer: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
        external: vec![],
        cluster: vec![],
        aggregate: false,
    });
    let text =
        "[pods.node]\n[pods.calico]\n[services]\nload-balancer = ['192.0.2.0/24', '2001:db8::1/128']\n";
    assert_eq!(with(&format!("{server}{text}")), Config { kubernetes, pods, services, ..with("") });
}

#[test]
fn readiness_has_defaults_and_asks_for_the_routes_that_it_names() {
    assert_eq!(with("[readiness]\n").readiness, Some(Readiness::default()));
    let each =
        |routes: &[&str]| RequiredRoutes::Each(routes.iter().map(|text| text.parse().unwrap()).collect());
    let text = "[readiness]\nuplinks = 2\nroutes = ['::/0', '0.0.0.0/0', '::/0']\necho = true\nisolated-for = '2m'\n\
                taint = false\n[kubernetes]\nin-cluster = true\n[drain]\non-cordon = true\n";
    let config = with(text);
    let expected = Readiness {
        uplinks: 2,
        routes: each(&["0.0.0.0/0", "::/0"]),
        echo: true,
        isolated_for: Duration::from_secs(120),
        taint: false,
    };
    assert_eq!((config.readiness, config.drain), (Some(expected), Drain { on_cordon: true }));
    assert_eq!(with("[readiness]\nroutes = []\n").readiness.unwrap().routes, each(&[]));
}

#[test]
fn pods_are_connected_by_others_unless_the_file_says_so() {
    let cni = Some(Cni { file: "/etc/cni/net.d/10-selvedge.conflist".into() });
    assert_eq!(with("[cni]\n"), Config { cni, ..with("") });
}

#[test]
fn a_neighbor_has_defaults_of_its_own() {
    let [neighbor] = with("[[neighbor]]\ninterface = 'ens3'").neighbors.try_into().unwrap();
    assert_eq!(
        neighbor,
        Neighbor {
            peer: NeighborPeer::Interface("ens3".to_owned()),
            remote_as: RemoteAs::External,
            max_prefixes: 100_000,
            password_file: None,
            password: None,
            ttl_security: false,
            link_local_form: LinkLocalForm::Twice,
            router_lifetime: Duration::ZERO,
            damping: Duration::from_secs(10),
            bfd: None,
            import: None,
            export: None,
            transit: Transit::Never,
            allowed_own_as: 0,
        }
    );
}

#[test]
fn bfd_is_off_unless_it_is_named_and_has_defaults_then() {
    let bfd =
        |keys: &str| with(&format!("[[neighbor]]\ninterface = 'ens3'\nbfd = {{ {keys} }}")).neighbors[0].bfd;
    for (keys, interval_ms, multiplier) in [
        ("", 300, 3),
        ("interval = '10ms', multiplier = 1", 10, 1),
        ("interval = '60s', multiplier = 255", 60_000, 255),
    ] {
        let expected = bfd::Parameters {
            interval: Duration::from_millis(interval_ms),
            multiplier: NonZeroU8::new(multiplier).unwrap(),
        };
        assert_eq!(bfd(keys), Some(expected), "{keys}");
    }
    for keys in [
        "interval = '9ms'",
        "interval = '61s'",
        "interval = 50",
        "multiplier = 0",
        "multiplier = 256",
        "x = 1",
    ] {
        let text = format!("[[neighbor]]\ninterface = 'ens3'\nbfd = {{ {keys} }}");
        assert_eq!(problems(&text).len(), 1, "{keys}");
    }
}

#[test]
fn values_at_the_edges_are_taken() {
    let hold_time = |text: &str| with(text).bgp.hold_time.as_secs();
    assert_eq!(hold_time("hold-time = '0s'"), 0);
    assert_eq!(hold_time("hold-time = '3s'\nkeepalive = '2999ms'"), 3);
    assert_eq!(hold_time("hold-time = '18h 12m 15s'"), 65535);
    // The hold timer is off: nothing for the keepalive to be less than.
    assert_eq!(hold_time("hold-time = '0s'\nkeepalive = '1h'"), 0);
    assert_eq!(with("graceful-restart = '0s'").bgp.graceful_restart, None);
    assert_eq!(with("stale-time = '0s'").bgp.stale_time, Duration::ZERO);
    assert_eq!(with("graceful-restart = '4095s'").bgp.graceful_restart, Some(Duration::from_secs(4095)));
    let fib = with(
        "[fib]\nprotocol = 255\nmetric = 0xffff_ffff\ntable = 1\nmax-paths = 256\n\
         nexthop-objects = 'on'\nnexthop-ids = '1-4294967295'",
    )
    .fib;
    let expected = Fib {
        protocol: 255,
        metric: u32::MAX,
        table: 1,
        max_paths: 256,
        nexthop_objects: NexthopObjects::On,
        nexthop_ids: 1..=u32::MAX,
    };
    assert_eq!(fib, expected);
    assert_eq!(with("[fib]\nnexthop-objects = 'off'").fib.nexthop_objects, NexthopObjects::Off);
    assert_eq!(with("[fib]\nnexthop-ids = '1-256'").fib.nexthop_ids, 1..=256);
    let longest = format!("/{}", "s".repeat(106));
    assert_eq!(with(&format!("[control]\nsocket = '{longest}'")).control.socket, PathBuf::from(&longest));
    assert_eq!(problems(&format!("[control]\nsocket = '{longest}s'")).len(), 1);
}

#[test]
fn values_beyond_the_edges_are_refused() {
    for text in [
        "hold-time = '1s'",
        "hold-time = '65536s'",
        "hold-time = '3s'\nkeepalive = '3s'",
        "keepalive = '999ms'",
        "keepalive = '9s'",
        "graceful-restart = '4096s'",
        "stale-time = '4096s'",
        "graceful-restart = '1500ms'",
        "router-id = '1.1.1'",
        "router-id = '2001:db8::1'",
        "[loopback]\ninterface = 'lo*'",
        "[loopback]\ninterface = 'a/b'",
        "[fib]\nprotocol = 4",
        "[fib]\nprotocol = 11",
        "[fib]\nprotocol = 256",
        "[fib]\nprotocol = -1",
        "[fib]\nmetric = 4294967296",
        "[fib]\nmetric = 99999999999999999999",
        "[fib]\ntable = 0",
        "[fib]\nmax-paths = 0",
        "[fib]\nnexthop-objects = true",
        "[fib]\nnexthop-objects = 'yes'",
        "[fib]\nnexthop-ids = 5000",
        "[fib]\nnexthop-ids = '5000'",
        "[fib]\nnexthop-ids = '0-5000'",
        "[fib]\nnexthop-ids = '1-255'",
        "[fib]\nnexthop-ids = '5000-1'",
        "[fib]\nnexthop-ids = '+1-5000'",
        "[fib]\nnexthop-ids = '1-4294967296'",
        "[control]\nsocket = '/run/'",
        "[control]\nsocket = \"/run/\\u0000\"",
        "[[neighbor]]\ninterface = '..'",
        "[[neighbor]]\ninterface = 'sixteen-letters-'",
        "[[neighbor]]\ninterface = 'ens3'\nmax-prefixes = 4294967296",
        "[[neighbor]]\naddress = '::'",
        "[[neighbor]]\naddress = '255.255.255.255'",
        "[pods.static]\nblocks = ['224.0.0.0/3']",
        "[pods.static]\nblocks = ['::/8']",
        "[pods]\nstatic = 'blocks'",
        "[pods]\nstatic = { block = [] }",
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
}

#[test]
fn reserved_as_numbers_are_refused_everywhere() {
    for number in [0, 23456, 65535, u32::MAX] {
        let local = parse(&format!("[bgp]\nlocal-as = {number}"), "test.toml");
        assert!(matches!(local, Err(ConfigError::Invalid { .. })), "{number}");
        problems(&format!("[[neighbor]]\ninterface = 'a'\nremote-as = {number}"));
        problems(&format!("[[neighbor]]\ninterface = 'a'\nremote-as = '{number}'"));
    }
}

#[test]
fn the_remote_as_is_a_word_or_a_number() {
    let remote_as = |text: &str| {
        with(&format!("[[neighbor]]\ninterface = 'ens3'\nremote-as = {text}")).neighbors[0].remote_as
    };
    assert_eq!(remote_as("'external'"), RemoteAs::External);
    assert_eq!(remote_as("'internal'"), RemoteAs::Internal);
    assert_eq!(remote_as("4200000000"), RemoteAs::Number(Asn(4_200_000_000)));
    assert_eq!(remote_as("'65004'"), RemoteAs::Number(Asn(65004)));
    assert_eq!(remote_as("65001"), RemoteAs::Number(Asn(65001)));
}

#[test]
fn an_exact_name_goes_before_a_glob_and_the_first_glob_before_the_others() {
    let text = ["*", "ens?", "ens*", "ens3"].map(|name| format!("[[neighbor]]\ninterface = '{name}'\n"));
    let all = with(&text.concat());
    let peer = |config: &Config, name: &str| {
        config.neighbor_for_interface(name).map(|neighbor| neighbor.peer.to_string())
    };
    assert_eq!(peer(&all, "ens3").as_deref(), Some("ens3"));
    assert_eq!(peer(&all, "ens4").as_deref(), Some("*"));
    assert_eq!(peer(&all, "lo"), None, "the loopback interface is nobody's uplink");

    let globs = with(&text[1..].concat());
    assert_eq!(peer(&globs, "ens4").as_deref(), Some("ens?"));
    assert_eq!(peer(&globs, "ens40").as_deref(), Some("ens*"));
    assert_eq!(peer(&globs, "tor1"), None);
    assert_eq!(peer(&globs, "ENS4"), None, "the kernel tells upper from lower case");

    let other_loopback = with("[loopback]\ninterface = 'dummy0'\n[[neighbor]]\ninterface = '*'");
    assert_eq!(peer(&other_loopback, "dummy0"), None);
    assert_eq!(peer(&other_loopback, "lo").as_deref(), Some("*"));
    let numbered = with("[[neighbor]]\naddress = '192.0.2.1'");
    assert_eq!(peer(&numbered, "192.0.2.1"), None, "an address is no name of an interface");
}

#[test]
fn nearest_keys_are_named() {
    for (text, label) in [
        ("holdtime = '9s'", "did you mean `hold-time`?"),
        ("Hold-Time = '9s'", "did you mean `hold-time`?"),
        ("routerid = '1.1.1.1'", "did you mean `router-id`?"),
        ("[neighbors]", "did you mean `neighbor`?"),
        ("max-paths = 2", "`max-paths` belongs in [fib]"),
        ("[pods]\nblocks = []", "`blocks` belongs in [pods.static]"),
        ("bfd = true", "`bfd` belongs in [[neighbor]]"),
        ("'' = 1", "no such key in [bgp]"),
    ] {
        let [problem] = problems(text).try_into().unwrap();
        assert_eq!(problem.label, label, "{text}");
    }
}

#[test]
fn all_problems_are_found_at_once_and_shown_in_the_order_of_the_file_up_to_a_bound() {
    let neighbors = "[[neighbor]]\naddress = 'x'\nmax-prefixes = 0\n".repeat(50);
    let error = parsed(&format!("keepalive = 1\n{neighbors}")).unwrap_err();
    let ConfigError::Invalid { problems, .. } = &error else { panic!("{error:?}") };
    assert_eq!(problems.len(), 101);
    let message = error.to_string();
    assert!(message.starts_with("error: invalid `keepalive` in [bgp]\n"), "{message}");
    assert_eq!(message.matches(" --> test.toml:").count(), 20, "{message}");
    assert!(message.ends_with("\n\nerror: 81 more in test.toml"), "{message}");
}

#[test]
fn byte_order_marks_and_line_ends_of_other_systems_do_no_harm() {
    let text = "\u{feff}[bgp]\r\nlocal-as = 65001\r\n";
    assert_eq!(parse(text, "test.toml").unwrap(), with(""));
    let error = parse("\u{feff}[bgp]\r\nlocal-as = 0\r\n", "test.toml").unwrap_err();
    assert!(error.to_string().contains("test.toml:2:12"), "{error}");
    for text in ["", " \r\n\t", "\u{feff}", "\u{feff}\n"] {
        assert!(matches!(parse(text, "test.toml"), Err(ConfigError::Empty { .. })), "{text:?}");
    }
}

#[test]
fn text_that_is_deep_or_long_is_refused_in_time() {
    problems(&format!("a = {}", "[".repeat(100_000)));
    problems(&format!("a = {}", "{a=".repeat(100_000)));
    problems(&format!("{} = 1", "a.".repeat(10_000) + "a"));
    problems(&format!("{} = 1", "k".repeat(1_000_000)));
    // Near the largest file: the same block as often as it fits.
    let blocks = "'10.1.8.192/26',".repeat(60_000);
    assert_eq!(problems(&format!("[pods.static]\nblocks = [{blocks}]")).len(), 59_999);
}

#[test]
fn nothing_from_the_file_moves_the_cursor_of_a_terminal() {
    let escaped = "\"\\u001b[2J\" = 1\nrouter-id = \"\\u001b[2J\"\n";
    let raw = "router-id = \"\u{1b}[2J\"\n";
    for text in [escaped, raw] {
        let message = parsed(text).unwrap_err().to_string();
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
}

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("selvedge-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config_with_key(folder: &Folder, key: &Path) -> PathBuf {
    let text = format!(
        "[bgp]\nlocal-as = 65001\n[[neighbor]]\naddress = '192.0.2.1'\npassword-file = '{}'\n",
        key.display()
    );
    folder.write("selvedge.toml", text.as_bytes())
}

#[test]
fn a_password_is_the_content_of_its_file_without_the_last_newline() {
    let folder = Folder::new("password");
    let longest = [b'k'; 80];
    for (content, key) in [
        (&b"secret"[..], &b"secret"[..]),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b" \xff\0 ", b" \xff\0 "),
        (&[&longest[..], b"\r\n"].concat(), &longest),
    ] {
        let file = config_with_key(&folder, &folder.write("key", content));
        let [neighbor] = load(&file).unwrap().neighbors.try_into().unwrap();
        assert_eq!(neighbor.password, Some(Password(key.to_owned())), "{content:?}");
        assert!(!format!("{neighbor:?}").contains("secret"));
    }
}

#[test]
fn a_password_that_the_kernel_does_not_take_is_refused() {
    let folder = Folder::new("no-password");
    for content in [&b""[..], b"\n", b"\r\n", &[b'k'; 81], &[b'k'; 1000], &[b'\n'; 83]] {
        let error = load(&config_with_key(&folder, &folder.write("key", content))).unwrap_err();
        assert!(matches!(error, ConfigError::Invalid { .. }), "{content:?}");
    }
}

#[test]
fn what_is_shown_never_has_the_password_in_it() {
    let folder = Folder::new("shown");
    let key = folder.write("key", b"hunter2");
    let shown = load(&config_with_key(&folder, &key)).unwrap().to_toml();
    assert!(!shown.contains("hunter2"));
    assert!(shown.contains(&format!("password-file = \"{}\"", key.display())), "{shown}");
}

#[test]
fn a_file_is_read_up_to_its_bound() {
    let folder = Folder::new("bound");
    let mut bytes = b"[bgp]\nlocal-as = 65001\n#".to_vec();
    bytes.resize(usize::try_from(MAX_FILE_SIZE).unwrap(), b'x');
    assert_eq!(load(&folder.write("most", &bytes)).unwrap(), with(""));
    bytes.push(b'x');
    let error = load(&folder.write("more", &bytes)).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { limit: MAX_FILE_SIZE, .. }), "{error}");
}
