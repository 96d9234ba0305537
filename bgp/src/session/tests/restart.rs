//! The receiving side of graceful restart (RFC 4724 section 4.2): when routes are kept, and for how long.

use super::super::restart::STALE_PATH_TIME;
use super::*;
use crate::message::capability::ForwardingState::{self, Lost, Preserved};

const IPV4: Family = Family::Ipv4Unicast;
const IPV6: Family = Family::Ipv6Unicast;

/// The peer's OPEN with graceful restart of these families.
fn open_with(restart_time_s: u64, families: &[(Family, ForwardingState)]) -> Open {
    let mut open = their_open();
    open.capabilities.push(Capability::GracefulRestart(GracefulRestart {
        restart_time: Duration::from_secs(restart_time_s),
        families: families.iter().map(|&(family, state)| (family.into(), state)).collect(),
        ..GracefulRestart::default()
    }));
    open
}

/// A peer that preserves both families, and has never restarted.
fn restartable() -> Open {
    open_with(30, &[(IPV4, Lost), (IPV6, Lost)])
}

fn both() -> Families {
    Families::ALL
}

fn only(family: Family) -> Families {
    Families::from_iter([family])
}

fn kept(actions: &[Action]) -> Option<Families> {
    actions.iter().find_map(|action| match action {
        Action::Down { kept, .. } => Some(*kept),
        _ => None,
    })
}

fn is_forgotten(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Forget))
}

/// The peer dials, and the session is there again.
fn come_back(driven: &mut Driven, theirs: &Open) -> Vec<Action> {
    let id = driven.accept();
    let mut actions = driven.handle(Event::Received(id, open_bytes(theirs)));
    actions.extend(driven.handle(Event::Received(id, keepalive())));
    assert_eq!(driven.session.state(), State::Established);
    actions
}

fn lose(driven: &mut Driven) -> Vec<Action> {
    driven.handle(Event::Closed(driven.id()))
}

fn end_of_rib(family: Family) -> Bytes {
    match family {
        IPV4 => update(),
        IPV6 => raw_message(2, &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]),
    }
}

#[test]
fn a_tcp_connection_that_ends_without_a_word_keeps_the_families_that_the_peer_listed() {
    for (theirs, expected) in [
        (restartable(), both()),
        (open_with(30, &[(IPV6, Preserved)]), only(IPV6)),
        // Helper only, as FRR is unless it is told to be more.
        (open_with(120, &[]), Families::NONE),
        // It does not come back.
        (open_with(0, &[(IPV4, Preserved)]), Families::NONE),
        (their_open(), Families::NONE),
    ] {
        let mut driven = established(config(), &theirs);
        assert_eq!(kept(&lose(&mut driven)), Some(expected));
        assert_eq!(driven.session.awaits_restart(), !expected.is_empty());
    }
}

#[test]
fn a_family_that_was_not_negotiated_is_not_kept() {
    let config = SessionConfig { families: only(IPV4), ..config() };
    let mut driven = established(config, &restartable());
    assert_eq!(kept(&lose(&mut driven)), Some(only(IPV4)));
}

/// RFC 4724 section 4: a NOTIFICATION ends the session as RFC 4271 has it. The hold timer sends one.
#[test]
fn a_notification_of_either_side_keeps_nothing() {
    let ends: [fn(&mut Driven) -> Vec<Action>; 6] = [
        |driven| driven.receive(notification_bytes(&notification(6, 4))),
        |driven| driven.receive(notification_bytes(&notification(6, 9))),
        |driven| driven.receive(raw_message(99, &[])),
        |driven| driven.advance(Duration::from_secs(10)),
        |driven| driven.handle(Event::Stop(Stop::Silent)),
        |driven| driven.handle(Event::Stop(Stop::Restart(cease(CeaseSubcode::AdministrativeReset)))),
    ];
    for end in ends {
        let mut driven = established(config(), &restartable());
        let actions = end(&mut driven);
        assert_eq!(kept(&actions), Some(Families::NONE), "{}", words(&actions));
        assert!(!is_forgotten(&actions));
    }
}

#[test]
fn a_new_connection_that_replaces_the_session_keeps_its_routes() {
    let mut driven = established(config(), &restartable());
    driven.advance(Duration::from_secs(2));
    let actions = come_back(&mut driven, &restartable());
    assert_eq!(words(&actions), "close, down Replaced, keeping, keepalive, up");
}

#[test]
fn the_peer_has_the_time_that_it_asked_for_and_no_more_than_we_give() {
    for (asked_s, given_s) in [(30, 30), (4095, 120)] {
        let mut driven = established(config(), &open_with(asked_s, &[(IPV4, Lost)]));
        lose(&mut driven);
        let timers = driven.session.timers();
        let until = timers.iter().find(|(name, _)| *name == "RestartTimer").unwrap().1;
        assert_eq!(until, driven.now + Duration::from_secs(given_s));
        let actions = driven.advance(Duration::from_secs(given_s) - Duration::from_millis(1));
        assert!(!is_forgotten(&actions));
        assert!(is_forgotten(&driven.advance(Duration::from_millis(1))));
        assert!(!driven.session.awaits_restart());
    }
    let mut driven = established(SessionConfig { stale_time: Duration::ZERO, ..config() }, &restartable());
    assert_eq!(kept(&lose(&mut driven)), Some(Families::NONE));
}

#[test]
fn whoever_stops_the_session_waits_for_nobody() {
    for stop in [Stop::Silent, Stop::Restart(cease(CeaseSubcode::BfdDown))] {
        let mut driven = established(config(), &restartable());
        lose(&mut driven);
        let actions = driven.handle(Event::Stop(stop));
        assert!(is_forgotten(&actions), "{}", words(&actions));
        assert!(!driven.session.timers().iter().any(|(name, _)| *name == "RestartTimer"));
    }
}

#[test]
fn a_dial_that_fails_and_a_connection_that_dies_young_end_no_wait() {
    let mut driven = established(config(), &restartable());
    lose(&mut driven);
    driven.next_deadline();
    driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
    let id = driven.accept();
    driven.handle(Event::Received(id, open_bytes(&restartable())));
    driven.handle(Event::Closed(id));
    assert!(driven.session.awaits_restart());
}

/// Each family until its own End-of-RIB, and none for ever.
#[test]
fn a_peer_that_is_back_has_to_say_everything_again() {
    let back = open_with(30, &[(IPV4, Preserved), (IPV6, Preserved)]);
    let mut driven = established(config(), &restartable());
    lose(&mut driven);
    assert!(!is_forgotten(&come_back(&mut driven, &back)));
    driven.receive(end_of_rib(IPV4));
    assert!(driven.session.timers().iter().any(|(name, _)| *name == "StalePathTimer"));
    driven.receive(end_of_rib(IPV6));
    assert!(!driven.session.timers().iter().any(|(name, _)| *name == "StalePathTimer"));

    lose(&mut driven);
    come_back(&mut driven, &back);
    driven.receive(end_of_rib(IPV6));
    let began = driven.now;
    let mut forgotten = false;
    while driven.now < began + STALE_PATH_TIME {
        forgotten = is_forgotten(&driven.advance(Duration::from_secs(1)));
        driven.receive(keepalive());
        driven.flush();
    }
    assert!(forgotten, "at the last deadline, and not before");
    assert_eq!(driven.session.state(), State::Established, "the session goes on");
}

/// RFC 4724 section 4.2: F clear, the family missing, the capability missing. The RIB is told by what was negotiated.
#[test]
fn a_peer_that_lost_its_state_is_waited_for_no_longer() {
    for theirs in [restartable(), open_with(30, &[]), their_open()] {
        let mut driven = established(config(), &restartable());
        lose(&mut driven);
        come_back(&mut driven, &theirs);
        assert_eq!(driven.session.negotiated().unwrap().preserved_families(), Families::NONE);
        assert!(!driven.session.timers().iter().any(|(name, _)| *name == "StalePathTimer"));
    }
}

#[test]
fn a_second_restart_has_its_own_time() {
    let back = open_with(30, &[(IPV4, Preserved)]);
    let mut driven = established(config(), &restartable());
    lose(&mut driven);
    driven.advance(Duration::from_millis(10));
    come_back(&mut driven, &back);
    driven.advance(Duration::from_secs(5));
    assert_eq!(kept(&lose(&mut driven)), Some(only(IPV4)));
    assert!(!is_forgotten(&driven.advance(Duration::from_secs(29))));
    assert!(is_forgotten(&driven.advance(Duration::from_secs(1))));
}
