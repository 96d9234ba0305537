//! A neighbor that is taken out of use, or put back: what it was told is told again with other attributes, what it said
//! is judged anew. No session ends for it (RFC 8326 section 4).

use super::Rib;
use crate::policy::{Maintenance, Role};
use crate::{Family, PeerId, Prefix};

impl Rib {
    /// Uses a neighbor in this way from now on, in its present session and in later ones. [`Self::process`] does what
    /// follows from it.
    pub fn maintain(&mut self, peer: PeerId, maintenance: Maintenance) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let before = std::mem::replace(&mut known.maintenance, maintenance);
        if before.outbound != maintenance.outbound {
            self.tell_again(peer);
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
    fn tell_again(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.adj_rib_out.forget_rewritten();
        for family in Family::ALL {
            let told: Vec<Prefix> = known.adj_rib_out.advertised(family).keys().copied().collect();
            told.into_iter().for_each(|prefix| self.table.mark_dirty(prefix));
        }
        let mut own = self.originated.next(None);
        while let Some(prefix) = own {
            self.table.mark_dirty(prefix);
            own = self.originated.next(Some(prefix));
        }
        match self.config.role {
            Role::Host => {}
            // All at once, since no speaker with a large table has this role.
            Role::Transit => {
                let learned: Vec<Prefix> = self.table.behind(None).map(|(prefix, _)| prefix).collect();
                learned.into_iter().for_each(|prefix| self.table.mark_dirty(prefix));
            }
        }
    }

    /// Judges one path anew for a neighbor that is used in another way; false when there is none.
    pub(super) fn judge_next(&mut self) -> bool {
        let Some((&peer, &after)) = self.judging.first_key_value() else {
            return false;
        };
        let next = self.table.behind(after).next().map(|(prefix, _)| prefix);
        match (next, self.intake(peer)) {
            (Some(prefix), Some(mut intake)) => {
                intake.judge_again(prefix);
                intake.forget_assessed();
                self.judging.insert(peer, Some(prefix));
            }
            // What a session says that comes up later is judged when it comes.
            (None, _) | (_, None) => {
                self.judging.remove(&peer);
            }
        }
        true
    }
}
