//! The routes that are ours in the kernel: `GET /v1/fib`.

use std::net::IpAddr;

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::{Entry, Page};

/// A page of routes, and counters over all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fib {
    /// Over the whole table, not the page.
    pub counters: FibCounters,
    /// How routes get at their next hops.
    pub next_hops: FibNextHops,
    /// The routes.
    #[serde(flatten)]
    pub page: Page<FibRoute>,
}

/// The first five are routes by state at present; the others count events since the start of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FibCounters {
    /// In the kernel as wanted.
    pub installed: u64,
    /// On the way to the kernel.
    pub pending: u64,
    /// Refused by the kernel; tried again.
    pub failed: u64,
    /// Left out because a route of another protocol is in the place.
    pub blocked: u64,
    /// Inherited from an earlier run and not yet confirmed.
    pub stale: u64,
    /// Routes of ours that somebody else changed or deleted, and that were put back.
    pub repaired: u64,
    /// Times that the kernel's events were lost and its table was read again.
    pub overruns: u64,
}

/// How routes get at their next hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "are", rename_all = "kebab-case")]
pub enum FibNextHops {
    /// In nexthop objects of the kernel's, which routes name.
    Objects {
        /// One for each set of next hops.
        groups: u64,
        /// One for each next hop.
        members: u64,
    },
    /// In each route.
    InLine {
        /// Why there are no objects; none when it is configured so.
        reason: Option<String>,
    },
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FibRoute {
    /// Where to.
    pub prefix: Prefix,
    /// What happens to packets.
    pub kind: RouteKind,
    /// All equal next hops; none for a blackhole.
    pub gateways: Vec<FibGateway>,
    /// Source address of packets that this node itself sends by it.
    pub preferred_source: Option<IpAddr>,
    /// Whether the kernel has it.
    pub status: FibState,
}

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Passes them on.
    Unicast,
    /// Drops them: the address belongs to this node, and nothing here has it.
    Blackhole,
    /// Something with our protocol number that this daemon does not write.
    Other,
}

/// One next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FibGateway {
    /// Where packets go.
    pub address: IpAddr,
    /// Name of the link.
    pub interface: Option<String>,
}

/// Whether the kernel has a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum FibState {
    /// As wanted.
    Installed,
    /// There though no neighbor gives it as policy would have it: a default route that the configuration has taken the
    /// last path of.
    Kept,
    /// On the way.
    Pending,
    /// Refused by the kernel; tried again.
    Failed {
        /// What the kernel said.
        reason: String,
    },
    /// A route of another protocol is in its place.
    Blocked {
        /// Which one, in words.
        by: String,
    },
    /// Inherited from an earlier run and not yet confirmed.
    Stale,
}

impl Entry for FibRoute {
    fn prefix(&self) -> Prefix {
        self.prefix
    }
}
