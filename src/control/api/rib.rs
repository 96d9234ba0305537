//! Routes: `GET /v1/rib`, `GET /v1/neighbors/NAME/received` and `.../advertised`.

use std::net::{IpAddr, Ipv4Addr};

use bgp::rib::Originator;
use bgp::{Prefix, RouterId};
use serde::{Deserialize, Serialize};

use super::{Entry, PolicyTrace};

/// A destination with all its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Where to.
    pub prefix: Prefix,
    /// The best one first, refused ones last.
    pub paths: Vec<Path>,
}

/// One path to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Who brought it.
    pub from: PathSource,
    /// What the decision did with it.
    pub status: PathStatus,
    /// Whether it is kept from a session that was lost, while the neighbor restarts (RFC 4724).
    pub stale: bool,
    /// Name of the link that its packets leave by; `null` where there is none.
    pub interface: Option<String>,
    /// What it carries.
    #[serde(flatten)]
    pub attributes: PathAttributes,
}

/// Who brought a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathSource {
    /// A neighbor.
    Neighbor {
        /// Its name, as in the summary.
        name: String,
        /// What it calls itself: escape it.
        hostname: Option<String>,
        /// Its address.
        address: Option<IpAddr>,
    },
    /// This node.
    Originated(Originator),
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum PathStatus {
    /// The one that the decision process chose.
    Best,
    /// As good as the best one, and in the FIB beside it.
    Multipath,
    /// In the Loc-RIB, but another one won.
    NotSelected {
        /// The rung of the decision process, in words.
        reason: String,
    },
    /// Kept out by policy.
    Refused {
        /// In words.
        reason: String,
    },
    /// A route of ours that came back: the peer has accepted it.
    Echo,
}

/// Path attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathAttributes {
    /// ORIGIN
    pub origin: PathOrigin,
    /// Numbers from the neighbor's AS to the origin; a set in `{}`, confederation segments in `()` and `[]`.
    pub as_path: String,
    /// An address, two where a link-local one came with a global one, or "self".
    pub next_hop: String,
    /// MULTI_EXIT_DISC
    pub med: Option<u32>,
    /// LOCAL_PREF
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS and address.
    pub aggregator: Option<String>,
    /// `AS:VALUE`, or the word of RFC 1997 or RFC 8326.
    pub communities: Vec<String>,
    /// Sixteen hexadecimal digits each (RFC 4360).
    pub extended_communities: Vec<String>,
    /// `GLOBAL:LOCAL1:LOCAL2` (RFC 8092)
    pub large_communities: Vec<String>,
    /// RFC 4456
    pub originator_id: Option<RouterId>,
    /// RFC 4456
    pub cluster_list: Vec<Ipv4Addr>,
    /// `CODE:FLAGS:VALUE` of attributes that this speaker does not know; flags and value in hexadecimal.
    pub unknown: Vec<String>,
}

/// ORIGIN (RFC 4271 section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathOrigin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

/// A route as a neighbor sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedRoute {
    /// Where to.
    pub prefix: Prefix,
    /// What became of it.
    pub status: PathStatus,
    /// Whether it is kept from a session that was lost, while the neighbor restarts (RFC 4724).
    pub stale: bool,
    /// What the neighbor's import policy did; `null` where there is none, or the guard did not let the path come to it.
    pub policy: Option<PolicyTrace>,
    /// What it carries.
    #[serde(flatten)]
    pub attributes: PathAttributes,
}

/// A route as a neighbor was told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedRoute {
    /// Where to.
    pub prefix: Prefix,
    /// What it carries.
    #[serde(flatten)]
    pub attributes: PathAttributes,
}

impl Entry for Destination {
    fn prefix(&self) -> Prefix {
        self.prefix
    }
}

impl Entry for ReceivedRoute {
    fn prefix(&self) -> Prefix {
        self.prefix
    }
}

impl Entry for AdvertisedRoute {
    fn prefix(&self) -> Prefix {
        self.prefix
    }
}
