//! A BGP-4 speaker (RFC 4271) in two halves.
//!
//! The pure half has no clock, socket or task in it: [`message`] turns bytes into messages and back,
//! [`session`] is the finite state machine of one neighbor, [`rib`] holds the three tables of RFC 4271
//! section 3.2 and decides, [`policy`] says what may enter and leave. Each takes an event and `now`,
//! and is then drained of actions; each says when it next wants to be called.
//!
//! The other half, [`net`], drives the pure one with tokio: one task per neighbor, one for the RIB.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod memory;
pub mod message;
pub mod net;
pub mod policy;
mod prefix;
pub mod rib;
pub mod session;
mod types;

pub use prefix::{Ipv4Prefix, Ipv6Prefix, Prefix, PrefixError};
pub use types::{
    AfiSafi, Asn, Families, Family, HoldTime, InterfaceIndex, InvalidHoldTime, NextHop, PeerId, PeerKind,
    RouterId,
};
