//! What this node originates (the loopback's global addresses, its pod blocks, services), and what is its own beside that: the
//! networks that its links are in, and the pods on them. A function of three snapshots, the configuration, the interfaces and what Kubernetes says;
//! it remembers nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::Prefix;
use bgp::rib::{Lending, Origination, Originator};

use crate::cluster::{BlockSource, Desired, Snapshot};
use crate::config::{Borrowed, Calico, Config};
use crate::kernel::fib::LocalRoutes;
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::pods::PodAddresses;

/// What the RIB announces and what the kernel gets for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Origin {
    pub(super) announced: BTreeMap<Prefix, Origination>,
    /// No neighbor may speak for these, or for a part of them.
    pub(super) connected: BTreeSet<Prefix>,
    /// Nor for one of these.
    pub(super) hosts: PodAddresses,
    pub(super) local: LocalRoutes,
}

pub(super) fn origin(config: &Config, interfaces: &Interfaces, cluster: &Snapshot) -> Origin {
    let desired = &cluster.desired;
    let hosts = cluster.pods.clone().unwrap_or_default();
    let mut origin = Origin { connected: connected(config, interfaces), hosts, ..Origin::default() };
    // What is nearest comes last: the file says more than the API server, and the loopback's addresses are the node.
    origin.announced.extend(desired.services.keys().map(|&prefix| (prefix, Originator::Service.into())));
    origin.announced.extend(borrowed(config, desired));
    for (&prefix, block) in &desired.blocks {
        if block.is_announced() {
            let (by, lending) = match block.source {
                BlockSource::Node => (Originator::NodeBlock, Lending::Nothing),
                BlockSource::Calico => (Originator::CalicoBlock, lending(config, cluster)),
            };
            origin.announced.insert(prefix, Origination { lending, ..by.into() });
        }
        if block.has_blackhole(prefix) {
            origin.local.blackholes.insert(prefix);
        }
    }
    for block in &config.pods.static_blocks {
        origin.announced.insert(*block, Originator::StaticBlock.into());
        origin.local.blackholes.insert(*block);
    }
    for address in loopback_addresses(config, interfaces) {
        if config.loopback.advertise {
            origin.announced.insert(Prefix::host(address), Originator::Loopback.into());
        }
        match address {
            IpAddr::V4(v4) => origin.local.preferred_source_ipv4.get_or_insert(v4),
            IpAddr::V6(v6) => {
                origin.local.preferred_source_ipv6.get_or_insert(v6);
                continue;
            }
        };
    }
    let lends = |(_, origination): &(&Prefix, &Origination)| origination.lending == Lending::Addresses;
    origin.local.lending = origin.announced.iter().filter(lends).map(|(prefix, _)| *prefix).collect();
    origin
}

/// Pods with an address of another node's block. A pod has its own route, and so no blackhole.
fn borrowed(config: &Config, desired: &Desired) -> impl Iterator<Item = (Prefix, Origination)> {
    let origination = match config.pods.calico {
        Some(Calico { borrowed: Borrowed::Advertise { community, .. }, .. }) => {
            Some(Origination { community, ..Originator::BorrowedAddress.into() })
        }
        Some(Calico { borrowed: Borrowed::Refuse, .. }) | None => None,
    };
    let addresses = desired.borrowed.iter().filter(|(_, standing)| standing.is_announced());
    addresses.filter_map(move |(&address, _)| Some((Prefix::host(address), origination?)))
}

/// What Calico borrows for pods of other nodes has to be reached there from here, too. Which addresses are not borrowed, only
/// the kernel knows: as long as it has not said which pods are here, nobody is believed.
fn lending(config: &Config, cluster: &Snapshot) -> Lending {
    match (&config.pods.calico, &cluster.pods) {
        (Some(Calico { borrowed: Borrowed::Advertise { .. }, .. }), Some(_)) => Lending::Addresses,
        (Some(Calico { borrowed: Borrowed::Advertise { .. } | Borrowed::Refuse, .. }) | None, _) => {
            Lending::Nothing
        }
    }
}

/// The networks of all links but the loopback interface, which has none. A link that is down has them too: it may come
/// back, and until then nobody else is to answer for the hosts that are on it.
fn connected(config: &Config, interfaces: &Interfaces) -> BTreeSet<Prefix> {
    let is_loopback =
        |interface: &&Interface| interface.loopback || interface.name == config.loopback.interface;
    let links = interfaces.by_index.values().filter(|interface| !is_loopback(interface));
    let networks = links.flat_map(|interface| &interface.addresses);
    networks.filter_map(|network| Prefix::masked(network.ip(), network.prefix()).ok()).collect()
}

/// The router identifier where the file gives none: the first global IPv4 address of the loopback interface.
pub(super) fn router_id(config: &Config, interfaces: &Interfaces) -> Option<Ipv4Addr> {
    config.bgp.router_id.or_else(|| {
        loopback_addresses(config, interfaces).find_map(|address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    })
}

/// Addresses that others can use: 127/8 is of global scope to the kernel when somebody added it that way, and
/// is nobody's loopback address in the sense of a router.
fn loopback_addresses(config: &Config, interfaces: &Interfaces) -> impl Iterator<Item = IpAddr> {
    let interface = interfaces.by_name(&config.loopback.interface);
    interface.into_iter().flat_map(|interface| &interface.addresses).map(|network| network.ip()).filter(
        |address| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
            IpAddr::V6(v6) => *v6 != Ipv6Addr::LOCALHOST && !v6.is_unicast_link_local(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgp::InterfaceIndex;

    fn lo(addresses: &[&str]) -> Interfaces {
        let lo = lo_interface(addresses);
        Interfaces { by_index: [(lo.index, lo)].into() }
    }

    fn lo_interface(addresses: &[&str]) -> Interface {
        Interface {
            index: InterfaceIndex(1),
            name: "lo".to_owned(),
            admin_up: true,
            carrier: true,
            carrier_changes: 1,
            loopback: true,
            mac: None,
            mtu: 65536,
            link_local: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn config(text: &str) -> Config {
        crate::config::parse(text, "test.toml").unwrap()
    }

    #[test]
    fn loopback_addresses_become_host_routes_and_preferred_sources() {
        let interfaces = lo(&["127.0.0.1/8", "1.1.1.1/32", "1.1.1.2/32", "::1/128", "fd00::1/128"]);
        let config = config("[bgp]\nlocal-as = 65001\n");
        let origin = origin(&config, &interfaces, &Snapshot::default());
        let announced: Vec<_> = origin.announced.keys().map(ToString::to_string).collect();
        assert_eq!(announced, ["1.1.1.1/32", "1.1.1.2/32", "fd00::1/128"]);
        assert_eq!(origin.local.preferred_source_ipv4, Some(Ipv4Addr::new(1, 1, 1, 1)));
        assert_eq!(origin.local.preferred_source_ipv6, Some("fd00::1".parse().unwrap()));
        assert_eq!(router_id(&config, &interfaces), Some(Ipv4Addr::new(1, 1, 1, 1)));
    }

    #[test]
    fn links_have_networks_of_their_own_and_the_loopback_interface_has_none() {
        let mut interfaces = lo(&["127.0.0.1/8", "1.1.1.1/24"]);
        for (index, name, address) in
            [(2, "eth0", "192.0.2.5/24"), (3, "cni0", "10.1.8.193/26"), (4, "dummy0", "3.3.3.3/24")]
        {
            let index = InterfaceIndex(index);
            let addresses = vec![address.parse().unwrap(), "fd00:7::5/64".parse().unwrap()];
            let link =
                Interface { index, name: name.to_owned(), loopback: false, addresses, ..lo_interface(&[]) };
            interfaces.by_index.insert(index, link);
        }
        let connected = |text: &str| {
            let networks = origin(
                &config(&format!("[bgp]\nlocal-as = 65001\n{text}")),
                &interfaces,
                &Snapshot::default(),
            )
            .connected;
            networks.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(connected(""), ["3.3.3.0/24", "10.1.8.192/26", "192.0.2.0/24", "fd00:7::/64"]);
        let own = "[loopback]\ninterface = \"dummy0\"\n";
        assert_eq!(connected(own), ["10.1.8.192/26", "192.0.2.0/24", "fd00:7::/64"]);
    }

    #[test]
    fn blocks_get_a_blackhole_and_need_no_loopback() {
        let config = config("[bgp]\nlocal-as = 65001\n[pods.static]\nblocks = [\"10.1.8.192/26\"]\n");
        let origin = origin(&config, &Interfaces::default(), &Snapshot::default());
        let block = "10.1.8.192/26".parse().unwrap();
        assert_eq!(origin.announced, [(block, Originator::StaticBlock.into())].into());
        assert_eq!(origin.local.blackholes, [block].into());
        assert_eq!(router_id(&config, &Interfaces::default()), None);
    }

    #[test]
    fn what_the_file_says_goes_before_what_kubernetes_says() {
        use crate::cluster::{AddressKind, Block, Standing};
        let config = config("[bgp]\nlocal-as = 65001\n[pods.static]\nblocks = [\"10.1.8.0/26\"]\n");
        let block = |source, standing| Block { source, standing, rivals: BTreeSet::new() };
        let desired = Desired {
            blocks: [
                ("10.1.8.0/26", block(BlockSource::Calico, Standing::OwnedBy("c2".to_owned()))),
                ("10.1.8.64/26", block(BlockSource::Calico, Standing::Announced)),
                ("10.1.8.128/26", block(BlockSource::Calico, Standing::Pending)),
                ("10.1.8.192/32", block(BlockSource::Calico, Standing::Announced)),
                ("10.2.0.0/24", block(BlockSource::Node, Standing::Announced)),
            ]
            .map(|(prefix, block)| (prefix.parse().unwrap(), block))
            .into(),
            services: ["192.0.2.1/32", "1.1.1.1/32"]
                .map(|prefix| (prefix.parse().unwrap(), [AddressKind::External].into()))
                .into(),
            ..Desired::default()
        };
        let known = Snapshot { desired, ..Snapshot::default() };
        let origin = origin(&config, &lo(&["1.1.1.1/32"]), &known);
        let announced: Vec<_> =
            origin.announced.iter().map(|(prefix, route)| (prefix.to_string(), route.by)).collect();
        let expected = [
            ("1.1.1.1/32", Originator::Loopback),
            ("10.1.8.0/26", Originator::StaticBlock),
            ("10.1.8.64/26", Originator::CalicoBlock),
            ("10.1.8.192/32", Originator::CalicoBlock),
            ("10.2.0.0/24", Originator::NodeBlock),
            ("192.0.2.1/32", Originator::Service),
        ];
        assert_eq!(announced, expected.map(|(prefix, who)| (prefix.to_owned(), who)));
        let blackholes: Vec<_> = origin.local.blackholes.iter().map(ToString::to_string).collect();
        assert_eq!(blackholes, ["10.1.8.0/26", "10.1.8.64/26", "10.1.8.128/26", "10.2.0.0/24"]);
    }

    #[test]
    fn borrowed_addresses_carry_what_the_file_says_and_have_no_blackhole() {
        use crate::cluster::BorrowedStanding;
        let text =
            |keys| format!("[bgp]\nlocal-as = 65001\n[kubernetes]\nin-cluster = true\n[pods.calico]\n{keys}");
        let standings = [
            ("10.1.9.5", BorrowedStanding::Announced),
            ("10.1.9.6", BorrowedStanding::RouteUnknown),
            ("10.1.9.7", BorrowedStanding::NotExported),
            ("fd00:9::5", BorrowedStanding::Announced),
        ];
        let borrowed = standings.map(|(address, standing)| (address.parse().unwrap(), standing)).into();
        let known = Snapshot { desired: Desired { borrowed, ..Desired::default() }, ..Snapshot::default() };
        let origin = |keys| origin(&config(&text(keys)), &Interfaces::default(), &known);
        let by = Originator::BorrowedAddress;
        let both = |community: Option<&str>| {
            let community = community.map(|text| text.parse().unwrap());
            ["10.1.9.5/32", "fd00:9::5/128"]
                .map(|prefix| (prefix.parse().unwrap(), Origination { community, ..by.into() }))
                .into()
        };
        assert_eq!(origin("").announced, both(None));
        assert_eq!(origin("borrowed-community = '65001:100'").announced, both(Some("65001:100")));
        assert_eq!(origin("").local.blackholes, BTreeSet::new());
        assert_eq!(origin("borrowed = 'refuse'").announced, BTreeMap::new());
    }

    #[test]
    fn a_block_lends_where_borrowed_addresses_are_announced_and_the_pods_here_are_known() {
        use crate::cluster::{Block, Standing};
        let sections = |keys| {
            format!(
                "[bgp]\nlocal-as = 65001\n[kubernetes]\nin-cluster = true\n[pods.static]\n\
                 blocks = ['10.1.8.0/26', '10.1.8.64/26']\n[pods.node]\n{keys}"
            )
        };
        let block = |source| Block { source, standing: Standing::Announced, rivals: BTreeSet::new() };
        let (of_node, of_calico) = (block(BlockSource::Node), block(BlockSource::Calico));
        let blocks = [("10.1.8.64/26", &of_calico), ("10.1.9.0/26", &of_calico), ("10.2.0.0/24", &of_node)]
            .map(|(prefix, block)| (prefix.parse().unwrap(), block.clone()))
            .into();
        let desired = Desired { blocks, ..Desired::default() };
        let pod: IpAddr = "10.1.9.5".parse().unwrap();
        let pods = PodAddresses::new([pod].into());
        let lenders = |keys, pods: Option<&PodAddresses>| {
            let known = Snapshot { desired: desired.clone(), pods: pods.cloned(), ..Snapshot::default() };
            let Origin { announced, hosts, local, .. } =
                origin(&config(&sections(keys)), &Interfaces::default(), &known);
            assert_eq!(*hosts, pods.map(|pods| (**pods).clone()).unwrap_or_default());
            let lends = |origination: &Origination| origination.lending == Lending::Addresses;
            let lenders = announced.iter().filter(|(_, origination)| lends(origination));
            let lenders: Vec<_> = lenders.map(|(prefix, _)| prefix.to_string()).collect();
            assert!(local.lending.iter().map(ToString::to_string).eq(lenders.iter().cloned()));
            lenders
        };
        let nobody = Vec::<String>::new();
        assert_eq!(lenders("[pods.calico]", Some(&pods)), ["10.1.9.0/26"]);
        assert_eq!(lenders("[pods.calico]", Some(&PodAddresses::default())), ["10.1.9.0/26"]);
        assert_eq!(lenders("[pods.calico]", None), nobody);
        assert_eq!(lenders("[pods.calico]\nborrowed = 'refuse'", Some(&pods)), nobody);
        assert_eq!(lenders("", Some(&pods)), nobody);
    }

    #[test]
    fn a_loopback_that_is_not_advertised_is_still_the_preferred_source() {
        let config = config("[bgp]\nlocal-as = 65001\n[loopback]\nadvertise = false\n");
        let origin = origin(&config, &lo(&["1.1.1.1/32"]), &Snapshot::default());
        assert!(origin.announced.is_empty());
        assert_eq!(origin.local.preferred_source_ipv4, Some(Ipv4Addr::new(1, 1, 1, 1)));
    }
}
