//! What the reconciler tells about itself.

use std::net::IpAddr;

use bgp::Prefix;
use bgp::memory::{Usage, list_octets, set_octets, tree_octets};
use bgp::rib::Gateways;

use super::super::route::Key;
use super::super::table::{Case, Image, Local, Origin};
use super::super::{Carrier, Counters, Kind, Memory, NextHops, RouteState, RouteStatus};
use super::Delta;
use super::plan::Verdict;

impl Delta {
    /// Routes of the prefixes after `after`, in their order.
    pub(in crate::kernel::fib) fn routes(&self, after: Option<Prefix>, limit: usize) -> Vec<RouteStatus> {
        let found = self.table.in_order(after, limit);
        found.into_iter().filter_map(|(key, case)| self.status(key, &case)).collect()
    }

    /// One prefix, at every metric.
    pub(in crate::kernel::fib) fn route(&self, prefix: Prefix) -> Vec<RouteStatus> {
        self.table.at(prefix).into_iter().filter_map(|(key, case)| self.status(key, &case)).collect()
    }

    /// How many routes there are in which state.
    pub(in crate::kernel::fib) fn counters(&self) -> Counters {
        let mut counters =
            Counters { repairs: self.repairs, next_hops: self.next_hops(), ..Counters::default() };
        for (case, routes) in self.table.cases() {
            match self.state(case) {
                Some(RouteState::Installed) => counters.installed += routes,
                Some(RouteState::Stale) => counters.stale += routes,
                Some(RouteState::Pending | RouteState::Failed(_) | RouteState::Blocked { .. }) => {
                    counters.pending += routes;
                }
                None => {}
            }
        }
        for key in self.troubles.keys() {
            match self.status(*key, &self.table.case(*key)).map(|status| status.state) {
                Some(RouteState::Failed(_)) => {
                    counters.pending -= 1;
                    counters.failed += 1;
                }
                Some(RouteState::Blocked { .. }) => {
                    counters.pending -= 1;
                    counters.blocked += 1;
                }
                Some(RouteState::Installed | RouteState::Pending | RouteState::Stale) | None => {}
            }
        }
        counters
    }

    /// Where the memory is.
    pub(in crate::kernel::fib) fn memory(&self) -> Memory {
        let plans = self.plans.octets();
        let waiting = self.dirty.len() + self.unconfirmed.len() + self.timers.len();
        let queues = set_octets(&self.dirty) + list_octets(&self.unconfirmed) + set_octets(&self.timers);
        Memory {
            routes: self.table.usage(),
            sets: self.table.sets.usage() + Usage::new(0, plans),
            objects: self.objects.usage(),
            backlog: Usage::new(waiting, queues),
            troubles: Usage::new(self.troubles.len(), tree_octets(&self.troubles)),
        }
    }

    fn next_hops(&self) -> NextHops {
        let (groups, members) = self.objects.counts();
        match self.carrier {
            Carrier::Objects => NextHops::Objects { groups, members },
            Carrier::Off => NextHops::InLine(None),
            Carrier::InLine(reason) => NextHops::InLine(Some(reason)),
        }
    }

    /// Where there is no trouble; `None` for a key of which nothing is said.
    fn state(&self, case: &Case) -> Option<RouteState> {
        if case.is_nothing() {
            return None;
        }
        let is_wanted = case.local == Local::Blackhole || case.learned.is_some();
        Some(match (self.verdict(case), case.origin) {
            (Verdict::Rest, _) if is_wanted => RouteState::Installed,
            (_, Origin::Inherited) if !is_wanted => RouteState::Stale,
            (Verdict::Rest | Verdict::Wait | Verdict::Write(_) | Verdict::Delete, _) => RouteState::Pending,
        })
    }

    /// `None` for a key that holds only somebody else's route.
    fn status(&self, key: Key, case: &Case) -> Option<RouteStatus> {
        let mut state = self.state(case)?;
        let is_wanted = case.local == Local::Blackhole || case.learned.is_some();
        if state == RouteState::Pending
            && is_wanted
            && let Some(trouble) = self.troubles.get(&key)
        {
            state = trouble.waiting_state(case.installed.is_some());
        }
        let is_left_alone = case.origin == Origin::Inherited && self.verdict(case) == Verdict::Rest;
        let (kind, source) = match (case.local, case.learned, case.installed) {
            (Local::Blackhole, _, _) => (Some(Kind::Blackhole), None),
            (Local::Nothing, _, Some(image)) if is_left_alone => self.described(image),
            (Local::Nothing, Some(set), _) => {
                (Some(Kind::Unicast(self.shown(set))), self.source(case.family))
            }
            (Local::Nothing, None, Some(image)) => self.described(image),
            (Local::Nothing, None, None) => (None, None),
        };
        Some(RouteStatus { prefix: key.prefix, metric: key.metric, kind, source, state })
    }

    /// What is there.
    fn described(&self, image: Image) -> (Option<Kind>, Option<IpAddr>) {
        match image {
            Image::InLine { source, .. } | Image::Object { source, .. } => {
                let legs = Gateways::from(self.legs(image));
                ((!legs.is_empty()).then_some(Kind::Unicast(legs)), source)
            }
            Image::Blackhole { source } => (Some(Kind::Blackhole), source),
            Image::Irregular | Image::Several => (None, None),
        }
    }
}
