//! UPDATE both ways: vectors, End-of-RIB, next hop forms, splitting.

use bytes::BytesMut;

use super::super::{AsPath, Attributes, HEADER_LENGTH, MAX_LENGTH, MessageKind, Segment, SegmentKind, frame};
use super::*;
use crate::{Asn, NextHop};

fn codec() -> UpdateCodec {
    UpdateCodec {
        families: Families::ALL,
        extended_next_hop: Families::ALL,
        as_width: AsWidth::Four,
        max_length: MAX_LENGTH,
        peer_kind: PeerKind::External,
        link_local_form: LinkLocalForm::Twice,
    }
}

fn attributes(next_hop: NextHop) -> Attributes {
    let path = Segment { kind: SegmentKind::Sequence, asns: vec![Asn(65001), Asn(4_200_000_000)] };
    Attributes { as_path: AsPath::from_segments([path]), next_hop, ..Attributes::originated() }
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

#[test]
fn prefixes_are_split_by_real_length_and_come_back_in_order() {
    let link_local = NextHop::LinkLocal("fe80::1".parse().unwrap());
    for next_hop in [link_local, NextHop::Ipv4("192.0.2.1".parse().unwrap())] {
        let prefixes: Vec<Prefix> = (0..5000_u32)
            .map(|n| Prefix::masked(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap())
            .collect();
        let mut out = BytesMut::new();
        let outgoing = Outgoing::Reach { attributes: attributes(next_hop), prefixes: prefixes.clone() };
        let encoded = codec().encode(&outgoing, &mut out);
        let updates = decode_all(&codec(), &out);
        assert_eq!(encoded, Encoded { messages: updates.len() as u64, unsent: 0 });
        assert!(updates.iter().all(|update| update.faults.is_empty() && update.withdrawn.is_empty()));
        let back: Vec<_> = updates.iter().flat_map(|u| &u.reach).flat_map(|r| r.prefixes.clone()).collect();
        assert_eq!(back, prefixes);
        assert!(updates.iter().flat_map(|u| &u.reach).all(|r| r.attributes == attributes(next_hop)));
    }
}
