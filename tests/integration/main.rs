//! Integration tests: the programs and the library from outside, on real files, kernels and daemons.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows these in test functions only, not in the functions they call"
)]

mod rack;
