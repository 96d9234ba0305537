//! Bidirectional Forwarding Detection: whether packets get to a neighbor and back, told within a few intervals of
//! some ten milliseconds, where BGP's hold timer takes seconds and a carrier that stays up says nothing.
//!
//! Asynchronous mode over one hop (RFC 5880, RFC 5881), without echo function, demand mode of our own, or
//! authentication. What a failure means to BGP (RFC 5882) is for the agent, and to the kernel for the FIB.
//!
//! In: a snapshot of the neighbors to watch ([`Peers`]), packets, the clock, questions ([`Request`]). Out: packets;
//! the next hops that have failed, which the FIB follows without a detour; and a snapshot of every neighbor's
//! [`Standing`] for the agent. [`packet`] is the octets, [`session`] the machine of one session, [`sessions`] all of
//! them and which packet belongs to which; none of them has a clock or a socket. `socket` has the sockets, `task` ties
//! all together, and `thread` is where it runs: of its own, so that nothing that keeps the rest of the agent busy
//! holds up a packet.

#[cfg(test)]
mod allocations;
pub mod packet;
pub mod session;
pub mod sessions;
mod socket;
mod task;
mod thread;

pub use packet::{Diagnostic, Discriminator, State};
pub use session::{Administration, Intervals, Parameters};
pub use sessions::{
    ControlPlane, Counters, Discards, Health, Peer, Peers, Restart, SessionStatus, Standing, Standings,
    Status,
};
pub use task::{Inputs, Request};
pub use thread::{StartError, run};
