//! What the guard believes about addresses in networks of our own, by rows and against the rule spelled out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Prefix;
use crate::rib::{Lending, Origination};

fn lent() -> Origination {
    Origination { lending: Lending::Addresses, ..Originator::CalicoBlock.into() }
}

fn judge_with(
    originated: &Originated,
    connected: &Connected,
    of: Prefix,
    attributes: &Attributes,
) -> Judgement {
    let (config, session) = (config(Role::Host), external(1));
    let (session, inbound) = (&session, Inbound::Plain);
    Guard { config: &config, originated, connected, session, inbound, allowed_own_as: 0 }
        .judge(of, attributes)
}

#[test]
fn a_strangers_host_route_is_believed_in_a_block_that_lends_and_nowhere_else_of_ours() {
    use Refusal::{AsLoop, FirstAs, LocalHost, Martian, NextHopThirdParty, OwnPrefix};
    let originated: Originated = [
        ("10.1.9.0/26", lent()),
        ("fd00:9::/122", lent()),
        // The loopback, a borrowed address of a pod here, a service, all of them in a block that lends.
        ("10.1.9.1/32", Originator::Loopback.into()),
        ("10.1.9.2/32", Originator::BorrowedAddress.into()),
        ("10.1.9.8/29", Originator::Service.into()),
        ("10.1.9.64/32", lent()),
        ("10.1.8.0/26", Originator::StaticBlock.into()),
        ("10.2.0.0/24", Originator::NodeBlock.into()),
        ("169.254.7.0/26", lent()),
    ]
    .map(|(text, origination)| (prefix(text), origination))
    .into_iter()
    .collect();
    let hosts = ["10.1.9.6", "fd00:9::6", "20.0.0.6", "10.1.8.6"].map(|text| text.parse().unwrap());
    let connected = own_links().with_hosts(Arc::new(hosts.into()));
    let plain = from_peer(1, &[65002]);
    let looped = from_peer(1, &[LOCAL_AS.0]);
    let elsewhere = Attributes { next_hop: NextHop::Ipv4([30, 0, 0, 1].into()), ..plain.clone() };
    let own_hop = Attributes { next_hop: NextHop::Ipv4([10, 1, 9, 6].into()), ..plain.clone() };
    let strange = Attributes { as_path: path(&[65002]), ..plain.clone() };
    let rows = [
        ("10.1.9.5/32", &plain, None),
        ("fd00:9::5/128", &plain, None),
        ("10.1.9.0/26", &plain, Some(OwnPrefix)),
        ("10.1.9.0/27", &plain, Some(OwnPrefix)),
        ("10.1.9.4/31", &plain, Some(OwnPrefix)),
        ("fd00:9::4/127", &plain, Some(OwnPrefix)),
        ("10.1.9.1/32", &plain, Some(OwnPrefix)),
        ("10.1.9.2/32", &plain, Some(OwnPrefix)),
        ("10.1.9.9/32", &plain, Some(OwnPrefix)),
        ("10.1.9.64/32", &plain, Some(OwnPrefix)),
        ("10.1.8.5/32", &plain, Some(OwnPrefix)),
        ("10.2.0.5/32", &plain, Some(OwnPrefix)),
        ("10.1.9.6/32", &plain, Some(LocalHost)),
        ("fd00:9::6/128", &plain, Some(LocalHost)),
        ("20.0.0.6/32", &plain, Some(LocalHost)),
        ("20.0.0.6/31", &plain, None),
        ("10.1.8.6/32", &plain, Some(OwnPrefix)),
        // Everything else that keeps a path out does so here.
        ("10.1.9.5/32", &looped, Some(AsLoop)),
        ("10.1.9.5/32", &strange, Some(FirstAs)),
        ("10.1.9.5/32", &elsewhere, Some(NextHopThirdParty)),
        ("20.0.0.0/8", &own_hop, Some(NextHopThirdParty)),
        ("169.254.7.5/32", &plain, Some(Martian)),
    ];
    for (text, attributes, refusal) in rows {
        let expected = refusal.map_or(Judgement::AsReceived, Judgement::Refused);
        assert_eq!(judge_with(&originated, &connected, prefix(text), attributes), expected, "{text}");
    }
}

/// One of the networks of the eight addresses from 10.1.9.0, of the network around them, or of one beside them.
fn network() -> impl Strategy<Value = Prefix> {
    let address = (0..9_u8).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 1, 9, last)));
    let length = prop::sample::select(vec![0, 28, 29, 30, 31, 32]);
    (address, length).prop_map(|(address, length)| Prefix::masked(address, length).unwrap())
}

/// The rule, address by address and network by network.
fn expected(
    prefix: Prefix,
    own: &BTreeMap<Prefix, Origination>,
    hosts: &BTreeSet<IpAddr>,
) -> Option<Refusal> {
    let addresses = |network: Prefix| -> BTreeSet<u32> {
        let IpAddr::V4(first) = network.address() else { unreachable!() };
        (0..1_u32 << (32 - network.length())).map(|number| u32::from(first) + number).collect()
    };
    if prefix.length() == 0 {
        return own.contains_key(&prefix).then_some(Refusal::OwnPrefix);
    }
    let of_prefix = addresses(prefix);
    for (&network, origination) in own {
        let is_around = network.length() > 0 && of_prefix.is_subset(&addresses(network));
        let is_lent = origination.lending == Lending::Addresses && of_prefix.len() == 1 && network != prefix;
        if is_around && !is_lent {
            return Some(Refusal::OwnPrefix);
        }
    }
    let is_here = of_prefix.len() == 1 && hosts.contains(&prefix.address());
    is_here.then_some(Refusal::LocalHost)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guard_believes_what_the_rule_spelled_out_lets_through(
        own in prop::collection::btree_map(network(), any::<bool>(), 0..5),
        hosts in prop::collection::btree_set(0..9_u8, 0..4),
        of in network(),
    ) {
        let origination = |lends| if lends { lent() } else { Originator::StaticBlock.into() };
        let own: BTreeMap<_, _> = own.into_iter().map(|(network, lends)| (network, origination(lends))).collect();
        let hosts: BTreeSet<IpAddr> = hosts.into_iter().map(|last| Ipv4Addr::new(10, 1, 9, last).into()).collect();
        let connected = Connected::default().with_hosts(Arc::new(hosts.clone()));
        let judgement = judge_with(&own.clone().into(), &connected, of, &from_peer(1, &[65002]));
        let expected = expected(of, &own, &hosts).map_or(Judgement::AsReceived, Judgement::Refused);
        prop_assert_eq!(judgement, expected);
    }
}
