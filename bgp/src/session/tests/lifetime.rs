//! What a session says of itself from start to stop: counters, errors, stops, refreshes, received updates.

use super::*;
use crate::message::Update;

#[test]
fn messages_are_counted_both_ways() {
    let mut driven = established(config(), &their_open());
    driven.receive(Bytes::from([update(), update(), keepalive()].concat()));
    driven.receive(refresh(Family::Ipv4Unicast.into(), RefreshKind::Request));
    for family in Family::ALL {
        driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(family), driven.now);
    }
    let request = RouteRefresh { family: Family::Ipv4Unicast.into(), kind: RefreshKind::Request };
    driven.session.send_refresh(request, driven.now);
    driven.drain();
    driven.receive(notification_bytes(&notification(6, 2)));
    assert_eq!(
        driven.session.received(),
        MessageCounts { open: 1, update: 2, notification: 1, keepalive: 2, route_refresh: 1 }
    );
    assert_eq!(
        driven.session.sent(),
        MessageCounts { open: 1, update: 2, notification: 0, keepalive: 1, route_refresh: 1 }
    );
    assert_eq!(driven.session.received().total(), 7);
}

#[test]
fn the_peers_last_notification_is_remembered() {
    let mut driven = established(config(), &their_open());
    assert_eq!(driven.session.last_error(), None);
    driven.receive(notification_bytes(&notification(6, 2)));
    driven.advance(Duration::from_secs(1));
    driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
    assert_eq!(driven.session.last_notification().map(|(_, sent)| sent), Some(&notification(6, 2)));
    assert_eq!(
        driven.session.last_error().unwrap().to_string(),
        "cannot connect to the peer: connection refused"
    );
}

#[test]
fn messages_may_be_cut_anywhere() {
    let stream = [open_bytes(&their_open()), keepalive(), update(), update()].concat();
    for size in 1..stream.len() {
        let mut driven = Driven::new(config(), epoch());
        let id = driven.dial();
        let actions: Vec<_> = stream
            .chunks(size)
            .flat_map(|chunk| driven.handle(Event::Received(id, Bytes::copy_from_slice(chunk))))
            .collect();
        assert_eq!(words(&actions), "keepalive, up, update, update", "in chunks of {size}");
    }
}

#[test]
fn nothing_that_follows_an_error_is_read() {
    let mut driven = established(config(), &their_open());
    let stream = [update(), raw_message(99, &[]), update()].concat();
    assert_eq!(words(&driven.receive(stream.into())), "update, notify 1/3, close, down sent 1/3");
}

#[test]
fn an_update_comes_out_as_the_codec_read_it() {
    let mut driven = established(config(), &their_open());
    let actions = driven.receive(update());
    let expected = Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() };
    assert!(matches!(&actions[..], [Action::Update(update)] if *update == expected), "{actions:?}");
}

#[test]
fn nothing_is_sent_before_established() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(Family::Ipv4Unicast), driven.now);
    let request = RouteRefresh { family: Family::Ipv4Unicast.into(), kind: RefreshKind::Request };
    driven.session.send_refresh(request, driven.now);
    assert!(driven.drain().is_empty());
}

#[test]
fn brackets_of_a_refresh_need_both_sides() {
    let mut simple = their_open();
    simple.capabilities.retain(|capability| *capability != Capability::EnhancedRouteRefresh);
    for (theirs, brackets) in [(their_open(), true), (simple, false)] {
        let mut driven = established(config(), &theirs);
        for kind in [RefreshKind::Begin, RefreshKind::End] {
            let message = RouteRefresh { family: Family::Ipv6Unicast.into(), kind };
            driven.session.send_refresh(message, driven.now);
            assert_eq!(driven.drain().len(), usize::from(brackets));
            assert_eq!(driven.receive(refresh(message.family, kind)).len(), usize::from(brackets));
        }
        let unknown = RefreshKind::Unknown(9);
        assert!(driven.receive(refresh(Family::Ipv6Unicast.into(), unknown)).is_empty());
    }
}

#[test]
fn a_silent_stop_says_nothing() {
    let mut driven = established(config(), &their_open());
    assert_eq!(words(&driven.handle(Event::Stop(Stop::Silent))), "close, down Stopped");
    assert_eq!(driven.session.poll_deadline(), None);
    assert_eq!(driven.session.sent().notification, 0);
}

#[test]
fn a_stop_reaches_both_connections() {
    let mut theirs = their_open();
    theirs.capabilities.push(graceful());
    let mut driven = established(config(), &theirs);
    driven.accept();
    let shutdown = Stop::Notify(cease(CeaseSubcode::AdministrativeShutdown));
    assert_eq!(
        words(&driven.handle(Event::Stop(shutdown))),
        "notify 6/2, close, down sent 6/2, notify 6/2, close"
    );
}

#[test]
fn a_stopped_session_starts_again() {
    let mut driven = established(config(), &their_open());
    driven.handle(Event::Stop(Stop::Silent));
    let id = driven.establish(&their_open());
    assert_eq!((driven.ups, id), (2, ConnectionId(1)));
}

#[test]
fn clearing_a_session_dials_again_at_once() {
    let mut driven = established(config(), &their_open());
    driven.handle(Event::Stop(Stop::Restart(cease(CeaseSubcode::AdministrativeReset))));
    let actions = driven.advance(Duration::from_millis(100));
    assert_eq!(words(&actions), "connect");
}

#[test]
fn events_of_closed_connections_are_ignored() {
    let mut driven = established(config(), &their_open());
    let id = driven.id();
    driven.receive(notification_bytes(&notification(6, 4)));
    for event in [
        Event::Received(id, update()),
        Event::Closed(id),
        Event::Written(id, 10),
        Event::Connected(id),
        Event::ConnectFailed(id, REFUSED),
    ] {
        assert!(driven.handle(event).is_empty());
    }
    assert_eq!(driven.session.state(), State::Active);
}
