//! This node's pod blocks: its own CIDRs, and those that Calico's IPAM gave it.

use std::collections::{BTreeMap, BTreeSet};

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::{Desired, Objects, Sources};
use crate::cluster::collection::Collection;
use crate::cluster::objects::{Affinity, AffinityState, Owner, Pool, PoolWay};

/// A block of this node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Who says that it is.
    pub source: BlockSource,
    /// What becomes of it.
    pub standing: Standing,
    /// Other nodes that claim it as well (Calico issue 6486); whose it is, its IPAMBlock decides.
    pub rivals: BTreeSet<String>,
}

/// Where a block comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockSource {
    /// `Node.spec.podCIDRs`.
    Node,
    /// Calico's IPAM.
    Calico,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// It is announced.
    Announced,
    /// Calico has not confirmed yet that it is ours.
    Pending,
    /// Calico takes it away.
    PendingDeletion,
    /// Its IPAMBlock is awaited.
    OwnerUnknown,
    /// It is this node's, and the IPPools are awaited: its own may not be announced.
    PoolsUnknown,
    /// Its IPAMBlock is nobody's, or is not there.
    Unclaimed,
    /// Its IPAMBlock is another node's.
    OwnedBy(String),
    /// Its pool has `disableBGPExport`.
    NotExported,
    /// Its pool wants IPIP, or VXLAN, between nodes: there is nothing here that would do this.
    Ipip,
    /// See there.
    Vxlan,
}

impl Block {
    /// Whether it is announced.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.standing == Standing::Announced
    }

    fn is_of_another(&self) -> bool {
        matches!(self.standing, Standing::OwnedBy(_))
    }

    /// Whether what has no pod is dropped here, rather than sent back to where it came from. A block of one address has no
    /// such rest, and Calico's CNI plugin stops at a blackhole for it. What is another node's, or perhaps is, has to stay
    /// reachable from here.
    #[must_use]
    pub fn has_blackhole(&self, prefix: Prefix) -> bool {
        let is_ours = match self.standing {
            Standing::Announced
            | Standing::Pending
            | Standing::PendingDeletion
            | Standing::Unclaimed
            | Standing::NotExported => true,
            Standing::OwnerUnknown
            | Standing::PoolsUnknown
            | Standing::OwnedBy(_)
            | Standing::Ipip
            | Standing::Vxlan => false,
        };
        is_ours && prefix.length() < prefix.family().max_length()
    }
}

pub(super) fn blocks(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeMap<Prefix, Block> {
    let mut blocks = BTreeMap::new();
    if sources.pods.calico.is_some() {
        blocks.extend(of_calico(sources, objects, before));
    }
    if sources.pods.node_cidrs.is_some() {
        for (cidr, block) in of_node(sources, objects, before) {
            // Of the two, an IPAMBlock that names another node is the narrower word.
            if !blocks.get(&cidr).is_some_and(Block::is_of_another) {
                blocks.insert(cidr, block);
            }
        }
    }
    blocks
}

fn of_node(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeMap<Prefix, Block> {
    let Some(node) = objects.node(&sources.node) else { return kept(before, BlockSource::Node).collect() };
    let (source, standing) = (BlockSource::Node, Standing::Announced);
    let block = Block { source, standing, rivals: BTreeSet::new() };
    node.pod_cidrs.iter().map(|&cidr| (cidr, block.clone())).collect()
}

fn kept(before: &Desired, source: BlockSource) -> impl Iterator<Item = (Prefix, Block)> {
    let of_source = before.blocks.iter().filter(move |(_, block)| block.source == source);
    of_source.map(|(&prefix, block)| (prefix, block.clone()))
}

/// Blocks whose owner matters.
pub(super) fn asked(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeSet<Prefix> {
    if sources.pods.calico.is_none() {
        return BTreeSet::new();
    }
    let ours = ours(sources, objects).filter(|affinity| affinity.state != AffinityState::Gone);
    let kept = kept(before, BlockSource::Calico).map(|(prefix, _)| prefix);
    let said = said(sources, objects);
    let kept = kept.filter(|prefix| counts_still(objects, said, *prefix));
    ours.map(|affinity| affinity.block).chain(kept).collect()
}

/// How much the server has said of this node's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    NotAll,
    /// All, but of some affinity it is not known what it says.
    NotReadably,
    Everything,
}

pub(super) fn said(sources: &Sources, objects: &Objects) -> Said {
    let is_all =
        objects.affinities.is_known() && objects.pools.is_known() && objects.node(&sources.node).is_some();
    match (is_all, objects.affinities.never_read().next()) {
        (false, _) => Said::NotAll,
        (true, Some(_)) => Said::NotReadably,
        (true, None) => Said::Everything,
    }
}

/// Whether a block without an affinity is one because it was before.
fn counts_still(objects: &Objects, said: Said, prefix: Prefix) -> bool {
    match said {
        Said::NotAll | Said::NotReadably => true,
        Said::Everything => objects.is_inherited_block(prefix),
    }
}

fn ours<'a>(sources: &'a Sources, objects: &'a Objects) -> impl Iterator<Item = &'a Affinity> {
    objects.affinities.values().filter(|affinity| affinity.node == sources.node)
}

fn of_calico(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeMap<Prefix, Block> {
    let mut blocks = BTreeMap::new();
    for (prefix, claim) in claims(sources, objects) {
        let standing = standing(sources, objects, prefix, claim, before);
        blocks.insert(prefix, Block { source: BlockSource::Calico, standing, rivals: BTreeSet::new() });
    }
    let said = said(sources, objects);
    for (prefix, block) in kept(before, BlockSource::Calico) {
        if !counts_still(objects, said, prefix) {
            continue;
        }
        let standing = match (owner(objects, prefix), said) {
            (Some(Owner::Node(other)), _) if *other != sources.node => Standing::OwnedBy(other.clone()),
            // The affinity that cannot be read, or is missing, is not this one's.
            (Some(Owner::Nobody), Said::NotReadably | Said::Everything) => continue,
            (Some(_) | None, _) => block.standing,
        };
        let is_told = objects.affinities.is_known();
        let rivals = if is_told { BTreeSet::new() } else { block.rivals };
        blocks.entry(prefix).or_insert(Block { standing, rivals, ..block });
    }
    name_rivals(sources, objects, &mut blocks);
    blocks
}

/// What this node's affinities come to: of two objects for one block, the one that is further on counts.
fn claims(sources: &Sources, objects: &Objects) -> BTreeMap<Prefix, Claim> {
    let mut claims = BTreeMap::new();
    for affinity in ours(sources, objects) {
        let claim = match affinity.state {
            AffinityState::Gone => continue,
            AffinityState::PendingDeletion => Claim::PendingDeletion,
            AffinityState::Pending => Claim::Pending,
            AffinityState::Confirmed => Claim::Confirmed,
        };
        let most = claims.entry(affinity.block).or_insert(claim);
        *most = claim.max(*most);
    }
    claims
}

/// The state of an affinity that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    PendingDeletion,
    Pending,
    Confirmed,
}

fn standing(
    sources: &Sources,
    objects: &Objects,
    prefix: Prefix,
    claim: Claim,
    before: &Desired,
) -> Standing {
    let owner = owner(objects, prefix);
    // Before anything else, since nothing that is another node's may be dropped here.
    if let Some(Owner::Node(node)) = owner
        && *node != sources.node
    {
        return Standing::OwnedBy(node.clone());
    }
    match claim {
        Claim::Pending => return Standing::Pending,
        Claim::PendingDeletion => return Standing::PendingDeletion,
        Claim::Confirmed => {}
    }
    if objects.pools.is_known() {
        match pool(objects, prefix).map(|pool| pool.way) {
            Some(PoolWay::Ipip) => return Standing::Ipip,
            Some(PoolWay::Vxlan) => return Standing::Vxlan,
            Some(PoolWay::NotExported) => return Standing::NotExported,
            // Calico's BIRD announces the blocks of a pool that was deleted under them, too.
            Some(PoolWay::Announced) | None => {}
        }
    }
    let is_announced = before.blocks.get(&prefix).is_some_and(Block::is_announced);
    match owner {
        // Without its pool nothing new can be said.
        Some(Owner::Node(_)) if objects.pools.is_known() => Standing::Announced,
        Some(Owner::Nobody) if said(sources, objects) != Said::NotAll => Standing::Unclaimed,
        // A server that does not know this node has perhaps lost more.
        Some(_) | None if is_announced => Standing::Announced,
        Some(Owner::Node(_)) => Standing::PoolsUnknown,
        Some(Owner::Nobody) | None => Standing::OwnerUnknown,
    }
}

/// What the IPAMBlock says; `None` as long as it is not known.
fn owner(objects: &Objects, prefix: Prefix) -> Option<&Owner> {
    let collection = objects.blocks.get(&prefix)?;
    match collection.values().find(|block| block.cidr == prefix) {
        // There is but one, so that no list has to be whole.
        Some(block) => Some(&block.owner),
        None if has_said_all(collection) && collection.never_read().next().is_none() => Some(&Owner::Nobody),
        None => None,
    }
}

fn has_said_all<T>(collection: &Collection<T>) -> bool {
    collection.is_known() && collection.is_settled()
}

/// The narrowest pool that the block is from.
pub(super) fn pool(objects: &Objects, prefix: Prefix) -> Option<&Pool> {
    let pools = objects.pools.values().filter(|pool| pool.cidr.covers(prefix));
    pools.max_by_key(|pool| pool.cidr.length())
}

/// In one go: a large cluster has tens of thousands of affinities, and a node has dozens of blocks.
fn name_rivals(sources: &Sources, objects: &Objects, blocks: &mut BTreeMap<Prefix, Block>) {
    for affinity in objects.affinities.values() {
        if affinity.node != sources.node
            && affinity.state == AffinityState::Confirmed
            && let Some(block) = blocks.get_mut(&affinity.block)
        {
            block.rivals.insert(affinity.node.clone());
        }
    }
}
