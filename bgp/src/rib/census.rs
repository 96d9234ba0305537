//! Where the memory of the RIB is, counted in portions: a whole table would take longer than a turn may.

use super::Rib;
use crate::Family;
use crate::memory::Usage;
use crate::message::Attributes;

/// Leaves or slots looked at in one portion: a millisecond where each is a miss of the cache.
const PORTION: usize = 4096;

/// What the RIB has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RibMemory {
    /// Of the Adj-RIBs-In, whatever became of them.
    pub paths: Usage,
    /// With what is said of each: marks, next hops in use, places of its paths.
    pub prefixes: Usage,
    /// Different sets of attributes, each kept once.
    pub attributes: Usage,
    /// Different sets of next hops, each kept once.
    pub next_hops: Usage,
    /// What neighbors were told, and have yet to be told.
    pub adj_ribs_out: Usage,
}

impl RibMemory {
    /// All of it, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        let Self { paths, prefixes, attributes, next_hops, adj_ribs_out } = self;
        [paths, prefixes, attributes, next_hops, adj_ribs_out].into_iter().map(|usage| usage.octets).sum()
    }
}

/// A count under way; pass it to [`Rib::count_memory`] until it is complete. What changes between two portions may be
/// counted twice, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    at: Position,
    memory: RibMemory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Leaves { family: Family, from: usize },
    Attributes { from: usize },
    NextHops { from: usize },
    Complete,
}

impl Default for Position {
    fn default() -> Self {
        Self::Leaves { family: Family::Ipv4Unicast, from: 0 }
    }
}

impl Census {
    /// The result, once there is nothing more to count.
    #[must_use]
    pub fn result(&self) -> Option<RibMemory> {
        match self.at {
            Position::Complete => Some(self.memory),
            Position::Leaves { .. } | Position::Attributes { .. } | Position::NextHops { .. } => None,
        }
    }
}

impl Rib {
    /// Counts one portion more.
    #[must_use]
    pub fn count_memory(&self, census: Census) -> Census {
        let Census { at, mut memory } = census;
        let at = match at {
            Position::Leaves { family, from } => {
                let octets = self.table.octets(family, from, PORTION);
                memory.paths.octets += octets.items;
                memory.prefixes.octets += octets.keys;
                match (octets.leaves, family) {
                    (PORTION, _) => Position::Leaves { family, from: from + PORTION },
                    (_, Family::Ipv4Unicast) => Position::Leaves { family: Family::Ipv6Unicast, from: 0 },
                    (_, Family::Ipv6Unicast) => Position::Attributes { from: 0 },
                }
            }
            Position::Attributes { from } => {
                match self.attributes.octets(from, PORTION, Attributes::heap_octets) {
                    Some(octets) => {
                        memory.attributes.octets += octets;
                        Position::Attributes { from: from + PORTION }
                    }
                    None => Position::NextHops { from: 0 },
                }
            }
            Position::NextHops { from } => {
                let heap = |gateways: &super::Gateways| {
                    if gateways.spilled() { gateways.capacity() * size_of::<super::Gateway>() } else { 0 }
                };
                match self.gateways.octets(from, PORTION, heap) {
                    Some(octets) => {
                        memory.next_hops.octets += octets;
                        Position::NextHops { from: from + PORTION }
                    }
                    None => {
                        self.count_the_rest(&mut memory);
                        Position::Complete
                    }
                }
            }
            Position::Complete => Position::Complete,
        };
        Census { at, memory }
    }

    /// What needs no walk.
    fn count_the_rest(&self, memory: &mut RibMemory) {
        let totals = self.totals();
        memory.paths.count = totals.paths.saturating_sub(self.originated.len());
        memory.prefixes += Usage::new(totals.destinations, self.table.list_octets());
        memory.attributes += Usage::new(totals.attributes, self.attributes.list_octets());
        memory.next_hops += Usage::new(self.gateways.len(), self.gateways.list_octets());
        memory.adj_ribs_out = self.peers.values().map(|peer| peer.adj_rib_out.usage()).sum();
    }
}
