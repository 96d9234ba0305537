//! Where the daemon's memory is: `GET /v1/memory`.

use serde::{Deserialize, Serialize};

/// What the daemon's parts say of themselves, and what allocator and kernel say of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// One for each of [`MemoryUser`], in their order.
    pub parts: Vec<MemoryPart>,
    /// Sum of the parts.
    pub accounted_octets: u64,
    /// `null` where the allocator does not tell.
    pub allocator: Option<AllocatorMemory>,
    /// The process.
    pub process: ProcessMemory,
}

/// One kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// Which kind.
    pub user: MemoryUser,
    /// How many there are.
    pub count: u64,
    /// What was asked of the allocator for all of them; `null` where only their number is known.
    pub octets: Option<u64>,
}

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryUser {
    /// Paths of the Adj-RIBs-In.
    Paths,
    /// Their prefixes, with what is decided of each.
    Prefixes,
    /// Different sets of attributes, each kept once.
    Attributes,
    /// Different sets of next hops in the RIB, each kept once.
    NextHops,
    /// What neighbors were told, or have yet to be told.
    AdjRibsOut,
    /// Routes of the FIB, wanted or there.
    FibRoutes,
    /// Different sets of next hops in the FIB.
    FibSets,
    /// Nexthop objects.
    FibObjects,
    /// Routes of the FIB with something in their way.
    FibTroubles,
    /// Routes that wait for the kernel.
    FibBacklog,
    /// What waits for sockets of neighbors, or came from there and waits for the RIB, in pieces.
    SessionBuffers,
    /// Messages on their way to the RIB. Each is one read of a socket at most.
    RibInbox,
}

impl MemoryUser {
    /// All, in their order.
    pub const ALL: [Self; 12] = [
        Self::Paths,
        Self::Prefixes,
        Self::Attributes,
        Self::NextHops,
        Self::AdjRibsOut,
        Self::FibRoutes,
        Self::FibSets,
        Self::FibObjects,
        Self::FibTroubles,
        Self::FibBacklog,
        Self::SessionBuffers,
        Self::RibInbox,
    ];
}

/// What the allocator says of its heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatorMemory {
    /// Handed out, with what the allocator adds to each block.
    pub in_use_octets: u64,
    /// Free blocks; most of their pages are not in memory.
    pub free_octets: u64,
}

/// What the kernel says of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// In memory.
    pub resident_octets: u64,
    /// The most that was in memory since the start.
    pub peak_octets: u64,
    /// Of what is resident: heap and stacks.
    pub anonymous_octets: u64,
    /// Of what is resident: the program and its libraries.
    pub file_octets: u64,
}
