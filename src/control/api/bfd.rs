//! BFD sessions: `GET /v1/bfd`.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Every session, and what belonged to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bfd {
    /// In the order of their addresses.
    pub sessions: Vec<BfdSession>,
    /// Packets that no session was given.
    pub discards: BfdDiscards,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSession {
    /// The BGP neighbor that it is about.
    pub neighbor: String,
    /// Where that is.
    pub address: IpAddr,
    /// The interface of an unnumbered neighbor.
    pub interface: Option<String>,
    /// Our state.
    pub state: BfdState,
    /// Why, in the words of RFC 5880.
    pub diagnostic: String,
    /// For how long it has been so.
    pub since_s: u64,
    /// What is made of it.
    pub health: BfdHealth,
    /// How often it came up.
    pub times_up: u64,
    /// How often it went down and the neighbor's administrator had not done it.
    pub failures: u64,
    /// Our number for it.
    pub discriminator: u32,
    /// As configured.
    pub interval_ms: u64,
    /// As configured.
    pub multiplier: u8,
    /// What we send at, before jitter; `null` where the neighbor wants no packets.
    pub transmit_interval_us: Option<u64>,
    /// Silence of the neighbor that is a failure; `null` until it was heard.
    pub detection_time_us: Option<u64>,
    /// What the neighbor said last; `null` while it is silent.
    pub remote: Option<BfdRemote>,
    /// Packets of the neighbor that were accepted.
    pub packets_received: u64,
    /// Packets to the neighbor.
    pub packets_sent: u64,
}

/// The other end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdRemote {
    /// Its state.
    pub state: BfdState,
    /// Why, in the words of RFC 5880.
    pub diagnostic: String,
    /// Its number for the session.
    pub discriminator: u32,
    /// What it wants to send at.
    pub desired_min_tx_us: u64,
    /// What it can receive at.
    pub required_min_rx_us: u64,
    /// Intervals of its silence that are a failure.
    pub multiplier: u8,
    /// Its C bit: its BFD outlives its control plane.
    pub control_plane_independent: bool,
}

/// What `bfd` of a neighbor comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborBfd {
    /// As configured.
    pub interval_ms: u64,
    /// As configured.
    pub multiplier: u8,
    /// `null` while nobody knows where the neighbor is.
    pub session: Option<BfdSession>,
}

/// Packets on the BFD port that were for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BfdDiscards {
    /// Their TTL or hop limit was not 255: they came from afar.
    pub hop_limit: u64,
    /// RFC 5880 section 6.8.6 discards them.
    pub malformed: u64,
    /// They were authenticated, which is not supported.
    pub authenticated: u64,
    /// Nobody is watched where they came from.
    pub no_session: u64,
}

/// The states of RFC 5880 section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BfdState {
    /// Held down by an administrator.
    AdminDown,
    /// The other end is silent, or does not hear us.
    Down,
    /// The other end speaks.
    Init,
    /// Both ends hear each other.
    Up,
}

impl fmt::Display for BfdState {
    /// As RFC 5880 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// What BFD makes of a neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BfdHealth {
    /// Nothing: it is not up yet, held down by its administrator, or has gone without BFD.
    Unknown,
    /// Packets get there and back.
    Alive,
    /// They did: its next hop is out of the kernel, and it has no BGP session.
    Failed,
}
