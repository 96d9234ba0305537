//! Drains in the words of the control API, and orders to drain on their way to the agent.

use std::time::Instant;

use super::super::drain::{Command, progress};
use super::super::neighbors::NeighborName;
use super::{View, neighbors, stopping};
use crate::control::{DrainOrder, Reply, api};
use crate::drain::Scope;

impl View {
    pub(super) async fn drains(&self) -> Result<api::Drain, api::Error> {
        let statuses = self.statuses().await?;
        let now = Instant::now();
        let present = self.neighbors.iter().zip(&statuses).map(|(neighbor, status)| api::NeighborDrain {
            name: neighbor.name.to_string(),
            hostname: neighbors::peer_hostname(status),
            session: Some(status.state.into()),
            drain: self.drains.neighbor(&neighbor.name).map(|drain| progress(drain, now)),
            received_packets_per_s: self.drains.received_per_s(&neighbor.name),
        });
        let is_absent = |name: &NeighborName| !self.neighbors.iter().any(|neighbor| neighbor.name == *name);
        let absent = self.drains.neighbors().filter(|(name, _)| is_absent(name)).map(|(name, drain)| {
            let drain = Some(progress(drain, now));
            let (hostname, session, received_packets_per_s) = (None, None, None);
            api::NeighborDrain { name: name.to_string(), hostname, session, drain, received_packets_per_s }
        });
        Ok(api::Drain {
            node: self.drains.node().map(|drain| progress(drain, now)),
            neighbors: present.chain(absent).collect(),
        })
    }

    pub(super) async fn drain(self, order: DrainOrder, reply: Reply<api::DrainBegun>) {
        let DrainOrder { neighbor, wait, then, message } = order;
        match self.scope(neighbor).await {
            Ok(scope) => self.pass_on(Command::Drain { scope, wait, then, message, reply }).await,
            Err(error) => _ = reply.send(Err(error)),
        }
    }

    pub(super) async fn undrain(self, neighbor: Option<String>, reply: Reply<api::Done>) {
        match self.scope(neighbor).await {
            Ok(scope) => self.pass_on(Command::Undrain { scope, reply }).await,
            Err(error) => _ = reply.send(Err(error)),
        }
    }

    /// A neighbor that is drained may be gone for the time.
    async fn scope(&self, neighbor: Option<String>) -> Result<Scope<NeighborName>, api::Error> {
        let Some(selector) = neighbor else { return Ok(Scope::Node) };
        let mut drained = self.drains.neighbors().map(|(name, _)| name);
        if let Some(name) = drained.find(|name| name.to_string() == selector) {
            return Ok(Scope::Neighbor(name.clone()));
        }
        Ok(Scope::Neighbor(self.find(&selector).await?.name.clone()))
    }

    async fn pass_on(self, command: Command) {
        let Err(unsent) = self.drain_commands.send(command).await else { return };
        match unsent.0 {
            Command::Drain { reply, .. } => _ = reply.send(Err(stopping())),
            Command::Undrain { reply, .. } => _ = reply.send(Err(stopping())),
        }
    }
}
