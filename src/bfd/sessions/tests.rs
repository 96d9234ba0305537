//! Which packet is whose, and what is a failure.

use std::num::NonZeroU8;

use proptest::prelude::*;

use super::super::packet::tests::any_packet;
use super::*;

const MS: Duration = Duration::from_millis(1);
const UPLINK: InterfaceIndex = InterfaceIndex(7);
const POD: InterfaceIndex = InterfaceIndex(8);

fn tor() -> Gateway {
    Gateway { address: "fe80::1".parse().unwrap(), interface: Some(UPLINK) }
}

fn peer() -> Peer {
    Peer {
        name: "ens3".to_owned(),
        local: None,
        interface: Some(UPLINK),
        parameters: Parameters { interval: MS * 50, multiplier: NonZeroU8::new(3).unwrap() },
        administration: Administration::Enabled,
        restart: Restart::None,
    }
}

/// The machine with one neighbor, and that neighbor's next packet.
struct World {
    sessions: Sessions,
    now: Instant,
    packet: ControlPacket,
}

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        let mut sessions = Sessions::new(1);
        sessions.handle_peers(&Peers::from([(tor(), peer())]), now);
        let packet = ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Down,
            poll: false,
            answers_poll: false,
            control_plane_independent: false,
            demand: false,
            multiplier: NonZeroU8::new(3).unwrap(),
            my_discriminator: Discriminator::new(99).unwrap(),
            your_discriminator: None,
            desired_min_tx: MS * 50,
            required_min_rx: MS * 50,
        };
        Self { sessions, now, packet }
    }

    fn up() -> Self {
        Self::up_with(&peer())
    }

    fn up_with(peer: &Peer) -> Self {
        let mut world = Self::new();
        world.set_peers(&[(tor(), peer.clone())]);
        world.hear(State::Down).unwrap();
        world.packet.your_discriminator = Some(world.status().discriminator);
        world.hear(State::Init).unwrap();
        assert_eq!(world.status().state, State::Up);
        assert_eq!(world.standing(), Standing { health: Health::Alive, failures: 0 });
        while world.sessions.poll_transmit().is_some() {}
        world
    }

    fn hear(&mut self, state: State) -> Result<(), Discard> {
        let octets = ControlPacket { state, ..self.packet }.encode();
        self.hear_octets(&octets, "fe80::1", UPLINK, HOP_LIMIT)
    }

    fn hear_octets(
        &mut self,
        octets: &[u8],
        source: &str,
        interface: InterfaceIndex,
        hop_limit: u8,
    ) -> Result<(), Discard> {
        let received = Received { source: source.parse().unwrap(), interface, hop_limit, octets };
        self.sessions.handle_received(received, self.now)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.sessions.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.sessions.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn set_peers(&mut self, peers: &[(Gateway, Peer)]) {
        self.sessions.handle_peers(&peers.iter().cloned().collect(), self.now);
    }

    fn status(&self) -> SessionStatus {
        self.sessions.status().sessions.remove(0)
    }

    fn standing(&self) -> Standing {
        let standings = self.sessions.standings();
        assert!(self.sessions.are_told(&standings) && !self.sessions.are_told(&Standings::new()));
        standings[&tor()]
    }

    fn said(&mut self) -> Vec<ControlPacket> {
        std::iter::from_fn(|| self.sessions.poll_transmit())
            .map(|transmit| packet::decode(&transmit.octets).unwrap())
            .collect()
    }
}

#[test]
fn only_the_neighbor_on_its_link_is_heard() {
    let mut world = World::new();
    let down = world.packet.encode();
    assert_eq!(world.hear_octets(&down, "fe80::1", UPLINK, 254), Err(Discard::HopLimit(254)));
    assert_eq!(world.hear_octets(&down, "fe80::2", UPLINK, 255), Err(Discard::NoSession));
    assert_eq!(world.hear_octets(&down, "fe80::1", POD, 255), Err(Discard::NoSession));
    let discards = world.sessions.status().discards;
    assert_eq!((discards.hop_limit, discards.no_session), (1, 2));
    assert_eq!(world.status().state, State::Down);
    assert_eq!(world.hear_octets(&down, "fe80::1", UPLINK, 255), Ok(()));
    assert_eq!(world.status().state, State::Init);
}

#[test]
fn a_discriminator_has_to_be_right_and_is_not_enough() {
    let mut world = World::up();
    let number = world.packet.your_discriminator;
    world.packet.your_discriminator = Discriminator::new(12345);
    assert_eq!(world.hear(State::Down), Err(Discard::NoSession));
    world.packet.your_discriminator = number;
    let down = ControlPacket { state: State::Down, ..world.packet }.encode();
    assert_eq!(world.hear_octets(&down, "fe80::1", POD, 255), Err(Discard::NoSession));
    assert_eq!(world.hear_octets(&down, "fe80::3", UPLINK, 255), Err(Discard::NoSession));
    assert_eq!(world.status().state, State::Up);
    // A neighbor that has begun anew does not know it yet, and is believed.
    world.packet.your_discriminator = None;
    assert_eq!(world.hear(State::Down), Ok(()));
    assert_eq!(world.standing(), Standing { health: Health::Failed, failures: 1 });
}

#[test]
fn what_is_malformed_is_counted_and_changes_nothing() {
    let mut world = World::up();
    let mut octets = world.packet.encode();
    octets[2] = 0;
    assert!(matches!(world.hear_octets(&octets, "fe80::1", UPLINK, 255), Err(Discard::Malformed(_))));
    let mut authenticated = [world.packet.encode().as_slice(), &[1, 2]].concat();
    (authenticated[1], authenticated[3]) = (authenticated[1] | 0x04, 26);
    assert!(world.hear_octets(&authenticated, "fe80::1", UPLINK, 255).is_err());
    let discards = world.sessions.status().discards;
    assert_eq!((discards.malformed, discards.authenticated), (1, 1));
    assert_eq!(world.status().state, State::Up);
}

#[test]
fn silence_is_a_failure_until_it_is_up_again() {
    let mut world = World::up();
    world.pass(MS * 151);
    assert_eq!(world.standing(), Standing { health: Health::Failed, failures: 1 });
    world.packet.your_discriminator = None;
    world.hear(State::Down).unwrap();
    assert_eq!(world.standing().health, Health::Failed, "not yet");
    world.packet.your_discriminator = Some(world.status().discriminator);
    world.hear(State::Init).unwrap();
    assert_eq!(world.standing(), Standing { health: Health::Alive, failures: 1 });
    assert_eq!(world.status().times_up, 2);
}

#[test]
fn a_neighbor_that_never_was_up_has_not_failed() {
    let mut world = World::new();
    world.pass(Duration::from_secs(300));
    world.hear(State::Down).unwrap();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 0 });
}

/// RFC 5882 sections 3.2 and 4.2.
#[test]
fn what_the_neighbors_administrator_does_is_no_failure() {
    let mut world = World::up();
    world.hear(State::AdminDown).unwrap();
    assert_eq!(world.status().state, State::Down);
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 0 });
    // And lifts one that was.
    let mut world = World::up();
    world.pass(MS * 151);
    world.packet.your_discriminator = None;
    world.hear(State::AdminDown).unwrap();
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 1 });
}

#[test]
fn a_failed_neighbor_that_stays_silent_is_given_up_and_one_that_speaks_is_not() {
    let mut world = World::up();
    world.pass(MS * 151);
    world.pass(GIVEN_UP_AFTER - MS * 2);
    assert_eq!(world.standing().health, Health::Failed);
    world.pass(MS * 4);
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 1 });

    let mut world = World::up();
    world.pass(MS * 151);
    for _ in 0..100 {
        // It hears nothing of us: a link that is broken one way.
        world.packet.your_discriminator = None;
        world.hear(State::Down).unwrap();
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.standing().health, Health::Failed);
}

/// RFC 5882 section 4.3.
#[test]
fn during_a_graceful_restart_the_c_bit_decides() {
    for (independent, expected) in [
        (false, Standing { health: Health::Unknown, failures: 0 }),
        (true, Standing { health: Health::Failed, failures: 1 }),
    ] {
        let mut world = World::up();
        world.packet.control_plane_independent = independent;
        world.hear(State::Up).unwrap();
        world.set_peers(&[(tor(), Peer { restart: Restart::Graceful, ..peer() })]);
        world.pass(MS * 151);
        assert_eq!(world.standing(), expected, "C is {independent}");
    }
}

/// The word of its restart may come by another way, and a little later.
#[test]
fn a_neighbor_that_says_down_may_be_about_to_restart() {
    let agreed = Peer { restart: Restart::Agreed, ..peer() };
    let mut world = World::up_with(&agreed);
    world.hear(State::Down).unwrap();
    world.pass(BENEFIT_OF_DOUBT / 2);
    assert_eq!(world.standing(), Standing { health: Health::Alive, failures: 0 });
    world.set_peers(&[(tor(), Peer { restart: Restart::Graceful, ..peer() })]);
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 0 });
    world.pass(BENEFIT_OF_DOUBT);
    assert_eq!(world.standing(), Standing { health: Health::Unknown, failures: 0 });

    let mut world = World::up_with(&agreed);
    world.hear(State::Down).unwrap();
    world.pass(BENEFIT_OF_DOUBT);
    assert_eq!(world.standing(), Standing { health: Health::Failed, failures: 1 });

    // The session has ended otherwise: there is nothing to wait for.
    let mut world = World::up_with(&agreed);
    world.hear(State::Down).unwrap();
    world.set_peers(&[(tor(), peer())]);
    assert_eq!(world.standing(), Standing { health: Health::Failed, failures: 1 });

    // Back before it was decided: no next hop is lost for it, and still the session has to end.
    let mut world = World::up_with(&agreed);
    world.hear(State::Down).unwrap();
    world.hear(State::Down).unwrap();
    world.hear(State::Up).unwrap();
    assert_eq!(world.standing(), Standing { health: Health::Alive, failures: 1 });
}

/// Packets are lost while it is waited for what cannot come.
#[test]
fn nothing_else_delays_a_failure() {
    type Happening = fn(&mut World);
    let down: Happening = |world| world.hear(State::Down).unwrap();
    let silence: Happening = |world| world.pass(MS * 150);
    let table = [
        ("no graceful restart", Restart::None, false, Diagnostic::NONE, down),
        ("no graceful restart, silence", Restart::None, false, Diagnostic::NONE, silence),
        ("silence", Restart::Agreed, false, Diagnostic::NONE, silence),
        ("it hears nothing", Restart::Agreed, false, Diagnostic::DETECTION_TIME_EXPIRED, down),
        ("its control plane is another", Restart::Agreed, true, Diagnostic::NONE, down),
        ("its control plane is another, and restarts", Restart::Graceful, true, Diagnostic::NONE, down),
    ];
    for (what, restart, independent, diagnostic, happens) in table {
        let mut world = World::up_with(&Peer { restart, ..peer() });
        world.packet.control_plane_independent = independent;
        world.hear(State::Up).unwrap();
        world.packet.diagnostic = diagnostic;
        happens(&mut world);
        assert_eq!(world.standing(), Standing { health: Health::Failed, failures: 1 }, "{what}");
    }
}

#[test]
fn another_interval_is_no_end_and_another_link_is() {
    let mut world = World::up();
    let number = world.status().discriminator;
    let parameters = Parameters { interval: MS * 100, ..peer().parameters };
    world.set_peers(&[(tor(), Peer { parameters, ..peer() })]);
    assert_eq!((world.status().state, world.status().discriminator), (State::Up, number));
    assert!(world.said().iter().any(|packet| packet.poll && packet.desired_min_tx == MS * 100));
    world.set_peers(&[(tor(), Peer { local: "fe80::aa".parse().ok(), parameters, ..peer() })]);
    assert_eq!(world.status().state, State::Down);
    assert_ne!(world.status().discriminator, number);
}

#[test]
fn who_is_no_longer_watched_is_told_and_then_forgotten() {
    let mut world = World::up();
    let number = world.status().discriminator;
    world.set_peers(&[]);
    assert!(world.sessions.standings().is_empty());
    let said = world.said();
    assert_eq!(said.iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::AdminDown]);
    assert!(world.sessions.has(number));
    world.pass(FAREWELL);
    assert!(world.said().len() >= 2);
    assert!(!world.sessions.has(number));
    assert_eq!(world.sessions.poll_timeout(), None);
}

/// Two sessions with one neighbor would contradict each other.
#[test]
fn who_is_watched_again_hears_of_the_new_session_alone() {
    let mut world = World::up();
    world.set_peers(&[]);
    world.said();
    world.set_peers(&[(tor(), peer())]);
    world.pass(FAREWELL * 2);
    assert!(world.said().iter().all(|packet| packet.state == State::Down));
}

/// RFC 5880 section 6.8.16 and RFC 5882 section 3.2.
#[test]
fn a_neighbor_that_we_hold_down_has_not_failed_and_comes_back() {
    let held = Peer { administration: Administration::Disabled, ..peer() };
    for was_failed in [false, true] {
        let mut world = World::up();
        if was_failed {
            world.pass(MS * 151);
            assert_eq!(world.standing().health, Health::Failed);
        }
        let failures = u64::from(was_failed);
        world.said();
        world.set_peers(&[(tor(), held.clone())]);
        assert_eq!(world.standing(), Standing { health: Health::Unknown, failures });
        assert_eq!(
            (world.status().state, world.status().diagnostic),
            (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN)
        );
        world.hear(State::Up).unwrap();
        world.pass(Duration::from_secs(100));
        assert_eq!(world.standing(), Standing { health: Health::Unknown, failures });
        let said = world.said();
        assert!(
            said.len() >= 100 && said.iter().all(|packet| packet.state == State::AdminDown),
            "{}",
            said.len()
        );

        world.set_peers(&[(tor(), peer())]);
        world.packet.your_discriminator = None;
        world.hear(State::Down).unwrap();
        world.packet.your_discriminator = Some(world.status().discriminator);
        world.hear(State::Init).unwrap();
        assert_eq!(world.standing(), Standing { health: Health::Alive, failures });
    }
    let mut world = World::new();
    world.set_peers(&[]);
    world.pass(FAREWELL);
    world.said();
    world.set_peers(&[(tor(), held)]);
    assert!(world.said().iter().all(|packet| packet.state == State::AdminDown), "from the beginning");
}

#[test]
fn a_stop_is_told_to_everybody() {
    let mut world = World::up();
    world.sessions.handle_stop(world.now);
    assert_eq!(world.said().iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::AdminDown]);
}

/// RFC 5881 section 5, and RFC 5880 section 6.8.6 in its order: TTL, octets, session.
#[test]
fn a_packet_is_discarded_for_the_first_rule_that_it_breaks() {
    let mut world = World::new();
    let good = world.packet.encode();
    let with = |at: usize, value: u8| {
        let mut octets = good;
        octets[at] = value;
        octets.to_vec()
    };
    let unknown = ControlPacket { your_discriminator: Discriminator::new(12345), ..world.packet };
    let table: [(&str, Vec<u8>, u8, Discard); 8] = [
        ("TTL 254", good.to_vec(), 254, Discard::HopLimit(254)),
        ("TTL 0", good.to_vec(), 0, Discard::HopLimit(0)),
        ("TTL 1, and nonsense", vec![0xff], 1, Discard::HopLimit(1)),
        ("version", with(0, 0x40), 255, Discard::Malformed(DecodeError::Version(2))),
        ("length", with(3, 23), 255, Discard::Malformed(DecodeError::Length(23))),
        ("multiplier", with(2, 0), 255, Discard::Malformed(DecodeError::Multiplier)),
        ("M", with(1, 0x41), 255, Discard::Malformed(DecodeError::Multipoint)),
        ("no session", unknown.encode().to_vec(), 255, Discard::NoSession),
    ];
    for (what, octets, hop_limit, expected) in table {
        assert_eq!(world.hear_octets(&octets, "fe80::1", UPLINK, hop_limit), Err(expected), "{what}");
        assert_eq!((world.status().state, world.status().remote), (State::Down, None), "{what}");
    }
    assert_eq!(
        world.sessions.status().discards,
        Discards { hop_limit: 3, malformed: 4, authenticated: 0, no_session: 1 }
    );
    assert_eq!(world.hear_octets(&good, "fe80::1", UPLINK, 255), Ok(()));
}

/// Datagrams, most of them from the neighbor, and some of those valid.
fn any_received() -> impl Strategy<Value = (Vec<u8>, &'static str, InterfaceIndex, u8)> {
    let octets = prop_oneof![
        any_packet().prop_map(|packet| packet.encode().to_vec()),
        (any_packet(), 0..LENGTH, any::<u8>()).prop_map(|(packet, at, value)| {
            let mut octets = packet.encode();
            octets[at] = value;
            octets.to_vec()
        }),
        proptest::collection::vec(any::<u8>(), 0..80),
    ];
    let source = prop_oneof![9 => Just("fe80::1"), 1 => Just("fe80::2")];
    let interface = prop_oneof![9 => Just(UPLINK), 1 => Just(POD)];
    let hop_limit = prop_oneof![9 => Just(255), 1 => any::<u8>()];
    (octets, source, interface, hop_limit)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each datagram is somebody's or is counted, and what the neighbor's health is follows from states alone.
    #[test]
    fn whatever_arrives_is_taken_or_counted(
        arrivals in proptest::collection::vec((any_received(), any::<bool>(), 0_u64..400), 0..60),
        restart in prop_oneof![Just(Restart::None), Just(Restart::Agreed), Just(Restart::Graceful)],
    ) {
        let mut world = World::up_with(&Peer { restart, ..peer() });
        let at_first = world.status().counters.received;
        let count = u64::try_from(arrivals.len()).unwrap();
        let mut failures = 0;
        for ((mut octets, source, interface, hop_limit), is_named, pause) in arrivals {
            if let (true, Some(yours)) = (is_named, octets.get_mut(8..12)) {
                yours.copy_from_slice(&world.status().discriminator.0.get().to_be_bytes());
            }
            let _ = world.hear_octets(&octets, source, interface, hop_limit);
            world.pass(MS * u32::try_from(pause).unwrap());
            let standing = world.standing();
            prop_assert!(standing.failures >= failures && standing.failures <= failures + 2);
            failures = standing.failures;
            match world.status().state {
                State::Up => prop_assert_eq!(standing.health, Health::Alive),
                State::AdminDown => prop_assert!(false, "nobody asked for it"),
                State::Down | State::Init => {}
            }
            world.said();
        }
        let Discards { hop_limit, malformed, authenticated, no_session } = world.sessions.status().discards;
        let taken = world.status().counters.received - at_first;
        prop_assert_eq!(taken + hop_limit + malformed + authenticated + no_session, count);
    }
}

/// What `thread` says of itself: nobody who holds the allocator's lock holds up a packet.
#[test]
fn a_session_that_goes_on_takes_no_memory() {
    let mut world = World::up();
    let up = ControlPacket { state: State::Up, ..world.packet }.encode();
    let told = world.sessions.standings();
    let turn = |world: &mut World| {
        world.hear_octets(&up, "fe80::1", UPLINK, HOP_LIMIT).unwrap();
        world.pass(MS * 40);
        assert!(world.sessions.are_told(&told));
        std::iter::from_fn(|| world.sessions.poll_transmit()).count()
    };
    // The room for what is sent.
    for _ in 0..10 {
        turn(&mut world);
    }
    let before = super::super::allocations::taken();
    let sent: usize = (0..1000).map(|_| turn(&mut world)).sum();
    assert_eq!(super::super::allocations::taken(), before);
    assert!(sent > 500, "{sent}");
}
