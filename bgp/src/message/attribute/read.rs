//! The attribute list of a received UPDATE, read by the table of RFC 7606.
//!
//! In: the octets that Total Path Attribute Length counts. Out: a [`Received`] with every value that is fit for
//! use and every fault with its consequence, or the NOTIFICATION where only a reset is left. Whether a
//! withdraw is possible at all is decided by [`super::super::update`], which knows the prefixes.
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |     Flags     |   Type code   |  Length, 1 or 2 octets        |  value ...
//! +---------------+---------------+-------------------------------+
//! ```

use std::net::Ipv4Addr;

use bytes::Bytes;

use super::super::Notification;
use super::super::notification::UpdateSubcode;
use super::super::update::{AsWidth, AttributeFault, FaultAction, UpdateCodec, nlri};
use super::super::wire::Reader;
use super::next_hop::{self, NextHopFault};
use super::rule::{Action, code, flag, rule};
use super::value::{
    Malformed, decode_aggregator, decode_as_path, decode_as4_path, decode_large_communities, decode_next_hop,
    decode_origin, fixed, items,
};
use super::{
    Aggregator, AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, Origin, UnknownAttribute,
    as4,
};
use crate::{AfiSafi, Family, NextHop, Prefix, RouterId};

/// What the attribute list said.
#[derive(Debug, Default)]
pub(in crate::message) struct Received {
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    /// NEXT_HOP, for the prefixes of the NLRI field.
    pub(in crate::message) next_hop: Option<NextHop>,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic_aggregate: bool,
    aggregator: Option<Aggregator>,
    communities: Box<[Community]>,
    originator_id: Option<RouterId>,
    cluster_list: Box<[Ipv4Addr]>,
    extended_communities: Box<[ExtendedCommunity]>,
    large_communities: Box<[LargeCommunity]>,
    unknown: Vec<UnknownAttribute>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    /// MP_REACH_NLRI of a negotiated family.
    pub(in crate::message) reach: Option<Announced>,
    /// There was reachable NLRI of a family that was not negotiated, which is not looked into.
    pub(in crate::message) foreign_reach: bool,
    /// MP_UNREACH_NLRI of a negotiated family.
    pub(in crate::message) unreach: Option<MpUnreach>,
    /// How many attributes there were.
    pub(in crate::message) count: usize,
    pub(in crate::message) faults: Vec<AttributeFault>,
    /// Set with the first fault that treats the routes as withdrawn: what to send where there are none
    /// (RFC 7606 section 5.2).
    pub(in crate::message) withdraw: Option<Notification>,
}

/// Reachable prefixes and where they are reached: MP_REACH_NLRI, or the NLRI field and NEXT_HOP.
#[derive(Debug, Default)]
pub(in crate::message) struct Announced {
    /// `None` where it is missing or malformed, which is in the faults.
    pub(in crate::message) next_hop: Option<NextHop>,
    pub(in crate::message) prefixes: Vec<Prefix>,
}

/// A decoded MP_UNREACH_NLRI.
#[derive(Debug)]
pub(in crate::message) struct MpUnreach {
    pub(in crate::message) family: Family,
    pub(in crate::message) prefixes: Vec<Prefix>,
}

/// Whether NEXT_HOP means anything in this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::message) enum NextHopUse {
    /// There are prefixes in the NLRI field.
    ForNlri,
    /// There are none: it is not looked at (RFC 4760 section 3). Arista sends 0.0.0.0 beside MP_REACH_NLRI.
    Ignored,
}

/// One attribute in the list.
#[derive(Debug, Clone, Copy)]
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    /// Flags, code and length too: what the data of a NOTIFICATION repeats.
    whole: &'a [u8],
}

/// Reads the list to its end, or to where it can be read no further.
pub(in crate::message) fn read(
    codec: &UpdateCodec,
    octets: &[u8],
    next_hop_use: NextHopUse,
) -> Result<Received, Notification> {
    let mut received = Received::default();
    let mut seen = Seen::default();
    let mut reader = Reader::new(octets);
    while !reader.is_empty() {
        let raw = match next(&mut reader) {
            Ok(raw) => raw,
            Err(overrun) => {
                received.overrun(overrun)?;
                break;
            }
        };
        received.count += 1;
        if seen.insert(raw.code) {
            received.take(codec, raw, next_hop_use)?;
        } else {
            received.repeated(raw)?;
        }
    }
    Ok(received)
}

/// The list ends within an attribute.
struct Overrun {
    code: Option<u8>,
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<Raw<'a>, Overrun> {
    let start = reader.rest();
    let Some([flags, code]) = reader.array() else {
        return Err(Overrun { code: None });
    };
    let length = match flags & flag::EXTENDED_LENGTH {
        0 => reader.u8().map(usize::from),
        _ => reader.u16().map(usize::from),
    };
    let value = length.and_then(|length| reader.take(length)).ok_or(Overrun { code: Some(code) })?;
    let whole = start.get(..start.len() - reader.rest().len()).unwrap_or(start);
    Ok(Raw { flags, code, value, whole })
}

/// The codes that were there already.
#[derive(Default)]
struct Seen([u128; 2]);

impl Seen {
    /// False if it was there.
    fn insert(&mut self, code: u8) -> bool {
        let [low, high] = &mut self.0;
        let half = if code < 128 { low } else { high };
        let bit = 1_u128 << (code % 128);
        let new = *half & bit == 0;
        *half |= bit;
        new
    }
}

impl Received {
    /// RFC 7606 section 4: the prefixes are found by Total Path Attribute Length, and are withdrawn.
    fn overrun(&mut self, overrun: Overrun) -> Result<(), Notification> {
        let error = Notification::update(UpdateSubcode::MalformedAttributeList, &[]);
        if let Some(code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) = overrun.code {
            // RFC 7606 section 3 j: its prefixes cannot be found.
            return Err(error);
        }
        let code = overrun.code.unwrap_or(0);
        self.fault(code, Action::Withdraw, "attribute runs over the end of the list", || error)
    }

    /// RFC 7606 section 3 g.
    fn repeated(&mut self, raw: Raw<'_>) -> Result<(), Notification> {
        let action = match raw.code {
            code::MP_REACH_NLRI | code::MP_UNREACH_NLRI => Action::Reset,
            _ => Action::Discard,
        };
        self.fault(raw.code, action, "attribute appears again", || {
            Notification::update(UpdateSubcode::MalformedAttributeList, &[])
        })
    }

    fn take(&mut self, codec: &UpdateCodec, raw: Raw<'_>, next_hop: NextHopUse) -> Result<(), Notification> {
        let Some(rule) = rule(raw.code) else {
            return self.take_unknown(raw);
        };
        if raw.code == code::NEXT_HOP && next_hop == NextHopUse::Ignored {
            return Ok(());
        }
        let error = |subcode| move || Notification::update(subcode, raw.whole);
        if !rule.is_legal(codec.peer_kind, codec.as_width) {
            let reason = "attribute does not belong on this session";
            return self.fault(raw.code, Action::Discard, reason, error(rule.subcode));
        }
        if !rule.flags_fit(raw.flags) {
            let subcode = UpdateSubcode::AttributeFlags;
            return self.fault(raw.code, rule.wrong_flags(), "wrong attribute flags", error(subcode));
        }
        if !rule.length_fits(raw.value.len(), codec.as_width) {
            let subcode = UpdateSubcode::AttributeLength;
            return self.fault(raw.code, rule.malformed, "wrong attribute length", error(subcode));
        }
        match self.take_value(codec, raw) {
            Ok(()) => Ok(()),
            Err(Malformed::AsTheTableSays(reason)) => {
                self.fault(raw.code, rule.malformed, reason, error(rule.subcode))
            }
            Err(Malformed::Explicitly(action, reason)) => {
                self.fault(raw.code, action, reason, error(rule.subcode))
            }
        }
    }

    /// RFC 4271 section 9: an optional attribute that is not recognized is no error, whatever is in it.
    fn take_unknown(&mut self, raw: Raw<'_>) -> Result<(), Notification> {
        if raw.flags & flag::OPTIONAL == 0 {
            return Err(Notification::update(UpdateSubcode::UnrecognizedWellKnown, raw.whole));
        }
        self.keep(raw);
        Ok(())
    }

    /// Copied: a slice would keep the whole receive buffer alive for as long as the route is held.
    fn keep(&mut self, raw: Raw<'_>) {
        let flags = raw.flags & (flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL);
        let value = Bytes::copy_from_slice(raw.value);
        self.unknown.push(UnknownAttribute { flags, code: raw.code, value });
    }

    /// Takes the value of an attribute whose flags and length are right.
    fn take_value(&mut self, codec: &UpdateCodec, raw: Raw<'_>) -> Result<(), Malformed> {
        let value = raw.value;
        match raw.code {
            code::ORIGIN => self.origin = Some(decode_origin(value)?),
            code::AS_PATH => self.as_path = Some(decode_as_path(value, codec.as_width)?),
            code::NEXT_HOP => self.next_hop = Some(decode_next_hop(value)?),
            code::MED => self.med = Some(u32::from_be_bytes(fixed(value)?)),
            code::LOCAL_PREF => self.local_pref = Some(u32::from_be_bytes(fixed(value)?)),
            code::ATOMIC_AGGREGATE => self.atomic_aggregate = true,
            code::AGGREGATOR => self.aggregator = Some(decode_aggregator(value, codec.as_width)?),
            code::COMMUNITIES => self.communities = items(value, |item| Community(u32::from_be_bytes(item))),
            code::ORIGINATOR_ID => {
                let address = Ipv4Addr::from(fixed::<4>(value)?);
                self.originator_id = Some(RouterId::new(address).ok_or("originator is 0.0.0.0")?);
            }
            code::CLUSTER_LIST => self.cluster_list = items(value, Ipv4Addr::from),
            code::MP_REACH_NLRI => self.take_mp_reach(codec, value)?,
            code::MP_UNREACH_NLRI => self.take_mp_unreach(codec, value)?,
            code::EXTENDED_COMMUNITIES => self.extended_communities = items(value, ExtendedCommunity),
            code::AS4_PATH => self.as4_path = Some(decode_as4_path(value)?),
            code::AS4_AGGREGATOR => self.as4_aggregator = Some(decode_aggregator(value, AsWidth::Four)?),
            code::LARGE_COMMUNITIES => self.large_communities = decode_large_communities(value),
            // The rows that are only checked.
            _ => self.keep(raw),
        }
        Ok(())
    }

    /// ```text
    /// +-------------------------------+---------------+---------------+
    /// |             AFI               |     SAFI      | Next hop len  |
    /// +-------------------------------+---------------+---------------+
    /// |  next hop ...  |  reserved 1  |  prefixes ...
    /// +----------------+--------------+
    /// ```
    fn take_mp_reach(&mut self, codec: &UpdateCodec, value: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(value);
        let family = read_family(&mut reader)?;
        let Some(family) = family.filter(|&family| codec.families.contains(family)) else {
            // RFC 4760 section 7: ignored whole. A next hop and prefixes of a family that we do not know
            // cannot be read, and need not be.
            self.foreign_reach = true;
            return Ok(());
        };
        let length = reader.u8().ok_or("no next hop length")?;
        let next_hop = reader.take(length.into()).ok_or("next hop runs over the end")?;
        // RFC 4760 section 3: the reserved octet is ignored.
        reader.u8().ok_or("no reserved octet")?;
        let decoded = next_hop::decode_mp(family, next_hop);
        if decoded == Err(NextHopFault::Length) {
            return Err("next hop length does not fit the family".into());
        }
        let mut prefixes = Vec::new();
        nlri::decode(family, reader.rest(), &mut prefixes).map_err(|_| "malformed prefix")?;
        self.reach = Some(Announced { next_hop: decoded.ok(), prefixes });
        match decoded {
            Ok(_) => Ok(()),
            // The prefixes were found, so that nothing more than the routes is at stake.
            Err(_) => Err(Malformed::Explicitly(Action::Withdraw, "next hop is not a host address")),
        }
    }

    fn take_mp_unreach(&mut self, codec: &UpdateCodec, value: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(value);
        let family = read_family(&mut reader)?;
        if let Some(family) = family.filter(|&family| codec.families.contains(family)) {
            let mut prefixes = Vec::new();
            nlri::decode(family, reader.rest(), &mut prefixes).map_err(|_| "malformed prefix")?;
            self.unreach = Some(MpUnreach { family, prefixes });
        }
        Ok(())
    }

    /// Notes a fault. A reset ends the reading; the rest may still find a stronger one (RFC 7606 section 3 h).
    pub(in crate::message) fn fault(
        &mut self,
        code: u8,
        action: Action,
        reason: &'static str,
        error: impl FnOnce() -> Notification,
    ) -> Result<(), Notification> {
        let action = match action {
            Action::Reset => return Err(error()),
            Action::Withdraw => {
                self.withdraw.get_or_insert_with(error);
                FaultAction::TreatAsWithdraw
            }
            Action::Discard => FaultAction::Discard,
        };
        self.faults.push(AttributeFault { code, action, reason });
        Ok(())
    }

    /// RFC 7606 section 3 d: called when there are prefixes to have the attributes. LOCAL_PREF may be missing on
    /// iBGP: the receiver's default stands for it.
    pub(in crate::message) fn require_mandatory(&mut self, next_hop: NextHopUse) -> Result<(), Notification> {
        let missing = [
            (code::ORIGIN, self.origin.is_none()),
            (code::AS_PATH, self.as_path.is_none()),
            (code::NEXT_HOP, next_hop == NextHopUse::ForNlri && self.next_hop.is_none()),
        ];
        for (code, is_missing) in missing {
            // One that was there and malformed has its fault already.
            if is_missing && self.faults.iter().all(|fault| fault.code != code) {
                self.fault(code, Action::Withdraw, "mandatory attribute is missing", || {
                    Notification::update(UpdateSubcode::MissingWellKnown, &[code])
                })?;
            }
        }
        Ok(())
    }

    /// The attributes, with a next hop yet to be set; `None` where a mandatory one is not there.
    pub(in crate::message) fn into_attributes(mut self) -> Option<Attributes> {
        // Their order means nothing (RFC 4271 section 5): sorted, equal sets are equal attributes.
        self.unknown.sort_by_key(|attribute| attribute.code);
        let (as_path, aggregator) =
            as4::reconcile(self.as_path?, self.aggregator, self.as4_path, self.as4_aggregator);
        Some(Attributes {
            origin: self.origin?,
            as_path,
            next_hop: NextHop::Itself,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator,
            communities: self.communities,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list.into(),
            extended_communities: self.extended_communities.into(),
            large_communities: self.large_communities.into(),
            unknown: self.unknown.into(),
        })
    }
}

/// AFI and SAFI; the inner `None` is a family that we do not carry.
fn read_family(reader: &mut Reader<'_>) -> Result<Option<Family>, &'static str> {
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
        return Err("no address family");
    };
    Ok(Family::try_from(AfiSafi { afi, safi }).ok())
}
