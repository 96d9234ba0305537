//! Whatever happens, in whatever order: no panic, and the invariants that [`Driven`] checks at every step.

use proptest::prelude::*;

use super::*;

/// An event whose connection is chosen when the time comes: mostly one that is there, sometimes not.
#[derive(Debug, Clone)]
enum Step {
    Start,
    Stop(u8),
    Deadline { input_pending: bool },
    Wait { ms: u64 },
    Connected(u8),
    ConnectFailed(u8),
    Accept,
    Receive(u8, Message),
    Garbage(u8, Vec<u8>),
    Closed(u8),
    Written(u8, usize),
    SendUpdate,
    SendRefresh,
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Open,
    GracefulOpen,
    ForeignOpen,
    Keepalive,
    Update,
    Notification,
    UnsupportedParameter,
    Refresh,
    HalfOfAnUpdate,
}

fn bytes_of(message: Message) -> Bytes {
    match message {
        Message::Open => open_bytes(&their_open()),
        Message::GracefulOpen => {
            let mut open = their_open();
            open.capabilities.push(graceful_of_both());
            open_bytes(&open)
        }
        Message::ForeignOpen => open_bytes(&open_of(OURS)),
        Message::Keepalive => keepalive(),
        Message::Update => update(),
        Message::Notification => notification_bytes(&notification(6, 4)),
        Message::UnsupportedParameter => notification_bytes(&notification(2, 4)),
        Message::Refresh => refresh(Family::Ipv4Unicast.into(), RefreshKind::Request),
        Message::HalfOfAnUpdate => update().slice(..10),
    }
}

/// Of a peer that preserves one family, and says to have preserved the other.
fn graceful_of_both() -> Capability {
    use crate::message::capability::ForwardingState::{Lost, Preserved};
    Capability::GracefulRestart(GracefulRestart {
        restart_time: Duration::from_secs(20),
        families: vec![(Family::Ipv4Unicast.into(), Lost), (Family::Ipv6Unicast.into(), Preserved)],
        ..GracefulRestart::default()
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => Just(Message::Open),
        4 => Just(Message::GracefulOpen),
        1 => Just(Message::ForeignOpen),
        6 => Just(Message::Keepalive),
        3 => Just(Message::Update),
        1 => Just(Message::Notification),
        1 => Just(Message::UnsupportedParameter),
        2 => Just(Message::Refresh),
        1 => Just(Message::HalfOfAnUpdate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Start),
        1 => (0..3u8).prop_map(Step::Stop),
        4 => any::<bool>().prop_map(|input_pending| Step::Deadline { input_pending }),
        2 => (0..20_000u64).prop_map(|ms| Step::Wait { ms }),
        6 => any::<u8>().prop_map(Step::Connected),
        1 => any::<u8>().prop_map(Step::ConnectFailed),
        4 => Just(Step::Accept),
        12 => (any::<u8>(), message()).prop_map(|(pick, message)| Step::Receive(pick, message)),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(pick, bytes)| Step::Garbage(pick, bytes)),
        1 => any::<u8>().prop_map(Step::Closed),
        3 => (any::<u8>(), 0..200usize).prop_map(|(pick, length)| Step::Written(pick, length)),
        1 => Just(Step::SendUpdate),
        1 => Just(Step::SendRefresh),
    ]
}

/// One of the connections that are there, or, rarely, one that never was or is gone.
fn pick(driven: &Driven, pick: u8) -> ConnectionId {
    let alive: Vec<_> = driven.alive.iter().copied().collect();
    match usize::from(pick).checked_rem(alive.len()) {
        Some(index) if pick < 240 => alive[index],
        _ => ConnectionId(u64::from(pick) % 16),
    }
}

fn run(driven: &mut Driven, step: Step) {
    let event = match step {
        Step::Start => Event::Start,
        Step::Stop(0) => Event::Stop(Stop::Silent),
        Step::Stop(1) => Event::Stop(Stop::Notify(cease(CeaseSubcode::AdministrativeShutdown))),
        Step::Stop(_) => Event::Stop(Stop::Restart(cease(CeaseSubcode::AdministrativeReset))),
        Step::Deadline { input_pending } => {
            driven.now = driven.session.poll_deadline().unwrap_or(driven.now).max(driven.now);
            Event::Deadline { input_pending }
        }
        Step::Wait { ms } => {
            driven.now += Duration::from_millis(ms);
            return;
        }
        Step::Connected(of) => Event::Connected(pick(driven, of)),
        Step::ConnectFailed(of) => Event::ConnectFailed(pick(driven, of), REFUSED),
        Step::Accept => Event::Accepted(driven.session.next_connection()),
        Step::Receive(of, message) => Event::Received(pick(driven, of), bytes_of(message)),
        Step::Garbage(of, bytes) => Event::Received(pick(driven, of), bytes.into()),
        Step::Closed(of) => Event::Closed(pick(driven, of)),
        Step::Written(of, length) => Event::Written(pick(driven, of), length),
        Step::SendUpdate => {
            driven.session.send_update::<Attributes>(&Outgoing::EndOfRib(Family::Ipv4Unicast), driven.now);
            driven.drain();
            return;
        }
        Step::SendRefresh => {
            let request = RouteRefresh { family: Family::Ipv6Unicast.into(), kind: RefreshKind::Request };
            driven.session.send_refresh(request, driven.now);
            driven.drain();
            return;
        }
    };
    driven.handle(event);
    assert!(driven.session.poll_action().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_the_invariants(
        steps in proptest::collection::vec(step(), 1..80),
        passive in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut driven = Driven::new(SessionConfig { passive, seed, ..config() }, epoch());
        driven.handle(Event::Start);
        for step in steps {
            run(&mut driven, step);
        }
        // Nothing is left behind that a stop would not end.
        driven.handle(Event::Stop(Stop::Silent));
        prop_assert!(driven.alive.is_empty(), "left open: {:?}", driven.alive);
        prop_assert_eq!(driven.session.poll_deadline(), None);
        prop_assert_eq!(driven.session.state(), State::Idle);
    }

    /// What a peer may send on a connection: nothing but bytes, cut anywhere.
    #[test]
    fn any_bytes_are_taken_in(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
        established_first in any::<bool>(),
    ) {
        let mut driven = Driven::new(config(), epoch());
        if established_first {
            driven.establish(&their_open());
        } else {
            driven.dial();
        }
        let id = driven.id();
        // Valid headers, so that the bodies are reached.
        for (kind, chunk) in (1..=5).cycle().zip(chunks) {
            driven.handle(Event::Received(id, raw_message(kind, &chunk)));
            driven.handle(Event::Received(id, chunk.into()));
        }
    }
}
