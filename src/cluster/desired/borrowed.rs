//! Pods of this node whose addresses are of other nodes' blocks: Calico's IPAM borrows where a node's own blocks are full,
//! and a pod that moves to another node takes its address with it.
//!
//! What lies in a block that this node announces needs no route of its own. What lies elsewhere has one for as long as
//! the pod has its route in this kernel, so that the longest match leads here and not to the owner of the block.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::blocks::{Said, pool, said};
use super::{Block, Desired, Objects, Sources, Standing};
use crate::cluster::objects::PoolWay;
use crate::config::{Borrowed, Calico};

/// What becomes of a borrowed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BorrowedStanding {
    /// It is announced.
    Announced,
    /// It was announced, and this kernel has not said yet whether the pod is still here.
    RouteUnknown,
    /// It is in no IPPool.
    NoPool,
    /// Its pool has `disableBGPExport`.
    NotExported,
    /// Its pool wants IPIP, or VXLAN, between nodes: there is nothing here that would do this.
    Ipip,
    /// See there.
    Vxlan,
}

impl BorrowedStanding {
    /// Whether it is announced.
    #[must_use]
    pub fn is_announced(self) -> bool {
        self == Self::Announced
    }

    /// Whether it is announced as long as nobody says otherwise.
    fn is_in_force(self) -> bool {
        match self {
            Self::Announced | Self::RouteUnknown => true,
            Self::NoPool | Self::NotExported | Self::Ipip | Self::Vxlan => false,
        }
    }
}

pub(super) fn borrowed(
    sources: &Sources,
    objects: &Objects,
    blocks: &BTreeMap<Prefix, Block>,
    before: &Desired,
) -> BTreeMap<IpAddr, BorrowedStanding> {
    match &sources.pods.calico {
        Some(Calico { borrowed: Borrowed::Advertise { .. }, .. }) => {}
        Some(Calico { borrowed: Borrowed::Refuse, .. }) | None => return BTreeMap::new(),
    }
    let was_in_force =
        |address: &IpAddr| before.borrowed.get(address).is_some_and(|standing| standing.is_in_force());
    let Some(local) = &objects.local_pods else {
        let kept = before.borrowed.keys().filter(|address| was_in_force(address));
        return kept.map(|&address| (address, BorrowedStanding::RouteUnknown)).collect();
    };
    let standing = |address: IpAddr| {
        let judged = match place(sources, blocks, address) {
            Place::Covered => return None,
            Place::PerhapsCovered => None,
            Place::Elsewhere => judge(sources, objects, address),
        };
        // Where nothing can be said yet, what was said before stays.
        judged.or_else(|| was_in_force(&address).then_some(BorrowedStanding::Announced))
    };
    local.iter().filter_map(|&address| Some((address, standing(address)?))).collect()
}

/// Where an address lies, as the node's own blocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a block of which the fabric knows, or is not to know.
    Covered,
    /// In one that may be announced as soon as its owner is known.
    PerhapsCovered,
    /// In no block of this node's, or in one that is not announced yet or no longer: Calico gives and takes blocks around
    /// pods that stay.
    Elsewhere,
}

fn place(sources: &Sources, blocks: &BTreeMap<Prefix, Block>, address: IpAddr) -> Place {
    let host = Prefix::host(address);
    if sources.pods.static_blocks.iter().any(|block| block.covers(host)) {
        return Place::Covered;
    }
    let around = blocks.iter().filter(|(prefix, _)| prefix.covers(host));
    let Some((_, block)) = around.max_by_key(|(prefix, _)| prefix.length()) else { return Place::Elsewhere };
    match block.standing {
        Standing::Announced | Standing::NotExported | Standing::Ipip | Standing::Vxlan => Place::Covered,
        Standing::OwnerUnknown | Standing::PoolsUnknown => Place::PerhapsCovered,
        Standing::Pending | Standing::PendingDeletion | Standing::Unclaimed | Standing::OwnedBy(_) => {
            Place::Elsewhere
        }
    }
}

/// By its pool; `None` as long as the server has not said for certain which pools and which blocks there are. A block whose affinity
/// cannot be read makes no difference: a pod that is here may have a route of its own in any block.
fn judge(sources: &Sources, objects: &Objects, address: IpAddr) -> Option<BorrowedStanding> {
    match said(sources, objects) {
        Said::NotAll => return None,
        Said::NotReadably | Said::Everything => {}
    }
    Some(match pool(objects, Prefix::host(address)).map(|pool| pool.way) {
        Some(PoolWay::Announced) => BorrowedStanding::Announced,
        Some(PoolWay::NotExported) => BorrowedStanding::NotExported,
        Some(PoolWay::Ipip) => BorrowedStanding::Ipip,
        Some(PoolWay::Vxlan) => BorrowedStanding::Vxlan,
        None if !objects.pools.is_settled() => return None,
        None => BorrowedStanding::NoPool,
    })
}

#[cfg(test)]
mod tests;
