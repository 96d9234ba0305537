//! Each step with what takes it, and any sequence of events against neighbors that do what they are told.

use proptest::prelude::*;

use super::progress::{
    ENDING_LIMIT, QUIET_FOR, RETURNING_FOR, RETURNING_LIMIT, WITHDRAWING_LIMIT, WITHDRAWN_FOR,
};
use super::*;

type Name = &'static str;

const WAIT: Duration = Duration::from_secs(30);
const PLAIN: Maintenance = Maintenance { outbound: Outbound::Plain, inbound: Inbound::Plain };
const MARKED: Maintenance =
    Maintenance { outbound: Outbound::Marked { prepends: PREPENDS }, inbound: Inbound::Plain };
const WITHDRAWN: Maintenance = Maintenance { outbound: Outbound::Withdrawn, inbound: Inbound::Plain };

fn last(maintenance: Maintenance) -> Maintenance {
    Maintenance { inbound: Inbound::Last, ..maintenance }
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn beginning() -> Instant {
    Instant::now()
}

fn order(wait: Duration, then: Then) -> Order {
    Order { wait, then, message: "maintenance".to_owned() }
}

/// A neighbor that obeys, unless it is made not to.
#[derive(Debug, Clone)]
struct Played {
    exists: bool,
    /// Whether its link would carry a session.
    reachable: bool,
    /// Whether it takes what it is told.
    listens: bool,
    session: Option<Maintenance>,
    packets_per_s: u64,
    received: u64,
}

impl Played {
    fn new() -> Self {
        Self {
            exists: true,
            reachable: true,
            listens: true,
            session: Some(PLAIN),
            packets_per_s: 0,
            received: 0,
        }
    }
}

/// The drains, and the agent around them.
struct World {
    drains: Drains<Name>,
    neighbors: BTreeMap<Name, Played>,
    now: Instant,
}

impl World {
    fn new(names: &[Name]) -> Self {
        let neighbors = names.iter().map(|&name| (name, Played::new())).collect();
        Self { drains: Drains::default(), neighbors, now: beginning() }
    }

    fn drain(&mut self, scope: Scope<Name>, then: Then) {
        self.drains.drain(scope, order(WAIT, then), self.now);
        self.obey();
    }

    fn neighbor(&mut self, name: Name) -> &mut Played {
        self.neighbors.get_mut(name).unwrap()
    }

    /// Makes every neighbor what is wanted of it.
    fn obey(&mut self) {
        for (name, played) in &mut self.neighbors {
            let session = match self.drains.wanted(name) {
                Wanted::Session(maintenance) if played.exists && played.reachable => Some(maintenance),
                Wanted::Session(_) | Wanted::NoSession(_) => None,
            };
            // Whoever takes nothing keeps what it was told; a new session begins with what is so.
            if played.listens || played.session.is_none() || session.is_none() {
                played.session = session;
            }
        }
    }

    fn observe(&mut self) {
        let observe = |(&name, played): (&Name, &Played)| {
            let link = match played.session {
                None => Link::Down,
                Some(_) if !played.listens => Link::Telling,
                Some(told) => Link::Told(told),
            };
            played.exists.then_some((name, Observation { link, received: Some(played.received) }))
        };
        let observed = self.neighbors.iter().filter_map(observe).collect();
        self.drains.observe(&observed, self.now);
        self.obey();
    }

    /// Lets time pass, with observations when they are wanted.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.drains.poll_deadline().filter(|next| *next <= end) {
            let next = next.max(self.now);
            let passed = u64::try_from((next - self.now).as_millis()).unwrap();
            for played in self.neighbors.values_mut() {
                played.received += played.packets_per_s * passed / 1000;
            }
            self.now = next;
            self.observe();
        }
        self.now = end;
    }

    fn told(&self, name: Name) -> Option<Maintenance> {
        self.neighbors[name].session
    }

    fn node(&self) -> Phase {
        self.drains.node().unwrap().phase()
    }

    /// From the order on, when each phase was entered.
    fn steps(&self) -> Vec<(Phase, Duration)> {
        let steps = self.drains.node().unwrap().steps();
        steps.iter().map(|(phase, at)| (*phase, *at - steps[0].1)).collect()
    }
}

const TWO: [Name; 2] = ["tor1", "tor2"];

#[test]
fn a_quiet_node_leaves_in_this_order() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Node, Then::StayDown);
    assert_eq!((world.node(), world.told("tor1")), (Phase::Marking, Some(MARKED)));
    world.pass(Duration::from_millis(100));
    assert_eq!((world.node(), world.told("tor1")), (Phase::Waiting, Some(MARKED)));
    world.pass(QUIET_FOR);
    assert_eq!(
        (world.node(), world.told("tor2")),
        (Phase::Waiting, Some(MARKED)),
        "a rate takes two samples"
    );
    world.pass(SAMPLE_INTERVAL);
    assert_eq!((world.node(), world.told("tor2")), (Phase::Withdrawing, Some(WITHDRAWN)));
    world.pass(WITHDRAWN_FOR);
    assert_eq!(world.told("tor1"), None);
    world.pass(SAMPLE_INTERVAL);
    assert_eq!((world.node(), world.told("tor1")), (Phase::Drained, None));
    let ms = Duration::from_millis;
    let expected = [
        (Phase::Marking, ms(0)),
        (Phase::Waiting, ms(0)),
        (Phase::Withdrawing, ms(3500)),
        (Phase::Ending, ms(5500)),
        (Phase::Drained, ms(6000)),
    ];
    assert_eq!(world.steps(), expected);
    assert_eq!(world.drains.poll_deadline(), None, "at rest");
    assert_eq!(
        world.drains.wanted(&"tor9"),
        Wanted::NoSession("maintenance".to_owned()),
        "for newcomers too"
    );
    assert!(!world.drains.is_to_stop());
}

#[test]
fn traffic_is_waited_for_until_the_time_is_up() {
    let mut world = World::new(&TWO);
    world.neighbor("tor2").packets_per_s = 60;
    world.drain(Scope::Node, Then::StayDown);
    world.pass(WAIT - SAMPLE_INTERVAL);
    assert_eq!(world.node(), Phase::Waiting);
    assert_eq!(world.drains.received_per_s(&"tor2"), Some(60));
    assert_eq!(world.drains.node().unwrap().time_left(world.now), Some(SAMPLE_INTERVAL));
    world.pass(SAMPLE_INTERVAL);
    assert_eq!((world.node(), world.drains.node().unwrap().time_left(world.now)), (Phase::Withdrawing, None));
}

#[test]
fn traffic_that_comes_back_is_waited_for_again() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Node, Then::StayDown);
    world.pass(QUIET_FOR - SAMPLE_INTERVAL);
    world.neighbor("tor1").packets_per_s = 1000;
    world.pass(QUIET_FOR);
    world.neighbor("tor1").packets_per_s = 0;
    world.pass(QUIET_FOR);
    assert_eq!(world.node(), Phase::Waiting);
    world.pass(2 * SAMPLE_INTERVAL);
    assert_eq!(world.node(), Phase::Withdrawing);
}

#[test]
fn a_neighbor_that_takes_nothing_holds_nobody_up_for_ever() {
    let mut world = World::new(&TWO);
    world.neighbor("tor1").listens = false;
    world.drain(Scope::Node, Then::StayDown);
    world.pass(WAIT - SAMPLE_INTERVAL);
    assert_eq!(world.node(), Phase::Marking);
    world.pass(SAMPLE_INTERVAL + WITHDRAWING_LIMIT);
    assert_eq!(world.node(), Phase::Ending);
    world.pass(ENDING_LIMIT);
    assert_eq!(world.node(), Phase::Drained);
}

#[test]
fn a_counter_that_nobody_knows_is_not_quiet() {
    let mut drains: Drains<Name> = Drains::default();
    let start = beginning();
    drains.drain(Scope::Node, order(WAIT, Then::StayDown), start);
    let observation = Observation { link: Link::Told(MARKED), received: None };
    while let Some(now) = drains.poll_deadline().filter(|now| *now < start + WAIT) {
        drains.observe(&[("192.0.2.1", observation)].into(), now);
    }
    assert_eq!(drains.node().unwrap().phase(), Phase::Waiting);
}

#[test]
fn a_node_without_neighbors_or_without_patience_is_drained_as_well() {
    let mut alone = World::new(&[]);
    alone.drain(Scope::Node, Then::Stop);
    alone.pass(Duration::from_secs(10));
    assert!(alone.drains.is_to_stop());

    let mut hasty = World::new(&TWO);
    hasty.neighbor("tor1").packets_per_s = 1000;
    hasty.drains.drain(Scope::Node, order(Duration::ZERO, Then::Stop), hasty.now);
    hasty.obey();
    assert_eq!(hasty.told("tor1"), Some(MARKED));
    hasty.pass(WITHDRAWN_FOR + 2 * SAMPLE_INTERVAL);
    assert_eq!(hasty.node(), Phase::Drained);
    assert!(hasty.drains.is_to_stop());
}

#[test]
fn one_neighbor_is_left_in_both_directions_and_the_others_are_not() {
    let mut world = World::new(&TWO);
    world.neighbor("tor2").packets_per_s = 1000;
    world.drain(Scope::Neighbor("tor1"), Then::StayDown);
    assert_eq!((world.told("tor1"), world.told("tor2")), (Some(last(MARKED)), Some(PLAIN)));
    world.pass(Duration::from_secs(4));
    assert_eq!((world.told("tor1"), world.told("tor2")), (Some(last(WITHDRAWN)), Some(PLAIN)));
    world.pass(Duration::from_secs(3));
    assert_eq!((world.told("tor1"), world.told("tor2")), (None, Some(PLAIN)));
    assert_eq!(world.drains.neighbor(&"tor1").unwrap().phase(), Phase::Drained);

    world.drain(Scope::Node, Then::StayDown);
    assert_eq!((world.told("tor1"), world.told("tor2")), (None, Some(MARKED)));
    assert_eq!(world.drains.undrain(&Scope::Neighbor("tor1"), world.now), Ok(()));
    world.obey();
    assert_eq!(world.told("tor1"), Some(last(MARKED)), "the node's drain counts on");
    world.pass(RETURNING_FOR + SAMPLE_INTERVAL);
    assert_eq!(world.told("tor1"), Some(MARKED), "the node's drain counts on");
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    world.obey();
    assert_eq!((world.told("tor1"), world.told("tor2")), (Some(PLAIN), Some(PLAIN)));
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Err(NotDrained));
}

#[test]
fn a_session_that_comes_up_meanwhile_is_told_before_the_wait_is_over() {
    let mut world = World::new(&TWO);
    world.neighbor("tor1").reachable = false;
    world.obey();
    world.drain(Scope::Node, Then::StayDown);
    world.pass(QUIET_FOR);
    let tor1 = world.neighbor("tor1");
    (tor1.reachable, tor1.packets_per_s) = (true, 1000);
    world.obey();
    assert_eq!(world.told("tor1"), Some(MARKED));
    world.pass(QUIET_FOR);
    assert_eq!(world.node(), Phase::Waiting);
}

#[test]
fn another_order_renews_the_time_and_never_takes_a_stop_back() {
    let mut world = World::new(&TWO);
    world.neighbor("tor1").packets_per_s = 1000;
    world.drain(Scope::Node, Then::Stop);
    world.pass(WAIT - SAMPLE_INTERVAL);
    world.drain(Scope::Node, Then::StayDown);
    world.pass(WAIT - SAMPLE_INTERVAL);
    assert_eq!(world.node(), Phase::Waiting);
    world.pass(Duration::from_secs(10));
    assert!(world.drains.is_to_stop());

    let mut later = World::new(&TWO);
    later.drain(Scope::Node, Then::StayDown);
    later.pass(Duration::from_secs(10));
    assert_eq!((later.node(), later.drains.is_to_stop()), (Phase::Drained, false));
    later.drain(Scope::Node, Then::Stop);
    assert!(later.drains.is_to_stop());
}

#[test]
fn another_order_has_other_words_until_neighbors_were_told() {
    let mut world = World::new(&TWO);
    let say = |world: &mut World, message: &str| {
        let order = Order { message: message.to_owned(), ..order(WAIT, Then::StayDown) };
        world.drains.drain(Scope::Node, order, world.now);
        world.drains.of(&Scope::Node).unwrap().order().message.clone()
    };
    assert_eq!([say(&mut world, "a disk"), say(&mut world, "two disks")], ["a disk", "two disks"]);
    world.pass(Duration::from_secs(10));
    assert_eq!((world.node(), say(&mut world, "three disks").as_str()), (Phase::Drained, "two disks"));
    // Neighbors hear the words of the drain that they leave for.
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    assert_eq!(say(&mut world, "four disks"), "four disks");
}

#[test]
fn whoever_comes_back_is_marked_until_its_routes_have_settled() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Node, Then::StayDown);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.node(), Phase::Drained);
    world.neighbor("tor1").reachable = false;
    world.neighbor("tor2").reachable = false;
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    world.obey();
    world.pass(Duration::from_secs(5));
    assert_eq!((world.node(), world.told("tor1")), (Phase::Returning, None));
    world.neighbor("tor1").reachable = true;
    world.obey();
    assert_eq!(world.told("tor1"), Some(MARKED));
    world.pass(RETURNING_FOR);
    assert_eq!(world.told("tor1"), Some(MARKED));
    world.pass(SAMPLE_INTERVAL);
    assert_eq!((world.drains.node(), world.told("tor1")), (None, Some(PLAIN)));

    // Drained again before it was back, and this time nobody is there to come back to.
    world.drain(Scope::Node, Then::StayDown);
    world.pass(Duration::from_secs(10));
    world.neighbor("tor1").reachable = false;
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    world.drain(Scope::Node, Then::StayDown);
    assert_eq!(world.steps().len(), 1);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    world.obey();
    world.pass(RETURNING_LIMIT);
    assert_eq!((world.drains.node(), world.drains.poll_deadline()), (None, None));
}

/// A crash must not bring traffic back to a node that is being worked on.
#[test]
fn a_successor_goes_on_where_its_predecessor_was() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Neighbor("tor1"), Then::StayDown);
    world.pass(Duration::from_secs(10));
    world.drain(Scope::Node, Then::Stop);
    let mut successor: Drains<Name> = Drains::restored(world.drains.kept(), world.now);
    assert_eq!(successor.wanted(&"tor1"), Wanted::NoSession("maintenance".to_owned()));
    assert_eq!(successor.wanted(&"tor2"), Wanted::Session(MARKED));
    assert_eq!(successor.node().unwrap().order(), &order(WAIT, Then::StayDown));
    assert_eq!(successor.undrain(&Scope::Neighbor("tor1"), world.now), Ok(()));
    let again: Drains<Name> = Drains::restored(successor.kept(), world.now);
    assert_eq!(again.neighbors().count(), 0, "what comes back serves after a crash");
}

#[test]
fn a_drain_that_is_taken_back_before_it_withdrew_anything_is_over_at_once() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Node, Then::StayDown);
    world.pass(SAMPLE_INTERVAL);
    assert_eq!((world.node(), world.told("tor1")), (Phase::Waiting, Some(MARKED)));
    assert_eq!(world.drains.undrain(&Scope::Node, world.now), Ok(()));
    world.obey();
    assert_eq!((world.drains.node(), world.told("tor1")), (None, Some(PLAIN)));
}

#[test]
fn drains_of_neighbors_that_the_file_no_longer_names_are_forgotten() {
    let mut world = World::new(&TWO);
    world.drain(Scope::Neighbor("tor1"), Then::StayDown);
    world.drain(Scope::Neighbor("tor2"), Then::StayDown);
    world.drains.retain_neighbors(|name| *name == "tor2");
    assert_eq!(world.drains.neighbors().map(|(name, _)| *name).collect::<Vec<_>>(), ["tor2"]);
}

#[derive(Debug, Clone)]
enum Event {
    Drain(Scope<Name>, Duration, Then),
    Undrain(Scope<Name>),
    Reachable(Name, bool),
    Listens(Name, bool),
    Exists(Name, bool),
    Traffic(Name, u64),
    Reload(Name),
    Restart,
    Pass(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    let name = || prop::sample::select(&TWO[..]);
    let scope = || prop_oneof![Just(Scope::Node), name().prop_map(Scope::Neighbor)];
    let wait = (0..40_u64).prop_map(Duration::from_secs);
    let then = prop::sample::select(&[Then::StayDown, Then::Stop][..]);
    prop_oneof![
        3 => (scope(), wait, then).prop_map(|(scope, wait, then)| Event::Drain(scope, wait, then)),
        2 => scope().prop_map(Event::Undrain),
        1 => (name(), any::<bool>()).prop_map(|(name, yes)| Event::Reachable(name, yes)),
        1 => (name(), any::<bool>()).prop_map(|(name, yes)| Event::Listens(name, yes)),
        1 => (name(), any::<bool>()).prop_map(|(name, yes)| Event::Exists(name, yes)),
        1 => (name(), 0..200_u64).prop_map(|(name, rate)| Event::Traffic(name, rate)),
        1 => name().prop_map(Event::Reload),
        1 => Just(Event::Restart),
        6 => (0..8000_u64).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
    ]
}

impl World {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Drain(scope, wait, then) => self.drains.drain(scope, order(wait, then), self.now),
            Event::Undrain(scope) => drop(self.drains.undrain(&scope, self.now)),
            Event::Reachable(name, yes) => self.neighbor(name).reachable = yes,
            Event::Listens(name, yes) => self.neighbor(name).listens = yes,
            Event::Exists(name, yes) => self.neighbor(name).exists = yes,
            Event::Traffic(name, packets_per_s) => self.neighbor(name).packets_per_s = packets_per_s,
            Event::Reload(kept) => self.drains.retain_neighbors(|name| *name == kept),
            Event::Restart => {
                self.drains = Drains::restored(self.drains.kept(), self.now);
                self.neighbors.values_mut().for_each(|played| played.session = None);
            }
            Event::Pass(time) => self.pass(time),
        }
        self.obey();
    }

    fn check_steps(&self) {
        for drain in self.drains.node().into_iter().chain(self.drains.neighbors().map(|(_, drain)| drain)) {
            let steps = drain.steps();
            assert!(matches!(steps[0].0, Phase::Marking | Phase::Drained), "{steps:?}");
            for pair in steps.windows(2) {
                let is_taken_back = pair[1].0 == Phase::Returning && pair[0].0 >= Phase::Withdrawing;
                assert!(is_taken_back || pair[0].0 < pair[1].0, "{steps:?}");
                assert!(pair[0].1 <= pair[1].1, "{steps:?}");
                assert!(
                    pair[1].0 != Phase::Ending || pair[0].0 == Phase::Withdrawing,
                    "withdrawn first: {steps:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: in the end each neighbor has no session, since it or the node is drained, or one in which it
    /// is told plainly what this node has.
    #[test]
    fn everything_ends_drained_or_clean(events in prop::collection::vec(event(), 0..40)) {
        let mut world = World::new(&TWO);
        for event in events {
            world.apply(event);
            world.check_steps();
        }
        world.pass(Duration::from_secs(60));
        world.check_steps();
        prop_assert_eq!(world.drains.poll_deadline(), None);
        for name in TWO {
            let played = world.neighbor(name);
            (played.exists, played.reachable, played.listens) = (true, true, true);
        }
        world.obey();
        for name in TWO {
            let is_drained = world.drains.node().is_some() || world.drains.neighbor(&name).is_some();
            prop_assert_eq!(world.told(name), (!is_drained).then_some(PLAIN));
        }
    }
}
