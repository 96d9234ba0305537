//! Nexthop objects: which there should be, which there are, and what is to be done about the difference.
//!
//! One object for each next hop (a *member*), one group for each set of next hops that a route wants. A group is
//! known by the set it was made for; what it *has* at present are those of its members that live. When a next hop
//! dies its member goes, by the kernel's hand (link) or ours (session), the kernel takes it out of every group, and
//! no route is touched. A group whose last member goes takes its routes with it.
//!
//! *Borrowing.* After a death the RIB says prefix by prefix that it wants the survivors only. A group that has
//! just these serves such a route as well as one made for them: the route stays where it is, and nothing is
//! written. While routes are on loan a group must not grow, or their packets would go to a next hop that has not
//! announced them. When the next hop is back its prefixes are announced again, which ends the loans one by one;
//! then the group grows, with one write for all its routes (`loans`).
//!
//! In: sets that routes wait for, who uses which object, which next hops live, dumps, events and answers. Out:
//! [`ObjectOperation`]s, and the groups that went. Ours is what has our protocol and an identifier of our range.
//! No socket, clock or task.

mod dump;
mod loans;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bgp::memory::{Usage, hash_octets, set_octets, tree_octets};
use bgp::rib::{Gateway, Gateways};

use super::NoObjects;
use super::nexthop::{Nexthop, ObjectId, Shape};
use super::reach::Reach;
use super::table::gateways_octets;
use crate::kernel::netlink::KernelError;
use loans::Growth;
pub(super) use loans::{RETURN_PATIENCE, Users};

/// Objects that nobody uses are kept this long for the case that somebody does again.
pub(super) const UNUSED: Duration = Duration::from_secs(30);
/// The kernel refuses an object while its link is not quite there.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Refusals one after the other, some seconds in all, until the kernel is believed not to want objects at all.
const REFUSALS: u32 = 8;
/// Objects may be taken from us this often in [`FIGHT_FORGOTTEN`].
const FIGHTS: u32 = 5;
const FIGHT_FORGOTTEN: Duration = Duration::from_secs(60);
/// The pause after somebody has taken our objects; doubles with each time.
const FIGHT_PAUSE: Duration = Duration::from_millis(20);

/// One change to the kernel's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectOperation {
    /// The identifier is free.
    Create(Nexthop),
    /// A group of ours gets other members.
    Replace(Nexthop),
    Delete(ObjectId),
}

/// What objects are for at present. A snapshot.
pub(super) struct Situation {
    /// Sets that routes wait for.
    pub(super) awaited: Vec<Gateways>,
    /// Sets that some route wants.
    pub(super) wanted: BTreeSet<Gateways>,
    /// Objects that routes name.
    pub(super) used: BTreeMap<ObjectId, Users>,
    /// Which next hops can be reached.
    pub(super) reach: Reach,
    /// Whether everything was said once: objects of earlier runs that nobody uses may go, and who has not asked
    /// again by now does not.
    pub(super) is_converged: bool,
    /// Whether any object is wanted at all.
    pub(super) in_use: bool,
}

#[derive(Debug)]
struct Member {
    id: ObjectId,
    is_there: bool,
}

#[derive(Debug)]
struct Group {
    set: Gateways,
    /// What the kernel has in it; empty: there is no such group.
    has: Gateways,
    provenance: Provenance,
    growth: Growth,
    unused_since: Option<Instant>,
}

/// How we know what a group was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provenance {
    /// This run made it.
    Made,
    /// An earlier run has left it, perhaps with some of its members gone.
    Found,
}

#[derive(Debug, Default)]
struct Strikes {
    count: u32,
    last: Option<Instant>,
}

/// The objects.
#[derive(Debug)]
pub(super) struct Objects {
    ids: RangeInclusive<u32>,
    protocol: u8,
    members: BTreeMap<Gateway, Member>,
    groups: BTreeMap<ObjectId, Group>,
    by_set: HashMap<Gateways, ObjectId>,
    /// Others', in our range.
    foreign: BTreeSet<ObjectId>,
    /// With our mark, and of no use: duplicates and odd shapes.
    surplus: BTreeMap<ObjectId, Option<Gateway>>,
    next: u32,
    refusals: u32,
    pause_until: Option<Instant>,
    fights: Strikes,
    resync_at: Option<Instant>,
    trouble: Option<NoObjects>,
    /// As of the last [`Self::poll`], which alone makes a group wait.
    has_loans: bool,
    /// A loan was called in: its routes wait for a group of their own.
    called_in: bool,
}

impl Objects {
    pub(super) fn new(protocol: u8, ids: RangeInclusive<u32>) -> Self {
        Self {
            next: *ids.start(),
            ids,
            protocol,
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_set: HashMap::new(),
            foreign: BTreeSet::new(),
            surplus: BTreeMap::new(),
            refusals: 0,
            pause_until: None,
            fights: Strikes::default(),
            resync_at: None,
            trouble: None,
            has_loans: false,
            called_in: false,
        }
    }

    /// The group made for a set, where there is one.
    pub(super) fn group_of(&self, set: &Gateways) -> Option<ObjectId> {
        let id = self.by_set.get(set)?;
        self.groups.get(id).filter(|group| !group.has.is_empty()).map(|_| *id)
    }

    /// What the kernel has in a group at present.
    pub(super) fn members_of(&self, id: ObjectId) -> &[Gateway] {
        self.groups.get(&id).map_or(&[], |group| group.has.as_slice())
    }

    /// Whether a route on that object does what one that wants `set`, of which `living` live, should do.
    pub(super) fn serves(&self, id: ObjectId, set: &Gateways, living: &Gateways) -> bool {
        self.groups.get(&id).is_some_and(|group| {
            let is_own = group.set == *set;
            let is_loan = group.has == *living && group.growth != Growth::Forced;
            !group.has.is_empty() && (is_own || is_loan)
        })
    }

    /// Whether a group waits for loans to end.
    pub(super) fn has_loans_to_watch(&self) -> bool {
        self.has_loans
    }

    /// Groups and members that are there.
    pub(super) fn counts(&self) -> (usize, usize) {
        let groups = self.groups.values().filter(|group| !group.has.is_empty()).count();
        (groups, self.members.values().filter(|member| member.is_there).count())
    }

    /// Groups and members, wanted or there.
    pub(super) fn usage(&self) -> Usage {
        let Self { members, groups, by_set, foreign, surplus, .. } = self;
        let spilled: usize =
            groups.values().map(|group| 2 * gateways_octets(&group.set) + gateways_octets(&group.has)).sum();
        let maps = tree_octets(members) + tree_octets(groups) + hash_octets(by_set);
        let others = set_octets(foreign) + tree_octets(surplus);
        Usage::new(members.len() + groups.len(), maps + others + spilled)
    }

    /// Whether a member is on that link.
    pub(super) fn goes_over(&self, index: bgp::InterfaceIndex) -> bool {
        self.members.iter().any(|(gateway, member)| member.is_there && gateway.interface == Some(index))
    }

    /// Whether an object is ours, or in the way of ours.
    pub(super) fn concerns(&self, nexthop: &Nexthop) -> bool {
        self.ids.contains(&nexthop.id.0)
    }

    /// Why objects cannot be had; told once.
    pub(super) fn take_trouble(&mut self) -> Option<NoObjects> {
        self.trouble.take()
    }

    /// Whether loans were called in since this was last asked: routes wait for groups that there may not be yet.
    pub(super) fn take_called_in(&mut self) -> bool {
        std::mem::take(&mut self.called_in)
    }

    /// Whether there is nothing of ours.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.groups.is_empty() && self.surplus.is_empty()
    }

    /// What the kernel has is in doubt: it is to be read again.
    pub(super) fn resync_after(&mut self, pause: Duration, now: Instant) {
        let at = now + pause;
        self.resync_at = Some(self.resync_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn resync_at(&self) -> Option<Instant> {
        self.resync_at
    }

    /// When [`Self::poll`] next has something to do, for want of other input.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let groups = self.groups.values().flat_map(|group| {
            let growth = match group.growth {
                Growth::Waiting { since, .. } => Some(since + RETURN_PATIENCE),
                Growth::NotDue | Growth::Forced => None,
            };
            [growth, group.unused_since.map(|since| since + UNUSED)].into_iter().flatten()
        });
        groups.chain(self.pause_until).min()
    }

    /// Another program took an object of ours, or gave it another shape. Gives the groups that went with it.
    pub(super) fn disturbed(&mut self, nexthop: &Nexthop, is_gone: Fate, now: Instant) -> Vec<ObjectId> {
        let id = nexthop.id;
        let is_ours = self.groups.contains_key(&id) || self.members.values().any(|member| member.id == id);
        if !is_ours {
            self.resync_after(Duration::ZERO, now);
            return Vec::new();
        }
        if self.resync_at.is_none() {
            self.count_fight(now);
        }
        self.resync_after(Duration::ZERO, now);
        match is_gone {
            Fate::Gone => self.gone(id),
            Fate::Changed => Vec::new(),
        }
    }

    /// One for all that happens until the next dump.
    fn count_fight(&mut self, now: Instant) {
        let recent = self.fights.last.is_some_and(|last| now.duration_since(last) < FIGHT_FORGOTTEN);
        self.fights.count = if recent { self.fights.count.saturating_add(1) } else { 1 };
        self.fights.last = Some(now);
        if self.fights.count > 1 {
            let pause = FIGHT_PAUSE.saturating_mul(1 << (self.fights.count - 2).min(10)).min(RETRY_LAST);
            self.pause_until = self.pause_until.max(Some(now + pause));
        }
        if self.fights.count > FIGHTS {
            self.trouble = Some(NoObjects::Fought);
        }
    }

    /// An object is gone, and with a member its place in every group.
    fn gone(&mut self, id: ObjectId) -> Vec<ObjectId> {
        self.surplus.remove(&id);
        if let Some(group) = self.groups.get_mut(&id) {
            let was_there = !std::mem::take(&mut group.has).is_empty();
            return if was_there { vec![id] } else { Vec::new() };
        }
        let member = self.members.iter_mut().find(|(_, member)| member.id == id);
        let Some((&gateway, member)) = member else { return Vec::new() };
        member.is_there = false;
        let mut lost = Vec::new();
        for (id, group) in self.groups.iter_mut().filter(|(_, group)| group.has.contains(&gateway)) {
            group.has.retain(|has| *has != gateway);
            if group.has.is_empty() {
                lost.push(*id);
            }
        }
        lost
    }

    /// What is to be done now, in this order; each is answered by [`Self::completed`] before the next call.
    pub(super) fn poll(&mut self, situation: &Situation, now: Instant) -> Vec<ObjectOperation> {
        // Failover waits for nothing.
        let mut operations: Vec<ObjectOperation> = self
            .members
            .iter()
            .filter(|(gateway, member)| member.is_there && situation.reach.is_dead(gateway))
            .map(|(_, member)| ObjectOperation::Delete(member.id))
            .collect();
        // What else is to be done depends on what is left then.
        let comes_first = !operations.is_empty();
        if comes_first || self.resync_at.is_some() || self.pause_until.is_some_and(|at| at > now) {
            return operations;
        }
        self.pause_until = None;
        let mut adding = BTreeSet::new();
        let mut composed = Vec::new();
        for set in &situation.awaited {
            let known = self.by_set.get(set).copied();
            known.or_else(|| self.claim(set, situation)).or_else(|| self.new_group(set));
        }
        let ids: Vec<ObjectId> = self.groups.keys().copied().collect();
        for id in ids {
            let Some(target) = self.target(id, situation, now) else { continue };
            let members: Option<Vec<ObjectId>> =
                target.iter().map(|gateway| self.member(gateway, &mut adding)).collect();
            let Some(members) = members else { break };
            let nexthop = Nexthop { id, protocol: self.protocol, shape: Shape::Group(members) };
            let is_there = self.groups.get(&id).is_some_and(|group| !group.has.is_empty());
            composed.push(if is_there {
                ObjectOperation::Replace(nexthop)
            } else {
                ObjectOperation::Create(nexthop)
            });
        }
        self.has_loans = self.groups.values().any(|group| group.growth != Growth::NotDue);
        operations.extend(adding.into_iter().map(|(id, gateway)| {
            let shape = Shape::Member(gateway);
            ObjectOperation::Create(Nexthop { id, protocol: self.protocol, shape })
        }));
        operations.extend(composed);
        operations.extend(self.sweep(situation, now));
        operations
    }

    /// The object of a next hop, which is to be made where it is not there.
    fn member(&mut self, gateway: &Gateway, adding: &mut BTreeSet<(ObjectId, Gateway)>) -> Option<ObjectId> {
        if let Some(member) = self.members.get(gateway) {
            if !member.is_there {
                adding.insert((member.id, *gateway));
            }
            return Some(member.id);
        }
        let id = self.allocate()?;
        self.members.insert(*gateway, Member { id, is_there: false });
        adding.insert((id, *gateway));
        Some(id)
    }

    fn new_group(&mut self, set: &Gateways) -> Option<ObjectId> {
        let id = self.allocate()?;
        let group = Group {
            set: set.clone(),
            has: Gateways::new(),
            provenance: Provenance::Made,
            growth: Growth::NotDue,
            unused_since: None,
        };
        self.groups.insert(id, group);
        self.by_set.insert(set.clone(), id);
        Some(id)
    }

    fn allocate(&mut self) -> Option<ObjectId> {
        let members: BTreeSet<ObjectId> = self.members.values().map(|member| member.id).collect();
        let is_free = |id: &ObjectId| {
            !(self.foreign.contains(id)
                || self.surplus.contains_key(id)
                || self.groups.contains_key(id)
                || members.contains(id))
        };
        let found = (self.next..=*self.ids.end()).chain(self.ids.clone()).map(ObjectId).find(is_free);
        match found {
            Some(id) => self.next = id.0.saturating_add(1),
            None => self.trouble = Some(NoObjects::Exhausted),
        }
        found
    }

    /// Deletions of what nobody has used for a while.
    fn sweep(&mut self, situation: &Situation, now: Instant) -> Vec<ObjectOperation> {
        let mut operations = Vec::new();
        if !situation.is_converged {
            return operations;
        }
        let mut forgotten = Vec::new();
        for (id, group) in &mut self.groups {
            let is_needed = situation.in_use
                && self.by_set.get(&group.set) == Some(id)
                && situation.wanted.contains(&group.set);
            if is_needed || situation.used.contains_key(id) {
                group.unused_since = None;
                continue;
            }
            if *group.unused_since.get_or_insert(now) + UNUSED > now {
                continue;
            }
            match group.has.is_empty() {
                true => forgotten.push(*id),
                false => operations.push(ObjectOperation::Delete(*id)),
            }
        }
        for id in forgotten {
            self.forget_group(id);
        }
        let in_groups: BTreeSet<Gateway> =
            self.groups.values().flat_map(|group| group.set.iter().copied()).collect();
        self.members.retain(|gateway, member| {
            if in_groups.contains(gateway) {
                return true;
            }
            if member.is_there {
                operations.push(ObjectOperation::Delete(member.id));
            }
            member.is_there
        });
        // A duplicate member may be in a group that is in use: with it the group would lose a next hop.
        let is_free = |gateway: &Option<Gateway>| gateway.is_none_or(|gateway| !in_groups.contains(&gateway));
        let surplus =
            self.surplus.iter().filter(|(id, gateway)| is_free(gateway) && !situation.used.contains_key(id));
        operations.extend(surplus.map(|(id, _)| ObjectOperation::Delete(*id)));
        operations
    }

    fn forget_group(&mut self, id: ObjectId) {
        if let Some(group) = self.groups.remove(&id)
            && self.by_set.get(&group.set) == Some(&id)
        {
            self.by_set.remove(&group.set);
        }
    }

    /// The kernel's answer to an operation; gives the groups that went with it.
    pub(super) fn completed(
        &mut self,
        operation: &ObjectOperation,
        result: Result<(), KernelError>,
        now: Instant,
    ) -> Vec<ObjectId> {
        match (operation, result) {
            (ObjectOperation::Create(nexthop) | ObjectOperation::Replace(nexthop), Ok(())) => {
                self.refusals = 0;
                self.made(nexthop);
                Vec::new()
            }
            (ObjectOperation::Create(nexthop), Err(error)) if error.errno == libc::EEXIST => {
                // Somebody has just taken that identifier; the next dump tells who.
                self.foreign.insert(nexthop.id);
                self.members.retain(|_, member| member.id != nexthop.id);
                self.forget_group(nexthop.id);
                self.resync_after(Duration::ZERO, now);
                Vec::new()
            }
            (ObjectOperation::Create(_) | ObjectOperation::Replace(_), Err(error)) => {
                self.refused(error, now);
                Vec::new()
            }
            (ObjectOperation::Delete(id), Ok(())) => self.gone(*id),
            (ObjectOperation::Delete(id), Err(error)) if error.errno == libc::ENOENT => self.gone(*id),
            (ObjectOperation::Delete(_), Err(error)) => {
                self.refused(error, now);
                Vec::new()
            }
        }
    }

    fn made(&mut self, nexthop: &Nexthop) {
        match &nexthop.shape {
            Shape::Member(gateway) => {
                if let Some(member) = self.members.get_mut(gateway) {
                    member.is_there = true;
                }
            }
            Shape::Group(ids) => {
                let has: Gateways = self
                    .members
                    .iter()
                    .filter(|(_, member)| ids.contains(&member.id))
                    .map(|(gateway, _)| *gateway)
                    .collect();
                if let Some(group) = self.groups.get_mut(&nexthop.id) {
                    group.has = has;
                    group.growth = Growth::NotDue;
                }
            }
            Shape::Other => {}
        }
    }

    fn refused(&mut self, error: KernelError, now: Instant) {
        tracing::debug!(%error, "the kernel refused a nexthop object");
        let pause = RETRY_FIRST.saturating_mul(1 << self.refusals.min(10)).min(RETRY_LAST);
        self.refusals = self.refusals.saturating_add(1);
        self.pause_until = self.pause_until.max(Some(now + pause));
        self.resync_after(Duration::ZERO, now);
        if self.refusals > REFUSALS || error.errno == libc::EOPNOTSUPP {
            self.trouble = Some(NoObjects::Refused { errno: error.errno });
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Gone,
    Changed,
}
