//! Router Discovery (RFC 4861 section 6) on the uplinks: learns the link-local address of the router at the
//! other end, and lets it learn ours. That is how BGP unnumbered finds its peer.
//!
//! [`packet`] turns octets into valid messages and back. [`discovery`] is the machine that decides what to
//! send and what to believe; it has no clock and no socket. `socket` is the raw ICMPv6 socket, and `task`
//! ties the three to the rest of the agent: snapshots of the uplinks and [`Command`]s come in, [`Event`]s go
//! out.

pub mod discovery;
pub mod packet;
mod socket;
mod task;

pub use discovery::{
    Alarm, Counters, Discovery, Event, Received, RouterStatus, Status, Transmit, Uplink, UplinkStatus,
    Uplinks,
};
pub use packet::{MacAddress, RouterLifetime};
pub use task::{Command, RunError, Settings, run};
