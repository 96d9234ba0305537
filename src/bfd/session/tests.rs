//! One session against a scripted other end, in virtual time.

mod anything;
mod cable;

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

/// The end of a poll, said by an end that is Up.
fn answer() -> ControlPacket {
    ControlPacket { answers_poll: true, ..from_remote(State::Up) }
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
        let session = Session::new(number(1), parameters, Administration::Enabled, 7, now);
        let mut bench = Self { session, now, sent: Vec::new() };
        bench.collect();
        bench
    }

    /// Up, with the poll that follows answered, and nothing said yet that is looked at.
    fn up(parameters: Parameters) -> Self {
        let mut bench = Self::new(parameters);
        bench.hear(from_remote(State::Down));
        bench.hear(from_remote(State::Init));
        assert_eq!(bench.session.state(), State::Up);
        bench.hear(answer());
        bench.hear(from_remote(State::Up));
        bench.sent.clear();
        bench
    }

    /// In a state, with the other end known and nothing asked.
    fn in_state(state: State, parameters: Parameters) -> Self {
        let mut bench = match state {
            State::Up => return Self::up(parameters),
            State::Down | State::Init => Self::new(parameters),
            State::AdminDown => {
                let mut bench = Self::new(parameters);
                bench.session = Session::new(number(1), parameters, Administration::Disabled, 7, bench.now);
                bench.sent.clear();
                bench
            }
        };
        let heard = match state {
            State::Down => from_remote(State::AdminDown),
            State::AdminDown | State::Init | State::Up => from_remote(State::Down),
        };
        bench.hear(heard);
        assert_eq!(bench.session.state(), state);
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

/// RFC 5880 section 6.8.3: what waits for the other end to confirm it, and what does not.
#[test]
fn each_change_of_a_timer_is_confirmed_and_counts_when_it_may() {
    // State; interval before and after; transmit interval and Detection Time before, during and after the poll, in ms.
    let table = [
        // Desired Min TX grows: sent as before. Required Min RX grows: expects less at once.
        (State::Up, 50, 300, [(50, 150), (50, 900), (300, 900)]),
        // Desired Min TX shrinks: sent faster at once. Required Min RX shrinks: expects what it did.
        (State::Up, 300, 50, [(300, 900), (50, 900), (50, 150)]),
        // Not Up there is nothing to lose, and the slow rate is kept.
        (State::Init, 50, 300, [(1000, 150), (1000, 900), (1000, 900)]),
        (State::Init, 3000, 50, [(3000, 9000), (1000, 150), (1000, 150)]),
        (State::Down, 3000, 50, [(3000, 9000), (1000, 150), (1000, 150)]),
        (State::AdminDown, 50, 2000, [(1000, 150), (2000, 6000), (2000, 6000)]),
    ];
    for (state, before, after, expected) in table {
        let what = format!("{state}, {before} to {after} ms");
        let mut bench = Bench::in_state(state, parameters(before, 3));
        let heard = bench.session.remote().copied().unwrap();
        let timers = |bench: &Bench| {
            let Intervals { transmit, detection } = bench.session.intervals();
            (transmit.unwrap().as_millis(), detection.unwrap().as_millis())
        };
        let [at_first, asking, confirmed] = expected;
        assert_eq!(timers(&bench), at_first, "{what}");
        bench.session.configure(parameters(after, 3), bench.now);
        bench.collect();
        let last = bench.last();
        assert!(last.poll && !last.answers_poll, "{what}");
        assert_eq!(last.required_min_rx, MS * after, "{what}: announced at once");
        assert_eq!(timers(&bench), asking, "{what}");
        bench.hear(ControlPacket { answers_poll: true, ..heard });
        assert_eq!(timers(&bench), confirmed, "{what}");
        assert_eq!(bench.session.state(), state, "{what}");
        bench.hear(heard);
        bench.pass(MS * 2000, Some((MS * 40, heard)));
        assert!(!bench.last().poll, "{what}: the poll is over");
    }
}

#[test]
fn a_change_of_state_that_changes_the_rate_is_confirmed_too() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.hear(from_remote(State::Down));
    assert_eq!((bench.last().state, bench.last().desired_min_tx), (State::Down, SLOW));
    assert!(bench.last().poll);
    // Where nobody is at the other end, nobody is asked, and whoever comes next is not either.
    let mut bench = Bench::up(parameters(50, 3));
    bench.pass(MS * 150, None);
    assert_eq!((bench.last().state, bench.last().desired_min_tx), (State::Down, SLOW));
    assert!(!bench.last().poll);
    bench.hear(from_remote(State::Down));
    assert_eq!((bench.last().state, bench.last().poll), (State::Init, false));
}

/// RFC 5880 section 6.8.4: silence is measured by what was expected before the change was confirmed.
#[test]
fn a_poll_that_nobody_answers_does_not_hide_silence() {
    for (interval, old, new) in [(300, 150, 900), (20, 150, 60)] {
        let mut bench = Bench::up(parameters(50, 3));
        bench.session.configure(parameters(interval, 3), bench.now);
        let longest = MS * old.max(new);
        bench.pass(longest - MS, None);
        assert_eq!(bench.session.state(), State::Up, "{interval}");
        bench.pass(MS, None);
        assert_eq!(bench.session.state(), State::Down, "{interval}");
    }
}

/// RFC 5880 section 6.8.3: an answer may be to the question before, so another one is asked when no such answer can be on
/// its way any more.
#[test]
fn timers_that_change_while_they_are_being_confirmed_are_asked_about_again() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.configure(parameters(300, 3), bench.now);
    bench.session.configure(parameters(200, 3), bench.now);
    for _ in 0..3 {
        bench.hear(answer());
        assert_eq!(bench.session.intervals().transmit, Some(MS * 50), "of the old question");
    }
    bench.pass(MS * 60, None);
    assert!(!bench.last().poll, "they may still be on their way");
    bench.pass(MS * 200, Some((MS * 40, from_remote(State::Up))));
    assert!(bench.last().poll);
    bench.hear(answer());
    assert_eq!(bench.session.intervals().transmit, Some(MS * 200));
    bench.pass(MS * 400, Some((MS * 40, from_remote(State::Up))));
    assert!(!bench.last().poll);
}

/// A late answer to a question that was answered already is not one to the next.
#[test]
fn a_final_that_comes_twice_confirms_once() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.configure(parameters(100, 3), bench.now);
    bench.hear(answer());
    bench.session.configure(parameters(400, 3), bench.now);
    bench.hear(answer());
    assert_eq!(bench.session.intervals().transmit, Some(MS * 100));
    bench.hear(from_remote(State::Up));
    bench.hear(answer());
    assert_eq!(bench.session.intervals().transmit, Some(MS * 400));
}

/// RFC 5880 section 6.6: an end that wants no packets learns of a change all the same, however many are lost.
#[test]
fn an_end_on_demand_is_asked_until_it_has_heard() {
    let quiet = ControlPacket { demand: true, ..from_remote(State::Up) };
    let mut bench = Bench::up(parameters(50, 3));
    bench.hear(quiet);
    bench.session.configure(parameters(50, 9), bench.now);
    bench.pass(MS * 500, Some((MS * 40, quiet)));
    assert!(bench.sent.len() > 5 && bench.sent.iter().all(|(_, packet)| packet.poll));
    bench.hear(ControlPacket { answers_poll: true, ..quiet });
    bench.sent.clear();
    bench.pass(Duration::from_secs(5), Some((MS * 40, quiet)));
    assert_eq!(bench.sent, []);
}

/// RFC 5880 section 6.8.16, there and back.
#[test]
fn a_session_held_down_says_so_until_it_may_come_back() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.session.administer(Administration::Disabled, bench.now);
    bench.collect();
    let last = bench.last();
    assert_eq!((last.state, last.diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(last.desired_min_tx, SLOW);
    assert_eq!(last.your_discriminator, Some(number(2)), "the other end has to find its session");
    bench.sent.clear();
    for state in [State::Down, State::Init, State::Up, State::AdminDown] {
        bench.hear(ControlPacket { poll: true, ..from_remote(state) });
        assert_eq!(bench.session.state(), State::AdminDown);
    }
    assert_eq!(bench.sent, [], "it does not answer");
    let restarted =
        ControlPacket { my_discriminator: number(3), desired_min_tx: SLOW, ..from_remote(State::Down) };
    bench.pass(Duration::from_secs(10), Some((MS * 900, restarted)));
    assert!((10..=14).contains(&bench.sent.len()), "slowly: {}", bench.sent.len());
    assert!(bench.sent.iter().all(|(_, packet)| packet.state == State::AdminDown));
    assert_eq!(bench.last().your_discriminator, Some(number(3)), "it knows who is there now");
    bench.pass(Duration::from_secs(10), None);
    assert_eq!(bench.last().your_discriminator, None, "or that nobody is");

    bench.session.administer(Administration::Enabled, bench.now);
    bench.collect();
    assert_eq!((bench.last().state, bench.last().diagnostic), (State::Down, Diagnostic::NONE));
    bench.hear(from_remote(State::Down));
    bench.hear(from_remote(State::Init));
    assert_eq!(bench.session.state(), State::Up);
}

#[test]
fn a_session_that_begins_held_down_says_nothing_else() {
    let bench = Bench::in_state(State::AdminDown, parameters(50, 3));
    assert!(bench.sent.iter().all(|(_, packet)| packet.state == State::AdminDown), "{:?}", bench.sent);
}

/// RFC 5880 section 6.8.18.
#[test]
fn an_end_that_wanted_no_packets_and_is_gone_is_looked_for_again() {
    let mut bench = Bench::up(parameters(50, 3));
    bench.hear(ControlPacket { required_min_rx: Duration::ZERO, ..from_remote(State::Up) });
    bench.sent.clear();
    bench.pass(MS * 149, None);
    assert_eq!(bench.sent, []);
    bench.pass(Duration::from_secs(10), None);
    assert!(bench.sent.len() >= 10, "{}", bench.sent.len());
}
