//! Two sessions over a cable that loses packets.

use proptest::prelude::*;

use super::super::super::packet;
use super::*;

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
            let seed = seed ^ u64::from(discriminator.0.get());
            Session::new(discriminator, parameters[index], Administration::Enabled, seed, now)
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
                        let packet = packet::decode(&packet.encode()).unwrap();
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
