//! Values that many routes share, kept once: equal values are the same [`Arc`], so they compare by pointer.
//!
//! A value nobody holds any more is not freed at once but by a sweep that goes in small steps and starts when a
//! fair part may be garbage. What waits to be freed is therefore bounded by what is in use.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

/// Entries that one step looks at.
const STEP: usize = 64;
/// A sweep starts when one in this many entries may have been let go.
const GARBAGE_FRACTION: usize = 4;

/// Values by their hash, in an order that a sweep can follow.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    hasher: RandomState,
    // Two values rarely have one hash, so a bucket is nearly always inline.
    buckets: BTreeMap<u64, SmallVec<[Arc<T>; 1]>>,
    /// In all buckets.
    values: usize,
    released: usize,
    sweep: Sweep,
}

#[derive(Debug, Clone, Copy)]
enum Sweep {
    Resting,
    /// Buckets up to and including this one are done.
    Running {
        after: Option<u64>,
    },
}

impl<T: Hash + Eq> Interner<T> {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            buckets: BTreeMap::new(),
            values: 0,
            released: 0,
            sweep: Sweep::Resting,
        }
    }

    /// The one [`Arc`] of this value.
    pub(crate) fn intern(&mut self, value: T) -> Arc<T> {
        let bucket = self.buckets.entry(self.hasher.hash_one(&value)).or_default();
        if let Some(known) = bucket.iter().find(|known| ***known == value) {
            return Arc::clone(known);
        }
        let new = Arc::new(value);
        bucket.push(Arc::clone(&new));
        self.values += 1;
        new
    }

    /// To be called where a handle is let go; only decides when to sweep.
    pub(crate) fn note_release(&mut self) {
        self.released = self.released.saturating_add(1);
        self.start_if_due();
    }

    /// To be called where many handles are let go at once.
    pub(crate) fn note_mass_release(&mut self) {
        self.released = self.released.saturating_add(self.values);
        self.start_if_due();
    }

    fn start_if_due(&mut self) {
        let due = self.released > 0 && self.released.saturating_mul(GARBAGE_FRACTION) >= self.values;
        if due && !self.is_sweeping() {
            self.released = 0;
            self.sweep = Sweep::Running { after: None };
        }
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        matches!(self.sweep, Sweep::Running { .. })
    }

    /// One step of a running sweep.
    pub(crate) fn sweep_step(&mut self) {
        let Sweep::Running { after } = self.sweep else {
            return;
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut emptied: SmallVec<[u64; STEP]> = SmallVec::new();
        for (&hash, bucket) in self.buckets.range_mut((from, Bound::Unbounded)).take(STEP) {
            // Handles are only ever made from the one here, so a count of one cannot rise behind our back.
            let before = bucket.len();
            bucket.retain(|value| Arc::strong_count(value) > 1);
            self.values -= before - bucket.len();
            if bucket.is_empty() {
                emptied.push(hash);
            }
            last = Some(hash);
        }
        for hash in emptied {
            self.buckets.remove(&hash);
        }
        self.sweep = match last {
            Some(hash) => Sweep::Running { after: Some(hash) },
            None => Sweep::Resting,
        };
        // What was let go behind the sweep is still there.
        self.start_if_due();
    }

    /// Distinct values, garbage included.
    pub(crate) fn len(&self) -> usize {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain<T: Hash + Eq>(interner: &mut Interner<T>) {
        while interner.is_sweeping() {
            interner.sweep_step();
        }
    }

    #[test]
    fn equal_values_are_one_arc() {
        let mut interner = Interner::new();
        let (a, b, c) = (interner.intern("a"), interner.intern("a"), interner.intern("c"));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &c));
        assert_eq!(interner.len(), 2);
    }

    #[test]
    fn what_nobody_holds_is_freed_and_what_somebody_holds_stays() {
        let mut interner = Interner::new();
        let mut held: Vec<_> = (0..1000).map(|n: u32| interner.intern(n)).collect();
        while held.len() > 1 {
            held.pop();
            interner.note_release();
        }
        drain(&mut interner);
        assert!(interner.len() < 5, "{} left", interner.len());
        assert_eq!(interner.len(), interner.buckets.values().map(SmallVec::len).sum::<usize>());
        assert!(Arc::ptr_eq(&held[0], &interner.intern(0)));
    }

    #[test]
    fn garbage_stays_bounded_over_many_flaps() {
        let mut interner = Interner::new();
        for round in 0..10_000_u32 {
            drop(interner.intern(round));
            interner.note_release();
            interner.sweep_step();
        }
        drain(&mut interner);
        assert!(interner.len() <= 2, "{} left", interner.len());
    }
}
