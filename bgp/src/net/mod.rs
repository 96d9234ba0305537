//! The tokio half: sockets, timers and tasks that drive the pure one.
//!
//! ```text
//!   TCP <-> connection \                       / FIB batches -> the agent
//!   TCP <-> connection -- peer task <-> rib task
//!                         (one each)    (one)  \ queries <- the agent
//! ```
//!
//! A peer task never waits for the RIB with its sockets and timers standing still: what it has for the RIB waits
//! in a bounded backlog while reading stops, and the RIB hands out routes only to a peer that said it can take
//! some. So a walk over the whole table costs nobody a KEEPALIVE, and bytes exist only when they can leave.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the half that has clocks, sockets and tasks"
)]

mod admission;
mod connection;
mod listener;
mod peer;
mod rib;
mod transport;

pub use admission::Caller;
pub use listener::{Accepted, Listener, refuse};
pub use peer::{Peer, PeerChange, PeerCommand, PeerEvent, PeerSettings, PeerStatus, RefreshAnswer};
pub use rib::{FibBatch, RibHandle, RibSettings, RibStopped};
pub use transport::{BoundInterface, HopLimit, Md5Key, Md5KeyLength, Target};
