//! Links: `GET /v1/interfaces`.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// Every link, and the sysctls that are not as the job needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// Uplinks first, then by name.
    pub interfaces: Vec<Interface>,
    /// Empty when all is well.
    pub sysctls: Vec<SysctlFinding>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's index; changes when the link is deleted and made again.
    pub index: u32,
    /// An administrator wants it up.
    pub admin_up: bool,
    /// The other end is there.
    pub carrier: bool,
    /// A neighbor is configured on it.
    pub uplink: bool,
    /// Octets.
    pub mtu: u32,
    /// Six octets in hexadecimal with colons.
    pub mac: Option<String>,
    /// The link-local address in use.
    pub link_local: Option<Ipv6Addr>,
    /// Addresses of global scope with their prefix lengths.
    pub addresses: Vec<String>,
    /// The router at the other end, once one has spoken.
    pub router: Option<LinkRouter>,
    /// Router Discovery; only on uplinks.
    pub discovery: Option<DiscoveryCounters>,
    /// What a person should look at, in words.
    pub alarms: Vec<String>,
}

/// A router that was heard on a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRouter {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Since its last Router Advertisement.
    pub heard_s: u64,
}

/// Router Advertisements and Solicitations on one link since it appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiscoveryCounters {
    /// Router Advertisements sent.
    pub advertisements_sent: u64,
    /// Valid Router Advertisements received.
    pub advertisements_received: u64,
    /// Router Solicitations sent.
    pub solicitations_sent: u64,
    /// Valid Router Solicitations received.
    pub solicitations_received: u64,
    /// Packets that RFC 4861 section 6.1 says to discard.
    pub discarded: u64,
}

/// A sysctl that is not as the job needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlFinding {
    /// As `sysctl` writes it.
    pub key: String,
    /// What it is; `null` when it cannot be read.
    pub value: Option<String>,
    /// What it should be.
    pub wanted: String,
    /// What goes wrong otherwise.
    pub why: String,
}
