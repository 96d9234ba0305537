//! The kernel's routes that are ours: reconciled, never commanded (DESIGN 4.6).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::Prefix;
use bgp::rib::FibChange;

/// What the RIB hands over in one go; superseded changes are already gone.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// One for each prefix at most.
    pub changes: Vec<FibChange>,
    /// Everything that was waiting for the first convergence is in this batch or an earlier one: what we
    /// inherited and nobody asked for may be swept.
    pub converged: bool,
}

/// What this node itself wants in the kernel. A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalRoutes {
    /// A blackhole each (the node's pod blocks).
    pub blackholes: BTreeSet<Prefix>,
    /// Preferred source of IPv4 routes: the loopback address.
    pub preferred_source_ipv4: Option<Ipv4Addr>,
    /// Preferred source of IPv6 routes.
    pub preferred_source_ipv6: Option<Ipv6Addr>,
}
