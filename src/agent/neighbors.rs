//! The neighbors that should exist and where each can be reached: functions of the configuration, the interfaces
//! and the routers discovered. [`super::Agent`] makes the tasks follow.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use bgp::message::{CeaseSubcode, Notification};
use bgp::net::{BoundInterface, Caller, HopLimit, Md5Key, Target};
use bgp::rib::{LostLink, PeerConfig};
use bgp::session::{RemoteAs, SessionConfig};
use bgp::{Families, Family, InterfaceIndex, Prefix, RouterId};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::listen::Admission;
use crate::config::{self, Config, NeighborPeer};
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::nd::{MacAddress, RouterLifetime, Uplink, Uplinks};

/// TCP port of BGP (RFC 4271 section 8.2.1).
pub(super) const BGP_PORT: u16 = 179;

/// Routers discovered, by the link that they are on.
pub(super) type Routers = BTreeMap<InterfaceIndex, Ipv6Addr>;

/// What a neighbor is called: the name of its interface, or its address. It survives everything that happens to
/// the interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NeighborName {
    Interface(String),
    Address(IpAddr),
}

impl fmt::Display for NeighborName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Every neighbor that should have a task. An interface named exactly has one even while it does not exist; a
/// glob has one for each interface that matches now.
pub(super) fn wanted(config: &Config, interfaces: &Interfaces) -> BTreeMap<NeighborName, config::Neighbor> {
    let mut wanted = BTreeMap::new();
    for neighbor in &config.neighbors {
        match &neighbor.peer {
            NeighborPeer::Address(address) => {
                wanted.insert(NeighborName::Address(*address), neighbor.clone());
            }
            NeighborPeer::Interface(name) if !config::is_glob(name) => {
                wanted.insert(NeighborName::Interface(name.clone()), neighbor.clone());
            }
            NeighborPeer::Interface(_) => {}
        }
    }
    for interface in interfaces.by_index.values().filter(|interface| !interface.loopback) {
        if let Some(neighbor) = config.neighbor_for_interface(&interface.name) {
            wanted.insert(NeighborName::Interface(interface.name.clone()), neighbor.clone());
        }
    }
    wanted
}

/// What the file calls neighbors on links that are not there now, a line each: perhaps they come, perhaps a name is
/// misspelt.
pub(super) fn without_link(config: &Config, interfaces: &Interfaces) -> Vec<String> {
    let links = || interfaces.by_index.values().filter(|interface| !interface.loopback);
    let patterns = config.neighbors.iter().filter_map(|neighbor| match &neighbor.peer {
        NeighborPeer::Interface(pattern) => Some(pattern),
        NeighborPeer::Address(_) => None,
    });
    let absent = patterns.filter(|pattern| !links().any(|link| config::stands_for(pattern, &link.name)));
    absent
        .map(|pattern| {
            let absence = if config::is_glob(pattern) { "matches no link" } else { "there is no such link" };
            format!("neighbor {pattern}: {absence} at present")
        })
        .collect()
}

/// Whether the file speaks of a neighbor, whether or not it is there.
pub(super) fn is_configured(name: &NeighborName, config: &Config) -> bool {
    match name {
        NeighborName::Interface(name) => config.neighbor_for_interface(name).is_some(),
        NeighborName::Address(address) => {
            config.neighbors.iter().any(|neighbor| neighbor.peer == NeighborPeer::Address(*address))
        }
    }
}

/// The links on which routers are to be looked for.
pub(super) fn uplinks(wanted: &BTreeMap<NeighborName, config::Neighbor>, interfaces: &Interfaces) -> Uplinks {
    let uplink = |(name, neighbor): (&NeighborName, &config::Neighbor)| {
        let NeighborName::Interface(name) = name else { return None };
        let interface = interfaces.by_name(name)?;
        let uplink = Uplink {
            name: name.clone(),
            running: interface.is_running(),
            link_local: interface.link_local,
            mac: interface.mac.map(MacAddress),
            router_lifetime: RouterLifetime::announced(neighbor.router_lifetime),
        };
        Some((interface.index, uplink))
    };
    wanted.iter().filter_map(uplink).collect()
}

/// Why a neighbor cannot be reached. Its text is the reason that people read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    /// There is no interface of that name, or none any more.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// An administrator has set it down.
    #[error("interface {0} is down")]
    Down(String),
    /// It is up, but nothing is at the other end.
    #[error("no carrier on {0}")]
    NoCarrier(String),
    /// Nothing can be sent on the link, or heard.
    #[error("no link-local address on {0}")]
    NoLinkLocal(String),
    /// Nobody has sent a Router Advertisement yet.
    #[error("no router was heard on {0}")]
    NoRouter(String),
    /// Its sessions come and go; see [`super::damping`].
    #[error("its sessions do not last")]
    HeldBack,
}

/// The interface, where packets can pass through it.
fn running<'a>(name: &str, interface: Option<&'a Interface>) -> Result<&'a Interface, Obstacle> {
    match interface {
        None => Err(Obstacle::NoInterface(name.to_owned())),
        Some(interface) if !interface.admin_up => Err(Obstacle::Down(name.to_owned())),
        Some(interface) if !interface.is_running() => Err(Obstacle::NoCarrier(name.to_owned())),
        Some(interface) => Ok(interface),
    }
}

/// Where the neighbor is now, or why nobody knows.
pub(super) fn target(
    name: &NeighborName,
    neighbor: &config::Neighbor,
    config: &Config,
    interfaces: &Interfaces,
    routers: &Routers,
) -> Result<Target, Obstacle> {
    let hop_limit = hop_limit(neighbor, config);
    match name {
        NeighborName::Interface(name) => {
            let interface = running(name, interfaces.by_name(name))?;
            let link_local = interface.link_local.ok_or_else(|| Obstacle::NoLinkLocal(name.clone()))?;
            let router = routers.get(&interface.index).ok_or_else(|| Obstacle::NoRouter(name.clone()))?;
            Ok(Target {
                remote: SocketAddrV6::new(*router, BGP_PORT, 0, interface.index.0).into(),
                interface: Some(BoundInterface { name: name.clone(), index: interface.index }),
                link_local: Some(link_local),
                global_address: global_ipv6(interface),
                hop_limit,
                md5: None,
            })
        }
        NeighborName::Address(address) => {
            if let Some(interface) = connected(*address, interfaces) {
                running(&interface.name, Some(interface))?;
            }
            Ok(Target {
                remote: SocketAddr::new(*address, BGP_PORT),
                interface: None,
                link_local: None,
                // No next hop of a numbered session needs it, and a target that changes is a session that ends.
                global_address: None,
                hop_limit,
                md5: neighbor.password.as_ref().and_then(|password| Md5Key::new(password.0.clone()).ok()),
            })
        }
    }
}

/// The links that ran and do not any more, or did not in between, with the networks that were on them.
pub(super) fn lost_links(before: &Interfaces, now: &Interfaces) -> Vec<LostLink> {
    let runs = |interface: &&Interface| {
        let is_unbroken =
            |now: &Interface| now.is_running() && now.carrier_changes == interface.carrier_changes;
        now.by_index.get(&interface.index).is_some_and(is_unbroken)
    };
    let ran = before.by_index.values().filter(|interface| interface.is_running());
    let lost = ran.filter(|interface| !runs(interface)).map(|interface| {
        let networks = interface.addresses.iter();
        LostLink {
            interface: interface.index,
            networks: networks
                .filter_map(|network| Prefix::masked(network.ip(), network.prefix()).ok())
                .collect(),
        }
    });
    lost.collect()
}

/// The interface that a neighbor's packets come in by, where it is known and there.
pub(super) fn interface_of<'a>(name: &NeighborName, interfaces: &'a Interfaces) -> Option<&'a Interface> {
    match name {
        NeighborName::Interface(name) => interfaces.by_name(name),
        NeighborName::Address(address) => connected(*address, interfaces),
    }
}

fn hop_limit(neighbor: &config::Neighbor, config: &Config) -> HopLimit {
    let internal = match neighbor.remote_as {
        RemoteAs::Internal => true,
        RemoteAs::External => false,
        RemoteAs::Number(asn) => asn == config.bgp.local_as,
    };
    match (neighbor.ttl_security, internal) {
        (true, _) => HopLimit::Gtsm,
        (false, true) => HopLimit::System,
        (false, false) => HopLimit::Link,
    }
}

/// The interface that packets for the address leave by: of the networks that contain it, the smallest one's.
pub(super) fn connected(address: IpAddr, interfaces: &Interfaces) -> Option<&Interface> {
    let interfaces = interfaces.by_index.values().filter(|interface| !interface.loopback);
    let networks =
        interfaces.flat_map(|interface| interface.addresses.iter().map(move |network| (interface, network)));
    let (interface, _) = networks
        .filter(|(_, network)| network.contains(address))
        .max_by_key(|(_, network)| network.prefix())?;
    Some(interface)
}

fn global_ipv6(interface: &Interface) -> Option<Ipv6Addr> {
    interface.addresses.iter().find_map(|network| match network {
        IpNetwork::V6(v6) => Some(v6.ip()),
        IpNetwork::V4(_) => None,
    })
}

/// The session of a neighbor as the configuration has it. `inherited`: families in which this process found routes of
/// an earlier one in the kernel, so that forwarding went on meanwhile; none at the first start since the node booted.
pub(super) fn session_config(
    name: &NeighborName,
    neighbor: &config::Neighbor,
    config: &Config,
    router_id: RouterId,
    inherited: Families,
) -> SessionConfig {
    // IPv6 next hops for IPv4 routes exist only where the transport is IPv6 (FRR, bgpd/bgp_open.c).
    let extended_next_hop = match name {
        NeighborName::Interface(_) | NeighborName::Address(IpAddr::V6(_)) => {
            Families::from_iter([Family::Ipv4Unicast])
        }
        NeighborName::Address(IpAddr::V4(_)) => Families::NONE,
    };
    SessionConfig {
        local_as: config.bgp.local_as,
        router_id,
        remote_as: neighbor.remote_as,
        hold_time: config.bgp.hold_time,
        keepalive: config.bgp.keepalive,
        families: Families::ALL,
        extended_next_hop,
        graceful_restart: config.bgp.graceful_restart,
        inherited,
        stale_time: config.bgp.graceful_restart.map_or(Duration::ZERO, |_| config.bgp.stale_time),
        hostname: hostname(),
        software_version: concat!("selvedge/", env!("CARGO_PKG_VERSION")).to_owned(),
        link_local_form: neighbor.link_local_form,
        passive: false,
        seed: fastrand::u64(..),
    }
}

/// What the RIB has to know of the neighbor. Another one changes no session.
pub(super) fn rib_config(neighbor: &config::Neighbor) -> PeerConfig {
    PeerConfig {
        max_prefixes: neighbor.max_prefixes,
        allowed_own_as: neighbor.allowed_own_as,
        transit: neighbor.transit,
        import: neighbor.import.clone(),
        export: neighbor.export.clone(),
    }
}

/// The same neighbor with what the RIB has to know of another one.
pub(super) fn with_rib_config(neighbor: &config::Neighbor, other: &config::Neighbor) -> config::Neighbor {
    config::Neighbor {
        max_prefixes: other.max_prefixes,
        allowed_own_as: other.allowed_own_as,
        transit: other.transit,
        import: other.import.clone(),
        export: other.export.clone(),
        ..neighbor.clone()
    }
}

/// For the FQDN capability; empty where the kernel's is not text.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// What the listener has to know.
pub(super) fn admission(
    wanted: &BTreeMap<NeighborName, config::Neighbor>,
    interfaces: &Interfaces,
) -> Admission {
    let caller = |name: &NeighborName| match name {
        NeighborName::Interface(name) => Some(Caller::Link(interfaces.by_name(name)?.index)),
        NeighborName::Address(address) => Some(Caller::Address(*address)),
    };
    Admission { callers: wanted.keys().filter_map(caller).collect(), keys: md5_keys(wanted) }
}

fn md5_keys(wanted: &BTreeMap<NeighborName, config::Neighbor>) -> BTreeMap<IpAddr, Md5Key> {
    let key = |(name, neighbor): (&NeighborName, &config::Neighbor)| {
        let NeighborName::Address(address) = name else { return None };
        Some((*address, Md5Key::new(neighbor.password.as_ref()?.0.clone()).ok()?))
    };
    wanted.iter().filter_map(key).collect()
}

/// Whether a session made with one's settings may stay under the other's: how the file names the neighbor, by a glob
/// or in full, and how BFD watches it are not part of it.
pub(super) fn are_as_good(settings: &config::Neighbor, others: &config::Neighbor) -> bool {
    config::Neighbor { peer: others.peer.clone(), bfd: others.bfd, ..settings.clone() } == *others
}

/// What a neighbor is told that was taken out of the file, or changed in a way that needs a new session.
pub(super) fn deconfigured() -> Notification {
    Notification::cease(CeaseSubcode::PeerDeconfigured)
}

#[cfg(test)]
pub(super) mod tests;
