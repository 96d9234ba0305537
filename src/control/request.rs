//! What the control socket asks of the agent. Each request carries the place where its answer goes; an agent
//! that finds that place closed (the client is gone, or waited too long) has nothing to do.

use std::net::IpAddr;
use std::time::Duration;

use bgp::Prefix;
use tokio::sync::oneshot;

use super::api;
use crate::drain::Then;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, api::Error>>;

/// One request. `neighbor` is what the operator typed: an interface name, an address or a host name.
#[derive(Debug)]
pub enum Request {
    /// The daemon at a glance.
    Summary(Reply<api::Summary>),
    /// Every neighbor in full.
    Neighbors(Reply<api::Neighbors>),
    /// One neighbor in full.
    Neighbor {
        /// Which one.
        neighbor: String,
        /// The answer.
        reply: Reply<api::Neighbor>,
    },
    /// A page of the Loc-RIB with every path of each destination.
    Rib {
        /// Which part.
        query: TableQuery,
        /// The answer.
        reply: Reply<api::Page<api::Destination>>,
    },
    /// A page of the Adj-RIB-In of one neighbor.
    Received {
        /// Whose.
        neighbor: String,
        /// Which part.
        query: PageQuery,
        /// The answer.
        reply: Reply<api::Page<api::ReceivedRoute>>,
    },
    /// A page of the Adj-RIB-Out of one neighbor.
    Advertised {
        /// Whose.
        neighbor: String,
        /// Which part.
        query: PageQuery,
        /// The answer.
        reply: Reply<api::Page<api::AdvertisedRoute>>,
    },
    /// What the routes of neighbors go by.
    Policies {
        /// Whose; every neighbor's where there is none.
        neighbor: Option<String>,
        /// The answer.
        reply: Reply<api::Policies>,
    },
    /// A page of the routes that are ours in the kernel.
    Fib {
        /// Which part.
        query: TableQuery,
        /// The answer.
        reply: Reply<api::Fib>,
    },
    /// Links and what Router Discovery knows of them.
    Interfaces(Reply<api::Interfaces>),
    /// BFD sessions.
    Bfd(Reply<api::Bfd>),
    /// The blocks of this node.
    Pods(Reply<api::Pods>),
    /// A page of the addresses of services.
    Services {
        /// Which part.
        query: ServicesQuery,
        /// The answer.
        reply: Reply<api::Services>,
    },
    /// Whether the node is fit for pods.
    Readiness(Reply<api::Readiness>),
    /// Where the memory is.
    Memory(Reply<api::Memory>),
    /// The configuration in force.
    Config(Reply<api::Config>),
    /// End the session with Cease / Administrative Reset and start again.
    Clear {
        /// Whose.
        neighbor: String,
        /// What was done.
        reply: Reply<api::Done>,
    },
    /// Ask the neighbor for its routes again and repeat ours, without a session reset (RFC 2918).
    Refresh {
        /// Whose.
        neighbor: String,
        /// What was done.
        reply: Reply<api::Done>,
    },
    /// How far drains are.
    Drains(Reply<api::Drain>),
    /// Leave the fabric, or one neighbor.
    Drain {
        /// What is wanted.
        order: DrainOrder,
        /// What begins.
        reply: Reply<api::DrainBegun>,
    },
    /// Take a drain back.
    Undrain {
        /// Whose; the node's where there is none.
        neighbor: Option<String>,
        /// What was done.
        reply: Reply<api::Done>,
    },
    /// Read the configuration file again.
    Reload {
        /// What is to become of it.
        order: ReloadOrder,
        /// Whoever asked.
        reply: Reply<api::Done>,
    },
    /// The configuration on trial is good.
    Confirm(Reply<api::Done>),
}

/// What is to become of a file that was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOrder {
    /// It is in use from now on.
    AtOnce,
    /// It is in use, for this long unless that is confirmed.
    OnTrial(Duration),
    /// Only said what it would change.
    InWords,
}

/// An order to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainOrder {
    /// One neighbor alone; the node where there is none.
    pub neighbor: Option<String>,
    /// How long traffic is waited for, at most.
    pub wait: Duration,
    /// What comes after it; a neighbor's drain is followed by nothing.
    pub then: Then,
    /// For the operators of the other ends, 1 to [`api::DRAIN_MESSAGE_MAX`] octets; `None`: the daemon finds words.
    pub message: Option<String>,
}

/// Which part of a table with one entry for each prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableQuery {
    /// Which entries.
    pub selector: Selector,
    /// Which page of them.
    pub page: PageQuery,
}

/// Which entries of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All, in the order of [`Prefix`].
    All,
    /// Exactly this one. An absent one is an empty page, not an error.
    Prefix(Prefix),
    /// The longest match for an address, where there is one.
    Address(IpAddr),
}

/// Which part of the addresses of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesQuery {
    /// Which addresses, and for whom.
    pub selector: ServiceSelector,
    /// Which page of them.
    pub page: PageQuery,
}

/// Which addresses of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSelector {
    /// All.
    All,
    /// Those of this one, `NAMESPACE/NAME`, and of these what becomes of them for this one.
    Service(String),
    /// This one, or the range that has it where no more than that is known.
    Address(IpAddr),
    /// Those within it.
    Within(Prefix),
}

/// Which page: at most `limit` entries, the first of them behind `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// The last entry of the page before; it need not exist any more. `None`: from the beginning.
    pub after: Option<Prefix>,
    /// 1 to [`api::PAGE_LIMIT`].
    pub limit: usize,
}
