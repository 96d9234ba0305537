//! Holding back a neighbor whose sessions do not last: each one that comes and goes costs every node of the rack a
//! change of its routes, and the packets that are under way.
//!
//! [`Damping`] is a machine without a clock. In: its session came up, it went down, the time. Out: until when it had
//! better not be tried again. One failure, or two, cost nothing: a ToR that reboots is to be back at once. Then the time
//! doubles with each session that lasted less than a minute, from 100 ms up to what the configuration allows, and one that
//! lasts longer begins anew. Whose operator has ended it counts: ours never does, the neighbor's not at once.
//! RFC 4271 section 8.1.1 (DampPeerOscillations) leaves the times to us; section 10: jitter.
//!
//! The session's own retry timer goes by attempts to connect, this one by sessions that were there. Whether there is
//! another neighbor to go by meanwhile is for [`super::Agent`] to say: the last one left is never held back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bgp::session::Cause;

/// A session that lasted this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Short sessions, one after the other, that are nothing to hold against anybody.
const FREE: u32 = 2;
/// Short sessions, one after the other, that the neighbor's operator may end: who tries out a configuration does so a few
/// times, and no more often than a program that goes round in circles.
const FREE_TO_OPERATOR: u32 = 8;
/// After the first one that is.
const FIRST_HOLD: Duration = Duration::from_millis(100);
/// What is known of one neighbor's steadiness.
#[derive(Debug)]
pub(super) struct Damping {
    /// Whatever happens: a link that works again does not wait for longer.
    longest: Duration,
    state: State,
    /// Short sessions in a row that are held against it.
    short: u32,
    /// Short sessions, since one that lasted, whose end its operator wanted.
    ended_by_operator: u32,
    /// Short sessions in all, but for those that we have ended ourselves.
    flaps: u64,
    jitter: fastrand::Rng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up {
        since: Instant,
    },
    Down,
    /// Until it is released, which somebody has to do.
    Held {
        until: Instant,
    },
}

impl Damping {
    /// Of a neighbor that has not had a session yet, and is never held back for longer than `longest`. The same seed
    /// gives the same jitter.
    pub(super) fn new(longest: Duration, seed: u64) -> Self {
        Self {
            longest,
            state: State::Down,
            short: 0,
            ended_by_operator: 0,
            flaps: 0,
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// From the next time on.
    pub(super) fn configure(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// Its session is established.
    pub(super) fn up(&mut self, now: Instant) {
        self.state = State::Up { since: now };
    }

    /// It was, and is no longer. Nothing where it was not. What we end ourselves says nothing of the neighbor; what its
    /// operator ends says little, up to a number.
    pub(super) fn down(&mut self, cause: Cause, now: Instant) {
        let State::Up { since } = self.state else { return };
        self.state = State::Down;
        if now.saturating_duration_since(since) >= GOOD_AFTER {
            self.short = 0;
            self.ended_by_operator = 0;
            return;
        }
        match cause {
            Cause::Ours => return,
            Cause::Theirs if self.ended_by_operator < FREE_TO_OPERATOR => {
                self.flaps += 1;
                self.ended_by_operator += 1;
                return;
            }
            Cause::Theirs | Cause::Failure => {}
        }
        self.flaps += 1;
        self.short = self.short.saturating_add(1);
        if let Some(doublings) = self.short.checked_sub(FREE + 1) {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            let hold = FIRST_HOLD.saturating_mul(factor).min(self.longest);
            if !hold.is_zero() {
                self.state = State::Held { until: now + hold.mul_f64(0.75 + 0.25 * self.jitter.f64()) };
            }
        }
    }

    /// Lets it go if its time is over.
    pub(super) fn release(&mut self, now: Instant) {
        match self.state {
            State::Held { until } if until <= now => self.state = State::Down,
            State::Held { .. } | State::Up { .. } | State::Down => {}
        }
    }

    /// Somebody wants it to be tried now: what was is forgotten, but for the count.
    pub(super) fn forgive(&mut self) {
        self.short = 0;
        self.ended_by_operator = 0;
        match self.state {
            State::Held { .. } => self.state = State::Down,
            State::Up { .. } | State::Down => {}
        }
    }

    /// Whether it has a session.
    pub(super) fn is_up(&self) -> bool {
        match self.state {
            State::Up { .. } => true,
            State::Down | State::Held { .. } => false,
        }
    }

    /// Until when it is to be left alone: perhaps a moment that has passed, and then it is to be released; `None` where it
    /// need not be.
    pub(super) fn held_until(&self) -> Option<Instant> {
        match self.state {
            State::Held { until } => Some(until),
            State::Up { .. } | State::Down => None,
        }
    }

    /// Sessions that lasted less than a minute, but for those that we have ended ourselves.
    pub(super) fn flaps(&self) -> u64 {
        self.flaps
    }
}
