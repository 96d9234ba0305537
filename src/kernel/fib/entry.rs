//! What is known of one key: what is wanted there, what is there, and what stands in the way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bgp::rib::{Gateway, Gateways};
use bgp::{InterfaceIndex, Prefix};

use super::delta::{Cause, Counted, Event};
use super::route::{Installed, Kind, Protocol, Route};
use super::{Notice, RouteState};
use crate::kernel::netlink::KernelError;

/// The kernel refuses a route for want of a link or an address that is often there a moment later.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// What it refuses for long is the operator's to mend.
const RETRY_LAST: Duration = Duration::from_secs(30);
/// Repairs of one route at once; another program that acts more often is fighting us.
const REPAIRS_AT_ONCE: u32 = 5;
/// The pause after the last of them; doubles up to [`RETRY_LAST`].
const REPAIR_PAUSE: Duration = Duration::from_millis(250);
/// After this time without a repair the count begins anew.
const REPAIRS_FORGOTTEN: Duration = Duration::from_secs(60);

/// One key of the table.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What the RIB wants.
    pub(super) learned: Option<Gateways>,
    /// What the kernel has of ours, as far as we know.
    pub(super) installed: Option<Installed>,
    /// Routes of others at the same key.
    pub(super) foreign: Vec<Protocol>,
    /// Was there before us, and nobody has asked for it yet.
    pub(super) inherited: bool,
    /// What is there is not known before the next dump.
    pub(super) in_doubt: bool,
    /// Sequence number of our last successful write.
    pub(super) written: Option<u32>,
    /// The kernel refused it.
    pub(super) retry: Option<Retry>,
    /// Somebody changed it, and it is not repaired yet.
    pub(super) disturbance: Option<Disturbance>,
    /// At the last decision.
    pub(super) counted_as: Option<Counted>,
    hold_until: Option<Instant>,
    repairs: Option<Repairs>,
    blocked: bool,
}

/// A refused operation.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) error: KernelError,
    at: Instant,
    pause: Duration,
}

impl Retry {
    /// Each attempt waits twice as long as the one before.
    pub(super) fn after(before: Option<Self>, error: KernelError, now: Instant) -> Self {
        let pause = before.map_or(RETRY_FIRST, |before| (before.pause * 2).min(RETRY_LAST));
        Self { error, at: now + pause, pause }
    }
}

/// What somebody did to a route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    Deleted,
    Changed,
    /// Found by reading the table.
    Unseen,
    /// Not worth a word any more: it happens all the time.
    Silent,
}

impl Disturbance {
    /// `None` when the kernel did it by itself, which it does when a link goes.
    pub(super) fn of(event: Event, cause: Cause) -> Option<Self> {
        match (cause, event) {
            (Cause::Kernel, _) => None,
            (Cause::Program, Event::Deleted) => Some(Self::Deleted),
            (Cause::Program, Event::Added | Event::Replaced) => Some(Self::Changed),
        }
    }

    /// What to say once it is repaired.
    pub(super) fn notice(self, prefix: Prefix) -> Option<Notice> {
        match self {
            Self::Deleted => Some(Notice::RestoredDeleted { prefix }),
            Self::Changed => Some(Notice::RestoredChanged { prefix }),
            Self::Unseen => Some(Notice::RestoredDrifted { prefix }),
            Self::Silent => None,
        }
    }
}

#[derive(Debug)]
struct Repairs {
    count: u32,
    last: Instant,
}

impl Entry {
    /// Nothing is wanted, nothing is there: it can be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.learned.is_none() && self.installed.is_none() && self.foreign.is_empty() && !self.in_doubt
    }

    /// Whether a next hop of what is installed is on that link.
    pub(super) fn goes_over(&self, index: InterfaceIndex) -> bool {
        match &self.installed {
            Some(Installed::Route(Route { kind: Kind::Unicast(gateways), .. })) => {
                gateways.iter().any(|gateway| gateway.interface == Some(index))
            }
            // It may.
            Some(Installed::Irregular | Installed::Several) => true,
            Some(Installed::Route(Route { kind: Kind::Blackhole, .. })) | None => false,
        }
    }

    /// Whether a wanted next hop is on one of those links.
    pub(super) fn wants_over(&self, links: &BTreeSet<InterfaceIndex>) -> bool {
        let is_over = |gateway: &Gateway| gateway.interface.is_some_and(|index| links.contains(&index));
        self.learned.as_ref().is_some_and(|gateways| gateways.iter().any(is_over))
    }

    /// Whether what others are told to have done may be older than our own last write.
    pub(super) fn is_unconfirmed(&self, confirmed: u32) -> bool {
        // Sequence numbers wrap; the newer one is ahead by less than half of them.
        self.written.is_some_and(|written| confirmed.wrapping_sub(written) > u32::MAX / 2)
    }

    /// When the next operation may be tried.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.hold_until.max(self.retry.as_ref().map(|retry| retry.at))
    }

    pub(super) fn hold_until(&mut self, at: Instant) {
        self.hold_until = self.hold_until.max(Some(at));
    }

    /// It is as it should be.
    pub(super) fn settle(&mut self) {
        self.retry = None;
        self.disturbance = None;
        self.hold_until = None;
    }

    pub(super) fn remove_foreign(&mut self, protocol: Protocol) {
        if let Some(position) = self.foreign.iter().position(|known| *known == protocol) {
            self.foreign.swap_remove(position);
        }
    }

    /// A foreign route is in the way; said once.
    pub(super) fn block(&mut self, prefix: Prefix) -> Option<Notice> {
        let protocol = *self.foreign.first()?;
        (!std::mem::replace(&mut self.blocked, true)).then_some(Notice::Blocked { prefix, protocol })
    }

    /// Nothing is in the way any more.
    pub(super) fn unblock(&mut self, prefix: Prefix) -> Option<Notice> {
        std::mem::take(&mut self.blocked).then_some(Notice::Unblocked { prefix })
    }

    /// Somebody changed it: it is repaired at once, but not for ever at once.
    pub(super) fn disturb(
        &mut self,
        disturbance: Disturbance,
        prefix: Prefix,
        now: Instant,
    ) -> Option<Notice> {
        if disturbance == Disturbance::Unseen {
            // Nobody knows who it was, most often the kernel itself with a link: not a fight.
            self.disturbance.get_or_insert(disturbance);
            return None;
        }
        let count = match &self.repairs {
            Some(repairs) if now.duration_since(repairs.last) < REPAIRS_FORGOTTEN => {
                repairs.count.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        self.repairs = Some(Repairs { count, last: now });
        let over = count.saturating_sub(REPAIRS_AT_ONCE);
        if over == 0 {
            self.disturbance = Some(disturbance);
            return None;
        }
        let pause = REPAIR_PAUSE.saturating_mul(1 << (over - 1).min(10)).min(RETRY_LAST);
        self.hold_until(now + pause);
        self.disturbance = Some(Disturbance::Silent);
        (over == 1).then_some(Notice::Fight { prefix })
    }

    /// The state of a route that is wanted and not there as wanted.
    pub(super) fn waiting_state(&self, ours_is_there: bool) -> RouteState {
        match (&self.retry, self.foreign.first()) {
            (_, Some(protocol)) if !ours_is_there => RouteState::Blocked { protocol: protocol.0 },
            (Some(retry), _) => RouteState::Failed(retry.error.clone()),
            (None, _) => RouteState::Pending,
        }
    }
}
