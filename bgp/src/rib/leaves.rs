//! An ordered map with a list of items for each key, laid out so that a million keys cost little more than
//! their own octets.
//!
//! Keys stand sorted in leaves of a hundred or so. A leaf is a few columns: keys, what stands with each key, and
//! the items of all its keys one after another. So a key has no allocation of its own, no padding, and room for
//! exactly the items it has; a look-up reads the first keys of the leaves, then one column of keys. Leaves grow
//! in small steps, never by doubling, and no operation touches more than one leaf and the list of leaves:
//! nothing is ever rehashed or moved as a whole.
//!
//! Nothing here knows about routes. Measurements against other layouts are in the bench's README.

use std::cell::Cell;
use std::ops::Range;

/// Keys in a leaf, at most. More makes a look-up touch fewer leaves, and an insertion move more octets.
pub(crate) const LEAF_KEYS: usize = 128;
/// Items in a leaf with more than one key, at most.
pub(crate) const LEAF_ITEMS: usize = 1024;
/// A leaf with fewer keys is put together with one beside it, if both fit into half a leaf.
const SPARSE: usize = LEAF_KEYS / 4;
/// Room that a full column gets at once, as a fraction of what it has.
const GROWTH_FRACTION: usize = 8;
const SMALLEST_GROWTH: usize = 4;

/// A fact about a key that is true or not, for the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    First,
    Second,
    Third,
}

/// How many items a key has, and its marks, in two octets: the sum over those before it is where its items begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally(u16);

impl Tally {
    pub(crate) const ITEMS: u16 = 0x1fff;

    fn items(self) -> usize {
        usize::from(self.0 & Self::ITEMS)
    }

    fn bit(mark: Mark) -> u16 {
        match mark {
            Mark::First => 0x2000,
            Mark::Second => 0x4000,
            Mark::Third => 0x8000,
        }
    }

    fn has(self, mark: Mark) -> bool {
        self.0 & Self::bit(mark) != 0
    }

    fn set(&mut self, mark: Mark) {
        self.0 |= Self::bit(mark);
    }

    fn clear(&mut self, mark: Mark) {
        self.0 &= !Self::bit(mark);
    }

    fn has_marks(self) -> bool {
        self.0 & !Self::ITEMS != 0
    }
}

/// What there is about a key.
#[derive(Debug)]
pub(crate) struct Entry<'a, S, I> {
    pub(crate) state: &'a S,
    pub(crate) items: &'a [I],
}

/// The same to write to; the number of items is fixed.
#[derive(Debug)]
pub(crate) struct EntryMut<'a, S, I> {
    pub(crate) state: &'a mut S,
    pub(crate) items: &'a mut [I],
}

/// Octets of some leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Octets {
    /// How many were there.
    pub(crate) leaves: usize,
    /// Of their items.
    pub(crate) items: usize,
    /// Of everything else in them.
    pub(crate) keys: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Leaves<K, S, I> {
    /// The first key of each leaf when it was made, or one that is lower.
    firsts: Vec<K>,
    // Boxed, so that a split moves eight octets for each leaf behind it.
    #[expect(clippy::vec_box, reason = "a split moves all leaves behind it")]
    leaves: Vec<Box<Leaf<K, S, I>>>,
    /// Marked keys in each leaf: the next one is found without looking into leaves that have none.
    marked: Vec<MarkCounts>,
    length: usize,
    all_marked: PerMark<usize>,
    /// Where a key was found last. The owner does several things with a key before it turns to the next, which is
    /// often the one beside it; what is there is compared, so a place that has become wrong costs a search and no more.
    last: Cell<Place>,
}

type MarkCounts = PerMark<u16>;

#[derive(Debug, Clone, Copy, Default)]
struct PerMark<T> {
    first: T,
    second: T,
    third: T,
}

impl<T> PerMark<T> {
    fn of(&self, mark: Mark) -> &T {
        match mark {
            Mark::First => &self.first,
            Mark::Second => &self.second,
            Mark::Third => &self.third,
        }
    }

    fn of_mut(&mut self, mark: Mark) -> &mut T {
        match mark {
            Mark::First => &mut self.first,
            Mark::Second => &mut self.second,
            Mark::Third => &mut self.third,
        }
    }
}

#[derive(Debug)]
struct Leaf<K, S, I> {
    keys: Vec<K>,
    tallies: Vec<Tally>,
    states: Vec<S>,
    items: Vec<I>,
}

/// Where a key is, or would be.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    leaf: usize,
    slot: usize,
}

impl<K, S, I> Default for Leaves<K, S, I> {
    fn default() -> Self {
        Self {
            firsts: Vec::new(),
            leaves: Vec::new(),
            marked: Vec::new(),
            length: 0,
            all_marked: PerMark::default(),
            last: Cell::default(),
        }
    }
}

impl<K: Ord + Copy, S: Copy + Default, I> Leaves<K, S, I> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, key: K) -> Option<Entry<'_, S, I>> {
        let Place { leaf, slot } = self.find(key).ok()?;
        self.leaves.get(leaf)?.entry(slot)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<EntryMut<'_, S, I>> {
        let Place { leaf, slot } = self.find(key).ok()?;
        self.leaves.get_mut(leaf)?.entry_mut(slot)
    }

    /// Puts the key in, without items, where it is not there.
    pub(crate) fn ensure(&mut self, key: K) {
        if let Err(place) = self.find(key) {
            self.insert(place, key);
        }
    }

    /// Marks a key that is there. It stays until the mark is taken off.
    pub(crate) fn mark(&mut self, key: K, mark: Mark) {
        let Ok(Place { leaf, slot }) = self.find(key) else {
            return;
        };
        let tally = self.leaves.get_mut(leaf).and_then(|leaf| leaf.tallies.get_mut(slot));
        if let (Some(tally), Some(marked)) = (tally, self.marked.get_mut(leaf))
            && !tally.has(mark)
        {
            tally.set(mark);
            *marked.of_mut(mark) += 1;
            *self.all_marked.of_mut(mark) += 1;
        }
    }

    /// Takes a mark off.
    pub(crate) fn unmark(&mut self, key: K, mark: Mark) {
        let Ok(Place { leaf, slot }) = self.find(key) else {
            return;
        };
        let tally = self.leaves.get_mut(leaf).and_then(|leaf| leaf.tallies.get_mut(slot));
        if let (Some(tally), Some(marked)) = (tally, self.marked.get_mut(leaf))
            && tally.has(mark)
        {
            tally.clear(mark);
            *marked.of_mut(mark) -= 1;
            *self.all_marked.of_mut(mark) -= 1;
        }
    }

    /// Keys with the mark.
    pub(crate) fn marked(&self, mark: Mark) -> usize {
        *self.all_marked.of(mark)
    }

    /// The first key with the mark above `after`, or of all.
    pub(crate) fn next_marked(&self, mark: Mark, after: Option<K>) -> Option<K> {
        if self.marked(mark) == 0 {
            return None;
        }
        let start = self.place_behind(after);
        let here = self.leaves.get(start.leaf).and_then(|leaf| leaf.next_marked(mark, start.slot));
        here.or_else(|| {
            let behind = start.leaf + 1;
            let counts = self.marked.get(behind..)?;
            let leaf = counts.iter().position(|counts| *counts.of(mark) > 0)?;
            self.leaves.get(behind + leaf)?.next_marked(mark, 0)
        })
    }

    /// Puts an item behind the others of the key, and the key in where it is not there. An item that would be
    /// number 8,192 of its key is given back.
    pub(crate) fn push(&mut self, key: K, item: I) -> Result<(), I> {
        let mut place = match self.find(key) {
            Ok(place) => place,
            Err(place) => self.insert(place, key),
        };
        if self.leaves.get(place.leaf).is_some_and(|leaf| leaf.is_full_of_items()) {
            self.split(place.leaf);
            if let Ok(found) = self.find(key) {
                place = found;
            }
        }
        match self.leaves.get_mut(place.leaf) {
            Some(leaf) => leaf.push(place.slot, item),
            None => Err(item),
        }
    }

    /// Takes one item of a key out; the others keep their order.
    pub(crate) fn take_item(&mut self, key: K, position: usize) -> Option<I> {
        let Place { leaf, slot } = self.find(key).ok()?;
        self.leaves.get_mut(leaf)?.take_item(slot, position)
    }

    /// Takes out a key that has no items and no marks; false where it is not there or has some.
    pub(crate) fn remove(&mut self, key: K) -> bool {
        let Ok(Place { leaf: at, slot }) = self.find(key) else {
            return false;
        };
        let removed = self.leaves.get_mut(at).is_some_and(|leaf| leaf.remove(slot));
        if removed {
            self.length -= 1;
            self.shrink(at);
        }
        removed
    }

    /// The keys above `after`, or all of them.
    pub(crate) fn behind(&self, after: Option<K>) -> impl Iterator<Item = (K, Entry<'_, S, I>)> {
        self.from(self.place_behind(after))
    }

    /// The key itself, if it is there, and all above it.
    pub(crate) fn starting_at(&self, key: K) -> impl Iterator<Item = (K, Entry<'_, S, I>)> {
        let (Ok(place) | Err(place)) = self.find(key);
        self.from(place)
    }

    /// What some leaves take on the heap, from number `from`.
    pub(crate) fn octets(&self, from: usize, limit: usize) -> Octets {
        let leaves = self.leaves.get(from..).unwrap_or_default();
        leaves.iter().take(limit).fold(Octets::default(), |sum, leaf| Octets {
            leaves: sum.leaves + 1,
            items: sum.items + room(&leaf.items),
            keys: sum.keys
                + size_of::<Leaf<K, S, I>>()
                + room(&leaf.keys)
                + room(&leaf.tallies)
                + room(&leaf.states),
        })
    }

    /// What the list of leaves takes.
    pub(crate) fn list_octets(&self) -> usize {
        room(&self.leaves) + room(&self.firsts) + room(&self.marked)
    }

    /// Keys in each leaf, and the room for them.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> Vec<(usize, usize)> {
        self.leaves.iter().map(|leaf| (leaf.keys.len(), leaf.keys.capacity())).collect()
    }

    fn from(&self, start: Place) -> impl Iterator<Item = (K, Entry<'_, S, I>)> {
        let leaves = self.leaves.get(start.leaf..).unwrap_or_default();
        leaves.iter().enumerate().flat_map(move |(at, leaf)| leaf.iter(if at == 0 { start.slot } else { 0 }))
    }

    fn place_behind(&self, after: Option<K>) -> Place {
        match after.map(|after| self.find(after)) {
            None => Place { leaf: 0, slot: 0 },
            Some(Ok(Place { leaf, slot })) => Place { leaf, slot: slot + 1 },
            Some(Err(place)) => place,
        }
    }

    fn find(&self, key: K) -> Result<Place, Place> {
        let last = self.last.get();
        let beside = self.leaves.get(last.leaf).map(|leaf| leaf.keys.as_slice()).unwrap_or_default();
        if beside.get(last.slot) == Some(&key) {
            return Ok(last);
        }
        let next = Place { slot: last.slot + 1, ..last };
        let found = if beside.get(next.slot) == Some(&key) { Ok(next) } else { self.search(key) };
        let (Ok(place) | Err(place)) = found;
        self.last.set(place);
        found
    }

    fn search(&self, key: K) -> Result<Place, Place> {
        // What is below all goes into the first leaf.
        let leaf = self.firsts.partition_point(|first| *first <= key).saturating_sub(1);
        let keys = self.leaves.get(leaf).map(|leaf| leaf.keys.as_slice()).unwrap_or_default();
        match keys.binary_search(&key) {
            Ok(slot) => Ok(Place { leaf, slot }),
            Err(slot) => Err(Place { leaf, slot }),
        }
    }

    fn insert(&mut self, place: Place, key: K) -> Place {
        self.length += 1;
        if self.leaves.is_empty() {
            self.firsts.push(key);
            self.leaves.push(Box::new(Leaf::new()));
            self.marked.push(MarkCounts::default());
        }
        let Place { leaf: at, mut slot } = self.make_room(place, key);
        if let Some(leaf) = self.leaves.get_mut(at) {
            slot = slot.min(leaf.keys.len());
            leaf.insert(slot, key);
        }
        Place { leaf: at, slot }
    }

    /// Where a key that belongs to a place goes when its leaf is full.
    fn make_room(&mut self, place: Place, key: K) -> Place {
        let full = self.leaves.get(place.leaf).is_some_and(|leaf| leaf.keys.len() >= LEAF_KEYS);
        if !full {
            return place;
        }
        if place.slot >= LEAF_KEYS {
            // Keys that come in order fill their leaves: nothing will come into the middle of this one.
            let at = place.leaf + 1;
            self.firsts.insert(at, key);
            self.leaves.insert(at, Box::new(Leaf::new()));
            self.marked.insert(at, MarkCounts::default());
            return Place { leaf: at, slot: 0 };
        }
        self.split(place.leaf);
        let (Ok(place) | Err(place)) = self.find(key);
        place
    }

    /// Cuts a leaf with more than one key in half.
    fn split(&mut self, at: usize) {
        let Some(upper) = self.leaves.get_mut(at).and_then(|leaf| leaf.split_off_half()) else {
            return;
        };
        if let Some(&first) = upper.keys.first() {
            self.firsts.insert(at + 1, first);
            self.leaves.insert(at + 1, Box::new(upper));
            self.marked.insert(at + 1, MarkCounts::default());
            self.recount(at);
            self.recount(at + 1);
        }
    }

    fn recount(&mut self, at: usize) {
        if let Some((leaf, marked)) = self.leaves.get(at).zip(self.marked.get_mut(at)) {
            *marked = leaf.count_marks();
        }
    }

    /// Gives back what a leaf that lost a key does not need.
    fn shrink(&mut self, at: usize) {
        let Some(left) = self.leaves.get(at).map(|leaf| leaf.keys.len()) else {
            return;
        };
        if left == 0 {
            self.leaves.remove(at);
            self.firsts.remove(at);
            self.marked.remove(at);
            self.give_back();
            return;
        }
        if let Some(leaf) = self.leaves.get_mut(at) {
            leaf.shrink();
        }
        if left < SPARSE {
            // The one behind first, so that the number of this one stays right.
            self.join(at);
            if let Some(before) = at.checked_sub(1) {
                self.join(before);
            }
        }
    }

    /// Puts a leaf and the one behind it together, if both fit into half a leaf.
    fn join(&mut self, at: usize) {
        let keys_of = |at: usize| self.leaves.get(at).map(|leaf| leaf.keys.len());
        if keys_of(at).zip(keys_of(at + 1)).is_some_and(|(one, next)| one + next <= LEAF_KEYS / 2) {
            let mut next = self.leaves.remove(at + 1);
            self.firsts.remove(at + 1);
            self.marked.remove(at + 1);
            if let Some(leaf) = self.leaves.get_mut(at) {
                leaf.append(&mut next);
            }
            self.recount(at);
            self.give_back();
        }
    }

    /// Room in the list of leaves.
    fn give_back(&mut self) {
        if self.leaves.capacity() > 4 * (self.leaves.len() + 16) {
            self.leaves.shrink_to(2 * self.leaves.len());
            self.firsts.shrink_to(2 * self.firsts.len());
            self.marked.shrink_to(2 * self.marked.len());
        }
    }
}

impl<K: Ord + Copy, S: Copy + Default, I> Leaf<K, S, I> {
    fn new() -> Self {
        Self { keys: Vec::new(), tallies: Vec::new(), states: Vec::new(), items: Vec::new() }
    }

    fn is_full_of_items(&self) -> bool {
        self.items.len() >= LEAF_ITEMS && self.keys.len() > 1
    }

    /// Items of the keys before a slot.
    fn items_before(&self, slot: usize) -> usize {
        self.tallies.get(..slot).unwrap_or_default().iter().map(|tally| tally.items()).sum()
    }

    /// The items of a slot in their column.
    fn items_of(&self, slot: usize) -> Option<Range<usize>> {
        let items = self.tallies.get(slot)?.items();
        let before = self.items_before(slot);
        Some(before..before + items)
    }

    fn entry(&self, slot: usize) -> Option<Entry<'_, S, I>> {
        let range = self.items_of(slot)?;
        Some(Entry { state: self.states.get(slot)?, items: self.items.get(range)? })
    }

    fn entry_mut(&mut self, slot: usize) -> Option<EntryMut<'_, S, I>> {
        let range = self.items_of(slot)?;
        Some(EntryMut { state: self.states.get_mut(slot)?, items: self.items.get_mut(range)? })
    }

    fn next_marked(&self, mark: Mark, from: usize) -> Option<K> {
        let behind = self.tallies.get(from..)?.iter().position(|tally| tally.has(mark))?;
        self.keys.get(from + behind).copied()
    }

    fn count_marks(&self) -> MarkCounts {
        let count = |mark| self.tallies.iter().map(|tally| u16::from(tally.has(mark))).sum();
        PerMark { first: count(Mark::First), second: count(Mark::Second), third: count(Mark::Third) }
    }

    fn iter(&self, from: usize) -> impl Iterator<Item = (K, Entry<'_, S, I>)> {
        let mut rest = self.items.get(self.items_before(from)..).unwrap_or_default();
        let heads = self.keys.iter().zip(&self.tallies).zip(&self.states).skip(from);
        heads.map_while(move |((&key, &tally), state)| {
            let (items, behind) = rest.split_at_checked(tally.items())?;
            rest = behind;
            Some((key, Entry { state, items }))
        })
    }

    fn insert(&mut self, slot: usize, key: K) {
        grow(&mut self.keys);
        grow(&mut self.tallies);
        grow(&mut self.states);
        self.keys.insert(slot, key);
        self.tallies.insert(slot, Tally::default());
        self.states.insert(slot, S::default());
    }

    fn push(&mut self, slot: usize, item: I) -> Result<(), I> {
        let Some(range) = self.items_of(slot).filter(|range| range.len() < Tally::ITEMS.into()) else {
            return Err(item);
        };
        let Some(tally) = self.tallies.get_mut(slot) else {
            return Err(item);
        };
        // Below the bits of the marks, as was looked at above.
        tally.0 += 1;
        grow(&mut self.items);
        self.items.insert(range.end, item);
        Ok(())
    }

    fn take_item(&mut self, slot: usize, position: usize) -> Option<I> {
        let at = self.items_of(slot)?.nth(position)?;
        self.tallies.get_mut(slot)?.0 -= 1;
        Some(self.items.remove(at))
    }

    fn remove(&mut self, slot: usize) -> bool {
        let is_bare = self.tallies.get(slot).is_some_and(|tally| tally.items() == 0 && !tally.has_marks());
        if is_bare {
            self.keys.remove(slot);
            self.tallies.remove(slot);
            self.states.remove(slot);
        }
        is_bare
    }

    fn split_off_half(&mut self) -> Option<Self> {
        let half = self.keys.len() / 2;
        if half == 0 {
            return None;
        }
        let items = self.items_before(half);
        let upper = Self {
            keys: self.keys.split_off(half),
            tallies: self.tallies.split_off(half),
            states: self.states.split_off(half),
            items: self.items.split_off(items),
        };
        self.keys.shrink_to_fit();
        self.tallies.shrink_to_fit();
        self.states.shrink_to_fit();
        self.items.shrink_to_fit();
        Some(upper)
    }

    fn append(&mut self, next: &mut Self) {
        self.keys.append(&mut next.keys);
        self.tallies.append(&mut next.tallies);
        self.states.append(&mut next.states);
        self.items.append(&mut next.items);
    }

    fn shrink(&mut self) {
        shrink(&mut self.keys);
        shrink(&mut self.tallies);
        shrink(&mut self.states);
        shrink(&mut self.items);
    }
}

/// Room for one more, without doubling.
fn grow<T>(column: &mut Vec<T>) {
    if column.len() == column.capacity() {
        column.reserve_exact((column.len() / GROWTH_FRACTION).max(SMALLEST_GROWTH));
    }
}

/// In octets.
fn room<T>(column: &Vec<T>) -> usize {
    column.capacity() * size_of::<T>()
}

fn shrink<T>(column: &mut Vec<T>) {
    if column.capacity() / 2 > column.len() + SMALLEST_GROWTH {
        column.shrink_to_fit();
    }
}
