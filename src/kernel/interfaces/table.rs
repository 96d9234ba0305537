//! What the kernel said about links and addresses, and the snapshot that follows from it.
//!
//! In: RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR and RTM_DELADDR, from a dump or as events. Out: [`Interfaces`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use bgp::InterfaceIndex;
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Interface, Interfaces};

/// The kernel's links and addresses, usable or not.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    /// In the order in which the kernel told them. May be ahead of the link.
    addresses: BTreeMap<u32, Vec<Address>>,
}

#[derive(Debug, Default)]
struct Link {
    name: String,
    flags: LinkFlags,
    mac: Option<[u8; 6]>,
    mtu: u32,
    carrier_changes: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Address {
    network: IpNetwork,
    flags: AddressFlags,
    scope: AddressScope,
}

impl Table {
    /// Takes in one message; others than those of links and addresses change nothing.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) if is_of_the_link_itself(link) => self.link_is(link),
            RouteNetlinkMessage::DelLink(link) if is_of_the_link_itself(link) => {
                self.links.remove(&link.header.index);
                self.addresses.remove(&link.header.index);
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let Some(address) = Address::parse(message) else { return };
                let addresses = self.addresses.entry(message.header.index).or_default();
                match addresses.iter_mut().find(|known| known.network == address.network) {
                    Some(known) => *known = address,
                    None => addresses.push(address),
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let Some(address) = Address::parse(message) else { return };
                if let Some(addresses) = self.addresses.get_mut(&message.header.index) {
                    addresses.retain(|known| known.network != address.network);
                }
            }
            _ => {}
        }
    }

    /// What is usable now.
    pub(super) fn snapshot(&self) -> Interfaces {
        let by_index = self
            .links
            .iter()
            .map(|(&index, link)| (InterfaceIndex(index), self.interface(InterfaceIndex(index), link)))
            .collect();
        Interfaces { by_index }
    }

    fn link_is(&mut self, message: &LinkMessage) {
        let link = self.links.entry(message.header.index).or_default();
        link.flags = message.header.flags;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::CarrierChanges(changes) => link.carrier_changes = *changes,
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
                _ => {}
            }
        }
    }

    fn interface(&self, index: InterfaceIndex, link: &Link) -> Interface {
        let usable =
            || self.addresses.get(&index.0).into_iter().flatten().filter(|address| address.is_usable());
        Interface {
            index,
            name: link.name.clone(),
            admin_up: link.flags.contains(LinkFlags::Up),
            carrier: link.flags.contains(LinkFlags::LowerUp),
            carrier_changes: link.carrier_changes,
            loopback: link.flags.contains(LinkFlags::Loopback),
            mac: link.mac,
            mtu: link.mtu,
            link_local: usable().find_map(Address::link_local),
            addresses: usable()
                .filter(|address| address.scope == AddressScope::Universe)
                .map(|address| address.network)
                .collect(),
        }
    }
}

/// A bridge tells of its ports with the same messages, in its own family: a port that leaves its bridge is an
/// RTM_DELLINK of AF_BRIDGE, and the link is still there.
fn is_of_the_link_itself(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

impl Address {
    fn parse(message: &AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link IFA_ADDRESS is the other end.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                // All 32 bits; the header has room for eight.
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        let network = IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()?;
        Some(Self { network, flags, scope: message.header.scope })
    }

    /// A tentative address must not be used before duplicate address detection is over (RFC 4862 section
    /// 5.4), unless it is optimistic (RFC 4429); one that failed it never.
    fn is_usable(&self) -> bool {
        let tentative =
            self.flags.contains(AddressFlags::Tentative) && !self.flags.contains(AddressFlags::Optimistic);
        !tentative && !self.flags.contains(AddressFlags::Dadfailed)
    }

    fn link_local(&self) -> Option<Ipv6Addr> {
        match self.network.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, flags: LinkFlags) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        ];
        message
    }

    fn address(index: u32, text: &str, flags: AddressFlags) -> AddressMessage {
        let network: IpNetwork = text.parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = network.prefix();
        let link_local = matches!(network.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        message.header.scope = if link_local { AddressScope::Link } else { AddressScope::Universe };
        message.attributes = vec![AddressAttribute::Address(network.ip()), AddressAttribute::Flags(flags)];
        message
    }

    fn table(messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> Table {
        let mut table = Table::default();
        messages.into_iter().for_each(|message| table.apply(&message));
        table
    }

    const UP: LinkFlags = LinkFlags::Up.union(LinkFlags::LowerUp);

    #[test]
    fn a_link_local_address_counts_once_it_is_usable() {
        let states = [
            (AddressFlags::Tentative, false),
            (AddressFlags::Tentative | AddressFlags::Optimistic, true),
            (AddressFlags::Dadfailed, false),
            (AddressFlags::Dadfailed | AddressFlags::Tentative, false),
            (AddressFlags::Permanent, true),
            (AddressFlags::Permanent | AddressFlags::Tentative, false),
        ];
        let mut table = table([RouteNetlinkMessage::NewLink(link(2, "ens3", UP))]);
        for (flags, usable) in states {
            table.apply(&RouteNetlinkMessage::NewAddress(address(2, "fe80::1/64", flags)));
            let snapshot = table.snapshot();
            let interface = snapshot.by_name("ens3").unwrap();
            assert_eq!(interface.link_local.is_some(), usable, "{flags:?}");
            assert!(interface.addresses.is_empty(), "link-local addresses are not global");
        }
    }

    #[test]
    fn a_link_made_again_has_nothing_of_the_old_one() {
        let table = table([
            RouteNetlinkMessage::NewLink(link(2, "ens3", UP)),
            RouteNetlinkMessage::NewAddress(address(2, "fe80::1/64", AddressFlags::Permanent)),
            RouteNetlinkMessage::DelLink(link(2, "ens3", UP)),
            RouteNetlinkMessage::NewLink(link(9, "ens3", LinkFlags::empty())),
        ]);
        let snapshot = table.snapshot();
        assert_eq!(snapshot.by_index.len(), 1);
        let interface = snapshot.by_name("ens3").unwrap();
        assert_eq!((interface.index, interface.link_local), (InterfaceIndex(9), None));
        assert!(!interface.is_running());
    }

    #[test]
    fn a_rename_keeps_the_addresses_and_a_deletion_takes_one() {
        let mut table = table([
            RouteNetlinkMessage::NewLink(link(1, "lo", UP | LinkFlags::Loopback)),
            RouteNetlinkMessage::NewAddress(address(1, "1.1.1.1/32", AddressFlags::Permanent)),
            RouteNetlinkMessage::NewAddress(address(1, "fd00::1/128", AddressFlags::Permanent)),
            RouteNetlinkMessage::NewLink(link(1, "loop", UP | LinkFlags::Loopback)),
        ]);
        let interface = table.snapshot().by_name("loop").unwrap().clone();
        assert!(interface.loopback && interface.is_running());
        assert_eq!(interface.addresses.len(), 2);
        assert_eq!(interface.mac, Some([2, 0, 0, 0, 0, 1]));
        let gone = address(1, "1.1.1.1/32", AddressFlags::Permanent);
        table.apply(&RouteNetlinkMessage::DelAddress(gone));
        assert_eq!(table.snapshot().by_name("loop").unwrap().addresses, ["fd00::1/128".parse().unwrap()]);
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_still_a_link() {
        let mut port = link(3, "ens4", UP);
        port.header.interface_family = AddressFamily::Bridge;
        let table =
            table([RouteNetlinkMessage::NewLink(link(3, "ens4", UP)), RouteNetlinkMessage::DelLink(port)]);
        assert!(table.snapshot().by_name("ens4").is_some());
    }
}
