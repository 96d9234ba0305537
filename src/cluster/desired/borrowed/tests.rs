use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::cluster::OnCordon;
use crate::cluster::collection::{Collection, Told};
use crate::cluster::desired::{BlockSource, desired};
use crate::cluster::objects::{self, Affinity, AffinityState, Node, ObjectName, Owner, Pool, PoolWay};
use crate::config::{CalicoApi, Pods};

const ADVERTISE: Borrowed = Borrowed::Advertise { community: None, limit: 100 };

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn sources(borrowed: Borrowed) -> Sources {
    let calico = Some(Calico { api: CalicoApi::Any, borrowed });
    let pods = Pods { static_blocks: vec![prefix("10.1.7.0/26")], node_cidrs: None, calico };
    Sources { node: "c1".to_owned(), pods, services: None, on_cordon: OnCordon::KeepServices }
}

fn known<T>(objects: impl IntoIterator<Item = (String, T)>) -> Collection<T> {
    let mut collection = Collection::default();
    collection.handle(Told::ListBegins);
    for (name, object) in objects {
        collection.handle(Told::There(ObjectName { namespace: None, name }, Ok(object)));
    }
    collection.handle(Told::ListEnds);
    collection.settle();
    collection
}

fn affinity(node: &str, block: &str, state: AffinityState) -> (String, Affinity) {
    (format!("{node}-{block}"), Affinity { node: node.to_owned(), block: prefix(block), state })
}

fn pool(cidr: &str, way: PoolWay) -> (String, Pool) {
    (cidr.to_owned(), Pool { cidr: prefix(cidr), way })
}

fn pods(addresses: &[&str]) -> Option<crate::kernel::pods::PodAddresses> {
    Some(Arc::new(addresses.iter().map(|text| text.parse().unwrap()).collect()))
}

/// Everything is known: c1 has 10.1.8.0/26, c2 has 10.1.9.0/26, and these pods are here.
fn objects(addresses: &[&str]) -> Objects {
    let ipam = |block: &str, node: &str| {
        let object = objects::Block { cidr: prefix(block), owner: Owner::Node(node.to_owned()) };
        (prefix(block), known([(block.to_owned(), object)]))
    };
    let node = Node::default();
    Objects {
        nodes: known([("c1".to_owned(), node)]),
        affinities: known([
            affinity("c1", "10.1.8.0/26", AffinityState::Confirmed),
            affinity("c2", "10.1.9.0/26", AffinityState::Confirmed),
        ]),
        blocks: [ipam("10.1.8.0/26", "c1")].into(),
        pools: known([
            pool("10.1.0.0/16", PoolWay::Announced),
            pool("10.1.64.0/18", PoolWay::NotExported),
            pool("10.2.0.0/16", PoolWay::Ipip),
            pool("10.3.0.0/16", PoolWay::Vxlan),
            pool("fd00:10:1::/48", PoolWay::Announced),
        ]),
        local_pods: pods(addresses),
        ..Objects::default()
    }
}

fn before(borrowed: &[(&str, BorrowedStanding)]) -> Desired {
    let borrowed = borrowed.iter().map(|(text, standing)| (text.parse().unwrap(), *standing)).collect();
    Desired { borrowed, ..Desired::default() }
}

fn decided(objects: &Objects, before: &Desired) -> Vec<(String, BorrowedStanding)> {
    let desired = desired(&sources(ADVERTISE), objects, before);
    desired.borrowed.iter().map(|(address, standing)| (address.to_string(), *standing)).collect()
}

fn announced(addresses: &[&str]) -> Vec<(String, BorrowedStanding)> {
    addresses.iter().map(|&address| (address.to_owned(), BorrowedStanding::Announced)).collect()
}

#[test]
fn its_block_and_its_pool_say_what_becomes_of_an_address() {
    use BorrowedStanding::{Announced, Ipip, NoPool, NotExported, Vxlan};
    let rows = [
        ("of a block of the file", "10.1.7.5", None),
        ("of our own", "10.1.8.5", None),
        ("of c2's", "10.1.9.5", Some(Announced)),
        ("of a block that nobody has", "10.1.10.5", Some(Announced)),
        ("of an IPv6 pool", "fd00:10:1:9::5", Some(Announced)),
        ("of the narrower pool", "10.1.64.5", Some(NotExported)),
        ("IPIP", "10.2.0.5", Some(Ipip)),
        ("VXLAN", "10.3.0.5", Some(Vxlan)),
        ("of no pool", "192.0.2.5", Some(NoPool)),
    ];
    for (what, address, expected) in rows {
        let expected: Vec<_> = expected.into_iter().map(|standing| (address.to_owned(), standing)).collect();
        assert_eq!(decided(&objects(&[address]), &Desired::default()), expected, "{what}");
    }
}

#[test]
fn nothing_is_borrowed_where_the_file_refuses_it() {
    let (objects, before) = (objects(&["10.1.9.5"]), before(&[("10.1.9.5", BorrowedStanding::Announced)]));
    assert_eq!(desired(&sources(Borrowed::Refuse), &objects, &before).borrowed, BTreeMap::new());
}

#[test]
fn an_address_without_a_route_is_gone_whatever_is_known() {
    let before = before(&[("10.1.9.5", BorrowedStanding::Announced)]);
    assert_eq!(decided(&objects(&[]), &before), []);
    let silent = Objects { local_pods: pods(&[]), ..Objects::default() };
    assert_eq!(decided(&silent, &before), []);
}

/// What a restart finds: first the file, then the kernel, and the server at last.
#[test]
fn what_was_announced_stays_until_the_server_has_spoken_if_the_pod_is_here() {
    let kept = before(&[
        ("10.1.9.5", BorrowedStanding::Announced),
        ("10.1.9.6", BorrowedStanding::Announced),
        ("192.0.2.5", BorrowedStanding::NoPool),
    ]);
    let mut objects = Objects::default();
    let desired = |objects: &Objects, before: &Desired| desired(&sources(ADVERTISE), objects, before);
    let unread = desired(&objects, &kept);
    let shown: Vec<_> = unread.borrowed.values().collect();
    assert_eq!(shown, [&BorrowedStanding::RouteUnknown; 2]);
    // Neither is announced, nor forgotten, however often it is decided.
    assert_eq!(desired(&objects, &unread), unread);

    objects.local_pods = pods(&["10.1.8.5", "10.1.9.5", "10.1.9.7"]);
    let read = desired(&objects, &unread);
    assert_eq!(decided(&objects, &unread), announced(&["10.1.9.5"]));

    // Pools alone do not say which blocks are ours.
    objects.pools = super::tests::objects(&[]).pools;
    assert_eq!(decided(&objects, &read), announced(&["10.1.9.5"]));
    let told = Objects { local_pods: objects.local_pods, ..super::tests::objects(&[]) };
    assert_eq!(decided(&told, &read), announced(&["10.1.9.5", "10.1.9.7"]));
}

/// From "borrowed from c2" to "ours", as Calico does it, without a moment in which nothing is announced.
#[test]
fn a_block_takes_over_when_it_is_announced_and_not_before() {
    let ours = "10.1.9.0/26";
    let mut objects = objects(&["10.1.9.5"]);
    let mut now = desired(&sources(ADVERTISE), &objects, &Desired::default());
    let mut step = |objects: &Objects| {
        now = desired(&sources(ADVERTISE), objects, &now);
        let block = now.blocks.get(&prefix(ours)).is_some_and(Block::is_announced);
        (block, now.borrowed.len())
    };
    assert_eq!(step(&objects), (false, 1));
    for state in [AffinityState::Pending, AffinityState::Confirmed] {
        objects.affinities =
            known([affinity("c1", "10.1.8.0/26", AffinityState::Confirmed), affinity("c1", ours, state)]);
        assert_eq!(step(&objects), (false, 1), "{state:?}");
    }
    let object = objects::Block { cidr: prefix(ours), owner: Owner::Node("c1".to_owned()) };
    objects.blocks.insert(prefix(ours), known([(ours.to_owned(), object)]));
    assert_eq!(step(&objects), (true, 0));
    // And back: the block goes, the pod stays.
    objects.affinities = known([affinity("c1", ours, AffinityState::PendingDeletion)]);
    assert_eq!(step(&objects), (false, 1));
    objects.affinities = known([affinity("c2", ours, AffinityState::Confirmed)]);
    assert_eq!(step(&objects), (false, 1));
}

#[test]
fn an_address_of_a_block_that_may_be_ours_waits_for_the_owner() {
    let mut objects = objects(&["10.1.9.5"]);
    objects.affinities = known([affinity("c1", "10.1.9.0/26", AffinityState::Confirmed)]);
    assert_eq!(decided(&objects, &Desired::default()), []);
}

#[test]
fn a_block_of_the_node_itself_is_its_own_as_well() {
    let sources = Sources { node: "c1".to_owned(), ..sources(ADVERTISE) };
    let (source, standing) = (BlockSource::Node, Standing::Announced);
    let block = Block { source, standing, rivals: BTreeSet::new() };
    let blocks = [(prefix("10.1.9.0/24"), block)].into();
    assert_eq!(borrowed(&sources, &objects(&["10.1.9.5"]), &blocks, &Desired::default()), BTreeMap::new());
}
