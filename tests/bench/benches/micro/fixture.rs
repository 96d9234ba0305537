//! Routes as a ToR of a fabric tells them, and what its session has agreed on.

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::message::update::{AsWidth, LinkLocalForm};
use bgp::message::{AsPath, Attributes, Community, MAX_LENGTH, Segment, SegmentKind, UpdateCodec};
use bgp::rib::{Gateway, PeerSession, RibConfig};
use bgp::{
    Asn, Families, Family, InterfaceIndex, Ipv4Prefix, Ipv6Prefix, NextHop, PeerKind, Prefix, RouterId,
};

pub(crate) const LOCAL_AS: Asn = Asn(65001);

/// Pod blocks, one behind the other.
pub(crate) fn prefixes(family: Family, count: u32) -> Vec<Prefix> {
    let ipv4 =
        |number: u32| Ipv4Prefix::masked(Ipv4Addr::from(0x0a00_0000 + (number << 6)), 26).map(Prefix::V4);
    let ipv6 = |number: u32| {
        let address = Ipv6Addr::from((0xfd00 << 112) + (u128::from(number) << 64));
        Ipv6Prefix::masked(address, 64).map(Prefix::V6)
    };
    let prefix = |number| match family {
        Family::Ipv4Unicast => ipv4(number),
        Family::Ipv6Unicast => ipv6(number),
    };
    (0..count).map(|number| prefix(number).unwrap()).collect()
}

/// The ToR at the other end of an uplink.
pub(crate) fn link_local(peer: u32) -> Ipv6Addr {
    Ipv6Addr::from((0xfe80 << 112) + u128::from(peer))
}

pub(crate) fn gateway(peer: u32) -> Gateway {
    Gateway { address: link_local(peer).into(), interface: Some(InterfaceIndex(peer)) }
}

fn tor_as(peer: u32) -> Asn {
    Asn(65100 + peer)
}

/// What a ToR says of the routes of one node: its own AS, a spine's and the node's, and two communities.
pub(crate) fn attributes(peer: u32, node: u32, next_hop: NextHop) -> Attributes {
    let asns = vec![tor_as(peer), Asn(65000), Asn(4_200_000_000 + node)];
    Attributes {
        as_path: AsPath::from_segments([Segment { kind: SegmentKind::Sequence, asns }]),
        next_hop,
        communities: [Community(0xfde8_0001), Community(0xfde8_0002)].into(),
        ..Attributes::originated()
    }
}

pub(crate) fn codec(link_local_form: LinkLocalForm) -> UpdateCodec {
    UpdateCodec {
        families: Families::ALL,
        extended_next_hop: Families::ALL,
        as_width: AsWidth::Four,
        max_length: MAX_LENGTH,
        peer_kind: PeerKind::External,
        link_local_form,
    }
}

pub(crate) fn session(peer: u32) -> PeerSession {
    let own = link_local(0x99);
    PeerSession {
        kind: PeerKind::External,
        asn: tor_as(peer),
        router_id: router_id(peer),
        address: link_local(peer).into(),
        interface: Some(InterfaceIndex(peer)),
        families: Families::ALL,
        next_hop_ipv4: Some(NextHop::LinkLocal(own)),
        next_hop_ipv6: Some(NextHop::LinkLocal(own)),
        local_addresses: vec![own.into()],
        enhanced_route_refresh: true,
        preserved: Families::NONE,
    }
}

pub(crate) fn router_id(peer: u32) -> RouterId {
    RouterId(Ipv4Addr::from(0x0404_0000 + peer))
}

pub(crate) fn rib_config(role: bgp::policy::Role) -> RibConfig {
    RibConfig { local_as: LOCAL_AS, router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)), max_paths: 16, role }
}
