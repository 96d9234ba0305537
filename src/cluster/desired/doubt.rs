//! What is missing in a list, and whether that is to be believed.
//!
//! An API server that was brought back from an empty or old copy lists less than there is, and means nothing by it. So
//! whatever is withdrawn because a list has not what it had before is withdrawn only when
//!
//! 1. after a hold-down this node is listed anew, and is there: the server speaks of us,
//! 2. and a list that began after that has it not either.
//!
//! What says by an event that it goes, goes at once, and so does what takes nothing back by going. The hold-down is for the
//! task to wait: here are the steps.

use std::collections::BTreeSet;

use bgp::Prefix;

use super::blocks::{Said, said};
use super::{BlockSource, Desired, Objects, Sources, desired};
use crate::cluster::collection::{Collection, Doubt, Told};
use crate::cluster::objects::{Affinity, Block, Node, Object, Pool, Service, Slice};

/// Of which kind a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watched {
    pub(crate) kind: &'static str,
    /// Blocks are watched one by one.
    pub(crate) block: Option<Prefix>,
}

impl Watched {
    pub(crate) fn all_of<T: Object>() -> Self {
        Self { kind: T::KIND, block: None }
    }
}

/// What an earlier process announced and no list of this one has accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Inherited {
    pub(super) blocks: BTreeSet<Prefix>,
    pub(super) services: BTreeSet<Prefix>,
}

impl Inherited {
    pub(crate) fn of(before: &Desired) -> Self {
        let services = before.services.keys().copied().collect();
        let of_calico = before.blocks.iter().filter(|(_, block)| block.source == BlockSource::Calico);
        Self { blocks: of_calico.map(|(prefix, _)| *prefix).collect(), services }
    }
}

/// Whether this node is to be listed anew, before anything that is missing is believed to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NodeList {
    #[default]
    NotAwaited,
    Awaited,
    /// It is under way.
    Listing,
}

/// What missing objects would take away, group by group: no object of one makes a difference to the other.
struct Losses {
    pods: bool,
    services: bool,
}

impl Objects {
    /// What the watch of this node says. Gives the watches whose lists have to be asked for now.
    pub(crate) fn handle_node(&mut self, sources: &Sources, told: Told<Node>) -> Vec<Watched> {
        let list = match (&told, self.node_list) {
            (Told::ListBegins, NodeList::Awaited) => NodeList::Listing,
            (Told::ListEnds, NodeList::Listing) => NodeList::NotAwaited,
            (_, list) => list,
        };
        let is_whole = self.node_list == NodeList::Listing && list == NodeList::NotAwaited;
        self.node_list = list;
        self.nodes.handle(told);
        // A node that is not there takes nothing back.
        self.nodes.settle();
        if is_whole && self.node(&sources.node).is_some() {
            self.advance(Doubt::NodeAwaited, Doubt::Asked)
        } else {
            Vec::new()
        }
    }

    /// What the watch of an IPAMBlock says; nothing, where nobody asks for it any more.
    pub(crate) fn handle_block(&mut self, prefix: Prefix, told: Told<Block>) {
        let Some(collection) = self.blocks.get_mut(&prefix) else { return };
        collection.handle(told);
        // There is but this one: an earlier process can have known of no other.
        if collection.values().next().is_some() && collection.missing() == 0 {
            collection.settle();
        }
    }

    /// Whether something is missing that has to be asked about, after a hold-down. Without this node in the server there is
    /// nothing to ask it.
    pub(crate) fn is_hold_down_needed(&self, sources: &Sources) -> bool {
        let pods = || {
            let blocks = || self.blocks.values().any(Collection::is_unasked);
            knows_pods(sources, self) && (self.affinities.is_unasked() || self.pools.is_unasked() || blocks())
        };
        let services =
            || knows_services(sources, self) && (self.services.is_unasked() || self.slices.is_unasked());
        self.node_list == NodeList::NotAwaited && (pods() || services())
    }

    /// The hold-down is over: this node has to be listed anew.
    pub(crate) fn end_hold_down(&mut self) {
        self.advance(Doubt::Held, Doubt::NodeAwaited);
        self.node_list = NodeList::Awaited;
    }

    /// Lets go of what is missing and takes nothing away by being so, and of what was inherited and is accounted for: to be
    /// done before each decision.
    pub(crate) fn settle_harmless(&mut self, sources: &Sources, before: &Desired) {
        let (mut pods, mut services) = (self.doubts_pods(sources), self.doubts_services(sources));
        // As at most starts: nobody has said anything else before. Of a large cluster two more decisions are worth sparing.
        if pods && self.inherited.blocks.is_empty() && !self.misses_of_pods() {
            self.settle_pods();
            pods = false;
        }
        if services && self.inherited.services.is_empty() && !self.misses_of_services() {
            self.settle_services();
            services = false;
        }
        if !pods && !services {
            return;
        }
        let mut settled = self.clone();
        settled.settle_pods();
        settled.settle_services();
        let without = desired(sources, &settled, before);
        let losses = Losses::between(&desired(sources, self, before), &without);
        if pods {
            let is_there =
                |prefix: &Prefix| without.blocks.get(prefix).is_some_and(super::Block::is_announced);
            self.inherited.blocks.retain(|prefix| !is_there(prefix));
            if !losses.pods {
                self.settle_pods();
            }
        }
        if services {
            self.inherited.services.retain(|prefix| !without.services.contains_key(prefix));
            if !losses.services {
                self.settle_services();
            }
        }
    }

    /// How many objects of each kind count only because it is not certain that they have gone.
    pub(crate) fn missing(&self, sources: &Sources) -> impl Iterator<Item = (&'static str, usize)> + use<> {
        let blocks = self.blocks.values().map(Collection::missing).sum();
        [
            (Affinity::KIND, self.affinities.missing().max(self.inherited_blocks(sources))),
            (Block::KIND, blocks),
            (Pool::KIND, self.pools.missing()),
            (Service::KIND, self.services.missing().max(self.inherited_services())),
            (Slice::KIND, self.slices.missing()),
        ]
        .into_iter()
        .filter(|(_, missing)| *missing > 0)
    }

    /// Whether this was announced by an earlier process, which counts until the server has said twice that it is not there.
    pub(super) fn is_inherited_block(&self, prefix: Prefix) -> bool {
        !self.affinities.is_settled() && self.inherited.blocks.contains(&prefix)
    }

    /// The same for what is announced for services.
    pub(super) fn is_inherited_service(&self, prefix: Prefix) -> bool {
        !(self.services.is_settled() && self.slices.is_settled()) && self.inherited.services.contains(&prefix)
    }

    fn inherited_blocks(&self, sources: &Sources) -> usize {
        if !self.affinities.is_known() {
            return 0;
        }
        let is_claimed = |prefix: Prefix| {
            self.affinities.values().any(|affinity| affinity.block == prefix && affinity.node == sources.node)
        };
        let inherited = self.inherited.blocks.iter();
        inherited.filter(|prefix| self.is_inherited_block(**prefix) && !is_claimed(**prefix)).count()
    }

    fn inherited_services(&self) -> usize {
        let is_told = self.services.is_known() && self.slices.is_known();
        let is_settled = self.services.is_settled() && self.slices.is_settled();
        if is_told && !is_settled { self.inherited.services.len() } else { 0 }
    }

    fn doubts_pods(&self, sources: &Sources) -> bool {
        let blocks = || self.blocks.values().any(is_doubted);
        // As long as there is an affinity that says nobody knows what, it may be that of any block.
        sources.pods.calico.is_some()
            && said(sources, self) == Said::Everything
            && (is_doubted(&self.affinities) || is_doubted(&self.pools) || blocks())
    }

    fn doubts_services(&self, sources: &Sources) -> bool {
        knows_services(sources, self) && (is_doubted(&self.services) || is_doubted(&self.slices))
    }

    fn misses_of_pods(&self) -> bool {
        let blocks = || self.blocks.values().any(|block| block.missing() > 0);
        self.affinities.missing() > 0 || self.pools.missing() > 0 || blocks()
    }

    fn misses_of_services(&self) -> bool {
        self.services.missing() > 0 || self.slices.missing() > 0
    }

    fn settle_pods(&mut self) {
        self.affinities.settle();
        self.pools.settle();
        self.blocks.values_mut().filter(|block| block.is_known()).for_each(Collection::settle);
        self.inherited.blocks.clear();
    }

    fn settle_services(&mut self) {
        self.services.settle();
        self.slices.settle();
        self.inherited.services.clear();
    }

    fn advance(&mut self, from: Doubt, to: Doubt) -> Vec<Watched> {
        fn one<T: Object>(collection: &mut Collection<T>, from: Doubt, to: Doubt) -> Option<Watched> {
            (collection.is_known() && collection.advance(from, to)).then(Watched::all_of::<T>)
        }
        let Self { nodes: _, affinities, blocks, pools, services, slices, .. } = self;
        let kinds =
            [one(affinities, from, to), one(pools, from, to), one(services, from, to), one(slices, from, to)];
        let blocks = blocks
            .iter_mut()
            .filter_map(|(&prefix, block)| Some(Watched { block: Some(prefix), ..one(block, from, to)? }));
        kinds.into_iter().flatten().chain(blocks).collect()
    }
}

/// Whether anything of it counts that no list has.
fn is_doubted<T>(collection: &Collection<T>) -> bool {
    collection.is_known() && (collection.missing() > 0 || !collection.is_settled())
}

fn knows_pods(sources: &Sources, objects: &Objects) -> bool {
    sources.pods.calico.is_some() && said(sources, objects) != Said::NotAll
}

fn knows_services(sources: &Sources, objects: &Objects) -> bool {
    sources.services.is_some()
        && objects.node(&sources.node).is_some()
        && objects.services.is_known()
        && objects.slices.is_known()
}

impl Losses {
    fn between(with: &Desired, without: &Desired) -> Self {
        let loses_block = with.blocks.iter().any(|(prefix, block)| {
            let other = without.blocks.get(prefix);
            other.is_none_or(|other| block.is_announced() && !other.is_announced())
        });
        let loses_borrowed = with.borrowed.iter().any(|(address, standing)| {
            let other = without.borrowed.get(address);
            standing.is_announced() && other.is_none_or(|other| !other.is_announced())
        });
        let loses_service = with.services.keys().any(|prefix| !without.services.contains_key(prefix));
        Self { pods: loses_block || loses_borrowed, services: loses_service }
    }
}
