//! The RIB from UPDATE to FIB change, without sockets: time for each path, octets for each prefix, longest turn.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::message::{AsPath, Attributes, Reach, Segment, SegmentKind, Update};
use bgp::policy::Role;
use bgp::rib::{PeerConfig, PeerSession, Rib, RibConfig, Ripeness};
use bgp::{Asn, Families, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};

use crate::counting;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const PEERS: u32 = 2;
/// Prefixes in one UPDATE.
const UPDATE: usize = 100;
/// As the RIB's task does it.
const BUDGET: usize = 1024;
/// How often all routes come and go.
const FLAPS: usize = 3;

pub(crate) fn session(peer: u32) -> PeerSession {
    PeerSession {
        kind: PeerKind::External,
        asn: Asn(65100 + peer),
        router_id: RouterId(Ipv4Addr::from(0x0a00_0000 + peer)),
        address: link_local(peer).into(),
        interface: Some(InterfaceIndex(peer)),
        families: Families::ALL,
        next_hop_ipv4: Some(NextHop::LinkLocal(link_local(99))),
        next_hop_ipv6: Some(NextHop::LinkLocal(link_local(99))),
        local_addresses: vec![link_local(99).into()],
        enhanced_route_refresh: true,
        preserved: Families::NONE,
    }
}

fn link_local(peer: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(peer))
}

pub(crate) fn update(peer: u32, number: usize, prefixes: &[Prefix]) -> Update {
    let origin = Asn(u32::try_from(number).unwrap_or_default() + 100_000);
    let segment = Segment { kind: SegmentKind::Sequence, asns: vec![Asn(65100 + peer), Asn(65000), origin] };
    let attributes = Attributes {
        as_path: AsPath::from_segments([segment]),
        next_hop: NextHop::LinkLocal(link_local(peer)),
        ..Attributes::originated()
    };
    Update { reach: vec![Reach { attributes, prefixes: prefixes.to_vec() }], ..Update::default() }
}

#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) spent: Duration,
    pub(crate) longest: Duration,
}

impl Clock {
    pub(crate) fn turn<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = counting::cpu_time();
        let result = work();
        let took = counting::cpu_time() - begin;
        self.spent += took;
        self.longest = self.longest.max(took);
        result
    }
}

pub(crate) fn settle(rib: &mut Rib, clock: &mut Clock) {
    while clock.turn(|| rib.process(BUDGET)) {}
    while !clock.turn(|| rib.poll_fib(BUDGET, Ripeness::Any)).is_empty() {}
    while clock.turn(|| rib.process(BUDGET)) {}
}

fn load(rib: &mut Rib, prefixes: &[Prefix], in_update: usize, clock: &mut Clock) {
    for peer in 1..=PEERS {
        for (number, slice) in prefixes.chunks(in_update).enumerate() {
            let update = update(peer, number, slice);
            clock.turn(|| rib.receive(PeerId(peer), update));
            // A socket brings some messages at a time.
            if number % 32 == 31 {
                clock.turn(|| rib.process(BUDGET));
            }
        }
    }
    settle(rib, clock);
}

pub(crate) fn run(sizes: &[usize]) {
    println!(
        "| prefixes | prefixes/attributes | octets/prefix | peak | import and decide, us/path | session down, us/path | longest turn, ms | resident before / after 1 / after {FLAPS} flaps, MB | left after 1 / {FLAPS} flaps, octets |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for &size in if sizes.is_empty() { &SIZES } else { sizes } {
        let prefixes: Vec<Prefix> = crate::layout::prefixes(size).into_iter().map(Prefix::from).collect();
        for in_update in [UPDATE, 1] {
            measure(&prefixes, in_update);
        }
    }
}

fn measure(prefixes: &[Prefix], in_update: usize) {
    let (before, resident_before) = (counting::in_use(), counting::resident());
    counting::take_peak();
    let mut rib = Rib::new(RibConfig {
        local_as: Asn(65001),
        router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)),
        max_paths: 16,
        role: Role::Host,
    });
    (1..=PEERS).for_each(|peer| rib.configure_peer(PeerId(peer), PeerConfig::limited_to(u32::MAX)));
    (1..=PEERS).for_each(|peer| rib.session_up(PeerId(peer), session(peer)));
    let mut loading = Clock::default();
    load(&mut rib, prefixes, in_update, &mut loading);
    let (held, peak) = (counting::in_use() - before, counting::take_peak() - before);
    let mut falling = Clock::default();
    (1..=PEERS).for_each(|peer| falling.turn(|| rib.session_down(PeerId(peer))));
    settle(&mut rib, &mut falling);
    let (first, resident_first) = (counting::in_use() - before, counting::resident());
    for _ in 1..FLAPS {
        (1..=PEERS).for_each(|peer| rib.session_up(PeerId(peer), session(peer)));
        let mut clock = Clock::default();
        load(&mut rib, prefixes, in_update, &mut clock);
        (1..=PEERS).for_each(|peer| rib.session_down(PeerId(peer)));
        settle(&mut rib, &mut clock);
    }
    let paths = prefixes.len() as f64 * f64::from(PEERS);
    let each = |octets: usize| octets as f64 / prefixes.len() as f64;
    println!(
        "| {} | {in_update} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {resident_before:.1} / {resident_first:.1} / {:.1} | {first} / {} |",
        prefixes.len(),
        each(held),
        each(peak),
        loading.spent.as_micros() as f64 / paths,
        falling.spent.as_micros() as f64 / paths,
        loading.longest.max(falling.longest).as_micros() as f64 / 1000.0,
        counting::resident(),
        counting::in_use().saturating_sub(before),
    );
}
