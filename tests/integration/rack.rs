//! The agent in its rack: real kernels, real FRR ToRs, packets from pod to pod.

mod cni;
mod drain;
mod graceful;
mod kubernetes;
mod privileges;
mod reload;
mod traffic;
mod transit;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bgp::Prefix;
use lab::check::{self, Verdict};
use lab::rack::{lay_uplink, leads_over};
use lab::route::PROTOCOL_BGP;
use lab::{
    Account, Action, Capture, Host, Journal, NexthopObjects, NodeDaemon, Outcome, Ping, Port, Programs, Rack,
    RackOptions, Requirement, Route, TorDaemon, cable, can_run, eventually, topology,
};

/// FRR takes two to three seconds from a new link to its first UPDATE; the rest is for a loaded machine.
const CONVERGENCE: Duration = Duration::from_secs(30);
/// From a foreign change of our routes to its repair.
const REPAIR: Duration = Duration::from_millis(100);
const PING_INTERVAL: Duration = Duration::from_millis(10);
const BOTH: [&str; 2] = ["tor1", "tor2"];

/// A rack that has converged; `None`, said loudly, where the machine cannot have one.
fn rack(test: &str) -> Option<Rack> {
    rack_with(test, NexthopObjects::of_environment().unwrap())
}

/// As [`rack`], with nexthop objects or without.
fn rack_with(test: &str, nexthop_objects: Option<NexthopObjects>) -> Option<Rack> {
    programs(nexthop_objects).map(|programs| rack_of(test, programs))
}

/// What the nodes of a rack with FRR run.
fn programs(nexthop_objects: Option<NexthopObjects>) -> Option<Programs> {
    can_run(&[Requirement::Root, Requirement::Frr]).then(|| Programs {
        daemon: env!("CARGO_BIN_EXE_selvedge").into(),
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
        nexthop_objects,
    })
}

/// A rack of these programs; FRR and root are there.
fn rack_of(test: &str, programs: Programs) -> Rack {
    Rack::up(options(test, programs)).unwrap_or_else(|error| panic!("{error}"))
}

/// The rack of the design, its nodes with the files of the lab.
fn options(test: &str, programs: Programs) -> RackOptions {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("conf/lab/{name}.toml"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let configs = topology::nodes().iter().map(|node| read(node.name)).collect();
    let name = format!("{test}-{}", std::process::id());
    RackOptions { name, nodes: NodeDaemon::Agent { programs, configs }, tors: TorDaemon::Frr }
}

fn assert_held(verdict: &Verdict) {
    assert!(verdict.held(), "{verdict}");
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// An IPv4 prefix of c2, seen from c1: what the tests below break and mend the way to.
fn block_of_c2() -> Prefix {
    prefix("10.1.71.192/26")
}

fn block_of_c1() -> Prefix {
    prefix("10.1.8.192/26")
}

fn await_over(node: &Host, uplinks: &[&str]) -> Instant {
    await_block_over(node, block_of_c2(), uplinks)
}

fn await_block_over(node: &Host, block: Prefix, uplinks: &[&str]) -> Instant {
    let what = format!("{block} over {uplinks:?}");
    node.netns
        .await_routes(&what, CONVERGENCE, |routes| leads_over(routes, block, uplinks))
        .unwrap_or_else(|error| panic!("{error}\nlog of the agent:\n{}", node.agent().unwrap().log()))
}

/// Addresses, IPv4 first, of the first pods of c1 and c2, and where the former is.
fn two_pods(rack: &Rack) -> (&lab::Pod, &lab::Pod) {
    (rack.pod(0, 0).unwrap(), rack.pod(1, 0).unwrap())
}

#[test]
fn a_rack_comes_up_and_everything_reaches_everything() {
    let Some(rack) = rack("up") else { return };
    for verdict in check::all(&rack).unwrap() {
        assert_held(&verdict);
    }
}

#[test]
fn c1_has_the_routes_of_the_design() {
    let Some(rack) = rack("routes") else { return };
    let route = |prefix| rack.nodes[0].netns.route(prefix).unwrap().unwrap();
    let c2 = route(block_of_c2());
    let Action::Forward(hops) = &c2.action else { panic!("{c2}") };
    assert_eq!((c2.protocol, c2.metric, c2.source), (PROTOCOL_BGP, 20, Some([1, 1, 1, 1].into())), "{c2}");
    assert_eq!(c2.devices(), BOTH, "{c2}");
    for hop in hops {
        assert!(matches!(hop.via, Some(IpAddr::V6(via)) if via.is_unicast_link_local()), "{c2}");
    }
    assert_eq!(route(prefix("10.1.8.192/26")).action, Action::Blackhole);
    assert_eq!(route(prefix("fd00:10:1:8::/64")).action, Action::Blackhole);
    assert_eq!(route(prefix("2.2.2.2/32")).devices(), BOTH);
    assert_eq!(route(prefix("fd00::2/128")).devices(), BOTH);
    assert_eq!(route(prefix("4.4.4.4/32")).devices(), ["tor1"], "no node is transit between the ToRs");
}

#[test]
fn flows_use_both_tors() {
    let Some(rack) = rack("ecmp") else { return };
    let captures = BOTH.map(|uplink| Capture::start(&rack.nodes[0].netns, uplink).unwrap());
    // To the kernel's hash each pair of addresses is a flow of its own: all 24 on one leg are 1 in 8 million.
    let mut flows = 0;
    for from in &rack.nodes[0].pods {
        for node in &rack.nodes[1..] {
            let pods = node.pods.iter().flat_map(|pod| pod.addresses.clone());
            for address in node.router.loopbacks().into_iter().chain(pods) {
                let outcome = Ping::new(address).once(&from.netns, CONVERGENCE).unwrap();
                assert!(matches!(outcome, Outcome::Reply(_)), "{address}: {outcome:?}");
                flows += 1;
            }
        }
    }
    let sources: Vec<_> = rack.nodes[0].pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    let [tor1, tor2] = captures.map(|capture| {
        let frames = capture.stop();
        frames.iter().filter_map(|frame| frame.ip).filter(|ip| sources.contains(&ip.source)).count()
    });
    assert_eq!(tor1 + tor2, flows, "each request left once");
    assert!(tor1 > 0 && tor2 > 0, "{tor1} by tor1, {tor2} by tor2");
}

#[test]
fn a_tor_link_goes_down_and_comes_up() {
    let Some(rack) = rack("link") else { return };
    let (from, to) = two_pods(&rack);
    let (node, tor) = (&rack.nodes[0], &rack.tors[0]);
    let train = Ping::new(to.addresses[0]).start(&from.netns, PING_INTERVAL).unwrap();

    tor.netns.set_down("c1").unwrap();
    await_over(node, &["tor2"]);
    // The answer may still be sent to the ToR that lost the link, until that ToR has withdrawn what was behind it.
    await_block_over(&rack.nodes[1], block_of_c1(), &["tor2"]);
    let outcome = Ping::new(to.addresses[0]).once(&from.netns, CONVERGENCE).unwrap();
    assert!(matches!(outcome, Outcome::Reply(_)), "{outcome:?}");

    tor.netns.set_up("c1").unwrap();
    await_over(node, &BOTH);
    let train = train.stop().unwrap();
    println!("a link down and up: {} of {} pings lost", train.lost.len(), train.sent);
    // Both ends see the loss of carrier; what is lost is what was under way meanwhile, and no longer than a hold time.
    assert!(train.longest_gap < Duration::from_secs(2), "{train:?}");
}

#[test]
fn a_tor_restarts() {
    let Some(mut rack) = rack("tor") else { return };
    let (frr, netns) = rack.tors[0].frr_mut().unwrap();
    frr.kill_bgpd().unwrap();
    // The routes of a ToR go with its session and come back with the next one.
    frr.restart(netns).unwrap();
    for node in &rack.nodes {
        rack.await_node_converged(node, CONVERGENCE).unwrap();
    }
    assert_held(&check::pods_reach_pods(&rack).unwrap());
    assert_held(&check::tors_see_no_transit(&rack).unwrap());
}

#[test]
fn a_killed_agent_loses_no_packet_and_its_successor_none_either() {
    let Some(mut rack) = rack("killed") else { return };
    let (from, to) = two_pods(&rack);
    let trains: Vec<_> = to
        .addresses
        .iter()
        .map(|address| Ping::new(*address).start(&from.netns, PING_INTERVAL).unwrap())
        .collect();

    let before = rack.nodes[0].netns.routes().unwrap();
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    assert_eq!(netns.routes().unwrap(), before, "a crash leaves the kernel as it was");
    agent.start_again(netns).unwrap();
    await_adopted(&rack.nodes[0]);
    rack.await_node_converged(&rack.nodes[0], CONVERGENCE).unwrap();

    for train in trains {
        let train = train.stop().unwrap();
        println!("SIGKILL and restart: {} of {} pings lost: {:?}", train.lost.len(), train.sent, train.lost);
        assert!(train.sent > 10 && train.lost.is_empty(), "{train:?}");
    }
}

/// The ToRs tell their tables one after the other, and what they tell is there already.
#[test]
fn a_restart_changes_nothing_in_the_kernel() {
    for (objects, test) in [(NexthopObjects::On, "restart-on"), (NexthopObjects::Off, "restart-off")] {
        let Some(mut rack) = rack_with(test, Some(objects)) else { return };
        let before = rack.nodes[0].netns.routes().unwrap();
        let journal = Journal::open(&rack.nodes[0].netns).unwrap();
        let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
        let log_of_the_killed = agent.log().len();
        agent.kill().unwrap();
        agent.start_again(netns).unwrap();
        eventually("a successor that has heard everything", CONVERGENCE, || {
            let log = rack.nodes[0].agent()?.log();
            Ok(log.get(log_of_the_killed..).is_some_and(|log| log.contains("fib converged")).then_some(()))
        })
        .unwrap();
        await_adopted(&rack.nodes[0]);
        assert_eq!(rack.nodes[0].netns.routes().unwrap(), before);
        let changes = journal.changes().unwrap();
        let log = rack.nodes[0].agent().unwrap().log();
        let log = log.get(log_of_the_killed..).unwrap_or_default();
        assert_eq!(changes, [], "nexthop objects {objects:?}; the log of the successor:\n{log}");
    }
}

#[test]
fn a_terminated_agent_leaves_its_routes() {
    let Some(mut rack) = rack("term") else { return };
    let before = rack.nodes[0].netns.routes().unwrap();
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    let status = agent.terminate().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(netns.routes().unwrap(), before);
}

#[test]
fn packets_to_an_absent_pod_do_not_loop() {
    let Some(rack) = rack("absent") else { return };
    assert_held(&check::absent_pods_do_not_loop(&rack).unwrap());
    // A default route towards the fabric is what would make them loop.
    for node in &rack.nodes {
        let tor = node.netns.routes().unwrap().into_iter().find_map(|route| match route.action {
            Action::Forward(hops) => {
                hops.into_iter().find(|hop| hop.device == "tor1").and_then(|hop| hop.via)
            }
            Action::Blackhole | Action::Other(_) => None,
        });
        node.netns.add_default_route(tor.unwrap(), "tor1").unwrap();
    }
    assert_held(&check::absent_pods_do_not_loop(&rack).unwrap());
}

#[test]
fn a_route_that_somebody_deletes_is_back_within_100_ms_and_it_is_said() {
    let Some(rack) = rack("deleted") else { return };
    let node = &rack.nodes[0];
    for victim in [block_of_c2(), prefix("fd00:10:1:71::/64"), prefix("10.1.8.192/26")] {
        let before = node.netns.route(victim).unwrap().unwrap();
        node.netns.delete_route(victim).unwrap();
        let deleted = Instant::now();
        let back = |routes: &[Route]| routes.contains(&before);
        let repaired = node.netns.await_routes(&format!("{victim} again"), CONVERGENCE, back).unwrap();
        let took = repaired.duration_since(deleted);
        println!("{victim} is back after {took:?}");
        assert!(took < REPAIR, "{victim}: {took:?}");
        let log = node.agent().unwrap().log();
        let said = log.lines().any(|line| line.contains("WARN") && line.contains(&victim.to_string()));
        assert!(said, "no warning names {victim}:\n{log}");
    }
}

#[test]
fn a_route_of_another_protocol_is_never_touched() {
    let Some(mut rack) = rack("foreign") else { return };
    let foreign = prefix("192.0.2.0/24");
    rack.nodes[0].netns.add_blackhole(foreign).unwrap();
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    agent.start_again(netns).unwrap();
    await_adopted(&rack.nodes[0]);
    rack.await_node_converged(&rack.nodes[0], CONVERGENCE).unwrap();
    assert!(rack.nodes[0].netns.route(foreign).unwrap().is_some());
}

#[test]
fn an_uplink_that_is_unplugged_and_plugged_in_again_works_with_its_new_index() {
    let Some(rack) = rack("hotplug") else { return };
    let (node, tor) = (&rack.nodes[0], &rack.tors[0]);
    let before = node.netns.index("tor1").unwrap();
    node.netns.delete_link("tor1").unwrap();
    await_over(node, &["tor2"]);
    lay_uplink(node, tor).unwrap();
    assert_ne!(node.netns.index("tor1").unwrap(), before);
    await_over(node, &BOTH);
    assert_held(&check::pods_reach_pods(&rack).unwrap());
}

#[test]
fn whole_packets_pass_without_fragments_and_nothing_is_encapsulated() {
    let Some(rack) = rack("plain") else { return };
    let (from, to) = two_pods(&rack);
    let captures = BOTH.map(|uplink| Capture::start(&rack.nodes[0].netns, uplink).unwrap());
    for (source, destination) in from.addresses.iter().zip(&to.addresses) {
        let outcome = Ping::new(*destination).from(*source).whole_packet(1500).once(&from.netns, CONVERGENCE);
        assert!(matches!(outcome, Ok(Outcome::Reply(_))), "{destination}: {outcome:?}");
    }
    let frames: Vec<_> = captures.into_iter().flat_map(Capture::stop).collect();
    for (source, destination) in from.addresses.iter().zip(&to.addresses) {
        for (a, b) in [(source, destination), (destination, source)] {
            // On metal the answer may come in over either uplink, as here.
            let whole =
                frames.iter().filter_map(|frame| frame.ip).find(|ip| ip.source == *a && ip.destination == *b);
            assert_eq!(whole.map(|ip| ip.length), Some(1500), "{a} to {b} as plain IP");
        }
    }
    // IP in IP, IPv6 in IP, GRE, and UDP to the ports of VXLAN would all be another protocol than these.
    for ip in frames.iter().filter_map(|frame| frame.ip) {
        assert!([0, 1, 6, 58].contains(&ip.protocol), "neither ICMP nor the TCP of BGP: {ip:?}");
    }
}

/// Waits until a successor has both sessions and has confirmed or swept every route that it inherited: that is when its
/// start is over, and what could go wrong has.
fn await_adopted(node: &Host) {
    eventually("a successor that has taken over", CONVERGENCE, || {
        let summary = node.agent()?.bgpctl_json(&["show", "summary"])?;
        let neighbors =
            summary.get("neighbors").and_then(|neighbors| neighbors.as_array()).into_iter().flatten();
        let is_up = |neighbor: &&serde_json::Value| {
            let state = neighbor.get("state").and_then(|state| state.as_str());
            state.is_some_and(|state| state.eq_ignore_ascii_case("established"))
        };
        let fib = node.agent()?.bgpctl_json(&["show", "fib"])?;
        let is_stale =
            |route: &serde_json::Value| route.pointer("/status/is").is_some_and(|is| is == "stale");
        let adopted = fib.as_array().is_some_and(|routes| !routes.iter().any(is_stale));
        Ok((neighbors.filter(is_up).count() == BOTH.len() && adopted).then_some(()))
    })
    .unwrap();
}
