//! A route as we want it and as the kernel tells it, and the one place that decides which routes are ours.
//!
//! In: `RTM_NEWROUTE` and `RTM_DELROUTE`. Out: [`Observation`]s, and the bodies of the requests that install and
//! delete. Layouts: `linux/rtnetlink.h`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::rib::{Gateway, Gateways};
use bgp::{Family, InterfaceIndex, Prefix};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};

use super::nexthop::ObjectId;
use super::packet::{Packet, family};

/// RTM_NEWROUTE
pub(super) const NEW: u16 = 24;
/// RTM_DELROUTE
pub(super) const DELETE: u16 = 25;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNSPEC: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;

/// Which routes are ours, and how we write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// `rtm_protocol`
    pub protocol: u8,
    /// The routing table.
    pub table: u32,
    /// The priority that our routes have.
    pub metric: u32,
}

/// The metric of routes that yield: above all that Felix may be told to use for routes of pods (1024 by default,
/// `ipv4NormalRoutePriority`, which people set to something of that size), and easy to see in `ip route`.
pub(super) const YIELDING_METRIC: u32 = 1_000_000_000;

/// What the kernel holds at most one group of routes of: `(destination, tos 0, priority)` in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) prefix: Prefix,
    pub(super) metric: u32,
}

/// Who a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Ours,
    Foreign(Protocol),
}

/// `rtm_protocol` of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol(pub(super) u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", RouteProtocol::from(self.0), self.0)
    }
}

/// What a route does, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// Its next hops stand in the route: sorted, without duplicates, not empty.
    InLine(Gateways),
    /// It names a nexthop object.
    Object(ObjectId),
    Blackhole,
}

/// A route as we write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) way: Way,
    /// Preferred source of packets that this node sends.
    pub(super) source: Option<IpAddr>,
}

/// What the kernel has of ours at a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Installed {
    /// A route that we could have written.
    Route(Route),
    /// With our protocol, but of a shape that we never write: another type, weights, encapsulation, or no next hop.
    Irregular,
}

/// One route as a message tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) key: Key,
    pub(super) owner: Owner,
    pub(super) installed: Installed,
}

impl Ownership {
    /// The key of our own route to a prefix. In IPv6 the kernel reads priority 0 as 1024 (`IP6_RT_PRIO_USER`).
    pub(super) fn key(&self, prefix: Prefix) -> Key {
        let metric = match (prefix.family(), self.metric) {
            (Family::Ipv6Unicast, 0) => 1024,
            (Family::Ipv4Unicast | Family::Ipv6Unicast, metric) => metric,
        };
        Key { prefix, metric }
    }

    /// The key of our own route to an address that whoever has a pod for it may take.
    pub(super) fn yielding(&self, prefix: Prefix) -> Key {
        Key { prefix, metric: self.metric.max(YIELDING_METRIC) }
    }

    /// Whether it is a key of routes that we write.
    pub(super) fn writes_at(&self, key: Key) -> bool {
        key == self.key(key.prefix) || key == self.yielding(key.prefix)
    }

    /// *Ours* is: our table and our protocol number. Every decision about a kernel route goes through here.
    /// `None` for what cannot meet ours: other tables, other types of service, cached clones.
    pub(super) fn observe(&self, message: &RouteMessage) -> Option<Observation> {
        let header = &message.header;
        let attributes = Attributes::read(message);
        if attributes.table.unwrap_or(header.table.into()) != self.table
            || header.tos != 0
            || header.source_prefix_length != 0
            || header.flags.contains(RouteFlags::Cloned)
        {
            return None;
        }
        let unspecified: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let destination = attributes.destination.unwrap_or(unspecified);
        let prefix = Prefix::masked(destination, header.destination_prefix_length).ok()?;
        let protocol = u8::from(header.protocol);
        let owner = if protocol == self.protocol { Owner::Ours } else { Owner::Foreign(Protocol(protocol)) };
        let key = Key { prefix, metric: attributes.metric };
        Some(Observation { key, owner, installed: attributes.installed(header.kind) })
    }

    /// Appends the body of the request that creates or replaces a route.
    pub(super) fn append_route(
        &self,
        packet: &mut Packet,
        key: Key,
        way: RequestWay<'_>,
        source: Option<IpAddr>,
    ) {
        let kind = match way {
            RequestWay::InLine(_) | RequestWay::Object(_) => RTN_UNICAST,
            RequestWay::Blackhole => RTN_BLACKHOLE,
        };
        self.append_key(packet, key, RT_SCOPE_UNIVERSE, kind);
        if let Some(source) = source {
            packet.address(RTA_PREFSRC, source);
        }
        match way {
            RequestWay::InLine([only]) => {
                append_gateway(packet, key.prefix.family(), only.address);
                if let Some(InterfaceIndex(index)) = only.interface {
                    packet.attribute(RTA_OIF, &index.to_ne_bytes());
                }
            }
            RequestWay::InLine(several) => packet.nested(RTA_MULTIPATH, |packet| {
                several.iter().for_each(|gateway| append_leg(packet, key.prefix.family(), gateway));
            }),
            RequestWay::Object(id) => packet.attribute(RTA_NH_ID, &id.0.to_ne_bytes()),
            RequestWay::Blackhole => {}
        }
    }

    /// Appends the body of the request that deletes whatever is ours at a key, all next hops at once. It names our
    /// protocol, which the kernel compares: a foreign route cannot match. Scope "nowhere" and no type match any.
    pub(super) fn append_delete(&self, packet: &mut Packet, key: Key) {
        self.append_key(packet, key, RT_SCOPE_NOWHERE, RTN_UNSPEC);
    }

    /// `struct rtmsg`, and the attributes that make the key.
    fn append_key(&self, packet: &mut Packet, key: Key, scope: u8, kind: u8) {
        let address = key.prefix.address();
        // No room for the table's number here; RTA_TABLE has it.
        packet.append(&[
            family(address),
            key.prefix.length(),
            0,
            0,
            0,
            self.protocol,
            scope,
            kind,
            0,
            0,
            0,
            0,
        ]);
        packet.attribute(RTA_TABLE, &self.table.to_ne_bytes());
        packet.address(RTA_DST, address);
        packet.attribute(RTA_PRIORITY, &key.metric.to_ne_bytes());
    }
}

/// What a request makes a route do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestWay<'a> {
    InLine(&'a [Gateway]),
    Object(ObjectId),
    Blackhole,
}

/// An IPv4 route takes an IPv6 next hop in RTA_VIA (RFC 8950's data plane); all others are RTA_GATEWAY. No
/// RTNH_F_ONLINK: a link-local gateway is on the link by its scope.
fn append_gateway(packet: &mut Packet, route: Family, address: IpAddr) {
    match (route, address) {
        (Family::Ipv4Unicast, IpAddr::V6(via)) => packet.nested(RTA_VIA, |packet| {
            // `struct rtvia`
            packet.append(&u16::from(family(address)).to_ne_bytes());
            packet.append(&via.octets());
        }),
        (Family::Ipv4Unicast | Family::Ipv6Unicast, address) => packet.address(RTA_GATEWAY, address),
    }
}

/// `struct rtnexthop`: length, flags, weight less one, link (0: the kernel resolves it).
fn append_leg(packet: &mut Packet, route: Family, gateway: &Gateway) {
    let start = packet.len();
    packet.append(&[0; 4]);
    packet.append(&gateway.interface.map_or(0, |InterfaceIndex(index)| index).to_ne_bytes());
    append_gateway(packet, route, gateway.address);
    packet.finish(start);
}

/// The attributes that matter, of the whole route or of one leg.
#[derive(Debug, Default)]
struct Attributes<'a> {
    table: Option<u32>,
    destination: Option<IpAddr>,
    metric: u32,
    source: Option<IpAddr>,
    gateway: Option<IpAddr>,
    interface: Option<u32>,
    legs: Option<&'a [RouteNextHop]>,
    /// The kernel shows the next hops of the object as well, unless it is told not to (`nexthop_compat_mode`).
    object: Option<ObjectId>,
    /// Something that we never write and that changes what happens to packets.
    irregular: bool,
}

impl<'a> Attributes<'a> {
    fn read(message: &'a RouteMessage) -> Self {
        Self::default().extend(&message.attributes)
    }

    fn extend(mut self, attributes: &'a [RouteAttribute]) -> Self {
        for attribute in attributes {
            match attribute {
                RouteAttribute::Table(table) => self.table = Some(*table),
                RouteAttribute::Destination(address) => self.destination = ip(address),
                RouteAttribute::Priority(metric) => self.metric = *metric,
                RouteAttribute::PrefSource(address) => self.source = ip(address),
                RouteAttribute::Gateway(address) => self.gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => self.gateway = Some((*address).into()),
                RouteAttribute::Via(RouteVia::Inet6(address)) => self.gateway = Some((*address).into()),
                RouteAttribute::Oif(index) => self.interface = Some(*index),
                RouteAttribute::MultiPath(legs) => self.legs = Some(legs),
                RouteAttribute::NhId(id) => self.object = Some(ObjectId(*id)),
                RouteAttribute::Via(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::EncapType(_)
                | RouteAttribute::Metrics(_)
                | RouteAttribute::Realm(_) => self.irregular = true,
                _ => {}
            }
        }
        self
    }

    fn installed(&self, kind: RouteType) -> Installed {
        let way = match (kind, self.object) {
            (RouteType::Unicast, Some(id)) => Some(Way::Object(id)),
            // In IPv6 a blackhole comes with the loopback interface, which means nothing.
            (RouteType::BlackHole, None) => Some(Way::Blackhole),
            (RouteType::Unicast, None) => self.gateways().map(Way::InLine),
            _ => None,
        };
        match way {
            Some(way) if !self.irregular => Installed::Route(Route { way, source: self.source }),
            _ => Installed::Irregular,
        }
    }

    fn gateways(&self) -> Option<Gateways> {
        let mut gateways: Gateways = match self.legs {
            None => std::iter::once(self.gateway()).collect::<Option<_>>()?,
            Some(legs) => legs.iter().map(gateway_of_leg).collect::<Option<_>>()?,
        };
        gateways.sort_unstable();
        gateways.dedup();
        (!gateways.is_empty()).then_some(gateways)
    }

    fn gateway(&self) -> Option<Gateway> {
        Some(Gateway { address: self.gateway?, interface: self.interface.map(InterfaceIndex) })
    }
}

/// The next hop of one leg; `None` when it has a weight or anything else that we do not write.
fn gateway_of_leg(leg: &RouteNextHop) -> Option<Gateway> {
    let attributes = Attributes::default().extend(&leg.attributes);
    (leg.hops == 0 && !attributes.irregular).then_some(Gateway {
        address: attributes.gateway?,
        interface: Some(InterfaceIndex(leg.interface_index)),
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Whether the kernel has the next hops that we want.
pub(super) fn same_gateways(has: &[Gateway], wants: &[Gateway]) -> bool {
    has.len() == wants.len()
        && wants.iter().all(|wanted| has.iter().any(|has| is_gateway(has, wanted)))
        && has.iter().all(|has| wants.iter().any(|wanted| is_gateway(has, wanted)))
}

/// Whether the kernel has the next hop that we want. Where we leave the interface to the kernel, any will do.
pub(super) fn is_gateway(has: &Gateway, wanted: &Gateway) -> bool {
    has.address == wanted.address && (wanted.interface.is_none() || has.interface == wanted.interface)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Parseable;

    use super::*;

    const OURS: Ownership = Ownership { protocol: 186, table: 254, metric: 20 };

    fn gateways(list: &[(&str, u32)]) -> Gateways {
        list.iter()
            .map(|(address, index)| Gateway {
                address: address.parse().unwrap(),
                interface: (*index != 0).then_some(InterfaceIndex(*index)),
            })
            .collect()
    }

    /// What the netlink crate reads in what we write.
    fn message(ownership: Ownership, key: Key, route: &Route) -> RouteMessage {
        let way = match &route.way {
            Way::InLine(gateways) => RequestWay::InLine(gateways),
            Way::Object(id) => RequestWay::Object(*id),
            Way::Blackhole => RequestWay::Blackhole,
        };
        let mut packet = Packet::default();
        ownership.append_route(&mut packet, key, way, route.source);
        RouteMessage::parse(packet.bytes()).unwrap()
    }

    #[test]
    fn what_we_write_is_read_back_as_ours() {
        let ways = [
            ("10.1.71.192/26", Way::InLine(gateways(&[("fe80::1", 2), ("fe80::2", 3)]))),
            ("10.1.71.192/26", Way::InLine(gateways(&[("fe80::1", 2)]))),
            ("0.0.0.0/0", Way::InLine(gateways(&[("192.0.2.1", 2)]))),
            ("fd00::/64", Way::InLine(gateways(&[("fe80::1", 2), ("fe80::1", 3)]))),
            ("::/0", Way::InLine(gateways(&[("2001:db8::1", 2)]))),
            ("10.1.8.192/26", Way::Blackhole),
            ("fd00:1::/64", Way::Blackhole),
            ("10.1.71.192/26", Way::Object(ObjectId(1_860_000_000))),
            ("fd00::/64", Way::Object(ObjectId(u32::MAX))),
        ];
        for (prefix, way) in ways {
            let prefix: Prefix = prefix.parse().unwrap();
            let source = match prefix.family() {
                Family::Ipv4Unicast => "1.1.1.1".parse().unwrap(),
                Family::Ipv6Unicast => "fd00::1".parse().unwrap(),
            };
            let route = Route { way, source: Some(source) };
            let message = message(OURS, OURS.key(prefix), &route);
            let observation = OURS.observe(&message).unwrap();
            assert_eq!(observation.owner, Owner::Ours);
            assert_eq!(observation.key, Key { prefix, metric: 20 });
            assert_eq!(observation.installed, Installed::Route(route));
        }
    }

    #[test]
    fn ours_is_our_table_and_our_protocol() {
        let key = OURS.key("10.0.0.0/8".parse().unwrap());
        let route = Route { way: Way::Blackhole, source: None };
        let foreign = message(Ownership { protocol: 80, ..OURS }, key, &route);
        assert_eq!(OURS.observe(&foreign).unwrap().owner, Owner::Foreign(Protocol(80)));
        let elsewhere = message(Ownership { table: 1000, ..OURS }, key, &route);
        assert_eq!(OURS.observe(&elsewhere), None);
        let mut other_service = message(OURS, key, &route);
        other_service.header.tos = 4;
        assert_eq!(OURS.observe(&other_service), None);
    }

    #[test]
    fn shapes_that_we_never_write_are_irregular() {
        let key = OURS.key("10.0.0.0/8".parse().unwrap());
        let route = Route { way: Way::InLine(gateways(&[("fe80::1", 2), ("fe80::2", 3)])), source: None };
        let mut weighted = message(OURS, key, &route);
        for attribute in &mut weighted.attributes {
            if let RouteAttribute::MultiPath(legs) = attribute {
                legs[0].hops = 3;
            }
        }
        assert_eq!(OURS.observe(&weighted).unwrap().installed, Installed::Irregular);
        let mut prohibit = message(OURS, key, &route);
        prohibit.header.kind = RouteType::Prohibit;
        assert_eq!(OURS.observe(&prohibit).unwrap().installed, Installed::Irregular);
    }

    #[test]
    fn an_interface_left_to_the_kernel_matches_any() {
        let same =
            |has: &[(&str, u32)], wants: &[(&str, u32)]| same_gateways(&gateways(has), &gateways(wants));
        assert!(same(&[("192.0.2.1", 2)], &[("192.0.2.1", 0)]));
        assert!(!same(&[("192.0.2.1", 2)], &[("192.0.2.1", 3)]));
        assert!(!same(&[("fe80::1", 2), ("fe80::1", 3)], &[("fe80::1", 2)]));
    }

    /// Against the bytes that the kernel's headers call for.
    #[test]
    fn a_route_over_an_object_is_these_bytes() {
        let key = OURS.key("10.1.71.192/26".parse().unwrap());
        let mut packet = Packet::default();
        packet.message(NEW, 0x0605, 7, |packet| {
            let way = RequestWay::Object(ObjectId(2001));
            OURS.append_route(packet, key, way, "1.1.1.1".parse().ok());
        });
        packet.flag_last(0x0008);
        let expected = [
            [68, 0, 0, 0, 24, 0, 0x0d, 0x06, 7, 0, 0, 0, 0, 0, 0, 0].as_slice(),
            &[2, 26, 0, 0, 0, 186, 0, 1, 0, 0, 0, 0],
            &[8, 0, 15, 0, 254, 0, 0, 0],
            &[8, 0, 1, 0, 10, 1, 71, 192],
            &[8, 0, 6, 0, 20, 0, 0, 0],
            &[8, 0, 7, 0, 1, 1, 1, 1],
            &[8, 0, 30, 0, 0xd1, 7, 0, 0],
        ]
        .concat();
        assert!(cfg!(target_endian = "big") || packet.bytes() == expected, "{:?}", packet.bytes());
    }
}
