//! What a neighbor is to be used for while this end is being taken out of service.
//!
//! RFC 8326 section 4: the initiator marks what it tells with GRACEFUL_SHUTDOWN and gives what it hears the lowest
//! LOCAL_PREF, so that both directions find another way before the session ends. AS_PATH prepending is for neighbors
//! that do not know the community.

/// How a neighbor is used; it outlives the neighbor's sessions. By default without any restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Maintenance {
    /// What it is told.
    pub outbound: Outbound,
    /// What becomes of what it says.
    pub inbound: Inbound,
}

/// How a neighbor is told of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Outbound {
    /// As they are.
    #[default]
    Plain,
    /// With GRACEFUL_SHUTDOWN, and to external neighbors with our AS this many times more than once.
    Marked {
        /// 0 to 255; each lengthens the AS_PATH by one.
        prepends: u8,
    },
    /// Not at all.
    Withdrawn,
}

/// What becomes of a neighbor's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Inbound {
    /// What import policy makes of them.
    #[default]
    Plain,
    /// They are the last choice: LOCAL_PREF 0.
    Last,
}
