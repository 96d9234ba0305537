//! A route as we want it and as the kernel tells it, and the one place that decides which routes are ours.
//!
//! In: `RTM_NEWROUTE` and `RTM_DELROUTE`. Out: [`Observation`]s, and the messages that install and delete.
//! Layouts: `linux/rtnetlink.h`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::rib::{Gateway, Gateways};
use bgp::{Family, InterfaceIndex, Prefix};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

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

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Forwards over equal next hops: sorted, without duplicates, not empty.
    Unicast(Gateways),
    /// Drops silently.
    Blackhole,
}

/// A route as we write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: Kind,
    /// Preferred source of packets that this node sends.
    pub(super) source: Option<IpAddr>,
}

/// What the kernel has of ours at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Installed {
    /// A route that we could have written.
    Route(Route),
    /// With our protocol, but of a shape that we never write: another type, weights, encapsulation, or no next hop.
    Irregular,
    /// More than one (IPv4 takes several with `ip route append`); deleting takes one away.
    Several,
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

    /// The message that creates or replaces a route.
    pub(super) fn route_message(&self, key: Key, route: &Route) -> RouteMessage {
        let mut message = self.message(key);
        message.header.scope = RouteScope::Universe;
        if let Some(source) = route.source {
            message.attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        match &route.kind {
            Kind::Blackhole => message.header.kind = RouteType::BlackHole,
            Kind::Unicast(gateways) => {
                message.header.kind = RouteType::Unicast;
                match gateways.as_slice() {
                    [only] => message.attributes.extend(next_hop_attributes(key.prefix.family(), only)),
                    several => message.attributes.push(RouteAttribute::MultiPath(
                        several.iter().map(|gateway| leg(key.prefix.family(), gateway)).collect(),
                    )),
                }
            }
        }
        message
    }

    /// The message that deletes whatever is ours at a key, all next hops at once. It names our protocol, which
    /// the kernel compares: a foreign route cannot match. Scope "nowhere" and no type match any.
    pub(super) fn delete_message(&self, key: Key) -> RouteMessage {
        let mut message = self.message(key);
        message.header.scope = RouteScope::NoWhere;
        message.header.kind = RouteType::Unspec;
        message
    }

    fn message(&self, key: Key) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = match key.prefix.family() {
            Family::Ipv4Unicast => AddressFamily::Inet,
            Family::Ipv6Unicast => AddressFamily::Inet6,
        };
        message.header.destination_prefix_length = key.prefix.length();
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Destination(key.prefix.address().into()),
            RouteAttribute::Priority(key.metric),
        ];
        message
    }
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
        let kind = match kind {
            // In IPv6 a blackhole comes with the loopback interface, which means nothing.
            RouteType::BlackHole => Some(Kind::Blackhole),
            RouteType::Unicast => self.gateways().map(Kind::Unicast),
            _ => None,
        };
        match kind {
            Some(kind) if !self.irregular => Installed::Route(Route { kind, source: self.source }),
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

/// An IPv4 route takes an IPv6 next hop in RTA_VIA (RFC 8950's data plane); all others are RTA_GATEWAY. No
/// RTNH_F_ONLINK: a link-local gateway is on the link by its scope.
fn gateway_attribute(family: Family, address: IpAddr) -> RouteAttribute {
    match (family, address) {
        (Family::Ipv4Unicast, IpAddr::V6(address)) => RouteAttribute::Via(RouteVia::Inet6(address)),
        (Family::Ipv4Unicast | Family::Ipv6Unicast, address) => RouteAttribute::Gateway(address.into()),
    }
}

fn next_hop_attributes(family: Family, gateway: &Gateway) -> impl Iterator<Item = RouteAttribute> {
    let interface = gateway.interface.map(|index| RouteAttribute::Oif(index.0));
    std::iter::once(gateway_attribute(family, gateway.address)).chain(interface)
}

fn leg(family: Family, gateway: &Gateway) -> RouteNextHop {
    let mut leg = RouteNextHop::default();
    // 0: the kernel resolves it.
    leg.interface_index = gateway.interface.map_or(0, |index| index.0);
    leg.attributes = vec![gateway_attribute(family, gateway.address)];
    leg
}

impl Installed {
    /// Whether the kernel has what we want. Where we leave the interface to the kernel, any will do.
    pub(super) fn is(&self, wanted: &Route) -> bool {
        let Self::Route(route) = self else { return false };
        route.source == wanted.source
            && match (&route.kind, &wanted.kind) {
                (Kind::Blackhole, Kind::Blackhole) => true,
                (Kind::Unicast(has), Kind::Unicast(wants)) => same_gateways(has, wants),
                (Kind::Blackhole, Kind::Unicast(_)) | (Kind::Unicast(_), Kind::Blackhole) => false,
            }
    }
}

fn same_gateways(has: &[Gateway], wants: &[Gateway]) -> bool {
    let fits = |has: &Gateway, wants: &Gateway| {
        has.address == wants.address && (wants.interface.is_none() || has.interface == wants.interface)
    };
    has.len() == wants.len()
        && wants.iter().all(|wanted| has.iter().any(|has| fits(has, wanted)))
        && has.iter().all(|has| wants.iter().any(|wanted| fits(has, wanted)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable, Parseable};

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

    fn through_the_wire(message: &RouteMessage) -> RouteMessage {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        RouteMessage::parse(&bytes).unwrap()
    }

    #[test]
    fn what_we_write_is_read_back_as_ours() {
        let kinds = [
            ("10.1.71.192/26", Kind::Unicast(gateways(&[("fe80::1", 2), ("fe80::2", 3)]))),
            ("10.1.71.192/26", Kind::Unicast(gateways(&[("fe80::1", 2)]))),
            ("0.0.0.0/0", Kind::Unicast(gateways(&[("192.0.2.1", 2)]))),
            ("fd00::/64", Kind::Unicast(gateways(&[("fe80::1", 2), ("fe80::1", 3)]))),
            ("::/0", Kind::Unicast(gateways(&[("2001:db8::1", 2)]))),
            ("10.1.8.192/26", Kind::Blackhole),
            ("fd00:1::/64", Kind::Blackhole),
        ];
        for (prefix, kind) in kinds {
            let prefix: Prefix = prefix.parse().unwrap();
            let source = match prefix.family() {
                Family::Ipv4Unicast => "1.1.1.1".parse().unwrap(),
                Family::Ipv6Unicast => "fd00::1".parse().unwrap(),
            };
            let route = Route { kind, source: Some(source) };
            let message = through_the_wire(&OURS.route_message(OURS.key(prefix), &route));
            let observation = OURS.observe(&message).unwrap();
            assert_eq!(observation.owner, Owner::Ours);
            assert_eq!(observation.key, Key { prefix, metric: 20 });
            assert_eq!(observation.installed, Installed::Route(route));
        }
    }

    #[test]
    fn ours_is_our_table_and_our_protocol() {
        let key = OURS.key("10.0.0.0/8".parse().unwrap());
        let route = Route { kind: Kind::Blackhole, source: None };
        let foreign = Ownership { protocol: 80, ..OURS }.route_message(key, &route);
        assert_eq!(OURS.observe(&foreign).unwrap().owner, Owner::Foreign(Protocol(80)));
        let elsewhere = Ownership { table: 1000, ..OURS }.route_message(key, &route);
        assert_eq!(OURS.observe(&elsewhere), None);
        let mut other_service = OURS.route_message(key, &route);
        other_service.header.tos = 4;
        assert_eq!(OURS.observe(&other_service), None);
    }

    #[test]
    fn shapes_that_we_never_write_are_irregular() {
        let key = OURS.key("10.0.0.0/8".parse().unwrap());
        let route = Route { kind: Kind::Unicast(gateways(&[("fe80::1", 2), ("fe80::2", 3)])), source: None };
        let mut weighted = OURS.route_message(key, &route);
        for attribute in &mut weighted.attributes {
            if let RouteAttribute::MultiPath(legs) = attribute {
                legs[0].hops = 3;
            }
        }
        assert_eq!(OURS.observe(&weighted).unwrap().installed, Installed::Irregular);
        let mut prohibit = OURS.route_message(key, &route);
        prohibit.header.kind = RouteType::Prohibit;
        assert_eq!(OURS.observe(&prohibit).unwrap().installed, Installed::Irregular);
    }

    #[test]
    fn an_interface_left_to_the_kernel_matches_any() {
        let has = |list| Installed::Route(Route { kind: Kind::Unicast(gateways(list)), source: None });
        let wants = |list| Route { kind: Kind::Unicast(gateways(list)), source: None };
        assert!(has(&[("192.0.2.1", 2)]).is(&wants(&[("192.0.2.1", 0)])));
        assert!(!has(&[("192.0.2.1", 2)]).is(&wants(&[("192.0.2.1", 3)])));
        assert!(!has(&[("fe80::1", 2), ("fe80::1", 3)]).is(&wants(&[("fe80::1", 2)])));
    }
}
