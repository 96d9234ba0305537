//! A rack on one machine: nodes, ToRs and pods in network namespaces, joined by veth pairs.

pub mod agent;
pub mod bench;
mod bird;
pub mod build;
pub mod capture;
pub mod check;
mod cni;
mod echo;
mod error;
pub mod flaps;
mod frr;
pub mod journal;
pub mod kubernetes;
mod link;
mod netns;
pub mod ping;
mod process;
pub mod rack;
mod requirements;
pub mod route;
mod scratch;
mod speech;
pub mod topology;
pub mod tor;
mod wait;

pub use agent::{Account, Agent, NexthopObjects, Programs};
pub use bird::Bird;
pub use capture::{Capture, Frame};
pub use cni::Plugins;
pub use echo::Fragmentation;
pub use error::{Error, Result};
pub use frr::{Frr, FrrConfig, Transit};
pub use journal::{Change, Journal, Subject};
pub use kubernetes::{Cluster, ClusterOptions, Controllers};
pub use link::{Mac, Port, cable};
pub use netns::Netns;
pub use ping::{Outcome, Ping, Pinging, Train};
pub use process::{Process, output_of};
pub use rack::{Daemon, Host, NodeDaemon, Pod, Rack, RackOptions, TorDaemon};
pub use requirements::{Requirement, can_run};
pub use route::{Action, NextHop, Route};
pub use scratch::Scratch;
pub use speech::Speech;
pub use wait::{check_interrupt, eventually, interrupt, interrupt_on_signals};

#[cfg(test)]
mod tests;
