//! The last default route: what the configuration does not take, and what takes it all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::Update;
use crate::policy::{Action, Changes, Conditions, Policy, PrefixList, Role, Rule};
use crate::rib::fixtures::{
    external, fib, from_peer, gateway, gateways, originate, prefix, reach, rib, settle, withdraw,
};
use crate::rib::{LostLink, PeerConfig, PeerSession, Rib};
use crate::{Families, Family, InterfaceIndex, PeerId, Prefix};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);
/// A neighbor that is made anew has another identity.
const ONE_AGAIN: PeerId = PeerId(11);
const DEFAULTS: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Lets the default routes through only where it is asked to.
fn all_but_defaults() -> PeerConfig {
    let ranges = DEFAULTS.iter().map(|text| text.parse().unwrap()).collect();
    let rule = Rule {
        conditions: Conditions {
            prefixes: vec![Arc::new(PrefixList::new(None, ranges))],
            ..Conditions::default()
        },
        changes: Changes::default(),
        action: Some(Action::Reject),
    };
    let policy = Policy { name: "test".to_owned(), rules: vec![rule], default: Action::Accept };
    PeerConfig { import: Some(Arc::new(policy)), ..open() }
}

fn open() -> PeerConfig {
    PeerConfig::limited_to(1000)
}

/// Peers that give both default routes and one other, which the FIB has.
fn given_by(peers: u32) -> Rib {
    let mut rib = rib(Role::Host, peers);
    for number in 1..=peers {
        let everything = [DEFAULTS[0], DEFAULTS[1], "20.0.0.0/8"];
        rib.receive(PeerId(number), reach(&from_peer(number, &[]), &everything));
        end(&mut rib, PeerId(number));
    }
    fib(&mut rib);
    rib
}

fn end(rib: &mut Rib, peer: PeerId) {
    for family in Family::ALL {
        rib.receive(peer, Update { end_of_rib: Some(family), ..Update::default() });
    }
}

fn kept(rib: &Rib) -> Vec<String> {
    rib.kept_defaults().keys().map(ToString::to_string).collect()
}

/// What the FIB is told of default routes.
fn told(rib: &mut Rib) -> BTreeMap<Prefix, Option<crate::rib::Gateways>> {
    let mut changes = fib(rib);
    changes.retain(|prefix, _| prefix.is_default());
    changes
}

fn gone() -> BTreeMap<Prefix, Option<crate::rib::Gateways>> {
    DEFAULTS.map(|text| (prefix(text), None)).into()
}

#[test]
fn a_policy_does_not_take_the_last_default_route() {
    let mut rib = given_by(1);
    rib.configure_peer(ONE, all_but_defaults());
    assert_eq!((told(&mut rib), kept(&rib)), (BTreeMap::new(), DEFAULTS.map(str::to_owned).to_vec()));
    assert_eq!(rib.kept_defaults()[&prefix("0.0.0.0/0")], gateways(&[1]).unwrap());
    // It is the FIB's alone: nobody has a path.
    assert!(
        rib.destination(prefix("0.0.0.0/0"))
            .is_none_or(|view| view.paths.iter().all(|path| path.imported.is_none()))
    );
    rib.configure_peer(ONE, open());
    assert_eq!((told(&mut rib), kept(&rib)), (BTreeMap::new(), vec![]));
}

#[test]
fn a_default_route_that_another_neighbor_gives_is_not_kept() {
    let mut rib = given_by(2);
    rib.configure_peer(ONE, all_but_defaults());
    let over_two = DEFAULTS.map(|text| (prefix(text), gateways(&[2])));
    assert_eq!((told(&mut rib), kept(&rib)), (over_two.into(), vec![]));
    rib.deconfigure_peer(TWO);
    assert_eq!((told(&mut rib), kept(&rib).len()), (BTreeMap::new(), 2));
    // The first one has it back, and gives what is then used.
    rib.configure_peer(ONE, open());
    let over_one = DEFAULTS.map(|text| (prefix(text), gateways(&[1])));
    assert_eq!((told(&mut rib), kept(&rib)), (over_one.into(), vec![]));
}

#[test]
fn what_is_refused_goes_when_its_neighbor_takes_it_back() {
    let ends: [fn(&mut Rib); 5] = [
        |rib| rib.receive(ONE, withdraw(&DEFAULTS)),
        |rib| rib.session_down(ONE),
        |rib| rib.session_lost(ONE, Families::NONE),
        |rib| rib.links_lost(&[LostLink { interface: InterfaceIndex(11), networks: vec![] }]),
        |rib| rib.remove_peer(ONE),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut rib = given_by(1);
        rib.configure_peer(ONE, all_but_defaults());
        assert_eq!(told(&mut rib), BTreeMap::new());
        end(&mut rib);
        assert_eq!((told(&mut rib), kept(&rib)), (gone(), vec![]), "end {number}");
    }
}

#[test]
fn a_neighbor_that_restarts_goes_on_giving_what_is_refused() {
    let mut rib = given_by(1);
    rib.configure_peer(ONE, all_but_defaults());
    settle(&mut rib);
    rib.session_lost(ONE, Families::ALL);
    assert_eq!((told(&mut rib), kept(&rib).len()), (BTreeMap::new(), 2));
    rib.forget_stale(ONE);
    assert_eq!((told(&mut rib), kept(&rib)), (gone(), vec![]));
}

#[test]
fn a_neighbor_whose_session_starts_anew_costs_no_default_route() {
    let mut rib = given_by(1);
    rib.deconfigure_peer(ONE);
    // What its task says on the way out.
    rib.session_lost(ONE, Families::NONE);
    rib.remove_peer(ONE);
    assert_eq!((fib(&mut rib), kept(&rib).len()), ([(prefix("20.0.0.0/8"), None)].into(), 2));
    rib.configure_peer(ONE_AGAIN, open());
    rib.session_up(ONE_AGAIN, external(1));
    assert_eq!((told(&mut rib), kept(&rib).len()), (BTreeMap::new(), 2));
    rib.receive(ONE_AGAIN, reach(&from_peer(1, &[]), &DEFAULTS));
    assert_eq!((told(&mut rib), kept(&rib)), (BTreeMap::new(), vec![]));
    // From now on it is as any other.
    rib.receive(ONE_AGAIN, withdraw(&DEFAULTS));
    assert_eq!(told(&mut rib), gone());
}

#[test]
fn the_successor_of_a_neighbor_decides_what_becomes_of_the_default_route() {
    let again = |session: PeerSession| {
        let mut rib = given_by(1);
        rib.deconfigure_peer(ONE);
        rib.configure_peer(ONE_AGAIN, all_but_defaults());
        rib.session_up(ONE_AGAIN, session);
        assert_eq!((told(&mut rib), kept(&rib).len()), (BTreeMap::new(), 2));
        rib
    };
    let mut says_nothing = again(external(1));
    end(&mut says_nothing, ONE_AGAIN);
    assert_eq!((told(&mut says_nothing), kept(&says_nothing)), (gone(), vec![]));

    let mut is_refused = again(external(1));
    is_refused.receive(ONE_AGAIN, reach(&from_peer(1, &[]), &DEFAULTS));
    end(&mut is_refused, ONE_AGAIN);
    assert_eq!((told(&mut is_refused), kept(&is_refused).len()), (BTreeMap::new(), 2));
    is_refused.receive(ONE_AGAIN, withdraw(&DEFAULTS));
    assert_eq!((told(&mut is_refused), kept(&is_refused)), (gone(), vec![]));

    let mut is_lost = again(external(1));
    is_lost.session_lost(ONE_AGAIN, Families::NONE);
    assert_eq!((told(&mut is_lost), kept(&is_lost)), (gone(), vec![]));

    // Another one has nothing to do with it, until it gives one.
    let mut is_another = again(external(2));
    end(&mut is_another, ONE_AGAIN);
    is_another.session_down(ONE_AGAIN);
    assert_eq!((told(&mut is_another), kept(&is_another).len()), (BTreeMap::new(), 2));
    is_another.links_lost(&[LostLink { interface: gateway(1).interface.unwrap(), networks: vec![] }]);
    assert_eq!((told(&mut is_another), kept(&is_another)), (gone(), vec![]));
}

#[test]
fn what_was_refused_is_kept_when_its_neighbor_leaves_the_configuration() {
    let mut rib = given_by(1);
    rib.configure_peer(ONE, all_but_defaults());
    settle(&mut rib);
    rib.deconfigure_peer(ONE);
    assert_eq!((told(&mut rib), kept(&rib).len()), (BTreeMap::new(), 2));
}

#[test]
fn only_the_configuration_keeps() {
    let mut rib = given_by(1);
    rib.receive(ONE, withdraw(&["0.0.0.0/0"]));
    assert_eq!(told(&mut rib), [(prefix("0.0.0.0/0"), None)].into());
    rib.session_down(ONE);
    assert_eq!((told(&mut rib), kept(&rib)), ([(prefix("::/0"), None)].into(), vec![]));
}

#[test]
fn what_a_configuration_would_take_is_known_before() {
    let lost = |rib: &Rib, changes: &[(PeerId, Option<PeerConfig>)]| -> Vec<String> {
        let changes = changes.iter().cloned().collect();
        rib.defaults_lost_by(&changes).iter().map(ToString::to_string).collect()
    };
    let mut rib = given_by(2);
    assert!(lost(&rib, &[]).is_empty());
    assert!(lost(&rib, &[(ONE, None)]).is_empty());
    assert!(lost(&rib, &[(ONE, None), (TWO, Some(open()))]).is_empty());
    assert_eq!(lost(&rib, &[(ONE, None), (TWO, None)]), DEFAULTS);
    assert_eq!(lost(&rib, &[(ONE, None), (TWO, Some(all_but_defaults()))]), DEFAULTS);
    // One that is kept is lost still, unless it comes back.
    rib.configure_peer(ONE, all_but_defaults());
    rib.deconfigure_peer(TWO);
    settle(&mut rib);
    assert_eq!(lost(&rib, &[]), DEFAULTS);
    assert!(lost(&rib, &[(ONE, Some(open()))]).is_empty());
    // What nobody gave is not lost, nor what is our own.
    rib.session_down(ONE);
    rib.links_lost(&[LostLink { interface: InterfaceIndex(12), networks: vec![] }]);
    settle(&mut rib);
    assert!(lost(&rib, &[(ONE, None)]).is_empty());
    let mut rib = given_by(1);
    originate(&mut rib, &DEFAULTS);
    settle(&mut rib);
    assert!(lost(&rib, &[(ONE, None)]).is_empty());
}
