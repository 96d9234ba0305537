//! What stands in the way at one key: foreign routes, refusals, other programs that change what is ours.

use std::time::{Duration, Instant};

use bgp::Prefix;

use super::delta::{Action, Cause, Event};
use super::route::Protocol;
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
pub(super) const REPAIRS_FORGOTTEN: Duration = Duration::from_secs(60);

/// A key that is not simply there as wanted.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Routes of others at the same key.
    pub(super) foreign: Vec<Protocol>,
    /// What is there is not known before the next dump.
    pub(super) in_doubt: bool,
    /// The kernel refused it.
    pub(super) retry: Option<Retry>,
    /// Somebody changed it, and it is not repaired yet.
    pub(super) disturbance: Option<Disturbance>,
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

    /// What to say once it is repaired by this action.
    pub(super) fn notice(self, prefix: Prefix, repair: Action) -> Option<Notice> {
        match (self, repair) {
            (Self::Silent, _) => None,
            (Self::Deleted | Self::Changed | Self::Unseen, Action::Delete) => {
                Some(Notice::Removed { prefix })
            }
            (Self::Deleted, Action::Create(_) | Action::Replace(_)) => {
                Some(Notice::RestoredDeleted { prefix })
            }
            (Self::Changed, Action::Create(_) | Action::Replace(_)) => {
                Some(Notice::RestoredChanged { prefix })
            }
            (Self::Unseen, Action::Create(_) | Action::Replace(_)) => {
                Some(Notice::RestoredDrifted { prefix })
            }
        }
    }
}

#[derive(Debug)]
struct Repairs {
    count: u32,
    last: Instant,
}

impl Repairs {
    fn are_recent(&self, now: Instant) -> bool {
        now.duration_since(self.last) < REPAIRS_FORGOTTEN
    }
}

impl Trouble {
    /// It can be forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let Self { foreign, in_doubt, retry, disturbance, hold_until, repairs, blocked } = self;
        let remembered = repairs.as_ref().is_some_and(|repairs| repairs.are_recent(now));
        let waits = retry.is_some() || disturbance.is_some() || hold_until.is_some();
        foreign.is_empty() && !*in_doubt && !waits && !remembered && !*blocked
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
            Some(repairs) if repairs.are_recent(now) => repairs.count.saturating_add(1),
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
