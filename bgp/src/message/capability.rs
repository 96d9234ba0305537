//! Capabilities (RFC 5492), known and unknown.
//!
//! In: code and value from an OPEN. Out: always a [`Capability`], because nothing that a capability says can be
//! an error (RFC 5492 section 3); and its wire form.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::notification::truncated;
use super::wire::{Reader, with_u8_length};
use crate::{AfiSafi, Asn, Family};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const FQDN: u8 = 73;
const SOFTWARE_VERSION: u8 = 75;

/// Octets of a capability's value: its length is one octet.
const MAX_VALUE: usize = 255;
/// Six octets each.
const MAX_NEXT_HOP_ENTRIES: usize = MAX_VALUE / 6;
/// Four octets each, after flags and time.
const MAX_RESTART_ENTRIES: usize = (MAX_VALUE - 2) / 4;
/// The R bit beside the restart time.
const RESTARTING: u16 = 0x8000;
/// The N bit beside the restart time (RFC 8538 section 2).
const NOTIFICATION: u16 = 0x4000;
/// Twelve bits.
const MAX_RESTART_TIME_S: u16 = 0x0fff;
/// The F bit of a family.
const FORWARDING: u8 = 0x80;

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

    /// Reads one capability. A known code whose value is malformed is [`Capability::Unknown`]: RFC 5492 has no
    /// error for it, so it is as good as absent.
    pub(super) fn decode(code: u8, value: &[u8]) -> Self {
        let mut reader = Reader::new(value);
        let known = match code {
            MULTIPROTOCOL => decode_multiprotocol(&mut reader),
            ROUTE_REFRESH => Some(Self::RouteRefresh),
            EXTENDED_NEXT_HOP => decode_extended_next_hop(&mut reader),
            EXTENDED_MESSAGE => Some(Self::ExtendedMessage),
            GRACEFUL_RESTART => decode_graceful_restart(&mut reader),
            FOUR_OCTET_AS => reader.u32().map(|asn| Self::FourOctetAs(Asn(asn))),
            ENHANCED_ROUTE_REFRESH => Some(Self::EnhancedRouteRefresh),
            FQDN => decode_fqdn(&mut reader),
            SOFTWARE_VERSION => decode_text(&mut reader).map(Self::SoftwareVersion),
            _ => None,
        };
        known
            .filter(|_| reader.is_empty())
            .unwrap_or_else(|| Self::Unknown { code, value: Bytes::copy_from_slice(value) })
    }

    /// Appends code, length and value. Lists and texts are cut to what 255 octets hold; an unknown value that
    /// is longer cannot be written, and nothing is.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        if let Self::Unknown { value, .. } = self
            && value.len() > u8::MAX.into()
        {
            return;
        }
        out.put_u8(self.code());
        with_u8_length(out, |out| match self {
            Self::Multiprotocol(family) => {
                out.put_u16(family.afi);
                out.put_u8(0);
                out.put_u8(family.safi);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(entries) => {
                for (family, next_hop_afi) in entries.iter().take(MAX_NEXT_HOP_ENTRIES) {
                    out.put_u16(family.afi);
                    out.put_u16(family.safi.into());
                    out.put_u16(*next_hop_afi);
                }
            }
            Self::GracefulRestart(restart) => encode_graceful_restart(restart, out),
            Self::FourOctetAs(asn) => out.put_u32(asn.0),
            Self::Fqdn { hostname, domain } => {
                let hostname = truncated(hostname, MAX_VALUE - 2);
                let domain = truncated(domain, MAX_VALUE - 2 - hostname.len());
                for text in [hostname, domain] {
                    with_u8_length(out, |out| out.put_slice(text.as_bytes()));
                }
            }
            Self::SoftwareVersion(text) => {
                with_u8_length(out, |out| out.put_slice(truncated(text, MAX_VALUE - 1).as_bytes()));
            }
            Self::Unknown { value, .. } => out.put_slice(value),
        });
    }

    /// The capability code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::Fqdn { .. } => FQDN,
            Self::SoftwareVersion(_) => SOFTWARE_VERSION,
            Self::Unknown { code, .. } => *code,
        }
    }
}

/// RFC 4760 section 8: AFI, a reserved octet, SAFI.
fn decode_multiprotocol(reader: &mut Reader<'_>) -> Option<Capability> {
    let (afi, _reserved, safi) = (reader.u16()?, reader.u8()?, reader.u8()?);
    Some(Capability::Multiprotocol(AfiSafi { afi, safi }))
}

/// RFC 8950 section 4: triples of AFI, SAFI and next hop AFI, two octets each.
fn decode_extended_next_hop(reader: &mut Reader<'_>) -> Option<Capability> {
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let (afi, safi, next_hop_afi) = (reader.u16()?, reader.u16()?, reader.u16()?);
        entries.push((AfiSafi { afi, safi: u8::try_from(safi).ok()? }, next_hop_afi));
    }
    Some(Capability::ExtendedNextHop(entries))
}

/// RFC 4724 section 3: four flags, twelve bits of seconds, then AFI, SAFI and flags for each family.
fn decode_graceful_restart(reader: &mut Reader<'_>) -> Option<Capability> {
    let head = reader.u16()?;
    let mut families = Vec::new();
    while !reader.is_empty() {
        let (afi, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
        let forwarding =
            if flags & FORWARDING != 0 { ForwardingState::Preserved } else { ForwardingState::Lost };
        families.push((AfiSafi { afi, safi }, forwarding));
    }
    Some(Capability::GracefulRestart(GracefulRestart {
        restarting: head & RESTARTING != 0,
        notification: head & NOTIFICATION != 0,
        restart_time: Duration::from_secs((head & MAX_RESTART_TIME_S).into()),
        families,
    }))
}

fn encode_graceful_restart(restart: &GracefulRestart, out: &mut BytesMut) {
    let seconds = u16::try_from(restart.restart_time.as_secs()).unwrap_or(u16::MAX).min(MAX_RESTART_TIME_S);
    let restarting = if restart.restarting { RESTARTING } else { 0 };
    let notification = if restart.notification { NOTIFICATION } else { 0 };
    out.put_u16(restarting | notification | seconds);
    for (family, forwarding) in restart.families.iter().take(MAX_RESTART_ENTRIES) {
        out.put_u16(family.afi);
        out.put_u8(family.safi);
        out.put_u8(match forwarding {
            ForwardingState::Preserved => FORWARDING,
            ForwardingState::Lost => 0,
        });
    }
}

/// Host name and domain name, each behind its length.
fn decode_fqdn(reader: &mut Reader<'_>) -> Option<Capability> {
    Some(Capability::Fqdn { hostname: decode_text(reader)?, domain: decode_text(reader)? })
}

/// UTF-8 behind a one-octet length.
fn decode_text(reader: &mut Reader<'_>) -> Option<String> {
    let length = reader.u8()?;
    let octets = reader.take(length.into())?;
    std::str::from_utf8(octets).ok().map(str::to_owned)
}
