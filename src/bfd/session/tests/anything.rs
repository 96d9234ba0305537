//! One session that anything may happen to.

use proptest::prelude::*;

use super::super::super::packet::tests::any_packet;
use super::*;

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Happening {
    Heard(ControlPacket),
    Passes(Duration),
    Configured(Parameters),
    Administered(Administration),
}

fn any_parameters() -> impl Strategy<Value = Parameters> {
    (10_u32..2000, 1_u8..).prop_map(|(interval, multiplier)| parameters(interval, multiplier))
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let administration = prop_oneof![Just(Administration::Enabled), Just(Administration::Disabled)];
    prop_oneof![
        6 => any_packet().prop_map(Happening::Heard),
        3 => (0_u64..5_000_000).prop_map(|us| Happening::Passes(Duration::from_micros(us))),
        1 => any_parameters().prop_map(Happening::Configured),
        1 => administration.prop_map(Happening::Administered),
    ]
}

proptest! {
    // What it has found so far took a few hundred cases, or a few thousand.
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever comes in, and in whatever order: no panic, no step that RFC 5880 does not have, nothing said that it
    /// forbids, and no more than it allows.
    #[test]
    fn whatever_happens_the_machine_keeps_to_the_rfc(
        at_first in any_parameters(),
        happenings in proptest::collection::vec(any_happening(), 1..60),
        seed in any::<u64>(),
    ) {
        let mut bench = Bench::new(at_first);
        bench.session = Session::new(number(1), at_first, Administration::Enabled, seed, bench.now);
        for happening in happenings {
            let before = bench.session.state();
            bench.sent.clear();
            let expected = match &happening {
                Happening::Heard(packet) => {
                    bench.hear(*packet);
                    prop_assert!(bench.sent.len() <= 2, "an answer and news: {:?}", bench.sent);
                    let answers = bench.sent.iter().filter(|(_, sent)| sent.answers_poll).count();
                    prop_assert_eq!(answers, usize::from(packet.poll && before != State::AdminDown));
                    vec![next_state(before, packet.state).0]
                }
                Happening::Passes(time) => {
                    let began = bench.now;
                    let least = at_least_apart(&bench.session);
                    bench.pass(*time, None);
                    let most = time.as_micros() / least.as_micros() + 3;
                    prop_assert!(bench.sent.len() as u128 <= most, "{:?} in {:?}", bench.sent, bench.now - began);
                    vec![before, if before == State::AdminDown { before } else { State::Down }]
                }
                Happening::Configured(parameters) => {
                    bench.session.configure(*parameters, bench.now);
                    // What has been silent for long by now has been so for too long.
                    vec![before, if before == State::Init { State::Down } else { before }]
                }
                Happening::Administered(Administration::Enabled) => {
                    bench.session.administer(Administration::Enabled, bench.now);
                    vec![if before == State::AdminDown { State::Down } else { before }]
                }
                Happening::Administered(Administration::Disabled) => {
                    bench.session.administer(Administration::Disabled, bench.now);
                    vec![State::AdminDown]
                }
            };
            bench.collect();
            let after = bench.session.state();
            prop_assert!(expected.contains(&after), "{happening:?}: {before} to {after}");
            for (_, sent) in &bench.sent {
                prop_assert!(!(sent.poll && sent.answers_poll));
                prop_assert!(!sent.demand && !sent.control_plane_independent);
                prop_assert!(sent.state == State::Up || sent.desired_min_tx >= SLOW);
                prop_assert!(sent.your_discriminator.is_some() || matches!(sent.state, State::Down | State::AdminDown));
            }
            let due = bench.session.poll_timeout();
            prop_assert!(due.is_none_or(|due| due >= bench.now), "nothing is overdue");
            while bench.session.poll_change().is_some() {}
        }
    }
}

/// The shortest interval that a session may send at while nobody says anything: at the end of silence it grows.
fn at_least_apart(session: &Session) -> Duration {
    session.transmit_in_force.mul_f64(1.0 - LARGEST_CUT)
}
