//! When a group that a next hop has come back to may have it.
//!
//! Routes that want less than the group would then do are on loan; it waits until there are none. Loans that have
//! not become fewer for [`RETURN_PATIENCE`] are ended by writing routes, and of the two camps the smaller one: either
//! the loans move to a group of their own, or the group goes to those who borrow it and the others move.
//!
//! A group of an earlier run is known by what it had when we found it. If some of its next hops were gone just then,
//! its routes want more as soon as these are back: it is *claimed* for what they want, and the rest are its loans.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bgp::rib::Gateways;

use super::super::nexthop::ObjectId;
use super::{Objects, Provenance, Situation};

/// Loans that have not become fewer for this long are ended from here: a neighbor sends its table without such
/// pauses.
pub(in crate::kernel::fib) const RETURN_PATIENCE: Duration = Duration::from_secs(2);

/// Routes that name an object.
#[derive(Debug, Default)]
pub(in crate::kernel::fib) struct Users {
    /// How many want which set of next hops.
    pub(in crate::kernel::fib) by_set: BTreeMap<Gateways, usize>,
    /// How many nobody has asked for yet.
    pub(in crate::kernel::fib) unasked: usize,
}

/// Whether a group that a next hop has come back to may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    NotDue,
    /// Loans are coming to an end by themselves.
    Waiting {
        since: Instant,
        loans: usize,
    },
    /// They are ended from here.
    Forced,
}

impl Users {
    fn of(&self, set: &Gateways) -> usize {
        self.by_set.get(set).copied().unwrap_or(0)
    }

    /// Those that want something else, the largest camp first.
    fn others(&self, set: &Gateways) -> Option<(&Gateways, usize)> {
        let others = self.by_set.iter().filter(|(other, _)| *other != set);
        others.map(|(other, routes)| (other, *routes)).max_by_key(|(_, routes)| *routes)
    }
}

impl Objects {
    /// What a group should have and has not; `None` where nothing is to be written.
    pub(super) fn target(&mut self, id: ObjectId, situation: &Situation, now: Instant) -> Option<Gateways> {
        let living = |set: &Gateways| situation.reach.living(set);
        let group = self.groups.get_mut(&id)?;
        let target = living(&group.set);
        let grows = target.iter().any(|gateway| !group.has.contains(gateway));
        if !grows {
            // What it has too much the kernel takes out with the member.
            group.growth = Growth::NotDue;
            return None;
        }
        if group.has.is_empty() {
            group.growth = Growth::NotDue;
            return situation.awaited.contains(&group.set).then_some(target);
        }
        let users = situation.used.get(&id);
        let would_do_more = |users: &&Users| {
            users.unasked > 0 || users.by_set.keys().any(|set| *set != group.set && living(set) != target)
        };
        let Some(users) = users.filter(would_do_more) else {
            group.growth = Growth::NotDue;
            return Some(target);
        };
        let loans = users.unasked + users.by_set.values().sum::<usize>() - users.of(&group.set);
        let waiting = Growth::Waiting { since: now, loans };
        group.growth = match group.growth {
            Growth::Forced => Growth::Forced,
            Growth::Waiting { since, loans: before } if loans >= before => {
                if since + RETURN_PATIENCE > now {
                    Growth::Waiting { since, loans: before }
                } else if !situation.is_converged {
                    // After a restart the other neighbors may take their time.
                    waiting
                } else {
                    self.called_in = true;
                    let most = users.others(&group.set).filter(|(_, routes)| *routes > users.of(&group.set));
                    if let Some(set) = most.map(|(set, _)| set.clone()) {
                        // It was made for these after all, and is not claimed again.
                        group.provenance = Provenance::Made;
                        self.rename(id, set);
                        return None;
                    }
                    Growth::Forced
                }
            }
            Growth::Waiting { .. } | Growth::NotDue => waiting,
        };
        None
    }

    /// A group of an earlier run whose routes want this set, which has more than we knew.
    pub(super) fn claim(&mut self, set: &Gateways, situation: &Situation) -> Option<ObjectId> {
        let candidates = situation.used.iter().filter(|(id, users)| {
            users.of(set) > 0
                && self.groups.get(id).is_some_and(|group| {
                    group.provenance == Provenance::Found && group.set.iter().all(|known| set.contains(known))
                })
        });
        let (&id, _) = candidates.max_by_key(|(_, users)| users.of(set))?;
        self.rename(id, set.clone());
        // What waited for it finds it.
        self.called_in = true;
        Some(id)
    }

    /// From now on the group is that set's.
    fn rename(&mut self, id: ObjectId, set: Gateways) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.growth = Growth::NotDue;
        let before = std::mem::replace(&mut group.set, set.clone());
        self.by_set.entry(set).or_insert(id);
        if self.by_set.get(&before) == Some(&id) {
            self.by_set.remove(&before);
            let heir = self.groups.iter().find(|(_, group)| group.set == before);
            if let Some((heir, _)) = heir {
                self.by_set.insert(before, *heir);
            }
        }
    }
}
