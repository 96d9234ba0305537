//! What is kept of a neighbor that restarts: RFC 4724 section 4.2, the receiving speaker.
//!
//! In: a session that was lost, the one that follows, and the end of patience; how long it lasts is for
//! [`Session`](crate::session::Session) to say. Out: paths that are stale, or dead. Nothing here looks at a path: the
//! generations of `adj_rib_in` tell the three kinds apart, and the sweep takes dead ones out in turns.
//!
//! A stale path takes part in the decision as any other: section 4.2 forbids to differentiate between stale and other
//! routing information during forwarding. Were it to lose against fresh ones, all flows of this node would leave the
//! ToR at once, which goes on forwarding, and come back a moment later.

use super::{PeerSession, Rib, adj_rib_out};
use crate::{Families, Family, PeerId};

impl Rib {
    /// The session was lost, and the peer is expected back: its paths of these families are kept as stale until it has
    /// said them again, or has not by [`Self::forget_stale`]. All others go.
    pub fn session_lost(&mut self, peer: PeerId, kept: Families) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(session) = known.session.take() else { return };
        let families = kept.intersection(session.families);
        known.adj_rib_out = adj_rib_out::AdjRibOut::default();
        let mut has_dead = false;
        for family in Family::ALL {
            self.announcing.remove(&(peer, family));
            let adj_rib_in = known.adj_rib_in.of_mut(family);
            if families.contains(family) {
                has_dead |= adj_rib_in.lost();
            } else {
                has_dead |= adj_rib_in.kept > 0;
                adj_rib_in.reset();
            }
        }
        // What the peer was told may have been the last to hold some attributes.
        self.attributes.note_mass_release();
        known.lost = (!families.is_empty()).then(|| PeerSession { families, ..session.clone() });
        let ended = Family::ALL.into_iter().filter(|family| !families.contains(*family)).collect();
        self.speaker_lost(&session, ended);
        if has_dead {
            self.sweep.request();
        }
    }

    /// The peer has had its time: what is still stale goes.
    pub fn forget_stale(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.session.is_none() {
            self.session_down(peer);
            return;
        }
        let mut has_dead = false;
        for family in Family::ALL {
            has_dead |= known.adj_rib_in.of_mut(family).stale_ended();
        }
        if has_dead {
            self.sweep.request();
        }
    }

    /// A session is about to begin. Of what was kept stays what the same speaker says to have gone on forwarding for;
    /// everything else goes at once (RFC 4724 section 4.2: F bit clear, or the family or the capability missing).
    pub(super) fn settle_restart(&mut self, peer: PeerId, session: &PeerSession) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(lost) = known.lost.take_if(|lost| lost.is_with_the_same_speaker(session)) else {
            self.session_down(peer);
            return;
        };
        let kept = lost.families.intersection(session.families).intersection(session.preserved);
        let mut has_dead = false;
        for family in Family::ALL {
            if !kept.contains(family) {
                let adj_rib_in = known.adj_rib_in.of_mut(family);
                has_dead |= adj_rib_in.kept > 0;
                adj_rib_in.reset();
            }
        }
        if has_dead {
            self.sweep.request();
        }
    }
}
