//! What is missing in lists: whatever lists say, they alone take nothing back.

use super::*;

fn here_node() -> (ObjectName, Node) {
    (named(HERE), Node::default())
}

/// A settled cluster, and what follows from it.
fn settled() -> (Objects, Desired) {
    let objects = cluster([(HERE, BLOCK, AffinityState::Confirmed)], [(BLOCK, Some(owned_by(HERE)))]);
    let desired = desired(&sources(), &objects, &Desired::default());
    assert_eq!(announces(&desired), [prefix(BLOCK)]);
    (objects, desired)
}

fn announces(desired: &Desired) -> Vec<Prefix> {
    desired.blocks.iter().filter(|(_, block)| block.is_announced()).map(|(prefix, _)| *prefix).collect()
}

fn list<T>(collection: &mut Collection<T>, objects: impl IntoIterator<Item = (ObjectName, T)>) {
    collection.handle(Told::ListBegins);
    objects.into_iter().for_each(|(name, object)| collection.handle(Told::There(name, Ok(object))));
    collection.handle(Told::ListEnds);
}

fn list_nodes(objects: &mut Objects, nodes: impl IntoIterator<Item = (ObjectName, Node)>) -> Vec<Watched> {
    let sources = sources();
    assert_eq!(objects.handle_node(&sources, Told::ListBegins), []);
    for (name, node) in nodes {
        assert_eq!(objects.handle_node(&sources, Told::There(name, Ok(node))), []);
    }
    objects.handle_node(&sources, Told::ListEnds)
}

fn decide(objects: &mut Objects, desired_now: &mut Desired) -> Vec<Prefix> {
    objects.settle_harmless(&sources(), desired_now);
    *desired_now = desired(&sources(), objects, desired_now);
    announces(desired_now)
}

/// What the log and `bgpctl` say of it.
fn missing(objects: &Objects) -> Vec<(&'static str, usize)> {
    objects.missing(&sources()).collect()
}

const AFFINITIES: Watched = Watched { kind: "BlockAffinity", block: None };

#[test]
fn a_block_goes_after_the_node_was_listed_and_a_second_list_has_it_not() {
    let (mut objects, mut now) = settled();
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    assert_eq!(missing(&objects), [("BlockAffinity", 1)]);
    assert!(objects.is_hold_down_needed(&sources()));
    // Lists that nobody asked for prove nothing.
    list(&mut objects.affinities, []);
    assert_eq!(list_nodes(&mut objects, [here_node()]), []);
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    objects.end_hold_down();
    assert!(!objects.is_hold_down_needed(&sources()), "it is under way");
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)], "the node was not listed yet");
    assert_eq!(list_nodes(&mut objects, [here_node()]), [AFFINITIES]);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), []);
    assert_eq!(missing(&objects), []);
}

#[test]
fn a_server_without_this_node_proves_nothing_until_it_has_it_again() {
    let (mut objects, mut now) = settled();
    list(&mut objects.affinities, []);
    objects.end_hold_down();
    assert_eq!(list_nodes(&mut objects, []), []);
    for _ in 0..3 {
        assert!(!objects.is_hold_down_needed(&sources()), "nothing can be asked of it");
        list(&mut objects.affinities, []);
        assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    }
    // It comes as an event, which is no list.
    let (name, node) = here_node();
    assert_eq!(objects.handle_node(&sources(), Told::There(name, Ok(node))), []);
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    assert!(objects.is_hold_down_needed(&sources()));
    objects.end_hold_down();
    assert_eq!(list_nodes(&mut objects, [here_node()]), [AFFINITIES]);
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), []);
}

#[test]
fn an_event_takes_back_at_once_and_what_is_there_again_was_never_away() {
    let (mut objects, mut now) = settled();
    let (name, confirmed) = affinity(HERE, BLOCK, AffinityState::Confirmed);
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    list(&mut objects.affinities, [(name.clone(), confirmed)]);
    assert_eq!((decide(&mut objects, &mut now), missing(&objects)), (vec![prefix(BLOCK)], vec![]));
    assert!(!objects.is_hold_down_needed(&sources()));
    list(&mut objects.affinities, []);
    objects.affinities.handle(Told::Gone(name));
    assert_eq!(decide(&mut objects, &mut now), []);
}

#[test]
fn the_ipam_block_is_missed_as_well() {
    let (mut objects, mut now) = settled();
    let of_block = Watched { kind: "IPAMBlock", block: Some(prefix(BLOCK)) };
    let empty = |objects: &mut Objects| {
        objects.handle_block(prefix(BLOCK), Told::ListBegins);
        objects.handle_block(prefix(BLOCK), Told::ListEnds);
    };
    empty(&mut objects);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    objects.end_hold_down();
    assert_eq!(list_nodes(&mut objects, [here_node()]), [of_block]);
    empty(&mut objects);
    assert_eq!(decide(&mut objects, &mut now), []);
    assert_eq!(now.blocks[&prefix(BLOCK)].standing, Standing::Unclaimed);
}

#[test]
fn what_takes_nothing_back_is_not_asked_about() {
    let (mut objects, mut now) = settled();
    let ours = affinity(HERE, BLOCK, AffinityState::Confirmed);
    let of_another = affinity(THERE, "10.1.9.0/26", AffinityState::Confirmed);
    list(&mut objects.affinities, [ours.clone(), of_another]);
    decide(&mut objects, &mut now);
    list(&mut objects.affinities, [ours]);
    // Nor does a pool that is gone: Calico's own BIRD announces what is left of it.
    list(&mut objects.pools, []);
    assert_eq!(decide(&mut objects, &mut now), [prefix(BLOCK)]);
    assert_eq!((missing(&objects), objects.pools.missing()), (vec![], 0));
    assert!(!objects.is_hold_down_needed(&sources()));
}

#[test]
fn what_an_earlier_process_announced_is_missed_by_the_first_list() {
    let released = "10.1.8.0/26";
    let (told, mut now) = settled();
    now.blocks.insert(prefix(released), block(BlockSource::Calico, Standing::Announced));
    let both = [prefix(released), prefix(BLOCK)];
    let mut objects = Objects { inherited: Inherited::of(&now), ..Objects::default() };
    objects.blocks = told.blocks.clone();
    objects.blocks.insert(prefix(released), Collection::default());
    list_nodes(&mut objects, [here_node()]);
    list(&mut objects.pools, []);
    assert_eq!(decide(&mut objects, &mut now), both);
    let (name, confirmed) = affinity(HERE, BLOCK, AffinityState::Confirmed);
    list(&mut objects.affinities, [(name.clone(), confirmed)]);
    assert_eq!(decide(&mut objects, &mut now), both);
    assert_eq!(missing(&objects), [("BlockAffinity", 1)]);
    // What this process was told of goes with its event, though the rest is in doubt.
    objects.affinities.handle(Told::Gone(name));
    assert_eq!(decide(&mut objects, &mut now), [prefix(released)]);
    objects.end_hold_down();
    assert!(list_nodes(&mut objects, [here_node()]).contains(&AFFINITIES));
    list(&mut objects.affinities, []);
    assert_eq!(decide(&mut objects, &mut now), []);
}

#[test]
fn services_go_when_both_kinds_were_listed_again() {
    let services = config::Services {
        load_balancer: vec![prefix("198.51.100.0/24")],
        external: Vec::new(),
        cluster: Vec::new(),
        aggregate: false,
    };
    let sources = Sources { services: Some(services), ..sources() };
    let address = (objects::AddressKind::LoadBalancer, "198.51.100.1".parse().unwrap());
    let service = Service {
        addresses: vec![address],
        external_traffic: objects::TrafficPolicy::Cluster,
        internal_traffic: objects::TrafficPolicy::Cluster,
    };
    let announced = |desired: &Desired| desired.services.len();
    let mut objects =
        Objects { nodes: node(&[]), services: known([(named("s"), service)]), ..Objects::default() };
    list(&mut objects.slices, []);
    let mut now = Desired::default();
    let mut decide = |objects: &mut Objects| {
        objects.settle_harmless(&sources, &now);
        now = desired(&sources, objects, &now);
        announced(&now)
    };
    assert_eq!(decide(&mut objects), 1);
    list(&mut objects.services, []);
    assert_eq!(decide(&mut objects), 1);
    objects.end_hold_down();
    list_nodes(&mut objects, [here_node()]);
    list(&mut objects.services, []);
    assert_eq!(decide(&mut objects), 0);
    // Of an earlier process.
    let kept =
        Desired { services: [(prefix("198.51.100.1/32"), [address.0].into())].into(), ..Desired::default() };
    let mut objects = Objects { nodes: node(&[]), inherited: Inherited::of(&kept), ..Objects::default() };
    let mut now = kept;
    let mut decide = |objects: &mut Objects| {
        objects.settle_harmless(&sources, &now);
        now = desired(&sources, objects, &now);
        announced(&now)
    };
    list(&mut objects.services, []);
    list(&mut objects.slices, []);
    assert_eq!(decide(&mut objects), 1);
    assert_eq!(objects.missing(&sources).collect::<Vec<_>>(), [("Service", 1)]);
    assert!(objects.is_hold_down_needed(&sources));
    objects.end_hold_down();
    assert_eq!(objects.handle_node(&sources, Told::ListBegins), []);
    objects.handle_node(&sources, Told::There(named(HERE), Ok(Node::default())));
    assert_eq!(objects.handle_node(&sources, Told::ListEnds).len(), 2);
    list(&mut objects.services, []);
    assert_eq!(decide(&mut objects), 1, "the slices are still to come");
    list(&mut objects.slices, []);
    assert_eq!(decide(&mut objects), 0);
}

proptest::proptest! {
    /// Lists of whichever part of what there is, as often as they like, of whichever kind, and without an end: as long as no
    /// list of nodes that was asked for has this one.
    #[test]
    fn lists_alone_take_nothing_back(
        lists in proptest::collection::vec((0_usize..4, 0_usize..4, proptest::bool::ANY), 0..40),
    ) {
        let (whole, mut now) = settled();
        let expected = announces(&now);
        let mut objects = whole.clone();
        for (kind, part, is_over) in lists {
            if is_over && objects.is_hold_down_needed(&sources()) {
                objects.end_hold_down();
            }
            match kind {
                0 => list_part(&mut objects.affinities, &whole.affinities, part),
                1 => list_part(&mut objects.pools, &whole.pools, part),
                2 => drop(list_nodes(&mut objects, [])),
                _ => list_part(
                    objects.blocks.get_mut(&prefix(BLOCK)).unwrap(),
                    &whole.blocks[&prefix(BLOCK)],
                    part,
                ),
            }
            proptest::prop_assert_eq!(decide(&mut objects, &mut now), expected.clone());
        }
    }
}

/// The first object of it, or none; some lists are cut off.
fn list_part<T: Clone>(collection: &mut Collection<T>, whole: &Collection<T>, part: usize) {
    let objects = whole.iter().map(|(name, object)| (name.clone(), object.clone())).take(part % 2);
    collection.handle(Told::ListBegins);
    objects.for_each(|(name, object)| collection.handle(Told::There(name, Ok(object))));
    if part < 3 {
        collection.handle(Told::ListEnds);
    }
}
