//! BFD with FRR's bfdd and with BIRD: both families, timers that change, and everything that can end a session.

use std::net::Ipv6Addr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;
use bgp::rib::Gateway;
use lab::{Netns, Requirement, Route, eventually, output_of};
use selvedge::bfd::{self, Administration, Inputs, Parameters, Peer, Peers, Restart, Standings};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::fixture::{BLOCKS, Link, PATIENCE, config, times_established, tor_conf, unnumbered_conf};

/// Three times 50 ms.
const FAST: &str = "[[neighbor]]\ninterface = \"tor1\"\nbfd = { interval = \"50ms\", multiplier = 3 }\n";
/// The same for bfdd, as a profile that tests change.
const BFDD: &str =
    "bfd\n profile fast\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n exit\nexit\n";
/// Much less than the hold time of 9 s, and much more than 150 ms on a loaded machine: whoever is faster than this was
/// told by BFD.
const LONG_BEFORE_HOLD_TIME: Duration = Duration::from_secs(4);

const TOR_V4: &str = "192.0.2.1";
const NODE_V4: &str = "192.0.2.2";
const TOR_V6: &str = "2001:db8::1";
const NODE_V6: &str = "2001:db8::2";

/// An unnumbered node and ToR with their BFD session up.
pub(super) fn up(test: &str) -> Option<Link> {
    up_with(test, "")
}

/// The same with more lines for bgpd.
fn up_with(test: &str, more: &str) -> Option<Link> {
    let timers = " neighbor c1 timers connect 1";
    let lines = format!("{timers}\n neighbor c1 bfd\n neighbor c1 bfd profile fast\n{more}");
    let bgpd = unnumbered_conf().replace(timers, &lines);
    let mut link = Link::lay(test, Requirement::Frr)?;
    link.start_frr(&bgpd);
    start_bfdd(&mut link);
    link.start_agent(FAST);
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.await_route("fd00::4/128");
    await_bfd(&link, "BFD up", |session| is(session, "/state", "up"));
    Some(link)
}

fn start_bfdd(link: &mut Link) {
    let (frr, tor) = link.frr_mut();
    frr.start_bfdd(tor, BFDD).unwrap();
}

/// The one session, as `bgpctl show bfd` has it.
pub(super) fn bfd(link: &Link) -> Option<Value> {
    let all = link.agent().bgpctl_json(&["show", "bfd"]).unwrap();
    all.pointer("/sessions/0").cloned()
}

fn await_bfd(link: &Link, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE, || Ok(bfd(link).filter(&wanted))).unwrap_or_else(|error| {
        let text = link.agent().bgpctl(&["show", "bfd"]).unwrap_or_default();
        let neighbor = link.agent().bgpctl(&["show", "neighbor"]).unwrap_or_default();
        panic!("{error}\n{text}\n{neighbor}\nlog of the agent:\n{}", link.agent().log())
    })
}

pub(super) fn is(value: &Value, pointer: &str, wanted: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_str) == Some(wanted)
}

pub(super) fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// The peers of bfdd.
fn await_bfdd(link: &Link, what: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(what, PATIENCE, || {
        let peers = link.frr().vtysh_json("show bfd peers json")?;
        Ok(peers.pointer("/0").is_some_and(&wanted).then_some(()))
    })
    .unwrap_or_else(|error| {
        let text = link.frr().vtysh("show bfd peers json").unwrap_or_default();
        panic!("{error}\n{text}\nlog of the agent:\n{}", link.agent().log())
    });
}

/// Packets that a rule fits are lost on one side of the cable, from one moment to the next, while the carrier stays.
fn lose(netns: &Netns, rules: &[(&str, &str)]) {
    let chain = |(hook, rule): &(&str, &str)| {
        format!("chain {hook} {{ type filter hook {hook} priority 0; {rule} drop; }};")
    };
    let mut command = netns.command("nft");
    command.arg(format!("table inet loss {{ {} }}", rules.iter().map(chain).collect::<String>()));
    output_of(command).unwrap();
}

fn lose_nothing(netns: &Netns) {
    let mut command = netns.command("nft");
    command.arg("delete table inet loss");
    output_of(command).unwrap();
}

fn has(routes: &[Route], prefix: &str) -> bool {
    let prefix: bgp::Prefix = prefix.parse().unwrap();
    routes.iter().any(|route| route.prefix == prefix)
}

#[test]
fn frr_and_the_agent_watch_each_other_over_link_local_addresses() {
    let Some(link) = up("bfdfrr") else { return };
    let session = await_bfd(&link, "the rate of both", |session| {
        number(session, "/transmit_interval_us") == Some(50_000)
            && number(session, "/detection_time_us") == Some(150_000)
    });
    assert!(is(&session, "/health", "alive") && is(&session, "/neighbor", "tor1"), "{session}");
    await_bfdd(&link, "bfdd sees us", |peer| {
        is(peer, "/status", "up")
            && number(peer, "/remote-transmit-interval") == Some(50)
            && number(peer, "/remote-detect-multiplier") == Some(3)
    });
    let neighbor = link.neighbor("tor1");
    assert!(is(&neighbor, "/bfd/session/state", "up"), "{neighbor}");
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1"]).unwrap();
    assert!(text.contains("detection in 150 ms (configured: 3 x 50 ms)"), "{text}");
}

#[test]
fn silent_death_takes_the_next_hop_out_long_before_the_hold_timer() {
    let Some(link) = up("bfddeath") else { return };
    lose(&link.tor, &[("input", "iifname \"c1\""), ("output", "oifname \"c1\"")]);
    let began = Instant::now();
    link.await_routes("no routes over the dead next hop", |routes| {
        !has(routes, "4.4.4.4/32") && !has(routes, "fd00::4/128")
    });
    let took = began.elapsed();
    println!("silent death: the routes were gone after {took:?}");
    assert!(took < LONG_BEFORE_HOLD_TIME, "{took:?}");
    let session = await_bfd(&link, "a failure", |session| is(session, "/health", "failed"));
    assert!(is(&session, "/diagnostic", "control detection time expired"), "{session}");
    let neighbor = link.await_neighbor("tor1", "no session", |neighbor| is(neighbor, "/state", "idle"));
    assert!(super::fixture::last_error(&neighbor).contains("BFD Down"), "{neighbor}");
    assert!(is(&neighbor, "/waiting_for", "BFD, which has lost the neighbor"), "{neighbor}");

    lose_nothing(&link.tor);
    await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.await_route("fd00::4/128");
}

#[test]
fn timers_change_on_either_side_and_the_session_stays_up() {
    let Some(link) = up("bfdtimers") else { return };
    await_bfd(&link, "the first rate", |session| number(session, "/detection_time_us") == Some(150_000));
    let slower =
        "bfd\n profile fast\n  transmit-interval 200\n  receive-interval 120\n  detect-multiplier 4\n";
    link.frr().configure_daemon("bfdd", slower).unwrap();
    await_bfd(&link, "what bfdd asks for", |session| {
        number(session, "/transmit_interval_us") == Some(120_000)
            && number(session, "/detection_time_us") == Some(800_000)
    });
    let ours = "[[neighbor]]\ninterface = \"tor1\"\nbfd = { interval = \"250ms\", multiplier = 5 }\n";
    link.agent().write_config(&config(ours, &BLOCKS)).unwrap();
    let answer = link.agent().bgpctl(&["reload"]).unwrap();
    assert!(answer.contains("neighbor tor1: bfd is 5 x 250 ms"), "{answer}");
    await_bfdd(&link, "what we ask for", |peer| {
        number(peer, "/remote-transmit-interval") == Some(250)
            && number(peer, "/remote-receive-interval") == Some(250)
            && number(peer, "/remote-detect-multiplier") == Some(5)
    });
    let session = await_bfd(&link, "our own rate, confirmed", |session| {
        number(session, "/transmit_interval_us") == Some(250_000)
            && number(session, "/detection_time_us") == Some(1_000_000)
    });
    assert_eq!((number(&session, "/times_up"), number(&session, "/failures")), (Some(1), Some(0)));
    assert_eq!(times_established(&link.neighbor("tor1")), 1);
}

#[test]
fn bfd_comes_and_goes_by_a_reload_and_the_bgp_session_stays() {
    let Some(link) = bird_up("bfdreload") else { return };
    let without = "[[neighbor]]\ninterface = \"tor1\"\n";
    link.agent().write_config(&config(without, &BLOCKS)).unwrap();
    link.agent().bgpctl(&["reload"]).unwrap();
    assert_eq!(bfd(&link), None);
    link.agent().write_config(&config(FAST, &BLOCKS)).unwrap();
    link.agent().bgpctl(&["reload"]).unwrap();
    await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
    assert_eq!(times_established(&link.neighbor("tor1")), 1, "{}", link.agent().log());
}

#[test]
fn what_the_tors_administrator_does_is_no_failure() {
    let Some(link) = up("bfdadmin") else { return };
    link.frr().configure_daemon("bfdd", "bfd\n profile fast\n  shutdown\n").unwrap();
    let session = await_bfd(&link, "AdminDown heard", |session| {
        is(session, "/state", "down") && is(session, "/remote/state", "admin-down")
    });
    assert!(is(&session, "/health", "unknown"), "{session}");
    assert_eq!(number(&session, "/failures"), Some(0), "{session}");
    assert!(!link.agent().log().contains("BFD Down"), "{}", link.agent().log());
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.frr().configure_daemon("bfdd", "bfd\n profile fast\n  no shutdown\n").unwrap();
    await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
}

/// The ToR hears of the end from BGP, for which AdminDown would be a failure, and then of BFD's; and its link may go.
#[test]
fn a_drained_neighbor_is_held_down_after_its_session_and_comes_back() {
    let Some(link) = up("bfddrain") else { return };
    for round in 1..=3 {
        link.await_at_frr(&BLOCKS);
        link.agent().bgpctl(&["drain", "--neighbor", "tor1", "--wait", "1s"]).unwrap();
        let session = await_bfd(&link, "held down", |session| is(session, "/state", "admin-down"));
        assert!(is(&session, "/diagnostic", "administratively down"), "{session}");
        assert!(is(&session, "/health", "unknown"), "{session}");
        await_bfdd(&link, "bfdd is told", |peer| {
            is(peer, "/status", "down") && is(peer, "/remote-diagnostic", "administratively down")
        });
        let log = link.frr().log();
        let ends = |reason: &str| log.matches(&format!("in vrf default Down {reason}")).count();
        let seen = (ends("BGP Notification received"), ends("BFD down received"));
        assert_eq!(seen, (round, 0), "{log}");

        link.tor.set_down("c1").unwrap();
        link.await_neighbor("tor1", "no way there", |neighbor| {
            neighbor.get("discovered_router").is_none_or(Value::is_null)
        });
        link.tor.set_up("c1").unwrap();
        link.tor_link_local();
        link.agent().bgpctl(&["undrain", "--neighbor", "tor1"]).unwrap();
        await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
        link.await_established("tor1");
        link.await_route("4.4.4.4/32");
    }
    let session = bfd(&link).unwrap();
    assert_eq!(number(&session, "/failures"), Some(0), "{session}");
    let flaps = link.neighbor("tor1");
    assert_eq!(number(&flaps, "/flaps/count"), Some(0), "{flaps}");
}

#[test]
fn a_session_waits_for_the_bfd_that_it_had_and_comes_back_with_it() {
    let Some(mut link) = up("bfdkilled") else { return };
    let (frr, _) = link.frr_mut();
    frr.kill_bfdd().unwrap();
    await_bfd(&link, "a failure", |session| is(session, "/health", "failed"));
    link.await_no_route("4.4.4.4/32");
    start_bfdd(&mut link);
    await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    let session = bfd(&link).unwrap();
    assert_eq!((number(&session, "/times_up"), number(&session, "/failures")), (Some(2), Some(1)));
}

/// RFC 5882 section 4.3: what BFD says of a ToR that restarts counts only if it could say anything else. FRR's bfdd ends
/// the session of a bgpd that is gone, whatever its C bit promises.
#[test]
fn a_tor_that_restarts_is_judged_by_its_c_bit() {
    let independent = " neighbor c1 bfd check-control-plane-failure\n";
    for (test, c_bit, health) in [("bfdgr", "", "unknown"), ("bfdgrc", independent, "failed")] {
        let restart = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n";
        let Some(mut link) = up_with(test, &format!("{restart}{c_bit}")) else { return };
        await_bfd(&link, "the C bit", |session| {
            session.pointer("/remote/control_plane_independent") == Some(&Value::Bool(!c_bit.is_empty()))
        });
        link.frr_mut().0.kill_bgpd().unwrap();
        link.frr_mut().0.kill_bfdd().unwrap();
        await_bfd(&link, health, |session| is(session, "/state", "down") && is(session, "/health", health));
        match health {
            "failed" => link.await_no_route("4.4.4.4/32"),
            _ => assert!(has(&link.node.routes().unwrap(), "4.4.4.4/32"), "{}", link.agent().log()),
        }
    }
}

/// FRR here has no BFD at all.
#[test]
fn a_neighbor_without_bfd_gets_its_session_and_that_is_shown() {
    let Some(link) = Link::up("bfdless", &unnumbered_conf(), FAST) else { return };
    let session = bfd(&link).unwrap();
    assert!(is(&session, "/state", "down") && is(&session, "/health", "unknown"), "{session}");
    let summary = link.agent().bgpctl(&["show", "summary"]).unwrap();
    assert!(summary.contains("tor1: BFD is Down"), "{summary}");
}

#[test]
fn numbered_neighbors_of_both_families_are_watched() {
    for (test, node, tor, length) in [("bfdv4", NODE_V4, TOR_V4, 30), ("bfdv6", NODE_V6, TOR_V6, 64)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        link.node.add_address("tor1", node.parse().unwrap(), length).unwrap();
        link.tor.add_address("c1", tor.parse().unwrap(), length).unwrap();
        let lines = format!(
            " neighbor {node} remote-as external\n neighbor {node} timers connect 1\n neighbor {node} bfd\n neighbor {node} bfd profile fast"
        );
        link.start_frr(&tor_conf(node, &lines));
        start_bfdd(&mut link);
        let neighbor =
            format!("[[neighbor]]\naddress = \"{tor}\"\nbfd = {{ interval = \"50ms\", multiplier = 3 }}\n");
        link.start_agent(&neighbor);
        link.await_established(tor);
        await_bfd(&link, "BFD up", |session| is(session, "/state", "up") && is(session, "/address", tor));
        await_bfdd(&link, "bfdd sees us", |peer| is(peer, "/status", "up"));
        lose(&link.tor, &[("input", "iifname \"c1\"")]);
        let began = Instant::now();
        link.await_neighbor(tor, "the end of the session", |neighbor| !is(neighbor, "/state", "established"));
        assert!(began.elapsed() < LONG_BEFORE_HOLD_TIME, "{tor}: {:?}", began.elapsed());
    }
}

/// BIRD's own BFD; its BGP does not listen to it.
fn bird_bfd(node: Ipv6Addr) -> String {
    format!(
        "protocol bfd {{
    interface \"c1\" {{ min rx interval 50 ms; min tx interval 50 ms; idle tx interval 200 ms; multiplier 3; }};
    neighbor {node} dev \"c1\";
}}"
    )
}

fn bird_conf(node: Ipv6Addr, bfd: &str, routes: &str) -> String {
    format!(
        "log stderr all;
router id 4.4.4.4;
protocol device {{ scan time 1; }}
protocol static {{ ipv4; route 4.4.4.4/32 blackhole; {routes} }}
protocol radv {{ interface \"c1\" {{ max ra interval 4; default lifetime 30; }}; }}
{bfd}
protocol bgp c1 {{
    local as 65004;
    neighbor {node}%c1 as 65001;
    connect retry time 1;
    error wait time 1, 2;
    ipv4 {{ import all; export all; extended next hop on; }};
}}
"
    )
}

fn bird_up(test: &str) -> Option<Link> {
    let mut link = Link::lay(test, Requirement::Bird)?;
    let node = link.node_link_local();
    link.start_bird(&bird_conf(node, &bird_bfd(node), ""));
    link.start_agent(FAST);
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    await_bfd(&link, "BFD up", |session| is(session, "/state", "up"));
    Some(link)
}

/// BGP still works here: it alone would not have noticed.
#[test]
fn bird_is_told_why_its_session_ends() {
    let Some(link) = bird_up("bfdbird") else { return };
    lose(&link.node, &[("input", "udp dport 3784")]);
    link.await_no_route("4.4.4.4/32");
    let log = link.scratch.directory("bird").unwrap().join("bird.log");
    eventually("BIRD has the NOTIFICATION of RFC 9384", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap();
        // BIRD 2.0 knows no name for it.
        Ok((log.contains("Received: BFD") || log.contains("6.10")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", std::fs::read_to_string(&log).unwrap()));
    lose_nothing(&link.node);
    await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
}

/// BFD at the ToR by a thread like the node's own: what others do there on a loaded machine is not what a test of the
/// node is about. It ends with this.
struct TorBfd {
    peers: watch::Sender<Arc<Peers>>,
    standings: watch::Receiver<Arc<Standings>>,
    _requests: mpsc::Sender<bfd::Request>,
}

impl TorBfd {
    fn start(link: &Link) -> Self {
        let gateway = Gateway {
            address: link.node_link_local().into(),
            interface: Some(InterfaceIndex(link.tor.index("c1").unwrap())),
        };
        let peer = Peer {
            name: "c1".to_owned(),
            local: Some(link.tor_link_local().into()),
            interface: gateway.interface,
            parameters: Parameters {
                interval: Duration::from_millis(50),
                multiplier: NonZeroU8::new(3).unwrap(),
            },
            administration: Administration::Enabled,
            restart: Restart::None,
        };
        let (peers, watched) = watch::channel(Arc::new(Peers::from([(gateway, peer)])));
        let (told, standings) = watch::channel(Arc::default());
        let (failed, _) = watch::channel(Arc::default());
        let (requests, asked) = mpsc::channel(1);
        let inputs = Inputs { peers: watched, requests: asked, standings: told, failed };
        link.tor
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(bfd::run(inputs)).unwrap();
            })
            .unwrap();
        Self { peers, standings, _requests: requests }
    }

    fn failures(&self) -> u64 {
        assert!(!self.peers.is_closed(), "BFD at the ToR has ended");
        self.standings.borrow().values().map(|standing| standing.failures).sum()
    }
}

/// What a machine may need for the flood that has other things to do: how fast it is, is not what is tested.
const FLOOD_PATIENCE: Duration = Duration::from_secs(240);

/// The RIB, the FIB and the kernel are busy all the while, in a build without optimisation.
#[test]
fn a_flood_of_routes_does_not_cost_a_session() {
    const ROUTES: u32 = 200_000;
    let routes: String = (0..ROUTES)
        .map(|n| format!("route 20.{}.{}.{}/32 blackhole; ", n >> 16, n >> 8 & 255, n & 255))
        .collect();
    let many = format!("{FAST}max-prefixes = 1000000\n");
    let Some(mut link) = Link::lay("bfdflood", Requirement::Bird) else { return };
    let tor = TorBfd::start(&link);
    link.start_agent(&many);
    link.start_bird(&bird_conf(link.node_link_local(), "", &routes));
    await_bfd(&link, "BFD up", |session| is(session, "/state", "up"));
    link.node
        .await_routes("the last of the routes", FLOOD_PATIENCE, |routes| routes.len() > ROUTES as usize)
        .unwrap_or_else(|_| panic!("it takes too long\n{}", link.agent().log()));
    let session = bfd(&link).unwrap();
    let (times_up, failures) = (number(&session, "/times_up"), number(&session, "/failures"));
    assert_eq!(
        (times_up, failures, tor.failures()),
        (Some(1), Some(0), 0),
        "{session}\n{}",
        link.agent().log()
    );
}

/// How an agent ends whose successor goes on.
#[derive(Debug, Clone, Copy)]
enum End {
    Terminated,
    Killed,
}

/// The node forwards all the while. FRR takes the end of BFD for a failure, but after that of TCP, by which it knows a
/// restart (RFC 4724).
#[test]
fn a_restart_of_the_agent_costs_frr_no_route() {
    let Some(mut link) = up("bfdrestart") else { return };
    for end in [End::Terminated, End::Killed] {
        link.await_at_frr(&BLOCKS);
        match end {
            End::Terminated => link.stop_agent(),
            End::Killed => link.kill_agent(),
        }
        eventually("bgpd hears of it", PATIENCE, || {
            let neighbors = link.frr().vtysh_json("show bgp neighbors json")?;
            Ok(is(&neighbors, "/c1/peerBfdInfo/status", "Down").then_some(()))
        })
        .unwrap();
        for block in BLOCKS {
            let path = link.frr().best_path(block.parse().unwrap()).unwrap();
            assert!(path.is_some(), "{end:?}: {block}\n{}", link.frr().log());
        }
        link.restart_agent();
        await_bfd(&link, "BFD up again", |session| is(session, "/state", "up"));
        link.await_established("tor1");
    }
}
