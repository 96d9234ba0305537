//! Links and their addresses as a snapshot that follows the kernel.
//!
//! In: the kernel's events on one socket, dumps over another. Out: a new [`Interfaces`] on a watch channel
//! whenever something in it changed. `table` is the pure half, `monitor` the task.

mod monitor;
mod table;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use bgp::InterfaceIndex;
use ipnetwork::IpNetwork;

pub use monitor::{Monitor, StartError, start};

/// Every link of the namespace. Immutable: a change makes a new one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interfaces {
    /// Keyed by index; names are unique too.
    pub by_index: BTreeMap<InterfaceIndex, Interface>,
}

impl Interfaces {
    /// The link with that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.by_index.values().find(|interface| interface.name == name)
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Changes when the link is deleted and made again.
    pub index: InterfaceIndex,
    /// Up to 15 octets.
    pub name: String,
    /// IFF_UP: an administrator wants it up.
    pub admin_up: bool,
    /// IFF_LOWER_UP: the other end is there.
    pub carrier: bool,
    /// IFLA_CARRIER_CHANGES: how often the other end has come and gone since the link was made.
    pub carrier_changes: u32,
    /// IFF_LOOPBACK
    pub loopback: bool,
    /// The Ethernet address, for the source link-layer address option of RFC 4861.
    pub mac: Option<[u8; 6]>,
    /// Octets.
    pub mtu: u32,
    /// The first usable (neither tentative nor failed) link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// Usable addresses of global scope with their prefix lengths, as the kernel lists them.
    pub addresses: Vec<IpNetwork>,
}

impl Interface {
    /// Whether packets can be sent and received: up, with carrier.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.admin_up && self.carrier
    }
}
