//! The built `bgpctl` against the real control server with a fake agent behind it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use fake::{FakeDaemon, HOSTNAME, ROUTES, prefix};
use selvedge::control::api;
use serde::de::DeserializeOwned;

mod fake;

/// What a run of `bgpctl` left behind.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(socket: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgpctl"));
    command.arg("--socket").arg(socket).args(words.split_whitespace());
    command
}

fn bgpctl(socket: &Path, words: &str) -> Run {
    let output = command(socket, words).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Standard output of a run that has to be a success.
fn shown(daemon: &FakeDaemon, words: &str) -> String {
    let run = bgpctl(&daemon.socket(), words);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{words}");
    let unsafe_for_terminals = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!run.stdout.contains(unsafe_for_terminals), "{words}: {:?}", run.stdout);
    run.stdout
}

fn json<T: DeserializeOwned>(daemon: &FakeDaemon, words: &str) -> T {
    let text = shown(daemon, &format!("{words} --json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error}"))
}

#[test]
fn bgpctl_shows_the_summary() {
    let daemon = FakeDaemon::start("summary");
    let expected = "\
BGP router identifier 1.1.1.1, local AS number 65001
c1, selvedge 0.1.0, up 00:01:23
RIB: 2500 destinations, 5000 paths; FIB: 2500 routes

Neighbor                                            AS  MsgRcvd  MsgSent   Up/Down  State/PfxRcd  PfxSnt
tor1\\u{1b}]0;owned\\u{7}\\u{9b}2J\\n\\u{202e}(eth0)  65004       31       29  00:01:23          2500       2

Neighbors: 1, established: 1
";
    assert_eq!(shown(&daemon, "show summary"), expected);
    assert_eq!(shown(&daemon, "sh sum"), expected);
    let summary: api::Summary = json(&daemon, "show summary");
    assert_eq!(summary.neighbors[0].hostname.as_deref(), Some(HOSTNAME));
}

#[test]
fn bgpctl_shows_neighbors() {
    let daemon = FakeDaemon::start("neighbors");
    let all = shown(&daemon, "show neighbor");
    assert!(all.contains("  Remote AS           65004, external (configured: external)\n"), "{all}");
    assert_eq!(shown(&daemon, "show neighbor eth0"), all);
    assert_eq!(shown(&daemon, "show neighbor fe80::a%eth0"), all);
    let neighbors: api::Neighbors = json(&daemon, "show neighbor");
    let neighbor: api::Neighbor = json(&daemon, "show neighbor eth0");
    assert_eq!(neighbors.neighbors, [neighbor]);
}

#[test]
fn bgpctl_shows_interfaces_and_configuration() {
    let daemon = FakeDaemon::start("interfaces");
    let text = shown(&daemon, "show interfaces");
    let expected = "\
Interface  Index  State  Uplink  Link-local  Router   Heard     RA sent/rcvd  RS sent/rcvd
eth0           2  up     yes     fe80::1     fe80::a  00:00:03           0/0           0/0
";
    assert_eq!(text, expected);
    assert_eq!(json::<api::Interfaces>(&daemon, "show interfaces").interfaces.len(), 1);
    let text = shown(&daemon, "show config");
    assert_eq!(text, "# /etc/selvedge/selvedge.toml\n[bgp]\nlocal-as = 65001\n");
    assert_eq!(json::<api::Config>(&daemon, "show config").path, "/etc/selvedge/selvedge.toml");
}

#[test]
fn bgpctl_shows_policies_of_all_neighbors_and_of_one() {
    let daemon = FakeDaemon::start("policy");
    let text = shown(&daemon, "show policy");
    assert!(text.starts_with("Neighbor eth0\n  Import, built-in guard"), "{text}");
    assert_eq!(json::<api::Policies>(&daemon, "show policy eth0").neighbors.len(), 1);
}

#[test]
fn bgpctl_shows_where_the_memory_is() {
    let daemon = FakeDaemon::start("memory");
    let text = shown(&daemon, "show memory");
    assert!(text.contains("Paths                 2500   2.0 KiB\n"), "{text}");
    assert!(text.contains("Not accounted for            1.9 MiB\n"), "{text}");
    assert!(text.ends_with("program and libraries 5.0 MiB; 9.0 MiB at most\n"), "{text}");
    assert_eq!(json::<api::Memory>(&daemon, "show memory").parts.len(), api::MemoryUser::ALL.len());
}

#[test]
fn bgpctl_ready_fails_with_the_reason_where_the_node_is_not() {
    let daemon = FakeDaemon::start("ready");
    let run = bgpctl(&daemon.socket(), "ready");
    let reason = "bgpctl: not ready: NoUplink: no session with a ToR is established: eth0 is down since \
                  2026-01-02T03:04:05Z\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(1), "", reason));
    let run = bgpctl(&daemon.socket(), "ready --json");
    let readiness: api::Readiness = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, readiness.reason.as_str()), (Some(1), "NoUplink"));
}

#[test]
fn bgpctl_shows_pods_with_what_kubernetes_does_not_give() {
    let daemon = FakeDaemon::start("pods");
    let text = shown(&daemon, "show pods");
    assert!(text.starts_with("Kubernetes: this is node c1; API server away for 00:01:23, "), "{text}");
    assert!(
        text.contains("10.0.0.0/24  Calico  no         no         its IPAMBlock says that it is tor1"),
        "{text}"
    );
    assert!(text.contains(" verbs list, watch for services of the API group \"\" (the core)\n"), "{text}");
    assert_eq!(text.lines().count(), 11, "{text}");
    assert_eq!(json::<api::Pods>(&daemon, "show pods").blocks.len(), 1);
}

#[test]
fn bgpctl_pages_through_long_tables() {
    let daemon = FakeDaemon::start("paging");
    for (words, heading) in [
        ("show rib", "Network"),
        ("show fib", "Prefix"),
        ("show neighbor eth0 received", "Network"),
        ("show neighbor eth0 advertised", "Network"),
    ] {
        let text = shown(&daemon, words);
        assert_eq!(text.matches(heading).count(), 1, "{words}");
        let networks: Vec<&str> =
            text.split_whitespace().filter(|word| word.starts_with("10.") && word.ends_with("/24")).collect();
        let expected: Vec<String> = (0..ROUTES).map(|index| prefix(index).to_string()).collect();
        assert_eq!(networks, expected, "{words}");
    }
    assert!(shown(&daemon, "show fib").ends_with("0 overruns of the kernel's events\n"));
    let text = shown(&daemon, "show services");
    assert_eq!(text.matches("Announced as").count(), 1);
    for (service, column) in [("default/web", 4), ("tor1", 0)] {
        let rows = text
            .lines()
            .filter(|line| line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(service)));
        let prefixes: Vec<&str> = rows.filter_map(|line| line.split_whitespace().nth(column)).collect();
        let expected: Vec<String> = (0..ROUTES)
            .map(prefix)
            .map(|prefix| match column {
                0 => prefix.address().to_string(),
                _ => prefix.to_string(),
            })
            .collect();
        assert_eq!(prefixes, expected, "{service}");
    }
    assert!(text.contains("\nAddresses: 5000, announced: 2500; 2500 prefixes for all of them\n"), "{text}");
}

#[test]
fn bgpctl_shows_one_service_and_the_services_of_an_address() {
    let daemon = FakeDaemon::start("services");
    for (words, rows) in
        [("show services default/web", 2 * ROUTES), ("sh se 10.0.7.9", 2), ("show services 10.0.7.0/24", 2)]
    {
        let text = shown(&daemon, words);
        assert_eq!(text.lines().filter(|line| line.starts_with("10.")).count(), rows, "{words}: {text}");
    }
    let entries: Vec<api::ServiceAddress> = json(&daemon, "show services 10.0.7.9");
    assert_eq!(entries.iter().map(|entry| entry.prefix).collect::<Vec<_>>(), [prefix(7)]);
    let run = bgpctl(&daemon.socket(), "show services default/none");
    let reason = "bgpctl: no address of a service default/none of a kind that [services] has ranges for\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(1), "", reason));
    let run = bgpctl(&daemon.socket(), "show services web");
    assert!(run.code == Some(2) && run.stderr.contains("NAMESPACE/NAME"), "{}", run.stderr);
}

#[test]
fn bgpctl_prints_long_tables_as_one_json_array() {
    let daemon = FakeDaemon::start("array");
    let rib: Vec<api::Destination> = json(&daemon, "show rib");
    assert!(rib.iter().map(|entry| entry.prefix).eq((0..ROUTES).map(prefix)));
    let fib: Vec<api::FibRoute> = json(&daemon, "show fib");
    assert!(fib.iter().map(|entry| entry.prefix).eq((0..ROUTES).map(prefix)));
    let received: Vec<api::ReceivedRoute> = json(&daemon, "show neighbor eth0 received");
    assert!(received.iter().map(|entry| entry.prefix).eq((0..ROUTES).map(prefix)));
    let advertised: Vec<api::AdvertisedRoute> = json(&daemon, "show neighbor eth0 advertised");
    assert!(advertised.iter().map(|entry| entry.prefix).eq((0..ROUTES).map(prefix)));
    let services: Vec<api::ServiceAddress> = json(&daemon, "show services");
    assert!(services.iter().map(|entry| entry.prefix).eq((0..ROUTES).map(prefix)));
}

#[test]
fn bgpctl_shows_one_destination_with_its_reasons() {
    let daemon = FakeDaemon::start("destination");
    let by_prefix = shown(&daemon, "show rib 10.0.7.0/24");
    assert!(by_prefix.starts_with("10.0.7.0/24, 2 paths\n  *> from tor1\\u{1b}"), "{by_prefix}");
    assert!(by_prefix.contains("     not selected: for the test\n"), "{by_prefix}");
    assert_eq!(shown(&daemon, "show rib 10.0.7.9"), by_prefix);
    assert!(shown(&daemon, "show fib 10.0.7.0/24").contains("10.0.7.0/24         unicast"));
}

#[test]
fn a_route_that_is_not_there_is_exit_code_1() {
    let daemon = FakeDaemon::start("absent");
    for (words, why) in [
        ("show rib 192.0.2.1", "no route to 192.0.2.1 in the RIB"),
        ("show rib 192.0.2.0/24", "no route 192.0.2.0/24 in the RIB"),
        ("show fib 2001:db8::1", "no route to 2001:db8::1 in the FIB"),
        ("show fib 192.0.2.0/24", "no route 192.0.2.0/24 in the FIB"),
    ] {
        for (format, stdout) in [("", ""), ("--json", "[]\n")] {
            let run = bgpctl(&daemon.socket(), &format!("{words} {format}"));
            let expected = format!("bgpctl: {why}\n");
            assert_eq!((run.code, run.stdout.as_str(), run.stderr), (Some(1), stdout, expected), "{words}");
        }
    }
}

#[test]
fn bgpctl_acts_on_neighbors() {
    let daemon = FakeDaemon::start("actions");
    assert_eq!(shown(&daemon, "neighbor eth0 clear"), "eth0 cleared\n");
    assert_eq!(shown(&daemon, "neighbor eth0 refresh"), "eth0 refreshed\n");
    assert_eq!(json::<api::Done>(&daemon, "neighbor eth0 clear").message, "eth0 cleared");
}

#[test]
fn bgpctl_drains_and_follows_until_it_is_done() {
    let daemon = FakeDaemon::start("drain");
    let text = shown(&daemon, "drain");
    assert_eq!(text, " 30s StayDown None\n     +0.0s  drained: no sessions until it is taken back\n");
    assert_eq!(json::<api::Drain>(&daemon, "drain").node.unwrap().state, api::DrainState::Drained);
    let orders = [
        ("drain --background --wait 1500ms --stop", " 1.5s Stop None\n"),
        ("drain --background --neighbor eth0 --wait 0s", "eth0 0ns StayDown None\n"),
        ("drain --background --message a&b=c%20\u{fc}", " 30s StayDown Some(\"a&b=c%20\u{fc}\")\n"),
        ("undrain", "eth0 undrained\n"),
        ("undrain --neighbor eth0", "eth0 undrained\n"),
    ];
    for (words, expected) in orders {
        assert_eq!(shown(&daemon, words), expected, "{words}");
    }
    assert!(shown(&daemon, "show drain").starts_with("Node: drained\nMessage: maintenance\n"));
    // The fake has drained the node only.
    let run = bgpctl(&daemon.socket(), "drain --neighbor eth0");
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (Some(1), "bgpctl: refused: the drain was taken back before it was done\n")
    );
}

#[test]
fn orders_to_drain_that_cannot_be_meant_are_refused() {
    let daemon = FakeDaemon::start("nodrain");
    let long = format!("drain --message {}", "x".repeat(256));
    for (words, why) in [
        ("drain --wait 25h", "--wait 25h: traffic is waited for 24h at most"),
        (long.as_str(), "--message: 256 octets are over the limit of 255 (RFC 9003)"),
        ("drain --neighbor eth7", "no neighbor \"eth7\"; there is: eth0"),
        ("undrain --neighbor eth7", "no neighbor \"eth7\"; there is: eth0"),
    ] {
        let run = bgpctl(&daemon.socket(), words);
        assert_eq!(run.code, Some(1), "{words}");
        assert!(run.stderr.contains(why), "{words}: {}", run.stderr);
    }
    for words in ["drain --wait 30", "drain --neighbor eth0 --stop", "drain eth0"] {
        assert_eq!(bgpctl(&daemon.socket(), words).code, Some(2), "{words}");
    }
}

#[test]
fn a_trial_that_is_too_short_or_too_long_is_refused_in_the_words_of_the_command() {
    let daemon = FakeDaemon::start("trial");
    assert_eq!(shown(&daemon, "reload --confirm 60s"), "eth0 on trial for 60s\n");
    for (time, why) in [
        ("500ms", "--confirm 500ms: a trial lasts 1s to 24h"),
        ("1500m", "--confirm 25h: a trial lasts 1s to 24h"),
    ] {
        let run = bgpctl(&daemon.socket(), &format!("reload --confirm {time}"));
        let expected = format!("bgpctl: bad request: {why}\n");
        assert_eq!((run.code, run.stderr), (Some(1), expected), "{time}");
    }
}

#[test]
fn a_refusal_is_exit_code_1() {
    let daemon = FakeDaemon::start("refused");
    let run = bgpctl(&daemon.socket(), "reload");
    let expected =
        "bgpctl: refused: selvedge.toml:3: unknown key \\u{1b}[31m`local-sa`\n  help: `local-as`\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(1), "", expected));
    let run = bgpctl(&daemon.socket(), "neighbor eth7 clear");
    let expected = "bgpctl: not found: no neighbor \"eth7\"; there is: eth0\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(1), "", expected));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let nowhere = Path::new("/nonexistent/control.sock");
    for words in ["", "show", "show nothing", "neighbor eth0", "show rib 10.0.0.1/8", "show neighbor eth0 x"]
    {
        let run = bgpctl(nowhere, words);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{words}");
    }
    let run = bgpctl(nowhere, "show rib 10.0.0.1/8");
    assert!(run.stderr.contains("10.0.0.1/8 has host bits set: the network is 10.0.0.0/8"), "{}", run.stderr);
}

#[test]
fn an_unreachable_daemon_is_exit_code_3_and_one_line() {
    let run = bgpctl(Path::new("/nonexistent/control.sock"), "show summary");
    let expected = "bgpctl: cannot reach the daemon at /nonexistent/control.sock: \
                    No such file or directory; is selvedge running?\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(3), "", expected));
}

#[test]
fn a_daemon_that_hangs_up_is_exit_code_3() {
    let daemon = FakeDaemon::start("hangup");
    let path = daemon.socket().with_file_name("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let run = bgpctl(&path, "show summary");
    hangs_up.join().unwrap();
    assert_eq!(run.code, Some(3));
    assert!(run.stderr.starts_with("bgpctl: no answer from the daemon at "), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1);
}

#[test]
fn a_reader_that_has_enough_ends_bgpctl_quietly() {
    let daemon = FakeDaemon::start("pipe");
    let mut child =
        command(&daemon.socket(), "show rib").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // More follows than a pipe holds, so that bgpctl has to notice.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Status: "), "{line}");
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
