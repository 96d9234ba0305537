//! The turns of the RIB: deciding for what changed, sweeping what is dead, walking for a full announcement.
//!
//! Each turn looks at one prefix, so that [`Rib::process`] can stop after any of them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::adj_rib_out::Cause;
use super::decision::{self, Candidate, Source, Standing, Standings};
use super::kept_default::Given;
use super::peer::Peer;
use super::table::{Destination, Path, Timing, Verdict};
use super::{Effort, Gateway, Gateways, Rib};
use crate::message::Attributes;
use crate::policy::{
    Outbound, Role, Route, Target, Transit, VariantNumber, Withheld, marked, permits, rewrite, sent,
    usable_gateway, variants,
};
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
pub(super) struct Outcome {
    pub(super) best: Option<BestRoute>,
    /// Empty where there is no path or the best one is our own.
    gateways: Gateways,
}

/// The best route of a prefix, for those who are to be told.
pub(super) struct BestRoute {
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
    /// Decides for one prefix that changed; `None` when there is none.
    pub(super) fn decide_next(&mut self) -> Option<Effort> {
        let prefix = self.table.take_dirty()?;
        self.forget_dead(prefix);
        self.decide(prefix);
        Some(Effort::LOOK)
    }

    /// Sweeps one prefix; `None` when the sweep rests.
    pub(super) fn sweep_next(&mut self) -> Option<Effort> {
        let Sweep::Running { after, next } = self.sweep else {
            return None;
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
        Some(Effort::LOOK)
    }

    /// Looks at one prefix for a full announcement; `None` when there is none to make.
    pub(super) fn announce_next(&mut self) -> Option<Effort> {
        let &(id, family) = self.announcing.first()?;
        let walk = self.peers.get(&id).and_then(|peer| peer.adj_rib_out.walk(family));
        let Some((after, cause)) = walk else {
            self.announcing.remove(&(id, family));
            return Some(Effort::LOOK);
        };
        let next = match cause {
            Cause::Changed => self.next_to_announce(id, family, after),
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
        Some(self.effort_of_telling(id))
    }

    /// A host walks what it originates, which is little even where it has learned a full table.
    fn next_to_announce(&self, id: PeerId, family: Family, after: Option<Prefix>) -> Option<Prefix> {
        let after = after.or_else(|| before_first(family));
        let transit = self.peers.get(&id).map(|peer| peer.config.transit).unwrap_or_default();
        let next = match (self.config.role, transit) {
            (Role::Host, Transit::Never) => self.originated.next(after),
            (Role::Host, Transit::Allowed) | (Role::Transit, Transit::Never | Transit::Allowed) => {
                self.table.behind(after).next().map(|(prefix, _)| prefix)
            }
        };
        next.filter(|prefix| prefix.family() == family)
    }

    /// Frees a few unused attributes; `None` when nothing is to be freed.
    pub(super) fn free_next(&mut self) -> Option<Effort> {
        if self.attributes.is_sweeping() {
            self.attributes.sweep_step();
        } else if self.gateways.is_sweeping() {
            self.gateways.sweep_step();
        } else {
            return None;
        }
        Some(Effort::LOOK)
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
        let Outcome { best, mut gateways } = self.outcome(prefix);
        if prefix.is_default() {
            let given = if best.is_some() { Given::Some } else { Given::None };
            gateways.extend(self.kept_gateways(prefix.family(), given));
        }
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
    pub(super) fn tell(&mut self, id: PeerId, prefix: Prefix, best: Option<&BestRoute>, cause: Cause) {
        let family = prefix.family();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Peer { session: Some(session), config, adj_rib_out, maintenance, export_hits, withheld, .. } =
            peer
        else {
            return;
        };
        if !session.families.contains(family) {
            return;
        }
        let prepends = match maintenance.outbound {
            Outbound::Plain => None,
            Outbound::Marked { prepends } => Some(prepends),
            Outbound::Withdrawn => return self.tell_nothing(id, prefix, cause),
        };
        let (local_as, kind) = (self.config.local_as, session.kind);
        let target = Target { peer: id, kind, transit: config.transit };
        let allowed = best.filter(|best| {
            let permitted = permits(self.config.role, best.route, &best.attributes, target);
            permitted.inspect_err(|reason| withheld.count(*reason)).is_ok()
        });
        let rewritten = allowed.zip(session.next_hop(family)).and_then(|(best, next_hop)| {
            let memo = adj_rib_out.memo(&best.attributes, next_hop);
            let variant = match &config.export {
                None => VariantNumber::UNCHANGED,
                Some(policy) => {
                    let variants = memo.variants(|source| variants(source, local_as, kind));
                    let accepted = variants.judge(policy, prefix, |step| export_hits.count(step));
                    if accepted.is_none() {
                        withheld.count(Withheld::Policy);
                    }
                    accepted?
                }
            };
            memo.rewritten(variant, |attributes| {
                let plain = match config.export {
                    None => rewrite(attributes, local_as, kind, next_hop),
                    Some(_) => sent(attributes, local_as, kind, next_hop),
                };
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

    pub(super) fn outcome(&self, prefix: Prefix) -> Outcome {
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
        let local = self.originated.origination(prefix).map(|origination| Contender {
            source: Source::Local,
            imported: self.originated_attributes.of(origination),
        });
        let paths = self.table.get(prefix).map(|Destination { paths, .. }| paths);
        let learned =
            paths.unwrap_or_default().iter().filter_map(|path| self.contender(path, prefix.family()));
        local.into_iter().chain(learned).collect()
    }

    pub(super) fn contender<'a>(&'a self, path: &'a Path, family: Family) -> Option<Contender<'a>> {
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
