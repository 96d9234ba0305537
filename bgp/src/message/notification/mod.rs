//! NOTIFICATION (RFC 4271 section 4.5): why a session ends, in the numbers of the IANA registry.
//!
//! In: the body of a NOTIFICATION, or the subcode that another decoder found. Out: the message, and a line
//! for people. What a peer wrote into it is bounded and escaped before it is shown (RFC 9003 section 6).
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |  Error code   | Error subcode |  Data ...
//! +---------------+---------------+
//! ```

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::write_message;
use super::wire::Reader;
use super::{HEADER_LENGTH, MAX_LENGTH, MessageKind};

mod names;

/// Data that fits a NOTIFICATION which any peer can read. What is longer (a whole attribute of an extended
/// message, say) is cut: the data is there for people.
const MAX_DATA: usize = MAX_LENGTH - HEADER_LENGTH - 2;

/// What was wrong, or why the sender stops; the data belongs to the subcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code, 1 to 8.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
    /// Data as its subcode defines it.
    pub data: Bytes,
}

/// Subcodes of Message Header Error (RFC 4271 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HeaderSubcode {
    /// 1: the marker is not all ones.
    ConnectionNotSynchronized = 1,
    /// 2: data is the length, two octets.
    BadMessageLength = 2,
    /// 3: data is the type, one octet.
    BadMessageType = 3,
}

/// Subcodes of OPEN Message Error (RFC 4271 section 6.2, RFC 5492 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpenSubcode {
    /// 0
    Unspecific = 0,
    /// 1: data is the highest version that we speak, two octets.
    UnsupportedVersion = 1,
    /// 2
    BadPeerAs = 2,
    /// 3
    BadBgpIdentifier = 3,
    /// 4
    UnsupportedOptionalParameter = 4,
    /// 6
    UnacceptableHoldTime = 6,
    /// 7: data is the capabilities that are missing.
    UnsupportedCapability = 7,
}

/// Subcodes of UPDATE Message Error (RFC 4271 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UpdateSubcode {
    /// 1
    MalformedAttributeList = 1,
    /// 2: data is the attribute.
    UnrecognizedWellKnown = 2,
    /// 3: data is the type code, one octet.
    MissingWellKnown = 3,
    /// 4: data is the attribute.
    AttributeFlags = 4,
    /// 5: data is the attribute.
    AttributeLength = 5,
    /// 6: data is the attribute.
    InvalidOrigin = 6,
    /// 8: data is the attribute.
    InvalidNextHop = 8,
    /// 9: data is the attribute.
    OptionalAttribute = 9,
    /// 10
    InvalidNetworkField = 10,
    /// 11
    MalformedAsPath = 11,
}

/// Subcodes of Finite State Machine Error (RFC 6608).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FsmSubcode {
    /// 0
    Unspecified = 0,
    /// 1: an unexpected message in OpenSent; data is its type, one octet.
    OpenSent = 1,
    /// 2: the same in OpenConfirm.
    OpenConfirm = 2,
    /// 3: the same in Established.
    Established = 3,
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CeaseSubcode {
    /// 1
    MaximumPrefixes = 1,
    /// 2
    AdministrativeShutdown = 2,
    /// 3
    PeerDeconfigured = 3,
    /// 4
    AdministrativeReset = 4,
    /// 5
    ConnectionRejected = 5,
    /// 6
    OtherConfigurationChange = 6,
    /// 7
    ConnectionCollision = 7,
    /// 8
    OutOfResources = 8,
    /// 9: RFC 8538
    HardReset = 9,
    /// 10: RFC 9384
    BfdDown = 10,
}

impl Notification {
    /// Message Header Error.
    #[must_use]
    pub fn header(subcode: HeaderSubcode, data: Bytes) -> Self {
        Self { code: 1, subcode: subcode as u8, data }
    }

    /// Message Header Error, Bad Message Length: the data is the length that was wrong.
    pub(super) fn bad_message_length(length: u16) -> Self {
        Self::header(HeaderSubcode::BadMessageLength, Bytes::copy_from_slice(&length.to_be_bytes()))
    }

    /// OPEN Message Error.
    #[must_use]
    pub fn open(subcode: OpenSubcode, data: Bytes) -> Self {
        Self { code: 2, subcode: subcode as u8, data }
    }

    /// UPDATE Message Error. The data is copied, as much of it as fits.
    #[must_use]
    pub fn update(subcode: UpdateSubcode, data: &[u8]) -> Self {
        Self { code: 3, subcode: subcode as u8, data: Bytes::copy_from_slice(bounded(data)) }
    }

    /// Hold Timer Expired (RFC 4271 section 6.5).
    #[must_use]
    pub fn hold_timer_expired() -> Self {
        Self { code: 4, subcode: 0, data: Bytes::new() }
    }

    /// Finite State Machine Error for a message that the state does not expect.
    #[must_use]
    pub fn fsm(subcode: FsmSubcode, unexpected: MessageKind) -> Self {
        Self { code: 5, subcode: subcode as u8, data: Bytes::copy_from_slice(&[unexpected.code()]) }
    }

    /// A Cease without data.
    #[must_use]
    pub fn cease(subcode: CeaseSubcode) -> Self {
        Self { code: 6, subcode: subcode as u8, data: Bytes::new() }
    }

    /// A Cease with a message for the operator of the peer (RFC 9003), cut to 255 octets of whole
    /// characters. Only [`CeaseSubcode::AdministrativeShutdown`] and [`CeaseSubcode::AdministrativeReset`]
    /// carry one; with another subcode, or an empty text, there is no data.
    #[must_use]
    pub fn shutdown(subcode: CeaseSubcode, text: &str) -> Self {
        let mut notification = Self::cease(subcode);
        let text = truncated(text, u8::MAX.into());
        if let Ok(length) = u8::try_from(text.len())
            && length > 0
            && notification.carries_text()
        {
            notification.data = [&[length], text.as_bytes()].concat().into();
        }
        notification
    }

    /// ROUTE-REFRESH Message Error, Invalid Message Length (RFC 7313 section 5).
    pub(super) fn refresh_length(message: Bytes) -> Self {
        Self { code: 7, subcode: 1, data: message }
    }

    /// Send Hold Timer Expired (RFC 9687).
    #[must_use]
    pub fn send_hold_timer_expired() -> Self {
        Self { code: 8, subcode: 0, data: Bytes::new() }
    }

    /// Reads the body of a NOTIFICATION; `None` where it is too short to hold a code and a subcode, which is
    /// not answered (RFC 4271 section 6.4).
    #[must_use]
    pub fn decode(body: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(body);
        let [code, subcode] = reader.array()?;
        // Copied, because a NOTIFICATION is remembered and the body would keep the receive buffer alive.
        Some(Self { code, subcode, data: Bytes::copy_from_slice(reader.rest()) })
    }

    /// Appends the whole message, never longer than [`MAX_LENGTH`]: data beyond that is cut.
    pub fn encode(&self, out: &mut BytesMut) {
        write_message(out, MessageKind::Notification, |out| {
            out.put_u8(self.code);
            out.put_u8(self.subcode);
            out.put_slice(bounded(&self.data));
        });
    }

    /// What the peer's operator wrote (RFC 9003 section 2); `None` where there is nothing, or where its length
    /// or its UTF-8 is wrong. Not escaped: [`fmt::Display`] does that.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<&str> {
        let mut reader = Reader::new(&self.data);
        let length = self.carries_text().then(|| reader.u8()).flatten()?;
        let text = reader.take(length.into()).filter(|_| reader.is_empty())?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    /// The NOTIFICATION that a Hard Reset stands for (RFC 8538 section 3.1).
    fn hard_reset_cause(&self) -> Option<Self> {
        let hard_reset = self.code == 6 && self.subcode == CeaseSubcode::HardReset as u8;
        hard_reset.then(|| Self::decode(&self.data)).flatten()
    }

    fn carries_text(&self) -> bool {
        let subcodes = [CeaseSubcode::AdministrativeShutdown, CeaseSubcode::AdministrativeReset];
        self.code == 6 && subcodes.into_iter().any(|subcode| subcode as u8 == self.subcode)
    }

    fn write_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.code, self.subcode, names::code(self.code))?;
        if let Some(name) = names::subcode(self.code, self.subcode) {
            write!(f, ", {name}")?;
        }
        if let Some(text) = self.shutdown_text() {
            write!(f, ": \"{}\"", text.escape_debug())?;
        }
        Ok(())
    }
}

/// `6/2 Cease, Administrative Shutdown: "maintenance"`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_name(f)?;
        // One level: a Hard Reset inside a Hard Reset is shown by its name only.
        if let Some(cause) = self.hard_reset_cause() {
            f.write_str(" (")?;
            cause.write_name(f)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

fn bounded(data: &[u8]) -> &[u8] {
    data.get(..MAX_DATA).unwrap_or(data)
}

/// The longest start of the text that is at most `max` octets and ends between characters.
pub(super) fn truncated(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
