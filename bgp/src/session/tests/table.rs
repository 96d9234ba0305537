//! RFC 4271 section 8.2.2 as a table: what every input does in every state, and the state that follows.

use super::*;

/// Declares an enum together with the list of all its variants, so that none can be left out.
macro_rules! inputs {
    ($($input:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Input { $($input),* }
        impl Input {
            const ALL: &[Self] = &[$(Self::$input),*];
        }
    };
}

inputs! {
    Start, StopSilent, StopNotify, StopRestart,
    NextDeadline, EarlyDeadline, HoldTimeOver, HoldTimeOverInputPending,
    Connected, ConnectFailed, Accepted, Closed, Written, NoBytes,
    BadMarker, BadType, Open, OpenOfWrongAs, OpenMalformed, Update, UpdateMalformed, Keepalive,
    Notification, NotificationTooShort, UnsupportedParameter,
    RefreshRequest, RefreshOfOtherFamily, RefreshMalformed,
}

const STATES: [State; 6] =
    [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established];

/// For each of the six states, `actions -> next state`.
#[rustfmt::skip]
fn row(input: Input) -> [&'static str; 6] {
    let ignored = ["Idle", "Connect", "Active"];
    let in_connection = |sent: &'static str, confirm: &'static str, established: &'static str| {
        let [idle, connect, active] = ignored;
        [idle, connect, active, sent, confirm, established]
    };
    match input {
        // Events 1 and 3: ignored in every state but Idle.
        Input::Start => ["connect -> Connect", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"],
        // Event 2.
        Input::StopSilent => ["Idle", "close -> Idle", "Idle", "close -> Idle", "close -> Idle",
            "close, down Stopped -> Idle"],
        Input::StopNotify => ["Idle", "close -> Idle", "Idle", "notify 6/2, close -> Idle", "notify 6/2, close -> Idle",
            "notify 6/2, close, down sent 6/2 -> Idle"],
        Input::StopRestart => ["Idle", "close -> Active", "Active", "notify 6/4, close -> Active", "notify 6/4, close -> Active",
            "notify 6/4, close, down sent 6/4 -> Active"],
        // Event 9 in Connect and Active, 10 in OpenSent (the large value), 11 afterwards.
        Input::NextDeadline => ["Idle", "close, connect -> Connect", "connect -> Connect", "notify 4/0, close -> Active", "keepalive -> OpenConfirm",
            "keepalive -> Established"],
        Input::EarlyDeadline => ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"],
        // Event 10. The dial of Active and Connect is long due by then.
        Input::HoldTimeOver => ["Idle", "close, connect -> Connect", "connect -> Connect", "notify 4/0, close -> Active",
            "notify 4/0, close -> Active", "notify 4/0, close, down sent 4/0 -> Active"],
        Input::HoldTimeOverInputPending => ["Idle", "close, connect -> Connect", "connect -> Connect", "OpenSent",
            "keepalive -> OpenConfirm", "keepalive -> Established"],
        // Event 16: of our dial.
        Input::Connected => ["Idle", "open -> OpenSent", "Active", "OpenSent", "OpenConfirm", "Established"],
        // Event 17: refused in Idle, tracked in any other state until an OPEN decides.
        Input::Accepted => ["close -> Idle", "open -> OpenSent", "open -> OpenSent", "open -> OpenSent",
            "open -> OpenConfirm", "notify 6/7, close -> Established"],
        // Event 18, before or after TCP was there.
        Input::ConnectFailed | Input::Closed => ["Idle", "Active", "Active", "Active", "Active", "down ConnectionLost -> Active"],
        Input::Written | Input::NoBytes => ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"],
        // Event 21.
        Input::BadMarker => in_connection("notify 1/1, close -> Active", "notify 1/1, close -> Active",
            "notify 1/1, close, down sent 1/1 -> Active"),
        Input::BadType => in_connection("notify 1/3, close -> Active", "notify 1/3, close -> Active",
            "notify 1/3, close, down sent 1/3 -> Active"),
        // Event 19.
        Input::Open => in_connection("keepalive -> OpenConfirm", "notify 5/2, close -> Active",
            "notify 5/3, close, down sent 5/3 -> Active"),
        // Event 22.
        Input::OpenOfWrongAs => in_connection("notify 2/2, close -> Active", "notify 5/2, close -> Active",
            "notify 5/3, close, down sent 5/3 -> Active"),
        Input::OpenMalformed => in_connection("notify 2/1, close -> Active", "notify 5/2, close -> Active",
            "notify 5/3, close, down sent 5/3 -> Active"),
        // Events 27 and 28.
        Input::Update => in_connection("notify 5/1, close -> Active", "notify 5/2, close -> Active",
            "update -> Established"),
        Input::UpdateMalformed => in_connection("notify 5/1, close -> Active", "notify 5/2, close -> Active",
            "notify 3/1, close, down sent 3/1 -> Active"),
        // Event 26.
        Input::Keepalive => in_connection("notify 5/1, close -> Active", "up -> Established", "Established"),
        // Events 24 and 25: never answered.
        Input::Notification => in_connection("close -> Active", "close -> Active",
            "close, down received 6/2 -> Active"),
        Input::NotificationTooShort => in_connection("notify 1/2, close -> Active", "notify 1/2, close -> Active",
            "notify 1/2, close, down sent 1/2 -> Active"),
        Input::UnsupportedParameter => in_connection("close -> Active", "close -> Active",
            "close, down received 2/4 -> Active"),
        // RFC 2918, RFC 7313.
        Input::RefreshRequest => in_connection("notify 5/1, close -> Active", "notify 5/2, close -> Active",
            "refresh -> Established"),
        Input::RefreshOfOtherFamily => in_connection("notify 5/1, close -> Active", "notify 5/2, close -> Active",
            "Established"),
        Input::RefreshMalformed => in_connection("notify 5/1, close -> Active", "notify 5/2, close -> Active",
            "notify 7/1, close, down sent 7/1 -> Active"),
    }
}

/// Feeds one input, about the connection that leads, or the dial.
fn apply(driven: &mut Driven, input: Input) -> Vec<Action> {
    let id = driven.id();
    let message = |bytes: Bytes| Event::Received(id, bytes);
    let event = match input {
        Input::Start => Event::Start,
        Input::StopSilent => Event::Stop(Stop::Silent),
        Input::StopNotify => Event::Stop(Stop::Notify(cease(CeaseSubcode::AdministrativeShutdown))),
        Input::StopRestart => Event::Stop(Stop::Restart(cease(CeaseSubcode::AdministrativeReset))),
        Input::NextDeadline => {
            driven.now = driven.session.poll_deadline().unwrap_or(driven.now);
            Event::Deadline { input_pending: false }
        }
        Input::EarlyDeadline => Event::Deadline { input_pending: false },
        Input::HoldTimeOver | Input::HoldTimeOverInputPending => {
            driven.now += hold_time(driven.session.state());
            Event::Deadline { input_pending: input == Input::HoldTimeOverInputPending }
        }
        Input::Connected => Event::Connected(id),
        Input::ConnectFailed => Event::ConnectFailed(id, REFUSED),
        Input::Accepted => Event::Accepted(driven.session.next_connection()),
        Input::Closed => Event::Closed(id),
        Input::Written => Event::Written(id, 1),
        Input::NoBytes => message(Bytes::new()),
        Input::BadMarker => message(Bytes::from_static(&[0; 19])),
        Input::BadType => message(raw_message(99, &[])),
        Input::Open => message(open_bytes(&their_open())),
        Input::OpenOfWrongAs => message(open_bytes(&open_of(OURS))),
        Input::OpenMalformed => message(raw_message(1, &[3, 0xfd, 0xec, 0, 9, 10, 0, 0, 4, 0])),
        Input::Update => message(update()),
        Input::UpdateMalformed => message(raw_message(2, &[0xff, 0xff, 0, 0])),
        Input::Keepalive => message(keepalive()),
        Input::Notification => message(notification_bytes(&notification(6, 2))),
        Input::NotificationTooShort => message(raw_message(3, &[6])),
        Input::UnsupportedParameter => message(notification_bytes(&notification(2, 4))),
        Input::RefreshRequest => message(refresh(Family::Ipv4Unicast.into(), RefreshKind::Request)),
        Input::RefreshOfOtherFamily => message(refresh(AfiSafi { afi: 25, safi: 70 }, RefreshKind::Request)),
        Input::RefreshMalformed => message(raw_message(5, &[0, 1, 1, 1, 0])),
    };
    driven.handle(event)
}

/// The hold time that runs in a state, when both OPENs say nine seconds.
fn hold_time(state: State) -> Duration {
    match state {
        State::Idle | State::Connect | State::Active | State::OpenSent => connection::LARGE_HOLD_TIME,
        State::OpenConfirm | State::Established => Duration::from_secs(9),
    }
}

/// A session that got to `state` over a connection that it dialled.
fn dialled_to(state: State) -> Driven {
    let mut driven = Driven::new(config(), epoch());
    let id = ConnectionId(0);
    let steps = [
        (State::Connect, Event::Start),
        (State::OpenSent, Event::Connected(id)),
        (State::OpenConfirm, Event::Received(id, open_bytes(&their_open()))),
        (State::Established, Event::Received(id, keepalive())),
    ];
    for (next, event) in steps {
        if next > state {
            break;
        }
        driven.handle(event);
    }
    if state == State::Active {
        driven.handle(Event::ConnectFailed(id, REFUSED));
    }
    driven.flush();
    assert_eq!(driven.session.state(), state);
    driven
}

/// The same over a connection that it accepted. Before there is one, there is nothing to differ.
fn accepted_to(state: State) -> Driven {
    let mut driven = Driven::new(SessionConfig { passive: true, ..config() }, epoch());
    driven.handle(Event::Start);
    let id = driven.accept();
    for (next, bytes) in [(State::OpenConfirm, open_bytes(&their_open())), (State::Established, keepalive())]
    {
        if next <= state {
            driven.handle(Event::Received(id, bytes));
        }
    }
    driven.flush();
    assert_eq!(driven.session.state(), state);
    driven
}

fn outcome(driven: &mut Driven, input: Input) -> String {
    let actions = words(&apply(driven, input));
    let separator = if actions.is_empty() { "" } else { " -> " };
    format!("{actions}{separator}{}", driven.session.state())
}

#[test]
fn every_input_in_every_state() {
    let mut wrong = Vec::new();
    for &input in Input::ALL {
        for (state, expected) in STATES.into_iter().zip(row(input)) {
            let actual = outcome(&mut dialled_to(state), input);
            if actual != expected {
                wrong.push(format!("{input:?} in {state}: expected `{expected}`, got `{actual}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An inbound connection differs in one thing: another inbound one takes its place.
#[test]
fn every_input_in_every_state_of_an_inbound_connection() {
    let mut wrong = Vec::new();
    for &input in Input::ALL {
        for (state, expected) in STATES.into_iter().zip(row(input)).skip(3) {
            let expected = match (input, state) {
                (Input::Accepted, State::OpenSent | State::OpenConfirm) => {
                    "notify 6/7, close, open -> OpenSent"
                }
                _ => expected,
            };
            let actual = outcome(&mut accepted_to(state), input);
            if actual != expected {
                wrong.push(format!("{input:?} in {state}: expected `{expected}`, got `{actual}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// After whatever happened, a session that was not stopped gets to Established again with a peer that
/// answers, by its timers alone.
#[test]
fn every_state_recovers_from_every_input() {
    for &input in Input::ALL {
        for state in STATES {
            let mut driven = dialled_to(state);
            apply(&mut driven, input);
            for _ in 0..10 {
                match driven.session.state() {
                    State::Idle | State::Established => break,
                    State::Connect => driven.handle(Event::Connected(driven.dialled.unwrap())),
                    State::Active => driven.next_deadline(),
                    State::OpenSent => driven.receive(open_bytes(&their_open())),
                    State::OpenConfirm => driven.receive(keepalive()),
                };
                // The other connection stays silent: that ends the contest.
                if driven.session.state() == State::OpenConfirm {
                    driven.next_deadline();
                }
            }
            let stopped = matches!(input, Input::StopSilent | Input::StopNotify);
            let idle = stopped || (state == State::Idle && input != Input::Start);
            let expected = if idle { State::Idle } else { State::Established };
            assert_eq!(driven.session.state(), expected, "{input:?} in {state}");
        }
    }
}
