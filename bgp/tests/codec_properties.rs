//! Properties of the codec: what is encoded is decoded again, on every kind of session, and nothing that is
//! decoded can do harm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of a test stops the test"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::message::capability::ForwardingState;
use bgp::message::update::{AsWidth, Encoded, LinkLocalForm};
use bgp::message::{
    Aggregator, AsPath, Attributes, Capability, Community, ExtendedCommunity, Frame, GracefulRestart,
    LargeCommunity, MAX_EXTENDED_LENGTH, MAX_LENGTH, MessageKind, Notification, Open, Origin, Outgoing,
    RefreshKind, RouteRefresh, Segment, SegmentKind, UnknownAttribute, Update, UpdateCodec, frame,
};
use bgp::{AfiSafi, Asn, Families, Family, HoldTime, NextHop, PeerKind, Prefix, RouterId};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn frames(mut out: BytesMut, max_length: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = frame(&mut out, max_length).expect("our own framing") {
        frames.push(frame);
    }
    assert!(out.is_empty(), "whole messages");
    frames
}

fn only(out: BytesMut, kind: MessageKind) -> Bytes {
    let frames = frames(out, MAX_LENGTH);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].kind, kind);
    frames[0].body.clone()
}

fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn afi_safi() -> impl Strategy<Value = AfiSafi> {
    any::<(u16, u8)>().prop_map(|(afi, safi)| AfiSafi { afi, safi })
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=65535_u32, 65536..=u32::MAX].prop_map(Asn)
}

fn router_id() -> impl Strategy<Value = RouterId> {
    (1..=u32::MAX).prop_map(|id| RouterId::new(Ipv4Addr::from(id)).unwrap())
}

fn capability() -> impl Strategy<Value = Capability> {
    let forwarding = prop_oneof![Just(ForwardingState::Preserved), Just(ForwardingState::Lost)];
    let restart = (any::<bool>(), any::<bool>(), 0..4096_u64, vec((afi_safi(), forwarding), 0..5)).prop_map(
        |(restarting, notification, seconds, families)| GracefulRestart {
            restarting,
            notification,
            restart_time: Duration::from_secs(seconds),
            families,
        },
    );
    prop_oneof![
        afi_safi().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        vec((afi_safi(), any::<u16>()), 0..5).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        restart.prop_map(Capability::GracefulRestart),
        Just(Capability::EnhancedRouteRefresh),
        (".{0,20}", ".{0,20}").prop_map(|(hostname, domain)| Capability::Fqdn { hostname, domain }),
        ".{0,20}".prop_map(Capability::SoftwareVersion),
        (76..=255_u8, bytes(0..=255)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3..=u16::MAX].prop_map(|s| HoldTime::from_secs(s).unwrap());
    (asn(), hold_time, router_id(), vec(capability(), 0..15)).prop_map(
        |(asn, hold_time, router_id, mut capabilities)| {
            capabilities.push(Capability::FourOctetAs(asn));
            Open { asn, hold_time, router_id, capabilities }
        },
    )
}

fn as_path() -> impl Strategy<Value = AsPath> {
    vec(vec(asn(), 1..6), 0..4).prop_map(|segments| {
        let kind = SegmentKind::Sequence;
        AsPath::from_segments(segments.into_iter().map(|asns| Segment { kind, asns }))
    })
}

fn global_ipv6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from(0x2001_0db8 << 96 | bits >> 32))
}

fn link_local() -> impl Strategy<Value = Ipv6Addr> {
    any::<u64>().prop_map(|bits| Ipv6Addr::from(0xfe80 << 112 | u128::from(bits)))
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        (1..=223_u8, any::<[u8; 3]>())
            .prop_filter("loopback", |(first, _)| *first != 127)
            .prop_map(|(a, [b, c, d])| NextHop::Ipv4(Ipv4Addr::new(a, b, c, d))),
        global_ipv6().prop_map(NextHop::Ipv6),
        link_local().prop_map(NextHop::LinkLocal),
        (global_ipv6(), link_local())
            .prop_map(|(global, link_local)| NextHop::Ipv6WithLinkLocal { global, link_local }),
    ]
}

/// Codes that no attribute of ours has, each once, in order.
fn unknown() -> impl Strategy<Value = Box<[UnknownAttribute]>> {
    let flags = prop_oneof![Just(0x80_u8), Just(0xc0), Just(0xe0)];
    proptest::collection::btree_map(36..=255_u8, (flags, bytes(0..300)), 0..3).prop_map(|all| {
        all.into_iter().map(|(code, (flags, value))| UnknownAttribute { flags, code, value }).collect()
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator =
        option::of((asn(), any::<u32>()).prop_map(|(asn, id)| Aggregator { asn, router_id: id.into() }));
    let large = any::<(u32, u32, u32)>().prop_map(|(global, local1, local2)| LargeCommunity {
        global,
        local1,
        local2,
    });
    let basic =
        (origin, as_path(), next_hop(), any::<Option<u32>>(), any::<u32>(), any::<bool>(), aggregator);
    let sets = (
        vec(any::<u32>().prop_map(Community), 0..100),
        option::of(router_id()),
        vec(any::<u32>().prop_map(Ipv4Addr::from), 0..4),
        vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..40),
        proptest::collection::btree_set(large, 0..30),
        unknown(),
    );
    (basic, sets).prop_map(|(basic, sets)| {
        let (origin, as_path, next_hop, med, local_pref, atomic_aggregate, aggregator) = basic;
        let (communities, originator_id, clusters, extended, large, unknown) = sets;
        Attributes {
            origin,
            as_path,
            next_hop,
            med,
            local_pref: Some(local_pref),
            atomic_aggregate,
            aggregator,
            communities: communities.into(),
            originator_id,
            cluster_list: clusters.into(),
            extended_communities: extended.into(),
            large_communities: large.into_iter().collect(),
            unknown: unknown.into(),
        }
    })
}

fn prefixes(family: Family) -> impl Strategy<Value = Vec<Prefix>> {
    let one = (any::<u128>(), 0..=family.max_length()).prop_map(move |(bits, length)| {
        let address = match family {
            Family::Ipv4Unicast => Ipv4Addr::from(u32::try_from(bits >> 96).unwrap()).into(),
            Family::Ipv6Unicast => Ipv6Addr::from(bits).into(),
        };
        Prefix::masked(address, length).unwrap()
    });
    vec(one, 1..1500)
}

fn family_and_prefixes() -> impl Strategy<Value = (Family, Vec<Prefix>)> {
    prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
        .prop_flat_map(|family| (Just(family), prefixes(family)))
}

fn codec() -> impl Strategy<Value = UpdateCodec> {
    (
        prop_oneof![Just(AsWidth::Two), Just(AsWidth::Four)],
        prop_oneof![Just(MAX_LENGTH), Just(MAX_EXTENDED_LENGTH)],
        prop_oneof![Just(PeerKind::Internal), Just(PeerKind::External)],
        prop_oneof![Just(LinkLocalForm::Once), Just(LinkLocalForm::Twice)],
    )
        .prop_map(|(as_width, max_length, peer_kind, link_local_form)| UpdateCodec {
            families: Families::ALL,
            extended_next_hop: Families::ALL,
            as_width,
            max_length,
            peer_kind,
            link_local_form,
        })
}

/// What is left of the attributes on a session of this kind.
fn as_the_peer_sees(attributes: &Attributes, codec: &UpdateCodec) -> Attributes {
    match codec.peer_kind {
        PeerKind::Internal => attributes.clone(),
        PeerKind::External => Attributes {
            local_pref: None,
            originator_id: None,
            cluster_list: Default::default(),
            ..attributes.clone()
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn an_open_comes_back(open in open()) {
        let mut out = BytesMut::new();
        open.encode(&mut out);
        prop_assert_eq!(Open::decode(only(out, MessageKind::Open)), Ok(open));
    }

    #[test]
    fn a_notification_comes_back(code: u8, subcode: u8, data in bytes(0..4076)) {
        let notification = Notification { code, subcode, data };
        let mut out = BytesMut::new();
        notification.encode(&mut out);
        prop_assert!(!notification.to_string().contains(char::is_control));
        prop_assert_eq!(Notification::decode(&only(out, MessageKind::Notification)), Some(notification));
    }

    #[test]
    fn a_route_refresh_comes_back(family in afi_safi(), subtype in 3..=255_u8) {
        for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End, RefreshKind::Unknown(subtype)] {
            let refresh = RouteRefresh { family, kind };
            let mut out = BytesMut::new();
            refresh.encode(&mut out);
            prop_assert_eq!(RouteRefresh::decode(&only(out, MessageKind::RouteRefresh)), Ok(refresh));
        }
    }

    #[test]
    fn an_announcement_comes_back(
        codec in codec(),
        attributes in attributes(),
        (family, prefixes) in family_and_prefixes(),
    ) {
        prop_assume!(family == Family::Ipv4Unicast || !matches!(attributes.next_hop, NextHop::Ipv4(_)));
        let mut out = BytesMut::new();
        let outgoing = Outgoing::Reach { attributes: &attributes, prefixes: prefixes.clone() };
        let encoded = codec.encode(&outgoing, &mut out);
        let frames = frames(out, codec.max_length);
        prop_assert_eq!(encoded, Encoded { messages: frames.len() as u64, unsent: 0 });
        let expected = as_the_peer_sees(&attributes, &codec);
        let mut back = Vec::new();
        for frame in frames {
            let update = codec.decode(frame.body).expect("our own UPDATE");
            let [reach] = update.reach.as_slice() else { panic!("{update:?}") };
            prop_assert_eq!(&reach.attributes, &expected);
            back.extend_from_slice(&reach.prefixes);
            prop_assert_eq!(&update, &Update { reach: update.reach.clone(), ..Update::default() });
        }
        prop_assert_eq!(back, prefixes);
    }

    #[test]
    fn a_withdrawal_comes_back(codec in codec(), (_, prefixes) in family_and_prefixes()) {
        let mut out = BytesMut::new();
        let outgoing = Outgoing::<Attributes>::Unreach { prefixes: prefixes.clone() };
        let encoded = codec.encode(&outgoing, &mut out);
        let frames = frames(out, codec.max_length);
        prop_assert_eq!(encoded, Encoded { messages: frames.len() as u64, unsent: 0 });
        let mut back = Vec::new();
        for frame in frames {
            let update = codec.decode(frame.body).expect("our own UPDATE");
            back.extend_from_slice(&update.withdrawn);
            prop_assert_eq!(&update, &Update { withdrawn: update.withdrawn.clone(), ..Update::default() });
        }
        prop_assert_eq!(back, prefixes);
    }

    /// Any mixture of prefixes, and attributes of any size: whole messages within the limit come out, and every
    /// prefix is announced or withdrawn exactly once.
    #[test]
    fn no_outgoing_is_lost_or_too_long(
        codec in codec(),
        attributes in attributes(),
        communities in 0..2500_usize,
        (_, first) in family_and_prefixes(),
        (_, second) in family_and_prefixes(),
    ) {
        let attributes = Attributes { communities: vec![Community(7); communities].into(), ..attributes };
        let prefixes = [first, second].concat();
        let mut out = BytesMut::new();
        let outgoing = Outgoing::Reach { attributes: &attributes, prefixes: prefixes.clone() };
        let encoded = codec.encode(&outgoing, &mut out);
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for frame in frames(out, codec.max_length) {
            let update = codec.decode(frame.body).expect("our own UPDATE");
            prop_assert_eq!(&update.faults, &[]);
            announced.extend(update.reach.into_iter().flat_map(|reach| reach.prefixes));
            withdrawn.extend(update.withdrawn);
        }
        prop_assert_eq!(withdrawn.len(), encoded.unsent);
        let mut all = [announced, withdrawn].concat();
        let mut expected = prefixes;
        all.sort();
        expected.sort();
        prop_assert_eq!(all, expected);
    }

    /// RFC 7607 and the rest of the table apart: octets cannot make it panic or find more than is there.
    #[test]
    fn any_octets_are_safe(codec in codec(), octets in bytes(0..300)) {
        let _ = Open::decode(octets.clone());
        let _ = Notification::decode(&octets).map(|notification| notification.to_string());
        let _ = RouteRefresh::decode(&octets);
        let length = octets.len();
        if let Ok(update) = codec.decode(octets) {
            let reached: usize = update.reach.iter().map(|reach| reach.prefixes.len()).sum();
            prop_assert!(reached + update.withdrawn.len() <= length);
        }
    }
}
