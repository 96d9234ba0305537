//! What events say about the kernel's table. Each is taken for what it says; where it may be older than our own
//! last write or than the last dump, or leaves open what is there now, the key is in doubt until the table was
//! read again.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::rib::Gateways;
use bgp::{Family, InterfaceIndex};
use ipnetwork::IpNetwork;

use super::super::route::{Installed, Key, Observation, Owner, Protocol};
use super::super::table::{Case, Image, Local};
use super::super::trouble::{Disturbance, REPAIRS_FORGOTTEN};
use super::plan::Verdict;
use super::{Cause, Delta, Event, KERNEL_SETTLES, Picture};

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
            Owner::Ours => self.observe_ours(event, cause, key, &installed, now),
            Owner::Foreign(protocol) if self.ownership.writes_at(key) => {
                self.observe_foreign(event, key, protocol, now);
            }
            // With another metric: a route of its own.
            Owner::Foreign(_) => {}
        }
    }

    fn observe_ours(&mut self, event: Event, cause: Cause, key: Key, told: &Installed, now: Instant) {
        let told = self.table.image(told);
        let before = self.table.case(key).installed;
        let beside = self.troubles.get(&key).is_some_and(|trouble| !trouble.foreign.is_empty());
        // In IPv6 next hops of one destination and metric merge into one route, unless an object has them.
        let merges = |image: Option<Image>| !matches!(image, Some(Image::Object { .. }));
        let merges = key.prefix.family() == Family::Ipv6Unicast && merges(before) && merges(Some(told));
        let (now_there, doubtful) = match event {
            // Perhaps older than our last write to this key.
            _ if self.unconfirmed.contains(&key) => (before, true),
            Event::Deleted if merges => (before.and_then(|before| self.without_legs(before, told)), false),
            Event::Deleted => {
                (None, before == Some(Image::Several) || (before.is_some() && before != Some(told)))
            }
            // An IPv6 event lists all next hops that are there afterwards.
            Event::Added if merges => (Some(told), beside),
            // A second one beside ours, or an event that is older than the last dump.
            Event::Added if before.is_some() => (before, true),
            Event::Added => (Some(told), beside),
            Event::Replaced => (Some(told), before == Some(Image::Several) || beside),
        };
        // Just after a dump it may be older than that.
        if doubtful || self.picture == Picture::Fresh {
            self.doubt(key, now);
        }
        if now_there == before {
            return;
        }
        self.table.change(key, |case| case.changed(now_there));
        match (cause, before) {
            // It went with its object, as many others do: a walk finds them once it is known which.
            (Cause::Kernel, Some(Image::Object { .. })) => {
                self.objects.resync_after(Duration::ZERO, now);
                self.look_again();
            }
            (Cause::Kernel | Cause::Program, _) => self.disturbed(key, Disturbance::of(event, cause), now),
        }
    }

    fn observe_foreign(&mut self, event: Event, key: Key, protocol: Protocol, now: Instant) {
        let alone = self.table.case(key).installed.is_none();
        let is_unconfirmed = self.unconfirmed.contains(&key);
        let trouble = self.troubles.entry(key).or_default();
        let known = trouble.foreign.contains(&protocol);
        let doubtful = match (event, key.prefix.family()) {
            // Older or newer than our last write to this key?
            _ if is_unconfirmed => true,
            // Older or newer than the last dump?
            _ if self.picture == Picture::Fresh => true,
            (Event::Added, Family::Ipv4Unicast) if !known => {
                trouble.foreign.push(protocol);
                false
            }
            (Event::Deleted, Family::Ipv4Unicast) => {
                trouble.remove_foreign(protocol);
                false
            }
            (Event::Replaced, Family::Ipv4Unicast) if trouble.foreign.is_empty() => {
                // It took our place.
                trouble.foreign.push(protocol);
                self.table.change(key, |case| case.installed = None);
                false
            }
            // A second one of that protocol, or in place of one of two.
            (Event::Added | Event::Replaced, Family::Ipv4Unicast) => true,
            (Event::Added | Event::Replaced, Family::Ipv6Unicast) if alone => {
                trouble.foreign = vec![protocol];
                false
            }
            (Event::Deleted, Family::Ipv6Unicast) if alone => {
                trouble.remove_foreign(protocol);
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
        self.troubles.entry(key).or_default().in_doubt = true;
        self.resync_after(KERNEL_SETTLES, now);
    }

    /// A link went down, or away. The kernel takes the IPv4 routes over it without a word.
    pub(in crate::kernel::fib) fn link_down(&mut self, index: InterfaceIndex, now: Instant) {
        let is_over = |image| self.is_over(image, index);
        if self.table.cases().filter_map(|(case, _)| case.installed).any(is_over) {
            self.resync_after(KERNEL_SETTLES, now);
        }
    }

    /// An address of a link went. Kernels before 6.6 take the IPv4 routes that prefer it as source without a word. With
    /// the last IPv4 address of a link each kernel takes the IPv4 routes over that link likewise, whatever the family of
    /// their next hop; routes over objects stay. (Of a route with several next hops it keeps those on other links; ours
    /// on this link rests until the link goes up again or has an IPv4 address, since the kernel shares what it knows of
    /// next hops among routes: writing the route again would change nothing.)
    pub(in crate::kernel::fib) fn address_gone(
        &mut self,
        index: InterfaceIndex,
        address: IpNetwork,
        now: Instant,
    ) {
        let sources = [
            self.local.preferred_source_ipv4.map(IpAddr::V4),
            self.local.preferred_source_ipv6.map(IpAddr::V6),
        ];
        // What is known of the links may be older than the event, or newer: it has the network no more.
        let is_reached_by_it = |image| match image {
            Image::InLine { set, .. } => {
                self.table.sets.gateways(set).iter().any(|gateway| address.contains(gateway.address))
            }
            Image::Object { .. } | Image::Blackhole { .. } | Image::Irregular | Image::Several => false,
        };
        let goes_with_it = |image| self.is_over(image, index) || is_reached_by_it(image);
        let is_ipv4_over_it =
            |case: &Case| case.family == Family::Ipv4Unicast && case.installed.is_some_and(goes_with_it);
        let takes_routes = address.is_ipv4() && self.table.cases().any(|(case, _)| is_ipv4_over_it(case));
        if takes_routes || sources.contains(&Some(address.ip())) {
            self.resync_after(KERNEL_SETTLES, now);
        }
    }

    /// Something of ours changed without us. If it is wrong now it is to be repaired.
    pub(super) fn disturbed(&mut self, key: Key, disturbance: Option<Disturbance>, now: Instant) {
        let case = self.table.case(key);
        self.dirty.insert(key);
        let is_unwanted = case.local == Local::Nothing && case.learned.is_none();
        let as_wanted = match self.verdict(&case) {
            Verdict::Rest => true,
            Verdict::Wait => case.installed.is_none(),
            Verdict::Delete | Verdict::Write(_) => false,
        };
        if as_wanted || (is_unwanted && case.installed.is_none()) {
            return;
        }
        let trouble = self.troubles.entry(key).or_default();
        match disturbance {
            Some(disturbance) => {
                self.notices.extend(trouble.disturb(disturbance, key.prefix, now));
                self.forget_at.get_or_insert(now + REPAIRS_FORGOTTEN);
            }
            None => trouble.hold_until(now + KERNEL_SETTLES),
        }
    }

    /// What is left of a route when the next hops of another are taken out of it.
    fn without_legs(&mut self, installed: Image, gone: Image) -> Option<Image> {
        let (Image::InLine { set, source }, Image::InLine { set: gone, .. }) = (installed, gone) else {
            return None;
        };
        let gone = self.table.sets.gateways(gone);
        let legs = self.table.sets.gateways(set).iter();
        let left: Gateways = legs.filter(|leg| !gone.contains(leg)).copied().collect();
        (!left.is_empty()).then(|| Image::InLine { set: self.table.sets.intern(&left), source })
    }
}
