//! The steps inside the RIB: keeping attributes once, judging what comes in, deciding, and packing what goes out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bgp::message::update::LinkLocalForm;
use bgp::message::{Attributes, Outgoing, Reach, Update, UpdateCodec};
use bgp::policy::{Guard, Inbound, Judgement, Refusal, Role};
use bgp::rib::bench::Interner;
use bgp::rib::decision::{Candidate, Source, Standing, decide};
use bgp::rib::{Connected, Originated, Originator, PeerConfig, Rib, Ripeness, ToPeer};
use bgp::{Family, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix};
use bytes::BytesMut;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use crate::fixture::{attributes, codec, link_local, prefixes, rib_config, router_id, session};

/// Sets of attributes that are there already.
const KNOWN: u32 = 10_000;
/// Sets of attributes in one sample: a single one takes about as long as reading the clock.
const BATCH: usize = 100;
/// Routes that are packed.
const ROUTES: u32 = 10_000;
/// Turns of the RIB's task, and what it hands to a neighbor at a time.
const BUDGET: usize = 1024;
const PEER_BATCH: usize = 4096;

fn from_tor(peer: u32, node: u32) -> Attributes {
    attributes(peer, node, NextHop::LinkLocal(link_local(peer)))
}

fn interner() -> Interner {
    let mut interner = Interner::new();
    (0..KNOWN).for_each(|node| assert!(interner.hold(from_tor(1, node)).is_some()));
    interner
}

/// Paths come with attributes that others have, and go again, one after the other.
#[divan::bench]
fn interner_hit(bencher: Bencher<'_, '_>) {
    let mut interner = interner();
    hold_and_release(bencher, &mut interner, |number| number % KNOWN);
}

/// The same with those of the path before, as in a run of UPDATEs that differ in their prefixes alone.
#[divan::bench]
fn interner_repeated(bencher: Bencher<'_, '_>) {
    let mut interner = interner();
    hold_and_release(bencher, &mut interner, |_| 0);
}

/// The same with attributes that no other path has.
#[divan::bench]
fn interner_miss(bencher: Bencher<'_, '_>) {
    let mut interner = interner();
    hold_and_release(bencher, &mut interner, |number| KNOWN + number % KNOWN);
}

fn hold_and_release(bencher: Bencher<'_, '_>, interner: &mut Interner, node: impl Fn(u32) -> u32) {
    let mut number = 0_u32;
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let attributes = (0..BATCH).map(|_| {
                number = number.wrapping_add(1);
                from_tor(1, node(number))
            });
            attributes.collect::<Vec<_>>()
        })
        .bench_local_values(|batch| {
            for attributes in batch {
                let held = interner.hold(attributes);
                held.into_iter().for_each(|held| interner.release(held));
            }
        });
}

/// The guard over a hundred prefixes: believed, as nearly all are.
#[divan::bench]
fn policy_import(bencher: Bencher<'_, '_>) {
    judge_all(bencher, &prefixes(Family::Ipv4Unicast, 100), &Judgement::AsReceived);
}

/// The same for what originates here: refused.
#[divan::bench]
fn policy_import_refused(bencher: Bencher<'_, '_>) {
    let own: Prefix = "172.16.0.0/16".parse().unwrap();
    judge_all(bencher, &[own; 100], &Judgement::Refused(Refusal::OwnPrefix));
}

fn judge_all(bencher: Bencher<'_, '_>, prefixes: &[Prefix], expected: &Judgement) {
    let (config, session, attributes) = (rib_config(Role::Host), session(1), from_tor(1, 1));
    let blocks = ["172.16.0.0/16", "fd00:10::/64"];
    let routes = blocks.map(|block| (block.parse().unwrap(), Originator::StaticBlock));
    let originated = Originated::from(BTreeMap::from(routes));
    let connected = Connected::from(BTreeSet::from(["192.0.2.0/31".parse().unwrap()]));
    let guard = Guard {
        config: &config,
        originated: &originated,
        connected: &connected,
        session: &session,
        inbound: Inbound::Plain,
        allowed_own_as: 0,
    };
    for &prefix in prefixes {
        assert_eq!(guard.judge(prefix, &attributes), *expected, "{prefix}");
    }
    bencher.counter(ItemsCount::new(prefixes.len())).bench_local(|| {
        for &prefix in prefixes {
            divan::black_box(guard.judge(divan::black_box(prefix), &attributes));
        }
    });
}

/// One best path among equal ones, to the last rung of the ladder.
#[divan::bench(args = [2, 8])]
fn decision_best_path(bencher: Bencher<'_, '_>, paths: u32) {
    decide_among(bencher, paths, 1);
}

/// All of them are used.
#[divan::bench(args = [2, 8])]
fn decision_multipath(bencher: Bencher<'_, '_>, paths: u32) {
    decide_among(bencher, paths, 16);
}

fn decide_among(bencher: Bencher<'_, '_>, paths: u32, max_paths: usize) {
    let received: Vec<_> = (1..=paths).map(|peer| from_tor(peer, 1)).collect();
    let candidates: Vec<_> = (1..)
        .zip(&received)
        .map(|(peer, attributes)| Candidate {
            attributes,
            source: Source::Peer {
                peer: PeerId(peer),
                kind: PeerKind::External,
                router_id: router_id(peer),
                address: link_local(peer).into(),
                interface: Some(InterfaceIndex(peer)),
            },
        })
        .collect();
    let standings = decide(&candidates, max_paths);
    let used = standings.iter().filter(|standing| !matches!(standing, Standing::NotSelected(_)));
    assert_eq!(used.count(), candidates.len().min(max_paths));
    bencher
        .counter(ItemsCount::new(paths))
        .bench_local(|| decide(divan::black_box(&candidates), divan::black_box(max_paths)));
}

/// A neighbor's Adj-RIB-Out into UPDATEs, with one route or a hundred to each set of attributes.
#[divan::bench(args = [1, 100], sample_size = 1)]
fn packing(bencher: Bencher<'_, '_>, routes_of_a_node: usize) {
    let (from, to) = (1, 2);
    // A ToR: a host has too little to tell.
    let mut rib = Rib::new(rib_config(Role::Transit));
    for peer in [from, to] {
        rib.configure_peer(PeerId(peer), PeerConfig::limited_to(u32::MAX));
    }
    rib.session_up(PeerId(from), session(from));
    for (node, prefixes) in (0..).zip(prefixes(Family::Ipv4Unicast, ROUTES).chunks(routes_of_a_node)) {
        let reach = vec![Reach { attributes: from_tor(from, node), prefixes: prefixes.to_vec() }];
        rib.receive(PeerId(from), Update { reach, ..Update::default() });
    }
    settle(&mut rib);
    let codec = codec(LinkLocalForm::Twice);
    let (rib, mut out) = (RefCell::new(rib), BytesMut::new());
    announce_all(&rib, to);
    let (octets, routes) = pack(&mut rib.borrow_mut(), to, &codec, &mut out);
    assert_eq!(routes, usize::try_from(ROUTES).unwrap());
    bencher
        .counter(ItemsCount::new(ROUTES))
        .counter(BytesCount::new(octets))
        .with_inputs(|| announce_all(&rib, to))
        .bench_local_values(|()| pack(&mut rib.borrow_mut(), to, &codec, &mut out));
}

/// A new session, to which everything is to be told.
fn announce_all(rib: &RefCell<Rib>, peer: u32) {
    let mut rib = rib.borrow_mut();
    rib.session_down(PeerId(peer));
    settle(&mut rib);
    rib.session_up(PeerId(peer), session(peer));
    settle(&mut rib);
}

fn settle(rib: &mut Rib) {
    while rib.process(BUDGET) || !rib.poll_fib(PEER_BATCH, Ripeness::Any).is_empty() {}
}

/// Octets and routes that are said.
fn pack(rib: &mut Rib, peer: u32, codec: &UpdateCodec, out: &mut BytesMut) -> (usize, usize) {
    let (mut octets, mut routes) = (0, 0);
    while rib.has_outgoing(PeerId(peer)) {
        for message in rib.poll_outgoing(PeerId(peer), PEER_BATCH) {
            let ToPeer::Update(update) = message else { continue };
            if let Outgoing::Reach { prefixes, .. } = &update {
                routes += prefixes.len();
            }
            out.clear();
            codec.encode(&update, out);
            octets += out.len();
        }
    }
    (octets, routes)
}
