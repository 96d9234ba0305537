//! From UPDATEs to FIB changes: limits, echoes, refreshes, supersession.

use std::collections::BTreeMap;

use crate::message::{Attributes, Community, Update};
use crate::policy::{Refusal, Role};
use crate::rib::fixtures::{
    LOCAL_AS, external, fib, from_peer, gateways, originate, prefix, reach, rib, settle, withdraw,
};
use crate::rib::{FamilyCounts, PathStatus, PeerConfig, PeerSession, ReceivedView, Rib, Ripeness, Totals};
use crate::{Families, Family, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);
const V4: Family = Family::Ipv4Unicast;

fn counts(rib: &Rib, peer: PeerId) -> FamilyCounts {
    rib.counts(peer, V4).unwrap()
}

#[test]
fn equal_paths_of_two_tors_become_one_route_with_two_next_hops() {
    let mut rib = rib(Role::Host, 2);
    for number in [1, 2] {
        rib.receive(PeerId(number), reach(&from_peer(number, &[]), &["0.0.0.0/0", "::/0"]));
    }
    let both = gateways(&[1, 2]);
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), both.clone()), (prefix("::/0"), both)]));
    rib.receive(ONE, withdraw(&["0.0.0.0/0"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), gateways(&[2]))]));
    rib.receive(TWO, withdraw(&["0.0.0.0/0"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), None)]));
}

#[test]
fn two_sessions_to_one_router_are_one_next_hop() {
    let mut rib = rib(Role::Host, 2);
    rib.session_up(TWO, external(1));
    for peer in [ONE, TWO] {
        rib.receive(peer, reach(&from_peer(1, &[]), &["0.0.0.0/0"]));
    }
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), gateways(&[1]))]));
}

#[test]
fn a_new_route_is_settled_when_every_neighbor_has_spoken_of_it() {
    let mut rib = rib(Role::Host, 2);
    let settled = |rib: &mut Rib| {
        settle(rib);
        let changes = rib.poll_fib(10, Ripeness::Settled).into_iter();
        changes.map(|change| (change.prefix.to_string(), change.gateways)).collect::<Vec<_>>()
    };
    let all = ["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8"];
    rib.receive(ONE, reach(&from_peer(1, &[]), &all));
    assert_eq!(settled(&mut rib), []);
    rib.receive(TWO, reach(&from_peer(2, &[]), &all[..1]));
    assert_eq!(settled(&mut rib), [(all[0].to_owned(), gateways(&[1, 2]))]);
    // What the FIB has is changed at once, and what it has not is given when it is asked for.
    rib.receive(ONE, withdraw(&all[..1]));
    assert_eq!(settled(&mut rib), [(all[0].to_owned(), gateways(&[2]))]);
    assert!(!rib.has_fib_changes(Ripeness::Settled) && rib.has_fib_changes(Ripeness::Any));
    assert_eq!(rib.poll_fib(1, Ripeness::Any).len(), 1);
    // A neighbor without a session says nothing that could be waited for.
    rib.session_down(TWO);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["23.0.0.0/8"]));
    assert!(settled(&mut rib).contains(&("23.0.0.0/8".to_owned(), gateways(&[1]))));
}

#[test]
fn a_change_that_is_taken_back_is_never_given() {
    let mut rib = rib(Role::Host, 2);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    settle(&mut rib);
    assert!(rib.has_fib_changes(Ripeness::Any));
    rib.receive(ONE, withdraw(&["20.0.0.0/8"]));
    settle(&mut rib);
    assert!(!rib.has_fib_changes(Ripeness::Any));
    assert_eq!(rib.poll_fib(10, Ripeness::Any), []);

    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    assert_eq!(fib(&mut rib).len(), 1);
    rib.receive(ONE, withdraw(&["20.0.0.0/8"]));
    settle(&mut rib);
    rib.receive(ONE, reach(&from_peer(1, &[65200]), &["20.0.0.0/8"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
}

#[test]
fn a_prefix_withdrawn_and_announced_in_one_update_is_reachable() {
    let mut rib = rib(Role::Host, 1);
    let update =
        Update { withdrawn: vec![prefix("20.0.0.0/8")], ..reach(&from_peer(1, &[]), &["20.0.0.0/8"]) };
    rib.receive(ONE, update.clone());
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), gateways(&[1]))]));
    rib.receive(ONE, update);
    assert_eq!(fib(&mut rib), BTreeMap::new());
}

#[test]
fn a_route_that_originates_here_is_not_for_the_fib() {
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["10.1.8.192/26", "10.1.8.200/32"]));
    assert_eq!(fib(&mut rib).len(), 2);
    originate(&mut rib, &["10.1.8.192/26"]);
    let gone = BTreeMap::from([(prefix("10.1.8.192/26"), None), (prefix("10.1.8.200/32"), None)]);
    assert_eq!(fib(&mut rib), gone);
    assert_eq!(counts(&rib, ONE).refused, BTreeMap::from([(Refusal::OwnPrefix, 2)]));
    originate(&mut rib, &[]);
    assert_eq!(fib(&mut rib).len(), 2);
    assert_eq!(counts(&rib, ONE).refused, BTreeMap::new());
    assert_eq!(counts(&rib, ONE).refused_total, BTreeMap::from([(Refusal::OwnPrefix, 2)]));
}

#[test]
fn our_own_route_that_comes_back_is_an_echo() {
    let mut rib = rib(Role::Host, 2);
    originate(&mut rib, &["10.1.8.192/26"]);
    let looped = from_peer(1, &[LOCAL_AS.0]);
    rib.receive(ONE, reach(&looped, &["10.1.8.192/26", "20.0.0.0/8"]));
    settle(&mut rib);
    assert_eq!(rib.echoes(prefix("10.1.8.192/26")), [ONE]);
    assert_eq!(rib.echoes(prefix("20.0.0.0/8")), []);
    let expected = FamilyCounts {
        received: 2,
        echoes: 1,
        refused: BTreeMap::from([(Refusal::AsLoop, 1)]),
        refused_total: BTreeMap::from([(Refusal::AsLoop, 1)]),
        advertised: 0,
        pending: 1,
        ..FamilyCounts::default()
    };
    assert_eq!(counts(&rib, ONE), expected);
    // No longer ours: what is left of it is a loop.
    originate(&mut rib, &[]);
    settle(&mut rib);
    assert_eq!(rib.echoes(prefix("10.1.8.192/26")), []);
    assert_eq!(counts(&rib, ONE).refused, BTreeMap::from([(Refusal::AsLoop, 2)]));
    rib.session_down(ONE);
    originate(&mut rib, &["10.1.8.192/26"]);
    assert_eq!(rib.echoes(prefix("10.1.8.192/26")), []);
}

/// A path is judged anew when a network around it begins or ceases to originate here; a default route is around
/// nothing.
#[test]
fn what_originates_here_decides_anew_over_what_is_inside() {
    let refused = |rib: &Rib| counts(rib, ONE).refused.get(&Refusal::OwnPrefix).copied().unwrap_or(0);
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "30.0.0.0/8"]));
    settle(&mut rib);
    for (own, expected) in [
        (&["20.0.0.0/8"][..], 2),
        (&["20.1.0.0/16"], 1),
        (&["0.0.0.0/0"], 1),
        (&["0.0.0.0/0", "20.0.0.0/8", "30.0.0.0/8"], 4),
        (&[], 0),
    ] {
        originate(&mut rib, own);
        assert_eq!(refused(&rib), expected, "{own:?}");
        settle(&mut rib);
        assert_eq!(counts(&rib, ONE).accepted, 4 - expected, "{own:?}");
    }
}

/// Another network of a link is gone through in turns, for all neighbors; what is not inside it is left alone.
#[test]
fn what_a_link_is_in_is_not_learned() {
    let connect = |rib: &mut Rib, networks: &[&str]| {
        rib.set_connected(networks.iter().copied().map(prefix).collect());
    };
    let refused = |rib: &Rib, peer| counts(rib, peer).refused.get(&Refusal::Connected).copied().unwrap_or(0);
    let mut rib = rib(Role::Host, 2);
    connect(&mut rib, &["20.1.0.0/16"]);
    let all = ["0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "20.1.2.0/24", "20.2.0.0/16", "30.0.0.0/8"];
    for number in [1, 2] {
        rib.receive(PeerId(number), reach(&from_peer(number, &[]), &all));
    }
    assert_eq!(fib(&mut rib).len(), 4, "what is inside is refused at once");
    for (networks, expected) in [
        (&["20.0.0.0/8", "20.1.0.0/16"][..], 4),
        (&["20.1.2.0/25"], 0),
        (&["0.0.0.0/0"], 0),
        (&["30.0.0.0/8", "20.2.0.0/16"], 2),
        (&[], 0),
    ] {
        let before = refused(&rib, ONE);
        connect(&mut rib, networks);
        assert_eq!(refused(&rib, ONE), before, "not in this turn");
        settle(&mut rib);
        assert_eq!((refused(&rib, ONE), refused(&rib, TWO)), (expected, expected), "{networks:?}");
    }
    let changed: Vec<_> =
        fib(&mut rib).into_iter().map(|(prefix, gateways)| (prefix.to_string(), gateways)).collect();
    let back = |text: &str| (text.to_owned(), gateways(&[1, 2]));
    assert_eq!(changed, [back("20.1.0.0/16"), back("20.1.2.0/24")], "the others are as they were");
}

#[test]
fn a_drained_path_loses_against_any_other() {
    let mut rib = rib(Role::Host, 2);
    let draining = Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..from_peer(1, &[]) };
    rib.receive(ONE, reach(&draining, &["0.0.0.0/0"]));
    rib.receive(TWO, reach(&from_peer(2, &[65200, 65300]), &["0.0.0.0/0"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), gateways(&[2]))]));
    let [ReceivedView { path, .. }] = rib.received(ONE, None, 10).items.try_into().unwrap();
    assert_eq!((path.received.local_pref, path.imported.unwrap().local_pref), (None, Some(0)));
}

#[test]
fn what_is_over_the_limit_is_counted_until_it_is_withdrawn_or_sent_again() {
    let mut rib = rib(Role::Host, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(1));
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8", "23.0.0.0/8"]));
    assert_eq!(counts(&rib, ONE).over_limit, 3);
    rib.receive(ONE, withdraw(&["23.0.0.0/8", "20.0.0.0/8"]));
    assert_eq!((counts(&rib, ONE).over_limit, counts(&rib, ONE).received), (2, 0));
    rib.refresh_began(ONE, V4);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["21.0.0.0/8", "22.0.0.0/8"]));
    rib.refresh_ended(ONE, V4);
    assert_eq!((counts(&rib, ONE).over_limit, counts(&rib, ONE).received), (1, 1));
    rib.session_down(ONE);
    assert_eq!(counts(&rib, ONE).over_limit, 0);
}

#[test]
fn over_the_limit_what_is_there_stays_and_a_refresh_is_wanted_when_there_is_room() {
    let mut rib = rib(Role::Host, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(2));
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8", "2001:db8::/32"]));
    let routes: Vec<_> = fib(&mut rib).into_keys().collect();
    assert_eq!(routes, [prefix("20.0.0.0/8"), prefix("21.0.0.0/8"), prefix("2001:db8::/32")]);
    let expected = FamilyCounts {
        received: 2,
        accepted: 2,
        over_limit: 1,
        refused_total: BTreeMap::from([(Refusal::Limit, 1)]),
        ..FamilyCounts::default()
    };
    assert_eq!(counts(&rib, ONE), expected);
    // What is there may change.
    rib.receive(ONE, reach(&from_peer(1, &[65200]), &["20.0.0.0/8", "22.0.0.0/8"]));
    assert_eq!(counts(&rib, ONE).accepted, 2);
    assert_eq!(rib.take_refresh_wanted(ONE), Families::NONE);
    rib.receive(ONE, withdraw(&["21.0.0.0/8"]));
    assert_eq!(rib.take_refresh_wanted(ONE), Families::from_iter([V4]));
    assert_eq!(rib.take_refresh_wanted(ONE), Families::NONE);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["22.0.0.0/8", "23.0.0.0/8"]));
    rib.configure_peer(ONE, PeerConfig::limited_to(3));
    assert_eq!(rib.take_refresh_wanted(ONE), Families::from_iter([V4]));
    // A lower limit takes nothing away.
    rib.configure_peer(ONE, PeerConfig::limited_to(0));
    settle(&mut rib);
    assert_eq!(counts(&rib, ONE).accepted, 2);
}

#[test]
fn attributes_refused_for_the_limit_are_freed() {
    let mut rib = rib(Role::Host, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(0));
    for number in 0..1000 {
        rib.receive(ONE, reach(&from_peer(1, &[number]), &["20.0.0.0/8"]));
        rib.process(1);
    }
    settle(&mut rib);
    let Totals { destinations: prefixes, attributes, .. } = rib.totals();
    assert!(prefixes == 0 && attributes < 10, "{prefixes} prefixes, {attributes} attributes");
}

#[test]
fn what_a_refresh_does_not_repeat_goes_at_its_end() {
    let mut rib = rib(Role::Host, 1);
    let attributes = from_peer(1, &[]);
    rib.receive(ONE, reach(&attributes, &["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8", "2001:db8::/32"]));
    assert_eq!(fib(&mut rib).len(), 4);
    // Without BoRR, EoRR means nothing.
    rib.refresh_ended(ONE, V4);
    assert_eq!(fib(&mut rib).len(), 0);
    rib.refresh_began(ONE, V4);
    rib.receive(ONE, reach(&attributes, &["20.0.0.0/8"]));
    rib.receive(ONE, reach(&from_peer(1, &[65200]), &["21.0.0.0/8"]));
    assert_eq!(fib(&mut rib).len(), 0);
    rib.refresh_ended(ONE, V4);
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("22.0.0.0/8"), None)]));
    assert_eq!(counts(&rib, ONE).accepted, 2);
    assert_eq!(rib.counts(ONE, Family::Ipv6Unicast).unwrap().accepted, 1);
}

#[test]
fn a_second_begin_makes_everything_stale_again() {
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8"]));
    assert_eq!(fib(&mut rib).len(), 2);
    rib.refresh_began(ONE, V4);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    rib.refresh_began(ONE, V4);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["21.0.0.0/8"]));
    rib.refresh_ended(ONE, V4);
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), None)]));
}

#[test]
fn a_session_that_ends_takes_its_paths_along_even_when_it_is_back_before_the_sweep() {
    let mut rib = rib(Role::Host, 2);
    let all = ["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8"];
    rib.receive(ONE, reach(&from_peer(1, &[]), &all));
    rib.receive(TWO, reach(&from_peer(2, &[]), &all[..1]));
    assert_eq!(fib(&mut rib).len(), 3);
    rib.session_down(ONE);
    assert_eq!(counts(&rib, ONE).accepted, 0);
    rib.session_up(ONE, external(1));
    rib.receive(ONE, reach(&from_peer(1, &[]), &all[1..2]));
    assert_eq!(counts(&rib, ONE).accepted, 1);
    let expected = BTreeMap::from([(prefix("20.0.0.0/8"), gateways(&[2])), (prefix("22.0.0.0/8"), None)]);
    assert_eq!(fib(&mut rib), expected);
    assert_eq!(counts(&rib, ONE).received, 1);
}

#[test]
fn dead_paths_are_swept_in_turns() {
    let mut rib = rib(Role::Host, 1);
    let all: Vec<String> = (0..100).map(|n| format!("20.0.{n}.0/24")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    rib.receive(ONE, reach(&from_peer(1, &[]), &all));
    assert_eq!(fib(&mut rib).len(), 100);
    rib.session_down(ONE);
    let mut turns = 0;
    while rib.process(10) {
        turns += 1;
        assert!(rib.poll_fib(1000, Ripeness::Any).len() <= 10);
    }
    assert!(turns >= 9, "{turns}");
    assert_eq!(rib.totals().destinations, rib.poll_fib(1000, Ripeness::Any).len());
}

#[test]
fn a_removed_neighbor_leaves_nothing_also_when_its_name_is_used_again() {
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8"]));
    assert_eq!(fib(&mut rib).len(), 2);
    rib.remove_peer(ONE);
    assert_eq!(rib.counts(ONE, V4), None);
    rib.configure_peer(ONE, PeerConfig::limited_to(10));
    rib.session_up(ONE, external(1));
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("21.0.0.0/8"), None)]));
    assert_eq!(counts(&rib, ONE).received, 1);
}

#[test]
fn end_of_rib_counts_when_it_came_for_every_family_that_flows() {
    let mut rib = rib(Role::Host, 1);
    let marker = |family| Update { end_of_rib: Some(family), ..Update::default() };
    assert!(!rib.end_of_rib_received(ONE));
    rib.receive(ONE, marker(V4));
    assert!(!rib.end_of_rib_received(ONE));
    rib.receive(ONE, marker(Family::Ipv6Unicast));
    assert!(rib.end_of_rib_received(ONE));
    rib.session_down(ONE);
    assert!(!rib.end_of_rib_received(ONE));
    rib.session_up(ONE, PeerSession { families: Families::from_iter([V4]), ..external(1) });
    assert!(!rib.end_of_rib_received(ONE));
    rib.receive(ONE, marker(V4));
    assert!(rib.end_of_rib_received(ONE));
}

#[test]
fn nothing_comes_in_without_a_session_or_for_a_family_that_does_not_flow() {
    let mut rib = rib(Role::Host, 1);
    rib.session_up(ONE, PeerSession { families: Families::from_iter([V4]), ..external(1) });
    rib.receive(ONE, reach(&from_peer(1, &[]), &["2001:db8::/32"]));
    rib.receive(PeerId(9), reach(&from_peer(9, &[]), &["20.0.0.0/8"]));
    rib.session_down(ONE);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    assert_eq!(rib.totals().destinations, 0);
}

#[test]
fn a_refused_path_is_shown_but_not_used() {
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["169.254.0.0/16"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    let [ReceivedView { path, .. }] = rib.received(ONE, None, 10).items.try_into().unwrap();
    assert_eq!((path.status, path.imported), (PathStatus::Refused(Refusal::Martian), None));
    rib.receive(ONE, withdraw(&["169.254.0.0/16"]));
    settle(&mut rib);
    assert_eq!(rib.totals().destinations, 0);
}
