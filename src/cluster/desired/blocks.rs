//! This node's pod blocks: its own CIDRs, and those that Calico's IPAM gave it.

use std::collections::{BTreeMap, BTreeSet};

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::{Desired, Objects, Sources};
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
            Standing::OwnerUnknown | Standing::OwnedBy(_) | Standing::Ipip | Standing::Vxlan => false,
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
        match objects.node(&sources.node) {
            Some(node) => {
                let (source, standing) = (BlockSource::Node, Standing::Announced);
                let block = Block { source, standing, rivals: BTreeSet::new() };
                blocks.extend(node.pod_cidrs.iter().map(|&cidr| (cidr, block.clone())));
            }
            None => blocks.extend(kept(before, BlockSource::Node)),
        }
    }
    blocks
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
    let kept = if speaks_of_us(sources, objects) { None } else { Some(kept) };
    ours.map(|affinity| affinity.block).chain(kept.into_iter().flatten()).collect()
}

/// Whether the server has said all that it has to say about this node's blocks.
pub(super) fn speaks_of_us(sources: &Sources, objects: &Objects) -> bool {
    objects.affinities.is_known() && objects.pools.is_known() && objects.node(&sources.node).is_some()
}

fn ours<'a>(sources: &'a Sources, objects: &'a Objects) -> impl Iterator<Item = &'a Affinity> {
    objects.affinities.values().filter(|affinity| affinity.node == sources.node)
}

fn of_calico(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeMap<Prefix, Block> {
    let mut blocks: BTreeMap<Prefix, Block> = BTreeMap::new();
    for affinity in ours(sources, objects) {
        let prefix = affinity.block;
        let standing = match affinity.state {
            AffinityState::Gone => continue,
            AffinityState::Pending => Standing::Pending,
            AffinityState::PendingDeletion => Standing::PendingDeletion,
            AffinityState::Confirmed => confirmed(sources, objects, prefix, before),
        };
        let rivals = rivals(sources, objects, prefix);
        let block = Block { source: BlockSource::Calico, standing, rivals };
        // Of two objects for one block, the one that was confirmed counts.
        match blocks.get(&prefix) {
            Some(other) if other.is_announced() => {}
            Some(_) | None => drop(blocks.insert(prefix, block)),
        }
    }
    if !speaks_of_us(sources, objects) {
        for (prefix, block) in kept(before, BlockSource::Calico) {
            let standing = match owner(objects, prefix) {
                Some(Owner::Node(other)) if *other != sources.node => Standing::OwnedBy(other.clone()),
                Some(_) | None => block.standing,
            };
            blocks.entry(prefix).or_insert(Block { standing, ..block });
        }
    }
    blocks
}

fn confirmed(sources: &Sources, objects: &Objects, prefix: Prefix, before: &Desired) -> Standing {
    // The pool first: without pools nothing can be said.
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
    match owner(objects, prefix) {
        Some(Owner::Node(node)) if *node == sources.node && objects.pools.is_known() => Standing::Announced,
        Some(Owner::Node(node)) if *node != sources.node => Standing::OwnedBy(node.clone()),
        Some(Owner::Nobody) => Standing::Unclaimed,
        Some(Owner::Node(_)) | None if is_announced => Standing::Announced,
        Some(Owner::Node(_)) | None => Standing::OwnerUnknown,
    }
}

/// What the IPAMBlock says; `None` as long as it is not known.
fn owner(objects: &Objects, prefix: Prefix) -> Option<&Owner> {
    let collection = objects.blocks.get(&prefix).filter(|blocks| blocks.is_known())?;
    let block = collection.values().find(|block| block.cidr == prefix);
    Some(block.map_or(&Owner::Nobody, |block| &block.owner))
}

/// The narrowest pool that the block is from.
pub(super) fn pool(objects: &Objects, prefix: Prefix) -> Option<&Pool> {
    let pools = objects.pools.values().filter(|pool| pool.cidr.covers(prefix));
    pools.max_by_key(|pool| pool.cidr.length())
}

fn rivals(sources: &Sources, objects: &Objects, prefix: Prefix) -> BTreeSet<String> {
    let claims = |affinity: &&Affinity| {
        affinity.block == prefix
            && affinity.node != sources.node
            && affinity.state == AffinityState::Confirmed
    };
    objects.affinities.values().filter(claims).map(|affinity| affinity.node.clone()).collect()
}
