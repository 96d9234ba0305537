//! Pods of this host, by the host routes that Calico's Felix makes for them.
//!
//! In: the kernel's events on one socket, dumps over another. Out: on a watch channel the addresses that have a route of
//! their own over an interface named `cali*`, whenever there is one more or less. `table` is the pure half, `monitor` the
//! task. Nothing is written: the routes are Felix's.

mod monitor;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

pub use monitor::run;

/// Addresses with a route to a pod here.
pub type PodAddresses = Arc<BTreeSet<IpAddr>>;
