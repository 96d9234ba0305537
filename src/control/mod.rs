//! The control API over a Unix socket: what `bgpctl` and scripts ask, and what they may tell the daemon to do.

pub mod api;
