//! How much memory things take, for whoever asks: counts and octets, and what the standard library's maps take.
//!
//! Octets are those that were asked of the allocator; what it adds to each block is not among them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// Entries that a node of the standard library's B-trees has room for.
const NODE_ENTRIES: usize = 11;
/// Entries in a node, on average: between 7 (keys that came in order) and 7.6 (in no order).
const NODE_FILL: usize = 7;
/// Parent, place in it, and length.
const NODE_HEADER: usize = 16;

/// How many of something there are, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many.
    pub count: usize,
    /// Octets on the heap.
    pub octets: usize,
}

impl Usage {
    /// Both numbers.
    #[must_use]
    pub fn new(count: usize, octets: usize) -> Self {
        Self { count, octets }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { count: self.count + other.count, octets: self.octets + other.octets }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What the room of a list takes, without what its elements have elsewhere.
#[must_use]
pub fn list_octets<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

/// What a map takes, without what its entries have elsewhere. Its nodes cannot be counted: this is right for maps of many
/// entries, within a tenth or so.
#[must_use]
pub fn tree_octets<K, V>(map: &BTreeMap<K, V>) -> usize {
    nodes_octets(map.len(), size_of::<K>() + size_of::<V>())
}

/// As [`tree_octets`].
#[must_use]
pub fn set_octets<K>(set: &BTreeSet<K>) -> usize {
    nodes_octets(set.len(), size_of::<K>())
}

fn nodes_octets(entries: usize, entry: usize) -> usize {
    if entries == 0 {
        return 0;
    }
    let leaf = NODE_HEADER + NODE_ENTRIES * entry;
    let inner = leaf + (NODE_ENTRIES + 1) * size_of::<usize>();
    let (mut octets, mut nodes) = (0, entries.div_ceil(NODE_FILL));
    let mut each = leaf;
    loop {
        octets += nodes * each;
        if nodes == 1 {
            return octets;
        }
        nodes = nodes.div_ceil(NODE_FILL);
        each = inner;
    }
}

/// What a map takes, without what its entries have elsewhere: its slots, and an octet of control for each.
#[must_use]
pub fn hash_octets<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    // At most seven slots in eight are used.
    let slots = (map.capacity() * 8 / 7).next_power_of_two();
    if map.capacity() == 0 { 0 } else { slots * (size_of::<(K, V)>() + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_a_level_more_for_every_seventh_entry() {
        let entry = 8;
        let leaf = NODE_HEADER + NODE_ENTRIES * entry;
        assert_eq!(nodes_octets(0, entry), 0);
        assert_eq!(nodes_octets(7, entry), leaf);
        assert_eq!(nodes_octets(8, entry), 2 * leaf + leaf + 96);
    }

    #[test]
    fn usages_add_up() {
        let sum: Usage = [Usage::new(1, 10), Usage::new(2, 20)].into_iter().sum();
        assert_eq!(sum, Usage::new(3, 30));
    }
}
