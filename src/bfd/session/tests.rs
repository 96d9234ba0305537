//! One session against a scripted other end, then two of them over a cable that loses packets, in virtual time.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn parameters(interval_ms: u32, multiplier: u8) -> Parameters {
    Parameters { interval: MS * interval_ms, multiplier: NonZeroU8::new(multiplier).unwrap() }
}

fn number(number: u32) -> Discriminator {
    Discriminator::new(number).unwrap()
}

/// A packet of the other end, whose number is 2, at 50 ms and multiplier 3.
fn from_remote(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        answers_poll: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: number(2),
        your_discriminator: Some(number(1)),
        desired_min_tx: MS * 50,
        required_min_rx: MS * 50,
    }
}

fn drained(session: &mut Session) -> Vec<ControlPacket> {
    std::iter::from_fn(|| session.poll_transmit()).collect()
}

/// A session with what it said last, and the time.
struct Bench {
    session: Session,
    now: Instant,
    sent: Vec<(Instant, ControlPacket)>,
}

impl Bench {
    fn new(parameters: Parameters) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        let mut bench = Self { session: Session::new(number(1), parameters, 7, now), now, sent: Vec::new() };
        bench.collect();
        bench
    }

    /// Up, with the poll that follows answered, and nothing said yet that is looked at.
    fn up(parameters: Parameters) -> Self {
        let mut bench = Self::new(parameters);
        bench.hear(from_remote(State::Down));
        bench.hear(from_remote(State::Init));
        assert_eq!(bench.session.state(), State::Up);
        bench.hear(ControlPacket { answers_poll: true, ..from_remote(State::Up) });
        bench.sent.clear();
        bench
    }

    fn collect(&mut self) {
        self.sent.extend(drained(&mut self.session).into_iter().map(|packet| (self.now, packet)));
    }

    fn hear(&mut self, packet: ControlPacket) {
        self.session.handle_packet(&packet, self.now);
        self.collect();
    }

    /// Time passes; the other end says `packet` each `every`.
    fn pass(&mut self, time: Duration, heartbeat: Option<(Duration, ControlPacket)>) {
        let end = self.now + time;
        let mut next = heartbeat.map(|(every, _)| self.now + every);
        loop {
            let due = [self.session.poll_timeout(), next].into_iter().flatten().min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if let (Some((every, packet)), Some(at)) = (heartbeat, next)
                && at <= self.now
            {
                next = Some(at + every);
                self.hear(packet);
            }
            self.session.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// Times between the packets sent.
    fn gaps(&self) -> Vec<Duration> {
        self.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }

    fn last(&self) -> ControlPacket {
        self.sent.last().unwrap().1
    }
}

/// RFC 5880 section 6.8.6, every cell.
#[test]
fn the_state_machine_is_the_one_of_the_rfc() {
    use State::{AdminDown, Down, Init, Up};
    let table = [
        // Ours, then what becomes of it when the other end is AdminDown, Down, Init, Up.
        (AdminDown, [AdminDown; 4]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (local, row) in table {
        for (remote, expected) in [AdminDown, Down, Init, Up].into_iter().zip(row) {
            assert_eq!(next_state(local, remote).0, expected, "{local} hears {remote}");
        }
    }
    assert_eq!(next_state(Up, Down).1, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert_eq!(next_state(Up, AdminDown).1, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
}

#[test]
fn it_comes_up_in_three_steps_and_says_each_at_once() {
    let mut bench = Bench::new(parameters(50, 3));
    assert_eq!((bench.last().state, bench.last().your_discriminator), (State::Down, None));
    bench.hear(ControlPacket { your_discriminator: None, ..from_remote(State::Down) });
    assert_eq!((bench.last().state, bench.last().your_discriminator), (State::Init, Some(number(2))));
    bench.hear(from_remote(State::Init));
    assert_eq!(bench.last().state, State::Up);
    assert_eq!(bench.sent.len(), 3);
    let changes: Vec<_> =
        std::iter::from_fn(|| bench.session.poll_change()).map(|change| change.to).collect();
    assert_eq!(changes, [State::Init, State::Up]);
}

#[test]
fn it_is_slow_and_says_so_until_it_is_up() {
    let mut bench = Bench::new(parameters(50, 3));
    bench.pass(Duration::from_secs(60), None);
    assert!(bench.gaps().iter().all(|gap| *gap >= MS * 750 && *gap <= MS * 1000), "{:?}", bench.gaps());
    assert_eq!(bench.last().desired_min_tx, SLOW);
    assert_eq!(bench.last().required_min_rx, MS * 50);
}

#[test]
fn a_wish_for_longer_intervals_than_the_slow_one_is_kept() {
    let mut bench = Bench::new(parameters(3000, 3));
    bench.pass(Duration::from_secs(60), None);
    assert!(bench.gaps().iter().all(|gap| *gap >= MS * 2250 && *gap <= MS * 3000), "{:?}", bench.gaps());
}

/// RFC 5880 section 6.8.7: 75 to 100 percent, and 75 to 90 with a multiplier of 1.
#[test]
fn jitter_is_what_the_rfc_asks_for() {
    for (multiplier, least, most) in [(3, 37.5, 50.0), (1, 37.5, 45.0)] {
        let mut bench = Bench::up(parameters(50, multiplier));
        bench.pass(Duration::from_secs(60), Some((MS * 40, from_remote(State::Up))));
        let gaps: Vec<f64> = bench.gaps().iter().map(|gap| gap.as_secs_f64() * 1000.0).collect();
        assert!(gaps.len() > 1000);
        let within = |gap: &f64| *gap >= least - 0.001 && *gap <= most + 0.001;
        assert!(gaps.iter().all(within), "multiplier {multiplier}: {gaps:?}");
        // All of it is used, evenly.
        let mean = gaps.iter().sum::<f64>() / f64::from(u32::try_from(gaps.len()).unwrap());
        let middle = f64::midpoint(least, most);
        assert!((mean - middle).abs() < 0.5, "multiplier {multiplier}: mean {mean}");
    }
}

#[test]
fn going_up_asks_for_confirmation_of_the_faster_rate_and_uses_it_at_once() {
    let mut bench = Bench::new(parameters(50, 3));
    bench.hear(from_remote(State::Down));
    bench.hear(from_remote(State::Init));
    assert!(bench.last().poll);
    assert_eq!(bench.last().desired_min_tx, MS * 50);
    assert_eq!(bench.session.intervals().transmit, Some(MS * 50));
    bench.pass(MS * 200, Some((MS * 40, from_remote(State::Up))));
    assert!(bench.last().poll, "until it is answered");
    bench.hear(ControlPacket { answers_poll: true, ..from_remote(State::Up) });
    bench.pass(MS * 200, Some((MS * 40, from_remote(State::Up))));
    assert!(!bench.last().poll);
}

#[test]
fn a_poll_is_answered_at_once_whatever_the_state() {
    for mut bench in [Bench::new(parameters(50, 3)), Bench::up(parameters(50, 3))] {
        let state = if bench.session.state() == State::Up { State::Up } else { State::Down };
        let before = bench.sent.len();
        bench.hear(ControlPacket { poll: true, ..from_remote(state) });
        let answers = bench.sent[before..].iter().filter(|(_, packet)| packet.answers_poll);
        assert_eq!(answers.clone().count(), 1, "{state}");
        assert!(answers.clone().all(|(_, packet)| !packet.poll));
    }
}

#[test]
fn silence_for_the_detection_time_is_the_end_and_nothing_shorter() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.pass(MS * 149, None);
    assert_eq!(bench.session.state(), State::Up);
    bench.pass(MS, None);
    assert_eq!(bench.session.state(), State::Down);
    assert_eq!(bench.session.diagnostic(), Diagnostic::DETECTION_TIME_EXPIRED);
    let last = bench.last();
    assert_eq!((last.state, last.your_discriminator), (State::Down, None));
    assert_eq!(last.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!(bench.session.intervals().transmit, Some(SLOW));
}

/// RFC 5880 section 6.8.4: the other end's multiplier times the greater of both intervals.
#[test]
fn the_detection_time_follows_the_other_end() {
    let mut bench = Bench::up(parameters(50, 3));
    let detection = |bench: &Bench| bench.session.intervals().detection;
    assert_eq!(detection(&bench), Some(MS * 150));
    bench.hear(ControlPacket { desired_min_tx: MS * 200, ..from_remote(State::Up) });
    assert_eq!(detection(&bench), Some(MS * 600));
    bench.hear(ControlPacket { multiplier: NonZeroU8::new(5).unwrap(), ..from_remote(State::Up) });
    assert_eq!(detection(&bench), Some(MS * 250));
    bench.hear(ControlPacket { desired_min_tx: MS * 10, ..from_remote(State::Up) });
    assert_eq!(detection(&bench), Some(MS * 150));
}

#[test]
fn we_send_no_faster_than_the_other_end_can_take() {
    let mut bench = Bench::up(parameters(50, 3));
    let slow_taker = ControlPacket { required_min_rx: MS * 400, ..from_remote(State::Up) };
    bench.hear(slow_taker);
    bench.sent.clear();
    bench.pass(Duration::from_secs(10), Some((MS * 40, slow_taker)));
    assert!(bench.gaps().iter().all(|gap| *gap >= MS * 300 && *gap <= MS * 400), "{:?}", bench.gaps());
}

#[test]
fn an_end_that_wants_no_packets_gets_none_until_it_does() {
    for quiet in [
        ControlPacket { required_min_rx: Duration::ZERO, ..from_remote(State::Up) },
        ControlPacket { demand: true, ..from_remote(State::Up) },
    ] {
        let mut bench = Bench::up(parameters(50, 3));
        bench.hear(quiet);
        bench.sent.clear();
        bench.pass(Duration::from_secs(5), Some((MS * 40, quiet)));
        assert_eq!(bench.sent, []);
        bench.pass(MS * 500, Some((MS * 40, from_remote(State::Up))));
        assert!(bench.sent.len() >= 9, "{}", bench.sent.len());
    }
}

/// RFC 5880 section 6.8.3.
#[test]
fn slower_intervals_wait_for_the_other_end_to_confirm() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.configure(parameters(300, 3), bench.now);
    bench.collect();
    assert!(bench.last().poll);
    assert_eq!(bench.last().desired_min_tx, MS * 300);
    assert_eq!(bench.session.intervals().transmit, Some(MS * 50), "sends as before");
    assert_eq!(bench.session.intervals().detection, Some(MS * 900), "and expects less at once");
    bench.hear(ControlPacket { answers_poll: true, ..from_remote(State::Up) });
    assert_eq!(bench.session.intervals().transmit, Some(MS * 300));
    assert_eq!(bench.session.state(), State::Up);
}

#[test]
fn faster_intervals_are_expected_when_the_other_end_has_confirmed() {
    let mut bench = Bench::up(parameters(300, 3));
    bench.session.configure(parameters(50, 3), bench.now);
    bench.collect();
    assert!(bench.last().poll);
    assert_eq!(bench.session.intervals().transmit, Some(MS * 50), "sends faster at once");
    assert_eq!(bench.session.intervals().detection, Some(MS * 900), "and expects what it did");
    bench.hear(ControlPacket { answers_poll: true, ..from_remote(State::Up) });
    assert_eq!(bench.session.intervals().detection, Some(MS * 150));
}

/// An answer may be to the question before.
#[test]
fn timers_that_change_while_they_are_being_confirmed_are_asked_about_again() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.configure(parameters(300, 3), bench.now);
    bench.session.configure(parameters(200, 3), bench.now);
    let answer = ControlPacket { answers_poll: true, ..from_remote(State::Up) };
    bench.hear(answer);
    assert_eq!(bench.session.intervals().transmit, Some(MS * 50));
    bench.pass(MS * 50, None);
    assert!(bench.last().poll);
    bench.hear(answer);
    assert_eq!(bench.session.intervals().transmit, Some(MS * 200));
    bench.pass(MS * 200, Some((MS * 40, from_remote(State::Up))));
    assert!(!bench.last().poll);
}

#[test]
fn a_session_held_down_says_so_and_hears_nothing() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.hold_down(bench.now);
    bench.collect();
    let last = bench.last();
    assert_eq!((last.state, last.diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(last.your_discriminator, Some(number(2)), "the other end has to find its session");
    bench.hear(from_remote(State::Down));
    assert_eq!(bench.session.state(), State::AdminDown);
}

/// Two ends over a cable that takes 1 ms and loses some packets.
struct Cable {
    now: Instant,
    ends: [Session; 2],
    under_way: VecDeque<(Instant, usize, ControlPacket)>,
    random: fastrand::Rng,
    /// Of 100, each way.
    loss: [u32; 2],
    changes: Vec<(usize, Change)>,
}

impl Cable {
    fn new(parameters: [Parameters; 2], seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        let end = |index: usize| {
            let discriminator = number(u32::try_from(index).unwrap() + 1);
            Session::new(discriminator, parameters[index], seed ^ u64::from(discriminator.0.get()), now)
        };
        Self {
            now,
            ends: [end(0), end(1)],
            under_way: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
            loss: [0, 0],
            changes: Vec::new(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for index in 0..2 {
                while let Some(packet) = self.ends[index].poll_transmit() {
                    if self.random.u32(0..100) >= self.loss[index] {
                        // What is said is read back from octets, as on a cable.
                        let packet = super::super::packet::decode(&packet.encode()).unwrap();
                        self.under_way.push_back((self.now + MS, 1 - index, packet));
                    }
                }
                while let Some(change) = self.ends[index].poll_change() {
                    self.changes.push((index, change));
                }
            }
            let arrival = self.under_way.front().map(|(at, ..)| *at);
            let timers = self.ends.iter().filter_map(Session::poll_timeout);
            let Some(at) = timers.chain(arrival).min().filter(|at| *at <= end) else { break };
            assert!(at >= self.now, "time goes back");
            self.now = at;
            while let Some((_, to, packet)) = self.under_way.pop_front_if(|(at, ..)| *at <= self.now) {
                self.ends[to].handle_packet(&packet, self.now);
            }
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

proptest! {
    /// Two ends of any parameters find each other, agree, stay up while nothing is lost, notice silence within the
    /// time that they have agreed on, even when it is silent in one direction only, and find each other again.
    #[test]
    fn two_ends_do_what_they_are_for(
        intervals in (10_u32..500, 10_u32..500),
        multipliers in (1_u8..10, 1_u8..10),
        one_way in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let parameters = [parameters(intervals.0, multipliers.0), parameters(intervals.1, multipliers.1)];
        let mut cable = Cable::new(parameters, seed);
        cable.run(Duration::from_secs(3));
        prop_assert_eq!(cable.states(), [State::Up; 2]);
        let slower = MS * intervals.0.max(intervals.1);
        for (index, end) in cable.ends.iter().enumerate() {
            prop_assert_eq!(end.intervals().transmit, Some(slower));
            let detection = slower * u32::from(parameters[1 - index].multiplier.get());
            prop_assert_eq!(end.intervals().detection, Some(detection));
        }
        cable.changes.clear();
        cable.run(Duration::from_secs(60));
        prop_assert_eq!(&cable.changes, &[], "nothing was lost");

        cable.loss = if one_way { [100, 0] } else { [100, 100] };
        let longest = cable.ends.iter().filter_map(|end| end.intervals().detection).max().unwrap();
        cable.run(longest + MS * 2);
        prop_assert!(cable.states().iter().all(|state| *state != State::Up), "{:?}", cable.states());

        cable.loss = [0, 0];
        // A slow packet of either end after the other has forgotten it.
        cable.run(longest + Duration::from_secs(4));
        prop_assert_eq!(cable.states(), [State::Up; 2]);
    }

    /// Whatever is lost and whatever is reconfigured, both ends are up soon after it is over, with what was
    /// configured last.
    #[test]
    fn two_ends_recover_from_any_loss(
        steps in proptest::collection::vec((0_u32..100, 0_u32..100, 10_u32..400, 0_usize..2), 1..12),
        seed in any::<u64>(),
    ) {
        let mut cable = Cable::new([parameters(50, 3); 2], seed);
        let mut configured = [50, 50];
        for (there, back, interval, index) in steps {
            cable.loss = [there, back];
            configured[index] = interval;
            let now = cable.now;
            cable.ends[index].configure(parameters(interval, 3), now);
            cable.run(Duration::from_millis(700));
        }
        cable.loss = [0, 0];
        cable.run(Duration::from_secs(8));
        prop_assert_eq!(cable.states(), [State::Up; 2]);
        let slower = MS * configured[0].max(configured[1]);
        for end in &cable.ends {
            prop_assert_eq!(end.intervals().transmit, Some(slower));
            prop_assert_eq!(end.intervals().detection, Some(slower * 3));
        }
    }
}

/// One packet in ten lost is nothing that three intervals of patience do not cover most of the time; with a multiplier
/// of 10 it is nothing at all.
#[test]
fn a_larger_multiplier_rides_out_loss() {
    let mut cable = Cable::new([parameters(50, 10); 2], 5880);
    cable.run(Duration::from_secs(3));
    cable.changes.clear();
    cable.loss = [10, 10];
    cable.run(Duration::from_secs(600));
    assert_eq!(cable.changes, []);
}
