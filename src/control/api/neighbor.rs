//! Neighbors in full: `GET /v1/neighbors` and `GET /v1/neighbors/NAME`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use bgp::{Family, PeerKind, RouterId};
use serde::{Deserialize, Serialize};

use super::{NeighborBfd, NeighborSummary};

/// Every neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbors {
    /// By name.
    pub neighbors: Vec<Neighbor>,
}

/// One neighbor with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// The line of the summary.
    #[serde(flatten)]
    pub summary: NeighborSummary,
    /// The link of an unnumbered neighbor.
    pub interface: Option<String>,
    /// `remote-as` as configured: `external`, `internal` or a number.
    pub configured_remote_as: String,
    /// Internal or external; known once its AS is.
    pub kind: Option<PeerKind>,
    /// The peer's BGP Identifier.
    pub remote_router_id: Option<RouterId>,
    /// Our address on the session.
    pub local_address: Option<IpAddr>,
    /// The router that Router Discovery found on the link of an unnumbered neighbor.
    pub discovered_router: Option<Ipv6Addr>,
    /// What has to happen before a session can start, such as "carrier on eth0".
    pub waiting_for: Option<String>,
    /// Proposed by us; 0 is off.
    pub configured_hold_time_s: u16,
    /// Configured upper bound of the keepalive interval.
    pub configured_keepalive_ms: u64,
    /// What both agreed on; only in Established.
    pub negotiated: Option<NegotiatedTimers>,
    /// `null` where it is not configured.
    pub bfd: Option<NeighborBfd>,
    /// The timers that run.
    pub timers: Vec<Timer>,
    /// Families that may flow.
    pub families: Vec<Family>,
    /// What the OPENs of the present session said.
    pub capabilities: Capabilities,
    /// By type.
    pub messages: Messages,
    /// Prefixes that it may have in each family; those of `summary.prefixes_by_family` that were received count.
    pub max_prefixes: u32,
    /// Prefixes refused at present, by reason in words.
    pub refused: BTreeMap<String, u64>,
    /// Prefixes that are kept from a session that was lost, while the neighbor restarts (RFC 4724). How long they are is
    /// among `timers`: "RestartTimer" until the neighbor is back, "StalePathTimer" until it has said everything again.
    pub stale: u64,
    /// Prefixes of ours that the peer accepted and sent back: it has them.
    pub echoes: u64,
    /// How many times the session reached Established.
    pub times_established: u64,
    /// How steady its sessions are.
    pub flaps: Flaps,
    /// Why the last session ended or the last try failed, also while there is another session since.
    pub last_failure: Option<FailureReport>,
    /// The last NOTIFICATION of either side.
    pub last_notification: Option<NotificationReport>,
}

/// Sessions that do not last, and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flaps {
    /// Sessions that lasted less than a minute, since the neighbor was configured.
    pub count: u64,
    /// Until it is tried again, no more than `damping` allows; `null` where it is not held back.
    pub held_back_for_ms: Option<u64>,
}

/// Timers as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiatedTimers {
    /// The smaller of both proposals; 0 is off.
    pub hold_time_s: u16,
    /// How often we send KEEPALIVE; `null` with a hold time of 0.
    pub keepalive_ms: Option<u64>,
}

/// A timer that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its name in RFC 4271 section 8, such as "hold".
    pub name: String,
    /// Until it fires.
    pub remaining_ms: u64,
}

/// Capabilities of both OPENs, in the order sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Ours.
    pub sent: Vec<Capability>,
    /// The peer's.
    pub received: Vec<Capability>,
}

/// One capability (RFC 5492).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// The capability code.
    pub code: u8,
    /// In words; `null` when this speaker does not know the code, or cannot read the value.
    pub name: Option<String>,
    /// Its value in words, or in hexadecimal where it has no name. May hold text of the peer: escape it.
    pub value: String,
}

/// Message counters of both directions since the neighbor was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Messages {
    /// From the peer.
    pub received: MessageCounts,
    /// To the peer.
    pub sent: MessageCounts,
}

/// Messages of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageCounts {
    /// OPEN
    pub open: u64,
    /// UPDATE
    pub update: u64,
    /// NOTIFICATION
    pub notification: u64,
    /// KEEPALIVE
    pub keepalive: u64,
    /// ROUTE-REFRESH
    pub route_refresh: u64,
}

/// The end of a session, or of a try to get one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReport {
    /// In words. May hold text of the peer: escape it.
    pub reason: String,
    /// How long ago that was.
    pub ago_s: u64,
}

/// A NOTIFICATION that was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationReport {
    /// Who sent it.
    pub direction: Direction,
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Both in words, and what the data says. May hold text of the peer: escape it.
    pub text: String,
    /// Time since then.
    pub ago_s: u64,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// We sent it.
    Sent,
    /// The peer sent it.
    Received,
}
