//! Kubernetes: which blocks this node's pods have, and which addresses of services it is to announce.
//!
//! In: watches of the API server's objects. Out: a [`Snapshot`] of what is [`Desired`], which the agent originates together
//! with what its own file says. Nothing waits for the server: a node peers and forwards without it, since the server
//! itself may be reached through this agent's routes, and what it said last is kept until it says something else. Which pods
//! are here, the kernel knows (`pods`).
//!
//! `objects` reads what is needed of each object, `collection` knows which there are, `desired` decides: all of them pure.
//! `fitness` knows what has to be written for Kubernetes to know whether the node is fit for pods. `server` and `watch` are
//! the way to the API server, `tell` the way back, `kept` is the file that outlives the daemon, `task` joins them. `cni` tells
//! runtimes which blocks there are.

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub(crate) mod cni;
mod collection;
mod desired;
mod fitness;
mod kept;
mod objects;
mod pods;
mod server;
mod task;
mod tell;
mod watch;
mod watches;

use std::collections::BTreeMap;

use crate::config::{self, Config};
use crate::kernel::pods::PodAddresses;

pub use desired::{Block, BlockSource, BorrowedStanding, Desired, ServiceAddress, Standing, Withheld};
pub use fitness::Tainting;
pub use objects::{AddressKind, TrafficPolicy};
pub use server::Reach;
pub use task::{Inputs, run};

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[kubernetes]`
    pub kubernetes: config::Kubernetes,
    /// This node, by the name that Kubernetes has for it.
    pub node: String,
    /// `[pods]`
    pub pods: config::Pods,
    /// `[services]`
    pub services: Option<config::Services>,
    /// `[drain] on-cordon`
    pub on_cordon: OnCordon,
    /// Of `[readiness]`; `None` where Kubernetes is told nothing.
    pub tainting: Option<Tainting>,
}

/// What becomes of the services of a node that takes no new pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCordon {
    /// They are announced as before.
    #[default]
    KeepServices,
    /// They are withdrawn until it takes pods again.
    WithdrawServices,
}

impl Settings {
    /// Of a configuration; `None` where nothing in it is about Kubernetes. `name_here` is the node's name where the file
    /// gives none.
    #[must_use]
    pub fn of(config: &Config, name_here: impl FnOnce() -> String) -> Option<Self> {
        let kubernetes = config.kubernetes.clone()?;
        let node = kubernetes.node_name.clone().unwrap_or_else(name_here);
        let on_cordon = match config.drain {
            config::Drain { on_cordon: true } => OnCordon::WithdrawServices,
            config::Drain { on_cordon: false } => OnCordon::KeepServices,
        };
        let tainting = config.readiness.as_ref().map(|readiness| match readiness.taint {
            true => Tainting::Managed,
            false => Tainting::LeftAlone,
        });
        let (pods, services) = (config.pods.clone(), config.services.clone());
        Some(Self { kubernetes, node, pods, services, on_cordon, tainting })
    }
}

/// `NODE_NAME` of the environment, else the name of the host in lower case, as the kubelet has it.
#[must_use]
pub fn name_here() -> String {
    std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| {
        nix::unistd::gethostname().unwrap_or_default().to_string_lossy().trim().to_lowercase()
    })
}

/// What is known at present.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What is to be originated.
    pub desired: Desired,
    /// Pods that this kernel has routes to; `None` where nobody asks for them, or it has not said yet.
    pub pods: Option<PodAddresses>,
    /// Whether the server answers; `None` where none is asked.
    pub server: Option<Reach>,
    /// What does not work.
    pub trouble: Trouble,
}

/// What the server has, and we cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// This node by its name, where the server has no such node: then it does not speak of us.
    pub absent_node: Option<String>,
    /// Kinds that we may not read, or that it does not have.
    pub refused: BTreeMap<&'static str, Refusal>,
    /// Objects that make no sense.
    pub unreadable: Vec<UnreadableObject>,
    /// By kind, how many objects the server lists no more without having said that they are gone: they count until it has
    /// left them out of another list, and this node is in it.
    pub missing: BTreeMap<&'static str, usize>,
    /// Kinds of which there was no whole list yet.
    pub awaited: Vec<&'static str>,
}

/// The server's answer where it gives none of the objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code of HTTP. 401: who we are is not, or no longer, known. 403: we may not. 404: it has no such kind.
    pub code: u16,
    /// Its words.
    pub message: String,
    /// What it was asked for.
    pub resource: Option<Resource>,
}

/// A kind of object, as roles (RBAC) have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// Its name in paths.
    pub plural: String,
    /// What we want to do with it.
    pub verbs: &'static [&'static str],
}

/// An object that counts as it was when it could last be read, if ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableObject {
    /// Its kind.
    pub kind: &'static str,
    /// Its name, with the namespace if it has one.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}
