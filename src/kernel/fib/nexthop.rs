//! `RTM_NEWNEXTHOP` and its kin, which the netlink crates lack: bytes both ways, and nothing else.
//!
//! In: an object as we want it, or a payload of the kernel's. Out: the body of a request, or a [`Nexthop`]. The
//! header around it, sockets and dumps are `crate::kernel::netlink`'s. Layout: `linux/nexthop.h`.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |    family     |     scope     |   protocol    |   reserved    |
//! +---------------+---------------+---------------+---------------+
//! |                             flags                             |
//! +---------------------------------------------------------------+
//! | attributes: NHA_ID; NHA_OIF and NHA_GATEWAY, or NHA_GROUP ...
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::InterfaceIndex;
use bgp::rib::Gateway;
use netlink_packet_core::NlasIterator;

use super::packet::{Packet, family};

/// RTM_NEWNEXTHOP of `linux/rtnetlink.h`.
pub(super) const NEW: u16 = 104;
/// RTM_DELNEXTHOP
pub(super) const DELETE: u16 = 105;
/// RTM_GETNEXTHOP
pub(super) const READ: u16 = 106;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// `struct nhmsg`, in octets.
const HEADER: usize = 8;
/// NEXTHOP_GRP_TYPE_MPATH: a flow stays with its next hop by its hash.
const MULTIPATH: u16 = 0;

/// `nh_id`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectId(pub(super) u32);

/// One object of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nexthop {
    pub(super) id: ObjectId,
    /// `nh_protocol`, as in routes.
    pub(super) protocol: u8,
    pub(super) shape: Shape,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// One next hop.
    Member(Gateway),
    /// Several of the same weight.
    Group(Vec<ObjectId>),
    /// What we never write: a blackhole, weights, an encapsulation, resilience, a device without a gateway.
    Other,
}

/// Appends the body that makes an object, or puts other members into a group.
pub(super) fn append_new(packet: &mut Packet, nexthop: &Nexthop) {
    let family = match &nexthop.shape {
        Shape::Member(gateway) => family(gateway.address),
        // AF_UNSPEC: a group has the family of its members.
        Shape::Group(_) | Shape::Other => 0,
    };
    packet.append(&[family, 0, nexthop.protocol, 0, 0, 0, 0, 0]);
    packet.attribute(NHA_ID, &nexthop.id.0.to_ne_bytes());
    match &nexthop.shape {
        Shape::Member(gateway) => {
            packet.address(NHA_GATEWAY, gateway.address);
            if let Some(InterfaceIndex(index)) = gateway.interface {
                packet.attribute(NHA_OIF, &index.to_ne_bytes());
            }
        }
        Shape::Group(members) => packet.nested(NHA_GROUP, |packet| {
            // `struct nexthop_grp`: the id, the weight less one, its upper octet, reserved.
            for member in members {
                packet.append(&member.0.to_ne_bytes());
                packet.append(&[0; 4]);
            }
        }),
        Shape::Other => {}
    }
}

/// Appends the body that deletes an object.
pub(super) fn append_delete(packet: &mut Packet, id: ObjectId) {
    packet.append(&[0; HEADER]);
    packet.attribute(NHA_ID, &id.0.to_ne_bytes());
}

/// The body that asks for all objects.
pub(super) fn dump_request() -> [u8; HEADER] {
    [0; HEADER]
}

/// Reads the payload of an RTM_NEWNEXTHOP or RTM_DELNEXTHOP; `None` for what is none.
pub(super) fn parse(payload: &[u8]) -> Option<Nexthop> {
    let (&[_, _, protocol, ..], attributes) = payload.split_first_chunk::<HEADER>()?;
    let (mut id, mut interface, mut gateway, mut members) = (None, None, None, None);
    let mut other = false;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = number(value),
            NHA_OIF => interface = number(value).map(InterfaceIndex),
            NHA_GATEWAY => gateway = address(value),
            NHA_GROUP => match group(value) {
                Some(ids) => members = Some(ids),
                None => other = true,
            },
            NHA_GROUP_TYPE => {
                other |= value.first_chunk().map(|kind| u16::from_ne_bytes(*kind)) != Some(MULTIPATH)
            }
            NHA_BLACKHOLE | NHA_ENCAP_TYPE | NHA_ENCAP | NHA_FDB => other = true,
            _ => {}
        }
    }
    let shape = match (gateway, interface, members) {
        (Some(address), Some(index), None) if !other => {
            Shape::Member(Gateway { address, interface: Some(index) })
        }
        (None, None, Some(ids)) if !other => Shape::Group(ids),
        _ => Shape::Other,
    };
    Some(Nexthop { id: ObjectId(id?), protocol, shape })
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        16 => value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

/// `None` where the weights are not all one.
fn group(value: &[u8]) -> Option<Vec<ObjectId>> {
    let (entries, rest) = value.as_chunks::<8>();
    let ids = entries.iter().map(|&[a, b, c, d, weight, weight_high, ..]| {
        ((weight, weight_high) == (0, 0)).then_some(ObjectId(u32::from_ne_bytes([a, b, c, d])))
    });
    if rest.is_empty() { ids.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is laid out for a little-endian machine here; on others the test has nothing to compare.
    const LITTLE: bool = cfg!(target_endian = "little");

    fn body(nexthop: &Nexthop) -> Vec<u8> {
        let mut packet = Packet::default();
        append_new(&mut packet, nexthop);
        packet.bytes().to_vec()
    }

    fn member(id: u32, address: &str, index: u32) -> Nexthop {
        let gateway = Gateway { address: address.parse().unwrap(), interface: Some(InterfaceIndex(index)) };
        Nexthop { id: ObjectId(id), protocol: 186, shape: Shape::Member(gateway) }
    }

    fn group_of(id: u32, members: &[u32]) -> Nexthop {
        let members = members.iter().copied().map(ObjectId).collect();
        Nexthop { id: ObjectId(id), protocol: 186, shape: Shape::Group(members) }
    }

    #[test]
    fn a_member_is_these_bytes() {
        let expected = [
            [10, 0, 186, 0].as_slice(),
            &[0, 0, 0, 0],
            &[8, 0, 1, 0, 0xe9, 3, 0, 0],
            &[20, 0, 6, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[8, 0, 5, 0, 7, 0, 0, 0],
        ]
        .concat();
        assert!(!LITTLE || body(&member(1001, "fe80::1", 7)) == expected);
    }

    #[test]
    fn a_group_is_these_bytes() {
        let expected = [
            [0, 0, 186, 0].as_slice(),
            &[0, 0, 0, 0],
            &[8, 0, 1, 0, 0xd1, 7, 0, 0],
            &[20, 0, 2, 0, 0xe9, 3, 0, 0, 0, 0, 0, 0, 0xea, 3, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert!(!LITTLE || body(&group_of(2001, &[1001, 1002])) == expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for nexthop in [
            member(1, "fe80::1", 7),
            member(u32::MAX, "192.0.2.1", 1),
            group_of(3, &[1]),
            group_of(4, &[1, 2, u32::MAX]),
        ] {
            assert_eq!(parse(&body(&nexthop)), Some(nexthop));
        }
    }

    #[test]
    fn what_we_never_write_is_told_apart() {
        let with = |kind: u16, value: &[u8]| {
            let mut packet = Packet::default();
            append_new(&mut packet, &member(1, "fe80::1", 7));
            packet.attribute(kind, value);
            parse(packet.bytes()).unwrap().shape
        };
        assert_eq!(with(NHA_BLACKHOLE, &[]), Shape::Other);
        assert_eq!(with(NHA_ENCAP_TYPE, &[1, 0]), Shape::Other);
        let mut weighted = body(&group_of(3, &[1]));
        *weighted.iter_mut().rev().nth(3).unwrap() = 2;
        assert_eq!(parse(&weighted).unwrap().shape, Shape::Other);
        let mut resilient = Packet::default();
        append_new(&mut resilient, &group_of(3, &[1]));
        resilient.attribute(NHA_GROUP_TYPE, &1_u16.to_ne_bytes());
        assert_eq!(parse(resilient.bytes()).unwrap().shape, Shape::Other);
    }

    #[test]
    fn a_message_cut_short_is_none_and_never_a_panic() {
        let whole = body(&group_of(3, &[1, 2]));
        for cut in 0..whole.len() {
            let read = parse(&whole[..cut]);
            assert!(read.is_none_or(|nexthop| nexthop.shape == Shape::Other), "{cut}");
        }
    }
}
