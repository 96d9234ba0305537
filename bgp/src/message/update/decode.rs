//! UPDATE from bytes (RFC 4271 section 4.3), and what RFC 7606 leaves of a faulty one.
//!
//! ```text
//! +-------------------------------+
//! |   Withdrawn Routes Length     |  withdrawn prefixes ...
//! +-------------------------------+
//! | Total Path Attribute Length   |  attributes ...
//! +-------------------------------+
//! |  prefixes (NLRI) to the end of the message ...
//! ```

use super::super::Notification;
use super::super::attribute::read::{self, MpReach, NextHopUse, Received};
use super::super::notification::UpdateSubcode;
use super::super::wire::Reader;
use super::{Reach, Update, UpdateCodec, nlri};
use crate::{Families, Family, NextHop, Prefix};

pub(super) fn decode(codec: &UpdateCodec, body: &[u8]) -> Result<Update, Notification> {
    let mut fields = Fields::split(body)?;
    if fields.are_empty() {
        // RFC 4724 section 2: exactly this message, and nothing like it.
        let end_of_rib = Some(Family::Ipv4Unicast).filter(|&family| codec.families.contains(family));
        return Ok(Update { end_of_rib, ..Update::default() });
    }
    fields.ignore_foreign(codec.families);

    let mut update = Update::default();
    decode_field(fields.withdrawn, &mut update.withdrawn)?;
    let mut announced = Vec::new();
    decode_field(fields.nlri, &mut announced)?;

    let next_hop_use = if announced.is_empty() { NextHopUse::Ignored } else { NextHopUse::ForNlri };
    let mut received = read::read(codec, fields.attributes, next_hop_use)?;
    take_unreach(&mut received, &fields, &mut update);
    let mp_reach = received.reach.take().filter(|reach| !reach.prefixes.is_empty());
    if mp_reach.is_some() || !announced.is_empty() {
        received.require_mandatory(next_hop_use)?;
    } else if let Some(error) = received.withdraw.take()
        && !received.foreign_reach
        && !fields.foreign_nlri
    {
        // RFC 7606 section 5.2: there is nothing to withdraw, so the fault may have hidden what there was.
        return Err(error);
    }
    update.faults = std::mem::take(&mut received.faults);
    conclude(received, announced, mp_reach, &mut update);
    Ok(update)
}

/// The three fields.
struct Fields<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
    /// The other two are empty on the wire.
    attributes_alone: bool,
    /// There was an NLRI field of a family that was not negotiated.
    foreign_nlri: bool,
}

impl<'a> Fields<'a> {
    /// RFC 7606 section 3 b: a length beyond the message is a reset.
    fn split(body: &'a [u8]) -> Result<Self, Notification> {
        let mut reader = Reader::new(body);
        let mut field = || {
            let length = reader.u16()?;
            reader.take(length.into())
        };
        let (Some(withdrawn), Some(attributes)) = (field(), field()) else {
            return Err(Notification::update(UpdateSubcode::MalformedAttributeList, &[]));
        };
        let nlri = reader.rest();
        let attributes_alone = withdrawn.is_empty() && nlri.is_empty();
        Ok(Self { withdrawn, attributes, nlri, attributes_alone, foreign_nlri: false })
    }

    fn are_empty(&self) -> bool {
        self.attributes_alone && self.attributes.is_empty()
    }

    /// The fields outside the attributes are IPv4 unicast; where that was not negotiated they are not read.
    fn ignore_foreign(&mut self, families: Families) {
        if !families.contains(Family::Ipv4Unicast) {
            self.foreign_nlri = !self.nlri.is_empty();
            self.withdrawn = &[];
            self.nlri = &[];
        }
    }
}

/// RFC 7606 section 5.3: a prefix that cannot be read hides those behind it.
fn decode_field(octets: &[u8], into: &mut Vec<Prefix>) -> Result<(), Notification> {
    nlri::decode(Family::Ipv4Unicast, octets, into)
        .map_err(|_| Notification::update(UpdateSubcode::InvalidNetworkField, &[]))
}

/// Withdrawn prefixes of MP_UNREACH_NLRI; alone in the message and empty, it is End-of-RIB.
fn take_unreach(received: &mut Received, fields: &Fields<'_>, update: &mut Update) {
    let Some(unreach) = received.unreach.take() else {
        return;
    };
    let alone = fields.attributes_alone && received.count == 1 && received.faults.is_empty();
    if alone && unreach.prefixes.is_empty() {
        update.end_of_rib = Some(unreach.family);
    }
    update.withdrawn.extend(unreach.prefixes);
}

/// Announces or withdraws the reachable prefixes.
fn conclude(received: Received, announced: Vec<Prefix>, mp_reach: Option<MpReach>, update: &mut Update) {
    let usable = if received.withdraw.is_none() { received.into_attributes() } else { None };
    let mut reach = |prefixes: Vec<Prefix>, next_hop: Option<NextHop>, attributes: Option<_>| match (
        attributes, next_hop,
    ) {
        (Some(attributes), Some(next_hop)) if !prefixes.is_empty() => {
            update
                .reach
                .push(Reach { attributes: super::super::Attributes { next_hop, ..attributes }, prefixes });
        }
        _ => update.withdrawn.extend(prefixes),
    };
    let (attributes, next_hop) = match usable {
        Some((attributes, next_hop)) => (Some(attributes), next_hop),
        None => (None, None),
    };
    match mp_reach {
        Some(mp) if announced.is_empty() => reach(mp.prefixes, mp.next_hop, attributes),
        Some(mp) => {
            reach(announced, next_hop, attributes.clone());
            reach(mp.prefixes, mp.next_hop, attributes);
        }
        None => reach(announced, next_hop, attributes),
    }
}
