//! What one neighbor said, family by family: which of its paths count, and how many there are.
//!
//! The paths themselves are in the [`Table`]. Each carries the generation in which it was said. A session
//! that ends and a refresh that ends (RFC 7313 section 4) move the oldest generation that counts, which takes
//! as long for a million paths as for one; a sweep takes the dead ones out later, in turns. A session that is lost
//! while the peer restarts (RFC 4724 section 4.2) moves the first generation that is fresh instead, and the End-of-RIB
//! of the next one the oldest that counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::interner::{Handle, Interner};
use super::per_family::PerFamily;
use super::table::{Path, Table, Verdict};
use super::{Connected, Originated, PeerSession, RibConfig};
use crate::message::Attributes;
use crate::policy::{Admission, Assessment, Guard, Hits, Inbound, Policy, Refusal, VariantNumber, Variants};
use crate::{Asn, PeerId, Prefix};

/// Counts sessions and refreshes of a neighbor, modulo 2^24: a sweep takes the dead paths out long before sixteen
/// million of them. Three octets, because every path carries one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation([u8; 3]);

impl Generation {
    const MASK: u32 = 0xff_ffff;

    fn number(self) -> u32 {
        let [low, middle, high] = self.0;
        u32::from_le_bytes([low, middle, high, 0])
    }

    fn next(self) -> Self {
        let [low, middle, high, _] = self.number().wrapping_add(1).to_le_bytes();
        Self([low, middle, high])
    }

    /// How many generations `self` is after `other`.
    fn since(self, other: Self) -> u32 {
        self.number().wrapping_sub(other.number()) & Self::MASK
    }
}

/// One family of one neighbor.
#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    /// What is said now belongs to this generation.
    current: Generation,
    /// The oldest one that counts: an earlier path is dead.
    oldest: Generation,
    /// The first one of the present session: the counters know of paths from then on.
    first: Generation,
    /// The first one of the present session where an earlier path may be left from the one before: such a path is
    /// stale.
    fresh: Generation,
    refreshing: Refreshing,
    /// Remembered paths that are stale.
    pub(crate) stale: u32,
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
    pub(crate) fn continued(generation: Generation) -> Self {
        let mut next = Self { current: generation, ..Self::default() };
        next.reset();
        next
    }

    pub(crate) fn generation(&self) -> Generation {
        self.current
    }

    /// A session begins or ends: nothing said so far counts.
    pub(crate) fn reset(&mut self) {
        let current = self.current.next();
        *self = Self {
            current,
            oldest: current,
            first: current,
            fresh: current,
            refused_total: std::mem::take(&mut self.refused_total),
            ..Self::default()
        };
    }

    /// The session was lost, and what was said in it is kept as stale. What was stale before goes (RFC 4724 section
    /// 4.2: "consecutive restarts"); true where there was any.
    pub(crate) fn lost(&mut self) -> bool {
        // Generations wrap: a peer that comes that far is not helped any more.
        if self.current.since(self.first) >= Generation::MASK {
            self.reset();
            return true;
        }
        let has_dead = self.stale_ended();
        self.current = self.current.next();
        self.fresh = self.current;
        self.stale = self.kept;
        self.refreshing = Refreshing::No;
        (self.over_limit, self.lacking, self.end_of_rib) = (0, false, false);
        has_dead
    }

    /// What is still stale is dead; true where there was any.
    pub(crate) fn stale_ended(&mut self) -> bool {
        if self.current.since(self.fresh) < self.current.since(self.oldest) {
            self.oldest = self.fresh;
        }
        std::mem::take(&mut self.stale) > 0
    }

    /// BoRR: what is there is stale from now on. A second one makes everything stale again.
    pub(crate) fn refresh_began(&mut self) {
        // Generations wrap: a peer that begins sixteen million times in one session is not followed further.
        if self.current.since(self.first) < Generation::MASK {
            self.current = self.current.next();
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
            self.stale = 0;
        }
        was == Refreshing::Yes
    }

    pub(crate) fn is_live(&self, generation: Generation) -> bool {
        self.current.since(generation) <= self.current.since(self.oldest)
    }

    /// Whether a path that lives is left from a session that was lost.
    pub(crate) fn is_stale(&self, generation: Generation) -> bool {
        self.current.since(generation) > self.current.since(self.fresh)
    }

    /// The peer has said it again.
    fn repeated(&mut self, path: &mut Path) {
        if self.is_stale(path.generation) {
            self.stale = self.stale.saturating_sub(1);
        }
        path.generation = self.current;
    }

    fn is_counted(&self, generation: Generation) -> bool {
        self.current.since(generation) <= self.current.since(self.first)
    }

    /// A path that was remembered until now is no more.
    pub(crate) fn forget(&mut self, path: &Path) {
        if self.is_counted(path.generation) {
            self.kept = self.kept.saturating_sub(1);
            if self.is_stale(path.generation) {
                self.stale = self.stale.saturating_sub(1);
            }
            self.uncount(path.verdict());
        }
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(_) => self.accepted += 1,
            Verdict::Echo => self.echoes += 1,
            Verdict::Refused(refusal) => {
                *self.refused.entry(refusal).or_default() += 1;
                self.count_refusal(refusal);
            }
        }
    }

    fn count_refusal(&mut self, refusal: Refusal) {
        *self.refused_total.entry(refusal).or_default() += 1;
    }

    fn uncount(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(_) => self.accepted = self.accepted.saturating_sub(1),
            Verdict::Echo => self.echoes = self.echoes.saturating_sub(1),
            Verdict::Refused(refusal) => {
                if let Some(count) = self.refused.get_mut(&refusal) {
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
    /// How the neighbor's paths are to be used.
    pub(crate) inbound: Inbound,
    pub(crate) allowed_own_as: u8,
    pub(crate) import: Option<&'a Policy>,
    /// Of that policy.
    pub(crate) hits: &'a mut Hits,
    pub(crate) originated: &'a Originated,
    pub(crate) connected: &'a Connected,
    /// Set where a judgement depends on these two, whatever the prefix.
    pub(crate) depends_on_networks: &'a mut bool,
    /// Paths to remember in each family, at most.
    pub(crate) limit: u32,
    pub(crate) adj_rib_in: &'a mut PerFamily<AdjRibIn>,
    pub(crate) table: &'a mut Table,
    pub(crate) attributes: &'a mut Interner<Attributes>,
    /// The attributes that were judged last: the prefixes of an UPDATE share them.
    pub(crate) assessed: Option<Assessed>,
}

/// Attributes that the guard has looked at. All handles are held.
pub(crate) struct Assessed {
    received: Handle,
    attributes: Arc<Attributes>,
    assessment: Assessment,
    /// What import policy makes of them; made with the first path that is admitted.
    variants: Option<Variants>,
    /// What becomes of them where a path is accepted, by variant; each is made with the first such path.
    imported: SmallVec<[Option<Handle>; 1]>,
}

impl Intake<'_> {
    /// The neighbor can reach these prefixes.
    pub(crate) fn announce_all(&mut self, prefixes: Vec<Prefix>, attributes: Attributes) {
        // Without a handle there are four billion different attributes in memory.
        let Some(received) = self.attributes.intern(attributes) else {
            return;
        };
        prefixes.into_iter().for_each(|prefix| self.announce(prefix, received));
        self.forget_assessed();
        self.attributes.release(received);
    }

    fn announce(&mut self, prefix: Prefix, received: Handle) {
        if !self.session.families.contains(prefix.family()) {
            return;
        }
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        let generation = adj_rib_in.current;
        let Some(path) = self.table.path_mut(prefix, self.peer) else {
            self.announce_new(prefix, generation, received);
            return;
        };
        if !adj_rib_in.is_live(path.generation) {
            self.withdraw(prefix);
            self.announce_new(prefix, generation, received);
            return;
        }
        adj_rib_in.repeated(path);
        if path.received != received {
            let before = std::mem::replace(&mut path.received, received);
            self.attributes.retain(received);
            self.attributes.release(before);
            self.judge_again(prefix);
        }
    }

    fn announce_new(&mut self, prefix: Prefix, generation: Generation, received: Handle) {
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        if adj_rib_in.kept >= self.limit {
            adj_rib_in.count_refusal(Refusal::Limit);
            adj_rib_in.over_limit = adj_rib_in.over_limit.saturating_add(1);
            adj_rib_in.lacking = true;
            return;
        }
        let Some(verdict) = self.verdict(prefix, received) else {
            return;
        };
        let path = Path::new(self.peer, generation, received, verdict);
        if self.table.add_path(prefix, path).is_err() {
            return;
        }
        path.handles().for_each(|handle| self.attributes.retain(handle));
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        adj_rib_in.kept += 1;
        adj_rib_in.count(verdict);
        if verdict.is_accepted() {
            self.table.mark_dirty(prefix);
        }
    }

    /// The neighbor cannot reach this prefix any more.
    pub(crate) fn withdraw(&mut self, prefix: Prefix) {
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        if let Some(path) = self.table.take_path(prefix, self.peer) {
            adj_rib_in.forget(&path);
            path.handles().for_each(|handle| self.attributes.release(handle));
            // Also where it was refused: deciding is what removes an empty destination.
            self.table.mark_dirty(prefix);
        } else {
            // What is not remembered was refused for the limit.
            adj_rib_in.over_limit = adj_rib_in.over_limit.saturating_sub(1);
        }
    }

    /// Judges the neighbor's path anew, after its attributes or what it is compared with changed.
    pub(crate) fn judge_again(&mut self, prefix: Prefix) {
        self.forget_dead(prefix);
        let Some(path) = self.table.path_mut(prefix, self.peer).copied() else {
            return;
        };
        let before = path.verdict();
        let Some(verdict) = self.verdict(prefix, path.received).filter(|verdict| *verdict != before) else {
            return;
        };
        if let Some(path) = self.table.path_mut(prefix, self.peer) {
            path.judge(verdict);
        }
        imported(verdict).into_iter().for_each(|handle| self.attributes.retain(handle));
        imported(before).into_iter().for_each(|handle| self.attributes.release(handle));
        let adj_rib_in = self.adj_rib_in.of_mut(prefix.family());
        adj_rib_in.uncount(before);
        adj_rib_in.count(verdict);
        if before.is_accepted() || verdict.is_accepted() {
            self.table.mark_dirty(prefix);
        }
    }

    /// To be called when no more is to be judged.
    pub(crate) fn forget_assessed(&mut self) {
        if let Some(Assessed { received, attributes, imported, .. }) = self.assessed.take() {
            drop(attributes);
            std::iter::once(received)
                .chain(imported.into_iter().flatten())
                .for_each(|handle| self.attributes.release(handle));
        }
    }

    /// A verdict's handle is not held yet; it lives until the next call. `None` where there are too many attributes.
    fn verdict(&mut self, prefix: Prefix, received: Handle) -> Option<Verdict> {
        let guard = Guard {
            config: self.config,
            originated: self.originated,
            connected: self.connected,
            session: self.session,
            inbound: self.inbound,
            allowed_own_as: self.allowed_own_as,
        };
        if self.assessed.as_ref().is_none_or(|last| last.received != received) {
            self.forget_assessed();
            let attributes = Arc::clone(self.attributes.get(received)?);
            let assessment = guard.assess(&attributes);
            *self.depends_on_networks |= assessment.depends_on_networks();
            self.attributes.retain(received);
            self.assessed = Some(Assessed {
                received,
                attributes,
                assessment,
                variants: None,
                imported: SmallVec::new(),
            });
        }
        let assessed = self.assessed.as_mut()?;
        Some(match guard.admit(prefix, assessed.attributes.next_hop, assessed.assessment) {
            Admission::Admitted => {
                match assessed.accepted(prefix, self.import, self.session.asn, self.hits) {
                    Some(variant) => Verdict::Accepted(assessed.imported(variant, self.attributes)?),
                    None => Verdict::Refused(Refusal::Policy),
                }
            }
            Admission::Refused(refusal) => Verdict::Refused(refusal),
            Admission::Echo => Verdict::Echo,
        })
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

impl Assessed {
    /// The variant with which import policy accepts a path; `None` where it rejects it.
    fn accepted(
        &mut self,
        prefix: Prefix,
        policy: Option<&Policy>,
        neighbor: Asn,
        hits: &mut Hits,
    ) -> Option<VariantNumber> {
        let Some(policy) = policy else {
            return Some(VariantNumber::UNCHANGED);
        };
        let Self { attributes, assessment, variants, .. } = self;
        let variants = variants.get_or_insert_with(|| assessment.variants(attributes, neighbor));
        variants.judge(policy, prefix, |step| hits.count(step))
    }

    /// The attributes of a variant. `None` where there are too many attributes.
    fn imported(&mut self, variant: VariantNumber, interner: &mut Interner<Attributes>) -> Option<Handle> {
        let at = variant.index();
        if self.imported.len() <= at {
            self.imported.resize(at + 1, None);
        }
        let Self { received, attributes, assessment, variants, imported } = self;
        let slot = imported.get_mut(at)?;
        if slot.is_none() {
            let changed = match variants {
                Some(variants) if variant != VariantNumber::UNCHANGED => {
                    variants.attributes(variant).map(|attributes| (**attributes).clone())
                }
                Some(_) | None => assessment.imported(attributes),
            };
            *slot = match changed {
                Some(changed) => interner.intern(changed),
                None => {
                    interner.retain(*received);
                    Some(*received)
                }
            };
        }
        *slot
    }
}

fn imported(verdict: Verdict) -> Option<Handle> {
    match verdict {
        Verdict::Accepted(imported) => Some(imported),
        Verdict::Refused(_) | Verdict::Echo => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before a session, in it, stale, fresh, dead, and in the next one; also across the end of the numbers.
    #[test]
    fn generations_tell_live_from_dead() {
        for start in [[0; 3], [0xfc, 0xff, 0xff], [0xfd, 0xff, 0xff], [0xfe, 0xff, 0xff], [0xff; 3]] {
            let start = Generation(start);
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

    /// Of a session that is lost, of the next one, and of one that follows too soon; also across the end of the
    /// numbers.
    #[test]
    fn a_generation_is_stale_for_one_restart() {
        for start in [[0; 3], [0xfd, 0xff, 0xff], [0xfe, 0xff, 0xff], [0xff; 3]] {
            let mut adj_rib_in = AdjRibIn::continued(Generation(start));
            let first = adj_rib_in.generation();
            assert!(!adj_rib_in.is_stale(first));
            adj_rib_in.kept = 1;
            assert!(!adj_rib_in.lost(), "nothing was stale before");
            let second = adj_rib_in.generation();
            assert!(adj_rib_in.is_live(first) && adj_rib_in.is_stale(first) && !adj_rib_in.is_stale(second));
            assert_eq!(adj_rib_in.stale, 1);
            assert!(adj_rib_in.lost(), "lost again before End-of-RIB");
            let third = adj_rib_in.generation();
            assert!(!adj_rib_in.is_live(first) && adj_rib_in.is_counted(first));
            assert!(adj_rib_in.is_live(second) && adj_rib_in.is_stale(second) && !adj_rib_in.is_stale(third));
            assert!(adj_rib_in.stale_ended());
            assert!(!adj_rib_in.is_live(second) && adj_rib_in.is_live(third) && !adj_rib_in.is_stale(third));
        }
    }
}
