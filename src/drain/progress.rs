//! One drain: how far it is, and what takes it further.

use std::iter::Sum;
use std::time::{Duration, Instant};

use super::{Order, Then};

/// How long nothing but the protocols themselves may arrive until the traffic counts as gone. Longer than a ToR takes to
/// tell others: FRR gathers updates for a second.
pub(super) const QUIET_FOR: Duration = Duration::from_secs(3);
/// Between the last withdrawal and the end of the sessions: as long as other routers may still send here.
pub(super) const WITHDRAWN_FOR: Duration = Duration::from_secs(2);
/// A neighbor that takes no withdrawal holds up the end no longer.
pub(super) const WITHDRAWING_LIMIT: Duration = Duration::from_secs(6);
/// A session that does not end holds up a stop no longer.
pub(super) const ENDING_LIMIT: Duration = Duration::from_secs(3);

/// After a drain: from everything told over a new session to the end of the marks. A ToR may advertise a route before its
/// own kernel has it (FRR does): nobody is to come this way until then.
pub(super) const RETURNING_FOR: Duration = Duration::from_secs(2);
/// Whoever has no session by then is not waited for.
pub(super) const RETURNING_LIMIT: Duration = Duration::from_secs(30);

/// How far a drain is. The order is that of how little is left of the neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It was taken back after its withdrawals: sessions are coming up, with marks for as long as routes settle.
    Returning,
    /// Neighbors are being told that other ways are better.
    Marking,
    /// They have been; the traffic is leaving.
    Waiting,
    /// Neighbors are told that there is no way here.
    Withdrawing,
    /// Sessions are being ended.
    Ending,
    /// There is none any more.
    Drained,
}

/// A drain that was ordered and not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    order: Order,
    /// When waiting ends at the latest.
    until: Instant,
    state: State,
    /// Each phase that was entered, and when.
    steps: Vec<(Phase, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Returning { since: Instant, told_since: Option<Instant> },
    Marking,
    Waiting { quiet_since: Option<Instant> },
    Withdrawing { since: Instant },
    Ending { since: Instant },
    Drained,
}

impl State {
    fn phase(self) -> Phase {
        match self {
            Self::Returning { .. } => Phase::Returning,
            Self::Marking => Phase::Marking,
            Self::Waiting { .. } => Phase::Waiting,
            Self::Withdrawing { .. } => Phase::Withdrawing,
            Self::Ending { .. } => Phase::Ending,
            Self::Drained => Phase::Drained,
        }
    }
}

/// Whether a drain is still there after an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    GoesOn,
    Over,
}

/// What an observation says of the neighbors that a drain is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// All have been told what they are to be told.
    pub(super) is_told: bool,
    /// None sends anything worth waiting for.
    pub(super) is_quiet: bool,
    /// None has a session.
    pub(super) is_down: bool,
}

/// What holds for each of them.
impl Sum for Verdict {
    fn sum<I: Iterator<Item = Self>>(verdicts: I) -> Self {
        verdicts.fold(Self { is_told: true, is_quiet: true, is_down: true }, |all, one| Self {
            is_told: all.is_told && one.is_told,
            is_quiet: all.is_quiet && one.is_quiet,
            is_down: all.is_down && one.is_down,
        })
    }
}

impl Drain {
    pub(super) fn begin(order: Order, now: Instant) -> Self {
        let until = now + order.wait;
        Self { order, until, state: State::Marking, steps: vec![(Phase::Marking, now)] }
    }

    /// As a predecessor left it.
    pub(super) fn drained(order: Order, now: Instant) -> Self {
        Self { order, until: now, state: State::Drained, steps: vec![(Phase::Drained, now)] }
    }

    /// A stop that was asked for once is not taken back by another order, and words that neighbors were told stay. A
    /// drain that was taken back begins anew.
    pub(super) fn renew(&mut self, order: Order, now: Instant) {
        if self.phase() == Phase::Returning {
            *self = Self::begin(order, now);
            return;
        }
        self.until = now + order.wait;
        let then = match (self.order.then, order.then) {
            (Then::Stop, _) | (_, Then::Stop) => Then::Stop,
            (Then::StayDown, Then::StayDown) => Then::StayDown,
        };
        let message = if self.phase() >= Phase::Ending { self.order.message.clone() } else { order.message };
        self.order = Order { wait: order.wait, then, message };
    }

    /// It is taken back. Where nothing was withdrawn yet there is nothing to come back from.
    pub(super) fn take_back(&mut self, now: Instant) -> Outlook {
        match self.phase() {
            Phase::Marking | Phase::Waiting => return Outlook::Over,
            Phase::Returning => {}
            Phase::Withdrawing | Phase::Ending | Phase::Drained => {
                self.state = State::Returning { since: now, told_since: None };
                self.steps.push((Phase::Returning, now));
            }
        }
        Outlook::GoesOn
    }

    /// At most one step.
    pub(super) fn advance(&mut self, verdict: Verdict, now: Instant) -> Outlook {
        let passed = |since: Instant| now.saturating_duration_since(since);
        let is_time_up = now >= self.until;
        let next = match &mut self.state {
            State::Returning { since, told_since } => {
                let is_there = verdict.is_told && !verdict.is_down;
                *told_since = is_there.then(|| told_since.unwrap_or(now));
                let has_settled = told_since.is_some_and(|told_since| passed(told_since) >= RETURNING_FOR);
                if has_settled || passed(*since) >= RETURNING_LIMIT {
                    return Outlook::Over;
                }
                None
            }
            State::Marking | State::Waiting { .. } if is_time_up => Some(State::Withdrawing { since: now }),
            State::Marking => verdict.is_told.then_some(State::Waiting { quiet_since: None }),
            State::Waiting { quiet_since } => {
                // A session that came up meanwhile has to be told as well.
                let is_quiet = verdict.is_told && verdict.is_quiet;
                *quiet_since = is_quiet.then(|| quiet_since.unwrap_or(now));
                let has_been_quiet = quiet_since.is_some_and(|since| passed(since) >= QUIET_FOR);
                has_been_quiet.then_some(State::Withdrawing { since: now })
            }
            State::Withdrawing { since } => {
                let is_known = verdict.is_told && passed(*since) >= WITHDRAWN_FOR;
                (is_known || passed(*since) >= WITHDRAWING_LIMIT).then_some(State::Ending { since: now })
            }
            State::Ending { since } => {
                (verdict.is_down || passed(*since) >= ENDING_LIMIT).then_some(State::Drained)
            }
            State::Drained => None,
        };
        if let Some(next) = next {
            self.state = next;
            self.steps.push((next.phase(), now));
        }
        Outlook::GoesOn
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// What was asked for, as the last order has it.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// When the present phase began.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.steps.last().map_or(self.until, |(_, since)| *since)
    }

    /// Each phase that was entered, and when, in their order.
    #[must_use]
    pub fn steps(&self) -> &[(Phase, Instant)] {
        &self.steps
    }

    /// How long the traffic is waited for at most; `None` where it is no more.
    #[must_use]
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Marking | State::Waiting { .. } => Some(self.until.saturating_duration_since(now)),
            State::Returning { .. } | State::Withdrawing { .. } | State::Ending { .. } | State::Drained => {
                None
            }
        }
    }
}
