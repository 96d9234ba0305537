//! The two ends of every codec in this folder: a cursor that cannot run past its octets, and length fields
//! that are written after what they count.
//!
//! In: the octets of one message or of a part of it. Out: integers in network order and sub-slices; `None`
//! where there is not enough left. Every successful read of one octet or more advances, so a loop over a
//! [`Reader`] ends after at most as many turns as there are octets.

use bytes::{BufMut, BytesMut};

/// A cursor over borrowed octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(super) fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that was not read yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }
}

/// Writes a one-octet length and then what it counts. The caller keeps that within 255 octets.
pub(super) fn with_u8_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(0);
    write(out);
    let length = u8::try_from(out.len() - start - 1).unwrap_or(u8::MAX);
    overwrite(out, start, &[length]);
}

/// Writes a two-octet length and then what it counts. The caller keeps that within 65535 octets.
pub(super) fn with_u16_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u16(0);
    write(out);
    let length = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX);
    overwrite(out, start, &length.to_be_bytes());
}

/// Puts octets over others that were written before.
pub(super) fn overwrite(out: &mut BytesMut, start: usize, octets: &[u8]) {
    if let Some(field) = out.get_mut(start..start + octets.len()) {
        field.copy_from_slice(octets);
    }
}
