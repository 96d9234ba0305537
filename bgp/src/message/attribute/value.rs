//! The values of attributes whose flags and length are right: from octets to types, or what is wrong with them.

use super::super::update::AsWidth;
use super::super::wire::Reader;
use super::next_hop;
use super::rule::Action;
use super::{Aggregator, AsPath, LargeCommunity, Origin, SegmentKind, as4};
use crate::{Asn, NextHop};

/// Why one attribute is malformed.
pub(super) enum Malformed {
    /// Costs what its row says.
    AsTheTableSays(&'static str),
    /// Costs this, by an RFC that is cited where it is made.
    Explicitly(Action, &'static str),
}

impl From<&'static str> for Malformed {
    fn from(reason: &'static str) -> Self {
        Self::AsTheTableSays(reason)
    }
}

pub(super) fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], &'static str> {
    value.try_into().map_err(|_| "wrong attribute length")
}

pub(super) fn items<const N: usize, T>(value: &[u8], make: impl Fn([u8; N]) -> T) -> Box<[T]> {
    let (items, _) = value.as_chunks::<N>();
    items.iter().map(|item| make(*item)).collect()
}

pub(super) fn decode_origin(value: &[u8]) -> Result<Origin, &'static str> {
    match value {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        _ => Err("undefined origin"),
    }
}

/// RFC 7606 section 7.2, with what later RFCs took away.
pub(super) fn decode_as_path(value: &[u8], width: AsWidth) -> Result<AsPath, Malformed> {
    let path = AsPath::decode(value, width)?;
    for view in path.views() {
        match view.kind {
            SegmentKind::Sequence => {}
            // RFC 9774 section 3
            SegmentKind::Set | SegmentKind::ConfedSet => return Err("AS_SET in the path".into()),
            // RFC 5065 section 5: this speaker is in no confederation.
            SegmentKind::ConfedSequence => return Err("confederation segment from outside".into()),
        }
        // RFC 7607 section 2
        if view.asns().any(|asn| asn == Asn(0)) {
            return Err("AS 0 in the path".into());
        }
    }
    Ok(path)
}

pub(super) fn decode_as4_path(value: &[u8]) -> Result<AsPath, Malformed> {
    let path = AsPath::decode(value, AsWidth::Four)?;
    for view in path.views() {
        match view.kind {
            // RFC 6793 section 3: dropped from the path, no fault; a confederation leaked them in 2008.
            SegmentKind::Sequence | SegmentKind::ConfedSequence => {}
            // RFC 9774 section 3
            SegmentKind::Set | SegmentKind::ConfedSet => {
                return Err(Malformed::Explicitly(Action::Withdraw, "AS_SET in the path"));
            }
        }
        // RFC 7607 section 2
        if view.asns().any(|asn| asn == Asn(0)) {
            return Err(Malformed::Explicitly(Action::Withdraw, "AS 0 in the path"));
        }
    }
    Ok(as4::without_confederation(&path))
}

pub(super) fn decode_next_hop(value: &[u8]) -> Result<NextHop, &'static str> {
    next_hop::decode_ipv4(fixed(value)?).map_err(|_| "next hop is not a host address")
}

pub(super) fn decode_aggregator(value: &[u8], width: AsWidth) -> Result<Aggregator, &'static str> {
    let mut reader = Reader::new(value);
    let asn = match width {
        AsWidth::Two => reader.u16().map(u32::from),
        AsWidth::Four => reader.u32(),
    };
    let (Some(asn), Some(router_id)) = (asn, reader.array::<4>()) else {
        return Err("wrong attribute length");
    };
    // RFC 7607 section 2
    if asn == 0 {
        return Err("AS 0 as aggregator");
    }
    Ok(Aggregator { asn: Asn(asn), router_id: router_id.into() })
}

/// RFC 8092 section 3: a value that is there twice is there once. Their order has no meaning.
pub(super) fn decode_large_communities(value: &[u8]) -> Box<[LargeCommunity]> {
    let mut communities: Vec<_> = items(value, |item: [u8; 12]| {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = item;
        LargeCommunity {
            global: u32::from_be_bytes([a0, a1, a2, a3]),
            local1: u32::from_be_bytes([b0, b1, b2, b3]),
            local2: u32::from_be_bytes([c0, c1, c2, c3]),
        }
    })
    .into_vec();
    communities.sort_unstable();
    communities.dedup();
    communities.into()
}
