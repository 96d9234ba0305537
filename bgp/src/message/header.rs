//! The message header (RFC 4271 section 4.1): cutting the stream into messages, and putting a header before
//! a body.
//!
//! In: what TCP delivered so far. Out: [`Frame`]s, or the NOTIFICATION of RFC 4271 section 6.1. The whole
//! header is checked before the first octet of the body is waited for, so a nonsense length costs no memory.
//!
//! ```text
//!  0                   1                   2                   3
//! +---------------------------------------------------------------+
//! |                  Marker: 16 octets, all ones                  |
//! +-------------------------------+---------------+---------------+
//! |   Length, header included     |     Type      |  body ...
//! +-------------------------------+---------------+
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::notification::HeaderSubcode;
use super::wire::{Reader, overwrite};
use super::{HEADER_LENGTH, MAX_LENGTH, MessageKind, Notification};

const MARKER: [u8; 16] = [0xff; 16];

/// One message cut out of the stream: its header was valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the header.
    pub kind: MessageKind,
    /// What follows the header. It shares the receive buffer's memory: decode it, do not keep it.
    pub body: Bytes,
}

/// Takes the next whole message off the front of `buffer`; `None` while there is not enough of it.
///
/// `max_length` is [`super::MAX_LENGTH`], or [`super::MAX_EXTENDED_LENGTH`] once both sides announced the
/// Extended Message capability.
///
/// # Errors
/// The NOTIFICATION of RFC 4271 section 6.1 for a bad marker, length or type. The stream cannot be read on
/// after it; `buffer` is left as it was.
pub fn frame(buffer: &mut BytesMut, max_length: usize) -> Result<Option<Frame>, Notification> {
    let mut header = Reader::new(buffer);
    let (Some(marker), Some(length), Some(code)) = (header.array(), header.u16(), header.u8()) else {
        return Ok(None);
    };
    if marker != MARKER {
        return Err(Notification::header(HeaderSubcode::ConnectionNotSynchronized, Bytes::new()));
    }
    let bad_length = || Notification::bad_message_length(length);
    if usize::from(length) < HEADER_LENGTH || usize::from(length) > max_length {
        return Err(bad_length());
    }
    let Some(kind) = MessageKind::from_code(code) else {
        return Err(Notification::header(HeaderSubcode::BadMessageType, Bytes::copy_from_slice(&[code])));
    };
    if !lengths(kind).contains(&length.into()) {
        return Err(bad_length());
    }
    if buffer.len() < length.into() {
        return Ok(None);
    }
    let mut body = buffer.split_to(length.into()).freeze();
    body.advance(HEADER_LENGTH);
    Ok(Some(Frame { kind, body }))
}

/// Lengths that a type of message may have, header included (RFC 4271 section 6.1).
fn lengths(kind: MessageKind) -> std::ops::RangeInclusive<usize> {
    match kind {
        // RFC 8654 section 4: the extension does not apply to OPEN and KEEPALIVE.
        MessageKind::Open => 29..=MAX_LENGTH,
        MessageKind::Update => 23..=usize::MAX,
        MessageKind::Notification => 21..=usize::MAX,
        MessageKind::Keepalive => HEADER_LENGTH..=HEADER_LENGTH,
        // RFC 7313 section 5 has an error of its own for a wrong length; see RouteRefresh::decode.
        MessageKind::RouteRefresh => HEADER_LENGTH..=usize::MAX,
    }
}

/// Appends a KEEPALIVE (RFC 4271 section 4.4).
pub fn encode_keepalive(out: &mut BytesMut) {
    write_message(out, MessageKind::Keepalive, |_| ());
}

/// Appends a header and the body that `write` makes. The caller keeps it within the longest message.
pub(super) fn write_message(out: &mut BytesMut, kind: MessageKind, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&MARKER);
    out.put_u16(0);
    out.put_u8(kind.code());
    write(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    overwrite(out, start + MARKER.len(), &length.to_be_bytes());
}
