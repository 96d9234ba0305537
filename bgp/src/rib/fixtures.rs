//! Short ways to write what the tests of policy and RIB are about.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{
    FibChange, Gateway, Gateways, Origination, Originator, PeerConfig, PeerSession, Rib, RibConfig, Ripeness,
    ToPeer,
};
use crate::message::{AsPath, Attributes, Outgoing, Reach, RefreshKind, Segment, SegmentKind, Update};
use crate::policy::Role;
use crate::{Asn, Families, Family, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};

pub(crate) const LOCAL_AS: Asn = Asn(65001);

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn config(role: Role) -> RibConfig {
    RibConfig { local_as: LOCAL_AS, router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)), max_paths: 16, role }
}

pub(crate) fn path(asns: &[u32]) -> AsPath {
    let asns: Vec<Asn> = asns.iter().copied().map(Asn).collect();
    AsPath::from_segments((!asns.is_empty()).then_some(Segment { kind: SegmentKind::Sequence, asns }))
}

/// The link-local address of peer `number`.
pub(crate) fn link_local(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | 0x1_0000 | u128::from(number))
}

pub(crate) const OUR_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xffff);

/// What peer `number` says of itself on an unnumbered session.
pub(crate) fn session(number: u32, kind: PeerKind) -> PeerSession {
    PeerSession {
        kind,
        asn: match kind {
            PeerKind::Internal => LOCAL_AS,
            PeerKind::External => Asn(65100 + number),
        },
        router_id: RouterId(Ipv4Addr::from(0x0a00_0000 + number)),
        address: link_local(number).into(),
        interface: Some(InterfaceIndex(10 + number)),
        families: Families::ALL,
        next_hop_ipv4: Some(NextHop::LinkLocal(OUR_LINK_LOCAL)),
        next_hop_ipv6: Some(NextHop::LinkLocal(OUR_LINK_LOCAL)),
        local_addresses: vec![OUR_LINK_LOCAL.into()],
        enhanced_route_refresh: true,
        preserved: Families::ALL,
    }
}

pub(crate) fn external(number: u32) -> PeerSession {
    session(number, PeerKind::External)
}

/// The attributes that external peer `number` sends for a path through these ASes behind its own.
pub(crate) fn from_peer(number: u32, behind: &[u32]) -> Attributes {
    let asns: Vec<u32> = std::iter::once(65100 + number).chain(behind.iter().copied()).collect();
    Attributes {
        as_path: path(&asns),
        next_hop: NextHop::LinkLocal(link_local(number)),
        ..Attributes::originated()
    }
}

pub(crate) fn gateway(number: u32) -> Gateway {
    Gateway { address: link_local(number).into(), interface: Some(InterfaceIndex(10 + number)) }
}

pub(crate) fn gateways(numbers: &[u32]) -> Option<Gateways> {
    Some(numbers.iter().copied().map(gateway).collect())
}

pub(crate) fn reach(attributes: &Attributes, prefixes: &[&str]) -> Update {
    let prefixes = prefixes.iter().copied().map(prefix).collect();
    Update { reach: vec![Reach { attributes: attributes.clone(), prefixes }], ..Update::default() }
}

pub(crate) fn withdraw(prefixes: &[&str]) -> Update {
    Update { withdrawn: prefixes.iter().copied().map(prefix).collect(), ..Update::default() }
}

pub(crate) fn originate(rib: &mut Rib, prefixes: &[&str]) {
    let routes: BTreeMap<_, _> =
        prefixes.iter().map(|text| (prefix(text), Originator::StaticBlock)).collect();
    rib.set_originated(routes);
}

/// As [`originate`], each route with a community.
pub(crate) fn originate_with(rib: &mut Rib, community: &str, prefixes: &[&str]) {
    let community = Some(community.parse().unwrap());
    let origination = Origination { community, ..Originator::BorrowedAddress.into() };
    let routes: BTreeMap<_, _> = prefixes.iter().map(|text| (prefix(text), origination)).collect();
    rib.set_originated(routes);
}

/// A RIB with external peers 1 to `peers`, all up, at rest and with End-of-RIB sent to all.
pub(crate) fn rib(role: Role, peers: u32) -> Rib {
    let mut rib = Rib::new(config(role));
    for number in 1..=peers {
        rib.configure_peer(PeerId(number), PeerConfig::limited_to(1000));
        rib.session_up(PeerId(number), external(number));
    }
    settle(&mut rib);
    for number in 1..=peers {
        rib.poll_outgoing(PeerId(number), usize::MAX);
    }
    rib
}

/// Processes until nothing is left, with a bound so that a RIB that never rests fails.
pub(crate) fn settle(rib: &mut Rib) {
    for _ in 0..100_000 {
        if !rib.process(16) {
            assert!(!rib.is_dirty());
            return;
        }
    }
    panic!("the RIB does not come to rest");
}

pub(crate) fn fib(rib: &mut Rib) -> BTreeMap<Prefix, Option<Gateways>> {
    settle(rib);
    rib.poll_fib(usize::MAX, Ripeness::Any)
        .into_iter()
        .map(|FibChange { prefix, gateways }| (prefix, gateways))
        .collect()
}

/// What a peer holds, from what it was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) routes: BTreeMap<Prefix, Arc<Attributes>>,
    /// Those told since the last BoRR of their family.
    pub(crate) fresh: Vec<Prefix>,
    pub(crate) end_of_rib: Vec<Family>,
    pub(crate) refreshes: Vec<(Family, RefreshKind)>,
}

impl Held {
    /// Takes in messages as a receiver that obeys RFC 7313 does.
    pub(crate) fn take(&mut self, messages: Vec<ToPeer>) {
        for message in messages {
            match message {
                ToPeer::Update(Outgoing::Reach { attributes, prefixes }) => {
                    assert!(!prefixes.is_empty());
                    for prefix in prefixes {
                        self.routes.insert(prefix, Arc::clone(&attributes));
                        self.fresh.push(prefix);
                    }
                }
                ToPeer::Update(Outgoing::Unreach { prefixes }) => {
                    assert!(!prefixes.is_empty());
                    for prefix in prefixes {
                        assert!(
                            self.routes.remove(&prefix).is_some(),
                            "withdrew {prefix}, which was never told"
                        );
                    }
                }
                ToPeer::Update(Outgoing::EndOfRib(family)) => self.end_of_rib.push(family),
                ToPeer::Refresh(refresh) => {
                    self.refresh(Family::try_from(refresh.family).unwrap(), refresh.kind)
                }
            }
        }
    }

    fn refresh(&mut self, family: Family, kind: RefreshKind) {
        self.refreshes.push((family, kind));
        match kind {
            RefreshKind::Begin => self.fresh.retain(|prefix| prefix.family() != family),
            RefreshKind::End => {
                let fresh = &self.fresh;
                self.routes.retain(|prefix, _| prefix.family() != family || fresh.contains(prefix));
            }
            RefreshKind::Request | RefreshKind::Unknown(_) => panic!("not for the RIB to send"),
        }
    }

    pub(crate) fn prefixes(&self) -> Vec<String> {
        self.routes.keys().map(Prefix::to_string).collect()
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
