//! Kubernetes: which blocks this node's pods have, and which addresses of services it is to announce.
//!
//! In: watches of the API server's objects. Out: a [`Snapshot`] of what is [`Desired`], which the agent originates together
//! with what its own file says. Nothing waits for the server: a node peers and forwards without it, since the server
//! itself may be reached through this agent's routes, and what it said last is kept until it says something else.
//!
//! `objects` reads what is needed of each object, `collection` knows which there are, `desired` decides: all of them pure.
//! `server` and `watch` are the way to the API server, `kept` is the file that outlives the daemon, `task` joins them.
//! `cni` tells runtimes which blocks there are.

pub(crate) mod cni;
mod collection;
mod desired;
mod kept;
mod objects;
mod server;
mod task;
mod watch;

use std::collections::BTreeMap;

use crate::config::{self, Config};

pub use desired::{Block, BlockSource, Desired, ServiceAddress, Standing, Withheld};
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
}

impl Settings {
    /// Of a configuration; `None` where nothing in it is about Kubernetes. `name_here` is the node's name where the file
    /// gives none.
    #[must_use]
    pub fn of(config: &Config, name_here: impl FnOnce() -> String) -> Option<Self> {
        let kubernetes = config.kubernetes.clone()?;
        let node = kubernetes.node_name.clone().unwrap_or_else(name_here);
        Some(Self { kubernetes, node, pods: config.pods.clone(), services: config.services.clone() })
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
    /// Whether the server answers; `None` where none is asked.
    pub server: Option<Reach>,
    /// What does not work.
    pub trouble: Trouble,
}

/// What the server has, and we cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Kinds that we may not read, or that it does not have, with its words.
    pub refused: BTreeMap<&'static str, String>,
    /// Objects that make no sense.
    pub unreadable: Vec<UnreadableObject>,
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
