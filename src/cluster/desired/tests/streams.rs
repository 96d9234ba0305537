//! Watches as data: each file in `streams/` is what an API server says, line by line, with what is to follow from it.
//!
//! | line | what it says |
//! |---|---|
//! | `BEGIN kind`, `END kind` | the list of a kind begins, is whole; of an IPAMBlock with its network, each being a watch |
//! | `LISTED object` | an object of the list |
//! | `HELD` | what is missing was missing for long enough: this node is asked for |
//! | `ADDED object`, `MODIFIED object`, `DELETED object` | as a watch says it |
//! | `RESTARTED` | the agent knows what it decided last, as it is kept in the file, and no objects |
//! | `BLOCKS ...` | expected: all blocks, and how each stands |
//! | `SERVICES ...` | expected: all that is announced for services |
//! | `ASKED ...` | expected: the IPAMBlocks that are asked for |
//! | `UNREADABLE ...` | expected: the objects that make no sense |
//!
//! A `#` begins a remark.

use super::*;

use serde_json::Value;

use crate::cluster::objects::{self as read, Object, Raw};

#[test]
fn a_node_starts() {
    replay(include_str!("streams/start.txt"));
}

#[test]
fn a_block_goes_to_another_node_and_another_comes() {
    replay(include_str!("streams/migration.txt"));
}

#[test]
fn lists_are_begun_again() {
    replay(include_str!("streams/relist.txt"));
}

#[test]
fn some_objects_make_no_sense() {
    replay(include_str!("streams/garbage.txt"));
}

/// What the task does, less the task.
#[derive(Default)]
struct Replay {
    objects: Objects,
    desired: Desired,
}

fn replay(stream: &str) {
    let mut replay = Replay::default();
    let mut expectations = 0;
    for (line, number) in stream.lines().zip(1..) {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let found = match word {
            "" | "#" => continue,
            "BEGIN" => replay.list(rest, Boundary::Begins),
            "END" => replay.list(rest, Boundary::Ends),
            "LISTED" | "ADDED" | "MODIFIED" | "DELETED" => replay.tell(word, rest),
            "RESTARTED" => replay.restart(),
            "HELD" => replay.end_hold_down(),
            "BLOCKS" => {
                Some(shown(replay.desired.blocks.iter().map(|(prefix, block)| block_text(*prefix, block))))
            }
            "SERVICES" => Some(shown(replay.desired.services.keys())),
            "ASKED" => Some(shown(replay.objects.blocks.keys())),
            "UNREADABLE" => Some(replay.unreadable()),
            other => panic!("line {number}: {other}"),
        };
        match found {
            Some(found) => {
                assert_eq!(found, rest, "line {number}: {line}");
                expectations += 1;
            }
            None => replay.decide(),
        }
    }
    assert!(expectations > 0, "a stream says what is to follow from it");
}

#[derive(Clone, Copy)]
enum Boundary {
    Begins,
    Ends,
}

impl Boundary {
    fn told<T>(self) -> Told<T> {
        match self {
            Self::Begins => Told::ListBegins,
            Self::Ends => Told::ListEnds,
        }
    }
}

impl Replay {
    fn sources() -> Sources {
        let services = config::Services {
            load_balancer: vec![prefix("198.51.100.0/24")],
            external: Vec::new(),
            cluster: vec![prefix("10.96.0.0/16")],
            aggregate: false,
        };
        Sources { services: Some(services), ..sources() }
    }

    fn decide(&mut self) {
        self.objects.settle_harmless(&Self::sources(), &self.desired);
        self.desired = desired(&Self::sources(), &self.objects, &self.desired);
        let asked = asked_blocks(&Self::sources(), &self.objects, &self.desired);
        self.objects.blocks.retain(|prefix, _| asked.contains(prefix));
        for prefix in asked {
            self.objects.blocks.entry(prefix).or_default();
        }
    }

    fn restart(&mut self) -> Option<String> {
        let kept = serde_json::to_string(&self.desired).unwrap();
        let desired = serde_json::from_str(&kept).unwrap();
        let objects = Objects { inherited: Inherited::of(&desired), ..Objects::default() };
        *self = Self { objects, desired };
        None
    }

    fn end_hold_down(&mut self) -> Option<String> {
        assert!(self.objects.is_hold_down_needed(&Self::sources()), "nothing is missing");
        self.objects.end_hold_down();
        None
    }

    fn list(&mut self, of: &str, boundary: Boundary) -> Option<String> {
        let Objects { affinities, pools, services, slices, .. } = &mut self.objects;
        match of.split_once(' ').unwrap_or((of, "")) {
            ("Node", "") => drop(self.objects.handle_node(&Self::sources(), boundary.told())),
            ("BlockAffinity", "") => affinities.handle(boundary.told()),
            ("IPPool", "") => pools.handle(boundary.told()),
            ("Service", "") => services.handle(boundary.told()),
            ("EndpointSlice", "") => slices.handle(boundary.told()),
            ("IPAMBlock", network) => self.tell_block(prefix(network), boundary.told()),
            other => panic!("{other:?}"),
        }
        None
    }

    fn tell_block(&mut self, of: Prefix, told: Told<read::Block>) {
        assert!(self.objects.blocks.contains_key(&of), "nobody asked for {of}");
        self.objects.handle_block(of, told);
    }

    fn tell(&mut self, word: &str, object: &str) -> Option<String> {
        let object: Value = serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
        let Objects { affinities, pools, services, slices, .. } = &mut self.objects;
        match object["kind"].as_str().unwrap() {
            "Node" => drop(self.objects.handle_node(&Self::sources(), told(word, &object))),
            "BlockAffinity" => affinities.handle(told(word, &object)),
            "IPPool" => pools.handle(told(word, &object)),
            "Service" => services.handle(told(word, &object)),
            "EndpointSlice" => slices.handle(told(word, &object)),
            "IPAMBlock" => {
                let network = prefix(object["spec"]["cidr"].as_str().unwrap());
                self.tell_block(network, told(word, &object));
            }
            other => panic!("{other}"),
        }
        None
    }

    fn unreadable(&self) -> String {
        fn names<T: Object>(collection: &Collection<T>) -> Vec<String> {
            collection.unreadable().map(|(name, why)| format!("{} {name} ({why})", T::KIND)).collect()
        }
        let Objects { nodes, affinities, blocks, pools, services, slices, .. } = &self.objects;
        let blocks = blocks.values().flat_map(names).collect();
        shown(
            [names(nodes), names(affinities), blocks, names(pools), names(services), names(slices)].concat(),
        )
    }
}

fn told<T: Object>(word: &str, object: &Value) -> Told<T> {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let name = ObjectName { namespace: text("namespace"), name: text("name").unwrap() };
    if word == "DELETED" {
        return Told::Gone(name);
    }
    let labels = match &metadata["labels"] {
        Value::Null => BTreeMap::new(),
        labels => serde_json::from_value(labels.clone()).unwrap(),
    };
    Told::There(name, T::read(Raw { labels: &labels, fields: object }))
}

fn block_text(prefix: Prefix, block: &Block) -> String {
    let standing = match serde_json::to_value(&block.standing).unwrap() {
        Value::String(word) => word,
        Value::Object(words) => {
            let words = words.iter().map(|(word, of)| format!("{word} {}", of.as_str().unwrap()));
            words.collect()
        }
        other => panic!("{other}"),
    };
    let rivals: String = block.rivals.iter().map(|node| format!(" beside {node}")).collect();
    format!("{prefix} {standing}{rivals}")
}

fn shown(all: impl IntoIterator<Item = impl ToString>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
