//! The reconciler against a model of the kernel's table, and its rules one by one.

use std::collections::VecDeque;
use std::net::IpAddr;

use bgp::Prefix;
use proptest::prelude::*;

use super::super::RouteState;
use super::*;
use crate::kernel::interfaces::Interface;

const OURS: Ownership = Ownership { protocol: 186, table: 254, metric: 20 };
const FOREIGN: Protocol = Protocol(4);
/// Sequences that the property is tried with: some seconds of an unoptimised build.
const CASES: u32 = 1_000;
/// Two of each family.
const PREFIXES: [&str; 4] = ["10.1.0.0/26", "10.2.0.0/26", "fd00:1::/64", "fd00:2::/64"];
/// Next hops to choose from.
const LEGS: [&[u32]; 3] = [&[2], &[3], &[2, 3]];

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn key(which: usize) -> Key {
    OURS.key(prefix(PREFIXES[which]))
}

fn gateways(links: &[u32]) -> Gateways {
    links.iter().map(|&link| Gateway { address: via(link), interface: Some(InterfaceIndex(link)) }).collect()
}

fn via(link: u32) -> IpAddr {
    format!("fe80::{link}").parse().unwrap()
}

fn unicast(links: &[u32]) -> Route {
    Route { kind: Kind::Unicast(gateways(links)), source: None }
}

fn change(which: usize, links: Option<&[u32]>) -> FibChange {
    FibChange { prefix: prefix(PREFIXES[which]), gateways: links.map(gateways) }
}

/// Links 2 and 3, with carrier or without.
fn links(carrier: [bool; 2]) -> Arc<Interfaces> {
    let link = |(index, carrier)| Interface {
        index: InterfaceIndex(index),
        name: format!("ens{index}"),
        admin_up: true,
        carrier,
        loopback: false,
        mac: None,
        mtu: 1500,
        link_local: None,
        addresses: Vec::new(),
    };
    let by_index = [2, 3].into_iter().zip(carrier).map(|pair| (InterfaceIndex(pair.0), link(pair))).collect();
    Arc::new(Interfaces { by_index })
}

/// What waits in the event socket.
#[derive(Debug)]
enum Queued {
    Own(u32),
    Other(Event, Cause, Observation),
}

/// The kernel's table as `fib_table_insert` and `fib6_add_rt2node` keep it: in IPv4 a list at each key, of which
/// a replacement takes the first; in IPv6 one route.
#[derive(Debug, Default)]
struct Kernel {
    routes: BTreeMap<Key, Vec<(Owner, Route)>>,
    queue: VecDeque<Queued>,
    sequence: u32,
}

impl Kernel {
    fn operate(&mut self, operation: &Operation) -> (u32, Result<(), KernelError>) {
        let refused = |errno| Err(KernelError { errno, message: None });
        self.sequence += 1;
        let routes = self.routes.entry(operation.key).or_default();
        match &operation.action {
            Action::Create(_) if !routes.is_empty() => return (self.sequence, refused(libc::EEXIST)),
            Action::Create(route) => routes.push((Owner::Ours, route.clone())),
            Action::Replace(route) => {
                // The same again: no event.
                if routes.first() == Some(&(Owner::Ours, route.clone())) {
                    return (self.sequence, Ok(()));
                }
                routes.splice(..routes.len().min(1), [(Owner::Ours, route.clone())]);
            }
            Action::Delete => match routes.iter().position(|(owner, _)| *owner == Owner::Ours) {
                None => return (self.sequence, refused(libc::ESRCH)),
                Some(position) => drop(routes.remove(position)),
            },
        }
        self.queue.push_back(Queued::Own(self.sequence));
        (self.sequence, Ok(()))
    }

    /// Another program adds a route, where there is none or, in IPv4, behind or before what is there.
    fn add(&mut self, key: Key, owner: Owner, route: Route, front: bool) {
        let routes = self.routes.entry(key).or_default();
        if key.prefix.family() == Family::Ipv6Unicast && !routes.is_empty() {
            return;
        }
        // Not the same twice.
        if routes.contains(&(owner, route.clone())) {
            return;
        }
        routes.insert(if front { 0 } else { routes.len() }, (owner, route.clone()));
        self.tell(Event::Added, key, owner, route);
    }

    fn replace(&mut self, key: Key, owner: Owner, route: Route) {
        let routes = self.routes.entry(key).or_default();
        if !routes.contains(&(owner, route.clone())) {
            routes.splice(..routes.len().min(1), [(owner, route.clone())]);
            self.tell(Event::Replaced, key, owner, route);
        }
    }

    fn delete(&mut self, key: Key, owner: Owner) {
        let routes = self.routes.entry(key).or_default();
        if let Some(position) = routes.iter().position(|(known, _)| *known == owner) {
            let (_, route) = routes.remove(position);
            self.tell(Event::Deleted, key, owner, route);
        }
    }

    fn tell(&mut self, event: Event, key: Key, owner: Owner, route: Route) {
        let installed = Installed::Route(route);
        self.queue.push_back(Queued::Other(event, Cause::Program, Observation { key, owner, installed }));
    }

    fn dump(&self) -> Vec<Observation> {
        let one = |(&key, routes): (&Key, &Vec<(Owner, Route)>)| {
            routes
                .iter()
                .map(move |(owner, route)| Observation {
                    key,
                    owner: *owner,
                    installed: Installed::Route(route.clone()),
                })
                .collect::<Vec<_>>()
        };
        self.routes.iter().flat_map(one).collect()
    }

    fn of(&self, key: Key, owner: Owner) -> Vec<&Route> {
        let routes = self.routes.get(&key).into_iter().flatten();
        routes.filter(|(known, _)| *known == owner).map(|(_, route)| route).collect()
    }
}

/// Reconciler, kernel and a clock.
struct World {
    delta: Delta,
    kernel: Kernel,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut delta = Delta::new(OURS);
        delta.set_interfaces(links([true, true]));
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        delta.resync_after(Duration::ZERO, now);
        Self { delta, kernel: Kernel::default(), now }
    }

    fn started() -> Self {
        let mut world = Self::new();
        world.delta.set_converged();
        world.rest();
        world
    }

    fn deliver(&mut self) {
        while let Some(queued) = self.kernel.queue.pop_front() {
            match queued {
                Queued::Own(sequence) => self.delta.confirmed(sequence),
                Queued::Other(event, cause, observation) => {
                    self.delta.observe(event, cause, observation, self.now);
                }
            }
        }
        self.delta.drained(self.kernel.sequence);
    }

    /// One write as the task does it; its own events stay in the queue.
    fn write(&mut self, limit: usize) {
        self.deliver();
        for operation in self.delta.poll_operations(self.now, limit) {
            let (sequence, result) = self.kernel.operate(&operation);
            self.delta.completed(operation, sequence, result, self.now);
        }
    }

    /// Until nothing is left to do, over all pauses.
    fn rest(&mut self) {
        for _ in 0..1000 {
            self.deliver();
            let Some(deadline) = self.delta.deadline(self.now) else { return };
            self.now = self.now.max(deadline);
            if self.delta.resync_at().is_some_and(|at| at <= self.now) {
                self.delta.resync(self.kernel.dump(), self.now);
            }
            self.write(2);
        }
        panic!("never at rest: {:?}", self.delta);
    }

    fn texts(&mut self) -> Vec<String> {
        self.delta.take_notices().iter().map(ToString::to_string).collect()
    }
}

/// The counters by asking every route.
fn counted(delta: &Delta) -> Counters {
    let mut counters = Counters { repairs: delta.counters().repairs, ..Counters::default() };
    for status in delta.routes(None, usize::MAX) {
        match status.state {
            RouteState::Installed => counters.installed += 1,
            RouteState::Pending => counters.pending += 1,
            RouteState::Failed(_) => counters.failed += 1,
            RouteState::Blocked { .. } => counters.blocked += 1,
            RouteState::Stale => counters.stale += 1,
        }
    }
    counters
}

/// Anything that can happen.
#[derive(Debug, Clone)]
enum Step {
    Want(usize, Option<usize>),
    Blackhole(usize),
    Carrier([bool; 2]),
    ForeignAdds(usize, usize, bool),
    ForeignReplaces(usize, usize),
    ForeignDeletes(usize),
    SomebodyDeletesOurs(usize),
    SomebodyReplacesOurs(usize, usize),
    SomebodyAddsOurs(usize, usize),
    /// The kernel takes a route with a link.
    SilentLoss(usize),
    Deliver,
    Write(usize),
    /// Events lost.
    Overrun,
    /// A dump while events that are older wait.
    EarlyDump,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0..PREFIXES.len();
    let legs = || 0..LEGS.len();
    let step = prop_oneof![
        4 => (which(), prop::option::weighted(0.7, legs())).prop_map(|(w, l)| Step::Want(w, l)),
        1 => which().prop_map(Step::Blackhole),
        1 => any::<[bool; 2]>().prop_map(Step::Carrier),
        2 => (which(), legs(), any::<bool>()).prop_map(|(w, l, front)| Step::ForeignAdds(w, l, front)),
        1 => (which(), legs()).prop_map(|(w, l)| Step::ForeignReplaces(w, l)),
        2 => which().prop_map(Step::ForeignDeletes),
        2 => which().prop_map(Step::SomebodyDeletesOurs),
        1 => (which(), legs()).prop_map(|(w, l)| Step::SomebodyReplacesOurs(w, l)),
        1 => (which(), legs()).prop_map(|(w, l)| Step::SomebodyAddsOurs(w, l)),
        1 => which().prop_map(Step::SilentLoss),
        2 => Just(Step::Deliver),
        4 => (1..4_usize).prop_map(Step::Write),
        1 => Just(Step::Overrun),
        1 => Just(Step::EarlyDump),
        1 => (1..2000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be there in the end, kept beside the reconciler.
#[derive(Default)]
struct Expected {
    learned: [Option<usize>; PREFIXES.len()],
    blackholes: BTreeSet<Prefix>,
    carrier: Option<[bool; 2]>,
    /// Changed by the foreign program alone.
    foreign: BTreeMap<Key, Vec<Route>>,
}

impl Expected {
    fn ours(&self, which: usize) -> Option<Route> {
        if self.blackholes.contains(&key(which).prefix) {
            return Some(Route { kind: Kind::Blackhole, source: None });
        }
        let legs = LEGS[self.learned[which]?];
        let carrier = self.carrier.unwrap_or([true, true]);
        let running: Vec<u32> = legs.iter().copied().filter(|&leg| carrier[usize::from(leg == 3)]).collect();
        Some(unicast(if running.is_empty() { legs } else { &running }))
    }
}

fn take(world: &mut World, expected: &mut Expected, step: &Step) {
    let foreign = Owner::Foreign(FOREIGN);
    match *step {
        Step::Want(which, legs) => {
            expected.learned[which] = legs;
            world.delta.want(change(which, legs.map(|legs| LEGS[legs])));
        }
        Step::Blackhole(which) => {
            let prefix = key(which).prefix;
            if !expected.blackholes.remove(&prefix) {
                expected.blackholes.insert(prefix);
            }
            world
                .delta
                .set_local(&LocalRoutes { blackholes: expected.blackholes.clone(), ..Default::default() });
        }
        Step::Carrier(carrier) => {
            expected.carrier = Some(carrier);
            world.delta.set_interfaces(links(carrier));
        }
        Step::ForeignAdds(which, legs, front) => {
            world.kernel.add(key(which), foreign, unicast(LEGS[legs]), front);
        }
        Step::ForeignReplaces(which, legs) => world.kernel.replace(key(which), foreign, unicast(LEGS[legs])),
        Step::ForeignDeletes(which) => world.kernel.delete(key(which), foreign),
        Step::SomebodyDeletesOurs(which) => world.kernel.delete(key(which), Owner::Ours),
        Step::SomebodyReplacesOurs(which, legs) => {
            world.kernel.replace(key(which), Owner::Ours, unicast(LEGS[legs]));
        }
        Step::SomebodyAddsOurs(which, legs) => {
            world.kernel.add(key(which), Owner::Ours, unicast(LEGS[legs]), false);
        }
        Step::SilentLoss(which) => {
            world.kernel.routes.entry(key(which)).or_default().retain(|(owner, _)| *owner != Owner::Ours);
            world.delta.resync_after(KERNEL_SETTLES, world.now);
        }
        Step::Deliver => world.deliver(),
        Step::Write(limit) => {
            let before = foreign_routes(&world.kernel);
            world.write(limit);
            assert_eq!(foreign_routes(&world.kernel), before, "a write touched a foreign route");
        }
        Step::Overrun => {
            world.kernel.queue.clear();
            world.delta.overrun(world.now);
        }
        Step::EarlyDump => world.delta.resync(world.kernel.dump(), world.now),
        Step::Wait(milliseconds) => world.now += Duration::from_millis(milliseconds),
    }
    expected.foreign = foreign_routes(&world.kernel);
}

fn foreign_routes(kernel: &Kernel) -> BTreeMap<Key, Vec<Route>> {
    let of = |key| kernel.of(key, Owner::Foreign(FOREIGN)).into_iter().cloned().collect();
    (0..PREFIXES.len()).map(|which| (key(which), of(key(which)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_ends_as_wanted_and_foreign_routes_are_untouched(steps in steps()) {
        let mut world = World::started();
        let mut expected = Expected::default();
        for step in &steps {
            take(&mut world, &mut expected, step);
            prop_assert_eq!(world.delta.counters(), counted(&world.delta));
        }
        world.rest();
        prop_assert_eq!(world.delta.counters(), counted(&world.delta));
        prop_assert_eq!(foreign_routes(&world.kernel), expected.foreign.clone());
        for (which, prefix) in PREFIXES.into_iter().enumerate() {
            let has: Vec<Route> = world.kernel.of(key(which), Owner::Ours).into_iter().cloned().collect();
            let wanted = Vec::from_iter(expected.ours(which));
            let blocked = !expected.foreign[&key(which)].is_empty();
            prop_assert!(has == wanted || (blocked && has.is_empty()), "{}: {:?}, not {:?}", prefix, has, wanted);
        }
        let counters = world.delta.counters();
        prop_assert_eq!((counters.pending, counters.failed, counters.stale), (0, 0, 0));
    }
}

#[test]
fn nothing_is_written_before_the_table_was_read() {
    let mut world = World::new();
    world.delta.want(change(0, Some(&[2])));
    assert_eq!(world.delta.poll_operations(world.now, 10), []);
    world.delta.resync([], world.now);
    assert_eq!(world.delta.poll_operations(world.now, 10).len(), 1);
}

#[test]
fn an_inherited_route_stays_until_convergence() {
    let mut world = World::new();
    world.kernel.add(key(0), Owner::Ours, unicast(&[2]), false);
    world.kernel.add(key(1), Owner::Ours, unicast(&[2]), false);
    world.delta.want(change(1, Some(&[2])));
    world.rest();
    assert_eq!(world.kernel.sequence, 0, "what is there as wanted is not written again");
    assert_eq!(world.delta.counters(), Counters { installed: 1, stale: 1, ..Counters::default() });
    world.delta.set_converged();
    world.rest();
    assert_eq!(world.kernel.of(key(0), Owner::Ours), [] as [&Route; 0]);
    assert_eq!(world.kernel.of(key(1), Owner::Ours), [&unicast(&[2])]);
}

#[test]
fn a_fight_is_slowed_down_and_said_once() {
    let mut world = World::started();
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        world.kernel.delete(key(0), Owner::Ours);
        let before = world.now;
        world.rest();
        assert_eq!(world.kernel.of(key(0), Owner::Ours).len(), 1);
        pauses.push(world.now.duration_since(before).as_millis());
    }
    assert_eq!(pauses, [0, 0, 0, 0, 0, 250, 500, 1000, 2000]);
    let texts = world.texts();
    assert_eq!(texts.len(), 6, "{texts:?}");
    assert_eq!(texts[0], "route 10.1.0.0/26 was deleted by another program; restored");
    assert!(texts[5].starts_with("another program keeps changing route 10.1.0.0/26"));
    // Peace makes it forget.
    world.now += Duration::from_secs(61);
    world.kernel.delete(key(0), Owner::Ours);
    let before = world.now;
    world.rest();
    assert_eq!(world.now, before);
}

#[test]
fn a_blocked_route_is_said_once_and_installed_when_the_way_is_free() {
    let mut world = World::started();
    let foreign = Owner::Foreign(FOREIGN);
    world.kernel.add(key(0), foreign, unicast(&[3]), false);
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    world.delta.want(change(0, Some(&[2, 3])));
    world.rest();
    assert_eq!(world.delta.counters().blocked, 1);
    assert_eq!(
        world.texts(),
        ["route 10.1.0.0/26 is blocked by a foreign route of protocol static (4) with the same metric"]
    );
    world.kernel.delete(key(0), foreign);
    world.rest();
    assert_eq!(world.kernel.of(key(0), Owner::Ours), [&unicast(&[2, 3])]);
    assert_eq!(world.texts(), ["route 10.1.0.0/26 is no longer blocked by a foreign route"]);
}

#[test]
fn a_refusal_is_tried_again_ever_more_slowly() {
    let mut world = World::started();
    world.delta.want(change(0, Some(&[2])));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let operation = world.delta.poll_operations(world.now, 1).pop().unwrap();
        let error = KernelError { errno: libc::EINVAL, message: Some("Nexthop has invalid gateway".into()) };
        world.delta.completed(operation, 1, Err(error), world.now);
        assert_eq!(world.delta.poll_operations(world.now, 1), []);
        let deadline = world.delta.deadline(world.now).unwrap();
        pauses.push(deadline.duration_since(world.now).as_millis());
        world.now = deadline;
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    assert_eq!(world.delta.counters().failed, 1);
    assert_eq!(
        world.texts(),
        ["the kernel refused route 10.1.0.0/26: Invalid argument (os error 22): Nexthop has invalid gateway"]
    );
    // A link that changes may be what was missing.
    world.delta.set_interfaces(links([true, false]));
    assert_eq!(world.delta.poll_operations(world.now, 1).len(), 1);
}

#[test]
fn a_next_hop_without_carrier_is_left_out_unless_it_is_the_last() {
    let mut world = World::started();
    world.delta.want(change(0, Some(&[2, 3])));
    for (carrier, legs) in [
        ([true, true], &[2, 3][..]),
        ([true, false], &[2]),
        ([false, false], &[2, 3]),
        ([false, true], &[3]),
        ([true, true], &[2, 3]),
    ] {
        world.delta.set_interfaces(links(carrier));
        world.rest();
        assert_eq!(world.kernel.of(key(0), Owner::Ours), [&unicast(legs)], "{carrier:?}");
    }
    world.delta.set_interfaces(Arc::default());
    world.rest();
    assert_eq!(world.kernel.of(key(0), Owner::Ours), [] as [&Route; 0], "there is no link at all");
    assert_eq!(world.delta.counters().pending, 1);
}

#[test]
fn a_deletion_that_is_older_than_our_write_is_no_deletion() {
    let mut world = World::started();
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    world.kernel.delete(key(0), Owner::Ours);
    // The dump is faster than the event.
    world.delta.resync(world.kernel.dump(), world.now);
    let operation = world.delta.poll_operations(world.now, 1).pop().unwrap();
    let (sequence, result) = world.kernel.operate(&operation);
    world.delta.completed(operation, sequence, result, world.now);
    world.deliver();
    assert_eq!(world.delta.poll_operations(world.now, 1), []);
    assert_eq!(world.delta.counters().installed, 1);
}

/// Pods come and go with their links, next to a million routes.
#[test]
fn only_a_link_that_a_route_wants_to_go_over_is_work() {
    let mut world = World::started();
    for legs in [&[2, 3][..], &[3], &[2]] {
        world.delta.want(change(0, Some(legs)));
        world.delta.want(change(1, Some(&[2])));
        world.rest();
    }
    world.delta.set_interfaces(links([true, false]));
    assert_eq!(world.delta.backlog(), 0);
    world.delta.set_interfaces(links([false, false]));
    assert_eq!(world.delta.backlog(), 2);
    world.delta.want(change(0, None));
    world.delta.want(change(1, None));
    world.rest();
    world.delta.set_interfaces(links([true, true]));
    assert_eq!(world.delta.backlog(), 0);
}

/// Events about routes that never were ours to know leave no trace.
#[test]
fn a_deletion_of_an_unknown_route_is_forgotten() {
    let mut world = World::started();
    for length in 8..=24 {
        let key = OURS.key(Prefix::masked("10.0.0.0".parse().unwrap(), length).unwrap());
        world.kernel.tell(Event::Deleted, key, Owner::Ours, unicast(&[2]));
    }
    world.rest();
    assert!(world.delta.entries.is_empty(), "{:?}", world.delta.entries);
}
