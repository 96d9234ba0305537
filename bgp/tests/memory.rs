//! The RIB's word on its memory against the allocator's. One test alone in its program: nobody else allocates meanwhile.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bgp::message::{AsPath, Attributes, Community, Reach, Segment, SegmentKind, Update};
use bgp::policy::Role;
use bgp::rib::{Census, Originator, PeerConfig, PeerSession, Rib, RibConfig, RibMemory, Ripeness};
use bgp::{Asn, Families, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};

/// The system's allocator, with the number of octets that were asked of it and not given back.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count does not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        IN_USE.fetch_add(new_size, Relaxed);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

const PEERS: u32 = 2;
const PREFIXES: u32 = 60_000;
const OWN: u32 = 5_000;
/// A difference that is nobody's fault: B-trees are counted by how full their nodes are on average.
const TOLERANCE: f64 = 0.05;

fn link_local(peer: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(peer))
}

fn session(peer: u32) -> PeerSession {
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

fn ipv4(number: u32) -> Prefix {
    Prefix::masked(Ipv4Addr::from(0x0b00_0000 + number * 256).into(), 24).unwrap()
}

fn ipv6(number: u32) -> Prefix {
    Prefix::masked(Ipv6Addr::from(0x2a00_u128 << 112 | u128::from(number) << 80).into(), 48).unwrap()
}

/// A few long paths and communities, so that there is something behind every pointer.
fn attributes(peer: u32, set: u32) -> Attributes {
    let mut asns = vec![Asn(65100 + peer), Asn(65000), Asn(100_000 + set)];
    asns.extend((0..set % 9).map(|number| Asn(200_000 + number)));
    Attributes {
        as_path: AsPath::from_segments([Segment { kind: SegmentKind::Sequence, asns }]),
        next_hop: NextHop::LinkLocal(link_local(peer)),
        communities: (0..set % 5).map(Community).collect(),
        ..Attributes::originated()
    }
}

fn settle(rib: &mut Rib) {
    loop {
        while rib.process(1024) {}
        let to_peers: usize = (1..=PEERS).map(|peer| rib.poll_outgoing(PeerId(peer), 4096).len()).sum();
        if to_peers + rib.poll_fib(1024, Ripeness::Any).len() == 0 && !rib.is_dirty() {
            return;
        }
    }
}

fn load(rib: &mut Rib, in_set: usize) {
    for peer in 1..=PEERS {
        rib.session_up(PeerId(peer), session(peer));
        let all: Vec<Prefix> = (0..PREFIXES).map(|n| if n % 4 == 0 { ipv6(n) } else { ipv4(n) }).collect();
        for (set, prefixes) in (0..).zip(all.chunks(in_set)) {
            let reach = vec![Reach { attributes: attributes(peer, set), prefixes: prefixes.to_vec() }];
            rib.receive(PeerId(peer), Update { reach, ..Update::default() });
        }
    }
    settle(rib);
}

fn census(rib: &Rib) -> RibMemory {
    let mut census = Census::default();
    loop {
        census = rib.count_memory(census);
        if let Some(memory) = census.result() {
            return memory;
        }
    }
}

/// What is there beside the tables: neighbors, configuration, the set of what originates here.
fn assert_accounted(rib: &Rib, before: usize, when: &str) {
    let (told, used) = (census(rib).octets() as f64, (IN_USE.load(Relaxed) - before) as f64);
    assert!((told / used - 1.0).abs() < TOLERANCE, "{when}: {told} octets told, {used} in use");
}

#[test]
fn what_the_rib_says_is_what_it_has() {
    let own: BTreeMap<Prefix, Originator> = (0..OWN)
        .map(|number| {
            let address = Ipv4Addr::from(0x6400_0000 + number * 64);
            (Prefix::masked(address.into(), 26).unwrap(), Originator::StaticBlock)
        })
        .collect();
    let before = IN_USE.load(Relaxed);
    let mut rib = Rib::new(RibConfig {
        local_as: Asn(65001),
        router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)),
        max_paths: 16,
        role: Role::Host,
    });
    (1..=PEERS).for_each(|peer| rib.configure_peer(PeerId(peer), PeerConfig::limited_to(u32::MAX)));
    let empty = IN_USE.load(Relaxed) - before;

    for (in_set, what) in [(100, "hundred prefixes to a set"), (1, "a set for each prefix")] {
        load(&mut rib, in_set);
        assert_accounted(&rib, before, what);
        let memory = census(&rib);
        let counts = [memory.paths.count, memory.prefixes.count, memory.adj_ribs_out.count];
        assert_eq!(counts, [120_000, 60_000, 0]);
        assert_eq!(memory.next_hops.count, 1, "{what}: both neighbors together");

        (1..=PEERS).for_each(|peer| rib.session_down(PeerId(peer)));
        settle(&mut rib);
        let left = IN_USE.load(Relaxed) - before;
        // Lists keep their first piece.
        assert!(left < empty + 32_768, "{what}: {left} octets left, {empty} at first");
    }

    load(&mut rib, 100);
    let at = IN_USE.load(Relaxed);
    rib.set_originated(own);
    settle(&mut rib);
    let told = census(&rib).adj_ribs_out;
    let used = IN_USE.load(Relaxed) - at;
    assert_eq!(told.count, (OWN * PEERS) as usize);
    // The destinations of what originates here, and its set, are beside the Adj-RIBs-Out.
    assert!(told.octets < used && told.octets * 2 > used, "{told:?}, {used} more in use");
}
