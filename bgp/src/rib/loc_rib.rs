//! The turns of the RIB: deciding for what changed, sweeping what is dead, walking for a full announcement.
//!
//! Each turn looks at one prefix, so that [`Rib::process`] can stop after any of them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::adj_rib_out::Cause;
use super::decision::{self, Candidate, Source, Standing, Standings};
use super::peer::Peer;
use super::table::{Destination, Path, Timing, Verdict};
use super::{Gateway, Gateways, Rib};
use crate::message::Attributes;
use crate::policy::{Outbound, Role, Route, Target, marked, permits, rewrite, usable_gateway};
use crate::{Family, PeerId, Prefix};

/// The walk over the table that takes out dead paths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Sweep {
    #[default]
    Resting,
    /// The table up to and including `after` is done.
    Running { after: Option<Prefix>, next: NextRound },
}

/// What comes when a sweep is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextRound {
    NotNeeded,
    /// Paths died behind the sweep.
    Needed,
}

impl Sweep {
    /// Everything that is dead by now will be swept.
    pub(crate) fn request(&mut self) {
        *self = match *self {
            Self::Resting => Self::Running { after: None, next: NextRound::NotNeeded },
            Self::Running { after, .. } => Self::Running { after, next: NextRound::Needed },
        };
    }
}

/// One eligible path of a prefix.
pub(crate) struct Contender<'a> {
    pub(crate) source: Source,
    pub(crate) imported: &'a Arc<Attributes>,
}

/// What the decision comes to.
#[derive(Default)]
struct Outcome {
    best: Option<BestRoute>,
    /// Empty where there is no path or the best one is our own.
    gateways: Gateways,
}

/// The best route of a prefix, for those who are to be told.
struct BestRoute {
    route: Route,
    attributes: Arc<Attributes>,
}

impl Contender<'_> {
    fn as_best_route(&self) -> BestRoute {
        let route = match self.source {
            Source::Local => Route::Originated,
            Source::Peer { peer, kind, .. } => Route::Learned { peer, kind },
        };
        BestRoute { route, attributes: Arc::clone(self.imported) }
    }
}

impl Rib {
    /// Decides for one prefix that changed; false when there is none.
    pub(super) fn decide_next(&mut self) -> bool {
        let Some(prefix) = self.table.take_dirty() else {
            return false;
        };
        self.forget_dead(prefix);
        self.decide(prefix);
        true
    }

    /// Sweeps one prefix; false when the sweep rests.
    pub(super) fn sweep_next(&mut self) -> bool {
        let Sweep::Running { after, next } = self.sweep else {
            return false;
        };
        let found = self.table.behind(after).next().map(|(prefix, _)| prefix);
        self.sweep = match (found, next) {
            (Some(prefix), next) => {
                if self.forget_dead(prefix) {
                    self.decide(prefix);
                }
                Sweep::Running { after: Some(prefix), next }
            }
            (None, NextRound::Needed) => Sweep::Running { after: None, next: NextRound::NotNeeded },
            (None, NextRound::NotNeeded) => {
                self.retired.clear();
                self.attributes.note_mass_release();
                self.gateways.note_mass_release();
                Sweep::Resting
            }
        };
        true
    }

    /// Looks at one prefix for a full announcement; false when there is none to make.
    pub(super) fn announce_next(&mut self) -> bool {
        let Some(&(id, family)) = self.announcing.first() else {
            return false;
        };
        let walk = self.peers.get(&id).and_then(|peer| peer.adj_rib_out.walk(family));
        let Some((after, cause)) = walk else {
            self.announcing.remove(&(id, family));
            return true;
        };
        let next = match cause {
            Cause::Changed => self.next_to_announce(family, after),
            // Also what is about to be withdrawn: were it passed over and then come back, EoRR would take it away.
            Cause::Asked => {
                self.peers.get(&id).and_then(|peer| peer.adj_rib_out.next_advertised(family, after))
            }
        };
        if let Some(prefix) = next {
            let Outcome { best, .. } = self.outcome(prefix);
            self.tell(id, prefix, best.as_ref(), cause);
        } else {
            self.announcing.remove(&(id, family));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.adj_rib_out.walked(family, next);
        }
        true
    }

    /// A host walks what it originates, which is little even where it has learned a full table.
    fn next_to_announce(&self, family: Family, after: Option<Prefix>) -> Option<Prefix> {
        let after = after.or_else(|| before_first(family));
        let next = match self.config.role {
            Role::Host => self.originated.next(after),
            Role::Transit => self.table.behind(after).next().map(|(prefix, _)| prefix),
        };
        next.filter(|prefix| prefix.family() == family)
    }

    /// Frees a few unused attributes; false when nothing is to be freed.
    pub(super) fn free_next(&mut self) -> bool {
        if self.attributes.is_sweeping() {
            self.attributes.sweep_step();
        } else if self.gateways.is_sweeping() {
            self.gateways.sweep_step();
        } else {
            return false;
        }
        true
    }

    pub(super) fn is_live(&self, path: &Path, family: Family) -> bool {
        self.peers.get(&path.peer).is_some_and(|peer| peer.adj_rib_in.of(family).is_live(path.generation))
    }

    /// Takes out the dead paths of a prefix; true when there were some.
    fn forget_dead(&mut self, prefix: Prefix) -> bool {
        let Some(destination) = self.table.get(prefix) else {
            return false;
        };
        let family = prefix.family();
        let dead: SmallVec<[PeerId; 2]> = destination
            .paths
            .iter()
            .filter(|path| !self.is_live(path, family))
            .map(|path| path.peer)
            .collect();
        for &peer in &dead {
            let Some(path) = self.table.take_path(prefix, peer) else {
                continue;
            };
            path.handles().for_each(|handle| self.attributes.release(handle));
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.adj_rib_in.of_mut(family).forget(&path);
            }
        }
        !dead.is_empty()
    }

    /// Decides for one prefix and tells everyone whom it concerns.
    fn decide(&mut self, prefix: Prefix) {
        let Outcome { best, gateways } = self.outcome(prefix);
        let wanted = if gateways.is_empty() { None } else { self.gateways.intern(gateways) };
        let timing = self.timing(prefix);
        if let Some(before) = self.table.want(prefix, wanted, timing) {
            self.gateways.release(before);
        }
        let peers: SmallVec<[PeerId; 8]> = self.peers.keys().copied().collect();
        for id in peers {
            self.tell(id, prefix, best.as_ref(), Cause::Changed);
        }
        self.table.prune(prefix, &self.originated);
    }

    /// Whether every neighbor has spoken of a prefix.
    fn timing(&self, prefix: Prefix) -> Timing {
        let family = prefix.family();
        let paths = self.table.get(prefix).map_or(&[][..], |found| found.paths);
        let mut flowing = self.peers.iter().filter(|(_, peer)| peer.session_with(family).is_some());
        if flowing.all(|(&id, _)| paths.iter().any(|path| path.peer == id)) {
            Timing::Settled
        } else {
            Timing::Early
        }
    }

    /// Gives a neighbor's Adj-RIB-Out what the neighbor should have.
    fn tell(&mut self, id: PeerId, prefix: Prefix, best: Option<&BestRoute>, cause: Cause) {
        let family = prefix.family();
        let Some(Peer { session: Some(session), adj_rib_out, maintenance, .. }) = self.peers.get_mut(&id)
        else {
            return;
        };
        if !session.families.contains(family) {
            return;
        }
        let target = Target { peer: id, kind: session.kind };
        let prepends = match maintenance.outbound {
            Outbound::Plain => None,
            Outbound::Marked { prepends } => Some(prepends),
            Outbound::Withdrawn => return self.tell_nothing(id, prefix, cause),
        };
        let allowed =
            best.filter(|best| permits(self.config.role, best.route, &best.attributes, target).is_ok());
        let rewritten = allowed.zip(session.next_hop(family)).map(|(best, next_hop)| {
            let (local_as, kind) = (self.config.local_as, session.kind);
            adj_rib_out.rewritten(&best.attributes, next_hop, || {
                let plain = rewrite(&best.attributes, local_as, kind, next_hop);
                self.attributes.share(match prepends {
                    Some(prepends) => marked(&plain, local_as, kind, prepends),
                    None => plain,
                })
            })
        });
        if adj_rib_out.set(prefix, rewritten, cause) {
            self.attributes.note_release();
        }
    }

    fn tell_nothing(&mut self, id: PeerId, prefix: Prefix, cause: Cause) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.adj_rib_out.set(prefix, None, cause) {
            self.attributes.note_release();
        }
    }

    fn outcome(&self, prefix: Prefix) -> Outcome {
        let contenders = self.contenders(prefix);
        let standings = self.standings(&contenders);
        let mut outcome = Outcome::default();
        for (contender, standing) in contenders.iter().zip(standings) {
            match standing {
                Standing::Best => outcome.best = Some(contender.as_best_route()),
                Standing::Multipath => {}
                Standing::NotSelected(_) => continue,
            }
            outcome.gateways.extend(self.gateway(prefix, contender));
        }
        outcome.gateways.sort_unstable();
        outcome.gateways.dedup();
        outcome
    }

    pub(super) fn gateway(&self, prefix: Prefix, contender: &Contender<'_>) -> Option<Gateway> {
        match contender.source {
            Source::Local => None,
            Source::Peer { peer, .. } => {
                let session = self.peers.get(&peer)?.source_with(prefix.family())?;
                usable_gateway(prefix, contender.imported.next_hop, session).ok()
            }
        }
    }

    pub(super) fn standings(&self, contenders: &[Contender<'_>]) -> Standings {
        let candidates: SmallVec<[Candidate<'_>; 4]> = contenders
            .iter()
            .map(|contender| Candidate { attributes: contender.imported, source: contender.source })
            .collect();
        decision::decide(&candidates, self.config.max_paths)
    }

    /// Every eligible path of a prefix; our own route first.
    pub(super) fn contenders(&self, prefix: Prefix) -> SmallVec<[Contender<'_>; 4]> {
        let local = self
            .originated
            .contains(prefix)
            .then_some(Contender { source: Source::Local, imported: &self.originated_attributes });
        let paths = self.table.get(prefix).map(|Destination { paths, .. }| paths);
        let learned =
            paths.unwrap_or_default().iter().filter_map(|path| self.contender(path, prefix.family()));
        local.into_iter().chain(learned).collect()
    }

    fn contender<'a>(&'a self, path: &'a Path, family: Family) -> Option<Contender<'a>> {
        let session = self.peers.get(&path.peer)?.source_with(family)?;
        match path.verdict() {
            Verdict::Accepted(imported) if self.is_live(path, family) => Some(Contender {
                source: Source::Peer {
                    peer: path.peer,
                    kind: session.kind,
                    router_id: session.router_id,
                    address: session.address,
                    interface: session.interface,
                },
                imported: self.attributes.get(imported)?,
            }),
            Verdict::Accepted(_) | Verdict::Refused(_) | Verdict::Echo => None,
        }
    }
}

/// The last prefix before those of a family; `None` for the first family.
fn before_first(family: Family) -> Option<Prefix> {
    match family {
        Family::Ipv4Unicast => None,
        Family::Ipv6Unicast => Some(Prefix::host(std::net::Ipv4Addr::BROADCAST.into())),
    }
}
