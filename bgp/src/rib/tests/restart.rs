//! A neighbor that restarts (RFC 4724 section 4.2): what stays of it, and what the FIB hears of that.

use std::collections::BTreeMap;

use crate::message::Update;
use crate::policy::Role;
use crate::rib::fixtures::{
    LOCAL_AS, external, fib, from_peer, gateways, originate, prefix, reach, rib, settle, withdraw,
};
use crate::rib::{Freshness, PathStatus, PeerConfig, PeerSession, Rib};
use crate::{Asn, Families, Family, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);
const ROUTES: [&str; 4] = ["0.0.0.0/0", "20.0.0.0/8", "::/0", "2001:db8::/32"];

fn only(family: Family) -> Families {
    Families::from_iter([family])
}

/// Two ToRs that both announce everything, and a FIB that has it.
fn two_tors() -> Rib {
    let mut rib = rib(Role::Host, 2);
    for number in [1, 2] {
        announce(&mut rib, PeerId(number), &ROUTES);
        end_of_rib(&mut rib, PeerId(number));
    }
    assert_eq!(fib(&mut rib).len(), ROUTES.len());
    rib
}

fn announce(rib: &mut Rib, peer: PeerId, prefixes: &[&str]) {
    rib.receive(peer, reach(&from_peer(peer.0, &[]), prefixes));
}

fn end_of_rib(rib: &mut Rib, peer: PeerId) {
    for family in Family::ALL {
        rib.receive(peer, Update { end_of_rib: Some(family), ..Update::default() });
    }
}

fn stale(rib: &Rib, peer: PeerId) -> Vec<String> {
    let received = rib.received(peer, None, 100).items.into_iter();
    let stale = received.filter(|route| route.path.freshness == Freshness::Stale);
    stale.map(|route| route.prefix.to_string()).collect()
}

#[test]
fn a_restart_that_changes_nothing_tells_the_fib_nothing() {
    let mut rib = two_tors();
    rib.session_lost(ONE, Families::ALL);
    assert_eq!(fib(&mut rib), BTreeMap::new());
    assert_eq!(stale(&rib, ONE), ROUTES);
    assert_eq!(rib.counts(ONE, Family::Ipv4Unicast).unwrap().stale, 2);
    let view = rib.destination(prefix(ROUTES[0])).unwrap();
    let mut standings: Vec<_> = view.paths.iter().map(|path| (path.status, path.freshness)).collect();
    standings.sort_by_key(|(_, freshness)| *freshness == Freshness::Stale);
    // Not differentiated from the fresh one: it is even the best.
    assert_eq!(standings, [(PathStatus::Multipath, Freshness::Fresh), (PathStatus::Best, Freshness::Stale)]);

    rib.session_up(ONE, external(1));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    announce(&mut rib, ONE, &ROUTES[..2]);
    assert_eq!(stale(&rib, ONE), ROUTES[2..]);
    announce(&mut rib, ONE, &ROUTES[2..]);
    end_of_rib(&mut rib, ONE);
    assert_eq!(fib(&mut rib), BTreeMap::new());
    assert_eq!(stale(&rib, ONE), [""; 0]);
    assert_eq!(rib.counts(ONE, Family::Ipv4Unicast).unwrap().received, 2);
}

#[test]
fn what_is_not_said_again_goes_with_end_of_rib_of_its_family() {
    let mut rib = two_tors();
    rib.session_lost(ONE, Families::ALL);
    rib.session_up(ONE, external(1));
    announce(&mut rib, ONE, &ROUTES[..1]);
    rib.receive(ONE, Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() });
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix(ROUTES[1]), gateways(&[2]))]));
    assert_eq!(stale(&rib, ONE), ROUTES[2..]);
    // IPv6 never comes.
    rib.forget_stale(ONE);
    assert_eq!(fib(&mut rib).len(), 2);
    assert_eq!(rib.received(ONE, None, 100).items.len(), 1);
}

#[test]
fn families_that_the_peer_lost_go_at_once() {
    let ipv6 = only(Family::Ipv6Unicast);
    // As it ends, or as the peer is back.
    for (kept, session) in [
        (ipv6, external(1)),
        (Families::ALL, PeerSession { preserved: ipv6, ..external(1) }),
        (Families::ALL, PeerSession { families: ipv6, ..external(1) }),
    ] {
        let mut rib = two_tors();
        rib.session_lost(ONE, kept);
        rib.session_up(ONE, session);
        let expected = ROUTES[..2].iter().map(|text| (prefix(text), gateways(&[2])));
        assert_eq!(fib(&mut rib), expected.collect());
        assert_eq!(stale(&rib, ONE), ROUTES[2..]);
    }
}

#[test]
fn an_echo_of_a_session_that_was_lost_proves_nothing() {
    let mut rib = two_tors();
    let block = "10.1.8.192/26";
    originate(&mut rib, &[block]);
    let echo = |rib: &mut Rib| rib.receive(ONE, reach(&from_peer(1, &[LOCAL_AS.0]), &[block]));
    echo(&mut rib);
    assert_eq!(rib.echoes(prefix(block)), [ONE]);
    rib.session_lost(ONE, Families::ALL);
    assert_eq!(rib.echoes(prefix(block)), []);
    rib.session_up(ONE, external(1));
    assert_eq!(rib.echoes(prefix(block)), [], "kept, and not said again yet");
    echo(&mut rib);
    assert_eq!(rib.echoes(prefix(block)), [ONE]);
}

#[test]
fn another_router_at_the_other_end_is_no_restart() {
    let mut rib = two_tors();
    rib.session_lost(ONE, Families::ALL);
    rib.session_up(ONE, PeerSession { asn: Asn(65199), ..external(1) });
    assert_eq!(fib(&mut rib).len(), ROUTES.len());
    assert_eq!(rib.received(ONE, None, 100).items, []);
}

#[test]
fn a_second_loss_before_end_of_rib_takes_what_was_stale() {
    let mut rib = two_tors();
    rib.session_lost(ONE, Families::ALL);
    rib.session_up(ONE, external(1));
    announce(&mut rib, ONE, &ROUTES[..1]);
    rib.session_lost(ONE, Families::ALL);
    assert_eq!(fib(&mut rib).len(), 3);
    assert_eq!(stale(&rib, ONE), ROUTES[..1]);
}

#[test]
fn a_peer_that_does_not_come_back_is_forgotten() {
    let forget: [fn(&mut Rib); 3] =
        [|rib| rib.forget_stale(ONE), |rib| rib.session_down(ONE), |rib| rib.remove_peer(ONE)];
    for forget in forget {
        let mut rib = two_tors();
        rib.session_lost(ONE, Families::ALL);
        forget(&mut rib);
        let expected = ROUTES.iter().map(|text| (prefix(text), gateways(&[2])));
        assert_eq!(fib(&mut rib), expected.collect());
        assert_eq!(rib.totals().paths, ROUTES.len());
    }
}

#[test]
fn what_becomes_ours_meanwhile_is_not_believed_any_more() {
    let mut rib = two_tors();
    rib.session_lost(ONE, Families::ALL);
    originate(&mut rib, &["20.0.0.0/8"]);
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), None)]));
    assert_eq!(stale(&rib, ONE).len(), ROUTES.len(), "it is remembered as refused");
    // Nor does a peer without a session say anything.
    announce(&mut rib, ONE, &["30.0.0.0/8"]);
    rib.receive(ONE, withdraw(&ROUTES));
    assert_eq!(fib(&mut rib), BTreeMap::new());
}

/// Stale paths count for the limit; what found no room for them is asked for again once they are gone.
#[test]
fn a_table_that_changed_over_the_restart_gets_its_room() {
    let mut rib = rib(Role::Host, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(2));
    announce(&mut rib, ONE, &["20.0.0.0/8", "21.0.0.0/8"]);
    settle(&mut rib);
    rib.session_lost(ONE, Families::ALL);
    rib.session_up(ONE, external(1));
    announce(&mut rib, ONE, &["22.0.0.0/8", "23.0.0.0/8"]);
    end_of_rib(&mut rib, ONE);
    settle(&mut rib);
    assert_eq!(rib.take_refresh_wanted(ONE), only(Family::Ipv4Unicast));
    announce(&mut rib, ONE, &["22.0.0.0/8", "23.0.0.0/8"]);
    settle(&mut rib);
    let received: Vec<_> = rib.received(ONE, None, 10).items.into_iter().map(|route| route.prefix).collect();
    assert_eq!(received, [prefix("22.0.0.0/8"), prefix("23.0.0.0/8")]);
}

#[test]
fn the_adj_rib_out_begins_anew_with_the_next_session() {
    let mut rib = two_tors();
    originate(&mut rib, &["10.1.8.192/26"]);
    settle(&mut rib);
    rib.poll_outgoing(ONE, 100);
    rib.session_lost(ONE, Families::ALL);
    settle(&mut rib);
    assert!(!rib.has_outgoing(ONE) && rib.advertised(ONE, None, 10).items.is_empty());
    rib.session_up(ONE, external(1));
    settle(&mut rib);
    // The block, and End-of-RIB twice, at once: nothing of ours waits for the peer's routes.
    assert_eq!(rib.poll_outgoing(ONE, 100).len(), 3);
    assert!(!rib.has_outgoing(TWO) || rib.poll_outgoing(TWO, 100).len() == 1);
}
