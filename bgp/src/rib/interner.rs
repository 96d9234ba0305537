//! Values that many routes share, kept once: equal values have one [`Handle`] and one [`Arc`], so they compare
//! by number or by pointer.
//!
//! A route holds a handle, which is a quarter of the size of a pointer and its count, and counts itself with
//! [`Interner::retain`] and [`Interner::release`]. Others hold the [`Arc`]. A value is freed when the last route
//! lets go of it; where somebody else still holds it then, by a sweep that goes in small steps and starts when a fair
//! part may be garbage. What waits to be freed is therefore bounded by what is in use.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::chunks::Chunks;
use crate::memory::set_octets;

/// Slots that one step looks at: freeing all of them takes about as long as a decision.
const STEP: usize = 4;
/// What an [`Arc`] has before its value, in octets.
const ARC_COUNTS: usize = 2 * size_of::<usize>();
/// A sweep starts when one in this many values may have been let go.
const GARBAGE_FRACTION: usize = 4;

/// Names a value as long as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle(NonZeroU32);

impl Handle {
    /// `None` for more values than a handle can tell apart.
    fn of_slot(slot: usize) -> Option<Self> {
        u32::try_from(slot).ok()?.checked_add(1).and_then(NonZeroU32::new).map(Self)
    }

    fn slot(self) -> usize {
        usize::try_from(self.0.get() - 1).unwrap_or(usize::MAX)
    }
}

/// Values in slots, found again by their hash.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    hasher: RandomState,
    slots: Chunks<Slot<T>>,
    /// Lowest first, so that the slots in use stay together and the rest can be given back.
    vacant: BTreeSet<u32>,
    // Half a hash is enough to make an unequal value with the same one rare, and a tree is never rehashed.
    by_hash: BTreeSet<(u32, Handle)>,
    /// The one that was found or made last: routes with equal next hops follow one another.
    latest: Option<Handle>,
    released: usize,
    sweep: Sweep,
}

#[derive(Debug)]
struct Slot<T> {
    /// `None`: vacant.
    value: Option<Arc<T>>,
    hash: u32,
    /// Routes that hold the handle.
    references: u32,
}

#[derive(Debug, Clone, Copy)]
enum Sweep {
    Resting,
    /// Slots before this one are done.
    Running {
        next: usize,
    },
}

impl<T: Hash + Eq> Interner<T> {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: Chunks::default(),
            vacant: BTreeSet::new(),
            by_hash: BTreeSet::new(),
            latest: None,
            released: 0,
            sweep: Sweep::Resting,
        }
    }

    /// The one handle of this value, held once more. `None` when there are four billion values.
    pub(crate) fn intern(&mut self, value: T) -> Option<Handle> {
        let handle = self.find_or_insert(value)?;
        self.retain(handle);
        Some(handle)
    }

    /// The one [`Arc`] of this value. Let go of it with [`Self::note_release`].
    pub(crate) fn share(&mut self, value: T) -> Arc<T> {
        let hash = self.hash(&value);
        match self.find(hash, &value).and_then(|handle| self.get(handle)) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(value);
                self.insert(hash, Arc::clone(&new));
                new
            }
        }
    }

    /// The value of a handle that is held.
    pub(crate) fn get(&self, handle: Handle) -> Option<&Arc<T>> {
        self.slots.get(handle.slot())?.value.as_ref()
    }

    /// One more route holds the handle.
    pub(crate) fn retain(&mut self, handle: Handle) {
        if let Some(slot) = self.slots.get_mut(handle.slot()) {
            slot.references += 1;
        }
    }

    /// One route less.
    pub(crate) fn release(&mut self, handle: Handle) {
        let Some(slot) = self.slots.get_mut(handle.slot()) else {
            return;
        };
        slot.references = slot.references.saturating_sub(1);
        if slot.is_unused() {
            self.vacate(handle);
        } else if slot.references == 0 {
            self.note_release();
        }
    }

    /// To be called where an [`Arc`] is let go; only decides when to sweep.
    pub(crate) fn note_release(&mut self) {
        self.released = self.released.saturating_add(1);
        self.start_if_due();
    }

    /// To be called where many are let go at once.
    pub(crate) fn note_mass_release(&mut self) {
        self.released = self.released.saturating_add(self.len());
        self.start_if_due();
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        matches!(self.sweep, Sweep::Running { .. })
    }

    /// One step of a running sweep.
    pub(crate) fn sweep_step(&mut self) {
        let Sweep::Running { next } = self.sweep else {
            return;
        };
        let end = next.saturating_add(STEP);
        for slot in next..end.min(self.slots.len()) {
            let unused = self.slots.get(slot).is_some_and(Slot::is_unused);
            if let Some(handle) = Handle::of_slot(slot).filter(|_| unused) {
                self.vacate(handle);
            }
        }
        self.truncate();
        let is_done = end >= self.slots.len() && !self.ends_vacant();
        self.sweep = if is_done { Sweep::Resting } else { Sweep::Running { next: end } };
        // What was let go behind the sweep is still there.
        self.start_if_due();
    }

    /// Distinct values, garbage included.
    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// What the values in some slots take, from number `from`: each by `heap` for what it has elsewhere. `None` for
    /// slots behind the last one.
    pub(crate) fn octets(&self, from: usize, limit: usize, heap: impl Fn(&T) -> usize) -> Option<usize> {
        let slots = from..from.saturating_add(limit).min(self.slots.len());
        if slots.is_empty() {
            return None;
        }
        let values = slots.filter_map(|slot| self.slots.get(slot)?.value.as_ref());
        Some(values.map(|value| ARC_COUNTS + size_of::<T>() + heap(value)).sum())
    }

    /// What it takes to keep them apart.
    pub(crate) fn list_octets(&self) -> usize {
        self.slots.octets() + set_octets(&self.vacant) + set_octets(&self.by_hash)
    }

    fn start_if_due(&mut self) {
        let due = self.released > 0 && self.released.saturating_mul(GARBAGE_FRACTION) >= self.len();
        if due && !self.is_sweeping() {
            self.released = 0;
            self.sweep = Sweep::Running { next: 0 };
        }
    }

    fn hash(&self, value: &T) -> u32 {
        u32::try_from(self.hasher.hash_one(value) >> 32).unwrap_or_default()
    }

    fn find(&self, hash: u32, value: &T) -> Option<Handle> {
        let lowest = Handle(NonZeroU32::MIN);
        let same_hash = self.by_hash.range((hash, lowest)..).take_while(|&&(other, _)| other == hash);
        same_hash
            .map(|&(_, handle)| handle)
            .find(|&handle| self.get(handle).is_some_and(|known| **known == *value))
    }

    fn find_or_insert(&mut self, value: T) -> Option<Handle> {
        let is_latest =
            self.latest.and_then(|latest| self.get(latest)).is_some_and(|latest| **latest == value);
        if !is_latest {
            let hash = self.hash(&value);
            self.latest = self.find(hash, &value).or_else(|| self.insert(hash, Arc::new(value)));
        }
        self.latest
    }

    fn insert(&mut self, hash: u32, value: Arc<T>) -> Option<Handle> {
        let new = Slot { value: Some(value), hash, references: 0 };
        let vacant = self.vacant.pop_first().and_then(|slot| usize::try_from(slot).ok());
        let at = vacant.unwrap_or(self.slots.len());
        let handle = Handle::of_slot(at)?;
        match self.slots.get_mut(at) {
            Some(slot) => *slot = new,
            None => self.slots.push(new),
        }
        self.by_hash.insert((hash, handle));
        Some(handle)
    }

    fn vacate(&mut self, handle: Handle) {
        let Some(slot) = self.slots.get_mut(handle.slot()) else {
            return;
        };
        slot.value = None;
        let hash = slot.hash;
        self.by_hash.remove(&(hash, handle));
        self.vacant.insert(handle.0.get() - 1);
        self.truncate();
        if self.ends_vacant() && !self.is_sweeping() {
            self.sweep = Sweep::Running { next: self.slots.len() };
        }
    }

    fn ends_vacant(&self) -> bool {
        self.slots.last().is_some_and(|slot| slot.value.is_none())
    }

    /// Gives back slots behind the last one in use: more than become vacant, but not all in one turn. A sweep goes on
    /// until the last one is in use.
    fn truncate(&mut self) {
        for _ in 0..STEP {
            if !self.ends_vacant() {
                break;
            }
            self.slots.pop();
            self.vacant.pop_last();
        }
    }
}

impl<T> Slot<T> {
    /// Handles and shared pointers are only ever made from the one here, so none can appear behind our back.
    fn is_unused(&self) -> bool {
        self.references == 0 && self.value.as_ref().is_some_and(|value| Arc::strong_count(value) == 1)
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
    fn equal_values_are_one() {
        let mut interner = Interner::new();
        let [a, b, c] = ["a", "a", "c"].map(|value| interner.intern(value).unwrap());
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(interner.len(), 2);
        assert!(Arc::ptr_eq(&interner.share("a"), interner.get(b).unwrap()));
    }

    #[test]
    fn a_value_goes_with_its_last_handle_and_its_slot_is_used_again() {
        let mut interner = Interner::new();
        let handles: Vec<_> = (0..1000).map(|n: u32| interner.intern(n).unwrap()).collect();
        interner.retain(handles[500]);
        handles.iter().for_each(|&handle| interner.release(handle));
        drain(&mut interner);
        assert_eq!((interner.len(), interner.slots.len()), (1, 501));
        assert_eq!(interner.intern(500), Some(handles[500]));
        assert_eq!(interner.intern(7), Some(handles[0]));
        interner.release(handles[0]);
        (0..2).for_each(|_| interner.release(handles[500]));
        drain(&mut interner);
        assert_eq!((interner.len(), interner.slots.len(), interner.vacant.len()), (0, 0, 0));
    }

    #[test]
    fn what_nobody_holds_is_freed_and_what_somebody_holds_stays() {
        let mut interner = Interner::new();
        let mut held: Vec<_> = (0..1000).map(|n: u32| interner.share(n)).collect();
        while held.len() > 1 {
            held.pop();
            interner.note_release();
        }
        drain(&mut interner);
        assert!(interner.len() < 5, "{} left", interner.len());
        assert!(Arc::ptr_eq(&held[0], &interner.share(0)));
        // Also what a route lets go of while somebody else holds it.
        let handle = interner.intern(0).unwrap();
        interner.release(handle);
        assert!(interner.get(handle).is_some());
    }

    #[test]
    fn garbage_stays_bounded_over_many_flaps() {
        let mut interner = Interner::new();
        for round in 0..10_000_u32 {
            drop(interner.share(round));
            interner.note_release();
            interner.sweep_step();
        }
        drain(&mut interner);
        assert!(interner.len() <= 2, "{} left", interner.len());
    }
}
