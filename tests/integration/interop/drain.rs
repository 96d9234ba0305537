//! Leaving the fabric: what a ToR sees of it, in which order, and what the node keeps.

use std::time::Duration;

use lab::{Action, eventually};
use serde_json::Value;

use super::bird::bird_up;
use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, config, is_established, times_established, unnumbered_conf,
};

const ALL: [&str; 4] = ["1.1.1.1/32", "fd00::1/128", BLOCKS[0], BLOCKS[1]];
const STEPS: [&str; 5] = ["marking", "waiting", "withdrawing", "ending", "drained"];

/// What FRR knows of a prefix: its paths.
fn paths(link: &Link, prefix: &str) -> Vec<Value> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let answer = link.frr().vtysh_json(&format!("show bgp {family} unicast {prefix} json")).unwrap();
    answer.get("paths").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn await_paths(link: &Link, what: &str, wanted: impl Fn(&[Value]) -> bool) {
    for prefix in ALL {
        eventually(&format!("{prefix} {what}"), PATIENCE, || Ok(wanted(&paths(link, prefix)).then_some(())))
            .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", paths(link, prefix), link.agent().log()));
    }
}

fn is_marked(path: &Value) -> bool {
    let text = |pointer: &str| path.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    text("/community/string").contains("graceful-shutdown")
        && text("/aspath/string") == "65001 65001 65001 65001"
}

fn is_plain(path: &Value) -> bool {
    path.get("community").is_none() && path.pointer("/aspath/string").and_then(Value::as_str) == Some("65001")
}

/// `show drain`, and a part of it.
fn shown(link: &Link, pointer: &str) -> Option<Value> {
    let drain = link.agent().bgpctl_json(&["show", "drain"]).unwrap();
    drain.pointer(pointer).cloned()
}

fn state(link: &Link) -> Option<String> {
    shown(link, "/node/state").and_then(|state| state.as_str().map(str::to_owned))
}

fn await_state(link: &Link, wanted: &str) {
    eventually(&format!("the node is {wanted}"), PATIENCE, || {
        Ok((state(link).as_deref() == Some(wanted)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", shown(link, ""), link.agent().log()));
}

fn steps(link: &Link) -> Vec<String> {
    let steps = shown(link, "/node/steps").unwrap();
    let name = |step: &Value| step.get("state").and_then(Value::as_str).unwrap().to_owned();
    steps.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn frr_sees_marks_then_withdrawals_then_the_message_and_then_nothing() {
    let Some(mut link) = Link::up("drain", &unnumbered_conf(), UNNUMBERED) else { return };
    await_paths(&link, "at FRR", |paths| paths.iter().any(is_plain));
    let words = "replacing a disk, ticket 4711";
    link.agent().bgpctl(&["drain", "--wait", "40s", "--message", words, "--background"]).unwrap();
    await_paths(&link, "marked at FRR", |paths| paths.iter().any(is_marked));
    // FRR takes the community at its word without any configuration (bgp_route.c; RFC 8326 section 4).
    let preference = |path: &Value| path.get("locPrf").and_then(Value::as_u64);
    assert_eq!(preference(&paths(&link, BLOCKS[0])[0]), Some(0), "{:?}", paths(&link, BLOCKS[0]));
    assert!(is_established(&link.neighbor("tor1")));

    await_paths(&link, "withdrawn at FRR", <[Value]>::is_empty);
    // The session lives on for packets on their way, and what the node itself sends goes on.
    assert!(is_established(&link.neighbor("tor1")), "{:?}", shown(&link, ""));
    assert_eq!(times_established(&link.neighbor("tor1")), 1);
    link.await_route("4.4.4.4/32");

    await_state(&link, "drained");
    assert_eq!(steps(&link), STEPS);
    let log = link.frr().log();
    assert!(log.contains("received from neighbor c1 6/2 (Cease/Administrative Shutdown)"), "{log}");
    let neighbor = link.frr_neighbor("c1");
    let last = |key: &str| neighbor.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(last("lastShutdownDescription"), words, "{neighbor}");
    // What FRR was told stays what is shown, whoever drains it again.
    let again = |more: &[&str]| link.agent().bgpctl(&[&["drain", "--background"], more].concat()).unwrap();
    assert_eq!(again(&[]), "the node is drained already\n");
    let said = again(&["--message", "a fan"]);
    assert_eq!(said, format!("the node is drained already; neighbors were told {words:?}, not \"a fan\"\n"));
    assert_eq!(shown(&link, "/node/message"), Some(words.into()));

    // Routes go with the session, blackholes do not, and no session comes by itself.
    link.await_no_route("4.4.4.4/32");
    for block in BLOCKS {
        assert_eq!(link.await_route(block).action, Action::Blackhole);
    }
    let down = link.neighbor("tor1");
    assert_eq!(
        down.get("waiting_for").and_then(Value::as_str),
        Some("the end of its drain (bgpctl undrain)")
    );

    let refusal = link.agent().bgpctl(&["neighbor", "tor1", "clear"]).unwrap_err().to_string();
    assert!(refusal.contains("neighbor tor1 is drained"), "{refusal}");

    // A crash does not bring it back.
    link.restart_agent();
    assert_eq!(steps(&link), ["drained"]);
    link.await_neighbor("tor1", "a router is there", |neighbor| {
        neighbor.get("discovered_router").is_some_and(Value::is_string)
    });
    assert_eq!(times_established(&link.neighbor("tor1")), 0);

    link.agent().bgpctl(&["undrain"]).unwrap();
    link.await_established("tor1");
    await_paths(&link, "plain at FRR again", |paths| paths.iter().any(is_plain));
    link.await_route("4.4.4.4/32");
    eventually(
        "the node serves",
        PATIENCE,
        || Ok((shown(&link, "/node") == Some(Value::Null)).then_some(())),
    )
    .unwrap();
    assert!(link.agent().bgpctl(&["undrain"]).unwrap_err().to_string().contains("nothing is drained"));
}

#[test]
fn a_drain_taken_back_in_time_leaves_clean_routes_and_the_session_it_had() {
    let Some(link) = Link::up("undrain", &unnumbered_conf(), UNNUMBERED) else { return };
    await_paths(&link, "at FRR", |paths| paths.iter().any(is_plain));
    for what in ["", "--neighbor"] {
        let name: &[&str] = if what.is_empty() { &[] } else { &[what, "tor1"] };
        link.agent().bgpctl(&[&["drain", "--background"], name].concat()).unwrap();
        await_paths(&link, "marked at FRR", |paths| paths.iter().any(is_marked));
        // A reload in between changes nothing about it.
        let drained = shown(&link, "").map(|drain| (drain.get("node").is_some_and(Value::is_object), drain));
        link.agent().write_config(&config("[[neighbor]]\ninterface = \"tor*\"\n", &BLOCKS)).unwrap();
        link.agent().bgpctl(&["reload"]).unwrap();
        assert_eq!(drained.map(|(node, _)| node), Some(what.is_empty()));
        assert!(paths(&link, BLOCKS[0]).iter().all(is_marked));

        link.agent().bgpctl(&[&["undrain"], name].concat()).unwrap();
        await_paths(&link, "plain at FRR again", |paths| paths.iter().any(is_plain));
        assert_eq!(times_established(&link.neighbor("tor1")), 1, "{}", link.agent().log());
    }
}

#[test]
fn a_drain_with_stop_ends_the_daemon_and_leaves_its_blackholes() {
    let Some(mut link) = Link::up("drainstop", &unnumbered_conf(), UNNUMBERED) else { return };
    await_paths(&link, "at FRR", |paths| paths.iter().any(is_plain));
    let said = link.agent().bgpctl(&["drain", "--wait", "0s", "--stop"]).unwrap();
    let status = link.agent_mut().await_end(Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{status}");
    for step in ["marking", "withdrawing", "ending", "The daemon has ended."] {
        assert!(said.contains(step), "{said}");
    }
    let log = link.frr().log();
    assert!(log.contains("received from neighbor c1 6/2 (Cease/Administrative Shutdown)"), "{log}");
    link.await_no_route("4.4.4.4/32");
    for block in BLOCKS {
        assert_eq!(link.await_route(block).action, Action::Blackhole);
    }
    // Who is started again is back.
    link.restart_agent();
    link.await_established("tor1");
    await_paths(&link, "plain at FRR again", |paths| paths.iter().any(is_plain));
}

#[test]
fn bird_sees_the_same() {
    let Some(mut link) = bird_up("birddrain") else { return };
    let (bird, _) = link.bird();
    let route = format!("show route for {} all", BLOCKS[0]);
    let wait_for = |bird: &lab::Bird, what: &str, wanted: &dyn Fn(&str) -> bool| {
        let shown = eventually(what, PATIENCE, || {
            // It fails where there is no such route.
            let text = bird.birdc(&route).unwrap_or_else(|error| error.to_string());
            Ok(wanted(&text).then_some(()))
        });
        shown.unwrap_or_else(|error| panic!("{error}: {:?}", bird.birdc(&route)));
    };
    wait_for(bird, "a plain route at BIRD", &|text| text.contains("BGP.as_path: 65001\n"));
    link.agent().bgpctl(&["drain", "--message", "moved to rack 12", "--background"]).unwrap();
    let (bird, _) = link.bird();
    wait_for(bird, "a marked route at BIRD", &|text| {
        text.contains("BGP.as_path: 65001 65001 65001 65001") && text.contains("(65535,0)")
    });
    wait_for(bird, "no route at BIRD", &|text| !text.contains("BGP.as_path"));
    eventually("the message at BIRD", PATIENCE, || {
        let text = bird.birdc("show protocols all c1")?;
        Ok(text.contains("Administrative shutdown").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", bird.birdc("show protocols all c1")));
    let log = std::fs::read_to_string(link.scratch.directory("bird").unwrap().join("bird.log")).unwrap();
    assert!(log.contains("moved to rack 12"), "{log}");
    await_state(&link, "drained");
    assert_eq!(steps(&link), STEPS);
}
