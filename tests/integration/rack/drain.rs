//! Maintenance without a lost packet: of an uplink by the node, and of a ToR by itself.

use super::traffic::{assert_none_lost, trains};
use super::*;

/// Both families, on a node: everything of another node's over these uplinks.
fn await_blocks_over(node: &Host, owner: &Host, uplinks: &[&str]) {
    for block in &owner.router.blocks {
        await_block_over(node, *block, uplinks);
    }
}

#[test]
fn an_uplink_that_is_drained_can_be_unplugged_and_plugged_in_again() {
    let Some(rack) = rack("drainlink") else { return };
    let (c1, c2, tor1) = (&rack.nodes[0], &rack.nodes[1], &rack.tors[0]);
    let agent = c1.agent().unwrap();
    let trains_out = trains(&rack);
    // Returns when it is done: the traffic has left by then, which ends the wait well before its time is up.
    let said = agent.bgpctl(&["drain", "--neighbor", "tor1", "--wait", "60s"]).unwrap();
    println!("{said}");
    let drained = agent.bgpctl_json(&["show", "drain"]).unwrap();
    assert_eq!(drained.pointer("/node"), Some(&serde_json::Value::Null), "{drained}");
    assert_eq!(drained.pointer("/neighbors/0/drain/state"), Some(&"drained".into()), "{drained}");
    assert_eq!(drained.pointer("/neighbors/1/drain"), Some(&serde_json::Value::Null), "{drained}");
    let began = drained.pointer("/neighbors/0/drain/steps/0/ago_ms").and_then(serde_json::Value::as_u64);
    assert!(began.is_some_and(|began_ms| began_ms < 40_000), "{drained}");
    await_blocks_over(c1, c2, &["tor2"]);
    await_blocks_over(c2, c1, &["tor2"]);

    tor1.netns.set_down("c1").unwrap();
    c1.netns.set_down("tor1").unwrap();
    assert_none_lost("drain --neighbor tor1, link down", trains_out);

    tor1.netns.set_up("c1").unwrap();
    c1.netns.set_up("tor1").unwrap();
    c1.netns.await_link_local("tor1", CONVERGENCE).unwrap();
    tor1.netns.await_link_local("c1", CONVERGENCE).unwrap();
    let trains_back = trains(&rack);
    agent.bgpctl(&["undrain", "--neighbor", "tor1"]).unwrap();
    await_blocks_over(c1, c2, &BOTH);
    await_blocks_over(c2, c1, &BOTH);
    assert_none_lost("undrain --neighbor tor1", trains_back);
}

#[test]
fn a_tor_in_maintenance_loses_no_packet() {
    let Some(mut rack) = rack("tormaint") else { return };
    let running = trains(&rack);
    rack.tors[0].frr().unwrap().configure("router bgp 65004\nbgp graceful-shutdown").unwrap();
    let (c1, c2) = (&rack.nodes[0], &rack.nodes[1]);
    for (node, owner) in [(c1, c2), (c2, c1)] {
        await_blocks_over(node, owner, &["tor2"]);
    }
    let (frr, _) = rack.tors[0].frr_mut().unwrap();
    frr.kill_bgpd().unwrap();
    for node in &rack.nodes {
        rack.tors[0].netns.set_down(node.router.name).unwrap();
    }
    for node in &rack.nodes {
        await_no_session(node, "tor1");
    }
    assert_none_lost("ToR with graceful-shutdown, bgpd killed, links down", running);
}

#[test]
fn a_drained_node_is_left_by_its_own_traffic_only_when_its_sessions_end() {
    let Some(rack) = rack("drainnode") else { return };
    let (c1, c2) = (&rack.nodes[0], &rack.nodes[1]);
    let agent = c1.agent().unwrap();
    let running = trains(&rack);
    agent.bgpctl(&["drain", "--wait", "8s", "--background"]).unwrap();
    let state = |wanted: &str| {
        eventually(&format!("c1 is {wanted}"), CONVERGENCE, || {
            let drain = agent.bgpctl_json(&["show", "drain"])?;
            Ok((drain.pointer("/node/state") == Some(&wanted.into())).then_some(()))
        })
        .unwrap();
    };
    state("waiting");
    // The last way to a pod stays a way, however little it is wanted.
    assert_none_lost("a node that waits for its pods to leave", running);
    await_blocks_over(c1, c2, &BOTH);
    state("drained");
    for (node, owner) in [(c1, c2), (c2, c1)] {
        let block = owner.router.blocks[0];
        node.netns
            .await_routes("no way there", CONVERGENCE, |routes| {
                !routes
                    .iter()
                    .any(|route| route.prefix == block && matches!(route.action, Action::Forward(_)))
            })
            .unwrap();
    }
    agent.bgpctl(&["undrain"]).unwrap();
    rack.await_converged(CONVERGENCE).unwrap();
    assert_held(&check::pods_reach_pods(&rack).unwrap());
}

fn await_no_session(node: &Host, neighbor: &str) {
    eventually(&format!("{} has lost {neighbor}", node.router.name), CONVERGENCE, || {
        let shown = node.agent()?.bgpctl_json(&["show", "neighbor", neighbor])?;
        Ok((shown.get("state") != Some(&"established".into())).then_some(()))
    })
    .unwrap();
}
