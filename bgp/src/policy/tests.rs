//! One row for each rule.

mod lending;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::message::{Attributes, Community, ExtendedCommunity, Seldom, UnknownAttribute};
use crate::rib::fixtures::{
    LOCAL_AS, OUR_LINK_LOCAL, address, config, external, from_peer, link_local, path, prefix, session,
};
use crate::rib::{Connected, Originated, Originator, PeerSession};
use crate::{InterfaceIndex, NextHop, PeerId, PeerKind, RouterId};

fn own_routes() -> Originated {
    let routes = ["1.1.1.1/32", "10.1.8.192/26", "fd00:8::/64"];
    routes.map(|text| (prefix(text), Originator::StaticBlock)).into_iter().collect::<BTreeMap<_, _>>().into()
}

fn own_links() -> Connected {
    let networks = ["192.0.2.0/31", "10.88.0.0/16", "fd00:99::/64", "0.0.0.0/0"];
    networks.map(prefix).into_iter().collect::<BTreeSet<_>>().into()
}

fn judge_as(role: Role, session: &PeerSession, text: &str, attributes: &Attributes) -> Judgement {
    let (config, originated, connected) = (config(role), own_routes(), own_links());
    let (originated, connected, inbound) = (&originated, &connected, Inbound::Plain);
    Guard { config: &config, originated, connected, session, inbound, allowed_own_as: 0 }
        .judge(prefix(text), attributes)
}

fn judge(text: &str, attributes: &Attributes) -> Judgement {
    judge_as(Role::Host, &external(1), text, attributes)
}

#[test]
fn guard_by_prefix() {
    use Refusal::{Connected, Martian, OwnPrefix};
    let rows = [
        ("0.0.0.0/0", None),
        ("::/0", None),
        ("10.0.0.0/8", None),
        ("10.1.8.128/26", None),
        ("10.1.8.128/25", None),
        ("10.1.8.192/26", Some(OwnPrefix)),
        ("10.1.8.200/32", Some(OwnPrefix)),
        ("1.1.1.1/32", Some(OwnPrefix)),
        ("fd00:8::1/128", Some(OwnPrefix)),
        ("fd00::/16", None),
        ("192.0.2.0/31", Some(Connected)),
        ("192.0.2.1/32", Some(Connected)),
        ("192.0.2.2/31", None),
        ("10.88.0.0/16", Some(Connected)),
        ("10.88.9.0/24", Some(Connected)),
        ("10.88.0.0/15", None),
        ("fd00:99::/64", Some(Connected)),
        ("fd00:99::5/128", Some(Connected)),
        ("128.0.0.0/1", None),
        ("0.0.0.0/8", Some(Martian)),
        ("0.1.2.0/24", Some(Martian)),
        ("0.0.0.0/1", None),
        ("127.0.0.1/32", Some(Martian)),
        ("169.254.7.0/24", Some(Martian)),
        ("192.0.0.0/24", Some(Martian)),
        ("192.0.0.0/16", None),
        ("192.0.2.0/24", None),
        ("198.51.100.0/24", None),
        ("203.0.113.0/24", None),
        ("224.0.0.5/32", Some(Martian)),
        ("240.0.0.0/4", Some(Martian)),
        ("224.0.0.0/3", Some(Martian)),
        ("255.255.255.255/32", Some(Martian)),
        ("::/128", Some(Martian)),
        ("::1/128", Some(Martian)),
        ("::ffff:10.0.0.0/104", Some(Martian)),
        ("fe80::/64", Some(Martian)),
        ("ff02::/16", Some(Martian)),
        ("2001:db8::/32", None),
    ];
    for (text, refusal) in rows {
        let expected = refusal.map_or(Judgement::AsReceived, Judgement::Refused);
        assert_eq!(judge(text, &from_peer(1, &[])), expected, "{text}");
    }
}

#[test]
fn guard_by_as_path() {
    let long = |hops: u32| -> Vec<u32> { (1..hops).collect() };
    let rows = [
        ("20.0.0.0/8", from_peer(1, &[LOCAL_AS.0]), Judgement::Refused(Refusal::AsLoop)),
        ("10.1.8.192/26", from_peer(1, &[LOCAL_AS.0]), Judgement::Echo),
        // A part of an own prefix was never announced, so nobody can prove anything with it.
        ("10.1.8.192/27", from_peer(1, &[LOCAL_AS.0]), Judgement::Refused(Refusal::AsLoop)),
        ("20.0.0.0/8", from_peer(1, &long(64)), Judgement::AsReceived),
        ("20.0.0.0/8", from_peer(1, &long(65)), Judgement::Refused(Refusal::PathTooLong)),
        (
            "20.0.0.0/8",
            Attributes { as_path: path(&[65102]), ..from_peer(1, &[]) },
            Judgement::Refused(Refusal::FirstAs),
        ),
        (
            "20.0.0.0/8",
            Attributes { as_path: path(&[]), ..from_peer(1, &[]) },
            Judgement::Refused(Refusal::FirstAs),
        ),
    ];
    for (text, attributes, expected) in rows {
        assert_eq!(judge(text, &attributes), expected, "{text} {:?}", attributes.as_path);
    }
}

#[test]
fn internal_peers_keep_the_path_and_are_tested_for_reflection_loops() {
    let internal = session(1, PeerKind::Internal);
    let row = |attributes: &Attributes| judge_as(Role::Host, &internal, "20.0.0.0/8", attributes);
    let base = Attributes { as_path: path(&[]), local_pref: Some(200), ..from_peer(1, &[]) };
    assert_eq!(row(&base), Judgement::AsReceived);
    let ours = Attributes { originator_id: Some(config(Role::Host).router_id), ..base.clone() };
    assert_eq!(row(&ours), Judgement::Refused(Refusal::OriginatorLoop));
    // RFC 8326 is about the edge of the AS: inside, LOCAL_PREF says it already.
    let draining = Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..base };
    assert_eq!(row(&draining), Judgement::AsReceived);
}

#[test]
fn local_preference_of_external_paths() {
    let sent = Attributes { local_pref: Some(500), ..from_peer(1, &[]) };
    assert_eq!(judge("20.0.0.0/8", &sent), Judgement::Changed(Box::new(from_peer(1, &[]))));
    let draining = Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..from_peer(1, &[]) };
    let expected = Attributes { local_pref: Some(0), ..draining.clone() };
    assert_eq!(judge("20.0.0.0/8", &draining), Judgement::Changed(Box::new(expected)));
}

#[test]
fn guard_by_next_hop_on_an_unnumbered_session() {
    use NextHop::{Ipv4, Ipv6, Ipv6WithLinkLocal, Itself, LinkLocal};
    let v4 = |text: &str| Ipv4(text.parse().unwrap());
    let v6 = |text: &str| Ipv6(text.parse().unwrap());
    let global = "2001:db8::1".parse().unwrap();
    let rows = [
        ("20.0.0.0/8", LinkLocal(link_local(1)), None),
        ("20.0.0.0/8", Ipv6WithLinkLocal { global, link_local: link_local(1) }, None),
        ("20.0.0.0/8", v4("192.0.2.1"), None),
        ("20.0.0.0/8", v4("1.1.1.1"), Some(Refusal::NextHopOurs)),
        // A pod of this host's own.
        ("20.0.0.0/8", v4("10.1.8.193"), Some(Refusal::NextHopThirdParty)),
        ("20.0.0.0/8", v4("2.2.2.2"), Some(Refusal::NextHopThirdParty)),
        ("20.0.0.0/8", v6("fd00:99::5"), None),
        ("20.0.0.0/8", v6("2001:db8::1"), Some(Refusal::NextHopThirdParty)),
        ("20.0.0.0/8", Itself, Some(Refusal::NextHopMissing)),
        ("20.0.0.0/8", LinkLocal(OUR_LINK_LOCAL), Some(Refusal::NextHopOurs)),
        (
            "20.0.0.0/8",
            Ipv6WithLinkLocal { global: OUR_LINK_LOCAL, link_local: link_local(1) },
            Some(Refusal::NextHopOurs),
        ),
        ("20.0.0.0/8", LinkLocal(link_local(2)), Some(Refusal::NextHopThirdParty)),
        (
            "20.0.0.0/8",
            Ipv6WithLinkLocal { global, link_local: link_local(2) },
            Some(Refusal::NextHopThirdParty),
        ),
        ("20.0.0.0/8", v4("0.0.0.0"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v4("127.0.0.1"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v4("224.0.0.1"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v4("255.255.255.255"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v6("::"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v6("::1"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v6("ff02::1"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v6("fe80::9"), Some(Refusal::NextHopInvalid)),
        ("20.0.0.0/8", v6("::ffff:192.0.2.1"), Some(Refusal::NextHopInvalid)),
        ("2001:db8:1::/48", v4("192.0.2.1"), Some(Refusal::NextHopInvalid)),
    ];
    for (text, next_hop, refusal) in rows {
        let expected = refusal.map_or(Judgement::AsReceived, Judgement::Refused);
        assert_eq!(
            judge(text, &Attributes { next_hop, ..from_peer(1, &[]) }),
            expected,
            "{text} {next_hop:?}"
        );
    }
}

#[test]
fn guard_by_next_hop_on_a_numbered_session() {
    let global = "2001:db8::1".parse().unwrap();
    let numbered = PeerSession {
        address: address("2001:db8::1"),
        interface: None,
        local_addresses: vec![address("2001:db8::2")],
        ..external(1)
    };
    let on_link = PeerSession { interface: Some(InterfaceIndex(3)), ..numbered.clone() };
    let both = NextHop::Ipv6WithLinkLocal { global, link_local: link_local(9) };
    let alone = NextHop::LinkLocal(link_local(9));
    let row = |next_hop, session| usable_gateway(prefix("20.0.0.0/8"), next_hop, session);
    let through_global = crate::rib::Gateway { address: address("2001:db8::1"), interface: None };
    let through_link =
        crate::rib::Gateway { address: link_local(9).into(), interface: Some(InterfaceIndex(3)) };
    assert_eq!(row(both, &numbered), Ok(through_global));
    assert_eq!(row(both, &on_link), Ok(through_link));
    assert_eq!(row(alone, &on_link), Ok(through_link));
    assert_eq!(row(alone, &numbered), Err(Refusal::NextHopWithoutInterface));
    assert_eq!(row(NextHop::Ipv6("2001:db8::2".parse().unwrap()), &numbered), Err(Refusal::NextHopOurs));
}

#[test]
fn a_tor_carries_what_a_host_would_not_believe() {
    let row = |text: &str, attributes: &Attributes| judge_as(Role::Transit, &external(1), text, attributes);
    assert_eq!(row("169.254.7.0/24", &from_peer(1, &[])), Judgement::AsReceived);
    assert_eq!(row("192.0.2.0/31", &from_peer(1, &[])), Judgement::AsReceived);
    assert_eq!(row("10.1.8.192/27", &from_peer(1, &[])), Judgement::Refused(Refusal::OwnPrefix));
    assert_eq!(row("20.0.0.0/8", &from_peer(1, &[LOCAL_AS.0])), Judgement::Refused(Refusal::AsLoop));
    let unreachable = Attributes { next_hop: NextHop::Itself, ..from_peer(1, &[]) };
    assert_eq!(row("20.0.0.0/8", &unreachable), Judgement::Refused(Refusal::NextHopMissing));
}

#[test]
fn export_permissions() {
    use PeerKind::{External, Internal};
    let learned = |kind| Route::Learned { peer: PeerId(1), kind };
    let other = |kind| Target { peer: PeerId(2), kind, transit: Transit::Never };
    let same = Target { peer: PeerId(1), kind: External, transit: Transit::Never };
    let with = |community| vec![community];
    let rows = [
        (Role::Host, Route::Originated, vec![], other(External), Ok(())),
        (Role::Host, Route::Originated, vec![], other(Internal), Ok(())),
        (Role::Host, learned(External), vec![], other(External), Err(Withheld::Learned)),
        (Role::Host, learned(External), vec![], other(Internal), Err(Withheld::Learned)),
        (Role::Host, learned(Internal), vec![], other(External), Err(Withheld::Learned)),
        (Role::Transit, Route::Originated, vec![], other(External), Ok(())),
        (Role::Transit, learned(External), vec![], other(External), Ok(())),
        (Role::Transit, learned(External), vec![], other(Internal), Ok(())),
        (Role::Transit, learned(Internal), vec![], other(External), Ok(())),
        (Role::Transit, learned(Internal), vec![], other(Internal), Err(Withheld::InternalToInternal)),
        (Role::Transit, learned(External), vec![], same, Err(Withheld::FromThisPeer)),
        (
            Role::Transit,
            learned(External),
            with(Community::NO_ADVERTISE),
            other(External),
            Err(Withheld::NoAdvertise),
        ),
        (
            Role::Transit,
            learned(External),
            with(Community::NO_ADVERTISE),
            other(Internal),
            Err(Withheld::NoAdvertise),
        ),
        (
            Role::Transit,
            learned(External),
            with(Community::NO_EXPORT),
            other(External),
            Err(Withheld::NoExport),
        ),
        (Role::Transit, learned(External), with(Community::NO_EXPORT), other(Internal), Ok(())),
        (
            Role::Transit,
            learned(External),
            with(Community(0xffff_ff03)),
            other(External),
            Err(Withheld::NoExport),
        ),
    ];
    for (number, (role, route, communities, target, expected)) in rows.into_iter().enumerate() {
        let attributes = Attributes { communities: communities.into(), ..from_peer(1, &[]) };
        assert_eq!(permits(role, route, &attributes, target), expected, "row {number}");
    }
}

#[test]
fn transit_that_is_allowed_opens_one_rule_alone() {
    use PeerKind::{External, Internal};
    let learned = |kind| Route::Learned { peer: PeerId(1), kind };
    let to = |number, kind| Target { peer: PeerId(number), kind, transit: Transit::Allowed };
    let rows = [
        (Route::Originated, vec![], to(2, External), Ok(())),
        (learned(External), vec![], to(2, External), Ok(())),
        (learned(External), vec![], to(2, Internal), Ok(())),
        (learned(Internal), vec![], to(2, External), Ok(())),
        (learned(External), vec![], to(1, External), Err(Withheld::FromThisPeer)),
        (learned(Internal), vec![], to(2, Internal), Err(Withheld::InternalToInternal)),
        (learned(External), vec![Community::NO_ADVERTISE], to(2, External), Err(Withheld::NoAdvertise)),
        (learned(External), vec![Community::NO_EXPORT], to(2, External), Err(Withheld::NoExport)),
    ];
    for (number, (route, communities, target, expected)) in rows.into_iter().enumerate() {
        let attributes = Attributes { communities: communities.into(), ..from_peer(1, &[]) };
        assert_eq!(permits(Role::Host, route, &attributes, target), expected, "row {number}");
    }
}

#[test]
fn own_as_in_a_path_is_a_loop_beyond_what_is_allowed() {
    let own = |times: usize| from_peer(1, &vec![LOCAL_AS.0; times]);
    let rows = [
        ("20.0.0.0/8", 0, own(0), Judgement::AsReceived),
        ("20.0.0.0/8", 0, own(1), Judgement::Refused(Refusal::AsLoop)),
        ("20.0.0.0/8", 1, own(1), Judgement::AsReceived),
        ("20.0.0.0/8", 1, own(2), Judgement::Refused(Refusal::AsLoop)),
        ("20.0.0.0/8", 3, own(3), Judgement::AsReceived),
        ("10.1.8.192/26", 3, own(1), Judgement::Echo),
        ("10.1.8.192/27", 3, own(1), Judgement::Refused(Refusal::OwnPrefix)),
        ("127.0.0.0/8", 3, own(1), Judgement::Refused(Refusal::Martian)),
    ];
    let (config, originated, session) = (config(Role::Host), own_routes(), external(1));
    let (originated, connected, session) = (&originated, &own_links(), &session);
    for (text, allowed_own_as, attributes, expected) in rows {
        let inbound = Inbound::Plain;
        let guard = Guard { config: &config, originated, connected, session, inbound, allowed_own_as };
        assert_eq!(guard.judge(prefix(text), &attributes), expected, "{text} {allowed_own_as}");
    }
}

#[test]
fn originated_routes_carry_our_as_outside_and_a_preference_inside() {
    let next_hop = NextHop::LinkLocal(OUR_LINK_LOCAL);
    let outside = rewrite(&Attributes::originated(), LOCAL_AS, PeerKind::External, next_hop);
    assert_eq!(outside, Attributes { as_path: path(&[LOCAL_AS.0]), next_hop, ..Attributes::originated() });
    let inside = rewrite(&Attributes::originated(), LOCAL_AS, PeerKind::Internal, next_hop);
    assert_eq!(inside, Attributes { local_pref: Some(100), next_hop, ..Attributes::originated() });
}

#[test]
fn learned_routes_are_rewritten() {
    let unknown = |flags, code| UnknownAttribute { flags, code, value: Bytes::from_static(b"x") };
    let (stays, goes) =
        (ExtendedCommunity([0, 2, 0, 0, 0, 0, 0, 1]), ExtendedCommunity([0x40, 4, 0, 0, 0, 0, 0, 1]));
    let learned = Attributes {
        med: Some(7),
        local_pref: Some(0),
        originator_id: Some(RouterId([9, 9, 9, 9].into())),
        cluster_list: [[8, 8, 8, 8].into()].into(),
        communities: [Community::GRACEFUL_SHUTDOWN].into(),
        extended_communities: [stays, goes].into(),
        unknown: [unknown(0xc0, 99), unknown(0x80, 98), unknown(0xe0, 97)].into(),
        ..from_peer(1, &[65200])
    };
    let next_hop = NextHop::LinkLocal(OUR_LINK_LOCAL);
    let passed_on: Seldom<_> = [unknown(0xe0, 99), unknown(0xe0, 97)].into();
    let outside = rewrite(&learned, LOCAL_AS, PeerKind::External, next_hop);
    let expected = Attributes {
        as_path: path(&[LOCAL_AS.0, 65101, 65200]),
        next_hop,
        med: None,
        local_pref: None,
        originator_id: None,
        cluster_list: Seldom::default(),
        extended_communities: [stays].into(),
        unknown: passed_on.clone(),
        ..learned.clone()
    };
    assert_eq!(outside, expected);
    let inside = rewrite(&learned, LOCAL_AS, PeerKind::Internal, next_hop);
    assert_eq!(inside, Attributes { next_hop, unknown: passed_on, ..learned });
}

#[test]
fn a_marked_route_is_the_last_choice_of_either_kind_of_neighbor() {
    let next_hop = NextHop::LinkLocal(crate::rib::fixtures::OUR_LINK_LOCAL);
    let plain = |kind| rewrite(&Attributes::originated(), LOCAL_AS, kind, next_hop);
    let outside = marked(&plain(PeerKind::External), LOCAL_AS, PeerKind::External, 3);
    assert_eq!(*outside.communities, [Community::GRACEFUL_SHUTDOWN]);
    assert_eq!(outside.as_path, path(&[LOCAL_AS.0; 4]));
    assert_eq!(outside.local_pref, None);
    let inside = marked(&plain(PeerKind::Internal), LOCAL_AS, PeerKind::Internal, 3);
    assert_eq!(*inside.communities, [Community::GRACEFUL_SHUTDOWN]);
    assert_eq!((inside.as_path, inside.local_pref), (path(&[]), Some(0)));
    let again = marked(&outside, LOCAL_AS, PeerKind::External, 0);
    assert_eq!(again, outside, "the community is there once");
}

#[test]
fn paths_of_a_neighbor_under_maintenance_come_last() {
    for kind in [PeerKind::External, PeerKind::Internal] {
        let (config, session) = (config(Role::Host), session(1, kind));
        let (originated, connected) = (Originated::default(), Connected::default());
        let guard = Guard {
            config: &config,
            originated: &originated,
            connected: &connected,
            session: &session,
            inbound: Inbound::Last,
            allowed_own_as: 0,
        };
        let Judgement::Changed(changed) = guard.judge(prefix("10.0.0.0/8"), &from_peer(1, &[])) else {
            panic!("{kind:?}");
        };
        assert_eq!(changed.local_pref, Some(0), "{kind:?}");
    }
}
