//! The FIB's delta: changes of the RIB into requests to the kernel and their completion, with nexthop objects and without.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bgp::rib::{FibChange, Gateways};
use bgp::{Family, InterfaceIndex, Prefix};
use divan::Bencher;
use divan::counter::ItemsCount;
use selvedge::kernel::fib::bench::Reconciler;
use selvedge::kernel::fib::{NexthopObjects, Ownership, Settings};
use selvedge::kernel::interfaces::{Interface, Interfaces};

use crate::fixture::{gateway, prefixes};

/// A table, and how its routes get at their next hops.
#[derive(Debug, Clone, Copy)]
struct Size {
    routes: u32,
    objects: NexthopObjects,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.objects {
            NexthopObjects::Auto | NexthopObjects::On => "objects",
            NexthopObjects::Off => "in line",
        };
        write!(f, "{} routes, {how}", self.routes)
    }
}

const SIZES: [Size; 4] = [
    Size { routes: 10_000, objects: NexthopObjects::On },
    Size { routes: 10_000, objects: NexthopObjects::Off },
    Size { routes: 100_000, objects: NexthopObjects::On },
    Size { routes: 100_000, objects: NexthopObjects::Off },
];

const BOTH: &[u32] = &[1, 2];
const ONE: &[u32] = &[1];

fn reconciler(objects: NexthopObjects) -> Reconciler {
    let settings = Settings {
        ownership: Ownership { protocol: 186, table: 254, metric: 20 },
        sweep_after: Settings::SWEEP_AFTER,
        event_buffer: 0,
        nexthop_objects: objects,
        nexthop_ids: 1000..=1999,
    };
    let link = |index| Interface {
        index: InterfaceIndex(index),
        name: format!("ens{index}"),
        admin_up: true,
        carrier: true,
        carrier_changes: 0,
        loopback: false,
        mac: None,
        mtu: 1500,
        link_local: None,
        addresses: Vec::new(),
    };
    let by_index: BTreeMap<_, _> = BOTH.iter().map(|&index| (InterfaceIndex(index), link(index))).collect();
    Reconciler::new(settings, Arc::new(Interfaces { by_index }), Instant::now())
}

/// One for each route; `None` takes it away.
fn changes(prefixes: &[Prefix], over: Option<&[u32]>) -> Vec<FibChange> {
    let gateways: Option<Gateways> = over.map(|over| over.iter().copied().map(gateway).collect());
    prefixes.iter().map(|&prefix| FibChange { prefix, gateways: gateways.clone() }).collect()
}

fn apply(reconciler: &mut Reconciler, changes: Vec<FibChange>) -> usize {
    changes.into_iter().for_each(|change| reconciler.want(change));
    reconciler.settle(Instant::now())
}

/// All routes come; none was there.
#[divan::bench(args = SIZES, sample_size = 1)]
fn install(bencher: Bencher<'_, '_>, size: Size) {
    measure(bencher, size, None, Some(BOTH));
}

/// All routes lose one of two next hops, by the RIB's word on each.
#[divan::bench(args = SIZES, sample_size = 1)]
fn change_next_hops(bencher: Bencher<'_, '_>, size: Size) {
    measure(bencher, size, Some(BOTH), Some(ONE));
}

/// All routes go.
#[divan::bench(args = SIZES, sample_size = 1)]
fn remove(bencher: Bencher<'_, '_>, size: Size) {
    measure(bencher, size, Some(BOTH), None);
}

fn measure(bencher: Bencher<'_, '_>, size: Size, before: Option<&[u32]>, after: Option<&[u32]>) {
    let prefixes = prefixes(Family::Ipv4Unicast, size.routes);
    bencher
        .counter(ItemsCount::new(size.routes))
        .with_inputs(|| {
            let mut reconciler = reconciler(size.objects);
            if before.is_some() {
                apply(&mut reconciler, changes(&prefixes, before));
            }
            (reconciler, changes(&prefixes, after))
        })
        .bench_local_values(|(mut reconciler, changes)| {
            let written = apply(&mut reconciler, changes);
            assert_eq!(written, prefixes.len());
            // Dropped when the clock has stopped.
            reconciler
        });
}
