//! The hands of [`crate::readiness`]: sessions and routes looked at once a second, and what follows from it passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bgp::net::RibHandle;
use bgp::rib::{Originator, PathSource, PathStatus, Rib};
use bgp::{Family, PeerId, Prefix};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::Agent;
use super::origin::Origin;
use crate::config::Config;
use crate::readiness::{Facts, Now, Readiness, Report, Session, Stage, Told, Uplink};

/// Between two looks. Each one takes the RIB some microseconds for each neighbor.
const INTERVAL: Duration = Duration::from_secs(1);
/// The RIB answers between two turns. Without an answer what was seen before goes on to count.
const LIMIT: Duration = Duration::from_secs(2);

/// The machine, and whoever looks at what it is about.
pub(super) struct Fitness {
    machine: Readiness,
    told: watch::Sender<Told>,
    due: Instant,
    /// One at most.
    looking: JoinSet<Option<Facts>>,
}

impl Fitness {
    pub(super) fn new(config: &Config, told: watch::Sender<Told>) -> Self {
        let now = Instant::now();
        let settings = config.readiness.clone().unwrap_or_default();
        Self { machine: Readiness::new(settings, now), told, due: now, looking: JoinSet::new() }
    }

    pub(super) fn configure(&mut self, config: &Config) {
        self.machine.configure(config.readiness.clone().unwrap_or_default());
    }

    pub(super) fn report(&self) -> Report {
        self.machine.report()
    }

    /// When to look again; not while somebody looks.
    pub(super) fn due(&self) -> Option<Instant> {
        self.looking.is_empty().then_some(self.due)
    }

    /// What was seen. Pending while nobody looks; cancel-safe.
    pub(super) async fn seen(&mut self) -> Option<Facts> {
        match self.looking.join_next().await {
            // One that fails is made up for by the next.
            Some(seen) => seen.ok().flatten(),
            None => std::future::pending().await,
        }
    }

    /// Takes in what was seen.
    pub(super) fn observe(&mut self, facts: &Facts) {
        let before = self.machine.report().stage;
        self.machine.observe(facts, Now { instant: Instant::now(), wall: Timestamp::now() });
        let Report { stage, words } = self.machine.report();
        match (before, stage) {
            (before, stage) if before == stage => {}
            (_, Stage::Isolated) => {
                warn!(reason = words.reason, words.message, "this node is not ready for pods")
            }
            (_, Stage::Ready) => info!(words.message, "this node is ready for pods"),
            (_, Stage::Starting | Stage::Doubtful) => {
                debug!(reason = words.reason, words.message, "perhaps not ready for pods");
            }
        }
        let told = self.machine.told();
        self.told.send_if_modified(|now| {
            let has_changed = *now != told;
            if has_changed {
                *now = told;
            }
            has_changed
        });
    }

    pub(super) fn stop(&mut self) {
        self.looking.abort_all();
    }
}

impl Agent {
    /// Has somebody look at sessions and routes.
    pub(super) fn look_at_fitness(&mut self) {
        let neighbors = self.neighbors.iter().map(|(name, neighbor)| (name.to_string(), neighbor.peer.id));
        let neighbors: BTreeMap<String, PeerId> = neighbors.collect();
        let required = self.fitness.machine.required_routes();
        let own = if self.fitness.machine.requires_echo() { own(&self.origin) } else { BTreeSet::new() };
        self.fitness.due = Instant::now() + INTERVAL;
        self.fitness.looking.spawn(look(self.rib.clone(), neighbors, required, own));
    }
}

/// What has to come back: blocks, and without any of them the loopback's addresses. Services and borrowed addresses come and
/// go, and say nothing of the blocks.
fn own(origin: &Origin) -> BTreeSet<Prefix> {
    let of = |is_meant: fn(Originator) -> bool| -> BTreeSet<Prefix> {
        let announced = origin.announced.iter().filter(|(_, origination)| is_meant(origination.by));
        announced.map(|(&prefix, _)| prefix).collect()
    };
    let blocks = of(|by| match by {
        Originator::StaticBlock | Originator::NodeBlock | Originator::CalicoBlock => true,
        Originator::Loopback | Originator::Service | Originator::BorrowedAddress => false,
    });
    if blocks.is_empty() { of(|by| by == Originator::Loopback) } else { blocks }
}

async fn look(
    rib: RibHandle,
    neighbors: BTreeMap<String, PeerId>,
    required: BTreeSet<Prefix>,
    own: BTreeSet<Prefix>,
) -> Option<Facts> {
    let question = rib.ask(move |rib| Facts {
        uplinks: neighbors.into_iter().map(|(name, peer)| (name, uplink(rib, peer))).collect(),
        learned: required.into_iter().filter(|prefix| is_learned(rib, *prefix)).collect(),
        echoed: own.iter().copied().filter(|&prefix| !rib.echoes(prefix).is_empty()).collect(),
        own,
    });
    match tokio::time::timeout(LIMIT, question).await {
        Ok(Ok(facts)) => Some(facts),
        Ok(Err(_)) | Err(_) => {
            debug!("no word of the RIB about sessions and routes");
            None
        }
    }
}

fn uplink(rib: &Rib, peer: PeerId) -> Uplink {
    let session = if rib.has_session(peer) { Session::Up } else { Session::Down };
    let counts: Vec<_> = Family::ALL.into_iter().filter_map(|family| rib.counts(peer, family)).collect();
    Uplink { session, accepted: counts.iter().map(|counts| counts.accepted).sum() }
}

/// Whether a neighbor tells of it, and is believed.
fn is_learned(rib: &Rib, prefix: Prefix) -> bool {
    let paths = rib.destination(prefix).map(|destination| destination.paths).unwrap_or_default();
    paths.iter().any(|path| match (path.source, path.status) {
        (PathSource::Originated(_), _) | (_, PathStatus::Refused(_) | PathStatus::Echo) => false,
        (PathSource::Peer(_), PathStatus::Best | PathStatus::Multipath | PathStatus::NotSelected(_)) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_to_come_back_or_without_any_the_loopback() {
        let origin = |announced: &[(&str, Originator)]| Origin {
            announced: announced.iter().map(|&(prefix, by)| (prefix.parse().unwrap(), by.into())).collect(),
            ..Origin::default()
        };
        let shown = |announced: &[(&str, Originator)]| {
            own(&origin(announced)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let others = [
            ("1.1.1.1/32", Originator::Loopback),
            ("10.1.9.7/32", Originator::BorrowedAddress),
            ("192.0.2.0/24", Originator::Service),
        ];
        let blocks = [
            ("10.1.8.0/26", Originator::StaticBlock),
            ("10.1.8.64/26", Originator::NodeBlock),
            ("10.1.8.128/26", Originator::CalicoBlock),
        ];
        assert_eq!(
            shown(&[&others[..], &blocks[..]].concat()),
            ["10.1.8.0/26", "10.1.8.64/26", "10.1.8.128/26"]
        );
        assert_eq!(shown(&others), ["1.1.1.1/32"]);
        assert_eq!(shown(&others[1..]), [] as [&str; 0]);
    }
}
