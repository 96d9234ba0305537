//! What one neighbor was told, and what it has yet to be told.
//!
//! In: for each prefix what the neighbor should have ([`AdjRibOut::set`]). Out: UPDATEs packed by attributes, then
//! the marker that closes a family: End-of-RIB (RFC 4724 section 3), or EoRR where a refresh was answered
//! (RFC 7313 section 4).

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use super::ToPeer;
use super::pending::Pending;
use super::per_family::PerFamily;
use crate::memory::{Usage, tree_octets};
use crate::message::{Attributes, Outgoing, RefreshKind, RouteRefresh};
use crate::policy::{VariantNumber, Variants};
use crate::{Family, NextHop, Prefix};

/// All families of one neighbor. A new one is made for each session.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    advertised: PerFamily<BTreeMap<Prefix, Arc<Attributes>>>,
    pending: Pending<Waiting>,
    progress: PerFamily<Progress>,
    memo: Option<Memo>,
}

/// What a prefix has to become for the neighbor.
#[derive(Debug)]
struct Waiting {
    /// `None`: withdrawn.
    target: Option<Arc<Attributes>>,
    cause: Cause,
}

/// Why a prefix is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It may differ from what the neighbor was told.
    Changed,
    /// The neighbor wants to hear it even if it does not.
    Asked,
}

/// How far the announcement of a family is.
#[derive(Debug, Default)]
struct Progress {
    step: Step,
    /// BoRR has to go out before anything else.
    begin_due: bool,
    /// The neighbor asked for a refresh while an announcement was under way.
    asked_again: Option<Answer>,
}

impl Progress {
    fn is_answering(&self) -> bool {
        match self.step {
            Step::Walking { purpose, .. } | Step::Flushing { purpose } => match purpose {
                Purpose::Initial => false,
                Purpose::Refresh(_) => true,
            },
            Step::Settled => false,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum Step {
    /// The family does not flow, or everything was said.
    #[default]
    Settled,
    /// The table up to and including `after` was looked through.
    Walking { after: Option<Prefix>, purpose: Purpose },
    /// Everything is in the set that waits; the marker goes when that is empty.
    Flushing { purpose: Purpose },
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// The first announcement of the session.
    Initial,
    Refresh(Answer),
}

/// How a refresh is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// RFC 2918: the routes alone.
    Plain,
    /// RFC 7313: between BoRR and EoRR.
    Bracketed,
}

/// What was made last of some attributes: routes with the same ones come one after another.
#[derive(Debug)]
pub(crate) struct Memo {
    source: Arc<Attributes>,
    next_hop: NextHop,
    /// What export policy makes of them; made with the first route that comes to it.
    variants: Option<Variants>,
    /// As the neighbor gets them, by variant.
    rewritten: SmallVec<[Option<Arc<Attributes>>; 1]>,
}

impl Memo {
    /// What export policy makes of the attributes, from what `first` makes of them.
    pub(crate) fn variants(&mut self, first: impl FnOnce(&Arc<Attributes>) -> Variants) -> &mut Variants {
        self.variants.get_or_insert_with(|| first(&self.source))
    }

    /// A variant as the neighbor gets it, made by `rewrite` unless it was before.
    pub(crate) fn rewritten(
        &mut self,
        variant: VariantNumber,
        rewrite: impl FnOnce(&Attributes) -> Arc<Attributes>,
    ) -> Option<Arc<Attributes>> {
        let at = variant.index();
        if self.rewritten.len() <= at {
            self.rewritten.resize(at + 1, None);
        }
        let Self { source, variants, rewritten, .. } = self;
        let slot = rewritten.get_mut(at)?;
        if slot.is_none() {
            let attributes = match variants {
                Some(variants) => variants.attributes(variant)?,
                None => source,
            };
            *slot = Some(rewrite(attributes));
        }
        slot.clone()
    }
}

impl AdjRibOut {
    /// The first announcement of a family is to be walked.
    pub(crate) fn start(&mut self, family: Family) {
        self.progress.of_mut(family).step = Step::Walking { after: None, purpose: Purpose::Initial };
    }

    /// The neighbor asks for a family again. True when a walk begins now; while one is under way the answer
    /// comes after it, because BoRR must not come before End-of-RIB (RFC 7313 section 4).
    pub(crate) fn refresh(&mut self, family: Family, answer: Answer) -> bool {
        let progress = self.progress.of_mut(family);
        match progress.step {
            Step::Walking { .. } | Step::Flushing { .. } => {
                progress.asked_again = Some(answer);
                false
            }
            Step::Settled => {
                progress.begin_due = matches!(answer, Answer::Bracketed);
                progress.step = Step::Walking { after: None, purpose: Purpose::Refresh(answer) };
                true
            }
        }
    }

    /// Where the walk of a family stands, and what is to be said on it; `None` when there is no walk.
    pub(crate) fn walk(&self, family: Family) -> Option<(Option<Prefix>, Cause)> {
        match self.progress.of(family).step {
            Step::Walking { after, purpose: Purpose::Initial } => Some((after, Cause::Changed)),
            Step::Walking { after, purpose: Purpose::Refresh(_) } => Some((after, Cause::Asked)),
            Step::Settled | Step::Flushing { .. } => None,
        }
    }

    /// The walk went on to this prefix, or came to its end.
    pub(crate) fn walked(&mut self, family: Family, to: Option<Prefix>) {
        let step = &mut self.progress.of_mut(family).step;
        if let Step::Walking { purpose, .. } = *step {
            *step = match to {
                Some(prefix) => Step::Walking { after: Some(prefix), purpose },
                None => Step::Flushing { purpose },
            };
        }
    }

    /// What the neighbor should have from now on. Nothing waits where it has that already. True when something
    /// that waited is superseded.
    pub(crate) fn set(&mut self, prefix: Prefix, target: Option<Arc<Attributes>>, cause: Cause) -> bool {
        let was_asked = self.pending.get(prefix).is_some_and(|waiting| waiting.cause == Cause::Asked);
        // Until EoRR the neighbor holds everything as stale: a route that goes and comes back behind the walk has
        // to be told again, though it never changed for the neighbor.
        let is_answering = self.progress.of(prefix.family()).is_answering();
        let cause = if was_asked || is_answering { Cause::Asked } else { cause };
        let held = self.advertised.of(prefix.family()).get(&prefix);
        let waits = match (held, &target) {
            (Some(held), Some(target)) => cause == Cause::Asked || !Arc::ptr_eq(held, target),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        let superseded = if waits {
            self.pending.insert(prefix, Waiting { target, cause })
        } else {
            self.pending.remove(prefix)
        };
        superseded.is_some()
    }

    /// What is known of these attributes, as this neighbor gets them: what was found out last, where that was about
    /// them.
    pub(crate) fn memo(&mut self, source: &Arc<Attributes>, next_hop: NextHop) -> &mut Memo {
        let known = self.memo.take();
        let known = known.filter(|memo| Arc::ptr_eq(&memo.source, source) && memo.next_hop == next_hop);
        self.memo.insert(known.unwrap_or_else(|| Memo {
            source: Arc::clone(source),
            next_hop,
            variants: None,
            rewritten: SmallVec::new(),
        }))
    }

    /// What the neighbor gets for the same attributes is another thing from now on.
    pub(crate) fn forget_rewritten(&mut self) {
        self.memo = None;
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.pending.is_empty()
            || Family::ALL.into_iter().any(|family| {
                let progress = self.progress.of(family);
                progress.begin_due || matches!(progress.step, Step::Flushing { .. })
            })
    }

    /// Takes out at most `limit` prefixes, and the markers that are due.
    pub(crate) fn poll(&mut self, limit: usize) -> Vec<ToPeer> {
        let mut outgoing: Vec<ToPeer> = Vec::new();
        for family in Family::ALL {
            if std::mem::take(&mut self.progress.of_mut(family).begin_due) {
                outgoing.push(refresh_marker(family, RefreshKind::Begin));
            }
        }
        outgoing.extend(self.take_batch(limit));
        outgoing.extend(Family::ALL.into_iter().filter_map(|family| self.finish(family)));
        outgoing
    }

    fn take_batch(&mut self, limit: usize) -> impl Iterator<Item = ToPeer> + use<> {
        let mut batch = Batch::default();
        for _ in 0..limit {
            let Some((prefix, Waiting { target, .. })) = self.pending.take_next() else {
                break;
            };
            let advertised = self.advertised.of_mut(prefix.family());
            match target {
                Some(attributes) => {
                    advertised.insert(prefix, Arc::clone(&attributes));
                    batch.reach(prefix, attributes);
                }
                None => {
                    advertised.remove(&prefix);
                    batch.unreachable.of_mut(prefix.family()).push(prefix);
                }
            }
        }
        batch.into_messages()
    }

    /// The marker of a family, when all before it is out.
    fn finish(&mut self, family: Family) -> Option<ToPeer> {
        let progress = self.progress.of_mut(family);
        let Step::Flushing { purpose } = progress.step else {
            return None;
        };
        if self.pending.count(family) > 0 {
            return None;
        }
        progress.step = Step::Settled;
        match purpose {
            Purpose::Initial => Some(ToPeer::Update(Outgoing::EndOfRib(family))),
            Purpose::Refresh(Answer::Bracketed) => Some(refresh_marker(family, RefreshKind::End)),
            Purpose::Refresh(Answer::Plain) => None,
        }
    }

    /// A refresh that was asked for during an announcement which is now complete.
    pub(crate) fn take_asked_again(&mut self, family: Family) -> Option<Answer> {
        let progress = self.progress.of_mut(family);
        match progress.step {
            Step::Settled => progress.asked_again.take(),
            Step::Walking { .. } | Step::Flushing { .. } => None,
        }
    }

    /// What the neighbor was told.
    pub(crate) fn advertised(&self, family: Family) -> &BTreeMap<Prefix, Arc<Attributes>> {
        self.advertised.of(family)
    }

    /// The first prefix behind `after` that the neighbor was told.
    pub(crate) fn next_advertised(&self, family: Family, after: Option<Prefix>) -> Option<Prefix> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.advertised(family).range((from, Bound::Unbounded)).next().map(|(&prefix, _)| prefix)
    }

    /// What was said and what waits. Their attributes are the interner's.
    pub(crate) fn usage(&self) -> Usage {
        let advertised = Family::ALL.map(|family| self.advertised(family));
        let said = advertised.into_iter().map(|map| Usage::new(map.len(), tree_octets(map))).sum::<Usage>();
        let waiting = Family::ALL.map(|family| self.pending.count(family)).into_iter().sum();
        said + Usage::new(waiting, self.pending.octets())
    }

    /// Prefixes that wait.
    pub(crate) fn pending(&self, family: Family) -> usize {
        self.pending.count(family)
    }
}

fn refresh_marker(family: Family, kind: RefreshKind) -> ToPeer {
    ToPeer::Refresh(RouteRefresh { family: family.into(), kind })
}

/// Prefixes taken together, sorted into messages.
#[derive(Default)]
struct Batch {
    unreachable: PerFamily<Vec<Prefix>>,
    // Groups in the order in which they appeared: the map only finds them again, by the address of attributes
    // which the group itself keeps alive.
    groups: Vec<(Arc<Attributes>, Vec<Prefix>)>,
    known: HashMap<(*const Attributes, Family), usize>,
}

impl Batch {
    fn reach(&mut self, prefix: Prefix, attributes: Arc<Attributes>) {
        let key = (Arc::as_ptr(&attributes), prefix.family());
        let group = *self.known.entry(key).or_insert(self.groups.len());
        match self.groups.get_mut(group) {
            Some((_, prefixes)) => prefixes.push(prefix),
            None => self.groups.push((attributes, vec![prefix])),
        }
    }

    /// Withdrawals first: they free room at the neighbor, and stop what is wrong.
    fn into_messages(mut self) -> impl Iterator<Item = ToPeer> {
        let unreachable = Family::ALL.map(|family| std::mem::take(self.unreachable.of_mut(family)));
        let withdrawals = unreachable
            .into_iter()
            .filter(|prefixes| !prefixes.is_empty())
            .map(|prefixes| Outgoing::Unreach { prefixes });
        let announcements =
            self.groups.into_iter().map(|(attributes, prefixes)| Outgoing::Reach { attributes, prefixes });
        withdrawals.chain(announcements).map(ToPeer::Update)
    }
}
