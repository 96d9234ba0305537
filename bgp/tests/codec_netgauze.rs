//! A second opinion: messages of ours as netgauze-bgp-pkt, which shares no code with us, reads them, and as it
//! writes them back.
//!
//! It reads strictly: a malformed attribute or capability is an error and not a warning. What it writes goes
//! through our decoder, so that a misreading on either side shows as a difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of a test stops the test"
)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::message::capability::ForwardingState;
use bgp::message::update::{AsWidth, LinkLocalForm};
use bgp::message::{
    Aggregator, AsPath, Attributes, Capability, CeaseSubcode, Community, ExtendedCommunity, GracefulRestart,
    LargeCommunity, MAX_LENGTH, Notification, Open, Origin, Outgoing, RefreshKind, RouteRefresh, Segment,
    SegmentKind, UpdateCodec, encode_keepalive, frame,
};
use bgp::{Asn, Families, Family, HoldTime, NextHop, PeerKind, Prefix, RouterId};
use bytes::{Bytes, BytesMut};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

/// Each message of ours through the other implementation and back; the bodies of both.
fn through_netgauze(out: &BytesMut, as_width: AsWidth) -> Vec<(Bytes, Bytes)> {
    let mut ours = out.clone();
    let mut bodies = Vec::new();
    while !ours.is_empty() {
        let whole = ours.clone();
        let body = frame(&mut ours, MAX_LENGTH).unwrap().unwrap().body;
        let message = whole.get(..whole.len() - ours.len()).unwrap();
        let asn4 = as_width == AsWidth::Four;
        let mut context =
            BgpParsingContext::new(asn4, HashMap::new(), HashMap::new(), true, true, true, true);
        let read = BgpMessage::parse(&mut SliceReader::new(message), &mut context)
            .unwrap_or_else(|error| panic!("{error:?} in {message:02x?}"));
        let mut written = Vec::new();
        read.write(&mut written).unwrap();
        let theirs = frame(&mut BytesMut::from(written.as_slice()), MAX_LENGTH).unwrap().unwrap().body;
        bodies.push((body, theirs));
    }
    bodies
}

fn attributes(next_hop: NextHop, asns: &[u32], rich: bool) -> Attributes {
    let path = Segment { kind: SegmentKind::Sequence, asns: asns.iter().copied().map(Asn).collect() };
    let plain = Attributes { as_path: AsPath::from_segments([path]), next_hop, ..Attributes::originated() };
    if !rich {
        return plain;
    }
    Attributes {
        origin: Origin::Incomplete,
        med: Some(77),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator { asn: Asn(4_200_000_001), router_id: Ipv4Addr::new(1, 1, 1, 1) }),
        communities: (0..100).map(|n| Community(0xfde9_0000 + n)).collect(),
        originator_id: RouterId::new(Ipv4Addr::new(2, 2, 2, 2)),
        cluster_list: [Ipv4Addr::new(3, 3, 3, 3), Ipv4Addr::new(4, 4, 4, 4)].into(),
        extended_communities: [ExtendedCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, 1])].into(),
        large_communities: [LargeCommunity { global: 1, local1: 2, local2: 3 }].into(),
        ..plain
    }
}

#[test]
fn updates_mean_the_same_to_another_implementation() {
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let ipv4: Vec<Prefix> = (0..=32)
        .map(|length| Prefix::masked(Ipv4Addr::new(10, 170, 85, 255).into(), length).unwrap())
        .collect();
    let wide = Ipv6Addr::from(u128::MAX >> 3).into();
    let ipv6: Vec<Prefix> = (0..=128).map(|length| Prefix::masked(wide, length).unwrap()).collect();
    let mut compared = 0;
    for as_width in [AsWidth::Two, AsWidth::Four] {
        for peer_kind in [PeerKind::Internal, PeerKind::External] {
            for link_local_form in [LinkLocalForm::Once, LinkLocalForm::Twice] {
                let codec = UpdateCodec {
                    families: Families::ALL,
                    extended_next_hop: Families::ALL,
                    as_width,
                    max_length: MAX_LENGTH,
                    peer_kind,
                    link_local_form,
                };
                for (next_hop, prefixes) in [
                    (NextHop::Ipv4(Ipv4Addr::new(192, 0, 2, 1)), &ipv4),
                    (NextHop::Ipv6(global), &ipv4),
                    (NextHop::LinkLocal(link_local), &ipv4),
                    (NextHop::Ipv6WithLinkLocal { global, link_local }, &ipv4),
                    (NextHop::Ipv6(global), &ipv6),
                    (NextHop::LinkLocal(link_local), &ipv6),
                    (NextHop::Ipv6WithLinkLocal { global, link_local }, &ipv6),
                ] {
                    for (asns, rich) in
                        [(&[][..], false), (&[65001], false), (&[65001, 4_200_000_000, 23456, 1], true)]
                    {
                        let attributes = attributes(next_hop, asns, rich);
                        let outgoing = Outgoing::Reach { attributes, prefixes: prefixes.clone() };
                        compared += compare(&codec, &outgoing);
                    }
                }
                for prefixes in [&ipv4, &ipv6] {
                    compared += compare(&codec, &Outgoing::Unreach { prefixes: prefixes.clone() });
                }
                for family in Family::ALL {
                    compared += compare(&codec, &Outgoing::EndOfRib(family));
                }
            }
        }
    }
    assert_eq!(compared, 8 * (7 * 3 + 4));
}

/// How many messages it took.
fn compare(codec: &UpdateCodec, outgoing: &Outgoing<Attributes>) -> usize {
    let mut out = BytesMut::new();
    codec.encode(outgoing, &mut out);
    let bodies = through_netgauze(&out, codec.as_width);
    for (ours, theirs) in &bodies {
        let meant = codec.decode(ours.clone()).unwrap();
        assert_eq!(meant.faults, []);
        assert_eq!(codec.decode(theirs.clone()).unwrap(), meant);
    }
    bodies.len()
}

#[test]
fn the_other_messages_are_octet_for_octet_the_same() {
    let open = Open {
        asn: Asn(4_200_000_000),
        hold_time: HoldTime::from_secs(9).unwrap(),
        router_id: RouterId::new(Ipv4Addr::new(1, 1, 1, 1)).unwrap(),
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![(Family::Ipv4Unicast.into(), 2)]),
            Capability::ExtendedMessage,
            Capability::GracefulRestart(GracefulRestart {
                restarting: true,
                restart_time: Duration::from_secs(30),
                families: vec![(Family::Ipv4Unicast.into(), ForwardingState::Preserved)],
                ..GracefulRestart::default()
            }),
            Capability::FourOctetAs(Asn(4_200_000_000)),
            Capability::EnhancedRouteRefresh,
            Capability::Fqdn { hostname: "c1".into(), domain: "example".into() },
        ],
    };
    let refresh = |kind| RouteRefresh { family: Family::Ipv6Unicast.into(), kind };
    let mut out = BytesMut::new();
    open.encode(&mut out);
    encode_keepalive(&mut out);
    for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
        refresh(kind).encode(&mut out);
    }
    Notification::hold_timer_expired().encode(&mut out);
    Notification::shutdown(CeaseSubcode::AdministrativeShutdown, "maintenance").encode(&mut out);
    let bodies = through_netgauze(&out, AsWidth::Four);
    assert_eq!(bodies.len(), 7);
    for (ours, theirs) in bodies {
        assert_eq!(ours, theirs);
    }
}
