//! Watches that tell in any order: lists that are cut off and begun again, objects that are told twice, that come and go
//! and cannot be read, each kind as fast as it likes.
//!
//! Once every watch has told of its whole list, and what was missing in it is confirmed, what follows depends on the objects
//! alone. What was decided before counts for as long as, and no longer than,
//! - this node's object is not there, or never could be read: for all blocks and services;
//! - there was no whole list of affinities or of pools, or an affinity never could be read: for Calico's blocks;
//! - an IPAMBlock has not been told of, or never could be read: for this block, if it is confirmed;
//! - there was no whole list of services or of slices: for services;
//! - any of the first three: for a borrowed address whose pod is here.

use super::*;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use bgp::Family;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::objects::{AddressKind, Endpoint, Health, Object as _, TrafficPolicy, Unreadable};

/// Sequences that each property is tried with: some seconds of an unoptimised build.
const CASES: u32 = 512;
/// Names of objects, of whichever kind.
const NAMES: [&str; 3] = ["x", "y", "z"];
/// This one is nobody else's in [`what_stays_ours_is_never_withdrawn`].
const STABLE: &str = "stable";
const BLOCKS: [&str; 3] = [BLOCK, "10.1.8.128/26", "fd00:10:1::/122"];
const POOLS: [&str; 3] = ["10.1.0.0/16", "10.1.8.0/24", "fd00:10::/48"];
const LOCAL_PODS: [&str; 6] =
    ["10.1.8.193", "10.1.8.129", "fd00:10:1::1", "10.42.1.1", "10.1.8.65", "192.0.2.1"];
const CIDR: &str = "10.42.1.0/24";

/// What a watch says of an object.
#[derive(Debug, Clone)]
enum Said<T> {
    There(T),
    Garbled,
    Gone,
}

type Saying<T> = (&'static str, Said<T>);

/// What a watch goes through.
#[derive(Debug, Clone)]
enum Episode<T> {
    List(Vec<Saying<T>>),
    ListCutOff(Vec<Saying<T>>),
    Events(Vec<Saying<T>>),
}

/// A watch from its beginning to a whole list and a few repetitions.
#[derive(Debug, Clone)]
struct Script<T> {
    episodes: Vec<Episode<T>>,
    /// What else is told during the last list.
    besides: Vec<Saying<T>>,
    objects: BTreeMap<&'static str, T>,
}

fn any_script<T: Debug + Clone + 'static>(
    names: &'static [&'static str],
    any: BoxedStrategy<T>,
) -> BoxedStrategy<Script<T>> {
    let said = prop_oneof![
        4 => any.clone().prop_map(Said::There),
        1 => Just(Said::Garbled),
        2 => Just(Said::Gone),
    ];
    let sayings = vec((select(names), said), 0..5).boxed();
    let episode = prop_oneof![
        sayings.clone().prop_map(Episode::List),
        sayings.clone().prop_map(Episode::ListCutOff),
        sayings.clone().prop_map(Episode::Events),
    ];
    let objects = btree_map(select(names), any, 0..=names.len());
    (vec(episode, 0..4), sayings, objects)
        .prop_map(|(episodes, besides, objects)| Script { episodes, besides, objects })
        .boxed()
}

fn told<T>((name, said): Saying<T>) -> Told<T> {
    match said {
        Said::There(object) => Told::There(named(name), Ok(object)),
        Said::Garbled => Told::There(named(name), Err(Unreadable::Json("spec".to_owned()))),
        Said::Gone => Told::Gone(named(name)),
    }
}

impl<T: Clone> Script<T> {
    /// All that the watch tells, with the final objects in its last list.
    fn play(&self) -> VecDeque<Told<T>> {
        let mut all: VecDeque<Told<T>> = self.episodes.iter().flat_map(Episode::play).collect();
        all.push_back(Told::ListBegins);
        all.extend(self.besides.iter().cloned().map(told));
        // Whatever else was said of it in this list, the last word is the truth.
        for (name, _) in self.besides.iter().filter(|(name, _)| !self.objects.contains_key(name)) {
            all.push_back(Told::Gone(named(*name)));
        }
        let there = || self.objects.iter().map(|(name, object)| told((*name, Said::There(object.clone()))));
        all.extend(there());
        all.push_back(Told::ListEnds);
        all.extend(there());
        all
    }

    /// The objects, once more.
    fn list(&self) -> Vec<Told<T>> {
        let there = self.objects.iter().map(|(name, object)| told((*name, Said::There(object.clone()))));
        [Told::ListBegins].into_iter().chain(there).chain([Told::ListEnds]).collect()
    }

    fn known(&self) -> Collection<T> {
        known(self.objects.iter().map(|(name, object)| (named(*name), object.clone())))
    }

    /// As if one object were there all the time, readable or not: in each whole list, and never gone.
    fn with(mut self, name: &'static str, stable: &T, when_garbled: Said<T>) -> Self {
        let replace = |sayings: &mut Vec<Saying<T>>| {
            for (_, said) in sayings.iter_mut().filter(|(of, _)| *of == name) {
                *said = match said {
                    Said::There(_) | Said::Gone => Said::There(stable.clone()),
                    Said::Garbled => when_garbled.clone(),
                };
            }
        };
        for episode in &mut self.episodes {
            match episode {
                Episode::List(sayings) => {
                    replace(sayings);
                    if sayings.iter().all(|(of, _)| *of != name) {
                        sayings.push((name, Said::There(stable.clone())));
                    }
                }
                Episode::ListCutOff(sayings) | Episode::Events(sayings) => replace(sayings),
            }
        }
        replace(&mut self.besides);
        self.objects.insert(name, stable.clone());
        self
    }
}

impl<T: Clone> Episode<T> {
    fn play(&self) -> Vec<Told<T>> {
        let (begins, sayings, ends) = match self {
            Self::List(sayings) => (Some(Told::ListBegins), sayings, Some(Told::ListEnds)),
            Self::ListCutOff(sayings) => (Some(Told::ListBegins), sayings, None),
            Self::Events(sayings) => (None, sayings, None),
        };
        begins.into_iter().chain(sayings.iter().cloned().map(told)).chain(ends).collect()
    }
}

/// All watches. There is one for each IPAMBlock that is asked for, with the one name that it can have.
#[derive(Debug, Clone)]
struct Scripts {
    nodes: Script<Node>,
    affinities: Script<Affinity>,
    blocks: BTreeMap<Prefix, Script<objects::Block>>,
    pools: Script<Pool>,
    services: Script<Service>,
    slices: Script<Slice>,
}

/// What is still to be told, and what follows from what was.
struct Run {
    sources: Sources,
    scripts: Scripts,
    nodes: VecDeque<Told<Node>>,
    affinities: VecDeque<Told<Affinity>>,
    blocks: BTreeMap<Prefix, VecDeque<Told<objects::Block>>>,
    pools: VecDeque<Told<Pool>>,
    services: VecDeque<Told<Service>>,
    slices: VecDeque<Told<Slice>>,
    objects: Objects,
    desired: Desired,
}

/// The next thing that a watch says, if it has any more to say.
fn step<T>(watch: &mut VecDeque<Told<T>>, collection: &mut Collection<T>) -> bool {
    watch.pop_front().map(|told| collection.handle(told)).is_some()
}

impl Run {
    fn new(scripts: Scripts, before: Desired) -> Self {
        let Scripts { nodes, affinities, blocks: _, pools, services, slices } = &scripts;
        let mut run = Self {
            sources: with_everything(),
            nodes: nodes.play(),
            affinities: affinities.play(),
            blocks: BTreeMap::new(),
            pools: pools.play(),
            services: services.play(),
            slices: slices.play(),
            scripts,
            objects: Objects {
                local_pods: local_pods(),
                inherited: Inherited::of(&before),
                ..Objects::default()
            },
            desired: before,
        };
        run.decide();
        run
    }

    fn decide(&mut self) {
        self.objects.settle_harmless(&self.sources, &self.desired);
        self.desired = desired(&self.sources, &self.objects, &self.desired);
        let asked = asked_blocks(&self.sources, &self.objects, &self.desired);
        self.blocks.retain(|prefix, _| asked.contains(prefix));
        self.objects.blocks.retain(|prefix, _| asked.contains(prefix));
        for prefix in asked {
            let script = &self.scripts.blocks[&prefix];
            self.blocks.entry(prefix).or_insert_with(|| script.play());
            self.objects.blocks.entry(prefix).or_default();
        }
    }

    /// One more thing is told by the watch of this number, or by the next that has anything to say; `false` at the end.
    fn step(&mut self, number: usize) -> bool {
        let count = 5 + self.blocks.len();
        let has_said = (0..count).any(|offset| match (number + offset) % count {
            0 => match self.nodes.pop_front() {
                Some(told) => {
                    let asked = self.objects.handle_node(&self.sources, told);
                    self.list_again(asked);
                    true
                }
                None => false,
            },
            1 => step(&mut self.affinities, &mut self.objects.affinities),
            2 => step(&mut self.pools, &mut self.objects.pools),
            3 => step(&mut self.services, &mut self.objects.services),
            4 => step(&mut self.slices, &mut self.objects.slices),
            block => {
                let (prefix, watch) = self.blocks.iter_mut().nth(block - 5).unwrap();
                watch.pop_front().map(|told| self.objects.handle_block(*prefix, told)).is_some()
            }
        });
        // Whether this is sooner or later than anything else that is told must not matter.
        let is_over =
            (!has_said || number.is_multiple_of(16)) && self.objects.is_hold_down_needed(&self.sources);
        if is_over {
            self.objects.end_hold_down();
            self.nodes.extend(self.scripts.nodes.list());
        }
        if has_said || is_over {
            self.decide();
        }
        has_said || is_over
    }

    fn list_again(&mut self, asked: Vec<Watched>) {
        for Watched { kind, block } in asked {
            match (kind, block) {
                (_, Some(prefix)) => {
                    let list = self.scripts.blocks[&prefix].list();
                    self.blocks.get_mut(&prefix).unwrap().extend(list);
                }
                (Affinity::KIND, None) => self.affinities.extend(self.scripts.affinities.list()),
                (Pool::KIND, None) => self.pools.extend(self.scripts.pools.list()),
                (Service::KIND, None) => self.services.extend(self.scripts.services.list()),
                (Slice::KIND, None) => self.slices.extend(self.scripts.slices.list()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What is announced, though the IPAMBlock that was told of names another node.
    fn stolen(&self) -> Vec<Prefix> {
        let is_of_another = |prefix: &&Prefix| {
            let mut told = self.objects.blocks.get(prefix).into_iter().flat_map(Collection::values);
            told.any(|block| matches!(&block.owner, Owner::Node(node) if node != HERE))
        };
        announced(&self.desired).iter().filter(is_of_another).copied().collect()
    }
}

fn announced(desired: &Desired) -> BTreeSet<Prefix> {
    desired.blocks.iter().filter(|(_, block)| block.is_announced()).map(|(prefix, _)| *prefix).collect()
}

fn with_everything() -> Sources {
    let services = config::Services {
        load_balancer: vec![prefix("198.51.100.0/30")],
        external: vec![prefix("198.51.100.0/29")],
        cluster: vec![prefix("10.96.0.0/16")],
        aggregate: true,
    };
    let borrowed = Borrowed::Advertise { community: None, limit: 100 };
    let calico = Some(Calico { api: CalicoApi::Any, borrowed });
    Sources { services: Some(services), pods: Pods { calico, ..sources().pods }, ..sources() }
}

/// Pods here: in each block, in another one of a pool, and in none.
fn local_pods() -> Option<PodAddresses> {
    let addresses = LOCAL_PODS.map(|text| text.parse().unwrap());
    Some(Arc::new(addresses.into()))
}

fn any_name() -> impl Strategy<Value = String> {
    select(vec![HERE, HERE, THERE, ELSEWHERE]).prop_map(str::to_owned)
}

fn any_prefix(of: &'static [&'static str]) -> impl Strategy<Value = Prefix> {
    select(of).prop_map(prefix)
}

fn any_node() -> BoxedStrategy<Node> {
    let services = prop_oneof![3 => Just(ServicesHere::Announced), 1 => Just(ServicesHere::Excluded)];
    let pod_cidrs = btree_set(any_prefix(&[CIDR, BLOCK, "10.1.8.128/26"]), 0..3);
    (pod_cidrs, services)
        .prop_map(|(cidrs, services)| Node {
            pod_cidrs: cidrs.into_iter().collect(),
            services,
            ..Node::default()
        })
        .boxed()
}

fn any_affinity() -> BoxedStrategy<Affinity> {
    use AffinityState::{Confirmed, Gone, Pending, PendingDeletion};
    let state = select(vec![Confirmed, Confirmed, Confirmed, Pending, PendingDeletion, Gone]);
    (any_name(), any_prefix(&BLOCKS), state)
        .prop_map(|(node, block, state)| Affinity { node, block, state })
        .boxed()
}

fn any_owner() -> BoxedStrategy<Owner> {
    prop_oneof![4 => any_name().prop_map(Owner::Node), 1 => Just(Owner::Nobody)].boxed()
}

fn any_pool() -> BoxedStrategy<Pool> {
    use PoolWay::{Announced, Ipip, NotExported, Vxlan};
    let way = select(vec![Announced, Announced, Announced, NotExported, Ipip, Vxlan]);
    (any_prefix(&POOLS), way).prop_map(|(cidr, way)| Pool { cidr, way }).boxed()
}

fn any_service() -> BoxedStrategy<Service> {
    use AddressKind::{Cluster, External, LoadBalancer};
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let address = (select(vec![LoadBalancer, External, Cluster]), 0_u8..8).prop_map(|(kind, last)| {
        let first = if kind == Cluster { [10, 96, 0] } else { [198, 51, 100] };
        (kind, [first[0], first[1], first[2], last].into())
    });
    (vec(address, 0..3), policy(), policy())
        .prop_map(|(addresses, external_traffic, internal_traffic)| Service {
            addresses,
            external_traffic,
            internal_traffic,
        })
        .boxed()
}

fn any_slice() -> BoxedStrategy<Slice> {
    let health = select(vec![Health::Out, Health::Terminating, Health::Ready]);
    let endpoint = (proptest::option::of(any_name()), health);
    let endpoint = endpoint.prop_map(|(node, health)| Endpoint { node, health });
    let family = proptest::option::weighted(0.9, Just(Family::Ipv4Unicast));
    (proptest::option::weighted(0.9, select(&NAMES)), family, vec(endpoint, 0..3))
        .prop_map(|(service, family, endpoints)| Slice {
            service: service.map(str::to_owned),
            family,
            endpoints,
        })
        .boxed()
}

fn any_scripts() -> impl Strategy<Value = Scripts> {
    let of_block = |cidr: &'static str| {
        let any = any_owner().prop_map(move |owner| objects::Block { cidr: prefix(cidr), owner });
        any_script(&[STABLE], any.boxed()).prop_map(move |script| (prefix(cidr), script))
    };
    let blocks = BLOCKS.map(of_block).prop_map(BTreeMap::from);
    (
        any_script(&[HERE], any_node()),
        any_script(&["x", "y", "z", STABLE], any_affinity()),
        blocks,
        any_script(&["x", "y", "z", STABLE], any_pool()),
        any_script(&NAMES, any_service()),
        any_script(&NAMES, any_slice()),
    )
        .prop_map(|(nodes, affinities, blocks, pools, services, slices)| Scripts {
            nodes,
            affinities,
            blocks,
            pools,
            services,
            slices,
        })
}

fn any_before() -> impl Strategy<Value = Desired> {
    let standing = select(vec![
        Standing::Announced,
        Standing::Announced,
        Standing::Pending,
        Standing::PendingDeletion,
        Standing::OwnerUnknown,
        Standing::PoolsUnknown,
        Standing::Unclaimed,
        Standing::OwnedBy(THERE.to_owned()),
        Standing::NotExported,
        Standing::Ipip,
    ]);
    let source = select(vec![BlockSource::Node, BlockSource::Calico]);
    let rivals = btree_set(any_name(), 0..2);
    let block = (source, standing, rivals).prop_map(|(source, standing, rivals)| match source {
        BlockSource::Node => block(source, Standing::Announced),
        BlockSource::Calico => Block { source, standing, rivals },
    });
    let services = btree_map(any_prefix(&["198.51.100.1/32", "10.96.0.0/16"]), Just([].into()), 0..3);
    let standing =
        select(vec![BorrowedStanding::Announced, BorrowedStanding::RouteUnknown, BorrowedStanding::NoPool]);
    let pod = select(&LOCAL_PODS[..]).prop_map(|text| text.parse().unwrap());
    let borrowed = btree_map(pod, standing, 0..3);
    let blocks = btree_map(any_prefix(&BLOCKS), block, 0..3);
    (blocks, borrowed, services).prop_map(|(blocks, borrowed, services)| Desired {
        blocks,
        borrowed,
        services,
        ..Desired::default()
    })
}

/// Which watch is the next to say something; in the end each has said everything.
fn any_turns() -> impl Strategy<Value = Vec<usize>> {
    vec(0_usize..64, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// And on the way there no block is announced that its IPAMBlock gives to another node.
    #[test]
    fn what_is_desired_in_the_end_depends_on_the_objects_in_the_end(
        scripts in any_scripts(),
        here in any_node(),
        turns in any_turns(),
        before in any_before(),
        other_before in any_before(),
    ) {
        let mut scripts = scripts;
        scripts.nodes.objects.insert(HERE, here);
        let all = Objects {
            nodes: scripts.nodes.known(),
            affinities: scripts.affinities.known(),
            blocks: scripts.blocks.iter().map(|(prefix, script)| (*prefix, script.known())).collect(),
            pools: scripts.pools.known(),
            services: scripts.services.known(),
            slices: scripts.slices.known(),
            local_pods: local_pods(),
            ..Objects::default()
        };
        let expected = desired(&with_everything(), &all, &other_before);
        let mut run = Run::new(scripts, before);
        let mut turns = turns.into_iter();
        while run.step(turns.next().unwrap_or_default()) {
            prop_assert_eq!(run.stolen(), []);
        }
        prop_assert_eq!(&run.desired, &expected);
        prop_assert_eq!(
            asked_blocks(&run.sources, &run.objects, &run.desired),
            asked_blocks(&run.sources, &all, &other_before)
        );
    }

    /// A block of Calico's and a CIDR of the node's, whose objects say so each time that they can be read: from the moment
    /// when they are announced, and that may have been before a restart, they are.
    #[test]
    fn what_stays_ours_is_never_withdrawn(
        scripts in any_scripts(),
        turns in any_turns(),
        before in any_before(),
        was_announced in any::<bool>(),
    ) {
        let mut scripts = scripts;
        let (ours, cidr) = (prefix(BLOCK), prefix(CIDR));
        let stable = Affinity { node: HERE.to_owned(), block: ours, state: AffinityState::Confirmed };
        // No other object says anything else of it.
        let elsewhere = |affinity: &mut Affinity| {
            if affinity.node == HERE && affinity.block == ours {
                affinity.node = THERE.to_owned();
            }
        };
        scripts.affinities.each(elsewhere);
        scripts.affinities = scripts.affinities.with(STABLE, &stable, Said::Garbled);
        let owned = objects::Block { cidr: ours, owner: owned_by(HERE) };
        let block_script = scripts.blocks.remove(&ours).unwrap();
        scripts.blocks.insert(ours, block_script.with(STABLE, &owned, Said::Garbled));
        // The narrowest; and readable, since a wider one would count without it.
        let its_pool = Pool { cidr: ours, way: PoolWay::Announced };
        scripts.pools = scripts.pools.with(STABLE, &its_pool, Said::There(its_pool.clone()));
        // The node may be gone for a while, which takes nothing back.
        scripts.nodes.each(|node| node.pod_cidrs = vec![cidr]);

        let mut before = before;
        before.blocks.remove(&ours);
        if was_announced {
            before.blocks.insert(ours, block(BlockSource::Calico, Standing::Announced));
            before.blocks.insert(cidr, block(BlockSource::Node, Standing::Announced));
        }
        let mut expected: BTreeSet<Prefix> = announced(&before);
        expected.retain(|prefix| [ours, cidr].contains(prefix));
        let mut run = Run::new(scripts, before);
        let mut turns = turns.into_iter();
        while run.step(turns.next().unwrap_or_default()) {
            let now = announced(&run.desired);
            prop_assert!(now.is_superset(&expected), "{:?}", run.desired);
            expected.extend(now.into_iter().filter(|prefix| [ours, cidr].contains(prefix)));
        }
        prop_assert!(expected.contains(&ours), "everything was said: {:?}", run.desired);
    }
}

impl<T> Script<T> {
    /// Changes each object that is ever told of.
    fn each(&mut self, change: impl Fn(&mut T)) {
        let of_episodes = self.episodes.iter_mut().flat_map(|episode| match episode {
            Episode::List(sayings) | Episode::ListCutOff(sayings) | Episode::Events(sayings) => sayings,
        });
        for (_, said) in of_episodes.chain(&mut self.besides) {
            match said {
                Said::There(object) => change(object),
                Said::Garbled | Said::Gone => {}
            }
        }
        self.objects.values_mut().for_each(change);
    }
}
