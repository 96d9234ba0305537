//! What an operator does to one neighbor from either end: refresh and clear.

use serde_json::Value;

use lab::eventually;

use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, is_established, times_established, unnumbered_conf, watch_routes,
};

fn count(neighbor: &Value, pointer: &str) -> u64 {
    neighbor.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}: {neighbor}"))
}

/// What the kernel was told of our routes: events that name the agent's protocol.
fn flaps(events: &str) -> Vec<&str> {
    events.lines().filter(|line| line.contains("proto bgp")).collect()
}

#[test]
fn a_refresh_brings_everything_again_and_the_kernel_sees_nothing_of_it() {
    let Some(link) = Link::up("refresh", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let before = link.neighbor("tor1");
    let watch = watch_routes(&link.node, &link.scratch);
    link.agent().bgpctl(&["neighbor", "tor1", "refresh"]).unwrap();
    // FRR brackets each family's answer with BoRR and EoRR (RFC 7313).
    let after = link.await_neighbor("tor1", "two bracketed answers", |neighbor| {
        let pointer = "/messages/received/route_refresh";
        count(neighbor, pointer) >= count(&before, pointer) + 4
    });
    let events = watch.stop(&link.node);
    assert_eq!(flaps(&events), Vec::<&str>::new(), "{events}");
    assert!(count(&after, "/messages/received/update") >= count(&before, "/messages/received/update") + 2);
    // A request for each family, and our own routes again between BoRR and EoRR.
    assert_eq!(
        count(&after, "/messages/sent/route_refresh"),
        count(&before, "/messages/sent/route_refresh") + 6
    );
    let log = link.agent().log();
    assert_eq!(times_established(&after), times_established(&before), "log of the agent:\n{log}");
    for prefix in ["4.4.4.4/32", "fd00::4/128"] {
        link.await_route(prefix);
    }
}

#[test]
fn a_tor_that_asks_for_a_refresh_gets_everything_again() {
    let Some(link) = Link::up("softin", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let before = link.frr_neighbor("c1");
    for family in ["ipv4", "ipv6"] {
        link.frr().vtysh(&format!("clear bgp {family} unicast c1 soft in")).unwrap();
    }
    // BoRR and EoRR for each family, and two routes of each between them.
    let after = eventually("two bracketed answers", PATIENCE, || {
        let neighbor = link.frr_neighbor("c1");
        let received = count(&neighbor, "/messageStats/routeRefreshRecv");
        Ok((received >= count(&before, "/messageStats/routeRefreshRecv") + 4).then_some(neighbor))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", link.frr_neighbor("c1")));
    let updates = |neighbor: &Value| count(neighbor, "/messageStats/updatesRecv");
    assert!(updates(&after) >= updates(&before) + 2, "{after}");
    let sessions = |neighbor: &Value| count(neighbor, "/connectionsEstablished");
    assert_eq!(sessions(&after), sessions(&before), "log of the agent:\n{}", link.agent().log());
    let neighbor = link.neighbor("tor1");
    assert_eq!(count(&neighbor, "/messages/received/route_refresh"), 2, "{neighbor}");
    // What FRR did not hear again between BoRR and EoRR it would have dropped by now.
    link.await_at_frr(&["1.1.1.1/32", "fd00::1/128", BLOCKS[0], BLOCKS[1]]);
}

#[test]
fn a_cleared_session_ends_with_a_notification_and_comes_back() {
    let Some(link) = Link::up("clear", &unnumbered_conf(), UNNUMBERED) else { return };
    link.agent().bgpctl(&["neighbor", "tor1", "clear"]).unwrap();
    let neighbor = link.await_neighbor("tor1", "a second session", |neighbor| {
        times_established(neighbor) == 2 && is_established(neighbor)
    });
    let log = link.frr().log();
    assert!(log.contains("received from neighbor c1 6/4 (Cease/Administrative Reset)"), "{log}");
    assert!(is_established(&neighbor));
    link.await_route("4.4.4.4/32");
    link.await_at_frr(&BLOCKS);
}

#[test]
fn a_tor_that_clears_the_session_is_quoted_and_comes_back() {
    let Some(link) = Link::up("cleared", &unnumbered_conf(), UNNUMBERED) else { return };
    link.frr().vtysh("clear bgp c1").unwrap();
    let neighbor = link.await_neighbor("tor1", "a second session", |neighbor| {
        times_established(neighbor) == 2 && is_established(neighbor)
    });
    assert_eq!(count(&neighbor, "/last_notification/code"), 6, "{neighbor}");
    link.await_route("4.4.4.4/32");
}
