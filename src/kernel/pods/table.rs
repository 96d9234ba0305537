//! What the kernel said about links and host routes, and the addresses of pods that follow from it.
//!
//! In: RTM_NEWLINK, RTM_DELLINK, RTM_NEWROUTE and RTM_DELROUTE, from a dump or as events. Out: the addresses that have a
//! route as Felix makes it (`felix/routetable` of Calico): to one address of the main table, over an interface named
//! `cali*`, with scope "link" in IPv4 and without a gateway in IPv6. Routes of our own always have a gateway, or are
//! blackholes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// `InterfacePrefix` of Felix, by default.
const POD_INTERFACE: &str = "cali";
/// RT_TABLE_MAIN
const MAIN: u8 = 254;
/// AF_INET and AF_INET6
pub(super) const DUMPED_FAMILIES: [u8; 2] = [2, 10];
/// RTN_UNICAST
const UNICAST: u8 = 1;
/// RTA_TABLE
const RTA_TABLE: u16 = 15;

/// The links, and the routes that can be to a pod over any of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Links that are up and are named as those of pods.
    pod_links: BTreeSet<u32>,
    /// By what the kernel tells them apart: one replaces another with the same address and metric.
    routes: BTreeMap<RouteKey, BTreeSet<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey {
    address: IpAddr,
    metric: u32,
}

impl Table {
    /// Takes in one message, with the NLM_F_* flags of its header.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage, flags: u16) {
        match message {
            RouteNetlinkMessage::NewLink(link) if is_of_the_link_itself(link) => self.link_is(link),
            RouteNetlinkMessage::DelLink(link) if is_of_the_link_itself(link) => {
                self.link_lost(link.header.index);
            }
            RouteNetlinkMessage::NewRoute(route) => {
                let Some(route) = HostRoute::read(route) else { return };
                if flags & NLM_F_REPLACE != 0 {
                    self.routes.remove(&route.key);
                }
                if let Some(interface) = route.to_pod_over {
                    self.routes.entry(route.key).or_default().insert(interface);
                }
            }
            RouteNetlinkMessage::DelRoute(route) => {
                let Some(HostRoute { key, to_pod_over: Some(interface) }) = HostRoute::read(route) else {
                    return;
                };
                if let Some(interfaces) = self.routes.get_mut(&key) {
                    interfaces.remove(&interface);
                    if interfaces.is_empty() {
                        self.routes.remove(&key);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        let is_of_pod = |interfaces: &BTreeSet<u32>| !interfaces.is_disjoint(&self.pod_links);
        self.routes
            .iter()
            .filter(|(_, interfaces)| is_of_pod(interfaces))
            .map(|(key, _)| key.address)
            .collect()
    }

    fn link_is(&mut self, link: &LinkMessage) {
        let index = link.header.index;
        // The kernel takes the routes of a link that is set down, and says so of IPv6 at most. What has no carrier
        // keeps them.
        if !link.header.flags.contains(LinkFlags::Up) {
            self.link_lost(index);
            return;
        }
        for attribute in &link.attributes {
            if let LinkAttribute::IfName(name) = attribute {
                match name.starts_with(POD_INTERFACE) {
                    true => self.pod_links.insert(index),
                    false => self.pod_links.remove(&index),
                };
            }
        }
    }

    fn link_lost(&mut self, index: u32) {
        self.pod_links.remove(&index);
        self.routes.retain(|_, interfaces| {
            interfaces.remove(&index);
            !interfaces.is_empty()
        });
    }
}

/// A bridge tells of its ports with the same messages, in its own family.
fn is_of_the_link_itself(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

/// A route of the main table to one address.
struct HostRoute {
    key: RouteKey,
    /// The link, where the address is on it and nothing else is between.
    to_pod_over: Option<u32>,
}

impl HostRoute {
    fn read(route: &RouteMessage) -> Option<Self> {
        let header = &route.header;
        let (mut table, mut destination, mut metric) = (u32::from(header.table), None, 0);
        let (mut interface, mut is_direct) = (None, header.kind == RouteType::Unicast);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(address) => destination = ip(address),
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                    is_direct = false;
                }
                _ => {}
            }
        }
        let address = destination?;
        let (length, scope) = match address {
            // IPv6 routes have no scope.
            IpAddr::V4(_) => (Ipv4Addr::BITS, RouteScope::Link),
            IpAddr::V6(_) => (Ipv6Addr::BITS, RouteScope::Universe),
        };
        let is_host = u32::from(header.destination_prefix_length) == length
            && header.source_prefix_length == 0
            && header.tos == 0
            && !header.flags.contains(RouteFlags::Cloned);
        (is_host && table == u32::from(MAIN)).then(|| Self {
            key: RouteKey { address, metric },
            to_pod_over: interface.filter(|_| is_direct && header.scope == scope),
        })
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Whether a route as the kernel sends it is to one address, by its `struct rtmsg`.
pub(super) fn may_be_of_pod(route: &[u8]) -> bool {
    match route {
        [_family, length, _source, _tos, _table, _protocol, _scope, kind, ..] => {
            matches!(u32::from(*length), Ipv4Addr::BITS | Ipv6Addr::BITS) && *kind == UNICAST
        }
        _ => false,
    }
}

/// `struct rtmsg` and RTA_TABLE: all routes of the main table in a family.
pub(super) fn dump_request(family: u8) -> Vec<u8> {
    let mut request = vec![family, 0, 0, 0, MAIN, 0, 0, 0, 0, 0, 0, 0];
    request.extend(8_u16.to_ne_bytes());
    request.extend(RTA_TABLE.to_ne_bytes());
    request.extend(u32::from(MAIN).to_ne_bytes());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: u32 = 7;
    const OTHER: u32 = 8;
    const UPLINK: u32 = 2;

    fn link(index: u32, name: &str, flags: LinkFlags) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = vec![LinkAttribute::IfName(name.into())];
        message
    }

    /// As Felix makes it.
    fn route(address: &str, interface: u32) -> RouteMessage {
        let address: IpAddr = address.parse().unwrap();
        let mut message = RouteMessage::default();
        let (family, length, scope, metric, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteScope::Link, 0, RouteAddress::Inet(v4)),
            IpAddr::V6(v6) => {
                (AddressFamily::Inet6, 128, RouteScope::Universe, 1024, RouteAddress::Inet6(v6))
            }
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.header.scope = scope;
        message.header.table = MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Destination(destination), RouteAttribute::Oif(interface)];
        if metric != 0 {
            message.attributes.push(RouteAttribute::Priority(metric));
        }
        message
    }

    fn there(route: RouteMessage) -> RouteNetlinkMessage {
        RouteNetlinkMessage::NewRoute(route)
    }

    fn gone(route: RouteMessage) -> RouteNetlinkMessage {
        RouteNetlinkMessage::DelRoute(route)
    }

    fn table(messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> Table {
        let links = [(POD, "cali0a1b"), (OTHER, "cali2c3d"), (UPLINK, "ens3")];
        let links = links.map(|(index, name)| RouteNetlinkMessage::NewLink(link(index, name, LinkFlags::Up)));
        let mut table = Table::default();
        links.into_iter().chain(messages).for_each(|message| table.apply(&message, 0));
        table
    }

    fn addresses(table: &Table) -> Vec<String> {
        table.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_is_an_address_with_a_route_of_its_own_over_its_interface() {
        let mut table = table([
            there(route("10.1.9.5", POD)),
            there(route("fd00:9::5", POD)),
            // Over another link than that of a pod.
            there(route("10.1.9.6", UPLINK)),
        ]);
        assert_eq!(addresses(&table), ["10.1.9.5", "fd00:9::5"]);
        table.apply(&gone(route("10.1.9.5", POD)), 0);
        assert_eq!(addresses(&table), ["fd00:9::5"]);
        table.apply(&gone(route("fd00:9::5", OTHER)), 0);
        assert_eq!(addresses(&table), ["fd00:9::5"], "another route");
        table.apply(&gone(route("fd00:9::5", POD)), 0);
        assert_eq!((addresses(&table), table.routes.len()), (Vec::new(), 1));
    }

    #[test]
    fn what_felix_does_not_make_is_no_pod() {
        fn with(address: &str, change: impl FnOnce(&mut RouteMessage)) -> RouteNetlinkMessage {
            let mut route = route(address, POD);
            change(&mut route);
            there(route)
        }
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet6("fe80::1".parse().unwrap()));
        let rows = [
            ("a network", with("10.1.9.5", |route| route.header.destination_prefix_length = 31)),
            (
                "a whole table",
                with("10.1.9.5", |route| {
                    route.attributes.retain(|a| !matches!(a, RouteAttribute::Destination(_)))
                }),
            ),
            ("not on the link", with("10.1.9.5", |route| route.header.scope = RouteScope::Universe)),
            ("over a gateway", with("fd00:9::5", |route| route.attributes.push(gateway))),
            ("an own address", with("fd00:9::5", |route| route.header.kind = RouteType::Local)),
            ("a blackhole", with("10.1.9.5", |route| route.header.kind = RouteType::BlackHole)),
            ("another table", with("10.1.9.5", |route| route.attributes.push(RouteAttribute::Table(1000)))),
            ("for one type of service", with("10.1.9.5", |route| route.header.tos = 8)),
            ("a clone", with("fd00:9::5", |route| route.header.flags = RouteFlags::Cloned)),
        ];
        for (what, message) in rows {
            assert_eq!(addresses(&table([message])), Vec::<String>::new(), "{what}");
        }
    }

    #[test]
    fn one_route_takes_the_place_of_another_with_the_same_metric() {
        let replacing = |table: &mut Table, route: RouteMessage| table.apply(&there(route), NLM_F_REPLACE);
        let mut table = table([there(route("10.1.9.5", POD))]);
        replacing(&mut table, route("10.1.9.5", OTHER));
        table.apply(&RouteNetlinkMessage::DelLink(link(POD, "cali0a1b", LinkFlags::Up)), 0);
        assert_eq!(addresses(&table), ["10.1.9.5"]);
        // Of another metric, as Felix makes it for live migration: beside it.
        let mut elevated = route("10.1.9.5", OTHER);
        elevated.attributes.push(RouteAttribute::Priority(512));
        replacing(&mut table, elevated.clone());
        replacing(&mut table, route("10.1.9.5", UPLINK));
        assert_eq!(addresses(&table), ["10.1.9.5"]);
        table.apply(&gone(elevated), 0);
        assert_eq!(addresses(&table), Vec::<String>::new());
    }

    #[test]
    fn a_link_takes_its_routes_with_it() {
        let lost = [
            RouteNetlinkMessage::DelLink(link(POD, "cali0a1b", LinkFlags::Up)),
            RouteNetlinkMessage::NewLink(link(POD, "cali0a1b", LinkFlags::empty())),
        ];
        for lost in lost {
            let mut table = table([there(route("10.1.9.5", POD)), there(route("10.1.9.6", OTHER))]);
            table.apply(&lost, 0);
            assert_eq!(addresses(&table), ["10.1.9.6"]);
            let back = RouteNetlinkMessage::NewLink(link(POD, "cali0a1b", LinkFlags::Up));
            table.apply(&back, 0);
            assert_eq!(addresses(&table), ["10.1.9.6"], "a link that is up again has no routes yet");
            table.apply(&there(route("10.1.9.5", POD)), 0);
            assert_eq!(addresses(&table), ["10.1.9.5", "10.1.9.6"]);
        }
    }

    #[test]
    fn a_link_is_that_of_a_pod_by_its_name_of_the_moment() {
        let mut table = table([there(route("10.1.9.5", UPLINK))]);
        let named = |name| RouteNetlinkMessage::NewLink(link(UPLINK, name, LinkFlags::Up));
        table.apply(&named("cali4e5f"), 0);
        assert_eq!(addresses(&table), ["10.1.9.5"]);
        table.apply(&named("ens3"), 0);
        assert_eq!(addresses(&table), Vec::<String>::new());
        // A port that leaves its bridge is still a link.
        let mut port = link(POD, "cali0a1b", LinkFlags::Up);
        port.header.interface_family = AddressFamily::Bridge;
        table.apply(&there(route("10.1.9.6", POD)), 0);
        table.apply(&RouteNetlinkMessage::DelLink(port), 0);
        assert_eq!(addresses(&table), ["10.1.9.6"]);
    }

    #[test]
    fn routes_that_cannot_be_to_a_pod_are_not_decoded() {
        let rtmsg = |length, kind| [2, length, 0, 0, MAIN, 4, 253, kind, 0, 0, 0, 0];
        assert!(may_be_of_pod(&rtmsg(32, UNICAST)) && may_be_of_pod(&rtmsg(128, UNICAST)));
        assert!(!may_be_of_pod(&rtmsg(24, UNICAST)) && !may_be_of_pod(&rtmsg(32, 6)));
        assert!(!may_be_of_pod(&[2, 32]));
    }
}
