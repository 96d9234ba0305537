//! Desired and installed, and what is to be done about the difference. No socket, clock or task.
//!
//! In: what the RIB wants ([`Delta::want`]), what this node wants itself ([`Delta::set_local`]), the links
//! ([`Delta::set_interfaces`]), what the kernel has ([`Delta::resync`]) and what happens to it
//! ([`Delta::observe`]). Out: a bounded number of [`Operation`]s at a time, each answered by
//! [`Delta::completed`], and [`Notice`]s for the operator.
//!
//! Two rules keep foreign routes safe. What we do not know to be there is created with NLM_F_EXCL, which fails
//! where anything has the same destination and metric; NLM_F_REPLACE is used only over our own route. And a
//! deletion names our protocol.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod observe;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::{FibChange, Gateway, Gateways};
use bgp::{Family, InterfaceIndex};

use super::entry::{Disturbance, Entry, Retry};
use super::route::{Installed, Key, Kind, Observation, Owner, Ownership, Protocol, Route};
use super::{Counters, LocalRoutes, Notice};
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::netlink::KernelError;

pub(super) use self::status::Counted;
use self::status::recount;

/// The kernel takes routes with a link before we hear that the link went; what we hear meanwhile is waited for.
const KERNEL_SETTLES: Duration = Duration::from_millis(20);

/// One change to the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) key: Key,
    pub(super) action: Action,
}

/// What to do at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing may be there.
    Create(Route),
    /// Our own route is there.
    Replace(Route),
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

/// What a key should hold.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Route(Route),
    /// A route that has no link to go over at present.
    Unusable,
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

/// The reconciler.
#[derive(Debug)]
pub(super) struct Delta {
    ownership: Ownership,
    entries: BTreeMap<Key, Entry>,
    local: LocalRoutes,
    interfaces: Arc<Interfaces>,
    /// Preferred sources that the node has at present.
    source_ipv4: Option<Ipv4Addr>,
    source_ipv6: Option<Ipv6Addr>,
    /// To be looked at. Whatever changes the state of a route comes by here.
    dirty: BTreeSet<Key>,
    /// Refused since the links last changed.
    refused: BTreeSet<Key>,
    /// How many wanted routes have a next hop on each link.
    over: BTreeMap<InterfaceIndex, usize>,
    /// To be looked at later.
    timers: BTreeSet<(Instant, Key)>,
    picture: Picture,
    /// Inherited routes that nobody asked for may go.
    converged: bool,
    resync_at: Option<Instant>,
    /// The last of our writes whose event was seen.
    confirmed: u32,
    notices: Vec<Notice>,
    repairs: u64,
    /// By [`Entry::counted_as`].
    counters: Counters,
}

impl Delta {
    pub(super) fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            entries: BTreeMap::new(),
            local: LocalRoutes::default(),
            interfaces: Arc::default(),
            source_ipv4: None,
            source_ipv6: None,
            dirty: BTreeSet::new(),
            refused: BTreeSet::new(),
            over: BTreeMap::new(),
            timers: BTreeSet::new(),
            picture: Picture::Blank,
            converged: false,
            resync_at: None,
            confirmed: 0,
            notices: Vec::new(),
            repairs: 0,
            counters: Counters::default(),
        }
    }

    /// The RIB's word on one prefix.
    pub(super) fn want(&mut self, change: FibChange) {
        let key = self.ownership.key(change.prefix);
        let entry = self.entries.entry(key).or_default();
        // A prefix that the RIB has spoken of is no longer waiting for it.
        entry.inherited = false;
        let before = std::mem::replace(&mut entry.learned, change.gateways);
        for index in before.iter().flatten().filter_map(|gateway| gateway.interface) {
            match self.over.get_mut(&index) {
                Some(routes) if *routes > 1 => *routes -= 1,
                Some(_) | None => drop(self.over.remove(&index)),
            }
        }
        for index in entry.learned.iter().flatten().filter_map(|gateway| gateway.interface) {
            *self.over.entry(index).or_default() += 1;
        }
        entry.retry = None;
        self.dirty.insert(key);
    }

    /// Everything was said once: what we inherited and nobody wants may go.
    pub(super) fn set_converged(&mut self) {
        if std::mem::replace(&mut self.converged, true) {
            return;
        }
        for (&key, entry) in &mut self.entries {
            if std::mem::take(&mut entry.inherited) {
                self.dirty.insert(key);
            }
        }
    }

    /// Replaces what this node itself wants.
    pub(super) fn set_local(&mut self, local: &LocalRoutes) {
        let before = std::mem::replace(&mut self.local, local.clone());
        for &prefix in before.blackholes.symmetric_difference(&local.blackholes) {
            let key = self.ownership.key(prefix);
            let entry = self.entries.entry(key).or_default();
            entry.inherited = false;
            entry.retry = None;
            self.dirty.insert(key);
        }
        self.look_up_sources();
    }

    /// Replaces what is known of the links. Pods come and go with their links: only routes that the change can
    /// matter to are looked at again.
    pub(super) fn set_interfaces(&mut self, interfaces: Arc<Interfaces>) {
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        let state = |links: &Interfaces, index| {
            links.by_index.get(&index).map(|interface| (interface.admin_up, interface.carrier))
        };
        let indices = before.by_index.keys().chain(self.interfaces.by_index.keys());
        let changed: BTreeSet<InterfaceIndex> = indices
            .copied()
            .filter(|index| self.over.contains_key(index))
            .filter(|&index| state(&before, index) != state(&self.interfaces, index))
            .collect();
        if !changed.is_empty() {
            let concerned = self.entries.iter().filter(|(_, entry)| entry.wants_over(&changed));
            self.dirty.extend(concerned.map(|(key, _)| key));
        }
        // What failed may have failed for want of the link or of its address.
        for key in std::mem::take(&mut self.refused) {
            if self.entries.get_mut(&key).is_some_and(|entry| entry.retry.take().is_some()) {
                self.dirty.insert(key);
            }
        }
        self.look_up_sources();
    }

    /// Our own event came: what others did before it is known by now.
    pub(super) fn confirmed(&mut self, sequence: u32) {
        self.confirmed = sequence;
    }

    /// The event queue was seen empty after our write `last` was acknowledged. The kernel queues an event before
    /// it acknowledges its cause, and a write that changes nothing has no event: whatever comes from here on is
    /// newer than our writes and than the last dump.
    pub(super) fn drained(&mut self, last: u32) {
        self.confirmed = last;
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

    /// Takes what a complete dump told for the truth.
    pub(super) fn resync(&mut self, dump: impl IntoIterator<Item = Observation>, now: Instant) {
        let mut found: BTreeMap<Key, (Option<Installed>, Vec<Protocol>)> = BTreeMap::new();
        for Observation { key, owner, installed } in dump {
            match owner {
                Owner::Ours => {
                    let ours = &mut found.entry(key).or_default().0;
                    *ours = Some(if ours.is_some() { Installed::Several } else { installed });
                }
                Owner::Foreign(protocol) if key == self.ownership.key(key.prefix) => {
                    found.entry(key).or_default().1.push(protocol);
                }
                Owner::Foreign(_) => {}
            }
        }
        for key in self.entries.keys() {
            found.entry(*key).or_default();
        }
        self.resync_at = None;
        for (key, (installed, foreign)) in found {
            let entry = self.entries.entry(key).or_default();
            if self.picture == Picture::Blank && installed.is_some() && entry.learned.is_none() {
                entry.inherited = !self.converged && !self.local.blackholes.contains(&key.prefix);
            }
            entry.foreign = foreign;
            entry.in_doubt = false;
            // The dump is newer; the event of the write may be among the lost.
            entry.written = None;
            if entry.installed != installed {
                entry.installed = installed;
                if self.picture != Picture::Blank {
                    self.disturbed(key, Some(Disturbance::Unseen), now);
                }
            }
            self.dirty.insert(key);
        }
        self.picture = Picture::Fresh;
    }

    /// What the kernel has is in doubt: it is to be read again.
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
        if !self.is_known() {
            return Vec::new();
        }
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            self.dirty.insert(key);
        }
        let mut operations = Vec::new();
        while operations.len() < limit {
            let Some(key) = self.dirty.pop_first() else { break };
            operations.extend(self.decide(key, now).map(|action| Operation { key, action }));
        }
        operations
    }

    /// What to do at a key, if anything.
    fn decide(&mut self, key: Key, now: Instant) -> Option<Action> {
        let wanted = self.wanted(key);
        let entry = self.entries.get_mut(&key)?;
        let counted_as = Counted::of(&wanted, entry);
        recount(&mut self.counters, std::mem::replace(&mut entry.counted_as, counted_as), counted_as);
        if entry.in_doubt {
            return None;
        }
        let action = match (wanted, &entry.installed) {
            (Wanted::Route(wanted), Some(installed)) if installed.is(&wanted) => None,
            // One of several goes at a time; then it is seen what is left.
            (Wanted::Route(_), Some(Installed::Several)) => Some(Action::Delete),
            // A replacement would hit whichever of the two is first.
            (Wanted::Route(_), Some(_)) if !entry.foreign.is_empty() => Some(Action::Delete),
            (Wanted::Route(wanted), Some(_)) => Some(Action::Replace(wanted)),
            (Wanted::Route(_), None) if !entry.foreign.is_empty() => {
                self.notices.extend(entry.block(key.prefix));
                return None;
            }
            (Wanted::Route(wanted), None) => Some(Action::Create(wanted)),
            (Wanted::Nothing | Wanted::Unusable, Some(_)) if !entry.inherited => Some(Action::Delete),
            (Wanted::Nothing | Wanted::Unusable, _) => None,
        };
        self.notices.extend(entry.unblock(key.prefix));
        let Some(action) = action else {
            entry.settle();
            if entry.is_empty() && !self.local.blackholes.contains(&key.prefix) {
                self.entries.remove(&key);
            }
            return None;
        };
        if let Some(at) = entry.not_before().filter(|at| *at > now) {
            self.timers.insert((at, key));
            return None;
        }
        Some(action)
    }

    /// The kernel's answer to an operation.
    pub(super) fn completed(
        &mut self,
        operation: Operation,
        sequence: u32,
        result: Result<(), KernelError>,
        now: Instant,
    ) {
        let Operation { key, action } = operation;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let result = match result {
            // What is to be deleted is gone already.
            Err(error) if action == Action::Delete && [libc::ESRCH, libc::ENODEV].contains(&error.errno) => {
                Ok(())
            }
            result => result,
        };
        self.dirty.insert(key);
        match result {
            Ok(()) => {
                let several = entry.installed == Some(Installed::Several);
                entry.written = Some(sequence);
                entry.retry = None;
                entry.installed = match action {
                    Action::Create(route) | Action::Replace(route) => Some(Installed::Route(route)),
                    Action::Delete => None,
                };
                if let Some(disturbance) = entry.disturbance.take() {
                    self.repairs += 1;
                    self.notices.extend(disturbance.notice(key.prefix));
                }
                if several {
                    self.resync_after(Duration::ZERO, now);
                }
            }
            Err(error) => {
                // EEXIST: something is there that we do not know of.
                let unknown = error.errno == libc::EEXIST;
                if entry.retry.is_none() && !unknown {
                    self.notices.push(Notice::Failed { prefix: key.prefix, error: error.clone() });
                }
                entry.retry = Some(Retry::after(entry.retry.take(), error, now));
                self.refused.insert(key);
                if unknown {
                    self.resync_after(Duration::ZERO, now);
                }
            }
        }
    }

    /// The answer to an operation is lost: nobody knows whether the kernel did it.
    pub(super) fn lost(&mut self, operation: &Operation, now: Instant) {
        self.dirty.insert(operation.key);
        self.tear(now);
    }

    /// When [`Self::poll_operations`] next has something to do, for want of other input.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let work = (self.is_known() && !self.dirty.is_empty()).then_some(now);
        [timer, work, self.resync_at].into_iter().flatten().min()
    }

    /// Keys to look at; with them the RIB is told to wait.
    pub(super) fn backlog(&self) -> usize {
        self.dirty.len()
    }

    /// What the operator is to be told.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn look_at_everything(&mut self) {
        self.dirty.extend(self.entries.keys());
    }

    /// What should be at a key, by what the RIB and this node want and by the links there are.
    fn wanted(&self, key: Key) -> Wanted {
        if key != self.ownership.key(key.prefix) {
            return Wanted::Nothing;
        }
        // A blackhole for one address would take packets to the address itself. It wins over what is learned:
        // the block is ours.
        let is_host = key.prefix.length() == key.prefix.family().max_length();
        if self.local.blackholes.contains(&key.prefix) && !is_host {
            return Wanted::Route(Route { kind: Kind::Blackhole, source: None });
        }
        match self.entries.get(&key).and_then(|entry| entry.learned.as_ref()) {
            None => Wanted::Nothing,
            Some(learned) => match self.usable(learned) {
                None => Wanted::Unusable,
                Some(gateways) => Wanted::Route(Route {
                    kind: Kind::Unicast(gateways),
                    source: self.source(key.prefix.family()),
                }),
            },
        }
    }

    /// The next hops over links that run, a local repair before BGP has noticed; if none runs, those that the
    /// kernel would take.
    fn usable(&self, learned: &Gateways) -> Option<Gateways> {
        let over = |condition: fn(&Interface) -> bool| -> Gateways {
            let is_usable = |gateway: &&Gateway| match gateway.interface {
                None => true,
                Some(index) => self.interfaces.by_index.get(&index).is_some_and(condition),
            };
            learned.iter().filter(is_usable).copied().collect()
        };
        [over(|interface| interface.is_running()), over(|interface| interface.admin_up)]
            .into_iter()
            .find(|gateways| !gateways.is_empty())
    }

    fn source(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4Unicast => self.source_ipv4.map(IpAddr::V4),
            Family::Ipv6Unicast => self.source_ipv6.map(IpAddr::V6),
        }
    }

    /// A preferred source counts as long as it is an address of this node: the kernel refuses any other.
    fn look_up_sources(&mut self) {
        let interfaces = &self.interfaces;
        let is_local = |source: IpAddr| {
            let mut addresses = interfaces.by_index.values().flat_map(|interface| &interface.addresses);
            addresses.any(|network| network.ip() == source)
        };
        let ipv4 = self.local.preferred_source_ipv4.filter(|&source| is_local(source.into()));
        let ipv6 = self.local.preferred_source_ipv6.filter(|&source| is_local(source.into()));
        if (self.source_ipv4, self.source_ipv6) != (ipv4, ipv6) {
            (self.source_ipv4, self.source_ipv6) = (ipv4, ipv6);
            self.look_at_everything();
        }
    }
}

#[cfg(test)]
mod tests;
