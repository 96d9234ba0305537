//! From the speaker's types to the words of the API.

use std::fmt::Write as _;

use bgp::message::capability::ForwardingState;
use bgp::message::{self, Attributes, Community, Segment, SegmentKind};
use bgp::{AfiSafi, Family, session};

use super::{Capability, MessageCounts, PathAttributes, PathOrigin, SessionState};

impl From<session::State> for SessionState {
    fn from(state: session::State) -> Self {
        match state {
            session::State::Idle => Self::Idle,
            session::State::Connect => Self::Connect,
            session::State::Active => Self::Active,
            session::State::OpenSent => Self::OpenSent,
            session::State::OpenConfirm => Self::OpenConfirm,
            session::State::Established => Self::Established,
        }
    }
}

impl From<session::MessageCounts> for MessageCounts {
    fn from(counts: session::MessageCounts) -> Self {
        let session::MessageCounts { open, update, notification, keepalive, route_refresh } = counts;
        Self { open, update, notification, keepalive, route_refresh }
    }
}

impl From<message::Origin> for PathOrigin {
    fn from(origin: message::Origin) -> Self {
        match origin {
            message::Origin::Igp => Self::Igp,
            message::Origin::Egp => Self::Egp,
            message::Origin::Incomplete => Self::Incomplete,
        }
    }
}

impl From<&Attributes> for PathAttributes {
    fn from(attributes: &Attributes) -> Self {
        Self {
            origin: attributes.origin.into(),
            as_path: as_path(attributes.as_path.segments()),
            next_hop: attributes.next_hop.to_string(),
            med: attributes.med,
            local_pref: attributes.local_pref,
            atomic_aggregate: attributes.atomic_aggregate,
            aggregator: attributes.aggregator.map(|from| format!("{} {}", from.asn, from.router_id)),
            communities: attributes.communities.iter().copied().map(community).collect(),
            extended_communities: attributes.extended_communities.iter().map(|c| hex(&c.0)).collect(),
            large_communities: attributes
                .large_communities
                .iter()
                .map(|c| format!("{}:{}:{}", c.global, c.local1, c.local2))
                .collect(),
            originator_id: attributes.originator_id,
            cluster_list: attributes.cluster_list.to_vec(),
            unknown: attributes
                .unknown
                .iter()
                .map(|unknown| format!("{}:{:02x}:{}", unknown.code, unknown.flags, hex(&unknown.value)))
                .collect(),
        }
    }
}

/// A sequence is bare; sets and confederation segments have the brackets that RFC 5065 readers know.
fn as_path(segments: impl Iterator<Item = Segment>) -> String {
    let segments: Vec<String> = segments
        .map(|segment| {
            let joined = |separator: &str| {
                segment.asns.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
            };
            match segment.kind {
                SegmentKind::Set => format!("{{{}}}", joined(",")),
                SegmentKind::Sequence => joined(" "),
                SegmentKind::ConfedSequence => format!("({})", joined(" ")),
                SegmentKind::ConfedSet => format!("[{}]", joined(",")),
            }
        })
        .collect();
    segments.join(" ")
}

fn community(community: Community) -> String {
    match community {
        Community::GRACEFUL_SHUTDOWN => "graceful-shutdown".to_owned(),
        Community::NO_EXPORT => "no-export".to_owned(),
        Community::NO_ADVERTISE => "no-advertise".to_owned(),
        Community(number) => format!("{}:{}", number >> 16, number & 0xffff),
    }
}

impl From<&message::Capability> for Capability {
    fn from(capability: &message::Capability) -> Self {
        use message::Capability as Known;
        let known = |code, name: &str, value: String| Self { code, name: Some(name.to_owned()), value };
        match capability {
            Known::Multiprotocol(pair) => known(1, "multiprotocol", family(*pair)),
            Known::RouteRefresh => known(2, "route refresh", String::new()),
            Known::ExtendedNextHop(families) => known(
                5,
                "extended next hop",
                list(families, |(pair, afi)| format!("{} over {}", family(*pair), next_hop_family(*afi))),
            ),
            Known::ExtendedMessage => known(6, "extended message", String::new()),
            Known::GracefulRestart(restart) => known(64, "graceful restart", graceful_restart(restart)),
            Known::FourOctetAs(asn) => known(65, "four-octet AS", asn.to_string()),
            Known::EnhancedRouteRefresh => known(70, "enhanced route refresh", String::new()),
            Known::Fqdn { hostname, domain } if domain.is_empty() => known(73, "FQDN", hostname.clone()),
            Known::Fqdn { hostname, domain } => known(73, "FQDN", format!("{hostname}.{domain}")),
            Known::SoftwareVersion(version) => known(75, "software version", version.clone()),
            Known::Unknown { code, value } => Self { code: *code, name: None, value: hex(value) },
        }
    }
}

fn graceful_restart(restart: &message::GracefulRestart) -> String {
    let mut text = format!("{} s", restart.restart_time.as_secs());
    if restart.restarting {
        text.push_str(", restarting");
    }
    if restart.notification {
        text.push_str(", also after a notification");
    }
    if restart.families.is_empty() {
        text.push_str(", helper only");
    } else {
        text.push_str(", ");
        text.push_str(&list(&restart.families, |(pair, forwarding)| match forwarding {
            ForwardingState::Preserved => format!("{} (forwarding preserved)", family(*pair)),
            ForwardingState::Lost => family(*pair),
        }));
    }
    text
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn family(pair: AfiSafi) -> String {
    match Family::try_from(pair) {
        Ok(family) => family.to_string(),
        Err(AfiSafi { afi, safi }) => format!("AFI {afi} SAFI {safi}"),
    }
}

fn next_hop_family(afi: u16) -> String {
    match afi {
        1 => "IPv4".to_owned(),
        2 => "IPv6".to_owned(),
        _ => format!("AFI {afi}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bgp::Asn;
    use bgp::message::{ExtendedCommunity, LargeCommunity, UnknownAttribute};
    use bytes::Bytes;

    use super::*;

    #[test]
    fn communities_have_the_words_of_their_rfcs() {
        assert_eq!(community(Community(65004 << 16 | 7)), "65004:7");
        assert_eq!(community(Community(0xffff_0000)), "graceful-shutdown");
        assert_eq!(community(Community(0xffff_ff01)), "no-export");
        assert_eq!(community(Community(0xffff_ff02)), "no-advertise");
    }

    #[test]
    fn segments_have_the_brackets_of_their_kind() {
        let segments = [
            (SegmentKind::ConfedSequence, vec![64512, 64513]),
            (SegmentKind::ConfedSet, vec![64514, 64515]),
            (SegmentKind::Sequence, vec![65004, 4_200_000_000]),
            (SegmentKind::Set, vec![1, 2]),
        ];
        let segments =
            segments.map(|(kind, asns)| Segment { kind, asns: asns.into_iter().map(Asn).collect() });
        assert_eq!(as_path(segments.into_iter()), "(64512 64513) [64514,64515] 65004 4200000000 {1,2}");
        assert_eq!(as_path(std::iter::empty()), "");
    }

    #[test]
    fn attributes_become_words() {
        let attributes = Attributes {
            extended_communities: [ExtendedCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, 100])].into(),
            large_communities: [LargeCommunity { global: 65001, local1: 2, local2: 3 }].into(),
            unknown: [UnknownAttribute { flags: 0xc0, code: 99, value: Bytes::from_static(&[1, 0xab]) }]
                .into(),
            ..Attributes::originated()
        };
        let shown = PathAttributes::from(&attributes);
        assert_eq!(shown.next_hop, "self");
        assert_eq!(shown.origin, PathOrigin::Igp);
        assert_eq!(shown.extended_communities, ["0002fde900000064"]);
        assert_eq!(shown.large_communities, ["65001:2:3"]);
        assert_eq!(shown.unknown, ["99:c0:01ab"]);
    }

    #[test]
    fn capabilities_become_words_and_unknown_ones_stay_visible() {
        use message::Capability as Known;
        let v4 = AfiSafi::from(Family::Ipv4Unicast);
        let restart = message::GracefulRestart {
            restart_time: Duration::from_secs(120),
            notification: true,
            families: vec![(v4, ForwardingState::Preserved)],
            ..message::GracefulRestart::default()
        };
        let rows = [
            (Known::Multiprotocol(v4), "1 multiprotocol: IPv4 unicast"),
            (Known::Multiprotocol(AfiSafi { afi: 25, safi: 70 }), "1 multiprotocol: AFI 25 SAFI 70"),
            (Known::ExtendedNextHop(vec![(v4, 2)]), "5 extended next hop: IPv4 unicast over IPv6"),
            (
                Known::GracefulRestart(restart),
                "64 graceful restart: 120 s, also after a notification, IPv4 unicast (forwarding preserved)",
            ),
            (Known::FourOctetAs(Asn(65004)), "65 four-octet AS: 65004"),
            (Known::Fqdn { hostname: "tor1".into(), domain: "lab".into() }, "73 FQDN: tor1.lab"),
            (Known::Unknown { code: 128, value: Bytes::from_static(&[0, 1]) }, "128 ?: 0001"),
        ];
        for (capability, expected) in rows {
            let Capability { code, name, value } = (&capability).into();
            assert_eq!(format!("{code} {}: {value}", name.as_deref().unwrap_or("?")), expected);
        }
    }
}
