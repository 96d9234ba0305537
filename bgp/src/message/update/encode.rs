//! UPDATE to bytes: as many prefixes in each message as really fit.
//!
//! IPv4 prefixes with an IPv4 next hop use the fields of RFC 4271. Everything else that is announced uses
//! MP_REACH_NLRI, first in the list (RFC 7606 section 5.1). IPv4 is always withdrawn in the Withdrawn Routes
//! field, also where its next hops are IPv6 ones: RFC 8950 changes how a next hop is written, a withdrawal has
//! none, and this is the form that every speaker of IPv4 unicast reads (FRR and BIRD too).

use bytes::{BufMut, BytesMut};

use super::super::attribute::next_hop;
use super::super::attribute::rule::{code, flag};
use super::super::attribute::write::{self, NextHopField, put_attribute};
use super::super::header::write_message;
use super::super::wire::{with_u8_length, with_u16_length};
use super::super::{Attributes, HEADER_LENGTH, MessageKind};
use super::{Encoded, UpdateCodec, nlri};
use crate::{AfiSafi, Family, NextHop, Prefix};

/// Header and both length fields.
const FIXED: usize = HEADER_LENGTH + 2 + 2;
/// Flags, code and the long length of an attribute.
const ATTRIBUTE_HEADER: usize = 4;

/// Announces the prefixes.
pub(super) fn reach(
    codec: &UpdateCodec,
    attributes: &Attributes,
    prefixes: &[Prefix],
    out: &mut BytesMut,
) -> Encoded {
    let mut encoded = Encoded::default();
    let mut unsent = Vec::new();
    let mut rest = prefixes;
    let mut written: Option<Announcement> = None;
    while let Some(family) = rest.first().map(|prefix| prefix.family()) {
        let announcement = match written.take().filter(|announcement| announcement.family == family) {
            Some(same) => same,
            None => Announcement::new(codec, attributes, family),
        };
        let fitting = take_fitting(&mut rest, announcement.room);
        if fitting.is_empty() {
            // Left where it is: alone it is too long for what the attributes leave.
            unsent.extend(rest.split_off_first().copied());
        } else {
            announcement.write(fitting, out);
            encoded.messages += 1;
        }
        written = Some(announcement);
    }
    encoded.unsent = unsent.len();
    encoded.messages += unreach(codec, &unsent, out).messages;
    encoded
}

/// Everything of the messages of one family that does not depend on the prefixes in them.
struct Announcement {
    family: Family,
    /// Octets that each message has for prefixes; 0 where they cannot be announced at all.
    room: usize,
    /// Without MP_REACH_NLRI.
    attributes: BytesMut,
    /// MP_REACH_NLRI up to its prefixes; `None` where they go into the NLRI field.
    mp_reach: Option<BytesMut>,
}

impl Announcement {
    fn new(codec: &UpdateCodec, attributes: &Attributes, family: Family) -> Self {
        let classic = family == Family::Ipv4Unicast && matches!(attributes.next_hop, NextHop::Ipv4(_));
        let mut list = BytesMut::new();
        let mut used = FIXED;
        let mp_reach = if classic {
            write::write(codec, attributes, NextHopField::Written, &mut list);
            None
        } else {
            write::write(codec, attributes, NextHopField::InMpReach, &mut list);
            let head = mp_reach_head(codec, attributes.next_hop, family);
            used += ATTRIBUTE_HEADER + head.len();
            Some(head)
        };
        used += list.len();
        let can_be_said = codec.families.contains(family) && is_sayable(codec, attributes.next_hop, family);
        let room = if can_be_said { codec.max_length.saturating_sub(used) } else { 0 };
        Self { family, room, attributes: list, mp_reach }
    }

    fn write(&self, prefixes: &[Prefix], out: &mut BytesMut) {
        write_message(out, MessageKind::Update, |out| {
            out.put_u16(0);
            with_u16_length(out, |out| {
                if let Some(head) = &self.mp_reach {
                    let value = |out: &mut BytesMut| {
                        out.put_slice(head);
                        put_prefixes(prefixes, out);
                    };
                    put_attribute(flag::OPTIONAL, code::MP_REACH_NLRI, value, out);
                }
                out.put_slice(&self.attributes);
            });
            if self.mp_reach.is_none() {
                put_prefixes(prefixes, out);
            }
        });
    }
}

/// Whether the peer takes this next hop for prefixes of this family.
fn is_sayable(codec: &UpdateCodec, next_hop: NextHop, family: Family) -> bool {
    match (next_hop, family) {
        (NextHop::Itself, _) | (NextHop::Ipv4(_), Family::Ipv6Unicast) => false,
        (NextHop::Ipv4(_), Family::Ipv4Unicast) => true,
        (
            NextHop::Ipv6(_) | NextHop::LinkLocal(_) | NextHop::Ipv6WithLinkLocal { .. },
            Family::Ipv6Unicast,
        ) => true,
        // RFC 8950 section 4: only to a peer that announced it.
        (
            NextHop::Ipv6(_) | NextHop::LinkLocal(_) | NextHop::Ipv6WithLinkLocal { .. },
            Family::Ipv4Unicast,
        ) => codec.extended_next_hop.contains(family),
    }
}

/// AFI, SAFI, next hop and the reserved octet.
fn mp_reach_head(codec: &UpdateCodec, address: NextHop, family: Family) -> BytesMut {
    let mut head = BytesMut::new();
    put_family(family, &mut head);
    with_u8_length(&mut head, |out| next_hop::encode_mp(address, codec.link_local_form, out));
    head.put_u8(0);
    head
}

/// Withdraws the prefixes.
pub(super) fn unreach(codec: &UpdateCodec, prefixes: &[Prefix], out: &mut BytesMut) -> Encoded {
    let mut encoded = Encoded::default();
    let mut rest = prefixes;
    while let Some(family) = rest.first().map(|prefix| prefix.family()) {
        let room = match family {
            _ if !codec.families.contains(family) => 0,
            Family::Ipv4Unicast => codec.max_length.saturating_sub(FIXED),
            Family::Ipv6Unicast => codec.max_length.saturating_sub(FIXED + ATTRIBUTE_HEADER + 3),
        };
        let fitting = take_fitting(&mut rest, room);
        if fitting.is_empty() {
            encoded.unsent += usize::from(rest.split_off_first().is_some());
        } else {
            write_unreach(family, fitting, out);
            encoded.messages += 1;
        }
    }
    encoded
}

/// RFC 4724 section 2: an empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI for any other family.
pub(super) fn end_of_rib(codec: &UpdateCodec, family: Family, out: &mut BytesMut) -> Encoded {
    if !codec.families.contains(family) {
        return Encoded::default();
    }
    write_unreach(family, &[], out);
    Encoded { messages: 1, unsent: 0 }
}

fn write_unreach(family: Family, prefixes: &[Prefix], out: &mut BytesMut) {
    write_message(out, MessageKind::Update, |out| match family {
        Family::Ipv4Unicast => {
            with_u16_length(out, |out| put_prefixes(prefixes, out));
            out.put_u16(0);
        }
        Family::Ipv6Unicast => {
            out.put_u16(0);
            with_u16_length(out, |out| {
                let value = |out: &mut BytesMut| {
                    put_family(family, out);
                    put_prefixes(prefixes, out);
                };
                put_attribute(flag::OPTIONAL, code::MP_UNREACH_NLRI, value, out);
            });
        }
    });
}

/// Takes prefixes of one family off the front, as many as fit.
fn take_fitting<'a>(rest: &mut &'a [Prefix], room: usize) -> &'a [Prefix] {
    let family = rest.first().map(|prefix| prefix.family());
    let mut used = 0;
    let fits = |prefix: &&Prefix| {
        used += nlri::encoded_length(**prefix);
        used <= room && Some(prefix.family()) == family
    };
    let count = rest.iter().take_while(fits).count();
    let (fitting, left) = rest.split_at_checked(count).unwrap_or((&[], rest));
    *rest = left;
    fitting
}

fn put_family(family: Family, out: &mut BytesMut) {
    let AfiSafi { afi, safi } = family.into();
    out.put_u16(afi);
    out.put_u8(safi);
}

fn put_prefixes(prefixes: &[Prefix], out: &mut BytesMut) {
    prefixes.iter().for_each(|prefix| nlri::encode(*prefix, out));
}
