//! Integration tests: the programs and the library from outside, on real files, kernels and daemons.

// The attribute tells clippy that helpers outside of `#[test]` may panic too.
#[cfg(test)]
mod bgpctl;
#[cfg(test)]
mod config;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod nd;
#[cfg(test)]
mod rack;
#[cfg(test)]
mod trace;
