//! How long to wait between two attempts to reach the peer: jitter, back-off and damping.
//!
//! In: how each attempt ended. Out: the time to wait before the next one, always between 75 ms and 5 s.
//! RFC 4271 sections 8.1.1 (DampPeerOscillations), 10 (jitter).

use std::time::Duration;

/// The first attempts are this far apart: a ToR closes our TCP until it has seen our Router Advertisement,
/// which takes milliseconds after link-up, not the two minutes of RFC 4271 section 10.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
/// Attempts at the first interval before it starts to double: about the first second after link-up.
const FIRST_ATTEMPTS: u32 = 10;
/// No two attempts are further apart, so that a ToR that rebooted is found again within five seconds.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);
/// After a NOTIFICATION the next attempt waits at least `FIRST_INTERVAL` doubled this often, 800 ms: what
/// was refused once is likely to be refused again.
const DAMPED_DOUBLINGS: u32 = 3;

/// A source of jitter; the same seed gives the same sequence.
#[derive(Debug, Clone)]
pub(super) struct Jitter(fastrand::Rng);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A source of its own for a part of the session.
    pub(super) fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// The interval times a random number from 0.75 to 1.0 (RFC 4271 section 10).
    pub(super) fn apply(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(0.75 + 0.25 * self.0.f64())
    }
}

/// The intervals of the ConnectRetryTimer.
#[derive(Debug)]
pub(super) struct Retry {
    /// Attempts since the last session that lasted.
    attempts: u32,
    jitter: Jitter,
}

impl Retry {
    pub(super) fn new(jitter: Jitter) -> Self {
        Self { attempts: 0, jitter }
    }

    /// Starts over at the first interval.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The attempt was answered with an error: skip the short intervals.
    pub(super) fn damp(&mut self) {
        self.attempts = self.attempts.max(FIRST_ATTEMPTS + DAMPED_DOUBLINGS);
    }

    /// The time to the next attempt, with jitter; each call counts as an attempt.
    pub(super) fn next_interval(&mut self) -> Duration {
        let doublings = self.attempts.saturating_sub(FIRST_ATTEMPTS);
        self.attempts = self.attempts.saturating_add(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.jitter.apply(FIRST_INTERVAL.saturating_mul(factor).min(LONGEST_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(seed: u64) -> Retry {
        Retry::new(Jitter::new(seed))
    }

    #[test]
    fn intervals_start_short_then_double_up_to_five_seconds() {
        for seed in 0..100 {
            let mut retry = retry(seed);
            let mut expected = [FIRST_INTERVAL; FIRST_ATTEMPTS as usize].to_vec();
            expected.extend([100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].map(Duration::from_millis));
            for (attempt, full) in expected.into_iter().enumerate() {
                let interval = retry.next_interval();
                assert!(
                    interval >= full.mul_f64(0.75) && interval <= full,
                    "seed {seed}, attempt {attempt}: {interval:?} is not 0.75 to 1.0 of {full:?}"
                );
            }
        }
    }

    #[test]
    fn ever_more_attempts_stay_within_the_bound() {
        let mut retry = retry(7);
        retry.attempts = u32::MAX;
        assert!(retry.next_interval() <= LONGEST_INTERVAL);
        assert!(retry.next_interval() >= LONGEST_INTERVAL.mul_f64(0.75));
    }

    #[test]
    fn an_error_skips_the_short_intervals_and_never_shortens_a_long_one() {
        let mut retry = retry(1);
        retry.damp();
        assert!(retry.next_interval() >= Duration::from_millis(600));
        let attempts = retry.attempts;
        retry.damp();
        assert_eq!(retry.attempts, attempts);
    }

    #[test]
    fn a_reset_starts_over() {
        let mut retry = retry(1);
        retry.damp();
        retry.reset();
        assert!(retry.next_interval() <= FIRST_INTERVAL);
    }

    #[test]
    fn jitter_is_reproducible_and_not_constant() {
        let mut first = Jitter::new(3);
        let mut second = Jitter::new(3);
        let sequence: Vec<_> = (0..10).map(|_| first.apply(Duration::from_secs(4))).collect();
        assert_eq!(sequence, (0..10).map(|_| second.apply(Duration::from_secs(4))).collect::<Vec<_>>());
        assert!(sequence.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
