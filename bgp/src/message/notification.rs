//! NOTIFICATION (RFC 4271 section 4.5): why a session ends, in the numbers of the IANA registry.

use bytes::{Bytes, BytesMut};

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
    /// A Cease without data.
    #[must_use]
    pub fn cease(subcode: CeaseSubcode) -> Self {
        Self { code: 6, subcode: subcode as u8, data: Bytes::new() }
    }

    /// Reads the body of a NOTIFICATION; `None` where it is too short to hold a code and a subcode, which is
    /// not answered (RFC 4271 section 6.4).
    #[must_use]
    pub fn decode(body: &Bytes) -> Option<Self> {
        todo!("{body:?}")
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
    }
}
