//! What events say about the kernel's table. Each is taken for what it says; where it may be older than our own
//! last write or than the last dump, or leaves open what is there now, the key is in doubt until the table was
//! read again.

use std::net::IpAddr;
use std::time::Instant;

use bgp::rib::Gateways;
use bgp::{Family, InterfaceIndex};

use super::super::entry::Disturbance;
use super::super::route::{Installed, Key, Kind, Observation, Owner, Protocol, Route};
use super::{Cause, Delta, Event, KERNEL_SETTLES, Picture, Wanted};

impl Delta {
    /// What another socket than our writer's did to the table.
    pub(in crate::kernel::fib) fn observe(
        &mut self,
        event: Event,
        cause: Cause,
        observation: Observation,
        now: Instant,
    ) {
        let Observation { key, owner, installed } = observation;
        match owner {
            Owner::Ours => self.observe_ours(event, cause, key, installed, now),
            Owner::Foreign(protocol) if key == self.ownership.key(key.prefix) => {
                self.observe_foreign(event, key, protocol, now);
            }
            // With another metric: a route of its own.
            Owner::Foreign(_) => {}
        }
    }

    fn observe_ours(&mut self, event: Event, cause: Cause, key: Key, told: Installed, now: Instant) {
        // Also where nothing changes: an entry that was made for this alone is to go again.
        self.dirty.insert(key);
        let entry = self.entries.entry(key).or_default();
        let before = entry.installed.clone();
        let doubtful = match (event, key.prefix.family()) {
            // Perhaps older than our last write to this key, which has then made up for it.
            _ if entry.is_unconfirmed(self.confirmed) => event != Event::Deleted,
            (Event::Deleted, Family::Ipv4Unicast) => {
                entry.installed = None;
                before == Some(Installed::Several)
            }
            (Event::Deleted, Family::Ipv6Unicast) => {
                entry.installed = before.clone().and_then(|before| without_legs(before, &told));
                false
            }
            // A second one beside ours, or an event that is older than the last dump.
            (Event::Added, Family::Ipv4Unicast) if before.is_some() => true,
            (Event::Replaced, Family::Ipv4Unicast) => {
                entry.installed = Some(told);
                before == Some(Installed::Several) || !entry.foreign.is_empty()
            }
            // An IPv6 event lists all next hops that are there afterwards.
            (Event::Added, Family::Ipv4Unicast) | (Event::Added | Event::Replaced, Family::Ipv6Unicast) => {
                entry.installed = Some(told);
                !entry.foreign.is_empty()
            }
        };
        let changed = entry.installed != before;
        // Just after a dump it may be older than that.
        if doubtful || self.picture == Picture::Fresh {
            self.doubt(key, now);
        }
        if changed {
            self.disturbed(key, Disturbance::of(event, cause), now);
        }
    }

    fn observe_foreign(&mut self, event: Event, key: Key, protocol: Protocol, now: Instant) {
        let entry = self.entries.entry(key).or_default();
        let alone = entry.installed.is_none();
        let known = entry.foreign.contains(&protocol);
        let doubtful = match (event, key.prefix.family()) {
            // Older or newer than our last write to this key?
            _ if entry.is_unconfirmed(self.confirmed) => true,
            // Older or newer than the last dump?
            _ if self.picture == Picture::Fresh => true,
            (Event::Added, Family::Ipv4Unicast) if !known => {
                entry.foreign.push(protocol);
                false
            }
            (Event::Deleted, Family::Ipv4Unicast) => {
                entry.remove_foreign(protocol);
                false
            }
            (Event::Replaced, Family::Ipv4Unicast) if entry.foreign.is_empty() => {
                // It took our place.
                entry.installed = None;
                entry.foreign.push(protocol);
                false
            }
            // A second one of that protocol, or in place of one of two.
            (Event::Added | Event::Replaced, Family::Ipv4Unicast) => true,
            (Event::Added | Event::Replaced, Family::Ipv6Unicast) if alone => {
                entry.foreign = vec![protocol];
                false
            }
            (Event::Deleted, Family::Ipv6Unicast) if alone => {
                entry.remove_foreign(protocol);
                false
            }
            // In IPv6 next hops of one destination and metric merge into one route whoever wrote them, and
            // go together when either is deleted. Only a dump tells what is left.
            (Event::Added | Event::Replaced | Event::Deleted, Family::Ipv6Unicast) => true,
        };
        if doubtful {
            self.doubt(key, now);
        }
        self.dirty.insert(key);
    }

    /// Nothing is written to the key before the table was read again.
    fn doubt(&mut self, key: Key, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.in_doubt = true;
            self.resync_after(KERNEL_SETTLES, now);
        }
    }

    /// A link went down, or away. The kernel takes the IPv4 routes over it without a word.
    pub(in crate::kernel::fib) fn link_down(&mut self, index: InterfaceIndex, now: Instant) {
        if self.entries.values().any(|entry| entry.goes_over(index)) {
            self.resync_after(KERNEL_SETTLES, now);
        }
    }

    /// An address went. Kernels before 6.6 take the IPv4 routes that prefer it as source without a word.
    pub(in crate::kernel::fib) fn address_gone(&mut self, address: IpAddr, now: Instant) {
        let sources = [
            self.local.preferred_source_ipv4.map(IpAddr::V4),
            self.local.preferred_source_ipv6.map(IpAddr::V6),
        ];
        if sources.contains(&Some(address)) {
            self.resync_after(KERNEL_SETTLES, now);
        }
    }

    /// Something of ours changed without us. If it is wrong now it is to be repaired.
    pub(super) fn disturbed(&mut self, key: Key, disturbance: Option<Disturbance>, now: Instant) {
        let wanted = self.wanted(key);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.dirty.insert(key);
        let as_wanted = match (&wanted, &entry.installed) {
            (Wanted::Route(wanted), Some(installed)) => installed.is(wanted),
            (Wanted::Route(_), None) => false,
            (Wanted::Nothing | Wanted::Unusable, installed) => installed.is_none(),
        };
        if as_wanted {
            return;
        }
        match disturbance {
            Some(disturbance) => self.notices.extend(entry.disturb(disturbance, key.prefix, now)),
            None => entry.hold_until(now + KERNEL_SETTLES),
        }
    }
}

/// What is left of a route when the next hops of another are taken out of it.
fn without_legs(installed: Installed, gone: &Installed) -> Option<Installed> {
    let (Installed::Route(route), Installed::Route(gone)) = (installed, gone) else { return None };
    let (Kind::Unicast(legs), Kind::Unicast(gone)) = (&route.kind, &gone.kind) else { return None };
    let left: Gateways = legs.iter().filter(|leg| !gone.contains(leg)).copied().collect();
    (!left.is_empty()).then(|| Installed::Route(Route { kind: Kind::Unicast(left), source: route.source }))
}
