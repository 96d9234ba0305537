//! What the ToRs announce: the same prefixes from both, as UPDATEs ready to be written.
//!
//! Half of the prefixes are /32, as loopbacks are, half /26, as pod blocks are. Every [`PREFIXES_PER_SET`] of them share
//! one set of attributes: an AS path of 1 to 6 ASNs and 2 to 4 communities, all from the number of the set. Two
//! ToRs differ in the first ASN alone, so that their paths are equally good and both next hops are used.

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::message::update::{AsWidth, LinkLocalForm};
use bgp::message::{AsPath, Attributes, Community, MAX_LENGTH, Outgoing, Segment, SegmentKind, UpdateCodec};
use bgp::{Asn, Families, Family, Ipv4Prefix, NextHop, PeerKind, Prefix};
use bytes::BytesMut;

/// As many as the racks of one pod would share.
pub(super) const PREFIXES_PER_SET: u32 = 100;
const LOOPBACKS: u32 = 0x0a00_0000;
const BLOCKS: u32 = 0x4000_0000;
/// Addresses of a /26.
const BLOCK: u32 = 64;
/// Longest AS path, in ASNs.
const LONGEST_PATH: u32 = 6;

/// What a ToR and the agent agree on in every session here.
pub(super) fn codec() -> UpdateCodec {
    let ipv4 = Families::from_iter([Family::Ipv4Unicast]);
    UpdateCodec {
        families: ipv4,
        extended_next_hop: ipv4,
        as_width: AsWidth::Four,
        max_length: MAX_LENGTH,
        peer_kind: PeerKind::External,
        link_local_form: LinkLocalForm::Twice,
    }
}

/// The UPDATEs for `count` prefixes and the End-of-RIB, one after the other.
pub(super) fn table(asn: Asn, next_hop: Ipv6Addr, count: u32) -> BytesMut {
    let codec = codec();
    let mut out = BytesMut::new();
    let mut first = 0;
    while first < count {
        let end = first.saturating_add(PREFIXES_PER_SET).min(count);
        let attributes = attributes(asn, next_hop, first / PREFIXES_PER_SET);
        let prefixes = (first..end).filter_map(|number| prefix(number, count)).map(Prefix::V4).collect();
        codec.encode(&Outgoing::Reach { attributes, prefixes }, &mut out);
        first = end;
    }
    codec.encode(&Outgoing::<Attributes>::EndOfRib(Family::Ipv4Unicast), &mut out);
    out
}

/// Prefix `number` of `count`.
fn prefix(number: u32, count: u32) -> Option<Ipv4Prefix> {
    let loopbacks = count.div_ceil(2);
    let (address, length) = match number.checked_sub(loopbacks) {
        None => (LOOPBACKS.checked_add(number)?, 32),
        Some(block) => (block.checked_mul(BLOCK)?.checked_add(BLOCKS)?, 26),
    };
    Ipv4Prefix::masked(Ipv4Addr::from(address), length)
}

fn attributes(asn: Asn, next_hop: Ipv6Addr, set: u32) -> Attributes {
    let mut random = fastrand::Rng::with_seed(set.into());
    let mut asns = vec![asn];
    let length = 1 + set % LONGEST_PATH;
    asns.extend((1..length).map(|_| Asn(random.u32(4_200_000_000..4_290_000_000))));
    // The number of the set keeps the sets distinct where the path is the ToR alone.
    let mut communities = vec![Community(0xfde8_0000 | set & 0xffff), Community(0xfde9_0000 | set >> 16)];
    let others = random.usize(0..=2);
    communities.extend((0..others).map(|_| Community(0xfdf0_0000 | u32::from(random.u8(..)))));
    Attributes {
        as_path: AsPath::from_segments([Segment { kind: SegmentKind::Sequence, asns }]),
        next_hop: NextHop::LinkLocal(next_hop),
        communities: communities.into(),
        ..Attributes::originated()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bgp::message::{MessageKind, Reach, frame};

    use super::*;

    const TOR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa1);

    fn decoded(asn: u32, count: u32) -> Vec<Reach> {
        let mut octets = table(Asn(asn), TOR, count);
        let mut reaches = Vec::new();
        let mut ended = false;
        while let Some(frame) = frame(&mut octets, MAX_LENGTH).unwrap() {
            assert_eq!(frame.kind, MessageKind::Update);
            let update = codec().decode(frame.body).unwrap();
            assert!(update.faults.is_empty() && update.withdrawn.is_empty() && !ended);
            ended = update.end_of_rib.is_some();
            reaches.extend(update.reach);
        }
        assert!(octets.is_empty() && ended);
        reaches
    }

    #[test]
    fn a_table_has_as_many_prefixes_and_sets_as_it_says() {
        let reaches = decoded(65001, 1050);
        let prefixes: BTreeSet<_> = reaches.iter().flat_map(|reach| &reach.prefixes).collect();
        assert_eq!(prefixes.len(), 1050);
        assert_eq!(prefixes.iter().filter(|prefix| prefix.length() == 32).count(), 525);
        assert_eq!(prefixes.iter().filter(|prefix| prefix.length() == 26).count(), 525);
        let sets: Vec<_> = reaches.iter().map(|reach| &reach.attributes).collect();
        assert_eq!(sets.len(), 11);
        assert!(sets.iter().enumerate().all(|(at, set)| !sets[..at].contains(set)), "distinct");
        let lengths: BTreeSet<_> = sets.iter().map(|set| set.as_path.length()).collect();
        assert_eq!(lengths, (1..=6).collect());
        assert!(sets.iter().all(|set| (2..=4).contains(&set.communities.len())));
    }

    #[test]
    fn the_tables_of_two_tors_differ_in_the_first_asn_alone() {
        for (one, two) in decoded(65001, 700).iter().zip(decoded(65002, 700)) {
            assert_eq!(one.prefixes, two.prefixes);
            assert_eq!(one.attributes.communities, two.attributes.communities);
            assert_eq!(one.attributes.as_path.length(), two.attributes.as_path.length());
            assert_eq!(one.attributes.as_path.neighbor_as(), Some(Asn(65001)));
            assert_eq!(two.attributes.as_path.neighbor_as(), Some(Asn(65002)));
        }
    }

    #[test]
    fn an_empty_table_is_an_end_of_rib() {
        assert!(decoded(65001, 0).is_empty());
    }
}
