//! OPEN (RFC 4271 section 4.2), with the capabilities of RFC 5492 and the long form of RFC 9072.
//!
//! In: the body of an OPEN. Out: an [`Open`] whose every field is valid by itself, or the NOTIFICATION of RFC
//! 4271 section 6.2. Whether it is the right peer is for the session to say.
//!
//! ```text
//! +---------------+
//! |  Version: 4   |
//! +---------------+---------------+
//! |     My Autonomous System      |
//! +-------------------------------+
//! |           Hold Time           |
//! +-------------------------------+-------------------------------+
//! |                        BGP Identifier                         |
//! +---------------+-----------------------------------------------+
//! | Opt Parm Len  |  parameters: type 1, length 1, value          |
//! +---------------+-----------------------------------------------+
//!
//! RFC 9072, when the first parameter type is 255:
//! +---------------+---------------+-------------------------------+
//! | 255 (ignored) |      255      |   Extended Opt. Parm Length   |
//! +---------------+---------------+-------------------------------+
//! |  parameters: type 1, length 2, value                          |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::write_message;
use super::notification::OpenSubcode;
use super::wire::{Reader, with_u8_length, with_u16_length};
use super::{Capability, HEADER_LENGTH, MAX_LENGTH, MessageKind, Notification};
use crate::{Asn, HoldTime, RouterId};

const VERSION: u8 = 4;
/// The parameter that carries capabilities (RFC 5492 section 4).
const CAPABILITIES: u8 = 2;
/// The parameter type that announces the long form (RFC 9072 section 2).
const EXTENDED: u8 = 255;
/// Octets of capabilities in the long form's only parameter: what the longest OPEN leaves after the fixed
/// part (10), the long form's own fields (3) and the parameter's header (3).
const MAX_CAPABILITIES: usize = MAX_LENGTH - HEADER_LENGTH - 10 - 3 - 3;

/// An OPEN whose fields are valid; version 4 is implied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: from the 4-octet AS capability where there is one, else My Autonomous System.
    pub asn: Asn,
    /// As proposed by the sender.
    pub hold_time: HoldTime,
    /// The sender's BGP Identifier.
    pub router_id: RouterId,
    /// In the order received, duplicates and unknown ones included.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Reads the body of an OPEN. Whether its AS is the right one is for the session to say.
    ///
    /// # Errors
    /// The NOTIFICATION of RFC 4271 section 6.2.
    pub fn decode(body: Bytes) -> Result<Self, Notification> {
        let mut reader = Reader::new(&body);
        let (Some([version]), Some(my_as), Some(hold_time), Some(identifier), Some(parameters_length)) =
            (reader.array(), reader.u16(), reader.u16(), reader.array::<4>(), reader.u8())
        else {
            let length = u16::try_from(body.len() + HEADER_LENGTH).unwrap_or(u16::MAX);
            return Err(Notification::bad_message_length(length));
        };
        if version != VERSION {
            let data = Bytes::from_static(&[0, VERSION]);
            return Err(Notification::open(OpenSubcode::UnsupportedVersion, data));
        }
        let capabilities = decode_parameters(parameters_length, reader.rest()).map_err(error)?;
        let four_octet_as = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let asn = four_octet_as.unwrap_or(Asn(my_as.into()));
        // RFC 7607 section 2, in either place.
        if my_as == 0 || asn == Asn(0) {
            return Err(error(OpenSubcode::BadPeerAs));
        }
        let hold_time =
            HoldTime::from_secs(hold_time).map_err(|_| error(OpenSubcode::UnacceptableHoldTime))?;
        let router_id =
            RouterId::new(Ipv4Addr::from(identifier)).ok_or_else(|| error(OpenSubcode::BadBgpIdentifier))?;
        Ok(Self { asn, hold_time, router_id, capabilities })
    }

    /// Appends the whole message, all capabilities in one parameter (RFC 5492 section 4), in the long form
    /// only when they need it. A capability that would make the message longer than [`MAX_LENGTH`] is left out.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            let before = capabilities.len();
            capability.encode(&mut capabilities);
            if capabilities.len() > MAX_CAPABILITIES {
                capabilities.truncate(before);
            }
        }
        write_message(out, MessageKind::Open, |out| {
            out.put_u8(VERSION);
            out.put_u16(self.asn.two_octet());
            out.put_u16(self.hold_time.as_secs());
            out.put_slice(&self.router_id.0.octets());
            encode_parameters(&capabilities, out);
        });
    }
}

fn error(subcode: OpenSubcode) -> Notification {
    Notification::open(subcode, Bytes::new())
}

fn decode_parameters(length: u8, octets: &[u8]) -> Result<Vec<Capability>, OpenSubcode> {
    let mut reader = Reader::new(octets);
    // RFC 9072 section 2: the type decides; both one-octet lengths are ignored, but the first is not zero.
    let extended = length != 0 && octets.first() == Some(&EXTENDED);
    let counted = if extended {
        reader.u8();
        reader.u16().map(usize::from)
    } else {
        Some(length.into())
    };
    if counted != Some(reader.rest().len()) {
        return Err(OpenSubcode::Unspecific);
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = reader.u8() {
        let length = if extended { reader.u16().map(usize::from) } else { reader.u8().map(usize::from) };
        let value = length.and_then(|length| reader.take(length)).ok_or(OpenSubcode::Unspecific)?;
        if kind != CAPABILITIES {
            return Err(OpenSubcode::UnsupportedOptionalParameter);
        }
        decode_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn decode_capabilities(octets: &[u8], into: &mut Vec<Capability>) -> Result<(), OpenSubcode> {
    let mut reader = Reader::new(octets);
    while let Some(code) = reader.u8() {
        let value = reader.u8().and_then(|length| reader.take(length.into()));
        into.push(Capability::decode(code, value.ok_or(OpenSubcode::Unspecific)?));
    }
    Ok(())
}

fn encode_parameters(capabilities: &[u8], out: &mut BytesMut) {
    if capabilities.is_empty() {
        out.put_u8(0);
    } else if capabilities.len() + 2 <= u8::MAX.into() {
        with_u8_length(out, |out| {
            out.put_u8(CAPABILITIES);
            with_u8_length(out, |out| out.put_slice(capabilities));
        });
    } else {
        // RFC 9072 section 2: both one-octet fields SHOULD be 255.
        out.put_slice(&[u8::MAX, EXTENDED]);
        with_u16_length(out, |out| {
            out.put_u8(CAPABILITIES);
            with_u16_length(out, |out| out.put_slice(capabilities));
        });
    }
}

#[cfg(test)]
mod tests;
