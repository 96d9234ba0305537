//! Host routes into this node's own blocks, where somebody else has the address.
//!
//! A pod here may be given the address at any time, also while this daemon is down and its routes stay. The kernel prefers
//! the lower metric among routes to one destination, and ours is lower than Felix's: so these are written with one that is
//! higher, and yield to the route of a pod before anybody has said anything.

use bgp::Prefix;

use super::super::route::Key;
use super::super::table::Origin;
use super::Delta;

impl Delta {
    /// Where what the RIB says of a prefix goes.
    pub(super) fn key(&self, prefix: Prefix) -> Key {
        let is_lent = prefix.is_host() && self.local.lending.iter().any(|block| block.covers(prefix));
        if is_lent { self.ownership.yielding(prefix) } else { self.ownership.key(prefix) }
    }

    /// What was said before a block began or ceased to lend goes to its new place.
    pub(super) fn move_hosts_in(&mut self, block: Prefix) {
        for key in self.table.inside(block) {
            let (from, to) = (self.table.case(key), self.key(key.prefix));
            if from.learned.is_none() || key == to {
                continue;
            }
            self.table.change(to, |case| {
                case.origin = Origin::Asked;
                case.learned = from.learned;
            });
            self.table.change(key, |case| {
                case.origin = Origin::Asked;
                case.learned = None;
            });
            self.dirty.extend([key, to]);
        }
    }
}
