//! What `bgpctl` gets to see: snapshots of the tasks' state, in the words of the control API.
//!
//! A [`View`] is made of handles; it answers in a task of its own, so that a slow answer holds nobody up.

mod bfd;
mod cluster;
mod drain;
mod memory;
mod neighbors;
mod policies;
mod routes;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bgp::net::{PeerCommand, PeerStatus, RibHandle};
use bgp::session::State;
use bgp::{InterfaceIndex, PeerId, RouterId};
use tokio::sync::{mpsc, oneshot};

use crate::cluster::Snapshot;
use crate::config::{self, Config};
use crate::control::{Request, api};
use crate::drain::{Drains, Wanted};
use crate::kernel::fib;
use crate::kernel::interfaces::Interfaces;
use crate::kernel::sysctl;
use crate::nd;
use crate::readiness::Report;

use super::drain::Command;
use super::neighbors::{NeighborName, Routers};
use super::trial::Trials;
use super::{Agent, listen};

/// An error for whoever asked for something that cannot be done now.
pub(super) fn refused(error: &dyn std::fmt::Display) -> api::Error {
    api::Error::new(api::ErrorCode::Refused, error.to_string())
}

fn trial(trials: &Trials) -> Option<api::Trial> {
    let failed = trials.failed().map(|(at, failure)| api::Trial::Failed {
        ago_s: at.elapsed().as_secs(),
        reason: failure.to_string(),
    });
    trials.left(Instant::now()).map(|left| api::Trial::Running { left_s: left.as_secs() }).or(failed)
}

fn stopping() -> api::Error {
    api::Error::new(api::ErrorCode::Stopping, "the daemon is about to end")
}

/// One neighbor's handle.
struct Neighbor {
    name: NeighborName,
    id: PeerId,
    settings: config::Neighbor,
    flaps: u64,
    /// Only while it is.
    held_back_until: Option<Instant>,
    commands: mpsc::Sender<PeerCommand>,
}

/// Everything that an answer may need.
pub(super) struct View {
    path: PathBuf,
    config: Arc<Config>,
    router_id: RouterId,
    started: Instant,
    interfaces: Arc<Interfaces>,
    routers: Routers,
    neighbors: Vec<Neighbor>,
    rib: RibHandle,
    fib: mpsc::Sender<fib::Request>,
    discovery: mpsc::Sender<nd::Command>,
    bfd: mpsc::Sender<crate::bfd::Request>,
    drains: Drains<NeighborName>,
    drain_commands: mpsc::Sender<Command>,
    trial: Option<api::Trial>,
    readiness: Report,
    known: Arc<Snapshot>,
    /// The name that Kubernetes has for this node, where it is asked.
    node: Option<String>,
    listen_trouble: Option<listen::Trouble>,
}

impl Agent {
    pub(super) fn view(&self) -> View {
        let neighbor = |(name, neighbor): (&NeighborName, &super::Neighbor)| Neighbor {
            name: name.clone(),
            id: neighbor.peer.id,
            settings: neighbor.settings.clone(),
            flaps: neighbor.damping.flaps(),
            held_back_until: neighbor.damping.held_until().filter(|_| neighbor.target.is_none()),
            commands: neighbor.peer.commands(),
        };
        View {
            path: self.path.clone(),
            config: Arc::clone(&self.config),
            router_id: self.router_id,
            started: self.started,
            interfaces: Arc::clone(&self.interfaces.borrow()),
            routers: self.routers.clone(),
            neighbors: self.neighbors.iter().map(neighbor).collect(),
            rib: self.rib.clone(),
            fib: self.fib.clone(),
            discovery: self.discovery.clone(),
            bfd: self.bfd.requests.clone(),
            drains: self.drains.clone(),
            drain_commands: self.drain_commands.clone(),
            trial: trial(&self.trials),
            readiness: self.fitness.report(),
            known: Arc::clone(&self.cluster.known.borrow()),
            node: self.cluster.settings.borrow().as_ref().map(|settings| settings.node.clone()),
            listen_trouble: self.listen_trouble.borrow().clone(),
        }
    }
}

impl View {
    /// Answers one request. Whoever asked may have gone away: then the answer is for nobody.
    pub(super) async fn answer(self, request: Request) {
        match request {
            Request::Summary(reply) => {
                let _ = reply.send(self.summary().await);
            }
            Request::Neighbors(reply) => {
                let _ = reply.send(self.neighbors().await);
            }
            Request::Neighbor { neighbor, reply } => {
                let _ = reply.send(self.neighbor(&neighbor).await);
            }
            Request::Rib { query, reply } => {
                let _ = reply.send(self.rib(query).await);
            }
            Request::Received { neighbor, query, reply } => {
                let _ = reply.send(self.received(&neighbor, query).await);
            }
            Request::Advertised { neighbor, query, reply } => {
                let _ = reply.send(self.advertised(&neighbor, query).await);
            }
            Request::Policies { neighbor, reply } => {
                let _ = reply.send(self.policies(neighbor.as_deref()).await);
            }
            Request::Fib { query, reply } => {
                let _ = reply.send(self.fib(query).await);
            }
            Request::Interfaces(reply) => {
                let _ = reply.send(self.interfaces().await);
            }
            Request::Bfd(reply) => {
                let _ = reply.send(self.bfd().await);
            }
            Request::Pods(reply) => {
                let _ = reply.send(Ok(self.pods()));
            }
            Request::Services { query, reply } => {
                let _ = reply.send(Ok(self.services(&query)));
            }
            Request::Readiness(reply) => {
                let _ = reply.send(Ok(words::readiness(&self.readiness)));
            }
            Request::Memory(reply) => {
                let _ = reply.send(self.memory().await);
            }
            Request::Config(reply) => {
                let toml = self.config.to_toml();
                let _ = reply.send(Ok(api::Config { path: self.path.display().to_string(), toml }));
            }
            Request::Clear { neighbor, reply } => {
                let _ = reply.send(self.clear(&neighbor).await);
            }
            Request::Refresh { neighbor, reply } => {
                let _ = reply.send(self.refresh(&neighbor).await);
            }
            Request::Drains(reply) => {
                let _ = reply.send(self.drains().await);
            }
            Request::Drain { order, reply } => self.drain(order, reply).await,
            Request::Undrain { neighbor, reply } => self.undrain(neighbor, reply).await,
            // The agent itself does these.
            Request::Reload { reply, order: _ } | Request::Confirm(reply) => {
                let _ = reply.send(Err(stopping()));
            }
        }
    }

    async fn summary(&self) -> Result<api::Summary, api::Error> {
        let statuses = self.statuses().await?;
        let counts = self.counts().await?;
        let totals = self.rib.ask(bgp::rib::Rib::totals).await.map_err(|_| stopping())?;
        let fib = self.fib_counters().await?;
        let bfd = self.bfd().await?;
        Ok(api::Summary {
            router_id: Some(self.router_id),
            local_as: self.config.bgp.local_as,
            hostname: super::neighbors::hostname(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            rib: api::RibTotals {
                destinations: words::count(totals.destinations),
                paths: words::count(totals.paths),
            },
            fib_routes: words::count(fib.installed),
            trial: self.trial.clone(),
            kubernetes: cluster::summary(&self.known, Instant::now()),
            listen_error: self.listen_trouble.as_ref().map(ToString::to_string),
            neighbors: self
                .neighbors
                .iter()
                .zip(&statuses)
                .map(|(neighbor, status)| {
                    neighbors::summary(neighbor, status, counts.get(&neighbor.id), bfd::of(&bfd, neighbor))
                })
                .collect(),
        })
    }

    async fn interfaces(&self) -> Result<api::Interfaces, api::Error> {
        let discovery = self.discovery_status().await?;
        let by_index: BTreeMap<InterfaceIndex, &nd::UplinkStatus> =
            discovery.uplinks.iter().map(|status| (status.interface, status)).collect();
        let mut interfaces: Vec<api::Interface> = self
            .interfaces
            .by_index
            .values()
            .map(|interface| words::interface(interface, by_index.get(&interface.index).copied()))
            .collect();
        interfaces.sort_by(|a, b| b.uplink.cmp(&a.uplink).then_with(|| a.name.cmp(&b.name)));
        let uplinks: Vec<&str> = discovery.uplinks.iter().map(|status| status.uplink.name.as_str()).collect();
        let sysctls = sysctl::check(&uplinks, Path::new(sysctl::ROOT)).iter().map(words::sysctl).collect();
        Ok(api::Interfaces { interfaces, sysctls })
    }

    async fn clear(&self, selector: &str) -> Result<api::Done, api::Error> {
        let neighbor = self.find(selector).await?;
        match self.drains.wanted(&neighbor.name) {
            Wanted::Session(_) => {}
            Wanted::NoSession(_) => {
                return Err(refused(&format!("neighbor {} is drained: bgpctl undrain", neighbor.name)));
            }
        }
        let notification = bgp::message::Notification::cease(bgp::message::CeaseSubcode::AdministrativeReset);
        neighbor.commands.send(PeerCommand::Clear(notification)).await.map_err(|_| stopping())?;
        Ok(api::Done {
            message: format!("neighbor {}: the session starts anew", neighbor.name),
            details: Vec::new(),
        })
    }

    async fn refresh(&self, selector: &str) -> Result<api::Done, api::Error> {
        let neighbor = self.find(selector).await?;
        let (reply, answer) = oneshot::channel();
        neighbor.commands.send(PeerCommand::Refresh(reply)).await.map_err(|_| stopping())?;
        let refuse = |why: &str| Err(refused(&format!("neighbor {}: {why}", neighbor.name)));
        match answer.await.map_err(|_| stopping())? {
            bgp::net::RefreshAnswer::Sent => Ok(api::Done {
                message: format!("neighbor {}: asked for its routes again; ours are repeated", neighbor.name),
                details: Vec::new(),
            }),
            bgp::net::RefreshAnswer::NotEstablished => refuse("there is no session"),
            bgp::net::RefreshAnswer::NotSupported => refuse("it does not support route refresh (RFC 2918)"),
        }
    }

    /// The neighbor that an operator means: by name, by address, or by what it calls itself.
    async fn find(&self, selector: &str) -> Result<&Neighbor, api::Error> {
        if let Some(neighbor) = self.neighbors.iter().find(|neighbor| neighbor.name.to_string() == selector) {
            return Ok(neighbor);
        }
        let address: Option<IpAddr> = selector.parse().ok();
        let statuses = self.statuses().await?;
        let matching: Vec<&Neighbor> = self
            .neighbors
            .iter()
            .zip(&statuses)
            .filter(|(_, status)| {
                let by_address =
                    address.is_some() && status.target.as_ref().map(|target| target.remote.ip()) == address;
                by_address || neighbors::peer_hostname(status).as_deref() == Some(selector)
            })
            .map(|(neighbor, _)| neighbor)
            .collect();
        match matching.as_slice() {
            [neighbor] => Ok(neighbor),
            [] => {
                let names: Vec<String> = self.neighbors.iter().map(|n| n.name.to_string()).collect();
                let known = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
                let message = format!("no neighbor {selector:?}; known: {known}");
                Err(api::Error::new(api::ErrorCode::NotFound, message))
            }
            several => {
                let names: Vec<String> = several.iter().map(|n| n.name.to_string()).collect();
                Err(refused(&format!("{selector:?} is more than one neighbor: {}", names.join(", "))))
            }
        }
    }

    /// Of every neighbor, in their order.
    async fn statuses(&self) -> Result<Vec<PeerStatus>, api::Error> {
        futures_util::future::try_join_all(self.neighbors.iter().map(status)).await
    }

    async fn fib_counters(&self) -> Result<fib::Counters, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.fib.send(fib::Request::Counters { reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    async fn discovery_status(&self) -> Result<nd::Status, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.discovery.send(nd::Command::Show(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    fn interface_name(&self, index: InterfaceIndex) -> String {
        words::interface_name(&self.interfaces, index)
    }
}

async fn status(neighbor: &Neighbor) -> Result<PeerStatus, api::Error> {
    let (reply, answer) = oneshot::channel();
    neighbor.commands.send(PeerCommand::Status(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}

fn is_established(status: &PeerStatus) -> bool {
    status.state == State::Established
}
