//! The daemon at a glance: `GET /v1/summary`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use bgp::{Asn, Family, RouterId};
use serde::{Deserialize, Serialize};

use super::{BfdState, KubernetesSummary};

/// The daemon, its tables and its neighbors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Our BGP Identifier; `null` until there is an address to take it from.
    pub router_id: Option<RouterId>,
    /// Our AS.
    pub local_as: Asn,
    /// Name of this host.
    pub hostname: String,
    /// Version of the daemon.
    pub version: String,
    /// Since the daemon started.
    pub uptime_s: u64,
    /// The Loc-RIB.
    pub rib: RibTotals,
    /// Routes of ours that are in the kernel, blackholes included.
    pub fib_routes: u64,
    /// Where the configuration is on trial.
    pub trial: Option<Trial>,
    /// The API server; `null` where nobody asks it.
    pub kubernetes: Option<KubernetesSummary>,
    /// Why neighbors cannot connect to this node, which still connects to them; `null` where they can.
    pub listen_error: Option<String>,
    /// By name.
    pub neighbors: Vec<NeighborSummary>,
}

/// A configuration that waits to be confirmed, or was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Trial {
    /// It is in use.
    Running {
        /// After that it is left.
        left_s: u64,
    },
    /// The one before it is in use again, and not what is in the file.
    Failed {
        /// Since then.
        ago_s: u64,
        /// Why.
        reason: String,
    },
}

/// Size of the Loc-RIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RibTotals {
    /// Prefixes with at least one path.
    pub destinations: u64,
    /// Paths of all of them, originated ones included.
    pub paths: u64,
}

/// One neighbor in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborSummary {
    /// The interface of an unnumbered neighbor, the address of a numbered one.
    pub name: String,
    /// What the peer calls itself (FQDN capability). Anything at all: escape it.
    pub hostname: Option<String>,
    /// Its address; unknown until its router is seen on the link.
    pub address: Option<IpAddr>,
    /// From its OPEN, or from the configuration where that has a number.
    pub remote_as: Option<Asn>,
    /// State of the session.
    pub state: SessionState,
    /// Time since the session came up, or since it last went down; `null` when it never was up.
    pub up_down_s: Option<u64>,
    /// Messages of all types since the neighbor was configured.
    pub messages_received: u64,
    /// Messages of all types since the neighbor was configured.
    pub messages_sent: u64,
    /// Over all families.
    pub prefixes: PrefixCounts,
    /// Each negotiated family.
    pub prefixes_by_family: BTreeMap<Family, PrefixCounts>,
    /// State of the BFD session; `null` where there is none.
    pub bfd_state: Option<BfdState>,
    /// Why the last session ended, or the last try failed.
    pub last_error: Option<String>,
}

/// Prefixes that went one way and the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrefixCounts {
    /// In the Adj-RIB-In.
    pub received: u64,
    /// Of these, let in by policy.
    pub accepted: u64,
    /// In the Adj-RIB-Out.
    pub sent: u64,
}

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Not started, or stopped.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting to dial, or to be dialled.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are there.
    OpenConfirm,
    /// Routes may flow.
    Established,
}

impl fmt::Display for SessionState {
    /// As RFC 4271 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}
