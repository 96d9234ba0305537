//! Blocks: affinity, owner and pool, what is not known, and what was decided before.

use super::*;

use AffinityState::{Confirmed, Gone, Pending, PendingDeletion};

fn standing_of(state: AffinityState, owner: Option<Owner>, way: Option<PoolWay>) -> Option<Standing> {
    let mut objects = cluster([(HERE, BLOCK, state)], [(BLOCK, owner)]);
    objects.pools = known(way.map(|way| pool("10.1.0.0/16", way)));
    // With everything known, what was before is of no matter.
    let fresh = standing(&objects, &Desired::default(), BLOCK);
    for was in [Standing::Announced, Standing::OwnerUnknown, Standing::NotExported] {
        assert_eq!(standing(&objects, &before(&[(BLOCK, was)]), BLOCK), fresh);
    }
    fresh
}

/// The whole table: affinity, owner, pool.
#[test]
fn a_block_stands_as_its_affinity_its_owner_and_its_pool_have_it() {
    let ways = [
        None,
        Some(PoolWay::Announced),
        Some(PoolWay::NotExported),
        Some(PoolWay::Ipip),
        Some(PoolWay::Vxlan),
    ];
    let owners = [Some(owned_by(HERE)), Some(owned_by(THERE)), Some(Owner::Nobody), None];
    for way in ways {
        for owner in &owners {
            for state in [Confirmed, Pending, PendingDeletion, Gone] {
                let expected = match (state, owner, way) {
                    (Gone, _, _) => None,
                    // Whatever the affinity wants and the pool is like: no blackhole over the pods of others.
                    (_, Some(Owner::Node(node)), _) if node != HERE => Some(Standing::OwnedBy(node.clone())),
                    (Pending, _, _) => Some(Standing::Pending),
                    (PendingDeletion, _, _) => Some(Standing::PendingDeletion),
                    (Confirmed, _, Some(PoolWay::Ipip)) => Some(Standing::Ipip),
                    (Confirmed, _, Some(PoolWay::Vxlan)) => Some(Standing::Vxlan),
                    (Confirmed, _, Some(PoolWay::NotExported)) => Some(Standing::NotExported),
                    (Confirmed, None | Some(Owner::Nobody), _) => Some(Standing::Unclaimed),
                    // A pool that was deleted under its blocks leaves them as they are.
                    (Confirmed, Some(Owner::Node(_)), None | Some(PoolWay::Announced)) => {
                        Some(Standing::Announced)
                    }
                };
                assert_eq!(standing_of(state, owner.clone(), way), expected, "{state:?} {owner:?} {way:?}");
            }
        }
    }
}

#[test]
fn what_another_node_has_or_may_have_is_not_blackholed() {
    let rows = [
        (Standing::Announced, true),
        (Standing::Pending, true),
        (Standing::PendingDeletion, true),
        (Standing::Unclaimed, true),
        (Standing::NotExported, true),
        (Standing::OwnerUnknown, false),
        (Standing::PoolsUnknown, false),
        (Standing::OwnedBy(THERE.to_owned()), false),
        (Standing::Ipip, false),
        (Standing::Vxlan, false),
    ];
    for (standing, has_blackhole) in rows {
        let block = block(BlockSource::Calico, standing);
        for text in [BLOCK, "10.1.8.192/31", "fd00:10:1::/122"] {
            assert_eq!(block.has_blackhole(prefix(text)), has_blackhole, "{block:?} {text}");
        }
        for text in ["10.1.8.192/32", "fd00:10:1::1/128"] {
            assert!(!block.has_blackhole(prefix(text)), "{block:?} {text}");
        }
    }
}

#[test]
fn a_block_of_one_address_is_announced_like_any_other() {
    let single = "10.1.8.200/32";
    let objects = cluster([(HERE, single, Confirmed)], [(single, Some(owned_by(HERE)))]);
    assert_eq!(standing(&objects, &Desired::default(), single), Some(Standing::Announced));
}

/// Calico issue 6486: two nodes hold an affinity for one block.
#[test]
fn of_two_nodes_that_claim_a_block_its_owner_announces_it_and_both_are_shown() {
    let claims = [
        (HERE, BLOCK, Confirmed),
        (THERE, BLOCK, Confirmed),
        (ELSEWHERE, BLOCK, Pending),
        (THERE, "10.1.8.0/26", Confirmed),
    ];
    for (owner, expected) in [
        (owned_by(HERE), Standing::Announced),
        (owned_by(THERE), Standing::OwnedBy(THERE.to_owned())),
        (Owner::Nobody, Standing::Unclaimed),
    ] {
        let objects = cluster(claims, [(BLOCK, Some(owner))]);
        let blocks = desired(&sources(), &objects, &Desired::default()).blocks;
        let rivals = BTreeSet::from([THERE.to_owned()]);
        let expected = Block { source: BlockSource::Calico, standing: expected, rivals };
        assert_eq!(blocks, BTreeMap::from([(prefix(BLOCK), expected)]));
    }
}

/// Whichever of them comes first by its name.
#[test]
fn of_two_affinities_of_this_node_for_one_block_the_confirmed_one_counts() {
    let all = [Confirmed, Pending, PendingDeletion, Gone];
    for (owner, expected) in [
        (Some(owned_by(HERE)), Standing::Announced),
        (Some(owned_by(THERE)), Standing::OwnedBy(THERE.to_owned())),
        (None, Standing::Unclaimed),
    ] {
        for other in all {
            for names in [["a", "b"], ["b", "a"]] {
                let mut objects = cluster([], [(BLOCK, owner.clone())]);
                let states = [Confirmed, other];
                objects.affinities = known(
                    names
                        .into_iter()
                        .zip(states)
                        .map(|(name, state)| (named(name), affinity(HERE, BLOCK, state).1)),
                );
                let found = standing(&objects, &Desired::default(), BLOCK);
                assert_eq!(found, Some(expected.clone()), "{other:?} {names:?} {owner:?}");
            }
        }
    }
}

#[test]
fn the_narrowest_pool_counts() {
    let mut objects = cluster([(HERE, BLOCK, Confirmed)], [(BLOCK, Some(owned_by(HERE)))]);
    objects.pools = known([
        pool("10.0.0.0/8", PoolWay::Ipip),
        pool("10.1.8.0/24", PoolWay::NotExported),
        pool("10.1.0.0/16", PoolWay::Vxlan),
        pool("10.1.9.0/24", PoolWay::Announced),
        pool("10.1.8.192/27", PoolWay::Announced),
    ]);
    assert_eq!(standing(&objects, &Desired::default(), BLOCK), Some(Standing::NotExported));
}

#[test]
fn fifty_blocks_stand_each_for_itself() {
    let texts: Vec<String> =
        (0..50).map(|number| format!("10.1.{}.{}/26", number / 4, number % 4 * 64)).collect();
    let affinities = texts.iter().map(|text| (HERE, text.as_str(), Confirmed));
    let owner = |number: usize| owned_by(if number % 10 == 7 { THERE } else { HERE });
    let owners = texts.iter().enumerate().map(|(number, text)| (text.as_str(), Some(owner(number))));
    let objects = cluster(affinities, owners);
    let asked: BTreeSet<Prefix> = texts.iter().map(|text| prefix(text)).collect();
    assert_eq!(asked_blocks(&sources(), &objects, &Desired::default()), asked);
    let blocks = desired(&sources(), &objects, &Desired::default()).blocks;
    assert_eq!(blocks.len(), 50);
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(blocks[&prefix(text)].is_announced(), number % 10 != 7, "{text}");
    }
}

#[test]
fn what_the_node_object_has_is_announced() {
    let cidrs = ["10.42.1.0/24", "fd00:10:42:1::/64"];
    let mut objects = cluster([(HERE, BLOCK, Confirmed)], [(BLOCK, Some(owned_by(HERE)))]);
    objects.nodes = node(&cidrs);
    let blocks = desired(&sources(), &objects, &Desired::default()).blocks;
    let announced = |source| block(source, Standing::Announced);
    let of_node = cidrs.map(|text| (prefix(text), announced(BlockSource::Node)));
    let of_calico = (prefix(BLOCK), announced(BlockSource::Calico));
    assert_eq!(blocks, of_node.into_iter().chain([of_calico]).collect());

    let only = |node_cidrs, calico| {
        let pods = Pods { static_blocks: Vec::new(), node_cidrs, calico };
        let sources = Sources { pods, ..sources() };
        desired(&sources, &objects, &Desired::default()).blocks.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(only(Some(NodeCidrs {}), None), cidrs.map(prefix));
    assert_eq!(only(None, Some(Calico { api: CalicoApi::Any, borrowed: Borrowed::Refuse })), [prefix(BLOCK)]);
    assert_eq!(only(None, None), []);
}

/// A server that was brought back from an old copy has perhaps lost the blocks with the node.
#[test]
fn a_block_that_is_nobodys_stays_where_the_server_does_not_know_the_node() {
    for owner in [None, Some(Owner::Nobody)] {
        let mut objects = cluster([(HERE, BLOCK, Confirmed)], [(BLOCK, owner)]);
        let was = before(&[(BLOCK, Standing::Announced)]);
        assert_eq!(standing(&objects, &was, BLOCK), Some(Standing::Unclaimed));
        objects.nodes = known([]);
        assert_eq!(standing(&objects, &was, BLOCK), Some(Standing::Announced));
        assert_eq!(standing(&objects, &Desired::default(), BLOCK), Some(Standing::OwnerUnknown));
    }
}

/// A CIDR of the node's that is a block of Calico's as well: Calico knows better whose it is.
#[test]
fn calicos_word_on_a_block_goes_before_the_nodes() {
    for (owner, expected) in
        [(owned_by(THERE), Standing::OwnedBy(THERE.to_owned())), (owned_by(HERE), Standing::Announced)]
    {
        let mut objects = cluster([(HERE, BLOCK, Confirmed)], [(BLOCK, Some(owner))]);
        objects.nodes = node(&[BLOCK]);
        assert_eq!(standing(&objects, &Desired::default(), BLOCK), Some(expected));
    }
}

/// What is in force stays as long as the server has not said everything: each kind that may be unknown, by itself.
#[test]
fn nothing_is_taken_back_before_the_server_has_said_everything() {
    let was = Desired {
        blocks: [
            (prefix(BLOCK), block(BlockSource::Calico, Standing::Announced)),
            (prefix("10.1.9.0/26"), block(BlockSource::Calico, Standing::PendingDeletion)),
            (prefix("10.42.1.0/24"), block(BlockSource::Node, Standing::Announced)),
        ]
        .into(),
        ..Desired::default()
    };
    let calicos: BTreeMap<_, _> =
        was.blocks.clone().into_iter().filter(|(_, block)| block.source == BlockSource::Calico).collect();
    let nothing = BTreeMap::new();
    let complete = cluster([], []);
    let of_another = known([(named(THERE), Node::default())]);
    let rows = [
        (complete.clone(), &nothing),
        (Objects::default(), &was.blocks),
        (Objects { nodes: Collection::default(), ..complete.clone() }, &was.blocks),
        // A server that was brought back empty, or from a copy of before this node.
        (Objects { nodes: known([]), ..complete.clone() }, &was.blocks),
        (Objects { nodes: of_another, ..complete.clone() }, &was.blocks),
        // The node object is there, and without CIDRs.
        (Objects { affinities: Collection::default(), ..complete.clone() }, &calicos),
        (Objects { pools: Collection::default(), ..complete }, &calicos),
    ];
    for (objects, expected) in rows {
        assert_eq!(&desired(&sources(), &objects, &was).blocks, expected, "{objects:?}");
    }
}

/// As long as not everything was said, one who is known to have a block has it.
#[test]
fn what_is_kept_is_given_up_to_an_owner() {
    let was = before(&[(BLOCK, Standing::Announced)]);
    let mut objects = Objects::default();
    assert_eq!(asked_blocks(&sources(), &objects, &was), [prefix(BLOCK)].into());
    for (owner, expected) in [
        (Some(owned_by(THERE)), Standing::OwnedBy(THERE.to_owned())),
        (Some(owned_by(HERE)), Standing::Announced),
        (Some(Owner::Nobody), Standing::Announced),
        (None, Standing::Announced),
    ] {
        objects.blocks = [ipam(BLOCK, owner)].into();
        assert_eq!(standing(&objects, &was, BLOCK), Some(expected));
    }
}

/// Until the owner is known, a confirmed block that was announced is; and another waits.
#[test]
fn an_owner_that_is_awaited_takes_nothing_back_and_gives_nothing() {
    let objects = cluster([(HERE, BLOCK, Confirmed)], []);
    assert_eq!(asked_blocks(&sources(), &objects, &Desired::default()), [prefix(BLOCK)].into());
    assert_eq!(standing(&objects, &Desired::default(), BLOCK), Some(Standing::OwnerUnknown));
    assert_eq!(
        standing(&objects, &before(&[(BLOCK, Standing::Announced)]), BLOCK),
        Some(Standing::Announced)
    );
    for was in [Standing::OwnedBy(THERE.to_owned()), Standing::Pending, Standing::Unclaimed] {
        assert_eq!(standing(&objects, &before(&[(BLOCK, was)]), BLOCK), Some(Standing::OwnerUnknown));
    }
    // The list is under way, and the only object that can be in it was told.
    let mut objects = objects;
    let (cidr, owner) = (prefix(BLOCK), owned_by(THERE));
    let mut told = Collection::default();
    told.handle(Told::ListBegins);
    told.handle(Told::There(named("10-1-8-192-26"), Ok(objects::Block { cidr, owner })));
    objects.blocks = [(cidr, told)].into();
    let was = before(&[(BLOCK, Standing::Announced)]);
    assert_eq!(standing(&objects, &was, BLOCK), Some(Standing::OwnedBy(THERE.to_owned())));
}

fn unreadable<T>() -> Collection<T> {
    let mut collection = known([]);
    let why = objects::Unreadable::Json("spec".to_owned());
    collection.handle(Told::There(named("x"), Err(why)));
    collection
}

/// A restart beside a server whose objects make no sense to us any more.
#[test]
fn objects_that_never_could_be_read_take_nothing_back() {
    let was = before(&[(BLOCK, Standing::Announced)]);
    let mut objects = cluster([(HERE, BLOCK, Confirmed)], []);
    objects.blocks = [(prefix(BLOCK), unreadable())].into();
    assert_eq!(standing(&objects, &was, BLOCK), Some(Standing::Announced), "its IPAMBlock");
    assert_eq!(standing(&objects, &Desired::default(), BLOCK), Some(Standing::OwnerUnknown), "its IPAMBlock");

    // Perhaps this one's affinity: then its owner tells.
    for (owner, expected) in [
        (Some(owned_by(HERE)), Some(Standing::Announced)),
        (Some(owned_by(THERE)), Some(Standing::OwnedBy(THERE.to_owned()))),
        (Some(Owner::Nobody), None),
        (None, None),
    ] {
        let mut objects = cluster([], [(BLOCK, owner.clone())]);
        objects.affinities = unreadable();
        assert_eq!(asked_blocks(&sources(), &objects, &was), [prefix(BLOCK)].into());
        assert_eq!(standing(&objects, &was, BLOCK), expected, "{owner:?}");
    }
}

/// A block goes over to another node: step by step, in each order in which the watches may tell of it.
#[test]
fn live_migration_never_has_the_block_here_when_it_is_there() {
    let ours = (HERE, BLOCK, Confirmed);
    let theirs = (THERE, BLOCK, Confirmed);
    /// Affinities, owner, and how the block stands then.
    type Step<'a> = (&'a [(&'a str, &'a str, AffinityState)], Option<Owner>, Option<Standing>);
    let steps: [&[Step<'_>]; 3] = [
        // Theirs appears before ours goes.
        &[
            (&[ours, theirs], Some(owned_by(HERE)), Some(Standing::Announced)),
            (&[ours, theirs], Some(owned_by(THERE)), Some(Standing::OwnedBy(THERE.to_owned()))),
            (&[theirs], Some(owned_by(THERE)), None),
        ],
        // Ours goes first, as Calico releases a block.
        &[
            (&[(HERE, BLOCK, PendingDeletion)], Some(owned_by(HERE)), Some(Standing::PendingDeletion)),
            (&[(HERE, BLOCK, PendingDeletion)], None, Some(Standing::PendingDeletion)),
            (&[(HERE, BLOCK, Gone)], None, None),
            (&[], None, None),
            (&[theirs], Some(owned_by(THERE)), None),
        ],
        // What becomes of the affinity is told late: the block is theirs already.
        &[
            (&[ours], None, Some(Standing::Unclaimed)),
            (&[ours], Some(owned_by(THERE)), Some(Standing::OwnedBy(THERE.to_owned()))),
            (
                &[(HERE, BLOCK, PendingDeletion)],
                Some(owned_by(THERE)),
                Some(Standing::OwnedBy(THERE.to_owned())),
            ),
            (&[theirs], Some(owned_by(THERE)), None),
            // And back.
            (
                &[(HERE, BLOCK, Pending), theirs],
                Some(owned_by(THERE)),
                Some(Standing::OwnedBy(THERE.to_owned())),
            ),
            (&[(HERE, BLOCK, Pending)], None, Some(Standing::Pending)),
            (&[ours], Some(owned_by(HERE)), Some(Standing::Announced)),
        ],
    ];
    for steps in steps {
        let mut now = before(&[(BLOCK, Standing::Announced)]);
        for (affinities, owner, expected) in steps {
            let objects = cluster(affinities.iter().copied(), [(BLOCK, owner.clone())]);
            now = desired(&sources(), &objects, &now);
            let found = now.blocks.get(&prefix(BLOCK)).map(|block| block.standing.clone());
            assert_eq!(found, *expected, "{affinities:?} {owner:?}");
        }
    }
}
