//! ROUTE-REFRESH (RFC 2918 section 3), with the subtypes of RFC 7313 where RFC 2918 has a reserved octet.
//!
//! ```text
//! +-------------------------------+---------------+---------------+
//! |             AFI               |    Subtype    |     SAFI      |
//! +-------------------------------+---------------+---------------+
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::header::write_message;
use super::{MessageKind, Notification};
use crate::AfiSafi;

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

impl RouteRefresh {
    /// Reads the body of a ROUTE-REFRESH.
    ///
    /// # Errors
    /// NOTIFICATION 7/1 for a wrong length, with the whole message as its data (RFC 7313 section 5).
    pub fn decode(body: &Bytes) -> Result<Self, Notification> {
        let Ok([afi_high, afi_low, subtype, safi]) = <[u8; 4]>::try_from(body.as_ref()) else {
            let mut whole = BytesMut::new();
            write_message(&mut whole, MessageKind::RouteRefresh, |out| out.put_slice(body));
            return Err(Notification::refresh_length(whole.freeze()));
        };
        let family = AfiSafi { afi: u16::from_be_bytes([afi_high, afi_low]), safi };
        Ok(Self { family, kind: RefreshKind::from_code(subtype) })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut) {
        write_message(out, MessageKind::RouteRefresh, |out| {
            out.put_u16(self.family.afi);
            out.put_u8(self.kind.code());
            out.put_u8(self.family.safi);
        });
    }
}

impl RefreshKind {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            other => Self::Unknown(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Unknown(code) => code,
        }
    }
}
