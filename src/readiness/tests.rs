//! What is told while sessions and routes come and go, second by second in virtual time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::RequiredRoutes;

const ISOLATED_FOR: u64 = 30;

fn settings(uplinks: u16) -> config::Readiness {
    config::Readiness { uplinks, ..config::Readiness::default() }
}

/// The sessions with tor1, tor2 and so on: `+` with routes, `0` without any, `-` none.
fn facts(sessions: &str) -> Facts {
    let uplink = |sign| match sign {
        '+' => Uplink { session: Session::Up, accepted: 4 },
        '0' => Uplink { session: Session::Up, accepted: 0 },
        '-' => Uplink { session: Session::Down, accepted: 0 },
        other => panic!("{other}"),
    };
    let uplinks = sessions.chars().zip(1..).map(|(sign, number)| (format!("tor{number}"), uplink(sign)));
    Facts { uplinks: uplinks.collect(), ..Facts::default() }
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn beginning() -> Instant {
    Instant::now()
}

/// A machine with its clock.
struct Played {
    readiness: Readiness,
    start: Instant,
    second: u64,
}

impl Played {
    fn new(settings: config::Readiness) -> Self {
        let start = beginning();
        Self { readiness: Readiness::new(settings, start), start, second: 0 }
    }

    /// Looks at the facts now, and each second after that until the given one.
    fn until(&mut self, second: u64, facts: &Facts) {
        while self.second <= second {
            let wall = Timestamp::from_second(i64::try_from(self.second).unwrap()).unwrap();
            self.readiness
                .observe(facts, Now { instant: self.start + Duration::from_secs(self.second), wall });
            self.second += 1;
        }
    }

    fn told(&self) -> &'static str {
        match self.readiness.told() {
            Told::Nothing | Told::Unwatched => "",
            Told::Ready(words) | Told::NotReady(words) => words.reason,
        }
    }
}

#[test]
fn bad_news_counts_once_it_has_lasted_and_good_news_at_once() {
    // The sessions up to and with that second, and what is told then.
    type Steps = &'static [(u64, &'static str, &'static str)];
    let rows: &[(&str, u16, Steps)] = &[
        ("a start", 1, &[(4, "--", ""), (5, "+-", READY), (6, "++", READY)]),
        ("a start without a fabric", 1, &[(29, "--", ""), (30, "--", "NoUplink"), (31, "+-", READY)]),
        ("a start without neighbors", 1, &[(29, "", ""), (30, "", "NoUplink")]),
        ("a start with half of it", 2, &[(29, "+-", ""), (30, "+-", "TooFewUplinks"), (31, "++", READY)]),
        ("a flap", 1, &[(9, "++", READY), (39, "--", ""), (40, "+-", READY), (99, "-+", READY)]),
        ("a flap of a session that nobody needs", 1, &[(9, "++", READY), (99, "-+", READY)]),
        // Each one begins anew.
        ("flaps", 1, &[(0, "+", READY), (29, "-", ""), (30, "+", READY), (59, "-", ""), (60, "+", READY)]),
        ("isolation", 1, &[(0, "++", READY), (30, "--", ""), (31, "--", "NoUplink"), (32, "-+", READY)]),
        ("one cut of two", 2, &[(0, "++", READY), (30, "+-", ""), (31, "+-", "TooFewUplinks")]),
        ("sessions without routes", 1, &[(0, "+0", READY), (30, "00", ""), (31, "00", "NoRoute")]),
        (
            "isolation, and a session for a moment",
            1,
            &[(0, "+", READY), (31, "-", "NoUplink"), (32, "+", READY), (62, "-", ""), (63, "-", "NoUplink")],
        ),
    ];
    for (what, uplinks, steps) in rows {
        let mut played = Played::new(settings(*uplinks));
        for (second, sessions, told) in *steps {
            played.until(*second, &facts(sessions));
            assert_eq!(played.told(), *told, "{what}: at {second} s with {sessions:?}");
        }
    }
}

#[test]
fn reports_know_what_is_too_new_to_be_told() {
    let mut played = Played::new(settings(1));
    let stage = |played: &Played| {
        let Report { stage, words } = played.readiness.report();
        (stage, words.reason)
    };
    assert_eq!(stage(&played), (Stage::Starting, "NoUplink"));
    played.until(1, &facts("+"));
    assert_eq!(stage(&played), (Stage::Ready, READY));
    played.until(2, &facts("0"));
    assert_eq!(stage(&played), (Stage::Doubtful, "NoRoute"));
    played.until(32, &facts("-"));
    assert_eq!(stage(&played), (Stage::Isolated, "NoUplink"));
}

#[test]
fn messages_say_what_is_lacking_since_when() {
    let routes = |routes: &[&str]| {
        let routes = routes.iter().map(|text| text.parse().unwrap()).collect();
        config::Readiness { routes: RequiredRoutes::Each(routes), ..settings(1) }
    };
    let echo = config::Readiness { echo: true, ..settings(2) };
    let rows = [
        (
            settings(1),
            "--",
            "NoUplink",
            "no session with a ToR is established: tor1 is down since 1970-01-01T00:00:02Z, tor2 is down since \
             1970-01-01T00:00:02Z; no neighbor tells of any route",
        ),
        (
            settings(1),
            "",
            "NoUplink",
            "no session with a ToR is established: there is no neighbor; no neighbor tells of any route",
        ),
        (
            settings(2),
            "+-",
            "TooFewUplinks",
            "1 of 2 required sessions with ToRs is established: tor2 is down since 1970-01-01T00:00:02Z",
        ),
        (
            settings(3),
            "++",
            "TooFewUplinks",
            "2 of 3 required sessions with ToRs are established: there is no other neighbor",
        ),
        (settings(1), "0-", "NoRoute", "no neighbor tells of any route"),
        (routes(&["0.0.0.0/0", "::/0"]), "+", "NoRoute", "no neighbor tells of 0.0.0.0/0, ::/0"),
        (routes(&[]), "0", READY, "at least 1 session with a ToR is established"),
        (settings(1), "+-", READY, "at least 1 session with a ToR is established, and routes are learned"),
        (echo, "++", "NoEcho", "this node announces nothing that could come back"),
    ];
    for (settings, sessions, reason, message) in rows {
        let mut played = Played::new(settings);
        played.until(1, &facts("+++"));
        played.until(2, &facts(sessions));
        let words = played.readiness.report().words;
        assert_eq!((words.reason, words.message.as_str()), (reason, message), "{sessions}");
    }
    let mut many = Played::new(settings(1));
    many.until(0, &facts(&"-".repeat(20)));
    let message = many.readiness.report().words.message;
    assert!(message.contains("tor16 is down since 1970-01-01T00:00:00Z and 12 more;"), "{message}");
}

#[test]
fn each_block_has_to_come_back_where_an_echo_is_required() {
    let set = |prefixes: &[&str]| -> BTreeSet<Prefix> {
        prefixes.iter().map(|text| text.parse().unwrap()).collect()
    };
    let missing = "no neighbor with a session sends back ";
    let rows: [(&[&str], &[&str], Option<String>); 5] = [
        (&["10.1.8.0/26"], &["10.1.8.0/26"], None),
        (&["10.1.8.0/26"], &[], Some(format!("{missing}10.1.8.0/26"))),
        (&["10.1.8.0/26", "10.1.8.64/26"], &["10.1.8.0/26"], Some(format!("{missing}10.1.8.64/26"))),
        // What it had before is not what it has now.
        (&["10.1.8.64/26"], &["10.1.8.0/26"], Some(format!("{missing}10.1.8.64/26"))),
        (&[], &[], Some("this node announces nothing that could come back".to_owned())),
    ];
    for (own, echoed, lack) in rows {
        let facts = Facts { own: set(own), echoed: set(echoed), ..facts("+-") };
        let mut played = Played::new(config::Readiness { echo: true, ..settings(1) });
        assert!(played.readiness.requires_echo());
        played.until(0, &facts);
        let Report { stage, words } = played.readiness.report();
        match lack {
            None => assert_eq!((stage, words.reason), (Stage::Ready, READY)),
            Some(lack) => {
                assert_eq!((stage, words.reason, words.message), (Stage::Starting, "NoEcho", lack));
            }
        }
        // Where it is not required nobody minds.
        let mut played = Played::new(settings(1));
        assert!(!played.readiness.requires_echo());
        played.until(0, &facts);
        assert_eq!(played.told(), READY);
    }
}

#[test]
fn routes_that_are_required_by_name_have_to_be_there() {
    let routes: BTreeSet<Prefix> = ["0.0.0.0/0", "10.0.0.0/8"].map(|text| text.parse().unwrap()).into();
    let required = RequiredRoutes::Each(routes.clone());
    let mut played = Played::new(config::Readiness { routes: required, ..settings(1) });
    assert_eq!(played.readiness.required_routes(), routes);
    let half = Facts { learned: ["0.0.0.0/0".parse().unwrap()].into(), ..facts("+") };
    played.until(0, &half);
    assert_eq!(played.readiness.report().words.message, "no neighbor tells of 10.0.0.0/8");
    played.until(1, &Facts { learned: routes, ..half });
    assert_eq!(played.told(), READY);
}

#[test]
fn what_is_told_of_an_isolated_node_is_not_rewritten_with_each_flap() {
    let mut played = Played::new(settings(2));
    played.until(30, &facts("+-"));
    let first = played.readiness.told();
    for second in 31..60 {
        played.until(second, &facts(if second % 2 == 0 { "+-" } else { "--" }));
        assert_eq!(played.readiness.told(), first, "at {second} s");
    }
    played.until(60, &facts("--"));
    assert_eq!(played.told(), "NoUplink");
}

#[test]
fn other_settings_count_from_the_next_look_on() {
    let mut played = Played::new(settings(1));
    played.until(0, &facts("+-"));
    played.readiness.configure(settings(2));
    played.until(30, &facts("+-"));
    assert_eq!(played.told(), "");
    played.until(31, &facts("+-"));
    assert_eq!(played.told(), "TooFewUplinks");
    played.readiness.configure(settings(1));
    played.until(32, &facts("+-"));
    assert_eq!(played.told(), READY);
}

proptest! {
    /// Whatever happens: not fit is told only after that long without a fit moment, and fit only at one.
    #[test]
    fn isolation_is_never_told_of_too_soon(seconds in proptest::collection::vec("[+0-]{2}", 1..200)) {
        let mut played = Played::new(settings(1));
        let mut bad_for = 0;
        for (second, sessions) in seconds.iter().enumerate() {
            played.until(second.try_into().unwrap(), &facts(sessions));
            bad_for = if sessions.contains('+') { 0 } else { bad_for + 1 };
            match played.readiness.told() {
                Told::Ready(_) => prop_assert_eq!(bad_for, 0),
                Told::NotReady(_) => prop_assert!(bad_for > 0 && u64::try_from(second).unwrap() >= ISOLATED_FOR),
                Told::Nothing | Told::Unwatched => prop_assert!(bad_for > 0 && bad_for <= ISOLATED_FOR),
            }
        }
    }
}
