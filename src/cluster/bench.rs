//! The pure part of this module, for the project's own bench: objects as JSON in, what is announced out.

use serde_json::Value;

use super::OnCordon;
use super::collection::{Collection, Told};
use super::desired::{self, Desired, Objects, Sources};
use super::objects::{Object, ObjectName, Raw};
use crate::config;

/// What the task has, without its watches.
#[derive(Debug, Default)]
pub struct Follower {
    objects: Objects,
    desired: Desired,
}

/// Of this node, and what it follows.
#[derive(Debug)]
pub struct Followed(Sources);

impl Followed {
    /// The services that the node of this name announces.
    #[must_use]
    pub fn services(node: &str, services: config::Services) -> Self {
        let (node, pods) = (node.to_owned(), config::Pods::default());
        let on_cordon = OnCordon::KeepServices;
        Self(Sources { node, pods, services: Some(services), on_cordon })
    }
}

impl Follower {
    /// Takes in whole lists: of nodes, services and EndpointSlices.
    pub fn list(&mut self, nodes: &[Value], services: &[Value], slices: &[Value]) {
        list(&mut self.objects.nodes, nodes);
        list(&mut self.objects.services, services);
        list(&mut self.objects.slices, slices);
    }

    /// One EndpointSlice is as follows now.
    pub fn change_slice(&mut self, slice: &Value) {
        self.objects.slices.handle(there(slice));
    }

    /// Decides, and says how many prefixes are announced for services.
    pub fn decide(&mut self, followed: &Followed) -> usize {
        self.objects.settle_harmless(&followed.0, &self.desired);
        self.desired = desired::desired(&followed.0, &self.objects, &self.desired);
        self.desired.services.len()
    }
}

fn list<T: Object>(collection: &mut Collection<T>, objects: &[Value]) {
    collection.handle(Told::ListBegins);
    objects.iter().for_each(|object| collection.handle(there(object)));
    collection.handle(Told::ListEnds);
}

fn there<T: Object>(object: &Value) -> Told<T> {
    let metadata = |key| object.get("metadata").and_then(|metadata| metadata.get(key));
    let text = |key| metadata(key).and_then(Value::as_str).map(str::to_owned);
    let labels = metadata("labels").and_then(|labels| serde_json::from_value(labels.clone()).ok());
    let name = ObjectName { namespace: text("namespace"), name: text("name").unwrap_or_default() };
    Told::There(name, T::read(Raw { labels: &labels.unwrap_or_default(), fields: object }))
}
