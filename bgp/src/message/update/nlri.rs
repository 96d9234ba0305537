//! Prefixes on the wire (RFC 4271 section 4.3, RFC 4760 section 5): a length in bits, then as many octets as
//! hold them.

use bytes::{BufMut, BytesMut};

use super::super::wire::Reader;
use crate::{Family, Ipv4Prefix, Ipv6Prefix, Prefix};

/// A prefix longer than its family, or longer than its field (RFC 7606 section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::message) struct MalformedNlri;

/// Appends every prefix of the field. Bits behind the length are irrelevant and become zero.
pub(in crate::message) fn decode(
    family: Family,
    octets: &[u8],
    into: &mut Vec<Prefix>,
) -> Result<(), MalformedNlri> {
    // A guess for the usual lengths; a field of nothing but default routes makes the vector grow, bounded by
    // the message.
    into.reserve(octets.len() / if family == Family::Ipv4Unicast { 4 } else { 9 });
    let mut reader = Reader::new(octets);
    while let Some(length) = reader.u8() {
        let bits = reader.take(usize::from(length).div_ceil(8)).ok_or(MalformedNlri)?;
        let prefix = match family {
            Family::Ipv4Unicast => {
                padded::<4>(bits).and_then(|octets| Ipv4Prefix::masked(octets.into(), length)).map(Prefix::V4)
            }
            Family::Ipv6Unicast => padded::<16>(bits)
                .and_then(|octets| Ipv6Prefix::masked(octets.into(), length))
                .map(Prefix::V6),
        };
        into.push(prefix.ok_or(MalformedNlri)?);
    }
    Ok(())
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut whole = [0; N];
    whole.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(whole)
}

/// Octets that the prefix takes: 1 to 17.
pub(super) fn encoded_length(prefix: Prefix) -> usize {
    1 + usize::from(prefix.length()).div_ceil(8)
}

pub(super) fn encode(prefix: Prefix, out: &mut BytesMut) {
    out.put_u8(prefix.length());
    let octets = encoded_length(prefix) - 1;
    match prefix {
        Prefix::V4(prefix) => out.put_slice(prefix.address().octets().get(..octets).unwrap_or_default()),
        Prefix::V6(prefix) => out.put_slice(prefix.address().octets().get(..octets).unwrap_or_default()),
    }
}
