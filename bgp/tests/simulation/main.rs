//! A rack of speakers in virtual time: real sessions and RIBs over a network with seeded delays, cuts and
//! restarts.
//!
//! After every event no route is without a live source. At rest each Adj-RIB-Out equals what the peer holds, and
//! each FIB is what the topology says.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a simulation that breaks its own rules fails the test"
)]

mod network;
mod speaker;

use std::time::Duration;

use network::{Cut, Network};
use speaker::RESTART_TIME;

const HOSTS: usize = 3;
const TORS: usize = 2;
/// Hold timer (9 s), then retry (5 s) or damping, then a dial in flight that times out (3 s) and margin.
const LONGEST_RECOVERY: Duration = Duration::from_secs(20);

#[test]
fn a_rack_comes_up() {
    for seed in 0..20 {
        let mut rack = Network::rack(HOSTS, TORS, seed);
        rack.run_for(Duration::from_secs(2));
        rack.assert_at_rest();
    }
}

#[test]
fn a_host_that_loses_an_uplink_uses_the_other_one() {
    for cut in [Cut::Carrier, Cut::Silent] {
        let mut rack = Network::rack(HOSTS, TORS, 1);
        rack.run_for(Duration::from_secs(2));
        rack.cut(0, cut);
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
        rack.restore(0);
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
    }
}

#[test]
fn a_tor_that_restarts_is_back_within_five_seconds() {
    for seed in 0..20 {
        let mut rack = Network::rack(HOSTS, TORS, seed);
        rack.run_for(Duration::from_secs(15));
        rack.restart(HOSTS);
        rack.run_for(Duration::from_secs(5));
        rack.assert_at_rest();
    }
}

/// One host, so that a ToR has nothing to wait for before it has said everything.
#[test]
fn a_tor_that_restarts_leaves_the_fib_of_its_host_alone() {
    for seed in 0..20 {
        let mut rack = Network::rack(1, TORS, seed);
        rack.run_for(Duration::from_secs(2));
        let (fib, changes) = (rack.fib(0), rack.fib_changes(0));
        rack.restart(1);
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
        // Away for a while, and back in time.
        rack.stop(1);
        rack.run_for(RESTART_TIME.mul_f64(0.4));
        assert_eq!(rack.fib(0), fib, "seed {seed}");
        rack.boot(1);
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
        assert_eq!(rack.fib_changes(0), changes, "seed {seed}");
    }
}

#[test]
fn a_tor_that_does_not_come_back_is_waited_for_as_long_as_it_asked() {
    for seed in 0..20 {
        let mut rack = Network::rack(1, TORS, seed);
        rack.run_for(Duration::from_secs(2));
        let fib = rack.fib(0);
        rack.stop(1);
        rack.run_for(RESTART_TIME.mul_f64(0.9));
        assert_eq!(rack.fib(0), fib, "seed {seed}");
        rack.run_for(RESTART_TIME.mul_f64(0.2));
        assert_eq!(rack.fib(0).len(), fib.len() - 1, "seed {seed}");
    }
}

#[test]
fn a_tor_whose_link_goes_while_it_restarts_is_not_waited_for() {
    let mut rack = Network::rack(1, TORS, 1);
    rack.run_for(Duration::from_secs(2));
    let fib = rack.fib(0);
    rack.stop(1);
    rack.run_for(Duration::from_secs(1));
    assert_eq!(rack.fib(0), fib);
    rack.cut_at(0, 0);
    assert_eq!(rack.fib(0).len(), fib.len() - 1);
}

#[test]
fn a_rack_survives_cuts_and_restarts_in_any_order() {
    for seed in 0..100 {
        let mut rack = Network::rack(HOSTS, TORS, seed);
        for _ in 0..20 {
            rack.random_fault();
            let wait = rack.random_time(Duration::from_secs(6));
            rack.run_for(wait);
        }
        // With some links still cut, then with all of them.
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
        rack.restore_all();
        rack.run_for(LONGEST_RECOVERY);
        rack.assert_at_rest();
    }
}
