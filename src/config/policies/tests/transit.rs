//! A host between two ToRs, under any file: what one of them says never reaches the other, unless the file says so.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bgp::message::{AsPath, Attributes, Outgoing, Reach, Segment, SegmentKind, Update};
use bgp::policy::{Action, Policy, PrefixList, Role};
use bgp::rib::{Originated, Originator, PeerConfig, PeerSession, Rib, RibConfig, ToPeer};
use bgp::{Asn, Families, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};
use proptest::prelude::*;

use super::any::any_policies;
use crate::config::tests::with;
use crate::config::{Config, parse};

/// The session of ToR `number` on an unnumbered uplink.
fn tor(number: u32) -> PeerSession {
    let link_local = |octet: u32| Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(octet));
    PeerSession {
        kind: PeerKind::External,
        asn: Asn(65003 + number),
        router_id: RouterId(Ipv4Addr::from(0x0a00_0000 + number)),
        address: link_local(number).into(),
        interface: Some(InterfaceIndex(number)),
        families: Families::ALL,
        next_hop_ipv4: Some(NextHop::LinkLocal(link_local(99))),
        next_hop_ipv6: Some(NextHop::LinkLocal(link_local(99))),
        local_addresses: vec![link_local(99).into()],
        enhanced_route_refresh: true,
        preserved: Families::NONE,
    }
}

/// What a ToR says: a default route, prefixes that policies of the generator speak of, and communities that they add.
fn said_by(number: u32) -> Update {
    let asns = vec![Asn(65003 + number), Asn(65003)];
    let next_hop = NextHop::LinkLocal(Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(number)));
    let attributes = Attributes {
        as_path: AsPath::from_segments([Segment { kind: SegmentKind::Sequence, asns }]),
        next_hop,
        communities: ["65001:1".parse().unwrap()].into(),
        ..Attributes::originated()
    };
    let texts = ["0.0.0.0/0", "10.1.0.0/16", "10.1.2.0/24", "20.0.0.0/8", "::/0", "fd00:1::/48"];
    let prefixes = texts.iter().map(|text| text.parse().unwrap()).collect();
    Update { reach: vec![Reach { attributes, prefixes }], ..Update::default() }
}

/// The prefixes that the second of two ToRs is told under a file.
fn told_to_the_second(config: &Config) -> Vec<Prefix> {
    let mut rib = Rib::new(RibConfig {
        local_as: config.bgp.local_as,
        router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)),
        max_paths: config.fib.max_paths,
        role: Role::Host,
    });
    let block = ("10.9.0.0/26".parse().unwrap(), Originator::StaticBlock);
    rib.set_originated(Originated::from_iter([block]));
    for (number, neighbor) in (1..).zip(&config.neighbors) {
        let config = PeerConfig {
            max_prefixes: neighbor.max_prefixes,
            allowed_own_as: neighbor.allowed_own_as,
            transit: neighbor.transit,
            import: neighbor.import.clone(),
            export: neighbor.export.clone(),
        };
        rib.configure_peer(PeerId(number), config);
        rib.session_up(PeerId(number), tor(number));
        rib.receive(PeerId(number), said_by(number));
    }
    while rib.process(1000) {}
    let told = rib.poll_outgoing(PeerId(2), usize::MAX).into_iter();
    let reached = told.filter_map(|message| match message {
        ToPeer::Update(Outgoing::Reach { prefixes, .. }) => Some(prefixes),
        ToPeer::Update(Outgoing::Unreach { .. } | Outgoing::EndOfRib(_)) | ToPeer::Refresh(_) => None,
    });
    reached.flatten().collect()
}

fn file_of_two_tors(policies: &[Arc<Policy>], lists: &[Arc<PrefixList>], keys: [&str; 2]) -> String {
    let base = Config { prefix_lists: lists.to_vec(), policies: policies.to_vec(), ..with("") };
    let [first, second] = keys;
    let shown = base.to_toml();
    format!("{shown}[[neighbor]]\ninterface = 'tor1'\n{first}\n[[neighbor]]\ninterface = 'tor2'\n{second}\n")
}

#[test]
fn the_test_of_transit_can_fail() {
    let accept = Policy { name: "all".to_owned(), rules: Vec::new(), default: Action::Accept };
    let open = "export = 'all'\nallow-transit = true";
    let text = file_of_two_tors(&[Arc::new(accept)], &[], ["", open]);
    let config = parse(&text, "test.toml").unwrap();
    assert!(told_to_the_second(&config).len() > 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_without_allow_transit_makes_a_host_transit(
        (lists, policies) in any_policies(),
        choices in (0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4),
        allowas_in in 0_u8..11,
    ) {
        let named = |key: &str, choice: usize| {
            policies.get(choice).map(|policy| format!("{key} = '{}'\n", policy.name)).unwrap_or_default()
        };
        let keys = |import, export| named("import", import) + &named("export", export);
        let first = keys(choices.0, choices.1);
        let second = format!("{}allowas-in = {allowas_in}", keys(choices.2, choices.3));
        let text = file_of_two_tors(&policies, &lists, [&first, &second]);
        let config = parse(&text, "test.toml").map_err(|error| error.to_string()).unwrap();
        let own: Prefix = "10.9.0.0/26".parse().unwrap();
        prop_assert!(told_to_the_second(&config).iter().all(|prefix| *prefix == own), "{}", text);
    }
}
