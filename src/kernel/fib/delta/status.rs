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

    /// How many routes there are in which state: as of the last decision at each key, and anew where another one waits.
    pub(in crate::kernel::fib) fn counters(&self) -> Counters {
        let mut counters = Counters { repairs: self.repairs, ..self.counters };
        for (&key, entry) in self.dirty.iter().filter_map(|key| self.entries.get_key_value(key)) {
            recount(&mut counters, entry.counted_as, Counted::of(&self.wanted(key), entry));
        }
        counters
    }

    /// `None` for a key that holds only somebody else's route.
    fn status(&self, key: Key, entry: &Entry) -> Option<RouteStatus> {
        let wanted = self.wanted(key);
        let state = state(&wanted, entry)?;
        let (kind, source) = match (wanted, &entry.installed) {
            (Wanted::Route(wanted), _) => (Some(wanted.kind), wanted.source),
            (Wanted::Unusable, _) => (entry.learned.clone().map(Kind::Unicast), None),
            (Wanted::Nothing, Some(Installed::Route(route))) => (Some(route.kind.clone()), route.source),
            (Wanted::Nothing, Some(Installed::Irregular | Installed::Several) | None) => (None, None),
        };
        Some(RouteStatus { prefix: key.prefix, metric: key.metric, kind, source, state })
    }
}

/// How far the route of a key is; `None` where there is nothing of ours and nothing wanted.
fn state(wanted: &Wanted, entry: &Entry) -> Option<RouteState> {
    match (wanted, &entry.installed) {
        (Wanted::Route(wanted), Some(installed)) if installed.is(wanted) => Some(RouteState::Installed),
        (Wanted::Route(_), installed) => Some(entry.waiting_state(installed.is_some())),
        (Wanted::Unusable, _) => Some(RouteState::Pending),
        (Wanted::Nothing, Some(_)) if entry.inherited => Some(RouteState::Stale),
        (Wanted::Nothing, Some(_)) => Some(RouteState::Pending),
        (Wanted::Nothing, None) => None,
    }
}

/// The counter that a route is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel::fib) enum Counted {
    Installed,
    Pending,
    Failed,
    Blocked,
    Stale,
}

impl Counted {
    pub(super) fn of(wanted: &Wanted, entry: &Entry) -> Option<Self> {
        Some(match state(wanted, entry)? {
            RouteState::Installed => Self::Installed,
            RouteState::Pending => Self::Pending,
            RouteState::Failed(_) => Self::Failed,
            RouteState::Blocked { .. } => Self::Blocked,
            RouteState::Stale => Self::Stale,
        })
    }

    fn counter(self, counters: &mut Counters) -> &mut usize {
        match self {
            Self::Installed => &mut counters.installed,
            Self::Pending => &mut counters.pending,
            Self::Failed => &mut counters.failed,
            Self::Blocked => &mut counters.blocked,
            Self::Stale => &mut counters.stale,
        }
    }
}

/// A route goes from one counter to another.
pub(super) fn recount(counters: &mut Counters, before: Option<Counted>, after: Option<Counted>) {
    if let Some(before) = before.map(|before| before.counter(counters)) {
        *before = before.saturating_sub(1);
    }
    if let Some(after) = after.map(|after| after.counter(counters)) {
        *after = after.saturating_add(1);
    }
}
