//! A neighbor that is taken out of use, or put back: what it was told is told again with other attributes, what it said
//! is judged anew. No session ends for it (RFC 8326 section 4).

use super::adj_rib_out::Cause;
use super::loc_rib::Outcome;
use super::{Effort, PeerConfig, Rib};
use crate::policy::{Maintenance, Role, Transit};
use crate::{Family, PeerId, Prefix};

impl Rib {
    /// Uses a neighbor in this way from now on, in its present session and in later ones. [`Self::process`] does what
    /// follows from it.
    pub fn maintain(&mut self, peer: PeerId, maintenance: Maintenance) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let before = std::mem::replace(&mut known.maintenance, maintenance);
        let config = known.config.clone();
        if before.outbound != maintenance.outbound {
            self.tell_again(peer, self.extent(&config));
        }
        if before.inbound != maintenance.inbound {
            self.judging.insert(peer, None);
        }
    }

    /// How the neighbor is used, where it has a session and has been told all that follows from it.
    #[must_use]
    pub fn maintained(&self, peer: PeerId) -> Option<Maintenance> {
        let known = self.peers.get(&peer)?;
        let is_done = known.session.is_some() && !self.is_dirty() && !known.adj_rib_out.has_outgoing();
        is_done.then_some(known.maintenance)
    }

    /// Whether the neighbor has a session.
    #[must_use]
    pub fn has_session(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|known| known.session.is_some())
    }

    /// Looks again at all that the neighbor was told, and at all that it might be.
    pub(super) fn tell_again(&mut self, peer: PeerId, extent: Extent) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.adj_rib_out.forget_rewritten();
        match extent {
            Extent::Table => {
                self.telling.insert(peer, None);
            }
            Extent::Own => {
                // Little, even where a full table was learned.
                for family in Family::ALL {
                    let told: Vec<Prefix> = known.adj_rib_out.advertised(family).keys().copied().collect();
                    told.into_iter().for_each(|prefix| self.table.mark_dirty(prefix));
                }
                let mut own = self.originated.next(None);
                while let Some(prefix) = own {
                    self.table.mark_dirty(prefix);
                    own = self.originated.next(Some(prefix));
                }
            }
        }
    }

    /// What a neighbor with this configuration may be told of.
    pub(super) fn extent(&self, config: &PeerConfig) -> Extent {
        match (self.config.role, config.transit) {
            (Role::Host, Transit::Never) => Extent::Own,
            (Role::Host, Transit::Allowed) | (Role::Transit, Transit::Never | Transit::Allowed) => {
                Extent::Table
            }
        }
    }

    /// Looks at one prefix for a neighbor that is to be told anew; `None` when there is none.
    pub(super) fn tell_next(&mut self) -> Option<Effort> {
        let (&peer, &after) = self.telling.first_key_value()?;
        let next = self.table.behind(after).next().map(|(prefix, _)| prefix);
        match next {
            Some(prefix) => {
                let Outcome { best, .. } = self.outcome(prefix);
                self.tell(peer, prefix, best.as_ref(), Cause::Changed);
                self.telling.insert(peer, Some(prefix));
            }
            None => {
                self.telling.remove(&peer);
            }
        }
        Some(self.effort_of_telling(peer))
    }

    pub(super) fn effort_of_telling(&self, peer: PeerId) -> Effort {
        Effort::with(self.peers.get(&peer).and_then(|peer| peer.config.export.as_deref()))
    }

    /// What a path of a neighbor costs by its import policy, in looks at a prefix.
    pub(crate) fn looks_at_a_path(&self, peer: PeerId) -> usize {
        let Effort(looks) =
            Effort::with(self.peers.get(&peer).and_then(|peer| peer.config.import.as_deref()));
        looks
    }

    /// Judges one path anew for a neighbor that is used in another way; `None` when there is none.
    pub(super) fn judge_next(&mut self) -> Option<Effort> {
        let (&peer, &after) = self.judging.first_key_value()?;
        let next = self.table.behind(after).next().map(|(prefix, _)| prefix);
        let mut effort = Effort::LOOK;
        let default = next.filter(|prefix| prefix.is_default()).map(Prefix::family);
        let way = default.and_then(|family| self.way_by(peer, family));
        match (next, self.intake(peer)) {
            (Some(prefix), Some(mut intake)) => {
                effort = Effort::with(intake.import);
                intake.judge_again(prefix);
                intake.forget_assessed();
                self.judging.insert(peer, Some(prefix));
            }
            // What a session says that comes up later is judged when it comes.
            (None, _) | (_, None) => {
                self.judging.remove(&peer);
            }
        }
        default.into_iter().for_each(|family| self.judged(peer, family, way));
        Some(effort)
    }
}

/// How much a neighbor may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// What originates here.
    Own,
    /// What was learned, too.
    Table,
}
