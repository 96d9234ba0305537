//! How far a drain is: `GET /v1/drain`, `POST /v1/drain`, `POST /v1/undrain`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SessionState;

/// The longest `wait_ms` of an order: a day.
pub const DRAIN_WAIT_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Octets of a shutdown message, at most (RFC 9003 section 2).
pub const DRAIN_MESSAGE_MAX: usize = 255;

/// The node and its neighbors on their way out of the fabric, or in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The drain of the node; `null` while it serves.
    pub node: Option<DrainProgress>,
    /// Every neighbor, by name, and those that are drained and not there.
    pub neighbors: Vec<NeighborDrain>,
}

/// One drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// How far it is.
    pub state: DrainState,
    /// Since it is so far.
    pub since_ms: u64,
    /// How long traffic is waited for at most; `null` once it is no more.
    pub time_left_ms: Option<u64>,
    /// Whether the daemon ends afterwards.
    pub stops: bool,
    /// What neighbors are told at the end.
    pub message: String,
    /// Each state so far, in their order.
    pub steps: Vec<DrainStep>,
}

/// A state that a drain reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStep {
    /// Which.
    pub state: DrainState,
    /// How long ago.
    pub ago_ms: u64,
}

/// How far a drain is; the order is that of how little is left of the neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainState {
    /// It was taken back: sessions are coming up, with marks until routes have settled.
    Returning,
    /// Routes are being told with GRACEFUL_SHUTDOWN and prepended.
    Marking,
    /// They have been; traffic is leaving.
    Waiting,
    /// Routes are withdrawn; packets under way are still taken in.
    Withdrawing,
    /// Sessions are being ended with Cease, Administrative Shutdown.
    Ending,
    /// There is no session until the drain is taken back.
    Drained,
}

/// As people read it.
impl fmt::Display for DrainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Returning => "returning",
            Self::Marking => "marking",
            Self::Waiting => "waiting",
            Self::Withdrawing => "withdrawing",
            Self::Ending => "ending",
            Self::Drained => "drained",
        })
    }
}

/// One neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborDrain {
    /// The interface of an unnumbered neighbor, the address of a numbered one.
    pub name: String,
    /// What the peer calls itself. Anything at all: escape it.
    pub hostname: Option<String>,
    /// Its session; `null` where there is no such neighbor now.
    pub session: Option<SessionState>,
    /// The drain of this neighbor alone.
    pub drain: Option<DrainProgress>,
    /// Packets that its interface receives in a second; known while something is being drained.
    pub received_packets_per_s: Option<u64>,
}

/// What an order to drain began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBegun {
    /// The neighbor's name where it alone is drained.
    pub neighbor: Option<String>,
    /// One sentence.
    pub message: String,
}
