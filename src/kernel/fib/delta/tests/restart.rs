//! What a run finds of an earlier one it leaves alone while it learns its neighbors' tables one after the other.

use super::*;

const MODES: [NexthopObjects; 2] = [NexthopObjects::Off, NexthopObjects::On];
/// One of each family.
const BOTH: [usize; 2] = [0, 2];

/// A new run over a kernel that has those routes over links 2 and 3.
fn restarted(objects: NexthopObjects, routes: &[usize]) -> World {
    let mut world = World::started(objects);
    for &which in routes {
        world.delta.want(change(which, Some(&[2, 3])));
    }
    world.rest();
    world.restarted()
}

fn announced(world: &mut World, routes: &[usize], links: &[u32]) {
    for &which in routes {
        world.delta.want(change(which, Some(links)));
    }
    world.settle();
}

fn routes_go_over(world: &World, routes: &[usize], links: &[u32]) {
    for &which in routes {
        assert_eq!(world.ours(which), [unicast(links)], "{which}");
    }
}

fn writes(world: &World) -> (usize, usize) {
    (world.kernel.writes, world.kernel.object_writes)
}

#[test]
fn neighbors_that_come_one_after_the_other_cost_nothing() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &BOTH, &[3]);
        routes_go_over(&world, &BOTH, &[2, 3]);
        let status = world.delta.routes(None, 1).pop().unwrap();
        assert_eq!(status.state, RouteState::Installed);
        assert_eq!(status.kind, Some(super::super::super::Kind::Unicast(gateways(&[2, 3]))), "what it does");
        announced(&mut world, &BOTH, &[2, 3]);
        world.delta.set_converged();
        world.rest();
        assert_eq!(writes(&world), (0, 0), "{objects:?}");
        assert_eq!(world.delta.counters().installed, 2);
    }
}

#[test]
fn what_nobody_has_confirmed_by_the_end_goes() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &[0], &[3]);
        world.delta.set_converged();
        world.settle();
        routes_go_over(&world, &[0], &[3]);
        assert_eq!(world.ours(2), []);
        assert_eq!(world.kernel.writes, 2);
    }
}

#[test]
fn a_next_hop_that_is_not_there_is_written_at_once() {
    for objects in MODES {
        let mut world = World::started(objects);
        announced(&mut world, &BOTH, &[2]);
        let mut world = world.restarted();
        announced(&mut world, &BOTH, &[3]);
        routes_go_over(&world, &BOTH, &[3]);
    }
}

#[test]
fn what_is_taken_back_goes_at_once() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &BOTH, &[3]);
        world.delta.want(change(0, None));
        world.settle();
        assert_eq!(world.ours(0), []);
        announced(&mut world, &[2], &[2, 3]);
        announced(&mut world, &[2], &[2]);
        routes_go_over(&world, &[2], &[2]);
    }
}

#[test]
fn a_next_hop_that_dies_is_taken_out_at_once() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &BOTH, &[3]);
        world.dead(&[2]);
        world.settle();
        routes_go_over(&world, &BOTH, &[3]);
        let expected = match objects {
            NexthopObjects::Off => (2, 0),
            NexthopObjects::Auto | NexthopObjects::On => (0, 1),
        };
        assert_eq!(writes(&world), expected);
    }
}

#[test]
fn without_a_confirmed_next_hop_that_lives_the_others_stay() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &BOTH, &[3]);
        world.carrier([true, false]);
        world.settle();
        for which in BOTH {
            let routes = world.ours(which);
            let [Route { way: Way::InLine(legs), .. }] = &routes[..] else { panic!("{routes:?}") };
            assert!(legs.contains(&gateways(&[2])[0]), "{routes:?}");
        }
        assert_eq!(world.kernel.writes, 0);
    }
}

#[test]
fn what_another_program_changes_is_repaired_at_once() {
    for objects in MODES {
        let mut world = restarted(objects, &BOTH);
        announced(&mut world, &BOTH, &[3]);
        world.kernel.delete(key(0), Owner::Ours);
        world.kernel.replace(key(2), Owner::Ours, Route { way: Way::Blackhole, source: None });
        world.rest();
        routes_go_over(&world, &BOTH, &[3]);
    }
}

/// A new run finds the group of both links with the second one gone from it.
fn pruned(routes: &[usize]) -> World {
    let mut world = World::started(NexthopObjects::On);
    announced(&mut world, routes, &[2, 3]);
    world.carrier([true, false]);
    world.settle();
    world.restarted()
}

#[test]
fn a_pruned_group_grows_by_one_write_when_its_member_is_back() {
    const ALL: [usize; 3] = [0, 1, 2];
    for moment in ["after convergence", "before convergence"] {
        let mut world = pruned(&ALL);
        announced(&mut world, &ALL, &[2]);
        if moment == "after convergence" {
            world.delta.set_converged();
            world.rest();
        }
        assert_eq!(writes(&world), (0, 0));
        world.carrier([true, true]);
        for which in ALL {
            routes_go_over(&world, &ALL, &[2]);
            announced(&mut world, &[which], &[2, 3]);
        }
        routes_go_over(&world, &ALL, &[2, 3]);
        world.delta.set_converged();
        world.rest();
        assert_eq!(writes(&world), (0, 2), "the member and the group, {moment}");
    }
}

#[test]
fn a_pruned_group_does_not_grow_under_routes_that_nobody_has_asked_for() {
    let mut world = pruned(&[0, 1]);
    world.carrier([true, true]);
    announced(&mut world, &[0], &[2, 3]);
    world.now += 2 * RETURN_PATIENCE;
    world.settle();
    routes_go_over(&world, &[0, 1], &[2]);
    announced(&mut world, &[1], &[2, 3]);
    routes_go_over(&world, &[0, 1], &[2, 3]);
    assert_eq!(writes(&world), (0, 2));
}

/// Of three routes on a group that an earlier run left, some want a second next hop in the end and some do not.
#[test]
fn the_smaller_camp_leaves_a_group_of_an_earlier_run() {
    for (more, same) in [(&[0, 1][..], &[2][..]), (&[0], &[1, 2])] {
        let mut world = World::started(NexthopObjects::On);
        announced(&mut world, &[0, 1, 2], &[2]);
        let mut world = world.restarted();
        announced(&mut world, &[0, 1, 2], &[2]);
        world.delta.set_converged();
        world.rest();
        announced(&mut world, more, &[2, 3]);
        assert_eq!(writes(&world), (0, 0), "the rest may still follow");
        world.now += 2 * RETURN_PATIENCE;
        world.settle();
        routes_go_over(&world, more, &[2, 3]);
        routes_go_over(&world, same, &[2]);
        assert_eq!(world.kernel.writes, 1, "one moves, whoever had the group");
    }
}

/// A table told in any order, next hop by next hop.
fn orders() -> impl Strategy<Value = Vec<(usize, u32)>> {
    let all: Vec<(usize, u32)> = (0..PREFIXES.len()).flat_map(|which| [(which, 2), (which, 3)]).collect();
    Just(all).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the earlier run had, and in whatever order the same is told again.
    #[test]
    fn the_same_table_told_again_writes_nothing(
        objects in prop::sample::select(MODES.to_vec()),
        tables in prop::collection::vec(prop::option::of(0..LEGS.len()), PREFIXES.len()),
        carrier in prop::sample::select(vec![[true, true], [true, false], [false, true]]),
        order in orders(),
    ) {
        let mut world = World::started(objects);
        world.carrier(carrier);
        for (which, legs) in tables.iter().enumerate() {
            world.delta.want(change(which, legs.map(|legs| LEGS[legs])));
        }
        world.rest();
        let before = world.kernel.routes.clone();
        let mut world = world.restarted();
        let mut told: [Vec<u32>; PREFIXES.len()] = Default::default();
        for (which, link) in order {
            let has_link = tables[which].is_some_and(|legs| LEGS[legs].contains(&link));
            let is_up = carrier[usize::from(link == 3)];
            if has_link && is_up {
                told[which].push(link);
                told[which].sort_unstable();
                world.delta.want(change(which, Some(&told[which])));
                world.settle();
            }
        }
        world.delta.set_converged();
        world.settle();
        let lost = before.iter().filter(|(key, routes)| !routes.is_empty() && world.kernel.routes[key].is_empty());
        prop_assert_eq!(world.kernel.writes, lost.count(), "only what goes over a dead link alone is swept");
        prop_assert_eq!(world.kernel.object_writes, 0);
    }
}
