//! Policies of neighbors: what they let through, and what becomes of a change while routes are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::{Attributes, Community, LargeCommunity, Outgoing};
use crate::policy::{
    Action, Changes, Conditions, Decider, Policy, PrefixList, Refusal, Role, Rule, Transit, Withheld,
};
use crate::rib::fixtures::{
    Held, LOCAL_AS, fib, from_peer, gateways, originate, originate_with, path, prefix, reach, rib, settle,
};
use crate::rib::{PathStatus, PeerConfig, Rib, ToPeer};
use crate::{Asn, Family, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);

fn rule(ranges: &[&str], changes: Changes, action: Option<Action>) -> Rule {
    let ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
    let prefixes = vec![Arc::new(PrefixList::new(None, ranges))];
    Rule { conditions: Conditions { prefixes, ..Conditions::default() }, changes, action }
}

fn policy(rules: Vec<Rule>) -> Option<Arc<Policy>> {
    Some(Arc::new(Policy { name: "test".to_owned(), rules, default: Action::Reject }))
}

fn accept(ranges: &[&str]) -> Option<Arc<Policy>> {
    policy(vec![rule(ranges, Changes::default(), Some(Action::Accept))])
}

fn import(rib: &mut Rib, peer: PeerId, import: Option<Arc<Policy>>) {
    rib.configure_peer(peer, PeerConfig { import, ..PeerConfig::limited_to(1000) });
}

fn transit(rib: &mut Rib, peer: PeerId, export: Option<Arc<Policy>>) {
    rib.configure_peer(
        peer,
        PeerConfig { transit: Transit::Allowed, export, ..PeerConfig::limited_to(1000) },
    );
}

fn told(rib: &mut Rib, peer: PeerId) -> Vec<ToPeer> {
    settle(rib);
    rib.poll_outgoing(peer, usize::MAX)
}

#[test]
fn another_import_policy_is_applied_without_the_neighbor_and_touches_nothing_that_stays() {
    let mut rib = rib(Role::Host, 1);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["0.0.0.0/0", "20.0.0.0/8", "127.0.0.0/8"]));
    fib(&mut rib);
    import(&mut rib, ONE, accept(&["0.0.0.0/0"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), None)]));
    let counts = rib.counts(ONE, Family::Ipv4Unicast).unwrap();
    assert_eq!((counts.received, counts.accepted), (3, 1));
    assert_eq!(counts.refused, BTreeMap::from([(Refusal::Policy, 1), (Refusal::Martian, 1)]));
    // It opens nothing that the guard has closed.
    import(&mut rib, ONE, accept(&["0.0.0.0/0 le 32"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), gateways(&[1]))]));
    // The same by another rule.
    import(&mut rib, ONE, accept(&["0.0.0.0/0", "20.0.0.0/8"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    import(&mut rib, ONE, None);
    assert_eq!(fib(&mut rib), BTreeMap::new());
}

#[test]
fn import_policy_decides_which_neighbor_is_best_and_what_was_received_stays() {
    let mut rib = rib(Role::Host, 2);
    for number in [1, 2] {
        rib.receive(PeerId(number), reach(&from_peer(number, &[]), &["0.0.0.0/0", "20.0.0.0/8"]));
    }
    fib(&mut rib);
    let prefer = Changes { local_pref: Some(200), ..Changes::default() };
    let rules = vec![
        rule(&["20.0.0.0/8"], prefer, None),
        rule(&["0.0.0.0/0 le 32"], Changes::default(), Some(Action::Accept)),
    ];
    import(&mut rib, ONE, policy(rules));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), gateways(&[1]))]));
    let page = rib.received(ONE, None, 10).items;
    let rows: Vec<_> = page
        .iter()
        .map(|route| {
            let imported = route.path.imported.as_ref().unwrap();
            let (_, ruling) = route.ruling.as_ref().unwrap();
            (route.path.received.local_pref, imported.local_pref, ruling.matched.clone(), ruling.decided_by)
        })
        .collect();
    assert_eq!(rows, [(None, None, vec![1], Decider::Rule), (None, Some(200), vec![0, 1], Decider::Rule)]);
    assert!(Arc::ptr_eq(page[0].path.imported.as_ref().unwrap(), &page[0].path.received));
    let view = rib.policies(ONE).unwrap().import.unwrap();
    assert_eq!((view.hits.rules, view.hits.default), (vec![1, 2], 0));
    assert_eq!(rib.received(TWO, None, 1).items[0].ruling, None, "no policy");
}

#[test]
fn a_path_that_policy_rejects_says_so_and_by_which_rule() {
    let mut rib = rib(Role::Host, 1);
    let rules = vec![
        rule(&["20.0.0.0/8"], Changes::default(), Some(Action::Reject)),
        rule(&["21.0.0.0/8"], Changes::default(), Some(Action::Accept)),
    ];
    import(&mut rib, ONE, policy(rules));
    settle(&mut rib);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8", "22.0.0.0/8", "127.0.0.0/8"]));
    settle(&mut rib);
    let rows: Vec<_> = rib
        .received(ONE, None, 10)
        .items
        .into_iter()
        .map(|route| (route.path.status, route.ruling.map(|(_, ruling)| (ruling.matched, ruling.decided_by))))
        .collect();
    let refused = PathStatus::Refused(Refusal::Policy);
    assert_eq!(
        rows,
        [
            (refused, Some((vec![0], Decider::Rule))),
            (PathStatus::Best, Some((vec![1], Decider::Rule))),
            (refused, Some((vec![], Decider::Default))),
            (PathStatus::Refused(Refusal::Martian), None),
        ]
    );
    let view = rib.policies(ONE).unwrap();
    assert_eq!(view.refused_total, BTreeMap::from([(Refusal::Martian, 1), (Refusal::Policy, 2)]));
    let import = view.import.unwrap();
    assert_eq!((import.hits.rules, import.hits.default), (vec![1, 1], 1));
}

#[test]
fn counters_begin_anew_with_another_policy_and_stay_with_the_same() {
    let mut rib = rib(Role::Host, 1);
    import(&mut rib, ONE, accept(&["20.0.0.0/8"]));
    settle(&mut rib);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    settle(&mut rib);
    let hits = |rib: &Rib| rib.policies(ONE).unwrap().import.unwrap().hits.rules;
    import(&mut rib, ONE, accept(&["20.0.0.0/8"]));
    assert!(!rib.is_dirty());
    assert_eq!(hits(&rib), [1]);
    import(&mut rib, ONE, accept(&["20.0.0.0/8", "21.0.0.0/8"]));
    assert_eq!(hits(&rib), [0]);
    settle(&mut rib);
    assert_eq!(hits(&rib), [1]);
}

#[test]
fn a_change_of_policy_is_done_when_the_neighbors_were_handed_what_follows() {
    let mut rib = rib(Role::Host, 1);
    originate(&mut rib, &["30.0.0.0/8"]);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"]));
    told(&mut rib, ONE);
    settle(&mut rib);
    assert!(rib.is_at_rest());
    import(&mut rib, ONE, accept(&["0.0.0.0/0"]));
    assert!(!rib.is_at_rest(), "not judged yet");
    settle(&mut rib);
    assert!(rib.is_at_rest());
    let export = accept(&["31.0.0.0/8"]);
    rib.configure_peer(ONE, PeerConfig { export, ..PeerConfig::limited_to(1000) });
    settle(&mut rib);
    assert!(!rib.is_dirty() && !rib.is_at_rest(), "not told yet");
    told(&mut rib, ONE);
    settle(&mut rib);
    assert!(rib.is_at_rest());
}

#[test]
fn many_paths_with_the_same_attributes_share_what_policy_makes_of_them() {
    let mut rib = rib(Role::Host, 1);
    let changes = Changes { med: Some(5), ..Changes::default() };
    import(&mut rib, ONE, policy(vec![rule(&["20.0.0.0/8 le 24"], changes, Some(Action::Accept))]));
    let texts: Vec<String> = (0..200).map(|number| format!("20.{number}.0.0/16")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let before = rib.totals().attributes;
    rib.receive(ONE, reach(&from_peer(1, &[]), &texts));
    settle(&mut rib);
    assert_eq!(rib.totals().attributes - before, 2);
}

#[test]
fn a_change_of_policy_is_worked_off_in_turns_that_a_long_policy_makes_shorter() {
    let mut rib = rib(Role::Host, 1);
    let texts: Vec<String> = (0..100).map(|number| format!("20.{number}.0.0/16")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    rib.receive(ONE, reach(&from_peer(1, &[]), &texts));
    settle(&mut rib);
    let turns = |rib: &mut Rib, rules: usize| {
        let never = rule(&["30.0.0.0/8"], Changes::default(), Some(Action::Accept));
        let mut rules = vec![never; rules];
        rules.push(rule(&["20.0.0.0/8 le 16"], Changes::default(), Some(Action::Accept)));
        import(rib, ONE, policy(rules));
        (1..).find(|_| !rib.process(10)).unwrap()
    };
    let short = turns(&mut rib, 0);
    assert!((10..=15).contains(&short), "{short}");
    let long = turns(&mut rib, 160);
    assert!(long >= 100, "{long}");
    assert_eq!(fib(&mut rib).len(), 100);
}

#[test]
fn export_policy_takes_away_and_changes_what_originates_here() {
    let mut rib = rib(Role::Host, 1);
    originate(&mut rib, &["10.1.8.192/26", "1.1.1.1/32", "fd00:8::/64"]);
    let mut held = Held::default();
    held.take(told(&mut rib, ONE));
    let tag = Community(0xfde9_0001);
    let changes = Changes {
        communities: crate::policy::Edit::Adjust { remove: vec![], add: vec![tag] },
        med: Some(7),
        prepends: 2,
        ..Changes::default()
    };
    let rules = vec![
        rule(&["10.1.8.192/26"], changes, Some(Action::Accept)),
        rule(&["1.1.1.1/32"], Changes::default(), Some(Action::Accept)),
    ];
    let export = PeerConfig { export: policy(rules), ..PeerConfig::limited_to(1000) };
    rib.configure_peer(ONE, export);
    let messages = told(&mut rib, ONE);
    let [
        ToPeer::Update(Outgoing::Unreach { prefixes: gone }),
        ToPeer::Update(Outgoing::Reach { attributes, prefixes: changed }),
    ] = messages.as_slice()
    else {
        panic!("what comes out the same is not told again: {messages:#?}");
    };
    assert_eq!(
        (gone.as_slice(), changed.as_slice()),
        ([prefix("fd00:8::/64")].as_slice(), [prefix("10.1.8.192/26")].as_slice())
    );
    assert_eq!((attributes.as_path.clone(), attributes.med), (path(&[LOCAL_AS.0; 3]), Some(7)));
    assert_eq!(*attributes.communities, [tag]);
    held.take(messages);
    let view = rib.policies(ONE).unwrap();
    let withheld: BTreeMap<_, _> = view.withheld_total.iter().collect();
    assert_eq!((withheld[&Withheld::Policy], withheld[&Withheld::Learned]), (1, 0));
    assert_eq!(view.export.unwrap().hits.rules, [1, 1]);
    rib.configure_peer(ONE, PeerConfig::limited_to(1000));
    held.take(told(&mut rib, ONE));
    assert_eq!(held.prefixes(), ["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"]);
    assert!(held.routes.values().all(|attributes| attributes.med.is_none()));
}

#[test]
fn export_policy_sees_the_community_of_what_originates_here_and_may_change_it() {
    let mut rib = rib(Role::Host, 1);
    let mut held = Held::default();
    originate_with(&mut rib, "65001:100", &["10.1.9.5/32", "10.1.9.6/32"]);
    held.take(told(&mut rib, ONE));
    let community = Community(0xfde9_0064);
    assert_eq!(held.prefixes(), ["10.1.9.5/32", "10.1.9.6/32"]);
    assert!(held.routes.values().all(|attributes| *attributes.communities == [community]));

    // Rules can ask for it, and take it away.
    let edit = crate::policy::Edit::Adjust { remove: vec![community], add: vec![Community(7)] };
    let tagged = Conditions { communities: vec![community], ..Conditions::default() };
    let rule = Rule {
        conditions: tagged,
        changes: Changes { communities: edit, ..Changes::default() },
        action: Some(Action::Accept),
    };
    rib.configure_peer(ONE, PeerConfig { export: policy(vec![rule]), ..PeerConfig::limited_to(1000) });
    held.take(told(&mut rib, ONE));
    assert_eq!(held.prefixes(), ["10.1.9.5/32", "10.1.9.6/32"]);
    assert!(held.routes.values().all(|attributes| *attributes.communities == [Community(7)]));

    // One of another kind is another route to the same place, and not what the rule asks for.
    originate_with(&mut rib, "65001:1:100", &["10.1.9.5/32", "10.1.9.6/32"]);
    held.take(told(&mut rib, ONE));
    assert_eq!(held.prefixes(), Vec::<String>::new());
    rib.configure_peer(ONE, PeerConfig::limited_to(1000));
    held.take(told(&mut rib, ONE));
    let large = LargeCommunity { global: 65001, local1: 1, local2: 100 };
    assert_eq!(held.prefixes(), ["10.1.9.5/32", "10.1.9.6/32"]);
    for attributes in held.routes.values() {
        assert_eq!((&*attributes.communities, &*attributes.large_communities), (&[][..], &[large][..]));
    }
    originate(&mut rib, &["10.1.9.6/32"]);
    held.take(told(&mut rib, ONE));
    assert_eq!(held.prefixes(), ["10.1.9.6/32"]);
    assert!(held.routes.values().all(|attributes| attributes.large_communities.is_empty()));
}

#[test]
fn no_export_policy_makes_a_host_transit() {
    let mut rib = rib(Role::Host, 2);
    originate(&mut rib, &["10.1.8.192/26"]);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["0.0.0.0/0", "20.0.0.0/8"]));
    let all = accept(&["0.0.0.0/0 le 32"]);
    rib.configure_peer(TWO, PeerConfig { export: all, ..PeerConfig::limited_to(1000) });
    let mut held = Held::default();
    held.take(told(&mut rib, TWO));
    assert_eq!(held.prefixes(), ["10.1.8.192/26"]);
    let withheld: BTreeMap<_, _> = rib.policies(TWO).unwrap().withheld_total.iter().collect();
    assert!(withheld[&Withheld::Learned] >= 2);
}

#[test]
fn transit_that_is_allowed_goes_by_export_policy_and_can_be_taken_back() {
    let mut rib = rib(Role::Host, 2);
    originate(&mut rib, &["10.1.8.192/26"]);
    let learned = Attributes { med: Some(3), ..from_peer(1, &[65200]) };
    rib.receive(ONE, reach(&learned, &["0.0.0.0/0", "20.0.0.0/8", "21.0.0.0/8"]));
    let mut held = Held::default();
    held.take(told(&mut rib, TWO));
    transit(&mut rib, TWO, accept(&["10.0.0.0/8 le 32", "20.0.0.0/8"]));
    held.take(told(&mut rib, TWO));
    assert_eq!(held.prefixes(), ["10.1.8.192/26", "20.0.0.0/8"]);
    let attributes = &held.routes[&prefix("20.0.0.0/8")];
    assert_eq!(attributes.as_path, path(&[LOCAL_AS.0, 65101, 65200]));
    // RFC 4271 section 5.1.4.
    assert_eq!(attributes.med, None);
    assert_eq!(told(&mut rib, ONE).iter().filter(|message| matches!(message, ToPeer::Update(Outgoing::Reach { prefixes, .. }) if prefixes.len() > 1)).count(), 0);
    transit(&mut rib, TWO, accept(&["10.0.0.0/8 le 32", "21.0.0.0/8"]));
    held.take(told(&mut rib, TWO));
    assert_eq!(held.prefixes(), ["10.1.8.192/26", "21.0.0.0/8"]);
    rib.configure_peer(TWO, PeerConfig::limited_to(1000));
    held.take(told(&mut rib, TWO));
    assert_eq!(held.prefixes(), ["10.1.8.192/26"]);
    // A session that comes up meanwhile gets what is allowed then.
    transit(&mut rib, TWO, accept(&["20.0.0.0/8"]));
    rib.session_down(TWO);
    rib.session_up(TWO, crate::rib::fixtures::external(2));
    let mut held = Held::default();
    held.take(told(&mut rib, TWO));
    assert_eq!((held.prefixes(), held.end_of_rib.len()), (vec!["20.0.0.0/8".to_owned()], 2));
}

#[test]
fn own_as_is_allowed_as_often_as_the_neighbor_says() {
    let mut rib = rib(Role::Host, 1);
    originate(&mut rib, &["10.1.8.192/26"]);
    let once = from_peer(1, &[LOCAL_AS.0]);
    let twice = from_peer(1, &[LOCAL_AS.0, LOCAL_AS.0]);
    rib.receive(ONE, reach(&once, &["20.0.0.0/8", "10.1.8.192/26", "10.1.8.192/27"]));
    rib.receive(ONE, reach(&twice, &["21.0.0.0/8"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    rib.configure_peer(ONE, PeerConfig { allowed_own_as: 1, ..PeerConfig::limited_to(1000) });
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), gateways(&[1]))]));
    let counts = rib.counts(ONE, Family::Ipv4Unicast).unwrap();
    assert_eq!(counts.refused, BTreeMap::from([(Refusal::AsLoop, 1), (Refusal::OwnPrefix, 1)]));
    assert_eq!(counts.echoes, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(1000));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("20.0.0.0/8"), None)]));
}

#[test]
fn a_tor_in_maintenance_is_the_last_choice_whatever_policy_prefers() {
    let mut rib = rib(Role::Host, 2);
    let prefer = Changes { local_pref: Some(200), ..Changes::default() };
    import(&mut rib, ONE, policy(vec![rule(&["0.0.0.0/0"], prefer, Some(Action::Accept))]));
    for number in [1, 2] {
        rib.receive(PeerId(number), reach(&from_peer(number, &[]), &["0.0.0.0/0"]));
    }
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), gateways(&[1]))]));
    let leaving = Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..from_peer(1, &[]) };
    rib.receive(ONE, reach(&leaving, &["0.0.0.0/0"]));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix("0.0.0.0/0"), gateways(&[2]))]));
}

#[test]
fn prepending_on_the_way_in_is_by_the_neighbors_as() {
    let mut rib = rib(Role::Host, 1);
    let longer = Changes { prepends: 2, ..Changes::default() };
    import(&mut rib, ONE, policy(vec![rule(&["0.0.0.0/0"], longer, Some(Action::Accept))]));
    rib.receive(ONE, reach(&from_peer(1, &[65200]), &["0.0.0.0/0"]));
    settle(&mut rib);
    let [route] = rib.received(ONE, None, 10).items.try_into().unwrap();
    assert_eq!(route.path.imported.unwrap().as_path, path(&[65101, 65101, 65101, 65200]));
    assert_eq!(route.path.received.as_path.origin_as(), Some(Asn(65200)));
}
