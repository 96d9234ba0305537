//! All keys, in little room: a map from prefixes to *cases*, which are few.
//!
//! In a table of a million routes almost all have the same said about them: wanted over this set of next hops, there
//! over that object. Such a statement is a [`Case`]; it is kept once, with the number of keys that it is true of. A
//! key costs its prefix and the number of its case. What is true of all keys of a case is found out once, and
//! counters need no walk. What is rare (refusals, foreign routes) is kept elsewhere, by key (`trouble`).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Bound;

use bgp::memory::{Usage, hash_octets, list_octets, tree_octets};
use bgp::rib::{Gateway, Gateways};
use bgp::{Family, Ipv4Prefix, Ipv6Prefix, Prefix};

use super::nexthop::ObjectId;
use super::route::{Installed, Key, Ownership, Route, Way};

/// A set of next hops, of which each is kept once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u32);

/// What the kernel has of ours at a key: [`Installed`] in little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Image {
    InLine {
        set: SetId,
        source: Option<IpAddr>,
    },
    Object {
        id: ObjectId,
        source: Option<IpAddr>,
    },
    Blackhole {
        source: Option<IpAddr>,
    },
    Irregular,
    /// More than one (the kernel takes several with `ip route append`); deleting takes one away.
    Several,
}

/// What is said of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Case {
    pub(super) family: Family,
    /// What the RIB wants.
    pub(super) learned: Option<SetId>,
    /// What this node itself wants there, which wins.
    pub(super) local: Local,
    /// What the kernel has of ours, as far as we know.
    pub(super) installed: Option<Image>,
    /// Whether what is wanted is to be taken at its word.
    pub(super) origin: Origin,
}

/// Whether this node itself wants a blackhole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Local {
    Nothing,
    Blackhole,
}

/// Where what is installed comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// This run: what is wanted is all there is to know.
    Asked,
    /// It was there before us, and is as it was. Who wants it may not have said so yet, or not all of them.
    Inherited,
}

impl Case {
    fn nothing(family: Family) -> Self {
        Self { family, learned: None, local: Local::Nothing, installed: None, origin: Origin::Asked }
    }

    /// Somebody else, or the kernel, has changed what is there. Where it is wanted that is put right at once.
    pub(super) fn changed(&mut self, installed: Option<Image>) {
        self.installed = installed;
        if self.learned.is_some() {
            self.origin = Origin::Asked;
        }
    }

    /// Nothing is wanted, nothing is there: the key can be forgotten.
    pub(super) fn is_nothing(&self) -> bool {
        self.learned.is_none() && self.local == Local::Nothing && self.installed.is_none()
    }
}

/// The number of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CaseId(u32);

#[derive(Debug)]
struct Counted {
    case: Case,
    keys: usize,
}

/// Every case that is true of some key.
#[derive(Debug, Default)]
struct Cases {
    numbers: HashMap<Case, u32>,
    cases: Vec<Counted>,
    free: Vec<u32>,
    /// The last one looked up: batches have runs of the same.
    last: Option<(Case, u32)>,
    /// The last key of some case has left it.
    released: bool,
}

impl Cases {
    fn case(&self, id: CaseId) -> Option<&Case> {
        self.counted(id.0).map(|counted| &counted.case)
    }

    fn counted(&self, number: u32) -> Option<&Counted> {
        self.cases.get(usize::try_from(number).ok()?)
    }

    fn counted_mut(&mut self, number: u32) -> Option<&mut Counted> {
        self.cases.get_mut(usize::try_from(number).ok()?)
    }

    /// One more key is of this case.
    fn enter(&mut self, case: Case) -> CaseId {
        let known = match self.last {
            Some((last, number)) if last == case => Some(number),
            _ => self.numbers.get(&case).copied(),
        };
        let number = known.unwrap_or_else(|| self.allocate(case));
        self.last = Some((case, number));
        if let Some(counted) = self.counted_mut(number) {
            counted.keys += 1;
        }
        CaseId(number)
    }

    fn allocate(&mut self, case: Case) -> u32 {
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(counted) = self.counted_mut(number) {
                    counted.case = case;
                }
                number
            }
            None => {
                self.cases.push(Counted { case, keys: 0 });
                u32::try_from(self.cases.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(case, number);
        number
    }

    /// One key fewer is of this case.
    fn leave(&mut self, id: CaseId) {
        let Some(counted) = self.counted_mut(id.0) else { return };
        counted.keys -= 1;
        if counted.keys == 0 {
            let case = counted.case;
            if self.numbers.get(&case) == Some(&id.0) {
                self.numbers.remove(&case);
            }
            self.last = None;
            self.released = true;
            self.free.push(id.0);
        }
    }

    /// Changes what is said of all keys of a case at once. Afterwards two numbers may say the same.
    fn rewrite(&mut self, mut change: impl FnMut(&mut Case)) {
        self.last = None;
        let numbers = &mut self.numbers;
        for (number, counted) in (0_u32..).zip(&mut self.cases).filter(|(_, counted)| counted.keys > 0) {
            let before = counted.case;
            change(&mut counted.case);
            if counted.case != before {
                if numbers.get(&before) == Some(&number) {
                    numbers.remove(&before);
                }
                numbers.entry(counted.case).or_insert(number);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&Case, usize)> {
        self.cases.iter().filter(|counted| counted.keys > 0).map(|counted| (&counted.case, counted.keys))
    }
}

/// Sets of next hops, each kept once, until [`Sets::retain`].
#[derive(Debug, Default)]
pub(super) struct Sets {
    numbers: HashMap<Gateways, u32>,
    sets: Vec<Option<Gateways>>,
    free: Vec<u32>,
    /// The last one looked up: batches have runs of the same.
    last: Option<SetId>,
}

/// Something for each of some sets.
#[derive(Debug)]
pub(super) struct PerSet<T>(Vec<Option<T>>);

impl<T> Default for PerSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PerSet<T> {
    pub(super) fn get(&self, id: SetId) -> Option<&T> {
        self.0.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    pub(super) fn insert(&mut self, id: SetId, value: T) {
        let Ok(place) = usize::try_from(id.0) else { return };
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        if let Some(old) = self.0.get_mut(place) {
            *old = Some(value);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The room that it has, in octets, without what its values have elsewhere.
    pub(super) fn octets(&self) -> usize {
        list_octets(&self.0)
    }
}

impl Sets {
    pub(super) fn intern(&mut self, gateways: &Gateways) -> SetId {
        let last = self.last.filter(|last| self.get(*last) == Some(gateways));
        let id = last.unwrap_or_else(|| self.look_up(gateways));
        self.last = Some(id);
        id
    }

    fn look_up(&mut self, gateways: &Gateways) -> SetId {
        if let Some(&number) = self.numbers.get(gateways) {
            return SetId(number);
        }
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = usize::try_from(number).ok().and_then(|index| self.sets.get_mut(index)) {
                    *place = Some(gateways.clone());
                }
                number
            }
            None => {
                self.sets.push(Some(gateways.clone()));
                u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(gateways.clone(), number);
        SetId(number)
    }

    /// Empty for a number that was never given.
    pub(super) fn gateways(&self, id: SetId) -> &[bgp::rib::Gateway] {
        self.get(id).map_or(&[], |gateways| gateways.as_slice())
    }

    pub(super) fn get(&self, id: SetId) -> Option<&Gateways> {
        self.sets.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    /// Whether what is wanted now is something, and has all that was wanted before.
    pub(super) fn grows(&self, before: Option<SetId>, now: Option<SetId>) -> bool {
        let Some(now) = now else { return false };
        let before = before.map_or(&[][..], |before| self.gateways(before));
        let now = self.gateways(now);
        before.iter().all(|gateway| now.contains(gateway))
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn usage(&self) -> Usage {
        let spilled: usize = self.numbers.keys().map(gateways_octets).sum();
        let lists = hash_octets(&self.numbers) + list_octets(&self.sets) + list_octets(&self.free);
        // Each is there twice: to be found by its number, and by what it is.
        Usage::new(self.len(), lists + 2 * spilled)
    }

    /// Forgets the others.
    pub(super) fn retain(&mut self, keep: impl Fn(SetId) -> bool) {
        for (number, place) in (0_u32..).zip(&mut self.sets) {
            if let Some(gateways) = place.take_if(|_| !keep(SetId(number))) {
                self.numbers.remove(&gateways);
                self.free.push(number);
            }
        }
    }
}

/// What a set takes on the heap beside itself.
pub(super) fn gateways_octets(gateways: &Gateways) -> usize {
    if gateways.spilled() { gateways.capacity() * size_of::<Gateway>() } else { 0 }
}

/// How far a walk over all keys has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Behind that prefix; `None`: at the beginning.
    Ipv4(Option<Ipv4Prefix>),
    Ipv6(Option<Ipv6Prefix>),
    /// Keys with a metric that is not the usual one.
    Strays(Option<Key>),
}

impl Cursor {
    pub(super) const START: Self = Self::Ipv4(None);
}

/// The keys with their cases.
#[derive(Debug)]
pub(super) struct Table {
    ownership: Ownership,
    ipv4: BTreeMap<Ipv4Prefix, CaseId>,
    ipv6: BTreeMap<Ipv6Prefix, CaseId>,
    /// What yields to others, and what earlier runs left with another metric.
    strays: BTreeMap<Key, CaseId>,
    cases: Cases,
    pub(super) sets: Sets,
}

fn behind<T>(after: Option<T>) -> (Bound<T>, Bound<T>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

impl Table {
    pub(super) fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            ipv4: BTreeMap::new(),
            ipv6: BTreeMap::new(),
            strays: BTreeMap::new(),
            cases: Cases::default(),
            sets: Sets::default(),
        }
    }

    /// What is said of a key.
    pub(super) fn case(&self, key: Key) -> Case {
        let id = match key.prefix {
            _ if key != self.ownership.key(key.prefix) => self.strays.get(&key),
            Prefix::V4(prefix) => self.ipv4.get(&prefix),
            Prefix::V6(prefix) => self.ipv6.get(&prefix),
        };
        let case = id.and_then(|id| self.cases.case(*id)).copied();
        case.unwrap_or_else(|| Case::nothing(key.prefix.family()))
    }

    /// Changes what is said of a key; gives what was said before, and what is now.
    pub(super) fn change(&mut self, key: Key, change: impl FnOnce(&mut Case)) -> (Case, Case) {
        let Self { ownership, ipv4, ipv6, strays, cases, .. } = self;
        match key.prefix {
            _ if key != ownership.key(key.prefix) => {
                change_in(strays, cases, key, key.prefix.family(), change)
            }
            Prefix::V4(prefix) => change_in(ipv4, cases, prefix, Family::Ipv4Unicast, change),
            Prefix::V6(prefix) => change_in(ipv6, cases, prefix, Family::Ipv6Unicast, change),
        }
    }

    /// Changes what is said of all keys of a case at once, in no time that depends on how many they are. A key that
    /// nothing is said of any more is found by a walk.
    pub(super) fn change_all(&mut self, change: impl FnMut(&mut Case)) {
        self.cases.rewrite(change);
    }

    /// Whether fewer things are said than when this was last asked.
    pub(super) fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.cases.released)
    }

    /// Every case, with the number of its keys.
    pub(super) fn cases(&self) -> impl Iterator<Item = (&Case, usize)> {
        self.cases.iter()
    }

    /// Looks at up to `limit` keys; `None` for the cursor at the end.
    pub(super) fn walk(
        &self,
        from: Cursor,
        limit: usize,
        mut each: impl FnMut(Key, &Case),
    ) -> Option<Cursor> {
        let mut seen = 0;
        let mut visit = |key: Key, id: &CaseId| {
            if let Some(case) = self.cases.case(*id) {
                each(key, case);
            }
            seen += 1;
            seen >= limit
        };
        let own = |prefix| self.ownership.key(prefix);
        let mut cursor = from;
        if let Cursor::Ipv4(after) = cursor {
            let full =
                self.ipv4.range(behind(after)).find(|(prefix, id)| visit(own(Prefix::V4(**prefix)), id));
            match full {
                Some((&prefix, _)) => return Some(Cursor::Ipv4(Some(prefix))),
                None => cursor = Cursor::Ipv6(None),
            }
        }
        if let Cursor::Ipv6(after) = cursor {
            let full =
                self.ipv6.range(behind(after)).find(|(prefix, id)| visit(own(Prefix::V6(**prefix)), id));
            match full {
                Some((&prefix, _)) => return Some(Cursor::Ipv6(Some(prefix))),
                None => cursor = Cursor::Strays(None),
            }
        }
        let Cursor::Strays(after) = cursor else { return None };
        let full = self.strays.range(behind(after)).find(|(key, id)| visit(**key, id));
        full.map(|(key, _)| Cursor::Strays(Some(*key)))
    }

    /// Keys of the prefixes after `after`, in their order, with what is said of them.
    pub(super) fn in_order(&self, after: Option<Prefix>, limit: usize) -> Vec<(Key, Case)> {
        let own = |prefix| self.ownership.key(prefix);
        let ipv4_after = match after {
            None => Some(behind(None)),
            Some(Prefix::V4(prefix)) => Some(behind(Some(prefix))),
            Some(Prefix::V6(_)) => None,
        };
        let ipv6_after = match after {
            None | Some(Prefix::V4(_)) => behind(None),
            Some(Prefix::V6(prefix)) => behind(Some(prefix)),
        };
        let stray_after = after.map(|prefix| Key { prefix, metric: u32::MAX });
        let said = |(key, id): (Key, &CaseId)| {
            self.cases.case(*id).filter(|case| !case.is_nothing()).map(|case| (key, *case))
        };
        let ipv4 = ipv4_after.into_iter().flat_map(|range| self.ipv4.range(range));
        let ipv4 = ipv4.map(|(prefix, id)| (own(Prefix::V4(*prefix)), id));
        let ipv6 = self.ipv6.range(ipv6_after).map(|(prefix, id)| (own(Prefix::V6(*prefix)), id));
        let strays = self.strays.range(behind(stray_after)).map(|(key, id)| (*key, id));
        let mut all: Vec<(Key, Case)> = ipv4.chain(ipv6).filter_map(said).take(limit).collect();
        all.extend(strays.filter_map(said).take(limit));
        all.sort_unstable_by_key(|(key, _)| *key);
        all.truncate(limit);
        all
    }

    /// All keys in a network.
    pub(super) fn inside(&self, network: Prefix) -> Vec<Key> {
        let own = |prefix| self.ownership.key(prefix);
        let mut keys: Vec<Key> = match network {
            Prefix::V4(from) => {
                let prefixes = self.ipv4.range(from..).map(|(prefix, _)| Prefix::V4(*prefix));
                prefixes.take_while(|prefix| network.covers(*prefix)).map(own).collect()
            }
            Prefix::V6(from) => {
                let prefixes = self.ipv6.range(from..).map(|(prefix, _)| Prefix::V6(*prefix));
                prefixes.take_while(|prefix| network.covers(*prefix)).map(own).collect()
            }
        };
        let strays = self.strays.range(Key { prefix: network, metric: 0 }..).map(|(key, _)| *key);
        keys.extend(strays.take_while(|key| network.covers(key.prefix)));
        keys
    }

    /// One prefix, at every metric.
    pub(super) fn at(&self, prefix: Prefix) -> Vec<(Key, Case)> {
        let own = self.ownership.key(prefix);
        let mut all = vec![(own, self.case(own))];
        let range = Key { prefix, metric: 0 }..=Key { prefix, metric: u32::MAX };
        all.extend(self.strays.range(range).filter_map(|(key, id)| Some((*key, *self.cases.case(*id)?))));
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// The keys with their cases.
    pub(super) fn usage(&self) -> Usage {
        let Self { ipv4, ipv6, strays, cases, .. } = self;
        let keys = tree_octets(ipv4) + tree_octets(ipv6) + tree_octets(strays);
        let said = list_octets(&cases.cases) + list_octets(&cases.free) + hash_octets(&cases.numbers);
        Usage::new(ipv4.len() + ipv6.len() + strays.len(), keys + said)
    }

    pub(super) fn image(&mut self, installed: &Installed) -> Image {
        match installed {
            Installed::Route(Route { way: Way::InLine(gateways), source }) => {
                Image::InLine { set: self.sets.intern(gateways), source: *source }
            }
            Installed::Route(Route { way: Way::Object(id), source }) => {
                Image::Object { id: *id, source: *source }
            }
            Installed::Route(Route { way: Way::Blackhole, source }) => Image::Blackhole { source: *source },
            Installed::Irregular => Image::Irregular,
        }
    }
}

fn change_in<K: Ord + Copy>(
    map: &mut BTreeMap<K, CaseId>,
    cases: &mut Cases,
    key: K,
    family: Family,
    change: impl FnOnce(&mut Case),
) -> (Case, Case) {
    use std::collections::btree_map::Entry;
    match map.entry(key) {
        Entry::Vacant(vacant) => {
            let before = Case::nothing(family);
            let mut now = before;
            change(&mut now);
            if !now.is_nothing() {
                vacant.insert(cases.enter(now));
            }
            (before, now)
        }
        Entry::Occupied(mut occupied) => {
            let id = *occupied.get();
            let before = cases.case(id).copied().unwrap_or_else(|| Case::nothing(family));
            let mut now = before;
            change(&mut now);
            if now.is_nothing() {
                occupied.remove();
                cases.leave(id);
            } else if now != before {
                occupied.insert(cases.enter(now));
                cases.leave(id);
            }
            (before, now)
        }
    }
}

#[cfg(test)]
mod tests;
