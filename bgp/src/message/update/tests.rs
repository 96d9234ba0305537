//! UPDATE both ways: vectors, End-of-RIB, next hop forms, two-octet sessions, splitting.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;

use super::super::tests::{body_of, hex};
use super::super::{
    Aggregator, AsPath, Attributes, Community, ExtendedCommunity, HEADER_LENGTH, LargeCommunity,
    MAX_EXTENDED_LENGTH, MAX_LENGTH, MessageKind, Origin, Segment, SegmentKind, UnknownAttribute, frame,
};
use super::*;
use crate::{Asn, NextHop, RouterId};

pub(super) fn codec() -> UpdateCodec {
    UpdateCodec {
        families: Families::ALL,
        extended_next_hop: Families::ALL,
        as_width: AsWidth::Four,
        max_length: MAX_LENGTH,
        peer_kind: PeerKind::External,
        link_local_form: LinkLocalForm::Twice,
    }
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn sequence(asns: &[u32]) -> AsPath {
    let asns = asns.iter().copied().map(Asn).collect();
    AsPath::from_segments([Segment { kind: SegmentKind::Sequence, asns }])
}

pub(super) fn attributes(next_hop: NextHop) -> Attributes {
    Attributes { as_path: sequence(&[65001, 4_200_000_000]), next_hop, ..Attributes::originated() }
}

fn link_local() -> NextHop {
    NextHop::LinkLocal("fe80::1".parse().unwrap())
}

fn ipv4() -> NextHop {
    NextHop::Ipv4(Ipv4Addr::new(192, 0, 2, 1))
}

/// The body of an UPDATE from its three fields.
pub(super) fn body(withdrawn: &str, attributes: &str, nlri: &str) -> Bytes {
    let [withdrawn, attributes, nlri] = [withdrawn, attributes, nlri].map(hex);
    let length = |field: &Bytes| u16::try_from(field.len()).unwrap().to_be_bytes();
    [&length(&withdrawn), withdrawn.as_ref(), &length(&attributes), &attributes, &nlri].concat().into()
}

fn decode_all(codec: &UpdateCodec, out: &BytesMut) -> Vec<Update> {
    let mut buffer = out.clone();
    let mut updates = Vec::new();
    while let Some(frame) = frame(&mut buffer, codec.max_length).unwrap() {
        assert_eq!(frame.kind, MessageKind::Update);
        assert!(frame.body.len() + HEADER_LENGTH <= codec.max_length);
        updates.push(codec.decode(frame.body).unwrap());
    }
    assert!(buffer.is_empty());
    updates
}

fn encode(codec: &UpdateCodec, outgoing: Outgoing<Attributes>) -> (BytesMut, Encoded) {
    let mut out = BytesMut::new();
    let encoded = codec.encode(&outgoing, &mut out);
    (out, encoded)
}

fn reach(attributes: Attributes, prefixes: &[&str]) -> Outgoing<Attributes> {
    Outgoing::Reach { attributes, prefixes: prefixes.iter().map(|text| prefix(text)).collect() }
}

/// As FRR 8.4.4 sends it over an unnumbered session: MP_REACH_NLRI for IPv4 with its long length, the link-local
/// address twice, MED 0.
#[test]
fn the_update_of_frr_is_read() {
    let update = body(
        "",
        "90 0e 002a 0001 01 20 fe80000000000000 00000000000000aa fe80000000000000 00000000000000aa 00 \
         20 0aff0001 | 40 01 01 00 | 40 02 06 02 01 0000fde9 | 80 04 04 00000000",
        "",
    );
    let update = codec().decode(update).unwrap();
    assert_eq!(update.faults, []);
    let [reach] = update.reach.as_slice() else { panic!("{update:?}") };
    assert_eq!(reach.prefixes, [prefix("10.255.0.1/32")]);
    let next_hop = NextHop::LinkLocal("fe80::aa".parse().unwrap());
    let expected = Attributes { as_path: sequence(&[65001]), med: Some(0), ..attributes(next_hop) };
    assert_eq!(reach.attributes, expected);
}

#[test]
fn an_announcement_of_ipv4_over_ipv6_is_written_as_frr_reads_it() {
    let attributes = Attributes { as_path: sequence(&[65001]), ..attributes(link_local()) };
    let outgoing = reach(attributes, &["10.1.8.192/26", "1.1.1.1/32"]);
    let tail = "40 01 01 00 | 40 02 06 02 01 0000fde9";
    let (out, _) = encode(&codec(), outgoing.clone());
    let twice = "80 0e 2f 0001 01 20 fe80000000000000 0000000000000001 fe80000000000000 0000000000000001 00 \
                 1a 0a0108c0 20 01010101";
    assert_eq!(body_of(out), body("", &format!("{twice}{tail}"), ""));
    let once = UpdateCodec { link_local_form: LinkLocalForm::Once, ..codec() };
    let (out, _) = encode(&once, outgoing);
    let once = "80 0e 1f 0001 01 10 fe80000000000000 0000000000000001 00 1a 0a0108c0 20 01010101";
    assert_eq!(body_of(out), body("", &format!("{once}{tail}"), ""));
}

#[test]
fn an_announcement_of_ipv4_over_ipv4_uses_the_fields_of_rfc_4271() {
    let (out, _) = encode(&codec(), reach(attributes(ipv4()), &["10.1.8.192/26", "0.0.0.0/0"]));
    let list = "40 01 01 00 | 40 02 0a 02 02 0000fde9 fa56ea00 | 40 03 04 c0000201";
    assert_eq!(body_of(out), body("", list, "1a 0a0108c0 00"));
}

#[test]
fn withdrawals_are_written() {
    let unreach = |text| Outgoing::Unreach { prefixes: vec![prefix(text)] };
    let (out, _) = encode(&codec(), unreach("10.1.8.192/26"));
    assert_eq!(body_of(out), body("1a 0a0108c0", "", ""));
    let (out, _) = encode(&codec(), unreach("fd00:10::/64"));
    assert_eq!(body_of(out), body("", "80 0f 0c 0002 01 40 fd00001000000000", ""));
}

/// Every attribute, in ascending order behind MP_REACH_NLRI, with the unknown ones in their places.
#[test]
fn every_attribute_goes_both_ways() {
    let unknown = |flags, code, value| UnknownAttribute { flags, code, value: hex(value) };
    let all = Attributes {
        origin: Origin::Incomplete,
        med: Some(50),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator { asn: Asn(4_200_000_001), router_id: [1, 1, 1, 1].into() }),
        communities: [Community(0xfde9_0064), Community::NO_EXPORT].into(),
        originator_id: RouterId::new([2, 2, 2, 2].into()),
        cluster_list: [Ipv4Addr::new(3, 3, 3, 3)].into(),
        extended_communities: [ExtendedCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, 1])].into(),
        large_communities: [LargeCommunity { global: 1, local1: 2, local2: 3 }].into(),
        unknown: [unknown(0xe0, 11, "00"), unknown(0xc0, 35, "0000fde9"), unknown(0x80, 99, "")].into(),
        ..attributes(link_local())
    };
    for as_width in [AsWidth::Two, AsWidth::Four] {
        for peer_kind in [PeerKind::Internal, PeerKind::External] {
            let codec = UpdateCodec { as_width, peer_kind, ..codec() };
            let (out, encoded) = encode(&codec, reach(all.clone(), &["fd00::/8"]));
            assert_eq!(encoded, Encoded { messages: 1, unsent: 0 });
            let expected = match peer_kind {
                PeerKind::Internal => all.clone(),
                PeerKind::External => Attributes {
                    local_pref: None,
                    originator_id: None,
                    cluster_list: Default::default(),
                    ..all.clone()
                },
            };
            let updates = decode_all(&codec, &out);
            let reach = Reach { attributes: expected, prefixes: vec![prefix("fd00::/8")] };
            assert_eq!(updates, [Update { reach: vec![reach], ..Update::default() }]);
        }
    }
    let internal = UpdateCodec { peer_kind: PeerKind::Internal, ..codec() };
    let (out, _) = encode(&internal, reach(all, &["fd00::/8"]));
    let wire = body_of(out);
    let mut rest = wire.get(4..).unwrap();
    let mut codes = Vec::new();
    while let [flags, code, length, value @ ..] = rest {
        assert_eq!(flags & 0x10, 0, "short lengths");
        codes.push(*code);
        rest = value.get(usize::from(*length)..).unwrap();
    }
    assert_eq!(codes, [14, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 16, 32, 35, 99]);
}

/// RFC 4271 section 5.1.5: it has to be there.
#[test]
fn local_pref_goes_to_internal_peers_always() {
    let internal = UpdateCodec { peer_kind: PeerKind::Internal, ..codec() };
    let (out, _) = encode(&internal, reach(attributes(ipv4()), &["10.0.0.0/8"]));
    assert_eq!(decode_all(&internal, &out)[0].reach[0].attributes.local_pref, Some(100));
}

#[test]
fn end_of_rib_is_exactly_its_marker() {
    for (family, marker) in
        [(Family::Ipv4Unicast, body("", "", "")), (Family::Ipv6Unicast, body("", "80 0f 03 0002 01", ""))]
    {
        let (out, encoded) = encode(&codec(), Outgoing::EndOfRib(family));
        assert_eq!(encoded.messages, 1);
        assert_eq!(body_of(out), marker);
        let expected = Update { end_of_rib: Some(family), ..Update::default() };
        assert_eq!(codec().decode(marker.clone()), Ok(expected));

        let mut without = codec();
        without.families.remove(family);
        assert_eq!(without.decode(marker), Ok(Update::default()));
        assert!(encode(&without, Outgoing::EndOfRib(family)).0.is_empty());
    }
    // The form of RFC 4760 for IPv4, and the long length.
    for list in ["80 0f 03 0001 01", "90 0f 0003 0001 01"] {
        let update = codec().decode(body("", list, "")).unwrap();
        assert_eq!(update.end_of_rib, Some(Family::Ipv4Unicast));
    }
    // CVE-2023-46753 and its like: nothing beside it.
    for (withdrawn, list) in [
        ("08 0a", ""),
        ("08 0a", "80 0f 03 0002 01"),
        ("", "80 0f 03 0002 01 | 40 01 01 00"),
        ("", "80 0f 03 0002 01 | c0 63 00"),
        ("", "80 0f 04 0002 01 00"),
        ("", "80 0f 03 0003 01"),
        ("", "40 01 01 00"),
    ] {
        assert_eq!(codec().decode(body(withdrawn, list, "")).unwrap().end_of_rib, None, "{withdrawn} {list}");
    }
}

/// RFC 2545 section 3, RFC 8950 section 3, and what is seen in the field.
#[test]
fn next_hops_of_mp_reach_are_read_in_every_form() {
    let [ll, other, gua, zero] = [
        "fe80000000000000 0000000000000001",
        "fe80000000000000 0000000000000002",
        "20010db800000000 0000000000000001",
        "0000000000000000 0000000000000000",
    ];
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let both = NextHop::Ipv6WithLinkLocal { global, link_local: "fe80::1".parse().unwrap() };
    let read = |family: &str, nlri: &str, next_hop: &str| {
        let length = hex(next_hop).len();
        let value = format!("{family} {length:02x} {next_hop} 00 {nlri}");
        let list = format!("90 0e {:04x} {value} 40 01 01 00 40 02 00", hex(&value).len());
        codec().decode(body("", &list, ""))
    };
    for (family, nlri) in [("0001 01", "08 0a"), ("0002 01", "08 fd")] {
        for (octets, expected) in [
            (ll.to_owned(), link_local()),
            (gua.to_owned(), NextHop::Ipv6(global)),
            (format!("{ll}{ll}"), link_local()),
            (format!("{zero}{ll}"), link_local()),
            (format!("{other}{ll}"), link_local()),
            (format!("{gua}{ll}"), both),
            (format!("{gua}{gua}"), NextHop::Ipv6(global)),
            (format!("{ll}{zero}"), link_local()),
        ] {
            let update = read(family, nlri, &octets).unwrap();
            assert_eq!(update.reach[0].attributes.next_hop, expected, "{family} {octets}");
        }
        let multicast = "ff02000000000000 0000000000000001";
        let loopback = "0000000000000000 0000000000000001";
        for octets in [
            zero.to_owned(),
            format!("{zero}{zero}"),
            multicast.to_owned(),
            loopback.to_owned(),
            format!("{multicast}{ll}"),
        ] {
            let update = read(family, nlri, &octets).unwrap();
            assert!(update.reach.is_empty(), "{octets}");
            assert_eq!(update.withdrawn.len(), 1, "{octets}");
            assert_eq!(update.faults[0].code, 14);
        }
        for length in [0, 1, 8, 12, 15, 17, 20, 24, 31, 33, 48, 64] {
            let error = read(family, nlri, &"20".repeat(length)).unwrap_err();
            assert_eq!((error.code, error.subcode), (3, 9), "{length}");
        }
    }
    let four = read("0001 01", "08 0a", "c0000201").unwrap();
    assert_eq!(four.reach[0].attributes.next_hop, ipv4());
    assert_eq!(read("0002 01", "08 fd", "c0000201").unwrap_err().subcode, 9);
}

/// Arista sends NEXT_HOP 0.0.0.0 beside MP_REACH_NLRI; both kinds of prefixes may be in one message.
#[test]
fn next_hop_belongs_to_the_nlri_field_alone() {
    let mp = "80 0e 17 0002 01 10 20010db800000000 0000000000000001 00 08 fd | 40 01 01 00 | 40 02 00";
    for next_hop in ["40 03 04 00000000", "40 03 03 000000", "80 03 04 c0000201", ""] {
        let update = codec().decode(body("", &format!("{mp}{next_hop}"), "")).unwrap();
        assert_eq!((update.reach.len(), update.faults.len()), (1, 0), "{next_hop}");
    }
    let update = codec().decode(body("", &format!("{mp} 40 03 04 c0000201"), "08 0a")).unwrap();
    let hops: Vec<_> = update.reach.iter().map(|reach| reach.attributes.next_hop).collect();
    assert_eq!(hops, [ipv4(), NextHop::Ipv6("2001:db8::1".parse().unwrap())]);
}

/// RFC 4760 section 7: what was not negotiated is not even parsed.
#[test]
fn a_family_that_was_not_negotiated_is_ignored() {
    let only = |family| UpdateCodec { families: [family].into_iter().collect(), ..codec() };
    let tail = "40 01 01 00 | 40 02 00";
    for foreign in [
        // Flowspec, VPN with a next hop of 24, labelled with nonsense, IPv6 with a prefix of 255 bits.
        "80 0e 06 0001 85 00 00 ff",
        "80 0e 1e 0001 80 18 000000000000000000000000000000000000000000000000 00 ff",
        "80 0e 05 0002 04 ff 00",
        "80 0e 06 0002 01 00 00 ff",
        "80 0f 04 0002 01 ff",
        "80 0f 05 4004 47 ffff",
    ] {
        let ipv4 = only(Family::Ipv4Unicast);
        assert_eq!(
            ipv4.decode(body("", &format!("{foreign}{tail}"), "")),
            Ok(Update::default()),
            "{foreign}"
        );
        let beside =
            ipv4.decode(body("08 0b", &format!("{foreign}{tail} 40 03 04 c0000201"), "08 0a")).unwrap();
        assert_eq!(beside.reach[0].prefixes, [prefix("10.0.0.0/8")]);
        assert_eq!(beside.withdrawn, [prefix("11.0.0.0/8")]);
    }
    // The fields outside the attributes are IPv4 unicast.
    let ipv6 = only(Family::Ipv6Unicast);
    assert_eq!(ipv6.decode(body("ff", tail, "ff")), Ok(Update::default()));
    let (out, encoded) = encode(&ipv6, reach(attributes(ipv4()), &["10.0.0.0/8"]));
    assert_eq!((out.len(), encoded), (0, Encoded { messages: 0, unsent: 1 }));
}

/// RFC 6793 section 4.2.3: AS_PATH, AS4_PATH, AGGREGATOR, AS4_AGGREGATOR, and what they stand for.
#[test]
fn a_two_octet_session_has_its_large_numbers_back() {
    let two = UpdateCodec { as_width: AsWidth::Two, ..codec() };
    for (path, as4_path, aggregator, as4_aggregator, expected, by) in [
        ("02 02 5ba0 5ba0", "02 02 00010000 00020000", "", "", "65536 131072", None),
        ("02 03 0001 5ba0 0002", "02 02 00010000 00000002", "", "", "1 65536 2", None),
        // Longer than AS_PATH: of another path.
        ("02 01 5ba0", "02 02 00010000 00020000", "", "", "23456", None),
        ("02 02 5ba0 5ba0", "", "", "", "23456 23456", None),
        ("02 01 5ba0", "02 01 00010000", "5ba0 01010101", "00010000 01010101", "65536", Some(65536)),
        // Aggregated again by a two-octet speaker: both AS4 attributes are stale.
        ("02 01 5ba0", "02 01 00010000", "0005 01010101", "00010000 01010101", "23456", Some(5)),
        ("02 01 5ba0", "02 01 00010000", "0005 01010101", "", "65536", Some(5)),
        ("02 01 5ba0", "02 01 00010000", "", "00010000 01010101", "65536", None),
        // 2008: confederation segments leaked into AS4_PATH. They are dropped, the session stays.
        ("02 02 0001 5ba0", "03 01 0000fe4c 02 01 00010000", "", "", "1 65536", None),
    ] {
        let attribute = |flags: &str, code: &str, value: &str| match hex(value).len() {
            0 => String::new(),
            length => format!("{flags} {code} {length:02x} {value}"),
        };
        // AS4_PATH first: the order says nothing (CVE-2026-41643).
        let list = [
            attribute("c0", "11", as4_path),
            attribute("c0", "12", as4_aggregator),
            "40 01 01 00".to_owned(),
            attribute("40", "02", path),
            attribute("c0", "07", aggregator),
            "40 03 04 c0000201".to_owned(),
        ]
        .concat();
        let update = two.decode(body("", &list, "08 0a")).unwrap();
        assert_eq!(update.faults, [], "{list}");
        let got = &update.reach[0].attributes;
        assert_eq!(got.as_path.to_string(), expected);
        assert_eq!(got.aggregator.map(|aggregator| aggregator.asn.0), by, "{expected}");
    }
}

#[test]
fn as4_attributes_are_written_only_where_two_octets_lose_something() {
    let two = UpdateCodec { as_width: AsWidth::Two, ..codec() };
    let (out, _) = encode(&two, reach(attributes(ipv4()), &["0.0.0.0/0"]));
    let list =
        "40 01 01 00 | 40 02 06 02 02 fde9 5ba0 | 40 03 04 c0000201 | c0 11 0a 02 02 0000fde9 fa56ea00";
    assert_eq!(body_of(out), body("", list, "00"));
    let small = Attributes { as_path: sequence(&[65001]), ..attributes(ipv4()) };
    let (out, _) = encode(&two, reach(small, &["0.0.0.0/0"]));
    assert_eq!(body_of(out), body("", "40 01 01 00 | 40 02 04 02 01 fde9 | 40 03 04 c0000201", "00"));
}

fn hosts(count: u32) -> Vec<Prefix> {
    (0..count).map(|n| Prefix::host(Ipv4Addr::from(0x0a00_0000 + n).into())).collect()
}

#[test]
fn prefixes_are_split_by_real_length_and_come_back_in_order() {
    for max_length in [MAX_LENGTH, MAX_EXTENDED_LENGTH] {
        for next_hop in [link_local(), ipv4()] {
            let codec = UpdateCodec { max_length, ..codec() };
            let prefixes = hosts(20_000);
            let outgoing = Outgoing::Reach { attributes: attributes(next_hop), prefixes: prefixes.clone() };
            let (out, encoded) = encode(&codec, outgoing);
            let updates = decode_all(&codec, &out);
            assert_eq!(encoded, Encoded { messages: updates.len() as u64, unsent: 0 });
            assert!(updates.iter().all(|update| update.faults.is_empty() && update.withdrawn.is_empty()));
            let reaches = || updates.iter().flat_map(|update| &update.reach);
            assert_eq!(reaches().flat_map(|reach| reach.prefixes.clone()).collect::<Vec<_>>(), prefixes);
            assert!(reaches().all(|reach| reach.attributes == attributes(next_hop)));
            // Nothing is left on the table: every message but the last has no room for one more.
            let longest = updates.len() * max_length - out.len();
            assert!(longest <= (updates.len() - 1) * 4 + max_length, "{longest}");
        }
        let codec = UpdateCodec { max_length, ..codec() };
        let (out, _) = encode(&codec, Outgoing::Unreach { prefixes: hosts(20_000) });
        let updates = decode_all(&codec, &out);
        assert_eq!(
            updates.into_iter().flat_map(|update| update.withdrawn).collect::<Vec<_>>(),
            hosts(20_000)
        );
    }
}

/// Attributes that leave no room: nothing is announced, what the peer may still hold is withdrawn.
#[test]
fn attributes_too_large_for_a_message_withdraw() {
    for count in [1020, 1100, 20_000, 100_000] {
        let communities = vec![Community(1); count].into();
        let large = Attributes { communities, ..attributes(ipv4()) };
        let (out, encoded) = encode(&codec(), reach(large, &["10.0.0.0/8", "fd00::/8"]));
        assert_eq!(encoded, Encoded { messages: 2, unsent: 2 }, "{count}");
        let updates = decode_all(&codec(), &out);
        let withdrawn: Vec<_> = updates.iter().flat_map(|update| update.withdrawn.clone()).collect();
        assert_eq!(withdrawn, [prefix("10.0.0.0/8"), prefix("fd00::/8")]);
        assert!(updates.iter().all(|update| update.reach.is_empty()));
    }
    // The last octet counts: here only short prefixes fit.
    let room = MAX_LENGTH - 23 - 4 - 13 - 7 - 4;
    let communities = vec![Community(1); room / 4].into();
    let tight = Attributes { communities, ..attributes(ipv4()) };
    let (out, encoded) = encode(&codec(), reach(tight, &["0.0.0.0/0", "10.1.8.192/26"]));
    assert_eq!(encoded.unsent, 1);
    let updates = decode_all(&codec(), &out);
    assert_eq!(updates[0].reach[0].prefixes, [prefix("0.0.0.0/0")]);
    assert_eq!(updates[1].withdrawn, [prefix("10.1.8.192/26")]);
}

#[test]
fn a_next_hop_that_the_peer_cannot_take_withdraws() {
    let without = UpdateCodec { extended_next_hop: Families::NONE, ..codec() };
    for (codec, next_hop, text) in [
        (&without, link_local(), "10.0.0.0/8"),
        (&codec(), NextHop::Itself, "10.0.0.0/8"),
        (&codec(), NextHop::Itself, "fd00::/8"),
        (&codec(), ipv4(), "fd00::/8"),
    ] {
        let (out, encoded) = encode(codec, reach(attributes(next_hop), &[text]));
        assert_eq!(encoded, Encoded { messages: 1, unsent: 1 });
        assert_eq!(decode_all(codec, &out)[0].withdrawn, [prefix(text)]);
    }
    let (_, encoded) = encode(&without, reach(attributes(link_local()), &["fd00::/8"]));
    assert_eq!(encoded.unsent, 0);
}

#[test]
fn no_truncation_panics() {
    let everything = body(
        "1a 0a0108c0 08 0b",
        "80 0e 17 0002 01 10 20010db800000000 0000000000000001 00 08 fd | 80 0f 05 0002 01 08 fc | \
         40 01 01 00 | 50 02 000e 02 03 0000fde9 0000fdea 0000fdeb | 40 03 04 c0000201 | c0 07 08 0000fde9 01010101 | \
         c0 08 04 fde90001 | c0 63 02 ffff",
        "18 0a0101 20 0a010101",
    );
    let whole = codec().decode(everything.clone()).unwrap();
    assert_eq!((whole.reach.len(), whole.withdrawn.len(), whole.faults.len()), (2, 3, 0));
    for length in 0..everything.len() {
        // A cut leaves an error or another valid message, by the place of the cut.
        let _ = codec().decode(everything.slice(..length));
    }
    // The same with the lengths corrected, so that the list itself ends early.
    let (list_start, list_end) = (10, everything.len() - 9);
    for end in list_start..=list_end {
        let list = everything.slice(list_start..end);
        let length = u16::try_from(list.len()).unwrap().to_be_bytes();
        let cut = [&[0, 0], length.as_slice(), &list, &[8, 10]].concat();
        if let Ok(update) = codec().decode(cut.into()) {
            let all =
                update.withdrawn.len() + update.reach.iter().map(|reach| reach.prefixes.len()).sum::<usize>();
            assert!(all >= 1, "the NLRI field is found whatever the list is: {update:?}");
        }
    }
}
