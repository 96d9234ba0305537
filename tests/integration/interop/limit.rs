//! A ToR that sends more than `max-prefixes`.

use std::fmt::Write as _;

use serde_json::Value;

use super::fixture::{BLOCKS, Link, UNNUMBERED, config, times_established, tor_conf_with};

const LIMIT: usize = 20;
const ANNOUNCED: usize = 50;

fn networks() -> Vec<String> {
    (0..ANNOUNCED).map(|number| format!("100.64.{number}.0/24")).collect()
}

fn pointer(neighbor: &Value, pointer: &str) -> Option<u64> {
    neighbor.pointer(pointer).and_then(Value::as_u64)
}

fn accepted(neighbor: &Value) -> Option<u64> {
    pointer(neighbor, "/prefixes_by_family/ipv4-unicast/accepted")
}

fn over(neighbor: &Value) -> Option<u64> {
    pointer(neighbor, "/refused/over max-prefixes")
}

#[test]
fn what_is_over_the_limit_is_refused_and_asked_for_when_there_is_room() {
    let networks = networks();
    let names: Vec<_> = networks.iter().map(String::as_str).collect();
    let conf = tor_conf_with("c1", " neighbor c1 interface remote-as external", &names);
    let Some(mut link) = Link::lay("limit", lab::Requirement::Frr) else { return };
    link.start_frr(&conf);
    link.start_agent(&format!("{UNNUMBERED}max-prefixes = {LIMIT}\n"));
    // FRR sends the node's own two routes of the family back to it: what is kept of those counts too.
    let neighbor = link.await_neighbor("tor1", "20 routes kept and 32 refused", |neighbor| {
        let kept = pointer(neighbor, "/prefixes_by_family/ipv4-unicast/received");
        (kept, over(neighbor)) == (Some(20), Some(32))
    });
    let taken = accepted(&neighbor).unwrap();
    assert!((18..=20).contains(&taken), "{neighbor}");
    assert_eq!(times_established(&neighbor), 1, "the session stays");
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1"]).unwrap();
    assert!(text.contains("32 over max-prefixes"), "{text}");
    link.await_routes("what was taken in the kernel", |routes| {
        let have = routes.iter().filter(|route| names.contains(&route.prefix.to_string().as_str()));
        u64::try_from(have.count()).ok() == Some(taken)
    });
    let warnings =
        |log: &str| log.lines().filter(|line| line.contains("more routes than max-prefixes")).count();
    assert_eq!(warnings(&link.agent().log()), 1, "{}", link.agent().log());

    // Forty of the fifty go: ten are left, whichever those are, and all of them fit.
    let mut lines = "router bgp 65004\naddress-family ipv4 unicast\n".to_owned();
    for network in &networks[..40] {
        writeln!(lines, "no network {network}").unwrap();
    }
    link.frr().configure(&lines).unwrap();
    let neighbor = link.await_neighbor("tor1", "the ten that are left", |neighbor| {
        // Where all ten were taken in before, the request comes after the last change.
        let asked = pointer(neighbor, "/messages/sent/route_refresh") >= Some(1);
        accepted(neighbor) == Some(10) && over(neighbor).is_none() && asked
    });
    assert_eq!(times_established(&neighbor), 1, "the session stays");
    link.await_routes("ten routes in the kernel", |routes| {
        let left = &names[40..];
        let have = routes.iter().filter(|route| names.contains(&route.prefix.to_string().as_str()));
        let have: Vec<_> = have.map(|route| route.prefix.to_string()).collect();
        have.len() == left.len() && left.iter().all(|name| have.iter().any(|one| one == name))
    });
    assert_eq!(warnings(&link.agent().log()), 1, "{}", link.agent().log());
}

#[test]
fn a_higher_limit_is_filled_without_a_new_session() {
    let networks = networks();
    let names: Vec<_> = networks.iter().map(String::as_str).collect();
    let conf = tor_conf_with("c1", " neighbor c1 interface remote-as external", &names);
    let Some(mut link) = Link::lay("raise", lab::Requirement::Frr) else { return };
    link.start_frr(&conf);
    link.start_agent(&format!("{UNNUMBERED}max-prefixes = {LIMIT}\n"));
    link.await_neighbor("tor1", "some routes refused", |neighbor| over(neighbor) == Some(32));
    let higher = config(&format!("{UNNUMBERED}max-prefixes = 100\n"), &BLOCKS);
    link.agent().write_config(&higher).unwrap();
    let said = link.agent().bgpctl(&["reload"]).unwrap();
    assert!(said.contains("max-prefixes is 100"), "{said}");
    let neighbor = link.await_neighbor("tor1", "all routes", |neighbor| {
        accepted(neighbor) == Some(50) && over(neighbor).is_none()
    });
    assert_eq!(times_established(&neighbor), 1, "the session stays");
}

#[test]
fn a_limit_that_is_almost_reached_is_told_once_and_again_after_it_was_not() {
    // The two routes of the node that come back from FRR count as well: 42 of 50.
    let networks = networks();
    let names: Vec<_> = networks[..40].iter().map(String::as_str).collect();
    let conf = tor_conf_with("c1", " neighbor c1 interface remote-as external", &names);
    let Some(mut link) = Link::lay("almost", lab::Requirement::Frr) else { return };
    link.start_frr(&conf);
    link.start_agent(&format!("{UNNUMBERED}max-prefixes = 50\n"));
    let await_kept = |kept: u64| {
        link.await_neighbor("tor1", &format!("{kept} routes kept"), |neighbor| {
            let received = pointer(neighbor, "/prefixes_by_family/ipv4-unicast/received");
            received == Some(kept) && over(neighbor).is_none()
        })
    };
    let warnings = || {
        let log = link.agent().log();
        log.lines().filter(|line| line.contains("almost as many routes as max-prefixes")).count()
    };
    let change = |word: &str, networks: &[String]| {
        let lines: String = networks.iter().map(|network| format!("{word}network {network}\n")).collect();
        link.frr().configure(&format!("router bgp 65004\naddress-family ipv4 unicast\n{lines}")).unwrap();
    };
    await_kept(42);
    assert_eq!(warnings(), 1, "{}", link.agent().log());
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1"]).unwrap();
    assert!(text.contains("42 of 50 IPv4 unicast (84 %)"), "{text}");
    // 76 percent is not yet well below.
    change("no ", &networks[36..40]);
    await_kept(38);
    change("", &networks[36..40]);
    await_kept(42);
    assert_eq!(warnings(), 1, "{}", link.agent().log());
    change("no ", &networks[30..40]);
    await_kept(32);
    change("", &networks[30..40]);
    await_kept(42);
    assert_eq!(warnings(), 2, "{}", link.agent().log());
    assert!(!link.agent().log().contains("more routes than max-prefixes"), "{}", link.agent().log());
}
