//! Capabilities (RFC 5492), known and unknown.

use std::time::Duration;

use bytes::Bytes;

use crate::{AfiSafi, Asn, Family};

/// One capability of an OPEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// 1: routes of this family (RFC 4760 section 8).
    Multiprotocol(AfiSafi),
    /// 2: ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// 5: IPv6 next hops for these families (RFC 8950 section 4); the second number is the next hop's AFI,
    /// and an SAFI of more than one octet is kept as [`Capability::Unknown`].
    ExtendedNextHop(Vec<(AfiSafi, u16)>),
    /// 6: messages above 4096 octets (RFC 8654).
    ExtendedMessage,
    /// 64: graceful restart (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// 65: four-octet AS numbers (RFC 6793).
    FourOctetAs(Asn),
    /// 70: ROUTE-REFRESH with beginning and end (RFC 7313).
    EnhancedRouteRefresh,
    /// 73: host and domain name (draft-walton-bgp-hostname-capability); each at most 255 octets.
    Fqdn {
        /// Escaped when shown: a peer may write anything.
        hostname: String,
        /// Often empty.
        domain: String,
    },
    /// 75: software version (draft-ietf-idr-software-version).
    SoftwareVersion(String),
    /// Anything else, and a known code with a malformed value: kept and shown, otherwise ignored
    /// (RFC 5492 section 3).
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        value: Bytes,
    },
}

/// The value of capability 64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestart {
    /// R: the sender has just restarted.
    pub restarting: bool,
    /// N: NOTIFICATIONs keep routes too (RFC 8538).
    pub notification: bool,
    /// How long its session may be away; 12 bits of whole seconds.
    pub restart_time: Duration,
    /// For each family whether its forwarding state was kept (F). None at all: helper only.
    pub families: Vec<(AfiSafi, ForwardingState)>,
}

/// The F bit of RFC 4724 section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardingState {
    /// F = 1.
    Preserved,
    /// F = 0.
    Lost,
}

impl Capability {
    /// The multiprotocol capability of a family that we carry.
    #[must_use]
    pub fn multiprotocol(family: Family) -> Self {
        Self::Multiprotocol(family.into())
    }
}
