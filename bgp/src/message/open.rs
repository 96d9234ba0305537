//! OPEN (RFC 4271 section 4.2), with the capabilities of RFC 5492 and the long form of RFC 9072.

use bytes::{Bytes, BytesMut};

use super::{Capability, Notification};
use crate::{Asn, HoldTime, RouterId};

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
        todo!("{body:?}")
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
    }
}
