//! Types of the control API, as they stand in JSON; `bgpctl` reads with them what the daemon wrote.
//!
//! The version is in the path (`/v1/...`). Within one version fields and words are only ever added. Keys are
//! snake_case; words in values are kebab-case, as in the configuration file. A number carries its unit last in
//! its name. What is not known (yet) is `null`, never 0 or an empty text. Text that a peer sent is passed on as
//! it came: whoever shows it escapes it.

use std::fmt;

use bgp::Prefix;
use serde::{Deserialize, Serialize};

mod bfd;
mod cluster;
mod convert;
mod drain;
mod fib;
mod interfaces;
mod memory;
mod neighbor;
mod policy;
mod readiness;
mod rib;
mod summary;

pub use bfd::{Bfd, BfdDiscards, BfdHealth, BfdRemote, BfdSession, BfdState, NeighborBfd};
pub use cluster::{
    ApiServer, BlockSource, BlockStatus, Kubernetes, KubernetesSummary, PodBlock, Pods, RefusedKind,
    RoleRule, ServiceAddress, ServiceKind, ServicePolicy, ServiceStatus, ServiceTotals, ServiceUse, Services,
    UNREADABLE_MAX, UnreadableObject,
};
pub use drain::{
    DRAIN_MESSAGE_MAX, DRAIN_WAIT_MAX_MS, Drain, DrainBegun, DrainProgress, DrainState, DrainStep,
    NeighborDrain,
};
pub use fib::{Fib, FibCounters, FibGateway, FibNextHops, FibRoute, FibState, RouteKind};
pub use interfaces::{DiscoveryCounters, Interface, Interfaces, LinkRouter, SysctlFinding};
pub use memory::{AllocatorMemory, Memory, MemoryPart, MemoryUser, ProcessMemory};
pub use neighbor::{
    Capabilities, Capability, Direction, FailureReport, Flaps, MessageCounts, Messages, NegotiatedTimers,
    Neighbor, Neighbors, NotificationReport, Timer,
};
pub use policy::{
    GuardRule, NeighborPolicies, Policies, PolicyChain, PolicyInForce, PolicyRule, PolicyTrace, RuleTrace,
};
pub use readiness::{Readiness, ReadinessStage};
pub use rib::{
    AdvertisedRoute, Destination, Path, PathAttributes, PathOrigin, PathSource, PathStatus, ReceivedRoute,
};
pub use summary::{NeighborSummary, PrefixCounts, RibTotals, SessionState, Summary, Trial};

/// Entries of one page at most: about 1 MB of JSON with one or two paths each, and well below a second
/// of work for whoever collects them.
pub const PAGE_LIMIT: usize = 1000;

/// One page of a table. `next` is the `after` of the page that follows; `null` on the last one. A page may
/// hold fewer entries than asked for where the size of the answer says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In the order of their prefixes.
    pub items: Vec<T>,
    /// Where to go on.
    pub next: Option<Prefix>,
}

/// An entry of a paged table.
pub trait Entry {
    /// The cursor that points behind this entry.
    fn prefix(&self) -> Prefix;
}

/// The least `confirm_ms` of a reload: nobody is quicker than a second.
pub const CONFIRM_MIN_MS: u64 = 1000;
/// The largest: a day.
pub const CONFIRM_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// What an action did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence.
    pub message: String,
    /// What changed or has to be known, one line each.
    pub details: Vec<String>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The file that it was read from.
    pub path: String,
    /// All of it with every default filled in, as TOML; secrets left out.
    pub toml: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was wrong, and what is allowed.
    pub message: String,
}

impl Error {
    /// Both parts.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request cannot be understood. HTTP 400.
    BadRequest,
    /// No such path, neighbor or table. HTTP 404.
    NotFound,
    /// The path exists, but not with this method. HTTP 405.
    MethodNotAllowed,
    /// Understood and refused: what is there does not allow it. HTTP 409.
    Refused,
    /// The request or its answer is over its limit. HTTP 413.
    TooLarge,
    /// The agent has more to do than it can; try again. HTTP 503.
    Busy,
    /// More clients than the daemon serves at a time. HTTP 503.
    TooManyClients,
    /// The daemon is about to end. HTTP 503.
    Stopping,
    /// A fault of the daemon. HTTP 500.
    Internal,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "bad request",
            Self::NotFound => "not found",
            Self::MethodNotAllowed => "method not allowed",
            Self::Refused => "refused",
            Self::TooLarge => "too large",
            Self::Busy => "busy",
            Self::TooManyClients => "too many clients",
            Self::Stopping => "stopping",
            Self::Internal => "internal error",
        })
    }
}
