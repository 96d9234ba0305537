//! Graceful restart (RFC 4724) in the rack, both roles: an agent that ends and comes back, and a ToR whose bgpd does.

use std::time::{Duration, Instant};

use lab::{Host, Journal, Ping, Pinging, Rack, eventually, output_of};
use serde_json::Value;

use super::{
    BOTH, CONVERGENCE, PING_INTERVAL, await_adopted, await_over, block_of_c2, leads_over, rack, two_pods,
};

/// What a reaction may take that is to be had at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What FRR is told where a ToR is to keep forwarding while its bgpd is away.
const PRESERVING: &str = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n";

/// Restarts the bgpd of ToRs with more lines under `router bgp`, and waits until all is as before.
fn reconfigure_tors(rack: &mut Rack, lines: &str) {
    for tor in &mut rack.tors {
        let (frr, netns) = tor.frr_mut().unwrap();
        frr.add_lines(lines).unwrap();
        frr.start_bgpd(netns).unwrap();
    }
    for node in &rack.nodes {
        await_neighbor(node, "a ToR that has told everything", |neighbor| {
            is_established(neighbor) && of(neighbor, "/times_established") > 1 && of(neighbor, "/stale") == 0
        });
    }
    rack.await_converged(CONVERGENCE).unwrap();
}

fn is_established(neighbor: &Value) -> bool {
    let state = neighbor.get("state").and_then(Value::as_str);
    state.is_some_and(|state| state.eq_ignore_ascii_case("established"))
}

fn of(neighbor: &Value, pointer: &str) -> u64 {
    neighbor.pointer(pointer).and_then(Value::as_u64).unwrap()
}

/// Waits until both neighbors of a node are as wanted.
fn await_neighbor(node: &Host, what: &str, wanted: impl Fn(&Value) -> bool) {
    for name in BOTH {
        await_of(node, name, what, &wanted);
    }
}

fn await_of(node: &Host, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let agent = node.agent().unwrap();
    eventually(what, CONVERGENCE, || Ok(agent.bgpctl_json(&["show", "neighbor", name]).ok().filter(&wanted)))
        .unwrap_or_else(|error| {
            let text = agent.bgpctl(&["show", "neighbor", name]).unwrap_or_default();
            panic!("{error}\n{text}\nlog of the agent:\n{}", agent.log())
        })
}

/// Pings from the first pod of c1 to all addresses of that of c2.
fn trains(rack: &Rack) -> Vec<Pinging> {
    let (from, to) = two_pods(rack);
    let start = |address: &std::net::IpAddr| Ping::new(*address).start(&from.netns, PING_INTERVAL).unwrap();
    to.addresses.iter().map(start).collect()
}

fn assert_nothing_lost(what: &str, trains: Vec<Pinging>, least: u32) {
    for train in trains {
        let train = train.stop().unwrap();
        println!("{what}: {} of {} pings lost: {:?}", train.lost.len(), train.sent, train.lost);
        assert!(train.sent >= least && train.lost.is_empty(), "{what}: {train:?}");
    }
}

fn kill_bgpd(rack: &mut Rack, tor: usize) {
    rack.tors[tor].frr_mut().unwrap().0.kill_bgpd().unwrap();
}

/// Gives the kernels of the ToRs routes to the nodes behind those of zebra. FRR 8.4's zebra deletes the routes that it
/// kept for bgpd before it has taken in what bgpd says again, and forwards nothing for some 30 ms; later ones do not.
fn bridge_the_gap_of_zebra(rack: &Rack) {
    for (node, tor) in rack.links() {
        let via = node.netns.await_link_local(tor.router.name, CONVERGENCE).unwrap();
        for prefix in node.router.prefixes() {
            let mut command = tor.netns.command("ip");
            command.args(["route", "add", &prefix.to_string(), "via", "inet6", &via.to_string()]);
            command.args(["dev", node.router.name, "metric", "1000"]);
            output_of(command).unwrap();
        }
    }
}

/// The FRR of a ToR keeps its zebra, and with it the kernel's routes.
#[test]
fn a_tor_whose_bgpd_restarts_gracefully_costs_no_packet_and_no_write() {
    let Some(mut rack) = rack("grtor") else { return };
    reconfigure_tors(&mut rack, PRESERVING);
    bridge_the_gap_of_zebra(&rack);
    let journal = Journal::open(&rack.nodes[0].netns).unwrap();
    let trains = trains(&rack);
    let before = rack.nodes[0].netns.routes().unwrap();
    for (tor, name) in BOTH.into_iter().enumerate() {
        kill_bgpd(&mut rack, tor);
        let neighbor = await_of(&rack.nodes[0], name, "stale routes", |neighbor| of(neighbor, "/stale") > 0);
        let timers = neighbor.pointer("/timers").and_then(Value::as_array).unwrap();
        assert!(timers.iter().any(|timer| timer.get("name").is_some_and(|name| name == "RestartTimer")));
        let rib = rack.nodes[0].agent().unwrap().bgpctl(&["show", "rib"]).unwrap();
        assert!(rib.contains("S>") || rib.contains("S="), "{rib}");
        assert_eq!(rack.nodes[0].netns.routes().unwrap(), before);
        let (frr, netns) = rack.tors[tor].frr_mut().unwrap();
        frr.start_bgpd(netns).unwrap();
        for node in &rack.nodes {
            await_of(node, name, "a ToR that has told everything again", |neighbor| {
                is_established(neighbor) && of(neighbor, "/stale") == 0
            });
        }
    }
    assert_nothing_lost("both ToRs restarted their bgpd", trains, 100);
    assert_eq!(rack.nodes[0].netns.routes().unwrap(), before);
    let log = rack.nodes[0].agent().unwrap().log();
    // FRR may drop the session that it has just made for another connection of ours or its own, which is a second restart
    // before the first is over: what is stale then MUST be deleted (RFC 4724 section 4.2), and is written again.
    let restarts = log.matches("the neighbor may be restarting").count();
    assert!(restarts >= BOTH.len(), "{log}");
    if restarts == BOTH.len() {
        assert_eq!(journal.changes().unwrap(), [], "{log}");
    }
}

#[test]
fn a_tor_without_graceful_restart_loses_its_next_hop_at_once() {
    let Some(mut rack) = rack("grnone") else { return };
    let killed = Instant::now();
    kill_bgpd(&mut rack, 0);
    let took = await_over(&rack.nodes[0], &["tor2"]).duration_since(killed);
    println!("without graceful restart the next hop is gone after {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn a_tor_that_does_not_come_back_is_used_for_as_long_as_it_asked() {
    const RESTART: Duration = Duration::from_secs(3);
    let Some(mut rack) = rack("grlate") else { return };
    let lines = format!("{PRESERVING} bgp graceful-restart restart-time {}\n", RESTART.as_secs());
    reconfigure_tors(&mut rack, &lines);
    let killed = Instant::now();
    kill_bgpd(&mut rack, 0);
    let took = await_over(&rack.nodes[0], &["tor2"]).duration_since(killed);
    println!("the next hop is gone {took:?} after a ToR that has {RESTART:?}");
    assert!((RESTART..RESTART + AT_ONCE).contains(&took), "{took:?}");
    let neighbor = await_of(&rack.nodes[0], "tor1", "nothing kept", |neighbor| of(neighbor, "/stale") == 0);
    assert!(!is_established(&neighbor));
}

#[test]
fn a_link_that_goes_while_its_tor_restarts_takes_the_stale_routes_with_it() {
    let Some(mut rack) = rack("grlink") else { return };
    reconfigure_tors(&mut rack, PRESERVING);
    kill_bgpd(&mut rack, 0);
    await_of(&rack.nodes[0], "tor1", "stale routes", |neighbor| of(neighbor, "/stale") > 0);
    let routes = rack.nodes[0].netns.routes().unwrap();
    assert!(leads_over(&routes, block_of_c2(), &BOTH));
    let down = Instant::now();
    rack.tors[0].netns.set_down("c1").unwrap();
    let took = await_over(&rack.nodes[0], &["tor2"]).duration_since(down);
    println!("stale routes are gone {took:?} after their link");
    assert!(took < AT_ONCE, "{took:?}");
    await_of(&rack.nodes[0], "tor1", "nothing kept", |neighbor| of(neighbor, "/stale") == 0);
}

/// How an agent ends whose successor is to cost nothing.
enum End {
    Killed,
    Terminated,
    /// Terminated, and its program is another file when it starts again.
    Replaced,
}

/// Pings of a test that counts a thousand.
const THOUSAND: u32 = 1000;

fn nothing_is_lost(test: &str, end: End) {
    let Some(mut rack) = rack(test) else { return };
    let journal = Journal::open(&rack.nodes[0].netns).unwrap();
    let trains = trains(&rack);
    let began = Instant::now();
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    match end {
        End::Killed => agent.kill().unwrap(),
        End::Terminated => assert!(agent.terminate().unwrap().success()),
        End::Replaced => {
            assert!(agent.terminate().unwrap().success());
            agent.replace_program().unwrap();
        }
    }
    agent.start_again(netns).unwrap();
    await_adopted(&rack.nodes[0]);
    rack.await_node_converged(&rack.nodes[0], CONVERGENCE).unwrap();
    // A thousand pings in all, however fast that was; and some more, since a train may be late on a loaded machine.
    std::thread::sleep((PING_INTERVAL * (THOUSAND + 50)).saturating_sub(began.elapsed()));
    assert_nothing_lost(test, trains, THOUSAND);
    assert_eq!(journal.changes().unwrap(), [], "{}", rack.nodes[0].agent().unwrap().log());
}

#[test]
fn a_killed_agent_costs_none_of_a_thousand_pings() {
    nothing_is_lost("grkill", End::Killed);
}

#[test]
fn a_terminated_agent_costs_none_of_a_thousand_pings() {
    nothing_is_lost("grterm", End::Terminated);
}

#[test]
fn an_upgraded_agent_costs_none_of_a_thousand_pings() {
    nothing_is_lost("grup", End::Replaced);
}

/// RFC 4724 section 4.1 for a host: what was inherited is not narrowed before everybody has spoken. The second ToR
/// cannot be reached for three seconds after the first one has told everything.
#[test]
fn a_restart_keeps_the_next_hops_of_a_tor_that_comes_back_later() {
    const LATER: Duration = Duration::from_secs(3);
    let Some(mut rack) = rack("grlater") else { return };
    let before = rack.nodes[0].netns.routes().unwrap();
    let journal = Journal::open(&rack.nodes[0].netns).unwrap();
    let trains = trains(&rack);
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    nft(netns, "add table inet late");
    nft(netns, "add chain inet late in { type filter hook input priority 0; }");
    nft(netns, "add chain inet late out { type filter hook output priority 0; }");
    for (chain, interface) in [("in", "iifname"), ("out", "oifname")] {
        for port in ["sport", "dport"] {
            nft(netns, &format!("add rule inet late {chain} {interface} tor2 tcp {port} 179 drop"));
        }
    }
    agent.start_again(netns).unwrap();
    await_of(&rack.nodes[0], "tor1", "the first ToR", is_established);
    let first = Instant::now();
    eventually("the second ToR is late", CONVERGENCE, || Ok((first.elapsed() > LATER).then_some(())))
        .unwrap();
    assert_eq!(rack.nodes[0].netns.routes().unwrap(), before);
    let tor2 = rack.nodes[0].agent().unwrap().bgpctl_json(&["show", "neighbor", "tor2"]).unwrap();
    assert!(!is_established(&tor2), "{tor2}");
    nft(&rack.nodes[0].netns, "delete table inet late");
    await_adopted(&rack.nodes[0]);
    assert_nothing_lost("a ToR that comes back later", trains, 100);
    assert_eq!(rack.nodes[0].netns.routes().unwrap(), before);
    assert_eq!(journal.changes().unwrap(), [], "{}", rack.nodes[0].agent().unwrap().log());
}

/// Whoever flushed the table, and a boot, leave nothing to forward by: the ToRs are not told otherwise.
#[test]
fn a_restart_over_a_flushed_table_promises_nothing() {
    let Some(mut rack) = rack("grflush") else { return };
    let promised = |rack: &Rack| {
        let neighbor = await_of(&rack.nodes[0], "tor1", "a session", is_established);
        let sent = neighbor.pointer("/capabilities/sent").and_then(Value::as_array).unwrap();
        let restart = sent.iter().find(|one| one.get("code").is_some_and(|code| code == 64)).unwrap();
        restart.get("value").and_then(Value::as_str).unwrap().to_owned()
    };
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    agent.start_again(netns).unwrap();
    let [ipv4, ipv6] = bgp::Family::ALL;
    let preserved = format!("30 s, restarting, {ipv4} (forwarding preserved), {ipv6} (forwarding preserved)");
    assert_eq!(promised(&rack), preserved);
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    for what in ["nexthop", "route", "-6 route"] {
        let mut command = netns.command("ip");
        command.args(what.split(' ')).args(["flush", "proto", "186"]);
        output_of(command).unwrap();
    }
    agent.start_again(netns).unwrap();
    assert_eq!(promised(&rack), format!("30 s, {ipv4}, {ipv6}"));
    rack.await_node_converged(&rack.nodes[0], CONVERGENCE).unwrap();
}

fn nft(netns: &lab::Netns, rule: &str) {
    let mut command = netns.command("nft");
    command.arg(rule);
    output_of(command).unwrap();
}
