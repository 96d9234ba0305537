//! What waits between two owners: a map keyed by prefix, emptied in circles.
//!
//! A later change of a prefix replaces an earlier one, so the map is never larger than the table (DESIGN: state
//! waits, bytes do not). Taking goes round by the order of prefixes, so that a prefix which changes all the time
//! cannot keep those behind it waiting.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::per_family::PerFamily;
use crate::memory::tree_octets;
use crate::{Family, Prefix};

#[derive(Debug)]
pub(crate) struct Pending<V> {
    entries: BTreeMap<Prefix, V>,
    counts: PerFamily<usize>,
    last: Option<Prefix>,
}

impl<V> Default for Pending<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), counts: PerFamily::default(), last: None }
    }
}

impl<V> Pending<V> {
    /// Gives back what waited before.
    pub(crate) fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let superseded = self.entries.insert(prefix, value);
        if superseded.is_none() {
            *self.counts.of_mut(prefix.family()) += 1;
        }
        superseded
    }

    pub(crate) fn remove(&mut self, prefix: Prefix) -> Option<V> {
        let removed = self.entries.remove(&prefix)?;
        *self.counts.of_mut(prefix.family()) -= 1;
        Some(removed)
    }

    pub(crate) fn get(&self, prefix: Prefix) -> Option<&V> {
        self.entries.get(&prefix)
    }

    /// The next one behind the last one taken.
    pub(crate) fn take_next(&mut self) -> Option<(Prefix, V)> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.entries.range((behind, Bound::Unbounded)).next();
        let prefix = next.or_else(|| self.entries.first_key_value()).map(|(&prefix, _)| prefix)?;
        self.last = Some(prefix);
        self.remove(prefix).map(|value| (prefix, value))
    }

    /// On the heap, without what the values have there.
    pub(crate) fn octets(&self) -> usize {
        tree_octets(&self.entries)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries of one family.
    pub(crate) fn count(&self, family: Family) -> usize {
        *self.counts.of(family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_busy_prefix_does_not_starve_the_others() {
        let mut pending = Pending::default();
        for text in ["10.0.0.0/8", "10.0.0.0/16", "::/0"] {
            pending.insert(prefix(text), ());
        }
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(pending.take_next().unwrap().0);
            pending.insert(prefix("10.0.0.0/8"), ());
        }
        assert_eq!(taken, [prefix("10.0.0.0/8"), prefix("10.0.0.0/16"), prefix("::/0")]);
        assert_eq!(pending.count(Family::Ipv4Unicast), 1);
        assert_eq!(pending.count(Family::Ipv6Unicast), 0);
        assert_eq!(pending.take_next(), Some((prefix("10.0.0.0/8"), ())));
        assert_eq!(pending.take_next(), None);
    }
}
