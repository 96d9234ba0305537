//! BGP messages (RFC 4271 section 4) as bytes and as types.
//!
//! In: a TCP byte stream, cut into frames by [`frame`]. Out: [`Message`]s, or a [`Notification`] that says
//! what to tell the peer. The other way round, the `encode` functions and [`UpdateCodec::encode`] append
//! whole messages to a buffer. RFC 7606 lives in [`attribute`]: which fault of which attribute costs what.
//!
//! Nothing here remembers anything between messages; what was negotiated comes in as an [`UpdateCodec`].

pub mod attribute;
pub mod capability;
mod header;
pub mod notification;
pub mod open;
mod route_refresh;
pub mod update;
mod wire;

pub(crate) use attribute::DEFAULT_LOCAL_PREF;
pub(crate) use attribute::rule::flag as attribute_flag;
pub use attribute::{
    Aggregator, AsPath, Attributes, Community, CommunityError, ExtendedCommunity, LargeCommunity, Origin,
    RouteCommunity, Segment, SegmentKind, Seldom, UnknownAttribute,
};
pub use capability::{Capability, GracefulRestart};
pub use header::{Frame, encode_keepalive, frame};
pub use notification::{CeaseSubcode, Notification};
pub use open::Open;
pub use route_refresh::{RefreshKind, RouteRefresh};
pub use update::{AttributeFault, Encoded, FaultAction, Outgoing, Reach, Update, UpdateCodec};

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

impl MessageKind {
    /// `None` for a number that RFC 4271 and RFC 2918 do not assign.
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }
}

#[cfg(test)]
mod tests;
