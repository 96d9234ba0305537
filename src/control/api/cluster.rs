//! What Kubernetes says of this node: `GET /v1/pods`, `GET /v1/services`, and its line in `GET /v1/summary`.

use std::collections::BTreeMap;

use bgp::Prefix;
use serde::{Deserialize, Serialize};

use super::{Entry, Page};

/// Objects that cannot be read, named in an answer at most.
pub const UNREADABLE_MAX: usize = 1000;

/// The pod blocks of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pods {
    /// Whom the daemon asks beside its file; `null` where it asks nobody.
    pub kubernetes: Option<Kubernetes>,
    /// In the order of their prefixes; one that is in the file and in Kubernetes has an entry for each.
    pub blocks: Vec<PodBlock>,
}

/// A block of addresses for pods of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodBlock {
    /// The addresses.
    pub prefix: Prefix,
    /// Who says that it is this node's.
    pub source: BlockSource,
    /// What becomes of it.
    pub status: BlockStatus,
    /// Whether packets to addresses of it that no pod has are dropped here.
    pub blackhole: bool,
    /// Other nodes that claim it as well, by name.
    pub rivals: Vec<String>,
}

/// Where a block comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockSource {
    /// `[pods.static]` of the configuration.
    File,
    /// `Node.spec.podCIDRs`
    Node,
    /// Calico's IPAM.
    Calico,
    /// A pod of this node that has its own route here: a single address, in no block of this node's.
    Borrowed,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum BlockStatus {
    /// Neighbors are told of it.
    Announced,
    /// Calico has not confirmed yet that it is this node's.
    Pending,
    /// Calico takes it away.
    PendingDeletion,
    /// Its IPAMBlock, which says whose it is, is awaited.
    OwnerUnknown,
    /// It is this node's, and the IPPools, one of which may keep it from being announced, are not known yet.
    PoolsUnknown,
    /// Its IPAMBlock is nobody's, or is not there.
    Unclaimed,
    /// Its IPAMBlock is another node's.
    OwnedBy {
        /// That node.
        node: String,
    },
    /// Its IPPool has `disableBGPExport`.
    NotExported,
    /// Its IPPool wants IPIP between nodes, which this daemon does not do.
    Ipip,
    /// Its IPPool wants VXLAN between nodes, which this daemon does not do.
    Vxlan,
    /// It is borrowed, and in no IPPool.
    NoPool,
    /// It is borrowed, and the kernel has not said yet whether it has a route to it.
    RouteUnknown,
}

/// The API server, and what of it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// This node, by the name that Kubernetes has for it.
    pub node: String,
    /// Whether the server answers and has no node of this name: then nothing that it says is about this one.
    pub node_absent: bool,
    /// Whether it answers.
    pub server: ApiServer,
    /// Kinds of objects that it does not give us.
    pub refused: Vec<RefusedKind>,
    /// Objects that make no sense: each counts as it was when it could be read last. [`UNREADABLE_MAX`] at most.
    pub unreadable: Vec<UnreadableObject>,
    /// All of them.
    pub unreadable_count: u64,
    /// By kind, how many objects the server lists no more without having said that they are gone. They count until this
    /// node was listed anew and another list has left them out.
    pub missing: BTreeMap<String, u64>,
    /// Kinds of which the server has not given a whole list yet: what depends on them stays as it is.
    pub awaited: Vec<String>,
}

/// Whether the API server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ApiServer {
    /// It has not been heard yet, and there was no failure either.
    Untried,
    /// It does.
    Answers,
    /// It does not; what it said last is in force.
    Away {
        /// Since the first failure.
        since_s: u64,
        /// The last failure.
        reason: String,
    },
}

/// A kind that the server refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedKind {
    /// Its name; `Calico` where none of its kinds is there.
    pub kind: String,
    /// The server's answer: 401, who we are is not known; 403, we may not; 404, there is no such kind; others of HTTP.
    pub code: u16,
    /// The server's words.
    pub reason: String,
    /// What a rule of our role (RBAC) has to allow; `null` where that is not what is missing.
    pub rule: Option<RoleRule>,
}

/// A rule of a ClusterRole (`rbac.authorization.k8s.io/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRule {
    /// Empty for the core.
    pub api_group: String,
    /// In the plural.
    pub resource: String,
    /// What is to be done with it.
    pub verbs: Vec<String>,
}

/// An object that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableObject {
    /// Its kind.
    pub kind: String,
    /// Its name, with the namespace if it has one.
    pub name: String,
    /// What is wrong with it. Anything at all: escape it.
    pub reason: String,
}

/// A page of the addresses of services, and what is the same on every page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Who is asked; `null` where nobody is. What is refused and unreadable is of kinds that matter for services.
    pub kubernetes: Option<Kubernetes>,
    /// Over all pages of what was asked for.
    pub totals: ServiceTotals,
    /// The addresses.
    #[serde(flatten)]
    pub page: Page<ServiceAddress>,
}

/// What all pages come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTotals {
    /// Kinds of addresses that `[services]` has ranges for. Of other kinds nothing is announced or shown.
    pub kinds: Vec<ServiceKind>,
    /// Addresses of services, each as often as services have it.
    pub addresses: u64,
    /// Of these, announced by this node.
    pub announced: u64,
    /// Prefixes that they are announced as.
    pub prefixes: u64,
}

/// An address, and the services that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// The address, as a /32 or /128. Where `kept` says so, what is announced instead: a range, perhaps.
    pub prefix: Prefix,
    /// Several may have the same one.
    pub services: Vec<ServiceUse>,
    /// From before the daemon started, while the API server has not said yet which services there are: kinds of
    /// addresses that it is announced for. Else empty.
    pub kept: Vec<ServiceKind>,
}

/// What becomes of an address for a service that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUse {
    /// `NAMESPACE/NAME`
    pub service: String,
    /// Where the service has the address from.
    pub kind: ServiceKind,
    /// Which nodes serve it.
    pub policy: ServicePolicy,
    /// What becomes of it.
    pub status: ServiceStatus,
}

/// Where a service has an address from; the words are the keys of `[services]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// `status.loadBalancer.ingress`
    LoadBalancer,
    /// `spec.externalIPs`
    External,
    /// `spec.clusterIPs`
    Cluster,
}

/// `externalTrafficPolicy`, and for cluster addresses `internalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServicePolicy {
    /// Every node.
    Cluster,
    /// Nodes with an endpoint of the service.
    Local,
}

/// What becomes of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ServiceStatus {
    /// Neighbors are told.
    Announced {
        /// Of the address alone, or of the range that it is in.
        prefix: Prefix,
    },
    /// It is in none of the ranges that `[services]` has for its kind.
    OutOfRange,
    /// Only nodes with an endpoint serve it, and none here can.
    NoEndpointHere,
    /// The node is labelled `node.kubernetes.io/exclude-from-external-load-balancers`.
    NodeExcluded,
    /// The node is cordoned, and has its services withdrawn meanwhile.
    NodeCordoned,
}

impl Entry for ServiceAddress {
    fn prefix(&self) -> Prefix {
        self.prefix
    }
}

/// Kubernetes at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesSummary {
    /// Whether the API server answers.
    pub server: ApiServer,
    /// Blocks of this node's that it has told of and that are announced.
    pub blocks: u64,
    /// Prefixes that are announced for services.
    pub service_prefixes: u64,
    /// What `GET /v1/pods` says more of: blocks that other nodes claim as well, kinds that the server refuses, objects
    /// that make no sense, a node that it does not have.
    pub problems: u64,
}
