//! What our OPEN says, and what becomes of the peer's.

use super::*;
use crate::message::capability::ForwardingState;

/// The OPEN that a session sends on its first connection.
fn our_open(config: SessionConfig) -> Open {
    let mut driven = Driven::new(config, epoch());
    driven.handle(Event::Start);
    let actions = driven.handle(Event::Connected(driven.dialled.unwrap()));
    decode_open(&actions)
}

fn decode_open(actions: &[Action]) -> Open {
    let bytes = actions.iter().find_map(|action| match action {
        Action::Transmit(_, bytes) if bytes[18] == 1 => Some(bytes.clone()),
        _ => None,
    });
    Open::decode(bytes.expect("an OPEN").slice(19..)).unwrap()
}

fn graceful_restart(open: &Open) -> Option<&GracefulRestart> {
    open.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart(restart) => Some(restart),
        _ => None,
    })
}

#[test]
fn our_open_offers_what_is_configured() {
    let open = our_open(config());
    assert_eq!((open.asn, open.router_id, open.hold_time.as_secs()), (OURS, router_id(1), 9));
    let ipv4 = AfiSafi { afi: 1, safi: 1 };
    let ipv6 = AfiSafi { afi: 2, safi: 1 };
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol(ipv4),
            Capability::Multiprotocol(ipv6),
            Capability::ExtendedNextHop(vec![(ipv4, 2)]),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(OURS),
            Capability::ExtendedMessage,
            Capability::GracefulRestart(GracefulRestart {
                restarting: false,
                notification: false,
                restart_time: Duration::from_secs(30),
                families: vec![(ipv4, ForwardingState::Lost), (ipv6, ForwardingState::Lost)],
            }),
            Capability::Fqdn { hostname: "c1".into(), domain: String::new() },
            Capability::SoftwareVersion("selvedge/test".into()),
        ]
    );
}

#[test]
fn our_open_leaves_out_what_is_not_configured() {
    let open = our_open(SessionConfig {
        families: Families::from_iter([Family::Ipv4Unicast]),
        extended_next_hop: Families::NONE,
        graceful_restart: None,
        hostname: String::new(),
        software_version: String::new(),
        ..config()
    });
    assert_eq!(
        open.capabilities,
        [
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(OURS),
            Capability::ExtendedMessage,
        ]
    );
}

#[test]
fn a_restart_time_that_does_not_fit_is_cut() {
    let open = our_open(SessionConfig { graceful_restart: Some(Duration::from_secs(1_000_000)), ..config() });
    assert_eq!(graceful_restart(&open).unwrap().restart_time, Duration::from_secs(4095));
}

/// RFC 4724 section 3: R once, F where routes were really kept, which after a boot they were not.
#[test]
fn restart_and_forwarding_bits_are_those_of_the_start_until_the_first_session() {
    use ForwardingState::{Lost, Preserved};
    let ipv4 = Families::from_iter([Family::Ipv4Unicast]);
    for (inherited, at_start) in
        [(Families::ALL, [Preserved, Preserved]), (ipv4, [Preserved, Lost]), (Families::NONE, [Lost, Lost])]
    {
        let restarting = !inherited.is_empty();
        let mut driven = Driven::new(SessionConfig { inherited, ..config() }, epoch());
        let bits = |actions: &[Action]| {
            let GracefulRestart { restarting, families, .. } =
                graceful_restart(&decode_open(actions)).unwrap().clone();
            (restarting, families.into_iter().map(|(_, forwarding)| forwarding).collect::<Vec<_>>())
        };
        driven.handle(Event::Start);
        for _ in 0..2 {
            let id = driven.dialled.unwrap();
            assert_eq!(bits(&driven.handle(Event::Connected(id))), (restarting, at_start.to_vec()));
            driven.handle(Event::Closed(id));
            driven.next_deadline();
        }
        let id = driven.dialled.unwrap();
        driven.handle(Event::Connected(id));
        driven.receive(open_bytes(&their_open()));
        driven.receive(keepalive());
        driven.handle(Event::Closed(id));
        driven.next_deadline();
        let actions = driven.handle(Event::Connected(driven.dialled.unwrap()));
        assert_eq!(bits(&actions), (false, vec![Preserved; 2]));

        // Out of reach, before the session is there again or after: what the peer forwarded with may be gone.
        for _ in 0..2 {
            driven.handle(Event::Stop(Stop::Silent));
            driven.handle(Event::Start);
            let actions = driven.handle(Event::Connected(driven.dialled.unwrap()));
            assert_eq!(bits(&actions), (false, vec![Lost; 2]));
            driven.receive(open_bytes(&their_open()));
            driven.receive(keepalive());
        }
    }
}

/// What a peer's OPEN is answered with.
fn answer(config: SessionConfig, theirs: &Open) -> (Option<Notification>, Option<String>) {
    let mut driven = Driven::new(config, epoch());
    driven.dial();
    let actions = driven.receive(open_bytes(theirs));
    (notified(&actions), driven.session.last_error().map(ToString::to_string))
}

#[test]
fn the_peers_as_has_to_be_the_configured_one() {
    let number = RemoteAs::Number;
    for (remote_as, asn, refusal) in [
        (RemoteAs::External, THEIRS, None),
        (RemoteAs::External, OURS, Some("peer AS is 65001, but remote-as is external")),
        (RemoteAs::Internal, OURS, None),
        (RemoteAs::Internal, THEIRS, Some("peer AS is 65004, but remote-as is internal")),
        (number(THEIRS), THEIRS, None),
        (number(Asn(65010)), THEIRS, Some("peer AS is 65004, but remote-as is 65010")),
        (number(OURS), OURS, None),
        (number(Asn(4_200_000_001)), Asn(4_200_000_001), None),
    ] {
        let (notified, error) = answer(SessionConfig { remote_as, ..config() }, &open_of(asn));
        assert_eq!(notified, refusal.map(|_| notification(2, 2)), "{remote_as:?} {asn}");
        assert_eq!(error.as_deref(), refusal);
    }
}

#[test]
fn our_own_identifier_is_refused_within_an_as_only() {
    let theirs = Open { router_id: router_id(1), ..their_open() };
    assert_eq!(answer(config(), &theirs).0, None);
    let theirs = Open { router_id: router_id(1), ..open_of(OURS) };
    let (notified, error) = answer(SessionConfig { remote_as: RemoteAs::Internal, ..config() }, &theirs);
    assert_eq!(notified, Some(notification(2, 3)));
    assert_eq!(error.as_deref(), Some("peer has our own BGP identifier 10.0.0.1"));
}

#[test]
fn a_hold_time_of_one_or_two_seconds_is_refused() {
    let body = [4, 0xfd, 0xec, 0, 2, 10, 0, 0, 4, 0];
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    assert_eq!(words(&driven.receive(raw_message(1, &body))), "notify 2/6, close");
}

#[test]
fn a_peer_without_a_common_family_is_refused_and_told_which_are_missing() {
    let config = SessionConfig { families: Families::from_iter([Family::Ipv6Unicast]), ..config() };
    let theirs = Open { capabilities: vec![Capability::FourOctetAs(THEIRS)], ..their_open() };
    let (notified, error) = answer(config, &theirs);
    let data = Bytes::from_static(&[1, 4, 0, 2, 0, 1]);
    assert_eq!(notified, Some(Notification { code: 2, subcode: 7, data }));
    assert_eq!(error.as_deref(), Some("peer and we have no address family in common"));
}

#[test]
fn unexpected_messages_are_named_in_the_notification() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    let sent = notified(&driven.receive(update())).unwrap();
    assert_eq!((sent.code, sent.subcode, &sent.data[..]), (5, 1, &[2][..]));
    assert_eq!(driven.session.last_error().unwrap().to_string(), "peer sent Update in OpenSent");
    let mut driven = established(config(), &their_open());
    let sent = notified(&driven.receive(open_bytes(&their_open()))).unwrap();
    assert_eq!((sent.code, sent.subcode, &sent.data[..]), (5, 3, &[1][..]));
}

/// RFC 5492 section 3.
#[test]
fn a_peer_that_refuses_optional_parameters_is_offered_an_open_without_them_once() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    for plain in [false, true, false, true, false] {
        let actions = driven.handle(Event::Connected(driven.dialled.unwrap()));
        assert_eq!(decode_open(&actions).capabilities.is_empty(), plain);
        driven.receive(notification_bytes(&notification(2, 4)));
        driven.next_deadline();
    }
}

#[test]
fn an_old_speaker_gets_a_plain_session() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.receive(notification_bytes(&notification(2, 4)));
    driven.next_deadline();
    driven.handle(Event::Connected(driven.dialled.unwrap()));
    driven.receive(open_bytes(&Open { capabilities: Vec::new(), ..their_open() }));
    driven.receive(keepalive());
    let negotiated = driven.session.negotiated().unwrap();
    assert_eq!(negotiated.codec.families, Families::from_iter([Family::Ipv4Unicast]));
    assert_eq!(negotiated.codec.as_width, message::update::AsWidth::Two);
    assert!(!negotiated.route_refresh);
    driven.session.send_refresh(
        RouteRefresh { family: Family::Ipv4Unicast.into(), kind: RefreshKind::Request },
        driven.now,
    );
    assert!(driven.drain().is_empty(), "a ROUTE-REFRESH that the peer could not read");
}

/// RFC 8654 section 4: who announced that long messages may come gets them, also from a peer that takes none itself.
#[test]
fn long_messages_are_read_where_we_announced_it_and_written_where_the_peer_did() {
    let long = raw_message(2, &[&[0, 0, 0x13, 0x88, 0xd0, 99, 0x13, 0x84], &[0; 5000 - 4][..]].concat());
    let mut driven = established(config(), &their_open());
    assert_eq!(driven.session.negotiated().unwrap().codec.max_length, message::MAX_LENGTH);
    assert_eq!(words(&driven.receive(long.clone())), "update");

    // A peer that refused our capabilities was told nothing of the kind.
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.receive(notification_bytes(&notification(2, 4)));
    driven.next_deadline();
    driven.handle(Event::Connected(driven.dialled.unwrap()));
    driven.receive(open_bytes(&Open { capabilities: Vec::new(), ..their_open() }));
    driven.receive(keepalive());
    assert_eq!(words(&driven.receive(long)), "notify 1/2, close, down sent 1/2");
}
