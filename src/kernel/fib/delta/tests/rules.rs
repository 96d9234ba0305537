//! The rules of the reconciler one by one, each in the smallest world that shows it.

use super::*;

#[test]
fn nothing_is_written_before_the_table_was_read() {
    let mut world = World::new(NexthopObjects::Off);
    world.delta.want(change(0, Some(&[2])));
    assert_eq!(world.delta.poll_operations(world.now, 10), []);
    world.resync();
    assert_eq!(world.delta.poll_operations(world.now, 10).len(), 1);
}

#[test]
fn an_inherited_route_stays_until_convergence() {
    let mut world = World::new(NexthopObjects::Off);
    world.kernel.add(key(0), Owner::Ours, unicast(&[2]), false);
    world.kernel.add(key(1), Owner::Ours, unicast(&[2]), false);
    world.delta.want(change(1, Some(&[2])));
    world.rest();
    assert_eq!(world.kernel.writes, 0, "what is there as wanted is not written again");
    assert_eq!(world.delta.counters(), Counters { installed: 1, stale: 1, ..Counters::default() });
    world.delta.set_converged();
    world.rest();
    assert_eq!(world.ours(0), []);
    assert_eq!(world.ours(1), [unicast(&[2])]);
}

#[test]
fn a_fight_is_slowed_down_and_said_once() {
    let mut world = World::started(NexthopObjects::Off);
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        world.kernel.delete(key(0), Owner::Ours);
        let before = world.now;
        world.rest();
        assert_eq!(world.ours(0).len(), 1);
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
    let mut world = World::started(NexthopObjects::Off);
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
    assert_eq!(world.ours(0), [unicast(&[2, 3])]);
    assert_eq!(world.texts(), ["route 10.1.0.0/26 is no longer blocked by a foreign route"]);
}

#[test]
fn a_refusal_is_tried_again_ever_more_slowly() {
    let mut world = World::started(NexthopObjects::Off);
    world.delta.want(change(0, Some(&[2])));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let operation = world.delta.poll_operations(world.now, 1).pop().unwrap();
        let error = KernelError { errno: libc::EINVAL, message: Some("Nexthop has invalid gateway".into()) };
        world.delta.completed(operation, Err(error), world.now);
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
    let mut world = World::started(NexthopObjects::Off);
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
        assert_eq!(world.ours(0), [unicast(legs)], "{carrier:?}");
    }
    world.delta.set_interfaces(Arc::default());
    world.rest();
    assert_eq!(world.ours(0), [], "there is no link at all");
    assert_eq!(world.delta.counters().pending, 1);
}

#[test]
fn a_deletion_that_is_older_than_our_write_is_no_deletion() {
    let mut world = World::started(NexthopObjects::Off);
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    world.kernel.delete(key(0), Owner::Ours);
    // The dump is faster than the event.
    world.resync();
    let operation = world.delta.poll_operations(world.now, 1).pop().unwrap();
    let result = world.kernel.operate(&operation, world.delta.sets());
    world.delta.completed(operation, result, world.now);
    world.rest();
    assert_eq!(world.kernel.writes, 2, "what was there already is not written again");
    assert_eq!(world.delta.counters().installed, 1);
}

const BOTH: [usize; 2] = [0, 2];

/// One route of each family over both links, by objects.
fn over_both() -> World {
    let mut world = World::started(NexthopObjects::On);
    for which in BOTH {
        world.delta.want(change(which, Some(&[2, 3])));
    }
    world.rest();
    for which in BOTH {
        assert_eq!(world.ours(which), [unicast(&[2, 3])]);
    }
    assert_eq!(world.kernel.object_writes, 3, "two members and one group, whatever the family");
    world.kernel.writes = 0;
    world
}

#[test]
fn a_lost_session_costs_one_deletion_and_its_return_one_group() {
    let mut world = over_both();
    let before = world.kernel.object_writes;
    world.dead(&[3]);
    world.settle();
    assert_eq!(world.kernel.object_writes - before, 1);
    // The RIB says the same, prefix by prefix.
    for which in BOTH {
        world.delta.want(change(which, Some(&[2])));
        world.settle();
        assert_eq!(world.ours(which), [unicast(&[2])]);
    }
    assert_eq!(world.delta.counters().installed, 2);
    // It comes back; as long as a prefix is not announced again nothing goes there.
    world.dead(&[]);
    world.settle();
    world.delta.want(change(BOTH[0], Some(&[2, 3])));
    world.settle();
    assert_eq!(world.ours(BOTH[1]), [unicast(&[2])]);
    world.delta.want(change(BOTH[1], Some(&[2, 3])));
    world.settle();
    for which in BOTH {
        assert_eq!(world.ours(which), [unicast(&[2, 3])]);
    }
    assert_eq!(world.kernel.writes, 0, "no route was written");
    assert_eq!(world.kernel.object_writes - before, 3, "the member and the group again");
}

#[test]
fn a_loan_that_does_not_end_is_ended() {
    let mut world = over_both();
    world.dead(&[3]);
    world.settle();
    for which in BOTH {
        world.delta.want(change(which, Some(&[2])));
    }
    world.settle();
    world.dead(&[]);
    world.delta.want(change(BOTH[0], Some(&[2, 3])));
    let since = world.now;
    // The other prefix is never announced again.
    while world.ours(BOTH[0]) != [unicast(&[2, 3])] {
        world.now = world.delta.deadline(world.now).unwrap().max(world.now);
        world.step(2);
        assert_eq!(world.ours(BOTH[1]), [unicast(&[2])]);
    }
    let waited = world.now.duration_since(since);
    assert!((RETURN_PATIENCE..2 * RETURN_PATIENCE).contains(&waited), "{waited:?}");
    assert_eq!(world.kernel.writes, 1, "only the route that wants something else");
}

#[test]
fn carrier_loss_writes_nothing_and_its_return_no_route() {
    let mut world = over_both();
    let before = world.kernel.object_writes;
    world.carrier([true, false]);
    world.settle();
    for which in BOTH {
        world.delta.want(change(which, Some(&[2])));
        world.settle();
        assert_eq!(world.ours(which), [unicast(&[2])]);
    }
    assert_eq!((world.kernel.writes, world.kernel.object_writes - before), (0, 0));
    world.carrier([true, true]);
    for which in BOTH {
        world.delta.want(change(which, Some(&[2, 3])));
    }
    world.settle();
    for which in BOTH {
        assert_eq!(world.ours(which), [unicast(&[2, 3])]);
    }
    assert_eq!((world.kernel.writes, world.kernel.object_writes - before), (0, 2));
}

#[test]
fn with_the_last_next_hop_the_routes_go_and_with_the_first_they_are_back() {
    let mut world = over_both();
    world.carrier([false, false]);
    world.settle();
    for which in BOTH {
        assert_eq!(world.ours(which), []);
    }
    let counters = world.delta.counters();
    assert_eq!((counters.installed, counters.pending, world.kernel.writes), (0, 2, 0));
    world.carrier([true, false]);
    world.settle();
    for which in BOTH {
        assert_eq!(world.ours(which), [unicast(&[2])]);
    }
    world.carrier([true, true]);
    world.settle();
    for which in BOTH {
        assert_eq!(world.ours(which), [unicast(&[2, 3])]);
    }
    assert_eq!(world.kernel.writes, 2, "each route once");
}

#[test]
fn a_restart_inherits_objects_and_sweeps_what_nobody_uses() {
    let mut world = over_both();
    world.delta.want(change(1, Some(&[3])));
    world.settle();
    let mut world = world.restarted();
    for which in BOTH {
        world.delta.want(change(which, Some(&[2, 3])));
    }
    world.settle();
    assert_eq!((world.kernel.writes, world.kernel.object_writes), (0, 0));
    assert_eq!(world.delta.counters().stale, 1);
    world.delta.set_converged();
    world.settle();
    assert_eq!(world.ours(1), []);
    assert_eq!(world.kernel.objects.len(), 4, "a group is kept for a while");
    world.rest();
    assert_eq!(world.kernel.objects.len(), 3);
    for which in BOTH {
        world.delta.want(change(which, None));
    }
    world.rest();
    assert_eq!(world.kernel.objects.len(), 0);
}

#[test]
fn who_keeps_deleting_objects_gets_next_hops_in_the_routes() {
    let mut world = World::started(NexthopObjects::Auto);
    world.delta.want(change(0, Some(&[2, 3])));
    world.rest();
    for _ in 0..10 {
        let group = world.kernel.objects.len().saturating_sub(1);
        world.kernel.delete_object(group);
        world.rest();
        assert_eq!(world.ours(0), [unicast(&[2, 3])]);
    }
    assert!(matches!(world.kernel.routes[&key(0)][..], [(Owner::Ours, Route { way: Way::InLine(_), .. })]));
    let texts = world.texts();
    assert_eq!(
        texts,
        ["another program keeps deleting nexthop objects; next hops go into the routes from now on"]
    );
}

#[test]
fn an_identifier_of_somebody_else_is_left_alone() {
    let mut world = World::started(NexthopObjects::On);
    let foreign = Shape::Member(gateways(&[3])[0]);
    world.kernel.objects.insert(ObjectId(1000), foreign.clone());
    world.kernel.foreign_objects.insert(ObjectId(1000));
    world.delta.want(change(0, Some(&[2])));
    world.rest();
    assert_eq!(world.ours(0), [unicast(&[2])]);
    world.delta.want(change(0, None));
    world.rest();
    assert_eq!(world.kernel.objects.len(), 1);
    assert_eq!(world.kernel.objects[&ObjectId(1000)], foreign);
}

/// Pods come and go with their links, next to a million routes.
#[test]
fn a_link_that_no_route_wants_to_go_over_is_no_work() {
    for objects in [NexthopObjects::Off, NexthopObjects::On] {
        let mut world = World::started(objects);
        world.delta.want(change(0, Some(&[2])));
        world.rest();
        world.kernel.writes = 0;
        world.delta.set_interfaces(links([true, false]));
        assert_eq!(world.delta.poll_operations(world.now, 10), []);
        assert_eq!((world.delta.walk, world.delta.backlog()), (Walk::Resting, 0));
    }
}

/// Events about routes that never were ours to know leave no trace.
#[test]
fn a_deletion_of_an_unknown_route_is_forgotten() {
    let mut world = World::started(NexthopObjects::On);
    for length in 8..=24 {
        let key = OURS.key(Prefix::masked("10.0.0.0".parse().unwrap(), length).unwrap());
        world.kernel.tell(Event::Deleted, key, Owner::Ours, unicast(&[2]));
        world.kernel.tell(Event::Deleted, key, Owner::Foreign(FOREIGN), unicast(&[2]));
    }
    world.rest();
    assert_eq!(world.delta.table.cases().count(), 0);
    assert!(world.delta.troubles.is_empty(), "{:?}", world.delta.troubles);
}

/// An address that somebody gave an uplink and takes away again.
#[test]
fn what_goes_with_the_last_ipv4_address_of_a_link_is_back() {
    let mut world = World::started(NexthopObjects::Off);
    let numbered = [Gateway { address: "192.0.2.7".parse().unwrap(), interface: None }];
    let numbered = FibChange { prefix: prefix(PREFIXES[1]), gateways: Some(numbered.into_iter().collect()) };
    for change in [change(0, Some(&[2])), numbered] {
        world.delta.want(change);
    }
    world.rest();
    let before = [0, 1].map(|which| world.ours(which));
    world.kernel.take_last_ipv4_address(2);
    assert_eq!([0, 1].map(|which| world.ours(which)), [[], []]);
    world.rest();
    assert_eq!([0, 1].map(|which| world.ours(which)), before);
}

/// Pods come and go with their addresses, next to a million routes.
#[test]
fn an_address_of_a_link_that_no_route_goes_over_is_no_work() {
    for (objects, which, link) in
        [(NexthopObjects::Off, 0, 3), (NexthopObjects::Off, 2, 2), (NexthopObjects::On, 0, 2)]
    {
        let mut world = World::started(objects);
        world.delta.want(change(which, Some(&[2])));
        world.rest();
        world.kernel.take_last_ipv4_address(link);
        world.deliver();
        assert_eq!(world.delta.resync_at(), None);
    }
}

/// A pod here may take the address before anybody has heard of it.
#[test]
fn a_route_to_an_address_that_a_block_lends_yields_to_others() {
    for (host, block) in [("10.1.0.5/32", PREFIXES[0]), ("fd00:1::5/128", PREFIXES[2])] {
        yields_in(prefix(host), prefix(block));
    }
}

fn yields_in(host: Prefix, block: Prefix) {
    let (usual, yielding) = (OURS.key(host), OURS.yielding(host));
    assert!(yielding.metric > 1024);
    let lending = |lending: &[Prefix]| LocalRoutes {
        blackholes: [block].into(),
        lending: lending.iter().copied().collect(),
        ..LocalRoutes::default()
    };
    let want = |links: Option<&[u32]>| FibChange { prefix: host, gateways: links.map(gateways) };
    let mut world = World::started(NexthopObjects::Off);
    let there = |world: &World| [usual, yielding].map(|key| world.kernel.of(key, Owner::Ours).len());
    world.delta.set_local(&lending(&[block]));
    world.delta.want(want(Some(&[2])));
    world.rest();
    assert_eq!(there(&world), [0, 1]);
    assert_eq!(
        world.delta.route(host).iter().filter(|route| route.state == RouteState::Installed).count(),
        1
    );
    // Whose block it is, and whether it lends, may change under a route that stays.
    world.delta.set_local(&lending(&[]));
    world.rest();
    assert_eq!(there(&world), [1, 0]);
    world.delta.set_local(&lending(&[block]));
    world.rest();
    assert_eq!(there(&world), [0, 1]);
    // A next run finds it where it wants it, and until then it stays.
    let mut world = world.restarted();
    world.delta.set_local(&lending(&[block]));
    world.rest();
    world.delta.want(want(Some(&[2])));
    world.delta.set_converged();
    world.rest();
    assert_eq!((there(&world), world.kernel.writes), ([0, 1], 0));
    world.delta.want(want(None));
    world.rest();
    assert_eq!(there(&world), [0, 0]);
    // Other addresses are as ever.
    let elsewhere = prefix("10.2.0.5/32");
    world.delta.want(FibChange { prefix: elsewhere, gateways: Some(gateways(&[3])) });
    world.rest();
    assert_eq!(world.kernel.of(OURS.key(elsewhere), Owner::Ours).len(), 1);
}
