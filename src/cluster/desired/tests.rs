//! What follows from which objects: of [`blocks`] and of [`services`], rule by rule; and of the [`order`] in which they
//! are told of, which makes no difference; of what is missing in lists ([`doubt`]). [`streams`] are watches as data.

mod blocks;
mod doubt;
mod order;
mod services;
mod streams;

use super::*;
use crate::cluster::collection::Told;
use crate::cluster::objects::{AffinityState, Owner, PoolWay, ServicesHere};
use crate::config::{Borrowed, Calico, CalicoApi, NodeCidrs, Pods};

/// The node that decides, and others.
const HERE: &str = "c1";
const THERE: &str = "c2";
const ELSEWHERE: &str = "c3";

const BLOCK: &str = "10.1.8.192/26";

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn named(name: impl Into<String>) -> ObjectName {
    ObjectName { namespace: None, name: name.into() }
}

fn sources() -> Sources {
    Sources {
        node: HERE.to_owned(),
        pods: Pods {
            static_blocks: Vec::new(),
            node_cidrs: Some(NodeCidrs {}),
            calico: Some(Calico { api: CalicoApi::Any, borrowed: Borrowed::Refuse }),
        },
        services: None,
        on_cordon: OnCordon::KeepServices,
    }
}

/// A whole list, of which nothing is in doubt.
fn known<T>(objects: impl IntoIterator<Item = (ObjectName, T)>) -> Collection<T> {
    let mut collection = Collection::default();
    collection.handle(Told::ListBegins);
    objects.into_iter().for_each(|(name, object)| collection.handle(Told::There(name, Ok(object))));
    collection.handle(Told::ListEnds);
    collection.settle();
    collection
}

fn node(pod_cidrs: &[&str]) -> Collection<Node> {
    let pod_cidrs = pod_cidrs.iter().map(|text| prefix(text)).collect();
    known([(named(HERE), Node { pod_cidrs, ..Node::default() })])
}

fn affinity(node: &str, block: &str, state: AffinityState) -> (ObjectName, Affinity) {
    let name = format!("{node}-{}", block.replace(['.', ':', '/'], "-"));
    (named(name), Affinity { node: node.to_owned(), block: prefix(block), state })
}

fn owned_by(node: &str) -> Owner {
    Owner::Node(node.to_owned())
}

/// The IPAMBlock, if there is one.
fn ipam(block: &str, owner: Option<Owner>) -> (Prefix, Collection<objects::Block>) {
    let cidr = prefix(block);
    let name = named(block.replace(['.', ':', '/'], "-"));
    (cidr, known(owner.map(|owner| (name, objects::Block { cidr, owner }))))
}

fn pool(cidr: &str, way: PoolWay) -> (ObjectName, Pool) {
    (named(cidr.replace(['.', ':', '/'], "-")), Pool { cidr: prefix(cidr), way })
}

/// A cluster in which everything is known: this node without CIDRs, one pool, these affinities and owners.
fn cluster<'a>(
    affinities: impl IntoIterator<Item = (&'a str, &'a str, AffinityState)>,
    owners: impl IntoIterator<Item = (&'a str, Option<Owner>)>,
) -> Objects {
    let affinities = affinities.into_iter().map(|(node, block, state)| affinity(node, block, state));
    Objects {
        nodes: node(&[]),
        affinities: known(affinities),
        blocks: owners.into_iter().map(|(block, owner)| ipam(block, owner)).collect(),
        pools: known([pool("10.1.0.0/16", PoolWay::Announced)]),
        services: known([]),
        slices: known([]),
        ..Objects::default()
    }
}

fn block(source: BlockSource, standing: Standing) -> Block {
    Block { source, standing, rivals: BTreeSet::new() }
}

/// What was decided before: these of Calico's, and no more.
fn before(blocks: &[(&str, Standing)]) -> Desired {
    let blocks = blocks
        .iter()
        .map(|(text, standing)| (prefix(text), block(BlockSource::Calico, standing.clone())))
        .collect();
    Desired { blocks, ..Desired::default() }
}

/// How the block stands, if at all.
fn standing(objects: &Objects, before: &Desired, block: &str) -> Option<Standing> {
    desired(&sources(), objects, before).blocks.get(&prefix(block)).map(|block| block.standing.clone())
}
