//! Desired and installed, and what is to be done about the difference. No socket, clock or task.
//!
//! In: what the RIB wants ([`Delta::want`]), what this node wants itself ([`Delta::set_local`]), the links
//! ([`Delta::set_interfaces`]), the neighbors that are lost ([`Delta::set_dead`]), what the kernel has
//! ([`Delta::resync`]) and what happens to it ([`Delta::observe`]). Out: a bounded number of [`Operation`]s at a
//! time, each answered by [`Delta::completed`], and [`Notice`]s for the operator. Nexthop objects are `objects`';
//! their operations go before those of routes.
//!
//! Two rules keep foreign routes safe. What we do not know to be there is created with NLM_F_EXCL, which fails
//! where anything has the same destination and metric; NLM_F_REPLACE is used only over our own route. And a
//! deletion names our protocol.
//!
//! What is to be done at a key follows from its case alone ([`Verdict`]), unless there is trouble with it. What
//! changes for many at once (links, neighbors, objects) changes the plans of sets, and a walk over all keys finds
//! those that need a write.
//!
//! *After a restart* the neighbors tell their tables one after the other, and what the RIB wants grows next hop by next
//! hop to what was there all along. Until everything has been said a route of the earlier run stays as it is
//! while all that is wanted of it is among what it does (RFC 4724 section 4.1 defers the selection of routes, and with
//! it changes to the forwarding state). A next hop that it has not is written at once, and without those that
//! nobody has confirmed: what was announced in this run works, what was inherited is only believed to.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod lent;
mod observe;
mod plan;
mod read;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::{FibChange, Gateway};
use bgp::{Family, InterfaceIndex, Prefix};

use super::objects::{self, Objects};
use super::reach::Reach;
use super::route::{Key, Ownership};
use super::table::{Cursor, Image, Local, Origin, PerSet, Sets, Table};
use super::trouble::{REPAIRS_FORGOTTEN, Retry, Trouble};
use super::{Carrier, LocalRoutes, NexthopObjects, Notice, Settings};
use crate::kernel::interfaces::Interfaces;
use crate::kernel::netlink::KernelError;
use plan::{Plan, Verdict};
pub(super) use read::Reading;

/// The kernel takes routes with a link before we hear that the link went; what we hear meanwhile is waited for.
const KERNEL_SETTLES: Duration = Duration::from_millis(20);
/// Keys that a walk looks at for each operation that it may find.
const STEPS_PER_OPERATION: usize = 16;

/// One change to the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) key: Key,
    pub(super) action: Action,
}

/// What to do at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing may be there.
    Create(Image),
    /// Our own route is there.
    Replace(Image),
    /// Our own route.
    Delete,
}

/// What happened to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// There is one more.
    Added,
    /// It took the place of the first one at its key (NLM_F_REPLACE).
    Replaced,
    /// It is gone; in IPv6 perhaps only some of its next hops.
    Deleted,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The kernel by itself: a link or an address went.
    Kernel,
    /// A program, by a request over netlink.
    Program,
}

/// How far our picture of the kernel's table can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    /// Never read.
    Blank,
    /// Something happened that we did not see.
    Torn,
    /// Just read: events that are older than the dump may still come.
    Fresh,
    /// All events since the last dump were seen.
    Followed,
}

/// A walk over all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    Resting,
    At(Cursor),
    /// Something changed behind it: it begins anew when it is through.
    Twice(Cursor),
}

/// The reconciler.
#[derive(Debug)]
pub(super) struct Delta {
    ownership: Ownership,
    table: Table,
    troubles: BTreeMap<Key, Trouble>,
    objects: Objects,
    /// How routes get at their next hops.
    carrier: Carrier,
    configured: NexthopObjects,
    plans: PerSet<Plan>,
    /// What plans follow from has changed.
    plans_are_stale: bool,
    /// Objects are to be looked at.
    objects_are_due: bool,
    local: LocalRoutes,
    reach: Reach,
    /// Preferred sources that the node has at present.
    source_ipv4: Option<Ipv4Addr>,
    source_ipv6: Option<Ipv6Addr>,
    /// To be looked at.
    dirty: BTreeSet<Key>,
    walk: Walk,
    /// To be looked at later.
    timers: BTreeSet<(Instant, Key)>,
    picture: Picture,
    /// Inherited routes may go, and next hops that nobody has confirmed.
    converged: bool,
    resync_at: Option<Instant>,
    /// Written since the event queue was last seen empty: what an event says of these may be older than the write.
    unconfirmed: Vec<Key>,
    notices: Vec<Notice>,
    repairs: u64,
    /// When to look for objects that nobody uses any more.
    sweep_at: Option<Instant>,
    /// When repairs that are long past are forgotten.
    forget_at: Option<Instant>,
}

impl Delta {
    pub(super) fn new(settings: &Settings) -> Self {
        let ownership = settings.ownership;
        Self {
            ownership,
            table: Table::new(ownership),
            troubles: BTreeMap::new(),
            objects: Objects::new(ownership.protocol, settings.nexthop_ids.clone()),
            carrier: match settings.nexthop_objects {
                NexthopObjects::Auto | NexthopObjects::On => Carrier::Objects,
                NexthopObjects::Off => Carrier::Off,
            },
            configured: settings.nexthop_objects,
            plans: PerSet::default(),
            plans_are_stale: false,
            objects_are_due: false,
            local: LocalRoutes::default(),
            reach: Reach::default(),
            source_ipv4: None,
            source_ipv6: None,
            dirty: BTreeSet::new(),
            walk: Walk::Resting,
            timers: BTreeSet::new(),
            picture: Picture::Blank,
            converged: false,
            resync_at: None,
            unconfirmed: Vec::new(),
            notices: Vec::new(),
            repairs: 0,
            sweep_at: None,
            forget_at: None,
        }
    }

    /// The sets that images name.
    pub(super) fn sets(&self) -> &Sets {
        &self.table.sets
    }

    /// The RIB's word on one prefix.
    pub(super) fn want(&mut self, change: FibChange) {
        let key = self.key(change.prefix);
        let learned = change.gateways.as_ref().map(|gateways| self.table.sets.intern(gateways));
        if let Some(set) = learned {
            self.plan(set);
        }
        let (before, mut now) = self.table.change(key, |case| case.learned = learned);
        // What is taken back is no longer just not announced yet.
        if now.origin == Origin::Inherited && !self.table.sets.grows(before.learned, learned) {
            (_, now) = self.table.change(key, |case| case.origin = Origin::Asked);
        }
        let verdict = self.verdict(&now);
        // A set that has no object yet, or a loan that ends.
        if verdict == Verdict::Wait || (before.learned != now.learned && self.objects.has_loans_to_watch()) {
            self.objects_are_due = true;
        }
        if let Some(trouble) = self.troubles.get_mut(&key) {
            trouble.retry = None;
        } else if verdict == Verdict::Rest {
            return;
        }
        self.dirty.insert(key);
    }

    /// Everything was said once: what we inherited and nobody wants may go, and what is wanted is taken at its word.
    pub(super) fn set_converged(&mut self) {
        if !std::mem::replace(&mut self.converged, true) {
            self.table.change_all(|case| case.origin = Origin::Asked);
            self.look_again();
        }
    }

    /// Replaces what this node itself wants.
    pub(super) fn set_local(&mut self, local: &LocalRoutes) {
        let before = std::mem::replace(&mut self.local, local.clone());
        for &prefix in before.blackholes.symmetric_difference(&local.blackholes) {
            let key = self.ownership.key(prefix);
            let wanted = self.local_at(prefix);
            self.table.change(key, |case| {
                case.origin = Origin::Asked;
                case.local = wanted;
            });
            if let Some(trouble) = self.troubles.get_mut(&key) {
                trouble.retry = None;
            }
            self.dirty.insert(key);
        }
        for &block in before.lending.symmetric_difference(&local.lending) {
            self.move_hosts_in(block);
        }
        self.look_up_sources();
    }

    /// A blackhole for one address would take packets to the address itself. It wins over what is learned: the
    /// block is ours.
    fn local_at(&self, prefix: Prefix) -> Local {
        let is_host = prefix.length() == prefix.family().max_length();
        if self.local.blackholes.contains(&prefix) && !is_host { Local::Blackhole } else { Local::Nothing }
    }

    /// Replaces what is known of the links. Pods come and go with their links: only what next hops are on matters.
    pub(super) fn set_interfaces(&mut self, interfaces: Arc<Interfaces>) {
        let before = std::mem::replace(&mut self.reach.interfaces, interfaces);
        let state = |links: &Interfaces, index: &InterfaceIndex| {
            links.by_index.get(index).map(|interface| (interface.admin_up, interface.carrier))
        };
        let mut indices = before.by_index.keys().chain(self.reach.interfaces.by_index.keys());
        if indices.any(|index| state(&before, index) != state(&self.reach.interfaces, index)) {
            self.look_again();
        }
        // What failed may have failed for want of the link or of its address.
        for (key, trouble) in &mut self.troubles {
            if trouble.retry.take().is_some() {
                self.dirty.insert(*key);
            }
        }
        self.look_up_sources();
    }

    /// Replaces what is known of lost sessions. Groups lose their next hop at once, whatever the RIB says later
    /// prefix by prefix.
    pub(super) fn set_dead(&mut self, dead: Arc<BTreeSet<Gateway>>) {
        if self.reach.dead != dead {
            self.reach.dead = dead;
            self.look_again();
        }
    }

    /// What routes follow from has changed for many of them.
    fn look_again(&mut self) {
        self.plans_are_stale = true;
        self.objects_are_due = true;
    }

    /// The event queue was seen empty after our last write was acknowledged. The kernel queues an event before it
    /// acknowledges its cause: whatever comes from here on is newer than our writes and than the last dump.
    pub(super) fn drained(&mut self) {
        self.unconfirmed.clear();
        if self.picture == Picture::Fresh {
            self.picture = Picture::Followed;
        }
    }

    /// Events were lost: nothing is written before the table was read again.
    pub(super) fn overrun(&mut self, now: Instant) {
        self.tear(now);
    }

    fn tear(&mut self, now: Instant) {
        if self.picture != Picture::Blank {
            self.picture = Picture::Torn;
        }
        self.resync_after(Duration::ZERO, now);
    }

    fn is_known(&self) -> bool {
        match self.picture {
            Picture::Blank | Picture::Torn => false,
            Picture::Fresh | Picture::Followed => true,
        }
    }

    /// What the kernel has is in doubt: it is to be read again, objects and routes.
    pub(super) fn resync_after(&mut self, pause: Duration, now: Instant) {
        let at = now + pause;
        self.resync_at = Some(self.resync_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// When the kernel's table is to be read again.
    pub(super) fn resync_at(&self) -> Option<Instant> {
        self.resync_at
    }

    /// At most `limit` changes to make, each to be answered by [`Self::completed`] before the next call.
    pub(super) fn poll_operations(&mut self, now: Instant, limit: usize) -> Vec<Operation> {
        if !self.is_known() || self.objects.resync_at().is_some() {
            return Vec::new();
        }
        self.refresh();
        self.forget(now);
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            self.dirty.insert(key);
        }
        let mut operations = Vec::new();
        while operations.len() < limit {
            let Some(key) = self.dirty.pop_first() else { break };
            operations.extend(self.decide(key, now).map(|action| Operation { key, action }));
        }
        if self.table.take_released() && self.sweep_at.is_none() && !self.objects.is_empty() {
            self.sweep_at = Some(now + objects::UNUSED);
        }
        if operations.len() < limit {
            self.walk(now, limit - operations.len(), &mut operations);
        }
        operations
    }

    /// Goes on with the walk.
    fn walk(&mut self, now: Instant, limit: usize, operations: &mut Vec<Operation>) {
        let (from, again) = match self.walk {
            Walk::Resting => return,
            Walk::At(cursor) => (cursor, false),
            Walk::Twice(cursor) => (cursor, true),
        };
        // Each step finds one operation at most; what is found over the limit would be lost. What was looked at just
        // now, in the order of the keys, is not answered yet.
        let (mut cursor, mut found, mut steps) = (Some(from), Vec::new(), limit * STEPS_PER_OPERATION);
        while let Some(at) = cursor
            && found.len() < limit
            && steps > 0
        {
            let portion = (limit - found.len()).min(steps);
            steps -= portion;
            cursor = self.table.walk(at, portion, |key, case| {
                let is_known = operations.binary_search_by_key(&key, |operation| operation.key).is_ok();
                if (self.verdict(case).is_action() || case.is_nothing()) && !is_known {
                    found.push(key);
                }
            });
        }
        self.walk = match (cursor, again) {
            (Some(cursor), false) => Walk::At(cursor),
            (Some(cursor), true) => Walk::Twice(cursor),
            (None, true) => Walk::At(Cursor::START),
            (None, false) => Walk::Resting,
        };
        for key in found {
            operations.extend(self.decide(key, now).map(|action| Operation { key, action }));
        }
    }

    /// What to do at a key, if anything.
    fn decide(&mut self, key: Key, now: Instant) -> Option<Action> {
        let case = self.table.case(key);
        if case.is_nothing() {
            // Said of many at once, it may still have its place.
            self.table.change(key, |_| ());
        }
        let verdict = self.verdict(&case);
        if verdict == Verdict::Wait {
            self.objects_are_due = true;
        }
        let action = match (verdict, case.installed) {
            (Verdict::Rest | Verdict::Wait, _) => None,
            (Verdict::Delete, _) => Some(Action::Delete),
            // One of several goes at a time; then it is seen what is left.
            (Verdict::Write(_), Some(Image::Several)) => Some(Action::Delete),
            (Verdict::Write(image), Some(_)) => Some(Action::Replace(image)),
            (Verdict::Write(image), None) => Some(Action::Create(image)),
        };
        let Some(trouble) = self.troubles.get_mut(&key) else { return action };
        if trouble.in_doubt {
            return None;
        }
        let action = match action {
            // A replacement would hit whichever of the two is first.
            Some(Action::Replace(_)) if !trouble.foreign.is_empty() => Some(Action::Delete),
            Some(Action::Create(_)) if !trouble.foreign.is_empty() => {
                self.notices.extend(trouble.block(key.prefix));
                return None;
            }
            action => action,
        };
        self.notices.extend(trouble.unblock(key.prefix));
        if action.is_none() {
            trouble.settle();
            if trouble.is_over(now) {
                self.troubles.remove(&key);
            }
            return None;
        }
        if let Some(at) = trouble.not_before().filter(|at| *at > now) {
            self.timers.insert((at, key));
            return None;
        }
        action
    }

    /// The kernel's answer to an operation.
    pub(super) fn completed(&mut self, operation: Operation, result: Result<(), KernelError>, now: Instant) {
        let Operation { key, action } = operation;
        let result = match result {
            // What is to be deleted is gone already.
            Err(error) if action == Action::Delete && [libc::ESRCH, libc::ENODEV].contains(&error.errno) => {
                Ok(())
            }
            result => result,
        };
        match result {
            Ok(()) => self.done(key, action, now),
            Err(error) => self.refused(key, action, error, now),
        }
    }

    fn done(&mut self, key: Key, action: Action, now: Instant) {
        let (before, case) = self.table.change(key, |case| {
            case.origin = Origin::Asked;
            case.installed = match action {
                Action::Create(image) | Action::Replace(image) => Some(image),
                Action::Delete => None,
            };
        });
        self.unconfirmed.push(key);
        if self.objects.has_loans_to_watch() {
            self.objects_are_due = true;
        }
        if before.installed == Some(Image::Several) {
            self.resync_after(Duration::ZERO, now);
        }
        if let Some(trouble) = self.troubles.get_mut(&key) {
            trouble.retry = None;
            if let Some(disturbance) = trouble.disturbance.take() {
                self.repairs += 1;
                self.notices.extend(disturbance.notice(key.prefix, action));
            }
            self.dirty.insert(key);
        } else if self.verdict(&case) != Verdict::Rest {
            self.dirty.insert(key);
        }
    }

    fn refused(&mut self, key: Key, action: Action, error: KernelError, now: Instant) {
        // EEXIST: something is there that we do not know of.
        let is_unknown = error.errno == libc::EEXIST;
        let object_is_gone = match action {
            // "Nexthop id does not exist": a link went meanwhile.
            Action::Create(Image::Object { .. }) | Action::Replace(Image::Object { .. }) => {
                error.errno == libc::EINVAL
            }
            Action::Create(_) | Action::Replace(_) | Action::Delete => false,
        };
        let trouble = self.troubles.entry(key).or_default();
        if trouble.retry.is_none() && !is_unknown && !object_is_gone {
            self.notices.push(Notice::Failed { prefix: key.prefix, error: error.clone() });
        }
        trouble.retry = Some(Retry::after(trouble.retry.take(), error, now));
        self.dirty.insert(key);
        if is_unknown {
            self.resync_after(Duration::ZERO, now);
        }
        if object_is_gone {
            self.objects.resync_after(Duration::ZERO, now);
        }
    }

    /// The answer to operations is lost: nobody knows whether the kernel did them.
    pub(super) fn lost(&mut self, operations: &[Operation], now: Instant) {
        self.dirty.extend(operations.iter().map(|operation| operation.key));
        self.tear(now);
    }

    /// When [`Self::poll_operations`] next has something to do, for want of other input.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let known = self.is_known();
        let is_free = known && self.objects.resync_at().is_none();
        let has_work = !self.dirty.is_empty() || self.walk != Walk::Resting || self.plans_are_stale;
        let timer = self.timers.first().map(|(at, _)| *at).filter(|_| is_free);
        let work = (is_free && has_work).then_some(now);
        let objects = (known && self.objects_are_due).then_some(now);
        let later = self.objects.deadline().into_iter().chain(self.sweep_at).min().filter(|_| is_free);
        [timer, work, objects, later, self.resync_at, self.objects.resync_at()].into_iter().flatten().min()
    }

    /// Keys to look at; with them the RIB is told to wait.
    pub(super) fn backlog(&self) -> usize {
        self.dirty.len()
    }

    /// Whether everything that can be done is done.
    pub(super) fn is_at_rest(&self) -> bool {
        let waits = self.resync_at.is_some() || self.objects.resync_at().is_some();
        let has_work = !self.dirty.is_empty() || self.walk != Walk::Resting || self.plans_are_stale;
        !waits && !has_work && !self.objects_are_due
    }

    /// What the operator is to be told.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn source(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4Unicast => self.source_ipv4.map(IpAddr::V4),
            Family::Ipv6Unicast => self.source_ipv6.map(IpAddr::V6),
        }
    }

    /// A preferred source counts as long as it is an address of this node: the kernel refuses any other.
    fn look_up_sources(&mut self) {
        let interfaces = &self.reach.interfaces;
        let is_local = |source: IpAddr| {
            let mut addresses = interfaces.by_index.values().flat_map(|interface| &interface.addresses);
            addresses.any(|network| network.ip() == source)
        };
        let ipv4 = self.local.preferred_source_ipv4.filter(|&source| is_local(source.into()));
        let ipv6 = self.local.preferred_source_ipv6.filter(|&source| is_local(source.into()));
        if (self.source_ipv4, self.source_ipv6) != (ipv4, ipv6) {
            (self.source_ipv4, self.source_ipv6) = (ipv4, ipv6);
            self.look_again();
        }
    }

    /// Drops what is remembered of repairs that are long past.
    fn forget(&mut self, now: Instant) {
        if self.forget_at.is_some_and(|at| at <= now) {
            self.troubles.retain(|_, trouble| !trouble.is_over(now));
            self.forget_at = (!self.troubles.is_empty()).then_some(now + REPAIRS_FORGOTTEN);
        }
    }
}

#[cfg(test)]
mod tests;
