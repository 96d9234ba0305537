//! The agent: which tasks there are, and what flows between them.
//!
//! `Agent` owns the neighbors. It looks at four snapshots (configuration, interfaces, routers discovered, and what
//! is to be originated) and makes the tasks follow; nothing in it waits for a peer or for the kernel. A stop ends
//! sessions silently and leaves every route in the kernel: the node goes on forwarding, and the next start
//! inherits.

mod answers;
mod damping;
mod drain;
mod follow;
mod kept;
mod links;
mod listen;
mod liveness;
mod neighbors;
mod origin;
mod readiness;
mod reload;
mod serve;
mod start;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::{Accepted, Peer, PeerChange, PeerCommand, PeerEvent, RibHandle, Target};
use bgp::policy::Role;
use bgp::rib::Gateway;
use bgp::session::{Cause, Stop};
use bgp::{Families, InterfaceIndex, PeerId, RouterId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error, info, warn};

use crate::bfd;
use crate::cluster;
use crate::config::{self, Config};
use crate::control::{self, ReloadOrder};
use crate::drain::{Drains, Wanted};
use crate::kernel::fib::{self, LocalRoutes};
use crate::kernel::interfaces::{self, Interfaces};
use crate::nd::{self, Uplinks};
use damping::Damping;
use liveness::Liveness;
use neighbors::{NeighborName, Routers};
use origin::Origin;
use serve::Control;

/// How long an answer for the control socket may take: as long as the client waits for it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long a stop may take: sessions are closed and sockets drained within it, or left behind.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Why the agent could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Netlink is not there, or not for us.
    #[error("cannot follow the kernel's interfaces")]
    Interfaces(#[source] interfaces::StartError),
    /// Another daemon has the control socket.
    #[error("cannot serve the control socket")]
    Control(#[source] control::BindError),
    /// Signal handlers cannot be installed.
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    /// A task that lives as long as the agent has ended.
    #[error("the {0} task has ended")]
    TaskEnded(&'static str),
    /// A task has panicked, which is a bug.
    #[error("a task has failed")]
    TaskFailed(#[source] JoinError),
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
    let mut signals = Signals::install().map_err(AgentError::Signals)?;
    // First of all: a second daemon finds out here that it is the second, before it touches anything.
    let (requests, asked) = mpsc::channel(control::REQUEST_QUEUE);
    let server = Control::bind(&config.control.socket).map_err(AgentError::Control)?;
    let mut tasks = Tasks::new();
    let (stop_server, server_stopped) = oneshot::channel::<()>();
    tasks.spawn(server.serve(requests, server_stopped));

    let starting = start::start(path.to_owned(), config, role, started, asked, &mut tasks);
    // A start may wait for long, for a router identifier or for a kernel that is busy.
    let agent = tokio::select! {
        started = starting => started.map(Some),
        () = signals.stop() => Ok(None),
    };
    let outcome = match agent {
        Ok(None) => Ok(()),
        Ok(Some((mut agent, mut inputs))) => {
            let outcome = agent.work(&mut inputs, &mut tasks, &mut signals).await;
            info!("stopping; routes stay in the kernel");
            // Whoever waits for an answer is told now that there will be none.
            drop((inputs, stop_server));
            if tokio::time::timeout(STOP_DEADLINE, agent.stop()).await.is_err() {
                warn!("some sessions did not end in time");
            }
            outcome
        }
        Err(error) => Err(error),
    };
    tasks.shutdown().await;
    outcome
}

/// What people and service managers want of the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT. Cancel-safe.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Which of them comes first. Cancel-safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// What the other tasks tell the agent and ask of it.
struct Inputs {
    routers: mpsc::Receiver<nd::Event>,
    sessions: mpsc::Receiver<PeerEvent>,
    accepted: mpsc::Receiver<Accepted>,
    requests: mpsc::Receiver<control::Request>,
    drains: mpsc::Receiver<drain::Command>,
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

fn task_ended(ended: Result<&'static str, JoinError>) -> AgentError {
    match ended {
        Ok(task) => AgentError::TaskEnded(task),
        Err(error) => AgentError::TaskFailed(error),
    }
}

/// At the deadline, when there is one. Cancel-safe.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// A neighbor that has a task.
struct Neighbor {
    settings: config::Neighbor,
    peer: Peer,
    target: Option<Target>,
    /// How its task was told to use it.
    used: Wanted,
    damping: Damping,
    liveness: Liveness,
}

/// The way to the BFD thread and back.
struct Bfd {
    peers: watch::Sender<Arc<bfd::Peers>>,
    standings: watch::Receiver<Arc<bfd::Standings>>,
    requests: mpsc::Sender<bfd::Request>,
}

/// The way to the task that follows Kubernetes, and back.
struct Cluster {
    settings: watch::Sender<Option<cluster::Settings>>,
    known: watch::Receiver<Arc<cluster::Snapshot>>,
}

struct Agent {
    path: PathBuf,
    config: Arc<Config>,
    router_id: RouterId,
    /// Families in which routes of an earlier run were found.
    inherited: Families,
    started: Instant,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    /// As they were looked at last.
    links_before: Arc<Interfaces>,
    routers: Routers,
    neighbors: BTreeMap<NeighborName, Neighbor>,
    /// Neighbors that were removed and still say goodbye.
    leaving: JoinSet<()>,
    /// Answers on their way: twice as many as there may be clients, since a client gives up a little earlier.
    answers: JoinSet<()>,
    next_peer: u32,
    /// The neighbors that the RIB waits for, as it was told.
    expected: BTreeSet<PeerId>,
    origin: Origin,
    sysctls_seen: BTreeSet<InterfaceIndex>,
    session_events: mpsc::Sender<PeerEvent>,
    rib: RibHandle,
    fib: mpsc::Sender<fib::Request>,
    local_routes: watch::Sender<Arc<LocalRoutes>>,
    /// Neighbors on links whose session was lost and is not back.
    lost_gateways: watch::Sender<Arc<BTreeSet<Gateway>>>,
    uplinks: watch::Sender<Arc<Uplinks>>,
    discovery: mpsc::Sender<nd::Command>,
    bfd: Bfd,
    cluster: Cluster,
    admission: watch::Sender<listen::Admission>,
    /// Why nobody can connect, while that is so.
    listen_trouble: watch::Receiver<Option<listen::Trouble>>,
    drains: Drains<NeighborName>,
    kept_drains: kept::KeptDrains,
    kept_links: links::KeptLinks,
    trials: trial::Trials,
    drain_commands: mpsc::Sender<drain::Command>,
    fitness: readiness::Fitness,
    /// Whoever looks at the neighbors for the drains; one at most.
    observing: JoinSet<drain::Observations>,
}

impl Agent {
    /// Does what the inputs ask for, until a signal says that it is enough.
    async fn work(
        &mut self,
        inputs: &mut Inputs,
        tasks: &mut Tasks,
        signals: &mut Signals,
    ) -> Result<(), AgentError> {
        info!(local_as = %self.config.bgp.local_as, router_id = %self.router_id, "running");
        self.reconcile().await;
        loop {
            let observation_due = self.observation_due();
            let release = self.next_release();
            let fitness_due = self.fitness.due();
            let trial_ends = self.trials.deadline();
            // Every branch is cancel-safe. What is done about one holds up the others: nothing in it waits for a peer,
            // and the tasks that it hands work to wait for nobody here.
            tokio::select! {
                changed = self.interfaces.changed() => {
                    changed.map_err(|_| AgentError::TaskEnded("interface"))?;
                    self.reconcile().await;
                }
                changed = self.bfd.standings.changed() => {
                    changed.map_err(|_| AgentError::TaskEnded("BFD"))?;
                    self.follow_standings().await;
                }
                changed = self.cluster.known.changed() => {
                    changed.map_err(|_| AgentError::TaskEnded("Kubernetes"))?;
                    let interfaces = self.interfaces.borrow().clone();
                    self.originate(&interfaces).await;
                }
                Some(event) = inputs.routers.recv() => self.discovered(event).await,
                Some(event) = inputs.sessions.recv() => self.session_changed(event).await,
                Some(connection) = inputs.accepted.recv() => self.accepted(connection).await,
                Some(request) = inputs.requests.recv() => self.request(request).await,
                Some(command) = inputs.drains.recv() => self.drain_command(command).await,
                () = sleep_until(observation_due) => self.begin_observation(),
                // One that fails is made up for by the next.
                Some(seen) = self.observing.join_next() => if let Ok(seen) = seen {
                    self.observed(seen).await;
                },
                () = sleep_until(fitness_due) => self.look_at_fitness(),
                seen = self.fitness.seen() => if let Some(seen) = seen {
                    self.fitness.observe(&seen);
                },
                Some(_) = self.leaving.join_next() => {}
                Some(_) = self.answers.join_next() => {}
                () = sleep_until(release) => {
                    let interfaces = self.interfaces.borrow().clone();
                    self.retarget(&interfaces).await;
                }
                () = sleep_until(trial_ends) => self.expire_trial().await,
                Some(ended) = tasks.join_next() => return Err(task_ended(ended)),
                asked = signals.next() => match asked {
                    Asked::Stop => return Ok(()),
                    // A refusal is in the log.
                    Asked::Reload => drop(self.reload(ReloadOrder::AtOnce).await),
                }
            }
            if self.drains.is_to_stop() {
                info!("drained, as was asked before the end");
                self.kept_drains.forget_node();
                return Ok(());
            }
        }
    }

    async fn discovered(&mut self, event: nd::Event) {
        match event {
            // What was seen before the link went down is not true of the one that comes back.
            nd::Event::RouterSeen { interface, .. } if !self.is_running_uplink(interface) => {}
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

    fn is_running_uplink(&self, interface: InterfaceIndex) -> bool {
        self.uplinks.borrow().get(&interface).is_some_and(|uplink| uplink.running)
    }

    /// What a session that came or went means to others. The FIB stops using a next hop without a session at once,
    /// for all routes together, while the RIB goes through them one by one. A router that lost its session, or that
    /// nobody answers for, is forgotten by Discovery: if another one has taken its place on the link, the next
    /// advertisement tells. Until then it is still dialled.
    async fn session_changed(&mut self, event: PeerEvent) {
        match event.change {
            PeerChange::Down { cause: Cause::Theirs | Cause::Failure, .. }
            | PeerChange::Restarting
            | PeerChange::Left
            | PeerChange::Failed => self.doubt_trial(event).await,
            PeerChange::Up { .. }
            | PeerChange::Down { cause: Cause::Ours, .. }
            | PeerChange::Unreachable { .. } => {}
        }
        self.note_steadiness(event);
        self.note_restart(event);
        let neighbor = self.neighbors.values().find(|neighbor| neighbor.peer.id == event.peer);
        let target = neighbor.and_then(|neighbor| neighbor.target.as_ref());
        let interface = target.and_then(|target| target.interface.as_ref()).map(|interface| interface.index);
        match event.change {
            PeerChange::Up { .. } => {
                if let Some(target) = target {
                    let gateway = Gateway { address: target.remote.ip(), interface };
                    self.change_lost_gateways(|lost| lost.remove(&gateway));
                }
            }
            // Its packets still go there, and it is still the router on the link: nothing changes (RFC 4724 section 4.2).
            PeerChange::Restarting => {}
            PeerChange::Failed => {
                self.neighbors.retain(|_, neighbor| neighbor.peer.id != event.peer);
                self.reconcile().await;
            }
            PeerChange::Down { remote, cause: _ } => {
                if interface.is_some() {
                    let gateway = Gateway { address: remote, interface };
                    self.change_lost_gateways(|lost| lost.insert(gateway));
                }
                self.forget_router(interface, remote);
                self.hold_back().await;
            }
            // Who ended it has told the FIB.
            PeerChange::Left => self.hold_back().await,
            PeerChange::Unreachable { remote } => self.forget_router(interface, remote),
        }
    }

    fn forget_router(&self, interface: Option<InterfaceIndex>, remote: IpAddr) {
        if let (Some(interface), IpAddr::V6(router)) = (interface, remote) {
            // Full: Discovery is far behind, and the next failed dial asks again.
            let _ = self.discovery.try_send(nd::Command::Forget { interface, router });
        }
    }

    fn change_lost_gateways(&self, change: impl FnOnce(&mut BTreeSet<Gateway>) -> bool) {
        self.lost_gateways.send_if_modified(|lost| change(Arc::make_mut(lost)));
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
            control::Request::Reload { order, reply } => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.reload(order).await.map_err(|error| answers::refused(&error)));
            }
            control::Request::Confirm(reply) => {
                let _ = reply.send(self.confirm().map_err(|error| answers::refused(&error)));
            }
            request => {
                if let control::Request::Clear { neighbor, .. } = &request {
                    self.forgive(neighbor).await;
                }
                let answer = self.view().answer(request);
                self.answers.spawn(async move {
                    if tokio::time::timeout(ANSWER_DEADLINE, answer).await.is_err() {
                        debug!("nobody waits any more for an answer that took too long");
                    }
                });
            }
        }
    }

    /// Ends every session without a word and waits for the tasks. The FIB goes first: what the RIB loses with its
    /// sessions must stay in the kernel.
    async fn stop(&mut self) {
        self.answers.abort_all();
        self.observing.abort_all();
        self.fitness.stop();
        let (reply, stopped) = oneshot::channel();
        if self.fib.send(fib::Request::Stop { reply }).await.is_ok() {
            // An error is an end as well.
            let _ = stopped.await;
        }
        for (_, neighbor) in std::mem::take(&mut self.neighbors) {
            self.leaving.spawn(neighbor.peer.shutdown(Stop::Silent));
        }
        while self.leaving.join_next().await.is_some() {}
        while self.answers.join_next().await.is_some() {}
        // The silence that follows is no failure of the path. FRR 8.4 takes this for one nevertheless, and would end the
        // session with all its routes; behind the end of TCP it keeps them for our restart (RFC 4724).
        let (reply, stopped) = oneshot::channel();
        if self.bfd.requests.send(bfd::Request::Stop(reply)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}
