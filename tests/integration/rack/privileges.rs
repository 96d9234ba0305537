//! What the agent may do, read from /proc, and what it does, traced by strace(1), against what the unit leaves to it.

use std::fs;

use super::*;
use crate::trace::{REQUIREMENTS, Trace, Unit};

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN` and `CAP_NET_RAW` of linux/capability.h, as /proc has them.
const THREE: &str = "0000000000003400";
const NONE: &str = "0000000000000000";

/// The value of a key in each thread's `status`.
fn of_all_threads(pid: u32, key: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            value
                .unwrap_or_else(|| panic!("no {key}: {status}"))
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[test]
fn every_thread_has_three_capabilities_and_no_way_to_more() {
    let Some(rack) = rack("privileges") else { return };
    let pid = rack.nodes[0].agent().unwrap().id().unwrap();
    let Account { uid, gid } = Account::OF_AGENTS;
    for (key, expected) in [
        ("Uid", format!("{uid} {uid} {uid} {uid}")),
        ("Gid", format!("{gid} {gid} {gid} {gid}")),
        ("Groups", String::new()),
        ("CapInh", NONE.to_owned()),
        ("CapPrm", THREE.to_owned()),
        ("CapEff", THREE.to_owned()),
        ("CapBnd", THREE.to_owned()),
        ("CapAmb", NONE.to_owned()),
        ("NoNewPrivs", "1".to_owned()),
    ] {
        let found = of_all_threads(pid, key);
        assert!(found.len() > 1, "{key}: {found:?}");
        assert!(found.iter().all(|value| *value == expected), "{key}: {found:?}");
    }
    // What BFD's thread needs later, if whoever started the agent may give it (CAP_SYS_RESOURCE, the 24th bit).
    let own = of_all_threads(std::process::id(), "CapEff");
    let may = u64::from_str_radix(&own[0], 16).unwrap() & (1 << 24) != 0;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let real_time = limits.lines().find_map(|line| line.strip_prefix("Max realtime priority")).unwrap();
    assert!(!may || real_time.split_whitespace().eq(["1", "1"]), "{real_time}");
}

#[test]
fn a_whole_life_stays_within_the_system_calls_of_the_unit() {
    if !can_run(&[&[Requirement::Root, Requirement::Frr][..], &REQUIREMENTS].concat()) {
        return;
    }
    let trace = Trace::new("trace");
    let mut rack = rack_of("trace", trace.programs());
    let folder = |node: &Host| node.agent().unwrap().socket().parent().unwrap().to_owned();
    let places: Vec<_> = rack.nodes.iter().map(|node| (folder(node), "/run/selvedge")).collect();
    // Everything that makes it do something else: what people ask, a file that changes, links, ToRs, other programs.
    let agent = rack.nodes[0].agent().unwrap();
    for words in
        ["show summary", "show neighbor", "show rib", "show fib", "show interfaces", "show memory", "reload"]
    {
        agent.bgpctl(&words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    agent.hang_up().unwrap();
    agent.bgpctl(&["drain", "--neighbor", "tor1", "--wait", "0s"]).unwrap();
    agent.bgpctl(&["undrain", "--neighbor", "tor1"]).unwrap();
    await_over(&rack.nodes[0], &BOTH);
    rack.tors[0].netns.set_down("c1").unwrap();
    await_over(&rack.nodes[0], &["tor2"]);
    rack.tors[0].netns.set_up("c1").unwrap();
    await_over(&rack.nodes[0], &BOTH);
    rack.tors[0].frr_mut().unwrap().0.kill_bgpd().unwrap();
    await_over(&rack.nodes[0], &["tor2"]);
    let (agent, netns) = rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    agent.start_again(netns).unwrap();
    await_over(&rack.nodes[0], &["tor2"]);
    let (agent, _) = rack.nodes[0].agent_mut().unwrap();
    agent.bgpctl(&["drain", "--wait", "0s"]).unwrap();
    assert!(agent.terminate().unwrap().success());

    Unit::shipped().assert_allows(&trace.calls(), &places);
}
