//! What one neighbor said, family by family: which of its paths count, and how many there are.
//!
//! The paths themselves are in the [`Table`]. Each carries the generation in which it was said. A session
//! that ends and a refresh that ends (RFC 7313 section 4) move the oldest generation that counts, which takes
//! as long for a million paths as for one; a sweep takes the dead ones out later, in turns.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::interner::Interner;
use super::pending::Pending;
use super::per_family::PerFamily;
use super::table::{Path, Table, Verdict};
use super::{Originated, PeerSession, RibConfig};
use crate::message::Attributes;
use crate::policy::{Admission, Assessment, Guard, Refusal};
use crate::{PeerId, Prefix};

/// One family of one neighbor.
#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    /// What is said now belongs to this generation. Generations wrap around.
    current: u32,
    /// The oldest one that counts: an earlier path is dead.
    oldest: u32,
    /// The first one of the present session: the counters know of paths from then on.
    first: u32,
    refreshing: Refreshing,
    /// Paths that are remembered, refused ones and echoes included.
    pub(crate) kept: u32,
    pub(crate) accepted: u32,
    pub(crate) echoes: u32,
    /// Remembered paths by reason.
    pub(crate) refused: BTreeMap<Refusal, u32>,
    /// How often a path came to be refused, since the neighbor was configured.
    pub(crate) refused_total: BTreeMap<Refusal, u64>,
    /// Announcements refused for the limit since the neighbor last began to send everything. They are not
    /// remembered: one that comes twice counts twice.
    pub(crate) over_limit: u32,
    /// Something was refused for the limit, and not asked for again since.
    pub(crate) lacking: bool,
    pub(crate) end_of_rib: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Refreshing {
    #[default]
    No,
    /// Between BoRR and EoRR.
    Yes,
}

impl AdjRibIn {
    /// Goes on with the generations of an earlier neighbor of the same name, whose paths may not be swept yet.
    pub(crate) fn continued(generation: u32) -> Self {
        let mut next = Self { current: generation, ..Self::default() };
        next.reset();
        next
    }

    pub(crate) fn generation(&self) -> u32 {
        self.current
    }

    /// A session begins or ends: nothing said so far counts.
    pub(crate) fn reset(&mut self) {
        let current = self.current.wrapping_add(1);
        *self = Self {
            current,
            oldest: current,
            first: current,
            refused_total: std::mem::take(&mut self.refused_total),
            ..Self::default()
        };
    }

    /// BoRR: what is there is stale from now on. A second one makes everything stale again.
    pub(crate) fn refresh_began(&mut self) {
        // Generations wrap: a peer that begins four billion times and never ends is not followed further.
        if self.current.wrapping_sub(self.first) < u32::MAX {
            self.current = self.current.wrapping_add(1);
        }
        self.refreshing = Refreshing::Yes;
        self.over_limit = 0;
    }

    /// EoRR: what is stale is dead. True when a refresh was under way; without BoRR it means nothing
    /// (RFC 7313 section 4).
    pub(crate) fn refresh_ended(&mut self) -> bool {
        let was = std::mem::take(&mut self.refreshing);
        if was == Refreshing::Yes {
            self.oldest = self.current;
        }
        was == Refreshing::Yes
    }

    pub(crate) fn is_live(&self, generation: u32) -> bool {
        self.current.wrapping_sub(generation) <= self.current.wrapping_sub(self.oldest)
    }

    fn is_counted(&self, generation: u32) -> bool {
        self.current.wrapping_sub(generation) <= self.current.wrapping_sub(self.first)
    }

    /// A path that was remembered until now is no more.
    pub(crate) fn forget(&mut self, path: &Path) {
        if self.is_counted(path.generation) {
            self.kept = self.kept.saturating_sub(1);
            self.uncount(&path.verdict);
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted(_) => self.accepted += 1,
            Verdict::Echo => self.echoes += 1,
            Verdict::Refused(refusal) => {
                *self.refused.entry(*refusal).or_default() += 1;
                self.count_refusal(*refusal);
            }
        }
    }

    fn count_refusal(&mut self, refusal: Refusal) {
        *self.refused_total.entry(refusal).or_default() += 1;
    }

    fn uncount(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted(_) => self.accepted = self.accepted.saturating_sub(1),
            Verdict::Echo => self.echoes = self.echoes.saturating_sub(1),
            Verdict::Refused(refusal) => {
                if let Some(count) = self.refused.get_mut(refusal) {
                    *count = count.saturating_sub(1);
                }
                self.refused.retain(|_, count| *count > 0);
            }
        }
    }
}

/// The parts of the RIB that take in what one neighbor says.
pub(crate) struct Intake<'a> {
    pub(crate) peer: PeerId,
    pub(crate) config: &'a RibConfig,
    pub(crate) session: &'a PeerSession,
    pub(crate) originated: &'a Originated,
    /// Paths to remember in each family, at most.
    pub(crate) limit: u32,
    pub(crate) adj_rib_in: &'a mut PerFamily<AdjRibIn>,
    pub(crate) table: &'a mut Table,
    pub(crate) attributes: &'a mut Interner<Attributes>,
    pub(crate) dirty: &'a mut Pending<()>,
    /// The attributes that were judged last: the prefixes of an UPDATE share them.
    pub(crate) assessed: Option<Assessed>,
}

/// Attributes that the guard has looked at.
pub(crate) struct Assessed {
    received: Arc<Attributes>,
    assessment: Assessment,
    /// What becomes of them where a path is admitted; made with the first one.
    imported: Option<Arc<Attributes>>,
}

impl Intake<'_> {
    /// The neighbor can reach this prefix.
    pub(crate) fn announce(&mut self, prefix: Prefix, received: &Arc<Attributes>) {
        if !self.session.families.contains(prefix.family()) {
            return;
        }
        self.forget_dead(prefix);
        let generation = self.adj_rib_in.of(prefix.family()).current;
        let Some(path) = self.table.path_mut(prefix, self.peer) else {
            self.announce_new(prefix, generation, received);
            return;
        };
        path.generation = generation;
        if !Arc::ptr_eq(&path.received, received) {
            path.received = Arc::clone(received);
            self.attributes.note_release();
            self.judge_again(prefix);
        }
    }

    fn announce_new(&mut self, prefix: Prefix, generation: u32, received: &Arc<Attributes>) {
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        if adj_rib_in.kept >= self.limit {
            adj_rib_in.count_refusal(Refusal::Limit);
            adj_rib_in.over_limit = adj_rib_in.over_limit.saturating_add(1);
            adj_rib_in.lacking = true;
            return;
        }
        let verdict = self.verdict(prefix, received);
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        adj_rib_in.kept += 1;
        adj_rib_in.count(&verdict);
        if verdict.is_accepted() {
            self.dirty.insert(prefix, ());
        }
        let path = Path { peer: self.peer, generation, received: Arc::clone(received), verdict };
        self.table.entry(prefix).paths.push(path);
    }

    /// The neighbor cannot reach this prefix any more.
    pub(crate) fn withdraw(&mut self, prefix: Prefix) {
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        if let Some(path) = self.table.take_path(prefix, self.peer) {
            adj_rib_in.forget(&path);
            self.attributes.note_release();
            // Also where it was refused: deciding is what removes an empty destination.
            self.dirty.insert(prefix, ());
        } else {
            // What is not remembered was refused for the limit.
            adj_rib_in.over_limit = adj_rib_in.over_limit.saturating_sub(1);
        }
    }

    /// Judges the neighbor's path anew, after its attributes or what it is compared with changed.
    pub(crate) fn judge_again(&mut self, prefix: Prefix) {
        self.forget_dead(prefix);
        let Some(received) = self.table.path_mut(prefix, self.peer).map(|path| Arc::clone(&path.received))
        else {
            return;
        };
        let verdict = self.verdict(prefix, &received);
        let Some(path) = self.table.path_mut(prefix, self.peer) else {
            return;
        };
        if path.verdict.is_same(&verdict) {
            return;
        }
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        adj_rib_in.uncount(&path.verdict);
        adj_rib_in.count(&verdict);
        if path.verdict.is_accepted() || verdict.is_accepted() {
            self.dirty.insert(prefix, ());
        }
        path.verdict = verdict;
    }

    /// To be called after announcing with these: where every prefix was over the limit, nobody kept them.
    pub(crate) fn release_unused(&mut self, attributes: &Arc<Attributes>) {
        self.assessed = None;
        // One is the interner's, one the caller's.
        if Arc::strong_count(attributes) <= 2 {
            self.attributes.note_release();
        }
    }

    fn verdict(&mut self, prefix: Prefix, received: &Arc<Attributes>) -> Verdict {
        let guard = Guard { config: self.config, originated: self.originated, session: self.session };
        let assessed = match self.assessed.take().filter(|last| Arc::ptr_eq(&last.received, received)) {
            Some(same) => same,
            None => Assessed {
                received: Arc::clone(received),
                assessment: guard.assess(received),
                imported: None,
            },
        };
        let Assessed { assessment, imported, .. } = self.assessed.insert(assessed);
        match guard.admit(prefix, received.next_hop, *assessment) {
            Admission::Admitted => {
                let interner = &mut *self.attributes;
                let import = || match assessment.imported(received) {
                    Some(changed) => interner.intern(changed),
                    None => Arc::clone(received),
                };
                Verdict::Accepted(Arc::clone(imported.get_or_insert_with(import)))
            }
            Admission::Refused(refusal) => Verdict::Refused(refusal),
            Admission::Echo => Verdict::Echo,
        }
    }

    /// A path of this neighbor that the sweep has not met yet.
    fn forget_dead(&mut self, prefix: Prefix) {
        let adj_rib_in = self.adj_rib_in.of(prefix.family());
        let path = self.table.path_mut(prefix, self.peer);
        if path.is_some_and(|path| !adj_rib_in.is_live(path.generation)) {
            self.withdraw(prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before a session, in it, stale, fresh, dead, and in the next one; also across the end of the numbers.
    #[test]
    fn generations_tell_live_from_dead() {
        for start in [0, u32::MAX - 3, u32::MAX - 2, u32::MAX - 1, u32::MAX] {
            let mut adj_rib_in = AdjRibIn::continued(start);
            let before = start;
            let first = adj_rib_in.generation();
            assert!(!adj_rib_in.is_live(before) && adj_rib_in.is_live(first));
            adj_rib_in.refresh_began();
            let fresh = adj_rib_in.generation();
            assert!(adj_rib_in.is_live(first) && adj_rib_in.is_live(fresh));
            assert!(adj_rib_in.refresh_ended());
            assert!(!adj_rib_in.refresh_ended());
            assert!(!adj_rib_in.is_live(first) && adj_rib_in.is_live(fresh));
            // Dead, but the counters still know of it, unlike what was before the session.
            assert!(adj_rib_in.is_counted(first) && !adj_rib_in.is_counted(before));
            adj_rib_in.reset();
            assert!(!adj_rib_in.is_live(fresh) && !adj_rib_in.is_counted(fresh));
        }
    }
}
