//! The kernel's IPv4 FIB as its events tell it: which routes there are, and what they go over.
//!
//! In: [`Change`]s. Out: how many routes have how many next hops, and how many go over an interface, without a walk.
//! A route has its next hops in line or refers to a nexthop object, which may be a group of others.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

/// A prefix as the kernel writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    /// In network order.
    pub(super) address: [u8; 4],
    /// 0 to 32.
    pub(super) length: u8,
}

/// What a route goes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Via {
    /// Next hops in line, by the index of their interface.
    Interfaces(SmallVec<[u32; 2]>),
    /// The nexthop object with this id.
    Nexthop(u32),
}

/// A nexthop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NexthopObject {
    /// One next hop on this interface.
    Interface(u32),
    /// Others, by id.
    Group(SmallVec<[u32; 4]>),
    /// Drops what it gets.
    Blackhole,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A route is new or replaced.
    Route(Destination, Via),
    /// A route is gone.
    NoRoute(Destination),
    /// A nexthop object is new or replaced.
    Nexthop(u32, NexthopObject),
    /// A nexthop object is gone.
    NoNexthop(u32),
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Fib {
    routes: HashMap<Destination, Via, RandomState>,
    objects: HashMap<u32, NexthopObject, RandomState>,
    /// Routes with next hops in line, by the interfaces that they go over. There are as many kinds as sets of uplinks.
    in_line: HashMap<SmallVec<[u32; 2]>, usize, RandomState>,
    /// Routes by the nexthop object that they refer to.
    users: HashMap<u32, usize, RandomState>,
}

impl Fib {
    /// Takes one event in.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Route(destination, via) => {
                *self.count(&via) += 1;
                if let Some(before) = self.routes.insert(destination, via) {
                    *self.count(&before) -= 1;
                }
            }
            Change::NoRoute(destination) => {
                if let Some(before) = self.routes.remove(&destination) {
                    *self.count(&before) -= 1;
                }
            }
            Change::Nexthop(id, object) => drop(self.objects.insert(id, object)),
            // The kernel takes it out of its groups without a word.
            Change::NoNexthop(id) => drop(self.objects.remove(&id)),
        }
    }

    /// Forgets the nexthop objects, to learn them anew from a dump.
    pub(super) fn forget_nexthops(&mut self) {
        self.objects.clear();
    }

    /// How many routes there are.
    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    /// How many routes have at least so many next hops.
    pub(super) fn with_next_hops(&self, at_least: usize) -> usize {
        self.matching(|interfaces| interfaces.len() >= at_least)
    }

    /// How many routes go over an interface.
    pub(super) fn over(&self, interface: u32) -> usize {
        self.matching(|interfaces| interfaces.contains(&interface))
    }

    fn matching(&self, wanted: impl Fn(&[u32]) -> bool) -> usize {
        let in_line = self.in_line.iter().filter(|(interfaces, _)| wanted(interfaces));
        let users = self.users.iter().filter(|(_, count)| **count > 0);
        let by_object = users.filter(|(id, _)| wanted(&self.interfaces(**id)));
        in_line.map(|(_, count)| count).sum::<usize>() + by_object.map(|(_, count)| count).sum::<usize>()
    }

    /// The interfaces behind a nexthop object, one for each next hop.
    fn interfaces(&self, id: u32) -> SmallVec<[u32; 4]> {
        let single = |id: &u32| match self.objects.get(id) {
            Some(NexthopObject::Interface(interface)) => Some(*interface),
            // The kernel has no groups of groups.
            Some(NexthopObject::Group(_) | NexthopObject::Blackhole) | None => None,
        };
        match self.objects.get(&id) {
            Some(NexthopObject::Group(members)) => members.iter().filter_map(single).collect(),
            Some(NexthopObject::Interface(_) | NexthopObject::Blackhole) | None => {
                single(&id).into_iter().collect()
            }
        }
    }

    fn count(&mut self, via: &Via) -> &mut usize {
        match via {
            // Two indices fit into the key itself: the copy costs no allocation.
            Via::Interfaces(interfaces) => self.in_line.entry(interfaces.clone()).or_default(),
            Via::Nexthop(id) => self.users.entry(*id).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn destination(last: u8) -> Destination {
        Destination { address: [10, 0, 0, last], length: 32 }
    }

    fn in_line(last: u8, interfaces: &[u32]) -> Change {
        Change::Route(destination(last), Via::Interfaces(interfaces.into()))
    }

    fn by_object(last: u8, id: u32) -> Change {
        Change::Route(destination(last), Via::Nexthop(id))
    }

    fn fib(changes: impl IntoIterator<Item = Change>) -> Fib {
        let mut fib = Fib::default();
        changes.into_iter().for_each(|change| fib.apply(change));
        fib
    }

    fn two_uplinks() -> [Change; 3] {
        [
            Change::Nexthop(1, NexthopObject::Interface(11)),
            Change::Nexthop(2, NexthopObject::Interface(12)),
            Change::Nexthop(3, NexthopObject::Group(smallvec![1, 2])),
        ]
    }

    #[test]
    fn next_hops_in_line_are_counted_as_they_change() {
        let mut fib = fib([in_line(1, &[11]), in_line(1, &[11, 12]), in_line(2, &[12]), in_line(2, &[12])]);
        assert_eq!((fib.len(), fib.with_next_hops(1), fib.with_next_hops(2)), (2, 2, 1));
        assert_eq!((fib.over(11), fib.over(12)), (1, 2));
        fib.apply(Change::NoRoute(destination(1)));
        fib.apply(Change::NoRoute(destination(1)));
        assert_eq!((fib.len(), fib.with_next_hops(1), fib.over(11), fib.over(12)), (1, 1, 0, 1));
    }

    #[test]
    fn a_group_that_changes_changes_its_routes() {
        let mut fib =
            fib(two_uplinks().into_iter().chain([by_object(1, 3), by_object(2, 1), in_line(3, &[12])]));
        assert_eq!((fib.with_next_hops(2), fib.over(11), fib.over(12)), (1, 2, 2));
        fib.apply(Change::Nexthop(3, NexthopObject::Group(smallvec![2])));
        assert_eq!((fib.with_next_hops(2), fib.over(11), fib.over(12)), (0, 1, 2));
        fib.apply(by_object(2, 3));
        assert_eq!((fib.len(), fib.over(11), fib.over(12)), (3, 0, 3));
    }

    #[test]
    fn a_member_that_is_gone_counts_no_more() {
        let mut fib = fib(two_uplinks().into_iter().chain([by_object(1, 3)]));
        fib.apply(Change::NoNexthop(1));
        assert_eq!((fib.with_next_hops(2), fib.with_next_hops(1), fib.over(11)), (0, 1, 0));
        fib.forget_nexthops();
        assert_eq!((fib.len(), fib.with_next_hops(1)), (1, 0));
    }
}
