//! What may happen to a RIB, and any of it.

use std::sync::Arc;

use proptest::prelude::*;

use super::{CARRIED, HOSTS, LINKS, OWN, PEERS, PREFIXES, VARIANTS};
use crate::message::Community;
use crate::policy::{
    Action, Changes, Conditions, Edit, Inbound, Maintenance, Outbound, Policy, PrefixList, Rule, Transit,
};
use crate::rib::{Lending, PeerConfig, Ripeness};
use crate::{Families, Family};

#[derive(Debug, Clone)]
pub(super) enum Event {
    Up(u32, Families),
    Down(u32),
    Lost(u32, Families),
    ForgetStale(u32),
    EndOfRib(u32, Family),
    Reconfigure(u32),
    Maintain(u32, Maintenance),
    Configure(u32, PeerConfig),
    Announce { peer: u32, variant: u8, prefixes: Vec<&'static str> },
    Withdraw { peer: u32, prefixes: Vec<&'static str> },
    Originate(Vec<(&'static str, Option<&'static str>, Lending)>),
    Connect(Vec<&'static str>),
    Host(Vec<&'static str>),
    RefreshRequested(u32, Family),
    RefreshBegan(u32, Family),
    RefreshEnded(u32, Family),
    Process(usize),
    PollFib(usize, Ripeness),
    PollOutgoing(u32, usize),
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let peer = || 1..=PEERS;
    let family = || prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)];
    let families = || {
        let some = proptest::sample::subsequence(&Family::ALL[..], 0..=2);
        some.prop_map(Families::from_iter)
    };
    let some = || proptest::sample::subsequence(&PREFIXES[..], 1..4);
    let ripeness = prop::sample::select(vec![Ripeness::Settled, Ripeness::Unsettled, Ripeness::Any]);
    prop_oneof![
        4 => (peer(), families()).prop_map(|(peer, preserved)| Event::Up(peer, preserved)),
        1 => peer().prop_map(Event::Down),
        3 => (peer(), families()).prop_map(|(peer, kept)| Event::Lost(peer, kept)),
        1 => peer().prop_map(Event::ForgetStale),
        2 => (peer(), family()).prop_map(|(peer, family)| Event::EndOfRib(peer, family)),
        1 => peer().prop_map(Event::Reconfigure),
        3 => (peer(), maintenance()).prop_map(|(peer, maintenance)| Event::Maintain(peer, maintenance)),
        3 => (peer(), peer_config()).prop_map(|(peer, config)| Event::Configure(peer, config)),
        8 => (peer(), 0..VARIANTS, some()).prop_map(|(peer, variant, prefixes)| Event::Announce { peer, variant, prefixes }),
        4 => (peer(), some()).prop_map(|(peer, prefixes)| Event::Withdraw { peer, prefixes }),
        2 => originations().prop_map(Event::Originate),
        2 => proptest::sample::subsequence(&LINKS[..], 0..=4).prop_map(Event::Connect),
        2 => proptest::sample::subsequence(&HOSTS[..], 0..=3).prop_map(Event::Host),
        2 => (peer(), family()).prop_map(|(peer, family)| Event::RefreshRequested(peer, family)),
        2 => (peer(), family()).prop_map(|(peer, family)| Event::RefreshBegan(peer, family)),
        2 => (peer(), family()).prop_map(|(peer, family)| Event::RefreshEnded(peer, family)),
        6 => (1..12_usize).prop_map(Event::Process),
        3 => (1..4_usize, ripeness).prop_map(|(limit, ripeness)| Event::PollFib(limit, ripeness)),
        6 => (peer(), 1..4_usize).prop_map(|(peer, limit)| Event::PollOutgoing(peer, limit)),
    ]
}

fn originations() -> impl Strategy<Value = Vec<(&'static str, Option<&'static str>, Lending)>> {
    let community = proptest::option::of(prop::sample::select(CARRIED.to_vec()));
    let lending = prop::sample::select(vec![Lending::Nothing, Lending::Addresses]);
    let ways = prop::collection::vec((community, lending), OWN.len());
    let prefixes = proptest::sample::subsequence(&OWN[..], 0..=OWN.len());
    (prefixes, ways).prop_map(|(prefixes, ways)| {
        let both = prefixes.into_iter().zip(ways);
        both.map(|(prefix, (community, lending))| (prefix, community, lending)).collect()
    })
}

fn maintenance() -> impl Strategy<Value = Maintenance> {
    let outbound = vec![Outbound::Plain, Outbound::Marked { prepends: 3 }, Outbound::Withdrawn];
    let inbound = vec![Inbound::Plain, Inbound::Last];
    let parts = (prop::sample::select(outbound), prop::sample::select(inbound));
    parts.prop_map(|(outbound, inbound)| Maintenance { outbound, inbound })
}

fn peer_config() -> impl Strategy<Value = PeerConfig> {
    let policy = || prop::sample::select(policies());
    let transit = prop::sample::select(vec![Transit::Never, Transit::Allowed]);
    let parts = (policy(), policy(), 0..2_u8, transit);
    parts.prop_map(|(import, export, allowed_own_as, transit)| PeerConfig {
        allowed_own_as,
        transit,
        import,
        export,
        ..PeerConfig::limited_to(1000)
    })
}

/// None, ones that take away, ones that change; what they can do has tables of its own.
fn policies() -> Vec<Option<Arc<Policy>>> {
    let some = |ranges: [&str; 2]| Conditions {
        prefixes: vec![Arc::new(PrefixList::new(None, ranges.map(|text| text.parse().unwrap()).to_vec()))],
        ..Conditions::default()
    };
    let marked = Conditions { communities: vec![Community::NO_EXPORT], ..Conditions::default() };
    let rule = |conditions, changes, action| Rule { conditions, changes, action };
    let changes = || Changes { local_pref: Some(300), med: Some(9), prepends: 1, ..Changes::default() };
    let no_export = Edit::Adjust { remove: vec![], add: vec![Community::NO_EXPORT] };
    let tag = Changes { communities: no_export, ..Changes::default() };
    let ranges = ["0.0.0.0/0 le 32", "2001:db8::/32"];
    let policy = |rules, default| Some(Arc::new(Policy { name: "any".to_owned(), rules, default }));
    vec![
        None,
        policy(vec![], Action::Accept),
        policy(vec![], Action::Reject),
        policy(
            vec![rule(some(["20.0.0.0/7 le 8", "fd00:8::/64"]), Changes::default(), Some(Action::Accept))],
            Action::Reject,
        ),
        policy(vec![rule(some(ranges), changes(), None)], Action::Accept),
        policy(
            vec![
                rule(some(["0.0.0.0/0", "10.1.8.192/26"]), tag, None),
                rule(marked, changes(), Some(Action::Accept)),
            ],
            Action::Reject,
        ),
    ]
}
