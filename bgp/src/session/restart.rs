//! The receiving side of graceful restart (RFC 4724 section 4.2): whether the routes of a session that was lost are
//! kept, and for how long.
//!
//! In: why the session ended, what the next one agreed on, End-of-RIB, `now`. Out: families to keep, and the time at
//! which what is still stale has to go. The routes themselves are the RIB's.
//!
//! Kept is what a peer announced in its OPEN to preserve, when TCP ends without a NOTIFICATION. A NOTIFICATION of either
//! side, and with it an expired hold timer, ends the session as RFC 4271 has it: the N bit that RFC 8538 needs for more
//! is never announced. So does a stop on our side, which is how the driver says that the peer's link or address is gone,
//! or that BFD no longer hears it: its forwarding state is not viable any more.

use std::time::{Duration, Instant};

use super::{Action, Negotiated, Session, SessionError};
use crate::{Families, Family};

/// How long a peer that is back may take to say everything again (the upper bound that RFC 4724 section 4.2 allows).
/// A peer that restarted waits for End-of-RIB from all its own peers first (section 4.1), and FRR gives that up after
/// six minutes at most; its session is up all the while, so it is not dead.
pub(super) const STALE_PATH_TIME: Duration = Duration::from_mins(7);

/// What is kept of the session before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kept {
    #[default]
    Nothing,
    /// The peer restarts.
    Awaiting { families: Families, until: Instant },
    /// The peer is back and says its routes again: End-of-RIB of these families has not come.
    Repeating { families: Families, until: Instant },
}

impl Kept {
    /// When a session ends that agreed on this.
    fn after(error: &SessionError, negotiated: &Negotiated, longest: Duration, now: Instant) -> Self {
        if !error.is_a_restart() {
            return Self::Nothing;
        }
        match promised(negotiated, longest) {
            Some((families, time)) => Self::Awaiting { families, until: now + time },
            None => Self::Nothing,
        }
    }

    fn families(self) -> Families {
        match self {
            Self::Nothing => Families::NONE,
            Self::Awaiting { families, .. } | Self::Repeating { families, .. } => families,
        }
    }

    /// When it has to go, with the name of the timer: RFC 4724 has names for the times alone.
    pub(super) fn deadline(self) -> Option<(&'static str, Instant)> {
        match self {
            Self::Nothing => None,
            Self::Awaiting { until, .. } => Some(("RestartTimer", until)),
            Self::Repeating { until, .. } => Some(("StalePathTimer", until)),
        }
    }
}

/// What is kept of a peer that restarts, and for how long; `None` where nothing is.
fn promised(negotiated: &Negotiated, longest: Duration) -> Option<(Families, Duration)> {
    let families = negotiated.restarting_families().intersection(negotiated.codec.families);
    let time = negotiated.graceful_restart()?.restart_time.min(longest);
    (!families.is_empty() && !time.is_zero()).then_some((families, time))
}

impl Session {
    /// Families of the established session that are kept if TCP ends without a NOTIFICATION; none without a session.
    #[must_use]
    pub fn keeps(&self) -> Families {
        let promised = self.negotiated().and_then(|negotiated| promised(negotiated, self.config.stale_time));
        promised.map_or(Families::NONE, |(families, _)| families)
    }

    /// An established session ends: gives the families whose routes are kept.
    pub(super) fn keep_after(
        &mut self,
        error: &SessionError,
        negotiated: &Negotiated,
        now: Instant,
    ) -> Families {
        self.kept = Kept::after(error, negotiated, self.config.stale_time, now);
        self.kept.families()
    }

    /// The session is established again. What the peer says to have lost, the RIB drops by itself.
    pub(super) fn keep_over(&mut self, negotiated: &Negotiated, now: Instant) {
        let families = self.kept.families().intersection(negotiated.preserved_families());
        let families = families.intersection(negotiated.codec.families);
        self.kept = if families.is_empty() {
            Kept::Nothing
        } else {
            Kept::Repeating { families, until: now + STALE_PATH_TIME }
        };
    }

    /// End-of-RIB: the RIB drops what is still stale of the family.
    pub(super) fn said_everything(&mut self, family: Family) {
        if let Kept::Repeating { families, .. } = &mut self.kept {
            families.remove(family);
            if families.is_empty() {
                self.kept = Kept::Nothing;
            }
        }
    }

    pub(super) fn forget_if_overdue(&mut self, now: Instant) {
        if self.kept.deadline().is_some_and(|(_, until)| until <= now) {
            self.forget();
        }
    }

    /// Nobody waits for the peer any more.
    pub(super) fn forget(&mut self) {
        match std::mem::take(&mut self.kept) {
            Kept::Nothing => {}
            Kept::Awaiting { .. } | Kept::Repeating { .. } => self.out.push(Action::Forget),
        }
    }
}
