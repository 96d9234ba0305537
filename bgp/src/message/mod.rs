//! BGP messages (RFC 4271 section 4) as bytes and as types.
//!
//! In: a TCP byte stream, cut into frames by [`frame`]. Out: [`Message`]s, or a [`Notification`] that says
//! what to tell the peer. The other way round, the `encode_*` functions and [`UpdateCodec::encode`] append
//! whole messages to a buffer. RFC 7606 lives in [`attribute`]: which fault of which attribute costs what.
//!
//! Nothing here remembers anything between messages; what was negotiated comes in as an [`UpdateCodec`].

use bytes::{Bytes, BytesMut};

pub mod attribute;
pub mod capability;
pub mod notification;
pub mod open;
pub mod update;

pub use attribute::{
    Aggregator, AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, Origin, Segment,
    SegmentKind, UnknownAttribute,
};
pub use capability::{Capability, GracefulRestart};
pub use notification::{CeaseSubcode, Notification};
pub use open::Open;
pub use update::{AttributeFault, FaultAction, Outgoing, Reach, Update, UpdateCodec};

use crate::AfiSafi;

/// One message cut out of the stream: its header was valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the header.
    pub kind: MessageKind,
    /// What follows the header.
    pub body: Bytes,
}

/// Takes the next whole message off the front of `buffer`; `None` while there is not enough of it.
///
/// # Errors
/// The NOTIFICATION of RFC 4271 section 6.1 for a bad marker, length or type.
pub fn frame(buffer: &mut BytesMut, max_length: usize) -> Result<Option<Frame>, Notification> {
    todo!("{buffer:?} {max_length}")
}

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut BytesMut) {
    todo!("{out:?}")
}

/// Octets of marker, length and type before every message body.
pub const HEADER_LENGTH: usize = 19;
/// The longest message without RFC 8654, and the longest OPEN or KEEPALIVE with it.
pub const MAX_LENGTH: usize = 4096;
/// The longest message when both sides sent the Extended Message capability (RFC 8654).
pub const MAX_EXTENDED_LENGTH: usize = 65535;

/// One message as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2.
    Update(Update),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918).
    RouteRefresh(RouteRefresh),
}

/// A ROUTE-REFRESH (RFC 2918 section 3, RFC 7313 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family as received: one that we do not carry is ignored.
    pub family: AfiSafi,
    /// What the message means.
    pub kind: RefreshKind,
}

/// The message subtype of RFC 7313 section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: send the family again.
    Request,
    /// 1: Beginning of Route Refresh.
    Begin,
    /// 2: End of Route Refresh.
    End,
    /// Any other: ignored.
    Unknown(u8),
}

/// The types of message, for counters and for what a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Type 1.
    Open,
    /// Type 2.
    Update,
    /// Type 3.
    Notification,
    /// Type 4.
    Keepalive,
    /// Type 5.
    RouteRefresh,
}

impl RouteRefresh {
    /// Reads the body of a ROUTE-REFRESH.
    ///
    /// # Errors
    /// NOTIFICATION 7/1 for a wrong length (RFC 7313 section 5).
    pub fn decode(body: &Bytes) -> Result<Self, Notification> {
        todo!("{body:?}")
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
    }
}
