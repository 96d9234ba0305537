//! Every timer: when it runs, how long, and what it does.

use super::connection::{LARGE_HOLD_TIME, SHORTEST_SEND_HOLD_TIME};
use super::events::{CONNECT_TIMEOUT, INBOUND_PATIENCE};
use super::*;

const HOLD: Duration = Duration::from_secs(9);

fn due(driven: &Driven) -> Duration {
    driven.session.poll_deadline().expect("a deadline").saturating_duration_since(driven.now)
}

fn assert_between(actual: Duration, least: Duration, most: Duration) {
    assert!(actual >= least && actual <= most, "{actual:?} is not within {least:?} to {most:?}");
}

#[test]
fn an_idle_session_waits_for_nothing() {
    assert_eq!(Driven::new(config(), epoch()).session.poll_deadline(), None);
}

#[test]
fn a_passive_session_never_dials() {
    let mut driven = Driven::new(SessionConfig { passive: true, ..config() }, epoch());
    assert_eq!(words(&driven.handle(Event::Start)), "");
    assert_eq!(driven.session.state(), State::Active);
    assert_eq!(driven.session.poll_deadline(), None);
    let id = driven.accept();
    driven.handle(Event::Closed(id));
    assert_eq!(driven.session.poll_deadline(), None, "not even after a connection was lost");
}

#[test]
fn a_dial_without_answer_is_given_up_and_repeated() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    assert_eq!(due(&driven), CONNECT_TIMEOUT);
    assert_eq!(words(&driven.next_deadline()), "close, connect", "the retry interval is long over");
    assert_eq!(
        driven.session.last_error().map(ToString::to_string).as_deref(),
        Some("the peer did not answer within 3 s")
    );
}

/// RELIABILITY: a ToR that rebooted is found within five seconds, however long it was away.
#[test]
fn refused_dials_back_off_from_under_100_ms_to_at_most_5_s() {
    for seed in 0..50 {
        let mut driven = Driven::new(SessionConfig { seed, ..config() }, epoch());
        driven.handle(Event::Start);
        let mut intervals = Vec::new();
        let mut last = driven.now;
        for _ in 0..40 {
            driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
            assert_eq!(words(&driven.next_deadline()), "connect");
            intervals.push(driven.now - last);
            last = driven.now;
        }
        for &interval in &intervals[..10] {
            assert_between(interval, Duration::from_millis(75), Duration::from_millis(100));
        }
        for &interval in &intervals[16..] {
            assert_between(interval, Duration::from_millis(3750), Duration::from_secs(5));
        }
    }
}

/// A ToR that has not heard our Router Advertisement takes our TCP and closes it: each dial is one attempt, however
/// far it got.
#[test]
fn a_peer_that_closes_what_it_accepted_is_dialled_as_often_as_one_that_refuses() {
    for seed in 0..50 {
        let mut driven = Driven::new(SessionConfig { seed, ..config() }, epoch());
        driven.handle(Event::Start);
        for attempt in 0..30 {
            let id = driven.dialled.unwrap();
            driven.handle(Event::Connected(id));
            driven.handle(Event::Closed(id));
            match attempt {
                0..=10 => assert_between(due(&driven), Duration::from_millis(75), Duration::from_millis(100)),
                11 => assert_between(due(&driven), Duration::from_millis(150), Duration::from_millis(200)),
                16.. => assert_between(due(&driven), Duration::from_millis(3750), Duration::from_secs(5)),
                _ => {}
            }
            assert_eq!(words(&driven.next_deadline()), "connect");
        }
    }
}

/// A peer that comes up and goes down every second is followed ever more slowly, but never given up.
#[test]
fn a_session_that_flaps_every_second_is_damped_within_bounds() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    for flap in 0..40 {
        let id = driven.dialled.unwrap();
        driven.handle(Event::Connected(id));
        driven.receive(open_bytes(&their_open()));
        driven.receive(keepalive());
        driven.advance(Duration::from_millis(999));
        assert_eq!(words(&driven.handle(Event::Closed(id))), "down ConnectionLost");
        if flap >= 16 {
            assert_between(due(&driven), Duration::from_millis(3750), Duration::from_secs(5));
        }
        assert_eq!(words(&driven.next_deadline()), "connect");
    }
    assert_eq!(driven.ups, 40);
}

/// A peer that answers every OPEN with a NOTIFICATION, or sends one over every connection that it opens, costs a
/// bounded number of dials.
#[test]
fn a_storm_of_notifications_does_not_make_us_dial_faster() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    let mut dials = 0;
    for _ in 0..1000 {
        if driven.session.state() == State::Connect {
            driven.handle(Event::Connected(driven.dialled.unwrap()));
            driven.receive(notification_bytes(&notification(6, 5)));
        }
        let inbound = driven.accept();
        driven.handle(Event::Received(inbound, notification_bytes(&notification(6, 5))));
        let actions = driven.advance(Duration::from_millis(10));
        dials += actions.iter().filter(|action| matches!(action, Action::Connect(_))).count();
    }
    // Ten seconds: 0.8, 1.6, 3.2 and 5 s apart at most, 0.75 of that at least.
    assert!((3..=5).contains(&dials), "{dials} dials in ten seconds");
}

#[test]
fn silence_before_the_open_ends_after_four_minutes() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.flush();
    assert_eq!(due(&driven), LARGE_HOLD_TIME);
    assert_eq!(words(&driven.next_deadline()), "notify 4/0, close");
}

#[test]
fn silence_afterwards_ends_after_the_smaller_hold_time() {
    for (ours, theirs) in [(9, 180), (180, 9), (9, 9)] {
        let hold_time = |seconds| HoldTime::from_secs(seconds).unwrap();
        let config = SessionConfig { hold_time: hold_time(ours), ..config() };
        let mut driven = established(config, &Open { hold_time: hold_time(theirs), ..their_open() });
        driven.advance(HOLD - Duration::from_millis(1));
        assert_eq!(driven.session.state(), State::Established);
        let actions = driven.advance(Duration::from_millis(1));
        assert!(words(&actions).ends_with("notify 4/0, close, down sent 4/0"), "{}", words(&actions));
        assert_eq!(driven.session.last_error().unwrap().to_string(), "hold timer expired");
    }
}

#[test]
fn any_message_of_the_peer_restarts_the_hold_timer() {
    let request = refresh(Family::Ipv4Unicast.into(), RefreshKind::Request);
    for bytes in [keepalive(), update(), request] {
        let mut driven = established(config(), &their_open());
        driven.advance(Duration::from_secs(8));
        driven.receive(bytes);
        driven.advance(Duration::from_secs(8));
        assert_eq!(driven.session.state(), State::Established);
        driven.advance(Duration::from_secs(2));
        assert_ne!(driven.session.state(), State::Established);
    }
}

#[test]
fn part_of_a_message_does_not_restart_the_hold_timer() {
    let mut driven = established(config(), &their_open());
    let mut down = String::new();
    for octet in update().iter().copied().take(12) {
        driven.receive(Bytes::copy_from_slice(&[octet]));
        down = words(&driven.advance(Duration::from_secs(1)));
        if driven.session.state() != State::Established {
            break;
        }
    }
    assert!(down.contains("down sent 4/0"), "{down}");
}

#[test]
fn unread_input_extends_the_hold_timer_by_one_hold_time_at_most() {
    let mut driven = established(config(), &their_open());
    let began = driven.now;
    let mut ended = None;
    while ended.is_none() {
        driven.now = driven.session.poll_deadline().unwrap();
        let actions = driven.handle(Event::Deadline { input_pending: true });
        ended = words(&actions).contains("down").then(|| driven.now - began);
    }
    assert_eq!(ended, Some(HOLD * 2));
}

#[test]
fn input_read_after_an_extension_keeps_the_session() {
    let mut driven = established(config(), &their_open());
    for _ in 0..5 {
        driven.now += HOLD + Duration::from_secs(1);
        driven.handle(Event::Deadline { input_pending: true });
        driven.receive(keepalive());
    }
    assert_eq!(driven.session.state(), State::Established);
    let actions = driven.advance(HOLD);
    assert!(words(&actions).ends_with("down sent 4/0"), "an extension does not outlive the input");
}

#[test]
fn keepalives_are_a_third_of_the_hold_time_apart_with_jitter_and_never_below_a_second() {
    for (hold, configured_s, full_ms) in
        [(9, 3, 3000), (9, 60, 3000), (9, 2, 2000), (3, 1, 1000), (90, 60, 30_000)]
    {
        let hold_time = HoldTime::from_secs(hold).unwrap();
        let config = SessionConfig { hold_time, keepalive: Duration::from_secs(configured_s), ..config() };
        let mut driven = established(config, &Open { hold_time, ..their_open() });
        let full = Duration::from_millis(full_ms);
        for _ in 0..20 {
            assert_between(due(&driven), full.mul_f64(0.75).max(Duration::from_secs(1)), full);
            assert_eq!(words(&driven.next_deadline()), "keepalive");
            driven.flush();
            driven.receive(keepalive());
        }
    }
}

#[test]
fn an_update_sent_puts_the_keepalive_off() {
    let mut driven = established(config(), &their_open());
    for _ in 0..10 {
        driven.now += Duration::from_secs(2);
        driven.receive(keepalive());
        driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(Family::Ipv4Unicast), driven.now);
        assert_eq!(words(&driven.drain()), "send update");
        driven.flush();
        assert!(due(&driven) >= Duration::from_millis(2250));
    }
}

#[test]
fn a_hold_time_of_zero_switches_both_timers_off() {
    let driven = established(config(), &Open { hold_time: HoldTime::OFF, ..their_open() });
    assert_eq!(driven.session.negotiated().unwrap().keepalive, None);
    assert_eq!(driven.session.poll_deadline(), None);
}

#[test]
fn a_peer_without_hold_time_has_four_minutes_to_confirm() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.receive(open_bytes(&Open { hold_time: HoldTime::OFF, ..their_open() }));
    driven.flush();
    assert_eq!(due(&driven), LARGE_HOLD_TIME);
    assert_eq!(words(&driven.next_deadline()), "notify 4/0, close");
}

#[test]
fn a_socket_that_takes_nothing_ends_the_session() {
    let mut driven = established(config(), &Open { hold_time: HoldTime::OFF, ..their_open() });
    driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(Family::Ipv4Unicast), driven.now);
    driven.drain();
    assert_eq!(due(&driven), SHORTEST_SEND_HOLD_TIME);
    assert_eq!(words(&driven.next_deadline()), "close, down SendHoldTimer");
}

#[test]
fn the_send_hold_time_is_twice_the_hold_time_where_that_is_longer() {
    let hold_time = HoldTime::from_secs(3600).unwrap();
    let config = SessionConfig { hold_time, keepalive: Duration::from_secs(3600), ..config() };
    let mut driven = established(config, &Open { hold_time, ..their_open() });
    driven.next_deadline();
    for _ in 0..6 {
        driven.advance(Duration::from_secs(1000));
        driven.receive(keepalive());
        assert_eq!(driven.session.state(), State::Established);
    }
    let actions = driven.advance(Duration::from_secs(1201));
    assert!(words(&actions).contains("close, down SendHoldTimer"), "{}", words(&actions));
}

#[test]
fn progress_restarts_the_send_hold_timer_and_the_last_byte_stops_it() {
    let mut driven = established(config(), &Open { hold_time: HoldTime::OFF, ..their_open() });
    driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(Family::Ipv4Unicast), driven.now);
    let length = update().len();
    driven.drain();
    for _ in 1..length {
        driven.now += SHORTEST_SEND_HOLD_TIME / 2;
        driven.handle(Event::Written(driven.id(), 1));
        assert_eq!(due(&driven), SHORTEST_SEND_HOLD_TIME);
    }
    driven.handle(Event::Written(driven.id(), 0));
    driven.now += Duration::from_secs(1);
    assert_ne!(due(&driven), SHORTEST_SEND_HOLD_TIME, "no byte is no progress");
    driven.handle(Event::Written(driven.id(), 1));
    assert_eq!(driven.session.poll_deadline(), None);
}

#[test]
fn an_inbound_connection_holds_our_dial_back_for_a_while() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
    driven.accept();
    driven.flush();
    let accepted = driven.now;
    let mut actions = Vec::new();
    while actions.is_empty() {
        actions = driven.next_deadline();
    }
    assert_eq!(words(&actions), "connect");
    assert_eq!(driven.now - accepted, INBOUND_PATIENCE);
}

#[test]
fn an_inbound_connection_that_progresses_holds_our_dial_back_altogether() {
    let mut driven = Driven::new(config(), epoch());
    driven.handle(Event::Start);
    driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
    let id = driven.accept();
    driven.handle(Event::Received(id, open_bytes(&their_open())));
    let actions = driven.advance(Duration::from_millis(8900));
    assert!(!words(&actions).contains("connect"), "{}", words(&actions));
}

#[test]
fn an_error_puts_the_next_dial_off_and_a_lost_connection_does_not() {
    let mut driven = Driven::new(config(), epoch());
    driven.dial();
    driven.handle(Event::Closed(driven.id()));
    assert!(due(&driven) <= Duration::from_millis(100));
    driven.next_deadline();
    driven.handle(Event::Connected(driven.dialled.unwrap()));
    driven.receive(open_bytes(&open_of(OURS)));
    assert_between(due(&driven), Duration::from_millis(600), Duration::from_millis(800));
}

#[test]
fn a_session_that_lasted_starts_over_with_short_intervals() {
    for (lasted, most_ms) in [(11, 100), (1, 5000)] {
        let mut driven = Driven::new(config(), epoch());
        driven.handle(Event::Start);
        for _ in 0..30 {
            driven.handle(Event::ConnectFailed(driven.dialled.unwrap(), REFUSED));
            driven.next_deadline();
        }
        let id = driven.dialled.unwrap();
        driven.handle(Event::Connected(id));
        driven.receive(open_bytes(&their_open()));
        driven.receive(keepalive());
        for _ in 0..lasted {
            driven.advance(Duration::from_secs(1));
            driven.receive(keepalive());
        }
        driven.handle(Event::Closed(id));
        let most = Duration::from_millis(most_ms);
        assert_between(due(&driven), most.mul_f64(0.75), most);
    }
}
