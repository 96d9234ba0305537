//! Drain: how a node, or one of its uplinks, leaves the fabric without losing a packet. Pure: no clock, no task.
//!
//! Owns which scopes (the node, single neighbors) are being drained and how far each is. In: orders of the operator,
//! and [`Observation`]s of every neighbor, wanted at [`Drains::poll_deadline`]. Out: how each neighbor is to be used
//! ([`Drains::wanted`]), as a state to be reconciled and not as commands, and whether the daemon is to end.
//!
//! ```text
//!             all told          quiet, or time is up      told, and some time     sessions ended
//!   Marking ------------> Waiting ---------------> Withdrawing ----------> Ending -----------> Drained
//!      |                     time is up                  ^
//!      +-------------------------------------------------+
//! ```
//! Taken back, a drain that has withdrawn anything is Returning for a while: sessions again, still marked.
//!
//! Marking and Waiting: routes are told with GRACEFUL_SHUTDOWN and prepended (RFC 8326 section 4); where a neighbor alone
//! is drained, what it says comes last, so that both directions leave it. A drained node goes on using its routes for what
//! it sends. Withdrawing: its own routes are withdrawn, sessions stay, packets under way are taken in. Ending: Cease,
//! Administrative Shutdown, with the operator's words (RFC 9003). Drained: no session until the drain is taken back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod kept;
mod progress;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bgp::policy::{Inbound, Maintenance, Outbound};

pub use kept::Kept;
pub use progress::{Drain, Phase};
pub use traffic::{RECEIVED_FILE, received_packets};

use progress::{Outlook, Verdict};
use traffic::Traffic;

/// How often a path is prepended, for neighbors that do not know the community: longer than any detour of a fabric.
pub const PREPENDS: u8 = 3;
/// Between two observations while something is on its way.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// What is drained. Scopes are independent: a neighbor is used as the further one of its two says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<N> {
    /// Every neighbor.
    Node,
    /// This one alone.
    Neighbor(N),
}

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// From the order on; traffic that is still there then is not waited for.
    pub wait: Duration,
    /// What comes after it.
    pub then: Then,
    /// For the operator of the other end, at most 255 octets are sent.
    pub message: String,
}

/// What follows a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The daemon stays, without sessions.
    StayDown,
    /// The daemon ends. For the node only.
    Stop,
}

/// One neighbor as it is now. One that is not observed does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Whether it has a session.
    pub link: Link,
    /// Packets that its interface ever received, where it is known which that is.
    pub received: Option<u64>,
}

/// A neighbor's session, as the RIB knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// None: nothing to be told, no route that leads here.
    Down,
    /// One that has not been told everything yet.
    Telling,
    /// One that has been told all that follows from being used in this way.
    Told(Maintenance),
}

/// How a neighbor is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// With a session, in this way.
    Session(Maintenance),
    /// Without; this is the message that ends it.
    NoSession(String),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Session(Maintenance::default())
    }
}

/// There is no such drain to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not drained")]
pub struct NotDrained;

/// All drains. `N` names a neighbor.
#[derive(Debug, Clone)]
pub struct Drains<N> {
    node: Option<Drain>,
    neighbors: BTreeMap<N, Drain>,
    traffic: BTreeMap<N, Traffic>,
    observed: Option<Instant>,
}

impl<N> Default for Drains<N> {
    fn default() -> Self {
        Self { node: None, neighbors: BTreeMap::new(), traffic: BTreeMap::new(), observed: None }
    }
}

impl<N: Ord + Clone> Drains<N> {
    /// Begins a drain. One that is under way goes on with the new order: its time counts from now, and what was to
    /// follow it does so still.
    pub fn drain(&mut self, scope: Scope<N>, order: Order, now: Instant) {
        let under_way = match &scope {
            Scope::Node => self.node.as_mut(),
            Scope::Neighbor(neighbor) => self.neighbors.get_mut(neighbor),
        };
        match (under_way, scope) {
            (Some(drain), _) => drain.renew(order, now),
            (None, Scope::Node) => self.node = Some(Drain::begin(order, now)),
            (None, Scope::Neighbor(neighbor)) => {
                self.neighbors.insert(neighbor, Drain::begin(order, now));
            }
        }
    }

    /// Takes a drain back, however far it is.
    ///
    /// # Errors
    /// [`NotDrained`]
    pub fn undrain(&mut self, scope: &Scope<N>, now: Instant) -> Result<(), NotDrained> {
        let drain = match scope {
            Scope::Node => self.node.as_mut(),
            Scope::Neighbor(neighbor) => self.neighbors.get_mut(neighbor),
        };
        match (drain.ok_or(NotDrained)?.take_back(now), scope) {
            (Outlook::GoesOn, _) => {}
            (Outlook::Over, Scope::Node) => self.node = None,
            (Outlook::Over, Scope::Neighbor(neighbor)) => _ = self.neighbors.remove(neighbor),
        }
        Ok(())
    }

    /// Forgets the drains of neighbors that nothing speaks of any more.
    pub fn retain_neighbors(&mut self, mut is_known: impl FnMut(&N) -> bool) {
        self.neighbors.retain(|neighbor, _| is_known(neighbor));
    }

    /// When the next observation is wanted; `None` while nothing is on its way.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        let next =
            self.under_way().map(|drain| self.observed.map_or(drain.since(), |at| at + SAMPLE_INTERVAL));
        next.min()
    }

    /// Takes in every neighbor as it is now. Each drain goes at most one step: what a step changes has not been seen
    /// yet.
    pub fn observe(&mut self, neighbors: &BTreeMap<N, Observation>, now: Instant) {
        self.observed = Some(now);
        self.traffic.retain(|neighbor, _| neighbors.contains_key(neighbor));
        for (neighbor, observation) in neighbors {
            self.traffic.entry(neighbor.clone()).or_default().sample(observation.received, now);
        }
        let of_node = neighbors.keys().map(|neighbor| self.verdict(neighbor, neighbors)).sum();
        let of_each: Vec<Verdict> =
            self.neighbors.keys().map(|neighbor| self.verdict(neighbor, neighbors)).collect();
        self.node.take_if(|node| node.advance(of_node, now) == Outlook::Over);
        // In the order of the keys, as the verdicts are.
        let mut verdicts = of_each.into_iter();
        self.neighbors.retain(|_, drain| match verdicts.next() {
            Some(verdict) => drain.advance(verdict, now) == Outlook::GoesOn,
            None => true,
        });
    }

    fn verdict(&self, neighbor: &N, observed: &BTreeMap<N, Observation>) -> Verdict {
        let link = observed.get(neighbor).map_or(Link::Down, |observation| observation.link);
        let is_told = match (link, self.wanted(neighbor)) {
            (Link::Down, _) | (_, Wanted::NoSession(_)) => true,
            (Link::Telling, Wanted::Session(_)) => false,
            (Link::Told(told), Wanted::Session(wanted)) => told == wanted,
        };
        let is_down = link == Link::Down;
        let is_quiet = is_down || self.traffic.get(neighbor).is_some_and(Traffic::is_quiet);
        Verdict { is_told, is_quiet, is_down }
    }

    /// How a neighbor is to be used, whether it exists or not.
    #[must_use]
    pub fn wanted(&self, neighbor: &N) -> Wanted {
        let (node, own) = (self.node.as_ref(), self.neighbors.get(neighbor));
        if let Some(drain) = [own, node].into_iter().flatten().find(|drain| drain.phase() >= Phase::Ending) {
            return Wanted::NoSession(drain.order().message.clone());
        }
        let furthest = node.into_iter().chain(own).map(Drain::phase).max();
        let outbound = match furthest {
            None => Outbound::Plain,
            Some(Phase::Returning | Phase::Marking | Phase::Waiting) => {
                Outbound::Marked { prepends: PREPENDS }
            }
            Some(Phase::Withdrawing | Phase::Ending | Phase::Drained) => Outbound::Withdrawn,
        };
        // Where the whole node is drained there is no other neighbor to prefer.
        let inbound = if own.is_some() { Inbound::Last } else { Inbound::Plain };
        Wanted::Session(Maintenance { outbound, inbound })
    }

    /// Whether the node is drained and the daemon is to end.
    #[must_use]
    pub fn is_to_stop(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| node.phase() == Phase::Drained && node.order().then == Then::Stop)
    }

    /// The drain of a scope itself: of a neighbor alone, or of the node.
    #[must_use]
    pub fn of(&self, scope: &Scope<N>) -> Option<&Drain> {
        match scope {
            Scope::Node => self.node(),
            Scope::Neighbor(neighbor) => self.neighbor(neighbor),
        }
    }

    /// The drain of the node.
    #[must_use]
    pub fn node(&self) -> Option<&Drain> {
        self.node.as_ref()
    }

    /// The drains of single neighbors.
    pub fn neighbors(&self) -> impl Iterator<Item = (&N, &Drain)> {
        self.neighbors.iter()
    }

    /// The drain of a neighbor alone.
    #[must_use]
    pub fn neighbor(&self, neighbor: &N) -> Option<&Drain> {
        self.neighbors.get(neighbor)
    }

    /// Packets that a neighbor's interface receives in a second, where that is looked at.
    #[must_use]
    pub fn received_per_s(&self, neighbor: &N) -> Option<u64> {
        self.under_way().next()?;
        self.traffic.get(neighbor)?.per_s()
    }

    fn under_way(&self) -> impl Iterator<Item = &Drain> {
        self.node.iter().chain(self.neighbors.values()).filter(|drain| drain.phase() != Phase::Drained)
    }
}
