//! Micro-benchmarks: what one step of a route's way costs, each by itself, without sockets.
//!
//! `cargo bench -p bench` runs all of them in less than a minute; `cargo bench -p bench -- packing` those with that in
//! their name. Under `cargo test` each runs once, to show that it still works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot be set up should say so and end"
)]

mod cluster;
mod codec;
mod fib;
mod fixture;
mod rib;

use std::time::Duration;

/// For one benchmark, with what it needs before each sample. `--max-time` asks for more.
const LONGEST: Duration = Duration::from_secs(1);

fn main() {
    divan::Divan::default().max_time(LONGEST).config_with_args().main();
}
