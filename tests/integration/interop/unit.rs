//! The systemd unit: what it runs, and what it lets the daemon do. systemd itself is not needed.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::{Account, Programs, Requirement};
use serde_json::Value;

use super::fixture::{BLOCKS, Link, UNNUMBERED, config, programs, unnumbered_conf};

/// The value of a key that the unit has once.
fn unit(key: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/selvedge.service");
    let unit = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{}: no {key}", path.display())).to_owned()
}

fn shown_node(link: &Link) -> Option<Value> {
    link.agent().bgpctl_json(&["show", "drain"]).unwrap().get("node").cloned()
}

/// Runs the unit's `ExecStop=` on a host whose `systemctl is-system-running` says this.
fn stop_on(link: &Link, state: &str) -> String {
    let directory = link.scratch.directory("bin").unwrap();
    let systemctl = directory.join("systemctl");
    let script = format!("#!/bin/sh\n[ \"$*\" = is-system-running ] && echo {state}\nexit 1\n");
    std::fs::write(&systemctl, script).unwrap();
    std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgpctl"));
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    command.arg("--socket").arg(link.agent().socket());
    let stop = unit("ExecStop");
    command.args(stop.strip_prefix("-/usr/bin/bgpctl ").unwrap().split_ascii_whitespace());
    lab::output_of(command).unwrap()
}

#[test]
fn only_a_host_that_stops_is_drained() {
    let Some(mut link) = Link::up("unit", &unnumbered_conf(), UNNUMBERED) else { return };
    for state in ["running", "degraded", "starting", "offline"] {
        assert_eq!(stop_on(&link, state), "The host stays up: nothing is drained.\n");
        assert_eq!(shown_node(&link), Some(Value::Null), "{state}");
    }
    let said = stop_on(&link, "stopping");
    assert!(said.ends_with("The daemon has ended.\n"), "{said}");
    assert!(link.agent_mut().await_end(Duration::from_secs(10)).unwrap().success());
    let log = link.frr().log();
    assert!(log.contains("received from neighbor c1 6/2 (Cease/Administrative Shutdown)"), "{log}");
}

#[test]
fn the_capabilities_that_it_leaves_are_enough() {
    let Some(mut link) = Link::lay("unitcaps", Requirement::Frr) else { return };
    link.start_frr(&unnumbered_conf());
    let left = unit("CapabilityBoundingSet");
    assert_eq!(left, unit("AmbientCapabilities"));
    let left = left.to_lowercase();
    let left: Vec<_> = left.split_ascii_whitespace().map(|name| name.replacen("cap_", "+", 1)).collect();
    let Programs { daemon, .. } = programs();
    // As systemd starts it, with `User=`: it need not become anybody.
    let Account { uid, gid } = Account::OF_AGENTS;
    let mut arguments: Vec<OsString> =
        ["--clear-groups", "--no-new-privs"].into_iter().map(OsString::from).collect();
    arguments.push(format!("--reuid={uid}").into());
    arguments.push(format!("--regid={gid}").into());
    for set in ["bounding-set=-all,", "inh-caps=-all,", "ambient-caps=-all,"] {
        arguments.push(format!("--{set}{}", left.join(",")).into());
    }
    arguments.push(daemon.into_os_string());
    // For the files; that it is started as root is up to `arguments`.
    Account::OF_AGENTS.own(&link.scratch.directory("c1").unwrap()).unwrap();
    let programs = Programs { daemon: "/usr/bin/setpriv".into(), arguments, account: None, ..programs() };
    link.start_agent_as(&config(UNNUMBERED, &BLOCKS), &programs);
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.await_at_frr(&BLOCKS);
    link.agent().bgpctl(&["drain", "--wait", "0s"]).unwrap();
    link.await_no_route("4.4.4.4/32");
}
