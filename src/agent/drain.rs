//! The hands of [`crate::drain`]: orders of the operator in, neighbors observed, and each neighbor's task told how its
//! neighbor is to be used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bgp::PeerId;
use bgp::message::{CeaseSubcode, Notification};
use bgp::net::{PeerCommand, RibHandle};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::neighbors::{self, NeighborName};
use super::{Agent, answers};
use crate::control::api;
use crate::drain::{
    Drain, Link, NotDrained, Observation, Order, Phase, RECEIVED_FILE, Scope, Then, Wanted, received_packets,
};

/// The RIB answers between two turns; one that takes longer has not told everybody everything either.
const OBSERVATION_LIMIT: Duration = Duration::from_secs(2);

/// Every neighbor that has a task.
pub(super) type Observations = BTreeMap<NeighborName, Observation>;

/// An order whose neighbor is known.
#[derive(Debug)]
pub(super) enum Command {
    Drain {
        scope: Scope<NeighborName>,
        wait: Duration,
        then: Then,
        message: Option<String>,
        reply: oneshot::Sender<Result<api::DrainBegun, api::Error>>,
    },
    Undrain {
        scope: Scope<NeighborName>,
        reply: oneshot::Sender<Result<api::Done, api::Error>>,
    },
}

impl Agent {
    pub(super) async fn drain_command(&mut self, command: Command) {
        match command {
            Command::Drain { scope, wait, then, message, reply } => {
                let begun = self.drain(scope, wait, then, message);
                self.follow_drains().await;
                // Whoever asked may have gone away.
                let _ = reply.send(Ok(begun));
            }
            Command::Undrain { scope, reply } => {
                let done = self.undrain(&scope).map_err(|error| answers::refused(&error));
                self.follow_drains().await;
                let _ = reply.send(done);
            }
        }
    }

    fn drain(
        &mut self,
        scope: Scope<NeighborName>,
        wait: Duration,
        then: Then,
        message: Option<String>,
    ) -> api::DrainBegun {
        let host = neighbors::hostname();
        let (neighbor, who) = match &scope {
            Scope::Node => (None, format!("{host} leaves for maintenance")),
            Scope::Neighbor(name) => {
                (Some(name.to_string()), format!("{host} leaves this neighbor for maintenance"))
            }
        };
        let subject =
            neighbor.as_ref().map_or_else(|| "the node".to_owned(), |name| format!("neighbor {name}"));
        info!(subject, ?wait, ?then, "drain ordered");
        let earlier = self.drains.of(&scope).filter(|drain| drain.phase() != Phase::Returning);
        let earlier = earlier.map(|drain| drain.order().message.clone());
        // Words that somebody has found are better than those that stand for none.
        let words = message.clone().or_else(|| earlier.clone()).unwrap_or(who);
        self.drains.drain(scope.clone(), Order { wait, then, message: words }, Instant::now());
        let begun = self.drains.of(&scope).map(|drain| {
            let words = Words { wanted: message, earlier, used: drain.order().message.clone() };
            format!("{subject} {}{}", outlook(drain.phase(), wait), words.remark())
        });
        api::DrainBegun { neighbor, message: begun.unwrap_or(subject) }
    }

    fn undrain(&mut self, scope: &Scope<NeighborName>) -> Result<api::Done, Refusal> {
        let drained: Vec<String> = self.drains.neighbors().map(|(name, _)| name.to_string()).collect();
        let refusal = |NotDrained| match scope {
            Scope::Neighbor(name) => Refusal::Neighbor(name.clone()),
            Scope::Node if drained.is_empty() => Refusal::Node,
            Scope::Node => Refusal::NeighborsOnly(drained.join(", ")),
        };
        self.drains.undrain(scope, Instant::now()).map_err(refusal)?;
        let message = match scope {
            Scope::Node => "the node comes back".to_owned(),
            Scope::Neighbor(name) if self.drains.node().is_some() => {
                format!("neighbor {name} is drained with the node only")
            }
            Scope::Neighbor(name) => format!("neighbor {name} comes back"),
        };
        info!(message, "drain taken back");
        let details = match scope {
            Scope::Node => drained.iter().map(|name| format!("neighbor {name} stays drained")).collect(),
            Scope::Neighbor(_) => Vec::new(),
        };
        Ok(api::Done { message, details })
    }

    /// When neighbors are to be looked at; not while somebody looks.
    pub(super) fn observation_due(&self) -> Option<Instant> {
        self.drains.poll_deadline().filter(|_| self.observing.is_empty())
    }

    /// Has somebody look at every neighbor.
    pub(super) fn begin_observation(&mut self) {
        let interfaces = self.interfaces.borrow().clone();
        let neighbor = |(name, neighbor): (&NeighborName, &super::Neighbor)| {
            let interface =
                neighbors::interface_of(name, &interfaces).map(|interface| interface.name.clone());
            (name.clone(), neighbor.peer.id, interface)
        };
        let neighbors = self.neighbors.iter().map(neighbor).collect();
        self.observing.spawn(observe(self.rib.clone(), neighbors));
    }

    /// Takes in what was seen. The machine's clock is the agent's, whatever happened meanwhile.
    pub(super) async fn observed(&mut self, seen: Observations) {
        let phases = |agent: &Self| -> Vec<(String, Phase)> {
            let neighbors =
                agent.drains.neighbors().map(|(name, drain)| (format!("neighbor {name}"), drain.phase()));
            let node = agent.drains.node().map(|drain| ("the node".to_owned(), drain.phase()));
            node.into_iter().chain(neighbors).collect()
        };
        let before = phases(self);
        self.drains.observe(&seen, Instant::now());
        for (subject, phase) in phases(self) {
            if !before.contains(&(subject.clone(), phase)) {
                info!(subject, ?phase, "drain goes on");
            }
        }
        self.follow_drains().await;
    }

    /// Writes the drains down, and tells each neighbor's task how it is to be used, where that has changed.
    pub(super) async fn follow_drains(&mut self) {
        self.kept_drains.follow(&self.drains);
        for (name, neighbor) in &mut self.neighbors {
            let wanted = self.drains.wanted(name);
            let commands = match (&neighbor.used, &wanted) {
                (now, wanted) if now == wanted => continue,
                (Wanted::Session(_), Wanted::Session(maintenance)) => {
                    vec![PeerCommand::Maintain(*maintenance)]
                }
                (Wanted::Session(_), Wanted::NoSession(message)) => {
                    // RFC 9003 section 2.
                    let cease = Notification::shutdown(CeaseSubcode::AdministrativeShutdown, message);
                    vec![PeerCommand::Disable(cease)]
                }
                (Wanted::NoSession(_), Wanted::Session(maintenance)) => {
                    vec![PeerCommand::Maintain(*maintenance), PeerCommand::Enable]
                }
                (Wanted::NoSession(_), Wanted::NoSession(_)) => Vec::new(),
            };
            for command in commands {
                neighbor.peer.send(command).await;
            }
            neighbor.used = wanted;
        }
        self.watch_as_used();
    }
}

/// What an order leads to, where it meets a drain in this phase.
fn outlook(phase: Phase, wait: Duration) -> String {
    match phase {
        Phase::Returning | Phase::Marking | Phase::Waiting => {
            format!("is being drained; traffic is waited for {} s at most", wait.as_secs_f64())
        }
        Phase::Withdrawing | Phase::Ending => {
            "is being drained already; traffic is no longer waited for".to_owned()
        }
        Phase::Drained => "is drained already".to_owned(),
    }
}

/// What neighbors are told at the end.
struct Words {
    /// As the order has them.
    wanted: Option<String>,
    /// As an order before it had them.
    earlier: Option<String>,
    /// As they are now.
    used: String,
}

impl Words {
    /// What became of somebody's words, where they are not used.
    fn remark(&self) -> String {
        let Self { wanted, earlier, used } = self;
        match (wanted, earlier) {
            (Some(wanted), _) if wanted != used => format!("; neighbors were told {used:?}, not {wanted:?}"),
            (Some(_), Some(earlier)) if earlier != used => {
                format!("; neighbors will be told {used:?} instead of {earlier:?}")
            }
            (Some(_) | None, Some(_) | None) => String::new(),
        }
    }
}

/// Why a drain cannot be taken back.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("neighbor {0} is not drained")]
    Neighbor(NeighborName),
    #[error("nothing is drained")]
    Node,
    #[error("the node is not drained, these neighbors are: {0} (undrain --neighbor)")]
    NeighborsOnly(String),
}

/// Each neighbor's session as the RIB knows it, and its interface's counter.
async fn observe(rib: RibHandle, neighbors: Vec<(NeighborName, PeerId, Option<String>)>) -> Observations {
    let peers: Vec<PeerId> = neighbors.iter().map(|(_, peer, _)| *peer).collect();
    let question = rib.ask(move |rib| peers.into_iter().map(|peer| link(rib, peer)).collect::<Vec<_>>());
    let links = match tokio::time::timeout(OBSERVATION_LIMIT, question).await {
        Ok(Ok(links)) => links,
        Ok(Err(_)) | Err(_) => {
            debug!("no word of the RIB about the sessions");
            vec![Link::Telling; neighbors.len()]
        }
    };
    let text = std::fs::read_to_string(RECEIVED_FILE).unwrap_or_else(|error| {
        warn!(%error, file = RECEIVED_FILE, "no receive counters: the drain goes by time alone");
        String::new()
    });
    let counters = received_packets(&text);
    let observation = |((name, _, interface), link): ((_, _, Option<String>), Link)| {
        let received = interface.and_then(|interface| counters.get(interface.as_str()).copied());
        (name, Observation { link, received })
    };
    neighbors.into_iter().zip(links).map(observation).collect()
}

fn link(rib: &bgp::rib::Rib, peer: PeerId) -> Link {
    match rib.maintained(peer) {
        Some(maintenance) => Link::Told(maintenance),
        None if rib.has_session(peer) => Link::Telling,
        None => Link::Down,
    }
}

/// A drain in the words of the control API.
pub(super) fn progress(drain: &Drain, now: Instant) -> api::DrainProgress {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let ago = |at: Instant| ms(now.saturating_duration_since(at));
    let step = |(phase, at): &(Phase, Instant)| api::DrainStep { state: state(*phase), ago_ms: ago(*at) };
    api::DrainProgress {
        state: state(drain.phase()),
        since_ms: ago(drain.since()),
        time_left_ms: drain.time_left(now).map(ms),
        stops: drain.order().then == Then::Stop,
        message: drain.order().message.clone(),
        steps: drain.steps().iter().map(step).collect(),
    }
}

fn state(phase: Phase) -> api::DrainState {
    match phase {
        Phase::Returning => api::DrainState::Returning,
        Phase::Marking => api::DrainState::Marking,
        Phase::Waiting => api::DrainState::Waiting,
        Phase::Withdrawing => api::DrainState::Withdrawing,
        Phase::Ending => api::DrainState::Ending,
        Phase::Drained => api::DrainState::Drained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_not_used_are_named() {
        for (wanted, earlier, used, remark) in [
            (None, None, "c1 leaves", ""),
            (Some("disk"), None, "disk", ""),
            (None, Some("disk"), "disk", ""),
            (Some("disk"), Some("disk"), "disk", ""),
            (Some("fan"), Some("disk"), "fan", "; neighbors will be told \"fan\" instead of \"disk\""),
            (Some("fan"), Some("disk"), "disk", "; neighbors were told \"disk\", not \"fan\""),
        ] {
            let words = Words {
                wanted: wanted.map(str::to_owned),
                earlier: earlier.map(str::to_owned),
                used: used.to_owned(),
            };
            assert_eq!(words.remark(), remark, "{wanted:?} after {earlier:?}");
        }
    }
}
