//! The tasks that ask the API server, for as long as there is a client: a watch of each kind, one of each IPAMBlock that
//! matters, and whoever tells of readiness.
//!
//! In: what the configuration asks for. Out: [`Event`]s, for [`super::task`] alone.

use std::collections::{BTreeMap, BTreeSet};

use bgp::Prefix;
use kube::Client;
use kube::api::{ApiResource, GroupVersionKind};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::{AbortHandle, JoinSet};

use super::Resource;
use super::collection::{Collection, Told};
use super::desired::{Sources, Watched};
use super::objects::{Affinity, Block, Node, Object, Pool, Service, Slice};
use super::server::Backoff;
use super::tell::{self, Duty};
use super::watch::{Outcome, Subject, answer, watch};
use crate::config::{Calico, CalicoApi};
use crate::readiness::Told as ToldReadiness;

/// What the tasks around it say.
pub(super) enum Event {
    Node(Told<Node>),
    Affinity(Told<Affinity>),
    Block(Prefix, Told<Block>),
    Pool(Told<Pool>),
    Service(Told<Service>),
    Slice(Told<Slice>),
    /// Calico's objects are in this group and version.
    Calico(&'static str),
    /// There is nothing more to tell the server of readiness.
    AllTold,
    Outcome {
        /// Whose requests they were: the server may answer some, and others not.
        asker: Watched,
        /// What was asked for; nothing in particular where the server itself is asked about.
        resource: Option<Resource>,
        outcome: Outcome,
    },
}

/// What runs while there is a client.
pub(super) struct Watches {
    client: Client,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    /// Where Calico's objects are, once it is known.
    calico: Option<&'static str>,
    pub(super) blocks: BTreeMap<Prefix, AbortHandle>,
    /// To ask for a list.
    relists: BTreeMap<Watched, channel::Sender<()>>,
    /// Who had no answer the last time. The server is back when there is nobody left here: a server that answers to one and
    /// not to another would come and go all the time.
    pub(super) failing: BTreeSet<Watched>,
}

impl Watches {
    pub(super) fn new(client: Client, events: mpsc::Sender<Event>) -> Self {
        Self {
            client,
            events,
            tasks: JoinSet::new(),
            calico: None,
            blocks: BTreeMap::new(),
            relists: BTreeMap::new(),
            failing: BTreeSet::new(),
        }
    }

    pub(super) fn start(&mut self, sources: &Sources) {
        self.watch(nodes(), Some(sources.node.clone()), None, Event::Node);
        if sources.services.is_some() {
            let services = resource("", "v1", "Service", "services");
            self.watch(services, None, None, Event::Service);
            let slices = resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
            self.watch(slices, None, None, Event::Slice);
        }
        match &sources.pods.calico {
            None => {}
            Some(Calico { api: CalicoApi::CrdV1, .. }) => self.start_calico(CALICO_CRD),
            Some(Calico { api: CalicoApi::V3, .. }) => self.start_calico(CALICO_V3),
            Some(Calico { api: CalicoApi::Any, .. }) => {
                self.tasks.spawn(find_calico(self.client.clone(), self.events.clone()));
            }
        }
    }

    /// Whether nobody has an answer.
    pub(super) fn all_fail(&self) -> bool {
        self.relists.keys().all(|watched| self.failing.contains(watched))
    }

    /// Has this watch begin with its list again. One that is not there begins with it anyway.
    pub(super) fn list_anew(&self, watched: Watched) {
        if let Some(relist) = self.relists.get(&watched) {
            relist.send_replace(());
        }
    }

    /// Tells the server of this node's readiness.
    pub(super) fn tell(
        &mut self,
        node: &str,
        duty: Duty,
        told: channel::Receiver<ToldReadiness>,
        shown: channel::Receiver<Option<Node>>,
    ) {
        let (client, events, node) = (self.client.clone(), self.events.clone(), node.to_owned());
        let inputs = tell::Inputs { told, node: shown };
        self.tasks.spawn(async move {
            let outcome = |plural: &'static str, outcome| {
                let resource =
                    Resource { group: String::new(), plural: plural.to_owned(), verbs: &["patch"] };
                let asker = Watched { kind: plural, block: None };
                Event::Outcome { asker, resource: Some(resource), outcome }
            };
            tell::tell(client, &nodes(), &node, duty, inputs, events.clone(), outcome).await;
            let _ = events.send(Event::AllTold).await;
        });
    }

    pub(super) fn start_calico(&mut self, version: &'static str) {
        self.calico = Some(version);
        let affinities = calico(version, "BlockAffinity", "blockaffinities");
        self.watch(affinities, None, None, Event::Affinity);
        let pools = calico(version, "IPPool", "ippools");
        self.watch(pools, None, None, Event::Pool);
    }

    fn watch<T: Object + Send + 'static>(
        &mut self,
        resource: ApiResource,
        name: Option<String>,
        block: Option<Prefix>,
        told: impl Fn(Told<T>) -> Event + Send + Sync + 'static,
    ) -> AbortHandle {
        let asked = Resource {
            group: resource.group.clone(),
            plural: resource.plural.clone(),
            verbs: &["list", "watch"],
        };
        let asker = Watched { kind: T::KIND, block };
        let outcome = move |outcome| Event::Outcome { asker, resource: Some(asked.clone()), outcome };
        let (asking, relist) = channel::channel(());
        self.relists.insert(asker, asking);
        let subject = Subject { resource, name, relist };
        let (client, events) = (self.client.clone(), self.events.clone());
        self.tasks.spawn(watch(client, subject, events, told, outcome))
    }

    /// Watches the IPAMBlocks of these, and no others: of all others in the cluster nothing has to be known, and they
    /// change with each pod.
    pub(super) fn ask_for_blocks(
        &mut self,
        asked: &BTreeSet<Prefix>,
        known: &mut BTreeMap<Prefix, Collection<Block>>,
    ) {
        let Some(version) = self.calico else { return };
        for (_, gone) in self.blocks.extract_if(.., |prefix, _| !asked.contains(prefix)) {
            gone.abort();
        }
        let is_asked = |watched: &Watched| watched.block.is_none_or(|prefix| asked.contains(&prefix));
        self.failing.retain(is_asked);
        self.relists.retain(|watched, _| is_asked(watched));
        // Of those that have ended nothing is to be kept.
        while self.tasks.try_join_next().is_some() {}
        known.retain(|prefix, _| asked.contains(prefix));
        for &prefix in asked {
            if self.blocks.contains_key(&prefix) {
                continue;
            }
            known.entry(prefix).or_default();
            let resource = calico(version, "IPAMBlock", "ipamblocks");
            let (name, told) = (block_name(prefix), move |told| Event::Block(prefix, told));
            let task = self.watch(resource, Some(name), Some(prefix), told);
            self.blocks.insert(prefix, task);
        }
    }
}

const CALICO_CRD: &str = "crd.projectcalico.org/v1";
const CALICO_V3: &str = "projectcalico.org/v3";

/// Which of both the server has. Where it has none yet, Calico may still be on its way.
async fn find_calico(client: Client, events: mpsc::Sender<Event>) {
    let asker = Watched { kind: "Calico", block: None };
    let outcome = |outcome| Event::Outcome { asker, resource: None, outcome };
    let mut backoff = Backoff::default();
    loop {
        let mut missing =
            Outcome::Refused { code: 404, message: format!("it has neither {CALICO_CRD} nor {CALICO_V3}") };
        for version in [CALICO_CRD, CALICO_V3] {
            match answer(client.list_api_group_resources(version)).await {
                Ok(list) if list.resources.iter().any(|resource| resource.name == "blockaffinities") => {
                    let _ = events.send(outcome(Outcome::Answered)).await;
                    let _ = events.send(Event::Calico(version)).await;
                    return;
                }
                Ok(_) | Err(Outcome::Refused { code: 404, .. }) => {}
                Err(other) => missing = other,
            }
        }
        if events.send(outcome(missing)).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

fn nodes() -> ApiResource {
    resource("", "v1", "Node", "nodes")
}

fn calico(version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    resource(group, version, kind, plural)
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Calico names an IPAMBlock after its network (`libcalico-go/lib/names/cidr.go`).
fn block_name(prefix: Prefix) -> String {
    prefix.to_string().replace(['.', ':', '/'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_asked_for_by_calicos_names() {
        for (prefix, name) in [("10.1.8.192/26", "10-1-8-192-26"), ("fd00:10:1::/122", "fd00-10-1---122")] {
            assert_eq!(block_name(prefix.parse().unwrap()), name);
        }
    }
}
