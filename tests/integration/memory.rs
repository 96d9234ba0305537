//! What the daemon gives back when its routes go.

use lab::flaps::{self, FlapOptions, Sample};
use lab::{Account, Programs, Requirement, can_run};

/// Some megabytes in the daemon, and seconds in a build without optimisation.
const OPTIONS: FlapOptions = FlapOptions { routes: 20_000, rounds: 3 };
/// What stays after the first work and does not grow: the pages of threads, buffers and code that a daemon at rest has not
/// touched yet, and the holes between what lives on.
const FIRST_WORK: u64 = 4 << 20;

/// A million routes, ten times: `cargo run --release -p bench -- flaps 1000000 10`.
#[test]
fn memory_comes_back_when_the_routes_go() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let name = format!("flaps-{}", std::process::id());
    let programs = Programs {
        daemon: env!("CARGO_BIN_EXE_selvedge").into(),
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
        nexthop_objects: None,
    };
    let flaps = flaps::run(&name, &programs, OPTIONS).unwrap();
    let empty: Vec<Sample> = flaps.rounds.iter().map(|[_, empty]| *empty).collect();
    let [first, .., last] = empty.as_slice() else { panic!("{flaps:?}") };
    assert!(last.resident <= flaps.idle.resident / 10 * 11 + FIRST_WORK, "{flaps:#?}");
    assert!(last.resident <= first.resident / 10 * 11, "it grows with each round: {flaps:#?}");
    // What is handed out is exact. Queues and lists find their size in the first rounds, which takes a hundred kilobytes; of
    // a route not so much as a pointer stays.
    let came_and_went = u64::from(OPTIONS.routes) * u64::from(OPTIONS.rounds - 1);
    assert!(last.allocated < first.allocated + 8 * came_and_went, "something leaks: {flaps:#?}");
    for [full, empty] in &flaps.rounds {
        // 40 octets at least for each route: the routes were there, and the daemon knew.
        assert!(full.allocated >= empty.allocated + 40 * u64::from(OPTIONS.routes), "{flaps:#?}");
    }
    assert!(flaps.parts.contains("Paths                20000 "), "{}", flaps.parts);
}
