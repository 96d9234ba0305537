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

/// The one that is in use at present, where it is on trial, and what became of the last trial that failed.
#[derive(Debug, Default)]
pub(super) struct Trials {
    running: Option<Trial>,
    failed: Option<(Instant, Failure)>,
}

#[derive(Debug)]
struct Trial {
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
        let before = self.running.take().map_or(before, |trial| trial.before);
        self.failed = None;
        self.running = Some(Trial { before, until, sessions });
    }

    /// It is good: whether there was one.
    pub(super) fn confirm(&mut self) -> bool {
        self.failed = None;
        self.running.take().is_some()
    }

    /// When it has to have been confirmed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().map(|trial| trial.until)
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
        let trial = self.running.take_if(|trial| has_failed(trial))?;
        self.failed = Some((now, failure));
        Some(trial.before)
    }

    /// What became of the last one, if that had to be left and nothing came after it.
    pub(super) fn failed(&self) -> Option<&(Instant, Failure)> {
        self.failed.as_ref()
    }

    /// Somebody was told what became of it.
    pub(super) fn forget_failure(&mut self) {
        self.failed = None;
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
