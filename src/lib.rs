//! Selvedge: the agent that makes a host a router of its IP fabric.
//!
//! [`config`] is what the operator wrote; [`kernel`] is what the kernel has (links, addresses, routes) and the
//! only place that speaks netlink; [`nd`] finds the router at the other end of each uplink; [`bfd`] sees whether it is
//! still there; the BGP speaker is the library `bgp`; [`control`] answers `bgpctl`; [`memory`] and [`privileges`] are about
//! the process as a whole. [`drain`] is how the node leaves, [`readiness`] whether it is fit for pods.
//! [`agent`] owns the tasks and joins them.

pub mod agent;
pub mod bfd;
pub mod cluster;
pub mod config;
pub mod control;
mod datagram;
pub mod drain;
mod file;
pub mod kernel;
pub mod memory;
pub mod nd;
mod own_thread;
pub mod privileges;
pub mod readiness;
