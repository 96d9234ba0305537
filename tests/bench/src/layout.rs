//! Candidates for the table of all paths: what a prefix costs, and what the table's operations take.
//!
//! Every candidate holds the same: for each IPv4 prefix two handles of next-hop sets and its paths, each of them
//! two handles of attributes, a peer and a generation. Half of the prefixes are /32, half /26; they come in the
//! order of a hash, as a speaker with a hash table sends them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hint::black_box;
use std::net::Ipv4Addr;

use bgp::Ipv4Prefix;
use foldhash::fast::RandomState;
use ipnetwork::Ipv4Network;
use prefix_trie::PrefixMap;
use smallvec::SmallVec;

use crate::counting;

#[expect(dead_code, reason = "the bench uses a part of it")]
#[path = "../../../bgp/src/rib/leaves.rs"]
mod leaves;

use leaves::Leaves;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const PATHS: [u16; 3] = [1, 2, 8];

/// As in the RIB.
#[derive(Clone, Copy)]
struct Path {
    received: u32,
    _imported: u32,
    peer: u16,
    _generation: u16,
}

/// As in the RIB before: paths with two shared pointers.
#[derive(Clone)]
struct WidePath {
    received: usize,
    _imported: [usize; 2],
    peer: u32,
}

type NextHopSets = [u32; 2];

trait Candidate: Default {
    const NAME: &'static str;
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16);
    fn look_up(&self, prefix: Ipv4Prefix) -> u64;
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16);
    /// All in order.
    fn walk(&self) -> u64;
}

fn path(peer: u16) -> Path {
    Path { received: peer.into(), _imported: 7, peer, _generation: 1 }
}

fn sum(paths: &[Path]) -> u64 {
    paths.iter().map(|path| u64::from(path.received)).sum()
}

#[derive(Default)]
struct Compact {
    _sets: NextHopSets,
    paths: SmallVec<[Path; 2]>,
}

impl Compact {
    fn withdraw(&mut self, peer: u16) {
        self.paths.retain(|path| path.peer != peer);
    }
}

/// `BTreeMap` with the keys and paths that the RIB began with: either family in one key, pointers in a path.
#[derive(Default)]
struct WideTree(BTreeMap<bgp::Prefix, Wide>);

#[derive(Default)]
struct Wide {
    paths: SmallVec<[WidePath; 2]>,
    _sets: [usize; 2],
}

impl Candidate for WideTree {
    const NAME: &'static str = "BTreeMap, pointers";
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16) {
        let path = WidePath { received: peer.into(), _imported: [0; 2], peer: peer.into() };
        self.0.entry(prefix.into()).or_default().paths.push(path);
    }
    fn look_up(&self, prefix: Ipv4Prefix) -> u64 {
        let paths = self.0.get(&prefix.into()).map(|found| found.paths.as_slice()).unwrap_or_default();
        paths.iter().map(|path| path.received as u64).sum()
    }
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16) {
        if let Some(found) = self.0.get_mut(&prefix.into()) {
            found.paths.retain(|path| path.peer != u32::from(peer));
            if found.paths.is_empty() {
                self.0.remove(&prefix.into());
            }
        }
    }
    fn walk(&self) -> u64 {
        self.0.values().flat_map(|found| &found.paths).map(|path| path.received as u64).sum()
    }
}

/// `BTreeMap` with compact keys and paths.
#[derive(Default)]
struct Tree(BTreeMap<Ipv4Prefix, Compact>);

impl Candidate for Tree {
    const NAME: &'static str = "BTreeMap, handles";
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16) {
        self.0.entry(prefix).or_default().paths.push(path(peer));
    }
    fn look_up(&self, prefix: Ipv4Prefix) -> u64 {
        self.0.get(&prefix).map_or(0, |found| sum(&found.paths))
    }
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16) {
        if let Some(found) = self.0.get_mut(&prefix) {
            found.withdraw(peer);
            if found.paths.is_empty() {
                self.0.remove(&prefix);
            }
        }
    }
    fn walk(&self) -> u64 {
        self.0.values().map(|found| sum(&found.paths)).sum()
    }
}

/// The crate prefix-trie.
#[derive(Default)]
struct Trie(PrefixMap<Ipv4Network, Compact>);

fn network(prefix: Ipv4Prefix) -> Ipv4Network {
    Ipv4Network::new(prefix.address(), prefix.length())
        .unwrap_or_else(|_| Ipv4Network::from(Ipv4Addr::UNSPECIFIED))
}

impl Candidate for Trie {
    const NAME: &'static str = "prefix-trie";
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16) {
        self.0.entry(network(prefix)).or_default().paths.push(path(peer));
    }
    fn look_up(&self, prefix: Ipv4Prefix) -> u64 {
        self.0.get(&network(prefix)).map_or(0, |found| sum(&found.paths))
    }
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16) {
        if let Some(found) = self.0.get_mut(&network(prefix)) {
            found.withdraw(peer);
            if found.paths.is_empty() {
                self.0.remove(&network(prefix));
            }
        }
    }
    fn walk(&self) -> u64 {
        self.0.iter().map(|(_, found)| sum(&found.paths)).sum()
    }
}

/// A hash table, with an ordered set of its keys beside it for pages and sweeps.
#[derive(Default)]
struct Hash {
    table: HashMap<Ipv4Prefix, Compact, RandomState>,
    order: BTreeSet<Ipv4Prefix>,
}

impl Candidate for Hash {
    const NAME: &'static str = "hash + ordered keys";
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16) {
        let found = self.table.entry(prefix).or_insert_with(|| {
            self.order.insert(prefix);
            Compact::default()
        });
        found.paths.push(path(peer));
    }
    fn look_up(&self, prefix: Ipv4Prefix) -> u64 {
        self.table.get(&prefix).map_or(0, |found| sum(&found.paths))
    }
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16) {
        if let Some(found) = self.table.get_mut(&prefix) {
            found.withdraw(peer);
            if found.paths.is_empty() {
                self.table.remove(&prefix);
                self.order.remove(&prefix);
            }
        }
    }
    fn walk(&self) -> u64 {
        self.order.iter().filter_map(|prefix| self.table.get(prefix)).map(|found| sum(&found.paths)).sum()
    }
}

/// The RIB's own: leaves of sorted columns.
#[derive(Default)]
struct Columns(Leaves<Ipv4Prefix, NextHopSets, Path>);

impl Candidate for Columns {
    const NAME: &'static str = "leaves of columns";
    fn add(&mut self, prefix: Ipv4Prefix, peer: u16) {
        let _ = self.0.push(prefix, path(peer));
    }
    fn look_up(&self, prefix: Ipv4Prefix) -> u64 {
        self.0.get(prefix).map_or(0, |found| sum(found.items))
    }
    fn withdraw(&mut self, prefix: Ipv4Prefix, peer: u16) {
        let position = self.0.get(prefix).and_then(|found| found.items.iter().position(|p| p.peer == peer));
        if let Some(position) = position {
            self.0.take_item(prefix, position);
            self.0.remove(prefix);
        }
    }
    fn walk(&self) -> u64 {
        self.0.behind(None).map(|(_, found)| sum(found.items)).sum()
    }
}

/// The prefixes of a table, in no order.
pub(crate) fn prefixes(count: usize) -> Vec<Ipv4Prefix> {
    let mut all: Vec<Ipv4Prefix> = (0..count)
        .filter_map(|number| {
            let number = u32::try_from(number).ok()?;
            if number % 2 == 0 {
                Ipv4Prefix::masked(Ipv4Addr::from(0x0a00_0000 + number), 32)
            } else {
                Ipv4Prefix::masked(Ipv4Addr::from(0x1400_0000 + number * 64), 26)
            }
        })
        .collect();
    fastrand::Rng::with_seed(7).shuffle(&mut all);
    all
}

struct Row {
    octets: usize,
    peak: usize,
    insert: f64,
    look_up: f64,
    walk: f64,
    withdraw: f64,
    slowest_us: u128,
}

fn nanoseconds(items: usize, work: impl FnOnce()) -> f64 {
    let begin = counting::cpu_time();
    work();
    (counting::cpu_time() - begin).as_nanos() as f64 / items as f64
}

fn measure<C: Candidate>(prefixes: &[Ipv4Prefix], paths: u16) -> Row {
    let operations = prefixes.len() * usize::from(paths);
    let before = counting::in_use();
    counting::take_peak();
    let mut table = C::default();
    let mut slowest = 0;
    let insert = nanoseconds(operations, || {
        for peer in 0..paths {
            for slice in prefixes.chunks(64) {
                let begin = counting::cpu_time();
                slice.iter().for_each(|&prefix| table.add(prefix, peer));
                slowest = slowest.max((counting::cpu_time() - begin).as_micros());
            }
        }
    });
    let octets = counting::in_use() - before;
    let peak = counting::take_peak() - before;
    let look_up = nanoseconds(prefixes.len(), || {
        black_box(prefixes.iter().map(|&prefix| table.look_up(prefix)).sum::<u64>());
    });
    let walk = nanoseconds(prefixes.len(), || {
        black_box(table.walk());
    });
    let withdraw = nanoseconds(operations, || {
        for peer in 0..paths {
            prefixes.iter().for_each(|&prefix| table.withdraw(prefix, peer));
        }
    });
    Row { octets, peak, insert, look_up, walk, withdraw, slowest_us: slowest }
}

fn print<C: Candidate>(prefixes: &[Ipv4Prefix], paths: u16) {
    // Others work on the same machine: the best of three of each, where that does not take minutes.
    let again = if prefixes.len() > 100_000 { 0 } else { 2 };
    let mut row = measure::<C>(prefixes, paths);
    for _ in 0..again {
        let again = measure::<C>(prefixes, paths);
        row.insert = row.insert.min(again.insert);
        row.look_up = row.look_up.min(again.look_up);
        row.walk = row.walk.min(again.walk);
        row.withdraw = row.withdraw.min(again.withdraw);
        row.slowest_us = row.slowest_us.min(again.slowest_us);
    }
    let Row { octets, peak, insert, look_up, walk, withdraw, slowest_us } = row;
    let each = |octets: usize| octets as f64 / prefixes.len() as f64;
    println!(
        "| {} | {} | {} | {:.0} | {:.0} | {insert:.0} | {look_up:.0} | {walk:.1} | {withdraw:.0} | {slowest_us} |",
        prefixes.len(),
        paths,
        C::NAME,
        each(octets),
        each(peak)
    );
}

pub(crate) fn run(sizes: &[usize]) {
    println!(
        "| prefixes | paths | layout | octets/prefix | peak | add, ns | look up, ns | walk, ns | withdraw, ns | slowest 64 adds, us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for &size in if sizes.is_empty() { &SIZES } else { sizes } {
        let prefixes = prefixes(size);
        for paths in PATHS {
            print::<WideTree>(&prefixes, paths);
            print::<Tree>(&prefixes, paths);
            print::<Trie>(&prefixes, paths);
            print::<Hash>(&prefixes, paths);
            print::<Columns>(&prefixes, paths);
        }
    }
}
