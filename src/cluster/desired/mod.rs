//! What this node is to originate, as the objects of the API server have it.
//!
//! A function of the objects, of the configuration and of what was decided before. The last one counts only as long as the
//! server has not said everything, and twice of what has gone without a word (`doubt`): until then nothing is taken back.

mod blocks;
mod borrowed;
mod doubt;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::OnCordon;
use super::collection::Collection;
use super::objects::{self, Affinity, Node, Object as _, ObjectName, Pool, Service, Slice};
use crate::config;
use crate::kernel::pods::PodAddresses;

pub use blocks::{Block, BlockSource, Standing};
pub use borrowed::BorrowedStanding;
pub(crate) use doubt::{Inherited, NodeList, Watched};
pub use services::{ServiceAddress, Withheld};

/// Everything that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// This node's blocks.
    #[serde(with = "as_pairs")]
    pub blocks: BTreeMap<Prefix, Block>,
    /// Pods of this node whose addresses are of no block of its own.
    #[serde(with = "as_pairs", default)]
    pub borrowed: BTreeMap<IpAddr, BorrowedStanding>,
    /// What is announced for services: their addresses, or ranges of them.
    #[serde(with = "as_pairs")]
    pub services: BTreeMap<Prefix, BTreeSet<objects::AddressKind>>,
    /// Each address of each service, and why it is not announced. Not kept over a restart.
    #[serde(skip)]
    pub service_addresses: Vec<ServiceAddress>,
}

/// What the decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The name of this node.
    pub(crate) node: String,
    pub(crate) pods: config::Pods,
    pub(crate) services: Option<config::Services>,
    pub(crate) on_cordon: OnCordon,
}

/// All that was told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Objects {
    /// This node's alone.
    pub(crate) nodes: Collection<Node>,
    pub(crate) affinities: Collection<Affinity>,
    /// Each block that was asked for, by its own watch.
    pub(crate) blocks: BTreeMap<Prefix, Collection<objects::Block>>,
    pub(crate) pools: Collection<Pool>,
    pub(crate) services: Collection<Service>,
    pub(crate) slices: Collection<Slice>,
    /// Pods that this kernel has routes to, which no server has to tell; `None` until it is read.
    pub(crate) local_pods: Option<PodAddresses>,
    /// What was in force before any of it was told.
    pub(crate) inherited: Inherited,
    pub(crate) node_list: NodeList,
}

impl Objects {
    /// This node's object. A server that has others and not this one does not speak of us: one that was brought back from an
    /// old or an empty copy must not take the node off the network.
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        let name = ObjectName { namespace: None, name: name.to_owned() };
        self.nodes.is_known().then(|| self.nodes.iter().find(|(of, _)| **of == name))?.map(|(_, node)| node)
    }

    /// The kinds that are followed and of which there was no whole list yet.
    pub(super) fn awaited(&self, sources: &Sources) -> impl Iterator<Item = &'static str> + use<> {
        let (pods, services) = (sources.pods.calico.is_some(), sources.services.is_some());
        [
            (Node::KIND, true, self.nodes.is_known()),
            (Affinity::KIND, pods, self.affinities.is_known()),
            (Pool::KIND, pods, self.pools.is_known()),
            (Service::KIND, services, self.services.is_known()),
            (Slice::KIND, services, self.slices.is_known()),
        ]
        .into_iter()
        .filter(|(_, is_followed, is_known)| *is_followed && !is_known)
        .map(|(kind, _, _)| kind)
    }
}

/// Decides.
pub(crate) fn desired(sources: &Sources, objects: &Objects, before: &Desired) -> Desired {
    let (services, service_addresses) = services::services(sources, objects, before);
    let blocks = blocks::blocks(sources, objects, before);
    let borrowed = borrowed::borrowed(sources, objects, &blocks, before);
    Desired { blocks, borrowed, services, service_addresses }
}

/// The blocks whose IPAMBlock has to be asked for, to know whose they are.
pub(crate) fn asked_blocks(sources: &Sources, objects: &Objects, before: &Desired) -> BTreeSet<Prefix> {
    blocks::asked(sources, objects, before)
}

/// JSON has no maps but of text.
mod as_pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}
