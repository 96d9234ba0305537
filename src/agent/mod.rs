//! The agent: which tasks there are, and what flows between them.
//!
//! [`Agent`] owns the neighbors. It looks at four snapshots (configuration, interfaces, routers discovered, and what
//! is to be originated) and makes the tasks follow; nothing in it waits for a peer or for the kernel. A stop ends
//! sessions silently and leaves every route in the kernel: the node goes on forwarding, and the next start
//! inherits.

mod answers;
mod listen;
mod neighbors;
mod origin;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::{
    Accepted, Peer, PeerChange, PeerCommand, PeerEvent, PeerSettings, RibHandle, RibSettings, Target,
};
use bgp::policy::Role;
use bgp::rib::{PeerConfig, RibConfig};
use bgp::session::Stop;
use bgp::{InterfaceIndex, PeerId, RouterId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::config::{self, Config};
use crate::control;
use crate::kernel::fib::{self, LocalRoutes};
use crate::kernel::interfaces::{self, Interfaces};
use crate::kernel::sysctl;
use crate::nd::{self, Uplinks};
use neighbors::{NeighborName, Routers, Start};
use origin::Origin;

/// Connections, routers and requests that may wait for the agent's loop.
const QUEUE: usize = 64;
/// Batches that may wait for the FIB: one is written while the next is made; everything else waits in the RIB.
const FIB_QUEUE: usize = 1;
/// Routes that nobody announced again are swept after this time when graceful restart is off.
const SWEEP_DEADLINE: Duration = Duration::from_secs(30);
/// How long a stop may take: sessions are closed and sockets drained within it, or left behind.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Why the agent could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Netlink is not there, or not for us.
    #[error("cannot follow the kernel's interfaces")]
    Interfaces(#[source] interfaces::StartError),
    /// The control socket cannot be had: another daemon runs, or the directory is not writable.
    #[error("cannot serve the control socket")]
    Control(#[source] control::BindError),
    /// Signal handlers cannot be installed.
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    /// A task that lives as long as the agent has ended.
    #[error("the {0} task has ended")]
    TaskEnded(&'static str),
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`AgentError`]; routes that are in the kernel stay there.
pub async fn run(path: &Path, config: Config) -> Result<(), AgentError> {
    run_with_role(path, config, Role::Host).await
}

/// [`run`] for the lab, whose ToRs are transit.
///
/// # Errors
/// As [`run`].
#[doc(hidden)]
pub async fn run_with_role(path: &Path, config: Config, role: Role) -> Result<(), AgentError> {
    let started = Instant::now();
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(AgentError::Signals)?;

    // First of all: a second daemon finds out here that it is the second, before it touches anything.
    let (requests, mut asked) = mpsc::channel(control::REQUEST_QUEUE);
    let server = control::Server::bind(&config.control.socket).map_err(AgentError::Control)?;
    let mut tasks = Tasks::new();
    let (stop_server, server_stopped) = oneshot::channel::<()>();
    tasks.spawn(async move {
        let stop = async {
            // Ready as well when the other end is dropped.
            let _ = server_stopped.await;
        };
        ended("control", server.serve(requests, stop).await)
    });

    let (monitor, mut interfaces) = interfaces::start().await.map_err(AgentError::Interfaces)?;
    tasks.spawn(async move {
        monitor.run().await;
        "interface"
    });
    let router_id = tokio::select! {
        router_id = wait_for_router_id(&config, &mut interfaces) => router_id?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let (mut agent, mut events) =
        Agent::start(path.to_owned(), config, role, router_id, started, interfaces, &mut tasks).await?;
    info!(local_as = %agent.config.bgp.local_as, router_id = %agent.router_id, "running");
    agent.reconcile().await;
    loop {
        tokio::select! {
            changed = agent.interfaces.changed() => {
                changed.map_err(|_| AgentError::TaskEnded("interface"))?;
                agent.reconcile().await;
            }
            Some(event) = events.routers.recv() => agent.discovered(event).await,
            Some(event) = events.sessions.recv() => agent.session_changed(event),
            Some(connection) = events.accepted.recv() => agent.accepted(connection).await,
            Some(request) = asked.recv() => agent.request(request).await,
            Some(_) = agent.leaving.join_next() => {}
            Some(ended) = tasks.join_next() => {
                return Err(AgentError::TaskEnded(ended.unwrap_or("a panicked")));
            }
            _ = hangup.recv() => {
                if let Err(error) = agent.reload().await {
                    warn!(%error, "the configuration stays as it was");
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    info!("stopping; routes stay in the kernel");
    drop(stop_server);
    if tokio::time::timeout(STOP_DEADLINE, agent.stop()).await.is_err() {
        warn!("some sessions did not end in time");
    }
    tasks.shutdown().await;
    Ok(())
}

async fn wait_for_router_id(
    config: &Config,
    interfaces: &mut watch::Receiver<Arc<Interfaces>>,
) -> Result<RouterId, AgentError> {
    let mut warned = false;
    loop {
        let now = interfaces.borrow_and_update().clone();
        if let Some(id) = origin::router_id(config, &now).and_then(RouterId::new) {
            return Ok(id);
        }
        if !warned {
            warned = true;
            warn!(
                interface = config.loopback.interface,
                "no router-id: set bgp.router-id, or give the loopback interface a global IPv4 address; waiting for one"
            );
        }
        interfaces.changed().await.map_err(|_| AgentError::TaskEnded("interface"))?;
    }
}

/// What the other tasks tell the agent.
struct Events {
    routers: mpsc::Receiver<nd::Event>,
    sessions: mpsc::Receiver<PeerEvent>,
    accepted: mpsc::Receiver<Accepted>,
}

/// Tasks that live as long as the agent; each returns its name.
type Tasks = JoinSet<&'static str>;

/// Logs why a task ended, where it says so.
fn ended(task: &'static str, result: Result<(), impl std::error::Error>) -> &'static str {
    if let Err(error) = result {
        error!(%error, task, "a task has failed");
    }
    task
}

/// A neighbor that has a task.
struct Neighbor {
    settings: config::Neighbor,
    peer: Peer,
    target: Option<Target>,
}

struct Agent {
    path: PathBuf,
    config: Arc<Config>,
    router_id: RouterId,
    start: Start,
    started: Instant,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    routers: Routers,
    neighbors: BTreeMap<NeighborName, Neighbor>,
    /// Neighbors that were removed and still say goodbye.
    leaving: JoinSet<()>,
    next_peer: u32,
    origin: Origin,
    sysctls_seen: BTreeSet<InterfaceIndex>,
    session_events: mpsc::Sender<PeerEvent>,
    rib: RibHandle,
    fib: mpsc::Sender<fib::Request>,
    local_routes: watch::Sender<Arc<LocalRoutes>>,
    uplinks: watch::Sender<Arc<Uplinks>>,
    discovery: mpsc::Sender<nd::Command>,
    keys: watch::Sender<listen::Keys>,
}

impl Agent {
    async fn start(
        path: PathBuf,
        config: Config,
        role: Role,
        router_id: RouterId,
        started: Instant,
        interfaces: watch::Receiver<Arc<Interfaces>>,
        tasks: &mut Tasks,
    ) -> Result<(Self, Events), AgentError> {
        let snapshot = interfaces.borrow().clone();
        let origin = origin::origin(&config, &snapshot);

        let (local_routes, local) = watch::channel(Arc::new(origin.local.clone()));
        let (batches, from_rib) = mpsc::channel(FIB_QUEUE);
        let (fib, fib_requests) = mpsc::channel(QUEUE);
        let inputs =
            fib::Inputs { batches: from_rib, local, interfaces: interfaces.clone(), requests: fib_requests };
        let kernel = fib::run(fib::Settings::from(&config.fib), inputs);
        tasks.spawn(async move { ended("FIB", kernel.await) });
        // The sessions' first OPENs depend on it.
        let (reply, inherited) = oneshot::channel();
        let asked = fib.send(fib::Request::Inherited { reply }).await;
        let inherited = match asked {
            Ok(()) => inherited.await.map_err(|_| AgentError::TaskEnded("FIB"))?,
            Err(_) => return Err(AgentError::TaskEnded("FIB")),
        };
        let start = if inherited > 0 { Start::Restart } else { Start::Cold };
        info!(inherited, "kernel routes of an earlier run");

        let (uplinks, to_discovery) = watch::channel(Arc::new(Uplinks::new()));
        let (router_events, routers) = mpsc::channel(QUEUE);
        let (discovery, commands) = mpsc::channel(QUEUE);
        let discoverer = nd::run(nd::Settings::default(), to_discovery, router_events, commands);
        tasks.spawn(async move { ended("Router Discovery", discoverer.await) });

        let (keys, listener_keys) = watch::channel(listen::Keys::new());
        let (connections, accepted) = mpsc::channel(QUEUE);
        let (session_events, sessions) = mpsc::channel(QUEUE);
        tasks.spawn(async move {
            listen::listen(listener_keys, connections).await;
            "listener"
        });

        let settings = RibSettings {
            config: RibConfig {
                local_as: config.bgp.local_as,
                router_id,
                max_paths: config.fib.max_paths,
                role,
            },
            convergence_deadline: config.bgp.graceful_restart.unwrap_or(SWEEP_DEADLINE),
        };
        let (rib, rib_task) = RibHandle::spawn(settings, batches);
        tasks.spawn(async move {
            // Ends with its last handle, or by a panic: either way the agent cannot go on.
            let _ = rib_task.await;
            "RIB"
        });
        // Before any session: the first full announcement has to be full.
        let _ = rib.originate(origin.announced.clone()).await;

        let agent = Self {
            path,
            config: Arc::new(config),
            router_id,
            start,
            started,
            interfaces,
            routers: Routers::new(),
            neighbors: BTreeMap::new(),
            leaving: JoinSet::new(),
            next_peer: 0,
            origin,
            sysctls_seen: BTreeSet::new(),
            session_events,
            rib,
            fib,
            local_routes,
            uplinks,
            discovery,
            keys,
        };
        Ok((agent, Events { routers, sessions, accepted }))
    }

    /// Makes every task follow the present snapshots. Doing it twice changes nothing.
    async fn reconcile(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        self.originate(&interfaces).await;

        let wanted = neighbors::wanted(&self.config, &interfaces);
        self.change_limits(&wanted).await;
        self.remove_unwanted(&wanted);
        for (name, settings) in &wanted {
            if !self.neighbors.contains_key(name) {
                self.add(name, settings);
            }
        }
        let peers: BTreeSet<PeerId> = self.neighbors.values().map(|neighbor| neighbor.peer.id).collect();
        if self.rib.expect(peers).await.is_err() {
            debug!("the RIB is gone: the agent is about to end");
        }

        let uplinks = Arc::new(neighbors::uplinks(&wanted, &interfaces));
        self.look_at_sysctls(&uplinks);
        // What was learnt on a link that went away is not true of the one that comes back.
        self.routers.retain(|index, _| uplinks.get(index).is_some_and(|uplink| uplink.running));
        self.uplinks.send_if_modified(|now| replace_if_changed(now, uplinks));
        let keys = neighbors::md5_keys(&wanted);
        self.keys.send_if_modified(|now| replace_if_changed(now, keys));
        self.retarget(&interfaces).await;
    }

    async fn originate(&mut self, interfaces: &Interfaces) {
        let origin = origin::origin(&self.config, interfaces);
        if origin == self.origin {
            return;
        }
        self.local_routes.send_replace(Arc::new(origin.local.clone()));
        if self.rib.originate(origin.announced.clone()).await.is_err() {
            debug!("the RIB is gone: the agent is about to end");
        }
        self.origin = origin;
    }

    fn add(&mut self, name: &NeighborName, settings: &config::Neighbor) {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let peer_settings = PeerSettings {
            name: name.to_string(),
            id,
            session: neighbors::session_config(name, settings, &self.config, self.router_id, self.start),
            rib: PeerConfig { max_prefixes: settings.max_prefixes },
            events: self.session_events.clone(),
        };
        let peer = Peer::spawn(peer_settings, self.rib.clone());
        self.neighbors.insert(name.clone(), Neighbor { settings: settings.clone(), peer, target: None });
    }

    /// Another limit needs no other session: a reset would cost the routes that an operator is about to make room for.
    async fn change_limits(&mut self, wanted: &BTreeMap<NeighborName, config::Neighbor>) {
        for (name, neighbor) in &mut self.neighbors {
            let Some(max_prefixes) = wanted.get(name).map(|settings| settings.max_prefixes) else { continue };
            if neighbor.settings.max_prefixes != max_prefixes {
                neighbor.settings.max_prefixes = max_prefixes;
                neighbor.peer.send(PeerCommand::Configure(PeerConfig { max_prefixes })).await;
            }
        }
    }

    /// Ends what is no longer configured, or is configured in another way: with a NOTIFICATION, in a task of its
    /// own, since a peer may be slow to take it.
    fn remove_unwanted(&mut self, wanted: &BTreeMap<NeighborName, config::Neighbor>) {
        let gone =
            self.neighbors.extract_if(.., |name, neighbor| wanted.get(name) != Some(&neighbor.settings));
        for (name, neighbor) in gone {
            info!(neighbor = %name, "no longer configured, or differently");
            self.leaving.spawn(neighbor.peer.shutdown(Stop::Notify(neighbors::deconfigured())));
        }
    }

    /// Looks at the sysctls that the job depends on, whenever an uplink appears that was not there before: sets
    /// them where the file says so, else says what is wrong.
    fn look_at_sysctls(&mut self, uplinks: &Uplinks) {
        self.sysctls_seen.retain(|index| uplinks.contains_key(index));
        let new: Vec<&str> = uplinks
            .iter()
            .filter(|(index, _)| self.sysctls_seen.insert(**index))
            .map(|(_, uplink)| uplink.name.as_str())
            .collect();
        if new.is_empty() {
            return;
        }
        let root = Path::new(sysctl::ROOT);
        let manage = self.config.sysctl.manage;
        let findings = if manage { sysctl::apply(&new, root) } else { sysctl::check(&new, root) };
        for finding in findings {
            warn!("{finding}");
        }
    }

    /// Tells each neighbor's task where its peer is now.
    async fn retarget(&mut self, interfaces: &Interfaces) {
        for (name, neighbor) in &mut self.neighbors {
            let target = neighbors::target(name, &neighbor.settings, &self.config, interfaces, &self.routers);
            if target != neighbor.target {
                neighbor.target.clone_from(&target);
                neighbor.peer.send(PeerCommand::Target(target)).await;
            }
        }
    }

    async fn discovered(&mut self, event: nd::Event) {
        match event {
            nd::Event::RouterSeen { interface, router } => {
                debug!(interface = interface.0, %router, "router discovered");
                self.routers.insert(interface, router);
                let interfaces = self.interfaces.borrow().clone();
                self.retarget(&interfaces).await;
            }
            // Discovery has logged it, and shows it.
            nd::Event::Alarm { .. } => {}
        }
    }

    /// A router that lost its session, or that nobody answers for, is forgotten by Discovery: if another one has
    /// taken its place on the link, the next advertisement tells. Until then it is still dialled.
    fn session_changed(&mut self, event: PeerEvent) {
        match event.change {
            PeerChange::Up => {}
            PeerChange::Down | PeerChange::Unreachable => {
                let neighbor = self.neighbors.values().find(|neighbor| neighbor.peer.id == event.peer);
                let target = neighbor.and_then(|neighbor| neighbor.target.as_ref());
                if let Some(target) = target
                    && let Some(interface) = &target.interface
                    && let IpAddr::V6(router) = target.remote.ip()
                {
                    let forget = nd::Command::Forget { interface: interface.index, router };
                    // Full: Discovery is far behind, and the next failed dial asks again.
                    let _ = self.discovery.try_send(forget);
                }
            }
        }
    }

    /// A connection is a neighbor's when it comes from its address, over its link. Anybody else gets a RST, and
    /// not a byte of theirs was read.
    async fn accepted(&mut self, connection: Accepted) {
        let owner = self.neighbors.values().find(|neighbor| {
            neighbor.target.as_ref().is_some_and(|target| {
                target.remote.ip() == connection.address
                    && target.interface.as_ref().map(|interface| interface.index) == connection.interface
            })
        });
        match owner {
            Some(neighbor) => neighbor.peer.send(PeerCommand::Accepted(connection.stream)).await,
            None => {
                debug!(address = %connection.address, interface = ?connection.interface, "not a neighbor: refused");
                bgp::net::refuse(connection);
            }
        }
    }

    async fn request(&mut self, request: control::Request) {
        match request {
            control::Request::Reload(reply) => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.reload().await.map_err(|error| answers::refused(&error)));
            }
            request => {
                tokio::spawn(self.view().answer(request));
            }
        }
    }

    /// Ends every session without a word and waits for the tasks. The FIB goes first: what the RIB loses with its
    /// sessions must stay in the kernel.
    async fn stop(&mut self) {
        let (reply, stopped) = oneshot::channel();
        if self.fib.send(fib::Request::Stop { reply }).await.is_ok() {
            // An error is an end as well.
            let _ = stopped.await;
        }
        for (_, neighbor) in std::mem::take(&mut self.neighbors) {
            self.leaving.spawn(neighbor.peer.shutdown(Stop::Silent));
        }
        while self.leaving.join_next().await.is_some() {}
    }
}

fn replace_if_changed<T: PartialEq>(now: &mut T, new: T) -> bool {
    let changed = *now != new;
    if changed {
        *now = new;
    }
    changed
}
