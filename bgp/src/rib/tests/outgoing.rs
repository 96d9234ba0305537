//! What neighbors are told: packing, supersession, markers, refreshes.

use crate::message::{Attributes, Outgoing, RefreshKind};
use crate::policy::Role;
use crate::rib::fixtures::{
    Held, LOCAL_AS, config, external, from_peer, originate, path, prefix, reach, rib, session, settle,
    withdraw,
};
use crate::rib::{PeerConfig, PeerSession, Rib, ToPeer};
use crate::{Families, Family, PeerId, PeerKind};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);
const V4: Family = Family::Ipv4Unicast;
const V6: Family = Family::Ipv6Unicast;

fn poll(rib: &mut Rib, peer: PeerId, limit: usize) -> Vec<ToPeer> {
    settle(rib);
    rib.poll_outgoing(peer, limit)
}

/// All that a peer is to be told, in rounds.
fn drain(rib: &mut Rib, peer: PeerId, held: &mut Held) {
    settle(rib);
    while rib.has_outgoing(peer) {
        held.take(rib.poll_outgoing(peer, 2));
        settle(rib);
    }
    assert_eq!(rib.poll_outgoing(peer, 10), []);
}

fn fresh(session: PeerSession) -> Rib {
    let mut rib = Rib::new(config(Role::Host));
    rib.configure_peer(ONE, PeerConfig::limited_to(10));
    originate(&mut rib, &["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
    rib.session_up(ONE, session);
    rib
}

#[test]
fn a_host_tells_what_it_originates_then_end_of_rib() {
    let mut rib = fresh(external(1));
    let messages = poll(&mut rib, ONE, 100);
    let [
        ToPeer::Update(Outgoing::Reach { attributes, prefixes: ipv4 }),
        ToPeer::Update(Outgoing::Reach { prefixes: ipv6, .. }),
        ToPeer::Update(Outgoing::EndOfRib(V4)),
        ToPeer::Update(Outgoing::EndOfRib(V6)),
    ] = messages.as_slice()
    else {
        panic!("{messages:#?}");
    };
    assert_eq!(
        (ipv4.as_slice(), ipv6.as_slice()),
        ([prefix("1.1.1.1/32"), prefix("10.1.8.192/26")].as_slice(), [prefix("fd00:8::/64")].as_slice())
    );
    assert_eq!(attributes.as_path, path(&[LOCAL_AS.0]));
    assert_eq!(Some(attributes.next_hop), external(1).next_hop_ipv4);
    assert!(!rib.has_outgoing(ONE));
}

#[test]
fn end_of_rib_waits_for_the_last_prefix_and_comes_once() {
    let mut rib = fresh(external(1));
    settle(&mut rib);
    for _ in 0..2 {
        let messages = rib.poll_outgoing(ONE, 1);
        assert!(
            matches!(
                messages.as_slice(),
                [ToPeer::Update(Outgoing::Reach { .. })] | [_, ToPeer::Update(Outgoing::EndOfRib(V4))]
            ),
            "{messages:?}"
        );
    }
    let messages = rib.poll_outgoing(ONE, 1);
    assert!(matches!(messages.as_slice(), [_, ToPeer::Update(Outgoing::EndOfRib(V6))]), "{messages:?}");
    originate(&mut rib, &["1.1.1.1/32"]);
    let mut held = Held::default();
    for text in ["10.1.8.192/26", "fd00:8::/64"] {
        held.routes.insert(prefix(text), Attributes::originated().into());
    }
    drain(&mut rib, ONE, &mut held);
    assert_eq!((held.end_of_rib, held.routes.len()), (vec![], 0));
}

#[test]
fn end_of_rib_comes_also_with_nothing_to_say() {
    let mut rib = Rib::new(config(Role::Host));
    rib.configure_peer(ONE, PeerConfig::limited_to(10));
    rib.session_up(ONE, PeerSession { families: Families::from_iter([V6]), ..external(1) });
    assert_eq!(poll(&mut rib, ONE, 10), [ToPeer::Update(Outgoing::EndOfRib(V6))]);
}

#[test]
fn a_family_without_a_next_hop_is_not_advertised_but_closed() {
    let mut rib = fresh(PeerSession { next_hop_ipv4: None, ..external(1) });
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.prefixes(), ["fd00:8::/64"]);
    assert_eq!(held.end_of_rib, [V4, V6]);
}

#[test]
fn an_internal_peer_gets_an_empty_path_and_a_preference() {
    let mut rib = fresh(session(1, PeerKind::Internal));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    let told = held.routes.get(&prefix("1.1.1.1/32")).unwrap();
    assert_eq!((told.as_path.length(), told.local_pref), (0, Some(100)));
}

#[test]
fn a_host_is_not_transit() {
    let mut rib = rib(Role::Host, 2);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["0.0.0.0/0", "20.0.0.0/8"]));
    assert_eq!(poll(&mut rib, TWO, 10), []);
    assert_eq!(poll(&mut rib, ONE, 10), []);
}

#[test]
fn a_tor_tells_others_but_not_the_one_it_learned_from() {
    let mut rib = rib(Role::Transit, 3);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    assert_eq!(poll(&mut rib, ONE, 10), []);
    let mut held = Held::default();
    drain(&mut rib, TWO, &mut held);
    assert_eq!(held.routes.get(&prefix("20.0.0.0/8")).unwrap().as_path, path(&[LOCAL_AS.0, 65101]));
    // The best path moves to two: now it is one who hears of it, and two who loses it.
    rib.receive(TWO, reach(&Attributes { as_path: path(&[65102]), ..from_peer(2, &[]) }, &["20.0.0.0/8"]));
    rib.receive(ONE, reach(&from_peer(1, &[65200]), &["20.0.0.0/8"]));
    drain(&mut rib, TWO, &mut held);
    assert_eq!(held.prefixes(), Vec::<String>::new());
    let mut at_one = Held::default();
    drain(&mut rib, ONE, &mut at_one);
    assert_eq!(at_one.prefixes(), ["20.0.0.0/8"]);
}

#[test]
fn prefixes_with_equal_attributes_travel_together_and_withdrawals_go_first() {
    let mut rib = rib(Role::Transit, 2);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["30.0.0.0/8", "31.0.0.0/8"]));
    let mut held = Held::default();
    drain(&mut rib, TWO, &mut held);
    rib.receive(ONE, reach(&from_peer(1, &[7]), &["20.0.0.0/8", "22.0.0.0/8"]));
    rib.receive(ONE, reach(&from_peer(1, &[8]), &["21.0.0.0/8", "2001:db8::/32"]));
    rib.receive(ONE, withdraw(&["30.0.0.0/8", "31.0.0.0/8"]));
    let messages = poll(&mut rib, TWO, 100);
    let mut summary: Vec<(&str, Vec<String>)> = messages
        .iter()
        .map(|message| match message {
            ToPeer::Update(Outgoing::Unreach { prefixes }) => ("-", prefixes),
            ToPeer::Update(Outgoing::Reach { prefixes, .. }) => ("+", prefixes),
            other => panic!("{other:?}"),
        })
        .map(|(sign, prefixes)| (sign, prefixes.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(summary.remove(0), ("-", vec!["30.0.0.0/8".to_owned(), "31.0.0.0/8".to_owned()]));
    // Which group comes first depends on where the last round ended.
    summary.sort();
    let expected: [(&str, &[&str]); 3] =
        [("+", &["20.0.0.0/8", "22.0.0.0/8"]), ("+", &["2001:db8::/32"]), ("+", &["21.0.0.0/8"])];
    assert_eq!(
        summary,
        expected.map(|(sign, prefixes)| (sign, prefixes.iter().map(ToString::to_string).collect()))
    );
}

#[test]
fn superseded_changes_are_never_told() {
    let mut rib = rib(Role::Host, 1);
    originate(&mut rib, &["10.1.8.192/26"]);
    settle(&mut rib);
    assert!(rib.has_outgoing(ONE));
    originate(&mut rib, &[]);
    settle(&mut rib);
    assert!(!rib.has_outgoing(ONE));
    let mut rib = self::rib(Role::Transit, 2);
    for hop in 0..10 {
        rib.receive(ONE, reach(&from_peer(1, &[hop]), &["20.0.0.0/8"]));
        settle(&mut rib);
    }
    let messages = poll(&mut rib, TWO, 100);
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[test]
fn a_refresh_is_answered_with_everything_between_its_brackets() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    held.fresh.clear();
    rib.refresh_requested(ONE, V4);
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.fresh, [prefix("1.1.1.1/32"), prefix("10.1.8.192/26")]);
    assert_eq!(held.refreshes, [(V4, RefreshKind::Begin), (V4, RefreshKind::End)]);
    assert_eq!((held.routes.len(), held.end_of_rib.len()), (3, 2));
}

#[test]
fn a_refresh_without_rfc_7313_is_the_routes_alone() {
    let mut rib = fresh(PeerSession { enhanced_route_refresh: false, ..external(1) });
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    held.fresh.clear();
    rib.refresh_requested(ONE, V6);
    drain(&mut rib, ONE, &mut held);
    assert_eq!((held.fresh, held.refreshes), (vec![prefix("fd00:8::/64")], vec![]));
}

#[test]
fn a_refresh_asked_for_during_the_first_announcement_comes_after_end_of_rib() {
    let mut rib = fresh(external(1));
    rib.refresh_requested(ONE, V4);
    rib.refresh_requested(ONE, V4);
    let messages = poll(&mut rib, ONE, 100);
    assert!(messages.iter().all(|message| matches!(message, ToPeer::Update(_))), "{messages:?}");
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.refreshes, [(V4, RefreshKind::Begin), (V4, RefreshKind::End)]);
    assert_eq!(held.fresh.len(), 2);
}

/// Requests are not queued: however many come while one is answered, one more answer covers them all.
#[test]
fn a_storm_of_refreshes_is_answered_twice() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    held.fresh.clear();
    for _ in 0..1000 {
        rib.refresh_requested(ONE, V4);
    }
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.fresh, [prefix("1.1.1.1/32"), prefix("10.1.8.192/26")]);
    assert_eq!(held.refreshes, [(V4, RefreshKind::Begin), (V4, RefreshKind::End)].repeat(2));
    assert!(!rib.has_outgoing(ONE) && !rib.is_dirty());
}

#[test]
fn a_route_that_goes_while_a_refresh_is_answered_is_withdrawn() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    rib.refresh_requested(ONE, V4);
    settle(&mut rib);
    held.take(rib.poll_outgoing(ONE, 1));
    originate(&mut rib, &["fd00:8::/64"]);
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.prefixes(), ["fd00:8::/64"]);
}

#[test]
fn a_route_that_goes_and_comes_back_behind_the_walk_of_a_refresh_is_told_again() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    rib.refresh_requested(ONE, V4);
    originate(&mut rib, &["10.1.8.192/26", "fd00:8::/64"]);
    settle(&mut rib);
    originate(&mut rib, &["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.prefixes(), ["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
}

/// The same, with the answer complete before the RIB came to decide on the change.
#[test]
fn a_route_that_was_about_to_go_during_a_refresh_is_told_again() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    originate(&mut rib, &[]);
    rib.refresh_requested(ONE, V6);
    for _ in 0..3 {
        rib.process(2);
        held.take(rib.poll_outgoing(ONE, 10));
    }
    originate(&mut rib, &["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
    drain(&mut rib, ONE, &mut held);
    assert_eq!(held.prefixes(), ["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
}

#[test]
fn a_new_session_is_told_everything_again() {
    let mut rib = fresh(external(1));
    let mut held = Held::default();
    drain(&mut rib, ONE, &mut held);
    rib.session_down(ONE);
    assert!(!rib.has_outgoing(ONE));
    rib.session_up(ONE, external(1));
    let mut again = Held::default();
    drain(&mut rib, ONE, &mut again);
    assert_eq!((again.prefixes(), again.end_of_rib), (held.prefixes(), vec![V4, V6]));
}
