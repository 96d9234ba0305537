//! Whether this node is fit for pods: whether the fabric reaches it, and it the fabric.
//!
//! [`Readiness`] is a machine without a clock. In: what is seen of sessions and routes ([`Facts`]), with the time, about once
//! a second. Out: what Kubernetes is to be told ([`Told`]) and what `/readyz` says ([`Report`]). It knows since when each
//! neighbor has had no session, since a person who reads the reason wants to know that first.
//!
//! Good news counts at once. Bad news counts once it has lasted: a flap, and a restart of the daemon, is nobody's business.
//! Until then nothing is said, so that whatever Kubernetes knows stays as it is: above all the taint that a node starts with.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bgp::Prefix;
use jiff::Timestamp;

use crate::config;

pub(crate) use words::rfc3339;
pub use words::{READY, Words};

/// What was seen, all of it at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Every neighbor, by name.
    pub uplinks: BTreeMap<String, Uplink>,
    /// Of the routes that are required by name, those that a neighbor tells of.
    pub learned: BTreeSet<Prefix>,
    /// What of this node has to come back where an echo is required: the blocks that it announces now; of a node that has
    /// none yet, the addresses of its loopback interface. Without pods Calico gives a node no block, and without an echo the
    /// node would get no pods.
    pub own: BTreeSet<Prefix>,
    /// Of these, those that a neighbor has sent back in the session that it has now.
    pub echoed: BTreeSet<Prefix>,
}

/// One neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink {
    /// Its session.
    pub session: Session,
    /// How many routes of it are believed; those of a session that was lost count while they are in use.
    pub accepted: u32,
}

/// Whether there is a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Established.
    Up,
    /// Anything else.
    Down,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For durations.
    pub instant: Instant,
    /// For people.
    pub wall: Timestamp,
}

/// What is wanted and does not hold. The order is that of how much is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Too few sessions are established.
    Uplinks {
        /// How many are.
        up: usize,
        /// How many should be.
        required: usize,
        /// The other neighbors, each with the time since which it has had no session.
        down: Vec<(String, Timestamp)>,
    },
    /// Nobody tells of any route.
    AnyRoute,
    /// Nobody tells of these routes.
    Routes(Vec<Prefix>),
    /// Nobody sends these back, which this node announces; none where it announces nothing that could be.
    Echo(Vec<Prefix>),
}

/// What Kubernetes is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Told {
    /// Nothing: what it knows stays as it is.
    #[default]
    Nothing,
    /// The node is fit.
    Ready(Words),
    /// It is not, and has not been for long enough.
    NotReady(Words),
    /// Nobody looks any more: what was told before is taken back, and nothing is told after it.
    Unwatched,
}

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not fit since the start, which is not long ago.
    Starting,
    /// Fit.
    Ready,
    /// Not fit, for too short a time to count.
    Doubtful,
    /// Not fit for long.
    Isolated,
}

/// What is to be said to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How far it is.
    pub stage: Stage,
    /// What holds at present; where that is too new to count, it is what is lacking nevertheless.
    pub words: Words,
}

/// See the module.
#[derive(Debug)]
pub struct Readiness {
    settings: config::Readiness,
    phase: Phase,
    /// Neighbors without a session, since when.
    down_since: BTreeMap<String, Timestamp>,
    /// As seen last; empty where all is well.
    lacks: Vec<Lack>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Starting { since: Instant },
    Ready,
    Doubtful { since: Instant },
    Isolated { words: Words, said: Instant },
}

impl Readiness {
    /// Of a node that has just started.
    #[must_use]
    pub fn new(settings: config::Readiness, now: Instant) -> Self {
        let lacks = vec![Lack::Uplinks { up: 0, required: settings.uplinks.into(), down: Vec::new() }];
        Self { settings, phase: Phase::Starting { since: now }, down_since: BTreeMap::new(), lacks }
    }

    /// Counts from the next look on.
    pub fn configure(&mut self, settings: config::Readiness) {
        self.settings = settings;
    }

    /// Takes in what was seen.
    pub fn observe(&mut self, facts: &Facts, now: Now) {
        self.note_sessions(facts, now.wall);
        self.lacks = self.lacks_of(facts);
        let isolated_for = self.settings.isolated_for;
        let is_long = |since: Instant| now.instant.saturating_duration_since(since) >= isolated_for;
        let words = Words::of_lacks(&self.lacks);
        let isolated = |words| Phase::Isolated { words, said: now.instant };
        let next = match (&self.phase, words) {
            (_, None) => Phase::Ready,
            (Phase::Ready, Some(_)) => Phase::Doubtful { since: now.instant },
            (Phase::Starting { since } | Phase::Doubtful { since }, Some(words)) if is_long(*since) => {
                isolated(words)
            }
            // A session that comes and goes meanwhile is not to be told of each time.
            (Phase::Isolated { words: before, said }, Some(words)) if words != *before && is_long(*said) => {
                isolated(words)
            }
            (Phase::Starting { .. } | Phase::Doubtful { .. } | Phase::Isolated { .. }, Some(_)) => return,
        };
        self.phase = next;
    }

    /// What Kubernetes is to be told.
    #[must_use]
    pub fn told(&self) -> Told {
        match &self.phase {
            Phase::Starting { .. } | Phase::Doubtful { .. } => Told::Nothing,
            Phase::Ready => Told::Ready(Words::of_ready(&self.settings)),
            Phase::Isolated { words, said: _ } => Told::NotReady(words.clone()),
        }
    }

    /// What everybody else is told.
    #[must_use]
    pub fn report(&self) -> Report {
        let stage = match self.phase {
            Phase::Starting { .. } => Stage::Starting,
            Phase::Ready => Stage::Ready,
            Phase::Doubtful { .. } => Stage::Doubtful,
            Phase::Isolated { .. } => Stage::Isolated,
        };
        let words = Words::of_lacks(&self.lacks).unwrap_or_else(|| Words::of_ready(&self.settings));
        Report { stage, words }
    }

    /// The routes that have to be looked for.
    #[must_use]
    pub fn required_routes(&self) -> BTreeSet<Prefix> {
        match &self.settings.routes {
            config::RequiredRoutes::Any => BTreeSet::new(),
            config::RequiredRoutes::Each(routes) => routes.clone(),
        }
    }

    fn note_sessions(&mut self, facts: &Facts, wall: Timestamp) {
        let is_down = |name: &String| {
            facts.uplinks.get(name).is_some_and(|uplink| match uplink.session {
                Session::Up => false,
                Session::Down => true,
            })
        };
        self.down_since.retain(|name, _| is_down(name));
        for name in facts.uplinks.keys().filter(|name| is_down(name)) {
            self.down_since.entry(name.clone()).or_insert(wall);
        }
    }

    fn lacks_of(&self, facts: &Facts) -> Vec<Lack> {
        let required = usize::from(self.settings.uplinks);
        let up = facts.uplinks.len().saturating_sub(self.down_since.len());
        let mut lacks = Vec::new();
        if up < required {
            let down = self.down_since.iter().map(|(name, &since)| (name.clone(), since)).collect();
            lacks.push(Lack::Uplinks { up, required, down });
        }
        lacks.extend(match &self.settings.routes {
            config::RequiredRoutes::Any => {
                let has_some = facts.uplinks.values().any(|uplink| uplink.accepted > 0);
                (!has_some).then_some(Lack::AnyRoute)
            }
            config::RequiredRoutes::Each(routes) => {
                let missing: Vec<Prefix> = routes.difference(&facts.learned).copied().collect();
                (!missing.is_empty()).then_some(Lack::Routes(missing))
            }
        });
        if self.settings.echo {
            // Each one: pods of a block that the ToRs refuse are not reached, whatever becomes of the other blocks.
            let missing: Vec<Prefix> = facts.own.difference(&facts.echoed).copied().collect();
            if facts.own.is_empty() || !missing.is_empty() {
                lacks.push(Lack::Echo(missing));
            }
        }
        lacks
    }

    /// Whether somebody has to look for what comes back.
    #[must_use]
    pub fn requires_echo(&self) -> bool {
        self.settings.echo
    }
}
