//! Paths: reading, counting, prepending, and how they look.

use super::super::super::tests::hex;
use super::*;

fn segment(kind: SegmentKind, asns: impl IntoIterator<Item = u32>) -> Segment {
    Segment { kind, asns: asns.into_iter().map(Asn).collect() }
}

fn mixed() -> AsPath {
    AsPath::from_segments([
        segment(SegmentKind::Sequence, [65001, 4_200_000_000]),
        segment(SegmentKind::Set, [1, 2]),
        segment(SegmentKind::ConfedSequence, [65100]),
        segment(SegmentKind::ConfedSet, [7, 8]),
    ])
}

fn sequence(asns: impl IntoIterator<Item = u32>) -> AsPath {
    AsPath::from_segments([segment(SegmentKind::Sequence, asns)])
}

#[test]
fn every_segment_type_goes_both_ways() {
    let wire = hex("02 02 0000fde9 fa56ea00 | 01 02 00000001 00000002 | 03 01 0000fe4c | 04 02 00000007 00000008");
    assert_eq!(AsPath::decode(&wire, AsWidth::Four), Ok(mixed()));
    let mut out = BytesMut::new();
    mixed().encode(AsWidth::Four, &mut out);
    assert_eq!(out, wire);
    assert_eq!(AsPath::from_segments(mixed().segments()), mixed());

    // AS_TRANS for what does not fit.
    let mut out = BytesMut::new();
    mixed().encode(AsWidth::Two, &mut out);
    assert_eq!(out, hex("02 02 fde9 5ba0 | 01 02 0001 0002 | 03 01 fe4c | 04 02 0007 0008"));
    let narrow = AsPath::decode(&out, AsWidth::Two).unwrap();
    assert_eq!(narrow.to_string(), "65001 23456 {1 2} (65100) [7 8]");
}

#[test]
fn malformed_structure_is_refused() {
    for text in ["02", "02 00", "00 01 00000001", "05 01 00000001", "02 02 00000001", "02 01 000001"] {
        assert!(AsPath::decode(&hex(text), AsWidth::Four).is_err(), "{text}");
    }
    assert_eq!(AsPath::decode(&[], AsWidth::Four), Ok(AsPath::default()));
}

#[test]
fn it_counts_and_looks_as_operators_expect() {
    assert_eq!(mixed().to_string(), "65001 4200000000 {1 2} (65100) [7 8]");
    assert_eq!(format!("{:?}", mixed()), "AsPath(65001 4200000000 {1 2} (65100) [7 8])");
    assert_eq!(mixed().length(), 3);
    assert_eq!(mixed().neighbor_as(), Some(Asn(65001)));
    assert_eq!(mixed().origin_as(), None);
    assert_eq!(sequence([1, 2, 3]).origin_as(), Some(Asn(3)));
    assert!(mixed().contains(Asn(8)) && mixed().contains(Asn(65001)) && !mixed().contains(Asn(9)));
    let empty = AsPath::default();
    assert!(empty.is_empty() && empty.length() == 0 && empty.neighbor_as().is_none());
    assert_eq!(empty.to_string(), "");
}

/// CVE-2025-20115 was a segment that grew past what its count holds.
#[test]
fn prepending_opens_a_new_segment_where_the_first_is_full() {
    assert_eq!(AsPath::default().prepended(Asn(1)), sequence([1]));
    assert_eq!(sequence([2, 3]).prepended(Asn(1)), sequence([1, 2, 3]));
    let full = sequence(0..255);
    let longer = full.prepended(Asn(9));
    assert_eq!(longer.segments().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [1, 255]);
    assert_eq!(longer.length(), 256);
    assert_eq!(longer.prepended(Asn(8)).segments().next().unwrap().asns, [Asn(8), Asn(9)]);
    let set = AsPath::from_segments([segment(SegmentKind::Set, [5])]);
    assert_eq!(set.prepended(Asn(1)).to_string(), "1 {5}");
}

#[test]
fn long_segments_are_split_and_empty_ones_left_out() {
    let path = AsPath::from_segments([segment(SegmentKind::Set, []), segment(SegmentKind::Sequence, 1..=600)]);
    assert_eq!(path.segments().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [255, 255, 90]);
    assert_eq!(path.length(), 600);
}
