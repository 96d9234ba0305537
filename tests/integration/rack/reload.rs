//! Reload after reload under traffic: nothing is lost, and no session ends but that of the neighbor that changed.

use super::traffic::{assert_none_lost, trains};
use super::*;

const RELOADS: u32 = 100;

/// A third neighbor of c1: tor1 again, numbered, on a cable of its own. It is told nothing and believed nothing, so that no
/// packet of a pod depends on it.
const SPARE: &str = "192.0.2.0";
const NODE_AT_SPARE: &str = "192.0.2.1";

fn lay_spare(rack: &Rack) {
    let (node, tor) = (&rack.nodes[0].netns, &rack.tors[0]);
    cable(Port { netns: node, name: "spare" }, Port { netns: &tor.netns, name: "c1s" }).unwrap();
    for (netns, name, address) in [(node, "spare", NODE_AT_SPARE), (&tor.netns, "c1s", SPARE)] {
        netns.add_address(name, address.parse().unwrap(), 31).unwrap();
        netns.set_up(name).unwrap();
    }
    // Sends with 255 hops and takes any: with GTSM on the node there is a session, and without.
    let neighbor = format!(
        "router bgp {}\nneighbor {NODE_AT_SPARE} remote-as {}\nneighbor {NODE_AT_SPARE} ebgp-multihop 255\n\
         neighbor {NODE_AT_SPARE} timers connect 1",
        tor.router.asn, rack.nodes[0].router.asn
    );
    tor.frr().unwrap().configure(&neighbor).unwrap();
}

/// The community that file `number` announces IPv4 with. What FRR hears anew of an IPv6 route it deletes from its kernel
/// and adds again (zebra, rt_netlink.c): a packet that is lost meanwhile would be the ToR's to answer for.
fn community(number: u32) -> String {
    format!("65001:{number}")
}

fn block(number: u32) -> Prefix {
    prefix(&format!("10.9.{number}.0/26"))
}

/// File `number`: another policy in and out, another block beside those of c1, and the third neighbor with another
/// setting of its transport.
fn file(number: u32) -> String {
    let [v4, v6] = [0, 1].map(|family| topology::nodes()[0].blocks[family]);
    format!(
        "[bgp]\nlocal-as = 65001\n\
         [[policy]]\nname = 'in'\ndefault = 'accept'\n\
         [[policy.rule]]\nset-local-preference = {preference}\nadd-community = '{community}'\n\
         [[policy]]\nname = 'out'\ndefault = 'accept'\n\
         [[policy.rule]]\nprefix = '0.0.0.0/0 le 32'\nadd-community = '{community}'\nset-med = {number}\n\
         [[policy]]\nname = 'nothing'\n\
         [[neighbor]]\ninterface = 'tor*'\nimport = 'in'\nexport = 'out'\n\
         [[neighbor]]\naddress = '{SPARE}'\nttl-security = {gtsm}\nimport = 'nothing'\nexport = 'nothing'\n\
         [pods.static]\nblocks = ['{v4}', '{v6}', '{block}']\n\
         [sysctl]\nmanage = true\n",
        preference = 100 + number % 7,
        community = community(number),
        gtsm = number % 2 == 1,
        block = block(number),
    )
}

/// How often a ToR has had a session with this neighbor, and whether it has one now.
fn sessions(tor: &Host, neighbor: &str) -> lab::Result<(u64, bool)> {
    let shown = tor.frr()?.vtysh_json(&format!("show bgp neighbors {neighbor} json"))?;
    let neighbor = shown.get(neighbor).cloned().unwrap_or_default();
    let established = neighbor.get("connectionsEstablished").and_then(serde_json::Value::as_u64);
    Ok((established.unwrap_or(0), neighbor.get("bgpState").is_some_and(|state| state == "Established")))
}

/// Waits until the `number`th file is in force: in the kernel, at both ToRs, and with the neighbor that it changed.
fn await_in_force(rack: &Rack, number: u32) {
    let node = &rack.nodes[0];
    let is_there = |routes: &[Route], number| {
        let found = routes.iter().find(|route| route.prefix == block(number));
        found.is_some_and(|route| route.action == Action::Blackhole)
    };
    let only_this =
        |routes: &[Route]| is_there(routes, number) && (number == 0 || !is_there(routes, number - 1));
    node.netns.await_routes(&format!("the block of file {number}"), CONVERGENCE, only_this).unwrap();
    for tor in &rack.tors {
        eventually(&format!("{} has what file {number} says", tor.router.name), CONVERGENCE, || {
            let shown = tor.frr()?.vtysh_json(&format!("show bgp ipv4 unicast {} json", block_of_c1()))?;
            let said = shown.pointer("/paths/0/community/string");
            Ok((said == Some(&community(number).into())).then_some(()))
        })
        .unwrap();
    }
    let wanted = (u64::from(number) + 1, true);
    eventually(&format!("session {} with the changed neighbor", wanted.0), CONVERGENCE, || {
        let is_up_here = node.agent()?.bgpctl_json(&["show", "neighbor", SPARE])?;
        let is_up_here = is_up_here.get("state").is_some_and(|state| state == "established");
        Ok((is_up_here && sessions(&rack.tors[0], NODE_AT_SPARE)? == wanted).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", node.agent().unwrap().log()));
}

#[test]
fn a_hundred_reloads_lose_no_packet_and_reset_no_session_but_that_of_the_changed_neighbor() {
    let Some(rack) = rack("reloads") else { return };
    let agent = rack.nodes[0].agent().unwrap();
    lay_spare(&rack);
    let reload = |number| {
        agent.write_config(&file(number)).unwrap();
        agent.bgpctl(&["reload"]).unwrap()
    };
    reload(0);
    await_in_force(&rack, 0);
    rack.await_node_converged(&rack.nodes[0], CONVERGENCE).unwrap();

    let uplink_sessions = || -> Vec<_> {
        let of_link = |(node, tor): (&Host, &Host)| {
            (tor.router.name, node.router.name, sessions(tor, node.router.name).unwrap())
        };
        rack.links().map(of_link).collect()
    };
    // FRR ends a session that is up when it comes to accept a connection of ours that lost against it: at the start there
    // may have been more than one.
    let sessions_here = || {
        BOTH.map(|uplink| {
            let neighbor = agent.bgpctl_json(&["show", "neighbor", uplink]).unwrap();
            neighbor.get("times_established").and_then(serde_json::Value::as_u64).unwrap()
        })
    };
    let (before, before_here) = (uplink_sessions(), sessions_here());

    let running = trains(&rack);
    let began = Instant::now();
    for number in 1..=RELOADS {
        let said = reload(number);
        assert!(said.contains(&format!("neighbor {SPARE} changed: its sessions start anew")), "{said}");
        await_in_force(&rack, number);
    }
    println!("{RELOADS} reloads in {:?}", began.elapsed());
    assert_none_lost("a hundred reloads", running);

    assert_eq!(sessions_here(), before_here, "{}", agent.log());
    assert_eq!(uplink_sessions(), before, "as the ToRs see it\n{}", agent.log());
    assert_eq!(sessions(&rack.tors[0], NODE_AT_SPARE).unwrap(), (u64::from(RELOADS) + 1, true));
    assert!(rack.is_converged(&rack.nodes[0], &rack.nodes[0].netns.routes().unwrap()));
}
