//! The reconciler against a model of the kernel's table; its rules one by one are in [`rules`], and those of a
//! restart in [`restart`].

mod model;
mod restart;
mod rules;

use std::net::IpAddr;

use bgp::Prefix;
use proptest::prelude::*;

use super::super::nexthop::{Nexthop, ObjectId, Shape};
use super::super::objects::{Fate, ObjectOperation, RETURN_PATIENCE};
use super::super::route::{Installed, Observation, Owner, Protocol, Route, Way};
use super::super::{Counters, RouteState};
use super::*;
use crate::kernel::interfaces::Interface;
use bgp::rib::Gateways;
use model::{Kernel, Queued};

const OURS: Ownership = Ownership { protocol: 186, table: 254, metric: 20 };
const FOREIGN: Protocol = Protocol(4);
/// Sequences that the property is tried with: some seconds of an unoptimised build.
const CASES: u32 = 1_000;
/// Two of each family.
const PREFIXES: [&str; 4] = ["10.1.0.0/26", "10.2.0.0/26", "fd00:1::/64", "fd00:2::/64"];
/// Next hops to choose from.
const LEGS: [&[u32]; 3] = [&[2], &[3], &[2, 3]];

fn settings(nexthop_objects: NexthopObjects) -> Settings {
    Settings {
        ownership: OURS,
        sweep_after: Settings::SWEEP_AFTER,
        event_buffer: 0,
        nexthop_objects,
        nexthop_ids: 1000..=1999,
    }
}

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
    Route { way: Way::InLine(gateways(links)), source: None }
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
        carrier_changes: 0,
        loopback: false,
        mac: None,
        mtu: 1500,
        link_local: None,
        addresses: Vec::new(),
    };
    let by_index = [2, 3].into_iter().zip(carrier).map(|pair| (InterfaceIndex(pair.0), link(pair))).collect();
    Arc::new(Interfaces { by_index })
}

/// Reconciler, kernel and a clock.
struct World {
    delta: Delta,
    kernel: Kernel,
    now: Instant,
}

impl World {
    fn new(objects: NexthopObjects) -> Self {
        let mut delta = Delta::new(&settings(objects));
        delta.set_interfaces(links([true, true]));
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        delta.resync_after(Duration::ZERO, now);
        Self { delta, kernel: Kernel::default(), now }
    }

    fn started(objects: NexthopObjects) -> Self {
        let mut world = Self::new(objects);
        world.delta.set_converged();
        world.rest();
        world
    }

    /// The same kernel, and a new run.
    fn restarted(self) -> Self {
        let mut world = Self::new(self.delta.configured);
        (world.kernel, world.now) = (self.kernel, self.now);
        world.delta.set_interfaces(links(world.kernel.carrier()));
        world.delta.resync_after(Duration::ZERO, world.now);
        world.kernel.queue.clear();
        (world.kernel.writes, world.kernel.object_writes) = (0, 0);
        world
    }

    fn deliver(&mut self) {
        while let Some(queued) = self.kernel.queue.pop_front() {
            match queued {
                Queued::Route(event, cause, observation) => {
                    self.delta.observe(event, cause, observation, self.now);
                }
                Queued::Object(nexthop, fate) => self.delta.observe_object(&nexthop, fate, self.now),
                Queued::Link(index) => self.delta.link_changed(InterfaceIndex(index), self.now),
                Queued::AddressGone(index) => {
                    let address = "192.0.2.2/24".parse().unwrap();
                    self.delta.address_gone(InterfaceIndex(index), address, self.now);
                }
            }
        }
        self.delta.drained();
    }

    fn resync(&mut self) {
        self.delta.resync_objects(&self.kernel.dump_objects());
        self.delta.resync(self.kernel.dump(), self.now);
    }

    /// One write as the task does it; events of others stay in the queue.
    fn write(&mut self, limit: usize) {
        self.deliver();
        self.write_objects();
        for operation in self.delta.poll_operations(self.now, limit) {
            let result = self.kernel.operate(&operation, self.delta.sets());
            self.delta.completed(operation, result, self.now);
        }
    }

    fn write_objects(&mut self) {
        for operation in self.delta.poll_objects(self.now) {
            let result = self.kernel.operate_object(&operation);
            self.delta.object_completed(&operation, result, self.now);
        }
    }

    /// What is due now.
    fn step(&mut self, limit: usize) {
        if self.delta.resync_at().is_some_and(|at| at <= self.now) {
            self.resync();
        }
        if self.delta.objects_resync_at().is_some_and(|at| at <= self.now) {
            self.delta.resync_objects(&self.kernel.dump_objects());
        }
        self.write(limit);
    }

    /// Until nothing is left to do, over all pauses.
    fn rest(&mut self) {
        for _ in 0..1000 {
            self.deliver();
            let Some(deadline) = self.delta.deadline(self.now) else { return };
            self.now = self.now.max(deadline);
            self.step(2);
        }
        panic!("never at rest: {:?}", self.delta);
    }

    /// Until nothing is left to do at once.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.deliver();
            match self.delta.deadline(self.now) {
                Some(deadline) if deadline <= self.now => self.step(2),
                _ => return,
            }
        }
        panic!("never settles: {:?}", self.delta);
    }

    fn carrier(&mut self, carrier: [bool; 2]) {
        self.kernel.set_carrier(carrier);
        self.delta.set_interfaces(links(carrier));
    }

    fn dead(&mut self, links: &[u32]) {
        self.delta.set_dead(Arc::new(gateways(links).into_iter().collect()));
    }

    fn ours(&self, which: usize) -> Vec<Route> {
        self.kernel.of(key(which), Owner::Ours)
    }

    fn texts(&mut self) -> Vec<String> {
        self.delta.take_notices().iter().map(ToString::to_string).collect()
    }
}

/// The counters by asking every route.
fn counted(delta: &Delta) -> Counters {
    let now = delta.counters();
    let mut counters = Counters { repairs: now.repairs, next_hops: now.next_hops, ..Counters::default() };
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
    /// Sessions that are lost: none, one or both.
    Dead(Vec<u32>),
    SomebodyDeletesAnObject(usize),
    ForeignAdds(usize, usize, bool),
    ForeignReplaces(usize, usize),
    ForeignDeletes(usize),
    SomebodyDeletesOurs(usize),
    SomebodyReplacesOurs(usize, usize),
    SomebodyAddsOurs(usize, usize),
    /// The kernel takes a route with a link.
    SilentLoss(usize),
    /// The kernel takes what is over a link that has no IPv4 address any more.
    LastIpv4Address(u32),
    Deliver,
    Write(usize),
    /// Events lost.
    Overrun,
    /// A dump while events that are older wait.
    EarlyDump,
    Wait(u64),
    /// A new run, which has been told nothing yet.
    Restart,
    /// Everything was said once.
    Converge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0..PREFIXES.len();
    let legs = || 0..LEGS.len();
    let step = prop_oneof![
        4 => (which(), prop::option::weighted(0.7, legs())).prop_map(|(w, l)| Step::Want(w, l)),
        1 => which().prop_map(Step::Blackhole),
        1 => any::<[bool; 2]>().prop_map(Step::Carrier),
        1 => prop::sample::subsequence(vec![2, 3], 0..=2).prop_map(Step::Dead),
        1 => (0..5_usize).prop_map(Step::SomebodyDeletesAnObject),
        2 => (which(), legs(), any::<bool>()).prop_map(|(w, l, front)| Step::ForeignAdds(w, l, front)),
        1 => (which(), legs()).prop_map(|(w, l)| Step::ForeignReplaces(w, l)),
        2 => which().prop_map(Step::ForeignDeletes),
        2 => which().prop_map(Step::SomebodyDeletesOurs),
        1 => (which(), legs()).prop_map(|(w, l)| Step::SomebodyReplacesOurs(w, l)),
        1 => (which(), legs()).prop_map(|(w, l)| Step::SomebodyAddsOurs(w, l)),
        1 => which().prop_map(Step::SilentLoss),
        1 => (2..4_u32).prop_map(Step::LastIpv4Address),
        2 => Just(Step::Deliver),
        4 => (1..4_usize).prop_map(Step::Write),
        1 => Just(Step::Overrun),
        1 => Just(Step::EarlyDump),
        1 => (1..2000_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Converge),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be there in the end, kept beside the reconciler.
#[derive(Default)]
struct Expected {
    learned: [Option<usize>; PREFIXES.len()],
    blackholes: BTreeSet<Prefix>,
    carrier: Option<[bool; 2]>,
    dead: Vec<u32>,
    /// Changed by the foreign program alone.
    foreign: BTreeMap<Key, Vec<Route>>,
}

impl Expected {
    fn ours(&self, which: usize, objects: NexthopObjects) -> Option<Route> {
        if self.blackholes.contains(&key(which).prefix) {
            return Some(Route { way: Way::Blackhole, source: None });
        }
        let legs = LEGS[self.learned[which]?];
        let carrier = self.carrier.unwrap_or([true, true]);
        let those = |condition: &dyn Fn(u32) -> bool| -> Vec<u32> {
            legs.iter().copied().filter(|&leg| condition(leg)).collect()
        };
        let runs = |leg| carrier[usize::from(leg == 3)];
        let living = those(&|leg| runs(leg) && !self.dead.contains(&leg));
        match objects {
            NexthopObjects::Off => {
                let usable = [living, those(&runs), legs.to_vec()].into_iter().find(|legs| !legs.is_empty());
                usable.map(|legs| unicast(&legs))
            }
            NexthopObjects::Auto | NexthopObjects::On => (!living.is_empty()).then(|| unicast(&living)),
        }
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
            world.carrier(carrier);
        }
        Step::Dead(ref links) => {
            expected.dead.clone_from(links);
            world.dead(links);
        }
        Step::SomebodyDeletesAnObject(which) => world.kernel.delete_object(which),
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
        Step::LastIpv4Address(link) => world.kernel.take_last_ipv4_address(link),
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
        Step::EarlyDump => world.resync(),
        Step::Wait(milliseconds) => world.now += Duration::from_millis(milliseconds),
        Step::Restart => {
            let fresh = World::new(world.delta.configured);
            *world = std::mem::replace(world, fresh).restarted();
            *expected = Expected { carrier: expected.carrier, ..Expected::default() };
        }
        Step::Converge => world.delta.set_converged(),
    }
    expected.foreign = foreign_routes(&world.kernel);
}

fn foreign_routes(kernel: &Kernel) -> BTreeMap<Key, Vec<Route>> {
    let of = |key| kernel.of(key, Owner::Foreign(FOREIGN));
    (0..PREFIXES.len()).map(|which| (key(which), of(key(which)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_ends_as_wanted_and_foreign_routes_are_untouched(
        objects in prop::sample::select(vec![NexthopObjects::Off, NexthopObjects::On]),
        steps in steps(),
    ) {
        let mut world = World::started(objects);
        let mut expected = Expected::default();
        for step in &steps {
            take(&mut world, &mut expected, step);
            prop_assert_eq!(world.delta.counters(), counted(&world.delta));
        }
        world.delta.set_converged();
        world.rest();
        prop_assert_eq!(foreign_routes(&world.kernel), expected.foreign.clone());
        let mut waiting = 0;
        for (which, prefix) in PREFIXES.into_iter().enumerate() {
            let has = world.ours(which);
            let wanted = Vec::from_iter(expected.ours(which, objects));
            let blocked = !expected.foreign[&key(which)].is_empty();
            prop_assert!(has == wanted || (blocked && has.is_empty()), "{}: {:?}, not {:?}", prefix, has, wanted);
            let is_wanted = expected.learned[which].is_some() || expected.blackholes.contains(&key(which).prefix);
            waiting += usize::from(is_wanted && wanted.is_empty() && !blocked);
        }
        let counters = world.delta.counters();
        let blocked_without_a_way = counters.pending + counters.blocked >= waiting;
        prop_assert!(blocked_without_a_way, "{:?}, {} have no way", counters, waiting);
        prop_assert_eq!((counters.failed, counters.stale), (0, 0));
    }
}
