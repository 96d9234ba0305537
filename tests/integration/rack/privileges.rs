//! What the agent may do, read from /proc, and what it does, traced by strace(1), against what the unit leaves to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;

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

/// What the lines `SystemCallFilter=` of the unit allow in the end (systemd.exec(5)).
fn allowed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/selvedge.service");
    let unit = fs::read_to_string(path).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (names, is_taken_away) = match filter.strip_prefix('~') {
            Some(names) => (names, true),
            None => (filter, false),
        };
        for name in names.split_whitespace().flat_map(members) {
            match is_taken_away {
                true => allowed.remove(&name),
                false => allowed.insert(name),
            };
        }
    }
    // Always there, or no program could begin.
    allowed.extend(members("@default"));
    allowed
}

/// A call, or the calls of a set, in which there may be sets again.
fn members(name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["syscall-filter", name]);
    let text = lab::output_of(command).unwrap();
    let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(members).collect()
}

/// The names of the calls in traces that begin with this path.
fn traced(prefix: &Path) -> BTreeSet<String> {
    let (directory, name) = (prefix.parent().unwrap(), prefix.file_name().unwrap().to_str().unwrap());
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut calls = BTreeSet::new();
    for file in files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)) {
        // The first call is strace's own: it becomes the daemon.
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        calls.extend(text.lines().filter_map(|line| Some(line.split_once('(')?.0.to_owned())));
    }
    // "+++ exited" and the like have no parenthesis after a name of a call; "<... x resumed>" is x again.
    calls.retain(|call| call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    calls
}

#[test]
fn a_whole_life_stays_within_the_system_calls_of_the_unit() {
    if !can_run(&[Requirement::Root, Requirement::Frr, Requirement::Strace, Requirement::SystemdAnalyze]) {
        return;
    }
    let directory = std::env::temp_dir().join(format!("selvedge-trace-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let prefix: PathBuf = directory.join("trace");
    let daemon = env!("CARGO_BIN_EXE_selvedge");
    // Each thread to a file of its own; the daemon stays our child (-D).
    let words = ["-D", "-ff", "-qq", "-e", "signal=none", "-o", prefix.to_str().unwrap(), "--", daemon];
    let programs = Programs {
        daemon: "/usr/bin/strace".into(),
        arguments: words.into_iter().map(Into::into).collect(),
        account: Some(Account::OF_AGENTS),
        bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
        nexthop_objects: NexthopObjects::of_environment().unwrap(),
    };
    let mut rack = rack_of("trace", programs);
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

    let (allowed, mut traced) = (allowed(), traced(&prefix));
    fs::remove_dir_all(&directory).unwrap();
    for needed in ["sendto", "recvmsg", "epoll_wait", "capset"] {
        assert!(traced.contains(needed), "no trace: {traced:?}");
    }
    // What systemd has done by then for a daemon with `User=`.
    for before in ["setgroups", "setresuid", "setresgid"] {
        assert!(traced.remove(before), "not as another user: {traced:?}");
    }
    let refused: Vec<_> = traced.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit would refuse {refused:?}");
    println!("{} system calls, of {} allowed", traced.len(), allowed.len());
}
