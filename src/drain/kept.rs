//! What outlives the daemon: a crash must not bring a drained node back into use.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Drain, Drains, Order, Phase, Then};

/// The drains that were not taken back, in a form to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept<N> {
    node: Option<KeptDrain>,
    neighbors: Vec<(N, KeptDrain)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptDrain {
    wait_ms: u64,
    message: String,
    reached: Reached,
}

/// What a successor has to know of how far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reached {
    /// Its sessions will be told all over again.
    Sessions,
    /// There are none to come.
    End,
}

impl<N> Default for Kept<N> {
    fn default() -> Self {
        Self { node: None, neighbors: Vec::new() }
    }
}

impl<N> Kept<N> {
    /// For a daemon that ends drained: its node has left, and comes back with the next start.
    #[must_use]
    pub fn without_node(self) -> Self {
        Self { node: None, ..self }
    }
}

impl KeptDrain {
    fn of(drain: &Drain) -> Option<Self> {
        let reached = match drain.phase() {
            Phase::Returning => return None,
            Phase::Marking | Phase::Waiting | Phase::Withdrawing => Reached::Sessions,
            Phase::Ending | Phase::Drained => Reached::End,
        };
        let Order { wait, message, then: _ } = drain.order();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Some(Self { wait_ms, message: message.clone(), reached })
    }

    /// The one who wanted the daemon to end has to say so again: one that ends whenever it is started helps nobody.
    fn restored(self, now: Instant) -> Drain {
        let order =
            Order { wait: Duration::from_millis(self.wait_ms), then: Then::StayDown, message: self.message };
        match self.reached {
            Reached::Sessions => Drain::begin(order, now),
            Reached::End => Drain::drained(order, now),
        }
    }
}

impl<N: Ord + Clone> Drains<N> {
    /// What is to be written down.
    #[must_use]
    pub fn kept(&self) -> Kept<N> {
        let neighbor = |(neighbor, drain): (&N, &Drain)| Some((neighbor.clone(), KeptDrain::of(drain)?));
        Kept {
            node: self.node.as_ref().and_then(KeptDrain::of),
            neighbors: self.neighbors.iter().filter_map(neighbor).collect(),
        }
    }

    /// What a predecessor wrote down.
    #[must_use]
    pub fn restored(kept: Kept<N>, now: Instant) -> Self {
        let neighbors = kept.neighbors.into_iter().map(|(neighbor, drain)| (neighbor, drain.restored(now)));
        Self {
            node: kept.node.map(|drain| drain.restored(now)),
            neighbors: neighbors.collect(),
            ..Self::default()
        }
    }
}
