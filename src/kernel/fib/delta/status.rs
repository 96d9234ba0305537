//! What the reconciler tells about itself.

use bgp::Prefix;

use super::super::entry::Entry;
use super::super::route::{Installed, Key, Kind};
use super::super::{Counters, RouteState, RouteStatus};
use super::{Delta, Wanted};

impl Delta {
    /// Routes of the prefixes after `after`, in their order.
    pub(in crate::kernel::fib) fn routes(&self, after: Option<Prefix>, limit: usize) -> Vec<RouteStatus> {
        let start = after.map_or(std::ops::Bound::Unbounded, |prefix| {
            std::ops::Bound::Excluded(Key { prefix, metric: u32::MAX })
        });
        self.entries
            .range((start, std::ops::Bound::Unbounded))
            .filter_map(|(&key, entry)| self.status(key, entry))
            .take(limit)
            .collect()
    }

    /// One prefix, at every metric.
    pub(in crate::kernel::fib) fn route(&self, prefix: Prefix) -> Vec<RouteStatus> {
        let range = Key { prefix, metric: 0 }..=Key { prefix, metric: u32::MAX };
        self.entries.range(range).filter_map(|(&key, entry)| self.status(key, entry)).collect()
    }

    /// How many routes there are in which state.
    pub(in crate::kernel::fib) fn counters(&self) -> Counters {
        let mut counters = Counters { repairs: self.repairs, ..Counters::default() };
        for status in self.entries.iter().filter_map(|(&key, entry)| self.status(key, entry)) {
            match status.state {
                RouteState::Installed => counters.installed += 1,
                RouteState::Pending => counters.pending += 1,
                RouteState::Failed(_) => counters.failed += 1,
                RouteState::Blocked { .. } => counters.blocked += 1,
                RouteState::Stale => counters.stale += 1,
            }
        }
        counters
    }

    /// `None` for a key that holds only somebody else's route.
    fn status(&self, key: Key, entry: &Entry) -> Option<RouteStatus> {
        let wanted = self.wanted(key);
        let (kind, source, state) = match (wanted, &entry.installed) {
            (Wanted::Route(wanted), Some(installed)) if installed.is(&wanted) => {
                (Some(wanted.kind), wanted.source, RouteState::Installed)
            }
            (Wanted::Route(wanted), installed) => {
                (Some(wanted.kind), wanted.source, entry.waiting_state(installed.is_some()))
            }
            (Wanted::Unusable, _) => (entry.learned.clone().map(Kind::Unicast), None, RouteState::Pending),
            (Wanted::Nothing, Some(installed)) => {
                let (kind, source) = match installed {
                    Installed::Route(route) => (Some(route.kind.clone()), route.source),
                    Installed::Irregular | Installed::Several => (None, None),
                };
                (kind, source, if entry.inherited { RouteState::Stale } else { RouteState::Pending })
            }
            (Wanted::Nothing, None) => return None,
        };
        Some(RouteStatus { prefix: key.prefix, metric: key.metric, kind, source, state })
    }
}
