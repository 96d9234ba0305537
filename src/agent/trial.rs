//! A configuration on trial: in use, and left again unless somebody says in time that it is good, or as soon as a
//! session is lost that had nothing to do with it.
//!
//! In: what was in use before, the sessions that were there before and have to stay, the time. Out: what to go back to,
//! and why. No clock.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::PeerId;

use super::neighbors::NeighborName;
use crate::config::Config;

/// What became of the last trial, as long as anybody may ask.
#[derive(Debug, Default)]
pub(super) enum Trials {
    #[default]
    Nothing,
    /// What is in use is on trial.
    Running(Trial),
    /// It had to be left, and nothing came after it.
    Failed((Instant, Failure)),
}

/// What is on trial.
#[derive(Debug)]
pub(super) struct Trial {
    before: Arc<Config>,
    until: Instant,
    sessions: BTreeSet<PeerId>,
}

/// Why a trial ended as it should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody said in time that it is good.
    NotConfirmed,
    /// A session that was to stay did not.
    SessionLost(NeighborName),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfirmed => f.write_str("it was not confirmed in time"),
            Self::SessionLost(neighbor) => write!(f, "the session with {neighbor} was lost"),
        }
    }
}

impl Trials {
    /// What is in use from now on is on trial; `sessions` have to stay. Where one runs already, that which was in use
    /// before it is still what to go back to.
    pub(super) fn begin(&mut self, before: Arc<Config>, until: Instant, sessions: BTreeSet<PeerId>) {
        let before = match std::mem::take(self) {
            Self::Running(trial) => trial.before,
            Self::Nothing | Self::Failed(_) => before,
        };
        *self = Self::Running(Trial { before, until, sessions });
    }

    /// It is good: whether there was one. What became of an earlier one is of no interest any more either.
    pub(super) fn confirm(&mut self) -> bool {
        matches!(std::mem::take(self), Self::Running(_))
    }

    /// When it has to have been confirmed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running(trial) => Some(trial.until),
            Self::Nothing | Self::Failed(_) => None,
        }
    }

    /// How much of its time is left.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline().map(|until| until.saturating_duration_since(now))
    }

    /// Its time is over: what to go back to.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Arc<Config>> {
        self.fail(now, Failure::NotConfirmed, |trial| trial.until <= now)
    }

    /// A session was lost: what to go back to, if that session was to stay.
    pub(super) fn lost(&mut self, peer: PeerId, name: &NeighborName, now: Instant) -> Option<Arc<Config>> {
        self.fail(now, Failure::SessionLost(name.clone()), |trial| trial.sessions.contains(&peer))
    }

    fn fail(
        &mut self,
        now: Instant,
        failure: Failure,
        has_failed: impl FnOnce(&Trial) -> bool,
    ) -> Option<Arc<Config>> {
        match self {
            Self::Running(trial) if has_failed(trial) => {
                let before = Arc::clone(&trial.before);
                *self = Self::Failed((now, failure));
                Some(before)
            }
            Self::Nothing | Self::Running(_) | Self::Failed(_) => None,
        }
    }

    /// What became of the last one, if that had to be left and nothing came after it.
    pub(super) fn failed(&self) -> Option<&(Instant, Failure)> {
        match self {
            Self::Failed(failed) => Some(failed),
            Self::Nothing | Self::Running(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    fn beginning() -> Instant {
        Instant::now()
    }

    fn configuration(asn: u32) -> Arc<Config> {
        let text = format!("[bgp]\nlocal-as = {asn}\nrouter-id = \"1.1.1.1\"\n");
        Arc::new(config::parse(&text, "test.toml").unwrap())
    }

    fn tor1() -> NeighborName {
        NeighborName::Interface("tor1".to_owned())
    }

    #[test]
    fn without_a_word_in_time_it_goes_back() {
        let (now, minute) = (beginning(), Duration::from_secs(60));
        let mut trials = Trials::default();
        assert!(trials.expired(now).is_none() && !trials.confirm());
        trials.begin(configuration(65001), now + minute, BTreeSet::new());
        assert_eq!(trials.left(now + minute / 4), Some(minute * 3 / 4));
        assert!(trials.expired(now + minute - Duration::from_nanos(1)).is_none());
        assert_eq!(trials.expired(now + minute), Some(configuration(65001)));
        assert_eq!(trials.failed(), Some(&(now + minute, Failure::NotConfirmed)));
        assert_eq!(trials.deadline(), None);

        // Another one is not taken for the one that failed.
        trials.begin(configuration(65001), now + minute * 3, BTreeSet::new());
        assert_eq!(trials.failed(), None);
        assert!(trials.confirm() && !trials.confirm());
    }

    #[test]
    fn only_a_session_that_was_to_stay_counts() {
        let now = beginning();
        let mut trials = Trials::default();
        trials.begin(configuration(65001), now + Duration::from_secs(60), [PeerId(1)].into());
        assert!(trials.lost(PeerId(2), &tor1(), now).is_none());
        assert_eq!(trials.lost(PeerId(1), &tor1(), now), Some(configuration(65001)));
        assert_eq!(trials.failed().unwrap().1.to_string(), "the session with tor1 was lost");
        assert!(trials.lost(PeerId(1), &tor1(), now).is_none(), "once");
    }

    #[test]
    fn a_second_trial_goes_back_to_before_the_first() {
        let now = beginning();
        let mut trials = Trials::default();
        trials.begin(configuration(65001), now + Duration::from_secs(60), [PeerId(1)].into());
        trials.begin(configuration(65002), now + Duration::from_secs(90), BTreeSet::new());
        assert!(trials.expired(now + Duration::from_secs(60)).is_none());
        assert!(trials.lost(PeerId(1), &tor1(), now).is_none());
        assert_eq!(trials.expired(now + Duration::from_secs(90)), Some(configuration(65001)));
    }

    #[test]
    fn a_good_one_stays() {
        let now = beginning();
        let mut trials = Trials::default();
        trials.begin(configuration(65001), now + Duration::from_secs(60), [PeerId(1)].into());
        assert!(trials.confirm());
        assert!(trials.lost(PeerId(1), &tor1(), now).is_none());
        assert!(trials.expired(now + Duration::from_secs(61)).is_none());
    }
}
