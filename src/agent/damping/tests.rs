use super::*;

/// The default of `damping`.
const LONGEST: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn beginning() -> Instant {
    Instant::now()
}

/// A neighbor whose sessions last for `up`, and come `down` after the last one, or when it is let.
struct Flapping {
    damping: Damping,
    now: Instant,
}

impl Flapping {
    fn new(seed: u64) -> Self {
        Self { damping: Damping::new(LONGEST, seed), now: beginning() }
    }

    /// One session that fails. Gives how long the neighbor is held back after it.
    fn session(&mut self, lasts: Duration) -> Duration {
        self.session_until(lasts, Cause::Failure)
    }

    fn session_until(&mut self, lasts: Duration, cause: Cause) -> Duration {
        self.damping.up(self.now);
        assert!(self.damping.is_up() && self.damping.held_until().is_none());
        self.now += lasts;
        self.damping.down(cause, self.now);
        assert!(!self.damping.is_up());
        let Some(until) = self.damping.held_until() else { return Duration::ZERO };
        let held = until.duration_since(self.now);
        self.damping.release(until - Duration::from_millis(1));
        assert_eq!(self.damping.held_until(), Some(until), "not yet");
        // Whoever is late must still be told, or nobody would ever let it go.
        self.now = until + Duration::from_millis(3);
        assert_eq!(self.damping.held_until(), Some(until));
        self.damping.release(self.now);
        assert_eq!(self.damping.held_until(), None);
        held
    }
}

#[test]
fn the_first_failures_are_free_and_then_the_time_doubles_up_to_ten_seconds() {
    for seed in 0..100 {
        let mut neighbor = Flapping::new(seed);
        let expected = [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
        for (number, full) in expected.into_iter().map(Duration::from_millis).enumerate() {
            let held = neighbor.session(Duration::from_secs(1));
            assert!(
                held >= full.mul_f64(0.75) && held <= full,
                "seed {seed}, session {number}: {held:?} is not 0.75 to 1.0 of {full:?}"
            );
        }
        assert_eq!(neighbor.damping.flaps(), 12);
    }
}

#[test]
fn however_often_it_flaps_the_bound_holds() {
    let mut neighbor = Flapping::new(1);
    neighbor.damping.short = u32::MAX - 1;
    for _ in 0..3 {
        assert!(neighbor.session(Duration::ZERO) <= LONGEST);
    }
}

#[test]
fn a_session_that_lasts_begins_anew_and_is_no_flap() {
    let mut neighbor = Flapping::new(1);
    for _ in 0..8 {
        neighbor.session(Duration::from_secs(1));
    }
    assert_eq!(neighbor.session(GOOD_AFTER), Duration::ZERO);
    assert_eq!(neighbor.damping.flaps(), 8);
    assert_eq!(neighbor.session(Duration::from_secs(1)), Duration::ZERO, "the first one since");
}

#[test]
fn a_steady_flap_gets_through_once_in_ten_seconds_at_the_most() {
    // A link that is up for a second and down for another, for an hour.
    let mut neighbor = Flapping::new(2);
    let begun = neighbor.now;
    let mut sessions = 0_u32;
    while neighbor.now.duration_since(begun) < Duration::from_secs(3600) {
        neighbor.session(Duration::from_secs(1));
        neighbor.now += Duration::from_secs(1);
        sessions += 1;
    }
    // A hold of 7.5 to 10 s and two seconds of the link's own, after the first few.
    assert!((300..390).contains(&sessions), "{sessions}");
}

#[test]
fn the_loss_of_a_session_that_was_not_there_is_nothing() {
    let mut damping = Damping::new(LONGEST, 1);
    for _ in 0..10 {
        damping.down(Cause::Failure, beginning());
    }
    assert_eq!((damping.flaps(), damping.held_until()), (0, None));
}

#[test]
fn a_session_that_comes_while_it_is_held_back_counts() {
    let mut neighbor = Flapping::new(1);
    for _ in 0..8 {
        neighbor.session(Duration::from_secs(1));
    }
    neighbor.damping.up(neighbor.now);
    neighbor.damping.down(Cause::Failure, neighbor.now);
    // As where it was let, since it was the only one left.
    neighbor.damping.up(neighbor.now);
    assert_eq!(neighbor.damping.held_until(), None);
}

#[test]
fn the_bound_is_the_operators_and_none_at_all_is_one() {
    let mut neighbor = Flapping::new(1);
    neighbor.damping.configure(Duration::from_secs(1));
    assert!((0..20).all(|_| neighbor.session(Duration::ZERO) <= Duration::from_secs(1)));
    neighbor.damping.configure(Duration::ZERO);
    assert!((0..20).all(|_| neighbor.session(Duration::ZERO) == Duration::ZERO));
    assert_eq!(neighbor.damping.flaps(), 40, "they are counted all the same");
}

#[test]
fn one_that_is_forgiven_begins_anew() {
    let mut neighbor = Flapping::new(1);
    for _ in 0..8 {
        neighbor.session(Duration::from_secs(1));
    }
    neighbor.damping.up(neighbor.now);
    neighbor.damping.down(Cause::Failure, neighbor.now);
    assert!(neighbor.damping.held_until().is_some());
    neighbor.damping.forgive();
    assert_eq!(neighbor.damping.held_until(), None);
    assert_eq!(neighbor.session(Duration::from_secs(1)), Duration::ZERO);
    assert_eq!(neighbor.damping.flaps(), 10);
}

/// Each row: short sessions that end in this way, one after the other, and in what time each of these is held back.
#[test]
fn who_ends_a_session_counts() {
    const TO_OPERATOR: usize = FREE_TO_OPERATOR as usize;
    let table = [
        (Cause::Failure, 1, [false, false, true]),
        (Cause::Theirs, TO_OPERATOR, [false, false, false]),
        (Cause::Theirs, TO_OPERATOR + 1, [false, false, true]),
        (Cause::Ours, 1000, [false, false, false]),
    ];
    for (cause, nth, expected) in table {
        let mut neighbor = Flapping::new(3);
        for _ in 1..nth {
            assert_eq!(neighbor.session_until(Duration::from_secs(1), cause), Duration::ZERO, "{cause:?}");
        }
        let held = expected.map(|_| !neighbor.session_until(Duration::from_secs(1), cause).is_zero());
        assert_eq!(held, expected, "{cause:?}, {nth}");
    }
}

#[test]
fn a_peer_that_says_goodbye_without_end_is_bounded_and_one_that_did_so_once_is_forgotten() {
    let mut neighbor = Flapping::new(4);
    let held: Vec<Duration> =
        (0..30).map(|_| neighbor.session_until(Duration::from_secs(1), Cause::Theirs)).collect();
    assert!(held.last().is_some_and(|held| *held >= LONGEST.mul_f64(0.75)), "{held:?}");
    assert_eq!(neighbor.damping.flaps(), 30);
    neighbor.session_until(GOOD_AFTER, Cause::Theirs);
    let again = (0..FREE_TO_OPERATOR).map(|_| neighbor.session_until(Duration::ZERO, Cause::Theirs));
    assert_eq!(again.sum::<Duration>(), Duration::ZERO);
}

#[test]
fn what_we_end_ourselves_neither_counts_nor_excuses() {
    let mut neighbor = Flapping::new(5);
    for _ in 0..FREE {
        neighbor.session(Duration::from_secs(1));
        assert_eq!(neighbor.session_until(Duration::from_secs(1), Cause::Ours), Duration::ZERO);
    }
    assert_eq!(neighbor.damping.flaps(), u64::from(FREE));
    assert!(!neighbor.session(Duration::from_secs(1)).is_zero(), "the third failure in a row");
}
