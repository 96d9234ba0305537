//! The attribute list of an UPDATE that goes out.
//!
//! In: [`Attributes`] and what the session agreed on. Out: every attribute but MP_REACH_NLRI and MP_UNREACH_NLRI
//! in ascending order of codes (RFC 4271 section 5). Flags come from the same table that received ones are
//! checked by.

use bytes::{BufMut, BytesMut};

use super::super::update::{AsWidth, UpdateCodec};
use super::super::wire::with_u16_length;
use super::rule::{code, flag, rule};
use super::{Aggregator, Attributes, DEFAULT_LOCAL_PREF, Origin, UnknownAttribute, as4};
use crate::{Asn, NextHop, PeerKind};

/// Whether NEXT_HOP is written, which is so where the prefixes go into the NLRI field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::message) enum NextHopField {
    Written,
    InMpReach,
}

/// Appends the attributes. The list may become longer than any message: the caller measures it.
pub(in crate::message) fn write(
    codec: &UpdateCodec,
    attributes: &Attributes,
    next_hop: NextHopField,
    out: &mut BytesMut,
) {
    let mut list = List::new(&attributes.unknown, out);
    list.put(code::ORIGIN, |out| {
        out.put_u8(match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        });
    });
    list.put(code::AS_PATH, |out| attributes.as_path.encode(codec.as_width, out));
    if let (NextHopField::Written, NextHop::Ipv4(address)) = (next_hop, attributes.next_hop) {
        list.put(code::NEXT_HOP, |out| out.put_slice(&address.octets()));
    }
    if let Some(med) = attributes.med {
        list.put(code::MED, |out| out.put_u32(med));
    }
    if codec.peer_kind == PeerKind::Internal {
        list.put(code::LOCAL_PREF, |out| out.put_u32(attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)));
    }
    if attributes.atomic_aggregate {
        list.put(code::ATOMIC_AGGREGATE, |_| ());
    }
    if let Some(aggregator) = attributes.aggregator {
        list.put(code::AGGREGATOR, |out| put_aggregator(aggregator, codec.as_width, out));
    }
    list.put_all(code::COMMUNITIES, &attributes.communities, |community, out| out.put_u32(community.0));
    if codec.peer_kind == PeerKind::Internal {
        if let Some(originator) = attributes.originator_id {
            list.put(code::ORIGINATOR_ID, |out| out.put_slice(&originator.0.octets()));
        }
        list.put_all(code::CLUSTER_LIST, &attributes.cluster_list, |cluster, out| {
            out.put_slice(&cluster.octets());
        });
    }
    list.put_all(code::EXTENDED_COMMUNITIES, &attributes.extended_communities, |community, out| {
        out.put_slice(&community.0);
    });
    if codec.as_width == AsWidth::Two {
        put_as4(attributes, &mut list);
    }
    list.put_all(code::LARGE_COMMUNITIES, &attributes.large_communities, |community, out| {
        out.put_u32(community.global);
        out.put_u32(community.local1);
        out.put_u32(community.local2);
    });
    list.put_unknown_below(None);
}

/// RFC 6793 section 4.2.2: only where two octets lose something.
fn put_as4(attributes: &Attributes, list: &mut List<'_, '_>) {
    if attributes.as_path.needs_four_octets() {
        let path = as4::without_confederation(&attributes.as_path);
        list.put(code::AS4_PATH, |out| path.encode(AsWidth::Four, out));
    }
    if let Some(aggregator) = attributes.aggregator.filter(|aggregator| aggregator.asn.0 > u16::MAX.into()) {
        list.put(code::AS4_AGGREGATOR, |out| put_aggregator(aggregator, AsWidth::Four, out));
    }
}

fn put_aggregator(aggregator: Aggregator, width: AsWidth, out: &mut BytesMut) {
    let Aggregator { asn: Asn(number), router_id } = aggregator;
    match width {
        AsWidth::Two => out.put_u16(aggregator.asn.two_octet()),
        AsWidth::Four => out.put_u32(number),
    }
    out.put_slice(&router_id.octets());
}

/// An attribute list that keeps its codes in order, unknown ones in their places.
struct List<'a, 'o> {
    out: &'o mut BytesMut,
    unknown: std::iter::Peekable<std::vec::IntoIter<&'a UnknownAttribute>>,
}

impl<'a, 'o> List<'a, 'o> {
    fn new(unknown: &'a [UnknownAttribute], out: &'o mut BytesMut) -> Self {
        // An attribute with a field of its own is not written a second time.
        let foreign = |attribute: &&UnknownAttribute| match attribute.code {
            code::IPV6_EXTENDED_COMMUNITIES | code::ONLY_TO_CUSTOMER => true,
            code => rule(code).is_none(),
        };
        let mut unknown: Vec<_> = unknown.iter().filter(foreign).collect();
        unknown.sort_by_key(|attribute| attribute.code);
        Self { out, unknown: unknown.into_iter().peekable() }
    }

    fn put(&mut self, code: u8, value: impl FnOnce(&mut BytesMut)) {
        self.put_unknown_below(Some(code));
        let flags = rule(code).map_or(0, |rule| rule.flags());
        put_attribute(flags, code, value, self.out);
    }

    fn put_all<T: Copy>(&mut self, code: u8, items: &[T], write: impl Fn(T, &mut BytesMut)) {
        if !items.is_empty() {
            self.put(code, |out| items.iter().for_each(|item| write(*item, out)));
        }
    }

    /// Unknown attributes up to a code, or all that are left. Their flags are for export to set (Partial, RFC 4271
    /// section 9).
    fn put_unknown_below(&mut self, bound: Option<u8>) {
        while let Some(attribute) =
            self.unknown.next_if(|attribute| bound.is_none_or(|code| attribute.code < code))
        {
            let value = |out: &mut BytesMut| out.put_slice(&attribute.value);
            put_attribute(attribute.flags, attribute.code, value, self.out);
        }
    }
}

/// Appends one attribute, with the two-octet length only where one octet is not enough.
pub(in crate::message) fn put_attribute(
    flags: u8,
    code: u8,
    value: impl FnOnce(&mut BytesMut),
    out: &mut BytesMut,
) {
    let start = out.len();
    out.put_u8(flags | flag::EXTENDED_LENGTH);
    out.put_u8(code);
    with_u16_length(out, value);
    shorten(out, start);
}

/// Makes the two-octet length of the attribute that begins at `start` one octet, where its value allows.
fn shorten(out: &mut BytesMut, start: usize) {
    let value_start = start + 4;
    let Ok(length) = u8::try_from(out.len() - value_start) else {
        return;
    };
    let end = out.len();
    if let Some([flags, _code, short, _]) = out.get_mut(start..value_start) {
        *flags &= !flag::EXTENDED_LENGTH;
        *short = length;
        out.copy_within(value_start..end, value_start - 1);
        out.truncate(end - 1);
    }
}
