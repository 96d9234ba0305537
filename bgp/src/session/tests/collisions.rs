//! RFC 4271 section 6.8: one case after another, then two speakers that dial each other over a slow network.

use std::collections::BTreeMap;

use super::*;

/// What the session has when the peer's OPEN arrives on an inbound connection, over a dialled one that is in
/// `state`; `theirs` on both.
fn inbound_open_meets(state: State, theirs: &Open) -> (Driven, Vec<Action>) {
    let mut driven = Driven::new(config(), epoch());
    let outbound = driven.dial();
    if state >= State::OpenConfirm {
        driven.handle(Event::Received(outbound, open_bytes(theirs)));
    }
    if state == State::Established {
        driven.handle(Event::Received(outbound, keepalive()));
    }
    let inbound = driven.accept();
    let actions = driven.handle(Event::Received(inbound, open_bytes(theirs)));
    (driven, actions)
}

fn remaining(driven: &Driven) -> Vec<connection::Direction> {
    driven.session.connections.iter().map(|connection| connection.direction).collect()
}

#[test]
fn the_speaker_with_the_higher_identifier_keeps_the_connection_it_opened() {
    use connection::Direction::{Inbound, Outbound};
    let with_id = |last, asn| Open { router_id: router_id(last), ..open_of(Asn(asn)) };
    // Ours is 10.0.0.1 in AS 65001.
    for (theirs, kept) in [
        (with_id(4, 65004), Inbound),
        (with_id(0, 65004), Outbound),
        (with_id(1, 65004), Inbound),
        (with_id(1, 64999), Outbound),
    ] {
        let (driven, actions) = inbound_open_meets(State::OpenConfirm, &theirs);
        assert_eq!(remaining(&driven), [kept], "{theirs:?}");
        assert!(words(&actions).contains("notify 6/7, close"));
    }
}

#[test]
fn without_the_other_open_both_connections_go_on_but_the_inbound_one_is_not_confirmed_yet() {
    let (driven, actions) = inbound_open_meets(State::OpenSent, &their_open());
    assert_eq!(words(&actions), "");
    assert_eq!(driven.session.connections.len(), 2);
    assert_eq!(driven.session.state(), State::OpenConfirm);
}

/// An inbound connection with both OPENs beside a dialled one on which the peer has said nothing. Not in its place, FRR
/// would find the dialled one in its queue when it has established the other, and close that.
fn crossed() -> (Driven, ConnectionId, ConnectionId) {
    let mut driven = Driven::new(config(), epoch());
    let outbound = driven.dial();
    let inbound = driven.accept();
    assert_eq!(words(&driven.handle(Event::Received(inbound, open_bytes(&their_open())))), "");
    (driven, outbound, inbound)
}

#[test]
fn the_inbound_connection_is_confirmed_when_the_peer_has_spoken_on_the_dialled_one() {
    let (mut driven, outbound, inbound) = crossed();
    let actions = driven.handle(Event::Received(outbound, open_bytes(&their_open())));
    assert_eq!(words(&actions), "notify 6/7, close, keepalive");
    assert_eq!(remaining(&driven), [connection::Direction::Inbound]);
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "up");

    // The peer's KEEPALIVE may come first.
    let (mut driven, outbound, inbound) = crossed();
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "");
    let actions = driven.handle(Event::Received(outbound, open_bytes(&their_open())));
    assert_eq!(words(&actions), "notify 6/7, close, keepalive, up");

    let (mut driven, outbound, _) = crossed();
    assert_eq!(words(&driven.handle(Event::Closed(outbound))), "keepalive");

    let (mut driven, _, inbound) = crossed();
    assert_eq!(words(&driven.handle(Event::Received(inbound, update()))), "notify 5/2, close");
}

#[test]
fn the_inbound_connection_does_not_wait_long_for_the_dialled_one() {
    let (mut driven, _, inbound) = crossed();
    assert_eq!(words(&driven.advance(Duration::from_millis(999))), "");
    assert_eq!(words(&driven.advance(Duration::from_millis(1))), "keepalive");
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "notify 6/7, close, up");
}

#[test]
fn the_inbound_connection_waits_for_a_dial_in_flight() {
    let in_flight = || {
        let mut driven = Driven::new(config(), epoch());
        let outbound = match driven.handle(Event::Start)[..] {
            [Action::Connect(id)] => id,
            ref other => panic!("{other:?}"),
        };
        let inbound = driven.accept();
        assert_eq!(words(&driven.handle(Event::Received(inbound, open_bytes(&their_open())))), "");
        (driven, outbound, inbound)
    };
    let (mut driven, outbound, inbound) = in_flight();
    let refused = Event::ConnectFailed(outbound, std::io::ErrorKind::ConnectionRefused);
    assert_eq!(words(&driven.handle(refused)), "keepalive");
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "up");

    let (mut driven, _, inbound) = in_flight();
    assert_eq!(words(&driven.advance(Duration::from_secs(1))), "keepalive");
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "close, up");
}

#[test]
fn an_established_session_wins() {
    let mut driven = established(config(), &their_open());
    let id = driven.session.next_connection();
    assert_eq!(words(&driven.handle(Event::Accepted(id))), "notify 6/7, close");
    assert_eq!(driven.session.last_error(), None, "a lost collision is no error");
    assert_eq!(words(&driven.receive(update())), "update");
}

/// A session whose dialled connection was confirmed while the inbound one, which would win, waits for an OPEN.
fn contested() -> (Driven, ConnectionId, ConnectionId) {
    let mut driven = Driven::new(config(), epoch());
    let outbound = driven.dial();
    let inbound = driven.accept();
    driven.handle(Event::Received(outbound, open_bytes(&their_open())));
    assert_eq!(words(&driven.handle(Event::Received(outbound, keepalive()))), "");
    assert_eq!(driven.session.state(), State::OpenConfirm);
    (driven, outbound, inbound)
}

#[test]
fn a_confirmed_connection_gives_way_to_the_winner_of_the_collision() {
    let (mut driven, _, inbound) = contested();
    let actions = driven.handle(Event::Received(inbound, open_bytes(&their_open())));
    assert_eq!(words(&actions), "notify 6/7, close, keepalive");
    assert_eq!(words(&driven.handle(Event::Received(inbound, keepalive()))), "up");
}

#[test]
fn a_confirmed_connection_is_established_when_its_rival_ends_or_stays_silent_or_the_peer_decides() {
    let (mut driven, _, inbound) = contested();
    assert_eq!(words(&driven.handle(Event::Closed(inbound))), "up");

    let (mut driven, _, _) = contested();
    assert_eq!(words(&driven.advance(Duration::from_millis(999))), "");
    assert_eq!(words(&driven.advance(Duration::from_millis(1))), "notify 6/7, close, up");

    let (mut driven, outbound, _) = contested();
    let actions = driven.handle(Event::Received(outbound, update()));
    assert_eq!(words(&actions), "notify 6/7, close, up, update");
}

#[test]
fn a_confirmed_connection_may_be_stopped() {
    let (mut driven, _, _) = contested();
    assert_eq!(words(&driven.handle(Event::Stop(Stop::Silent))), "close, close");
}

#[test]
fn a_peer_that_restarted_gracefully_takes_its_session_over() {
    let mut theirs = their_open();
    theirs.capabilities.push(graceful());
    let mut driven = established(config(), &theirs);
    driven.now += Duration::from_secs(1);
    let inbound = driven.accept();
    let actions = driven.handle(Event::Received(inbound, open_bytes(&theirs)));
    assert_eq!(words(&actions), "close, down Replaced, keepalive");
    assert_eq!(words(&driven.receive(keepalive())), "up");
    assert_eq!(remaining(&driven), [connection::Direction::Inbound]);
}

#[test]
fn a_connection_that_crosses_the_end_of_the_handshake_does_not_replace_the_session() {
    let mut theirs = their_open();
    theirs.capabilities.push(graceful());
    let (driven, actions) = inbound_open_meets(State::Established, &theirs);
    assert_eq!(words(&actions), "notify 6/7, close");
    assert_eq!(driven.session.state(), State::Established);
}

#[test]
fn a_bad_open_does_not_replace_a_session() {
    let mut theirs = their_open();
    theirs.capabilities.push(graceful());
    let mut driven = established(config(), &theirs);
    let inbound = driven.accept();
    assert_eq!(
        words(&driven.handle(Event::Received(inbound, open_bytes(&open_of(OURS))))),
        "notify 2/2, close"
    );
    assert_eq!(driven.session.state(), State::Established);
}

#[test]
fn a_connection_from_before_the_session_does_not_replace_it() {
    let mut theirs = their_open();
    theirs.capabilities.push(graceful());
    let mut driven = Driven::new(config(), epoch());
    let outbound = driven.dial();
    let inbound = driven.accept();
    driven.now += Duration::from_millis(1);
    driven.handle(Event::Received(outbound, open_bytes(&theirs)));
    driven.handle(Event::Received(outbound, keepalive()));
    driven.handle(Event::Received(outbound, update()));
    assert_eq!(driven.session.state(), State::Established);
    assert!(driven.handle(Event::Received(inbound, open_bytes(&theirs))).is_empty());
}

/// Two speakers and the TCP between them: each packet takes its own time, those of one direction of one
/// connection stay in order.
struct Network {
    sides: [Driven; 2],
    rng: fastrand::Rng,
    longest_delay: Duration,
    now: Instant,
    /// By time of arrival and a number that keeps ties in order.
    packets: BTreeMap<(Instant, u64), Packet>,
    /// The same connection as each side calls it.
    ends: BTreeMap<(usize, ConnectionId), ConnectionId>,
    /// When the last packet to a side of a connection arrives.
    last_arrival: BTreeMap<(usize, ConnectionId), Instant>,
    sent: u64,
}

enum Packet {
    Syn { dialler: usize, id: ConnectionId },
    ToEnd { side: usize, id: ConnectionId, what: Segment },
}

enum Segment {
    SynAck,
    Data(Bytes),
    Fin,
}

impl Network {
    fn new(configs: [SessionConfig; 2], longest_delay: Duration, seed: u64) -> Self {
        let now = epoch();
        Self {
            sides: configs.map(|config| Driven::new(config, now)),
            rng: fastrand::Rng::with_seed(seed),
            longest_delay,
            now,
            packets: BTreeMap::new(),
            ends: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            sent: 0,
        }
    }

    fn delay(&mut self) -> Duration {
        self.longest_delay.mul_f64(self.rng.f64())
    }

    fn send(&mut self, at: Instant, packet: Packet) {
        self.sent += 1;
        self.packets.insert((at, self.sent), packet);
    }

    /// To the other end of a connection, after what was sent there before.
    fn send_to_other_end(&mut self, side: usize, id: ConnectionId, what: Segment) {
        let Some(&other) = self.ends.get(&(side, id)) else {
            return;
        };
        let end = (1 - side, other);
        let at = (self.now + self.delay()).max(self.last_arrival.get(&end).copied().unwrap_or(self.now));
        self.last_arrival.insert(end, at);
        self.send(at, Packet::ToEnd { side: end.0, id: end.1, what });
    }

    fn handle(&mut self, side: usize, event: Event) {
        self.sides[side].now = self.now;
        let actions = self.sides[side].handle(event);
        for action in actions {
            match action {
                Action::Connect(id) => {
                    let at = self.now + self.delay();
                    self.send(at, Packet::Syn { dialler: side, id });
                }
                Action::Transmit(id, bytes) => {
                    let length = bytes.len();
                    self.send_to_other_end(side, id, Segment::Data(bytes));
                    self.handle(side, Event::Written(id, length));
                }
                Action::Close(id) => {
                    self.send_to_other_end(side, id, Segment::Fin);
                    self.ends.remove(&(side, id));
                }
                Action::Up(..)
                | Action::Update(_)
                | Action::Refresh(_)
                | Action::Down { .. }
                | Action::Forget => {}
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Syn { dialler, id } => {
                let acceptor = 1 - dialler;
                let other = self.sides[acceptor].session.next_connection();
                self.ends.insert((dialler, id), other);
                self.ends.insert((acceptor, other), id);
                self.send_to_other_end(acceptor, other, Segment::SynAck);
                self.handle(acceptor, Event::Accepted(other));
            }
            // An end that was closed takes nothing any more.
            Packet::ToEnd { side, id, what } if self.sides[side].alive.contains(&id) => match what {
                Segment::SynAck => self.handle(side, Event::Connected(id)),
                Segment::Data(bytes) => self.handle(side, Event::Received(id, bytes)),
                Segment::Fin => {
                    self.ends.remove(&(side, id));
                    self.handle(side, Event::Closed(id));
                }
            },
            Packet::ToEnd { side, id, what } => {
                // Nobody is there: the sender learns that by a reset.
                if matches!(what, Segment::SynAck | Segment::Data(_)) {
                    self.ends.insert((side, id), self.other_end(side, id));
                    self.send_to_other_end(side, id, Segment::Fin);
                    self.ends.remove(&(side, id));
                }
            }
        }
    }

    fn other_end(&self, side: usize, id: ConnectionId) -> ConnectionId {
        let at_other = self.ends.iter().find(|((at, _), other)| *at == 1 - side && **other == id);
        at_other.map_or(ConnectionId(u64::MAX), |((_, other), _)| *other)
    }

    /// Runs until `end`: packets and deadlines in the order of their times.
    fn run_until(&mut self, end: Instant) {
        loop {
            let packet = self.packets.first_key_value().map(|(&(at, _), _)| at);
            let deadlines = [0, 1].map(|side| self.sides[side].session.poll_deadline());
            let Some(next) = deadlines.into_iter().chain([packet]).flatten().min().filter(|&at| at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if packet.is_some_and(|at| at <= next) {
                if let Some((_, packet)) = self.packets.pop_first() {
                    self.deliver(packet);
                }
            } else {
                let side = usize::from(deadlines[0].is_none_or(|at| at > next));
                self.handle(side, Event::Deadline { input_pending: false });
            }
        }
        self.now = end;
    }

    /// Whether both ends of one connection are Established, and nothing else is left.
    fn is_one_session(&self) -> bool {
        let [ours, theirs] = [0, 1].map(|side| match &self.sides[side].session.connections[..] {
            [connection] if connection.state() == State::Established => Some(connection.id),
            _ => None,
        });
        ours.is_some() && ours.and_then(|id| self.ends.get(&(0, id)).copied()) == theirs
    }
}

fn speakers(seed: u64, graceful_restart: Option<Duration>) -> [SessionConfig; 2] {
    let ours = SessionConfig { seed, graceful_restart, ..config() };
    // Every other pair has equal identifiers, so that the AS decides.
    let last = if seed.is_multiple_of(2) { 1 } else { 4 };
    let theirs = SessionConfig {
        local_as: THEIRS,
        router_id: router_id(last),
        seed: seed.wrapping_add(1_000_000),
        ..ours.clone()
    };
    [ours, theirs]
}

/// Both sides dial at nearly the same time, over a network on which a packet takes up to 40 ms.
#[test]
fn two_speakers_that_dial_each_other_end_up_with_one_session() {
    for graceful_restart in [None, Some(Duration::from_secs(30))] {
        for seed in 0..1000 {
            let longest_delay = Duration::from_millis([1, 10, 40][usize::try_from(seed % 3).unwrap()]);
            let mut network = Network::new(speakers(seed, graceful_restart), longest_delay, seed);
            network.handle(0, Event::Start);
            network.now += longest_delay.mul_f64(network.rng.f64());
            network.handle(1, Event::Start);
            let five_seconds = network.now + Duration::from_secs(5);
            network.run_until(five_seconds);
            assert!(
                network.is_one_session(),
                "seed {seed}, {graceful_restart:?}: {} and {}",
                network.sides[0].session.state(),
                network.sides[1].session.state()
            );
            let ups = network.sides.each_ref().map(|side| side.ups);
            match graceful_restart {
                None => assert_eq!(ups, [1, 1], "seed {seed}: a session was lost on the way"),
                // A connection that arrives late looks like a restart: it may replace the session once.
                Some(_) => assert!(ups.iter().all(|&ups| ups <= 2), "seed {seed}: {ups:?}"),
            }
            let later = network.now + Duration::from_secs(30);
            network.run_until(later);
            assert!(network.is_one_session(), "seed {seed}: the session did not stay");
        }
    }
}

/// One side loses everything it knew, as a ToR that rebooted does, without a word to the other.
#[test]
fn a_peer_that_was_restarted_is_found_again_within_five_seconds() {
    for seed in 0..200 {
        let [ours, theirs] = speakers(seed, Some(Duration::from_secs(30)));
        let mut network = Network::new([ours, theirs.clone()], Duration::from_millis(10), seed);
        network.handle(0, Event::Start);
        network.handle(1, Event::Start);
        let later = network.now + Duration::from_secs(20);
        network.run_until(later);
        assert!(network.is_one_session(), "seed {seed}");
        // Its connection numbers go on, so that the network does not mistake old packets for new ones.
        let mut reborn =
            Driven::new(SessionConfig { seed: seed + 7, inherited: Families::ALL, ..theirs }, network.now);
        for _ in 0..1000 {
            reborn.session.next_connection();
        }
        network.sides[1] = reborn;
        network.handle(1, Event::Start);
        let five_seconds = network.now + Duration::from_secs(5);
        network.run_until(five_seconds);
        assert!(network.is_one_session(), "seed {seed}: {}", network.sides[0].session.state());
    }
}
