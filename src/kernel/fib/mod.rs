//! The kernel's routes that are ours: reconciled, never commanded (DESIGN 4.6).
//!
//! In: batches of changes from the RIB, what this node itself wants ([`LocalRoutes`]), the links, the neighbors
//! that are lost or that BFD finds dead, questions from the control API, and the kernel's own events. Out: routes and nexthop objects in the
//! kernel. `delta` has what is wanted and what is there, in the little room of `table`, and what follows; `objects`
//! does the same for nexthop objects, `reach` knows which next hops live, and `trouble` what is in the way; `route`
//! alone says which kernel routes are ours; `nexthop` and `packet` are the bytes; `writer` is how changes reach the
//! kernel, and `dump` how its tables are read; `task` waits and acts, on a `thread` of its own.
//!
//! Routes outlive the task: it never deletes them when it ends, and the next one inherits them.

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod delta;
mod dump;
mod nexthop;
mod objects;
mod packet;
mod reach;
mod route;
mod snapshots;
mod table;
mod task;
mod thread;
mod trouble;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bgp::memory::Usage;
use bgp::rib::{Gateway, Gateways};
use bgp::{Families, Prefix};
use tokio::sync::{mpsc, oneshot, watch};

/// What the RIB hands over in one go.
pub use bgp::net::FibBatch as Batch;
pub use route::Ownership;
pub use thread::{StartError, run};

pub use crate::config::NexthopObjects;

use super::interfaces::Interfaces;
use super::netlink::{KernelError, RECEIVE_BUFFER};
use route::Protocol;

/// What this node itself wants in the kernel. A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalRoutes {
    /// A blackhole each (the node's pod blocks); none for a /32 or a /128, which would hide the address itself.
    pub blackholes: BTreeSet<Prefix>,
    /// Blocks of which single addresses may be elsewhere: learned routes to these yield to any other route to the same
    /// address, as Felix makes them for pods.
    pub lending: BTreeSet<Prefix>,
    /// Preferred source of IPv4 routes: the loopback address. Left out of routes while no link has it.
    pub preferred_source_ipv4: Option<Ipv4Addr>,
    /// Preferred source of IPv6 routes.
    pub preferred_source_ipv6: Option<Ipv6Addr>,
}

/// What a FIB task is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which routes are ours.
    pub ownership: Ownership,
    /// Inherited routes that nobody asked for are swept this long after the start even if the RIB never says
    /// that it has converged.
    pub sweep_after: Duration,
    /// Receive buffer of the event socket, in octets.
    pub event_buffer: usize,
    /// Whether routes name nexthop objects.
    pub nexthop_objects: NexthopObjects,
    /// Identifiers that our objects may have, from 1. Objects with them and our protocol are ours.
    pub nexthop_ids: RangeInclusive<u32>,
}

impl Settings {
    /// Longer than a peer's restart timer, which is what a route's return waits for (RFC 4724 section 4.2).
    pub const SWEEP_AFTER: Duration = Duration::from_secs(180);
}

impl From<&crate::config::Fib> for Settings {
    fn from(config: &crate::config::Fib) -> Self {
        let ownership = Ownership { protocol: config.protocol, table: config.table, metric: config.metric };
        Self {
            ownership,
            sweep_after: Self::SWEEP_AFTER,
            event_buffer: RECEIVE_BUFFER,
            nexthop_objects: config.nexthop_objects,
            nexthop_ids: config.nexthop_ids.clone(),
        }
    }
}

/// Where a FIB task's input comes from, and who hears what it finds. The task ends when `batches` is closed.
#[derive(Debug)]
pub struct Inputs {
    /// From the RIB. Its capacity should be small: what waits, waits in the RIB's set.
    pub batches: mpsc::Receiver<Batch>,
    /// This node's own routes.
    pub local: watch::Receiver<Arc<LocalRoutes>>,
    /// The links.
    pub interfaces: watch::Receiver<Arc<Interfaces>>,
    /// Next hops whose session is lost: nothing is sent to them until it is back, whatever the RIB still says
    /// prefix by prefix.
    pub dead: watch::Receiver<Arc<BTreeSet<Gateway>>>,
    /// Next hops that packets do not get to, straight from BFD: the same is done about them.
    pub failed: watch::Receiver<Arc<BTreeSet<Gateway>>>,
    /// Questions; closed when nobody asks any more.
    pub requests: mpsc::Receiver<Request>,
    /// Hears in which families an earlier run has left routes, as soon as one of each is found, or none: well before the
    /// whole table has been read.
    pub inherited: Option<oneshot::Sender<Families>>,
}

/// A question to the FIB task.
#[derive(Debug)]
pub enum Request {
    /// A page of routes.
    Routes {
        /// The last prefix of the page before.
        after: Option<Prefix>,
        /// At most [`Request::PAGE`]; more is cut to it.
        limit: usize,
        /// Gets the routes in the order of their prefixes; an empty page is the end.
        reply: oneshot::Sender<Vec<RouteStatus>>,
    },
    /// One route, at every metric that it is there with.
    Route {
        /// Which one.
        prefix: Prefix,
        /// Gets it; empty where there is none.
        reply: oneshot::Sender<Vec<RouteStatus>>,
    },
    /// The counters.
    Counters {
        /// Gets them.
        reply: oneshot::Sender<Counters>,
    },
    /// Where the memory is.
    Memory {
        /// Gets it.
        reply: oneshot::Sender<Memory>,
    },
    /// End the task. The routes stay as they are, whatever comes in later.
    Stop {
        /// Hears that nothing more is written.
        reply: oneshot::Sender<()>,
    },
}

impl Request {
    /// Routes in an answer: about 100 KiB of JSON.
    pub const PAGE: usize = 1000;
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Forwards over equal next hops: sorted, without duplicates, not empty.
    Unicast(Gateways),
    /// Drops silently.
    Blackhole,
}

/// One route of ours, wanted or there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteStatus {
    /// Destination.
    pub prefix: Prefix,
    /// Ours, unless the route yields to others, or was left by a run with another metric.
    pub metric: u32,
    /// What it does; `None` for a route with our protocol that we did not write.
    pub kind: Option<Kind>,
    /// Preferred source of packets that this node sends by it.
    pub source: Option<IpAddr>,
    /// How far it is.
    pub state: RouteState,
}

/// How far a route is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteState {
    /// The kernel has it as wanted.
    Installed,
    /// Not yet as wanted: on its way, or without a link to go over.
    Pending,
    /// The kernel refused it; tried again later.
    Failed(KernelError),
    /// A foreign route has the same prefix and metric.
    Blocked {
        /// Its `rtm_protocol`.
        protocol: u8,
    },
    /// Inherited from an earlier run, and nobody has asked for it yet.
    Stale,
}

/// The FIB in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Routes that the kernel has as wanted.
    pub installed: usize,
    /// Routes on their way.
    pub pending: usize,
    /// Routes that the kernel refused.
    pub failed: usize,
    /// Routes with a foreign one in their place.
    pub blocked: usize,
    /// Inherited routes that wait for the RIB.
    pub stale: usize,
    /// Routes restored after somebody deleted or changed them, since the start.
    pub repairs: u64,
    /// Times that the kernel's events were lost and the table was read again, since the start.
    pub overruns: u64,
    /// How routes get at their next hops.
    pub next_hops: NextHops,
}

/// What the FIB has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Routes, wanted or there, with what is said of each.
    pub routes: Usage,
    /// Different sets of next hops, with their plans.
    pub sets: Usage,
    /// Nexthop objects.
    pub objects: Usage,
    /// Routes that wait to be looked at, or for the kernel.
    pub backlog: Usage,
    /// Routes with something in their way.
    pub troubles: Usage,
}

/// How routes get at their next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHops {
    /// They name nexthop objects.
    Objects {
        /// Groups that are there, one for each set.
        groups: usize,
        /// Next hops that are there.
        members: usize,
    },
    /// They stand in each route: as configured, or because objects cannot be had.
    InLine(Option<NoObjects>),
}

impl Default for NextHops {
    fn default() -> Self {
        Self::InLine(None)
    }
}

/// Why nexthop objects cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoObjects {
    /// The kernel does not have them, or not ours.
    #[error("the kernel refuses nexthop objects ({})", std::io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// A positive errno.
        errno: i32,
    },
    /// Another program keeps deleting them.
    #[error("another program keeps deleting nexthop objects")]
    Fought,
    /// There is no free identifier.
    #[error("all identifiers for nexthop objects are in use")]
    Exhausted,
}

/// How routes are to get at their next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Objects,
    /// As configured.
    Off,
    InLine(NoObjects),
}

/// Something that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    RestoredDeleted { prefix: Prefix },
    RestoredChanged { prefix: Prefix },
    RestoredDrifted { prefix: Prefix },
    Removed { prefix: Prefix },
    Fight { prefix: Prefix },
    Blocked { prefix: Prefix, protocol: Protocol },
    Unblocked { prefix: Prefix },
    Failed { prefix: Prefix, error: KernelError },
    NoObjects { reason: NoObjects },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestoredDeleted { prefix } => {
                write!(f, "route {prefix} was deleted by another program; restored")
            }
            Self::RestoredChanged { prefix } => {
                write!(f, "route {prefix} was changed by another program; restored")
            }
            Self::RestoredDrifted { prefix } => {
                write!(f, "route {prefix} was gone or changed when the table was read again; restored")
            }
            Self::Removed { prefix } => write!(
                f,
                "another program wrote route {prefix} with our protocol number; removed, since nobody announces it"
            ),
            Self::Fight { prefix } => {
                write!(
                    f,
                    "another program keeps changing route {prefix}; it is restored more slowly from now on"
                )
            }
            Self::Blocked { prefix, protocol } => write!(
                f,
                "route {prefix} is blocked by a foreign route of protocol {protocol} with the same metric"
            ),
            Self::Unblocked { prefix } => write!(f, "route {prefix} is no longer blocked by a foreign route"),
            Self::NoObjects { reason } => write!(f, "{reason}; next hops go into the routes from now on"),
            Self::Failed { prefix, error } => write!(f, "the kernel refused route {prefix}: {error}"),
        }
    }
}
