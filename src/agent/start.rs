//! The start: every task that lives as long as the agent, in the order in which they need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::{RibHandle, RibSettings};
use bgp::policy::Role;
use bgp::rib::RibConfig;
use bgp::{Families, RouterId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::kept::KeptDrains;
use super::links::KeptLinks;
use super::neighbors::Routers;
use super::readiness::Fitness;
use super::{Agent, AgentError, Bfd, Cluster, Inputs, Tasks, ended, listen, origin};
use crate::bfd;
use crate::cluster::{self, cni};
use crate::config::Config;
use crate::control;
use crate::kernel::fib;
use crate::kernel::interfaces::{self, Interfaces};
use crate::memory;
use crate::nd::{self, Uplinks};
use crate::readiness::Told;

/// Connections, routers and requests that may wait for the agent's loop.
const QUEUE: usize = 64;
/// Batches that may wait for the FIB: one is written while the next is made; everything else waits in the RIB.
const FIB_QUEUE: usize = 1;
/// Routes that nobody announced again are swept after this time when graceful restart is off.
const SWEEP_DEADLINE: Duration = Duration::from_secs(30);

/// The kernel says within milliseconds whether it has routes of ours. One that does not must not keep the node off the
/// network.
const INHERITED_DEADLINE: Duration = Duration::from_secs(10);

/// Starts everything but the neighbors. Dropping the future leaves the tasks that run already to their set.
pub(super) async fn start(
    path: PathBuf,
    config: Config,
    role: Role,
    started: Instant,
    requests: mpsc::Receiver<control::Request>,
    tasks: &mut Tasks,
) -> Result<(Agent, Inputs), AgentError> {
    let (monitor, mut interfaces) = interfaces::start().await.map_err(AgentError::Interfaces)?;
    tasks.spawn(async move {
        monitor.run().await;
        "interface"
    });
    let router_id = wait_for_router_id(&config, &mut interfaces).await?;
    let snapshot = interfaces.borrow().clone();
    let (told, to_tell) = watch::channel(Told::default());
    let cluster = follow_cluster(&config, to_tell, tasks).await;
    let fitness = Fitness::new(&config, told);
    let origin = origin::origin(&config, &snapshot, &cluster.known.borrow());

    let (local_routes, local) = watch::channel(Arc::new(origin.local.clone()));
    let (batches, from_rib) = mpsc::channel(FIB_QUEUE);
    let (fib, fib_requests) = mpsc::channel(QUEUE);
    let (lost_gateways, dead) = watch::channel(Arc::default());
    let (failures, failed) = watch::channel(Arc::default());
    let (found, inherited) = oneshot::channel();
    let inputs = fib::Inputs {
        batches: from_rib,
        local,
        interfaces: interfaces.clone(),
        dead,
        failed,
        requests: fib_requests,
        inherited: Some(found),
    };
    let kernel = fib::run(fib::Settings::from(&config.fib), inputs);
    tasks.spawn(async move { ended("FIB", kernel.await) });
    // The sessions' first OPENs depend on it.
    let inherited = wait_for_inherited(inherited).await?;

    tasks.spawn(async move {
        memory::give_back().await;
        "memory"
    });

    let (uplinks, to_discovery) = watch::channel(Arc::new(Uplinks::new()));
    let (router_events, routers) = mpsc::channel(QUEUE);
    let (discovery, commands) = mpsc::channel(QUEUE);
    let discoverer = nd::run(nd::Settings::default(), to_discovery, router_events, commands);
    tasks.spawn(async move { ended("Router Discovery", discoverer.await) });

    let (peers, to_watch) = watch::channel(Arc::default());
    let (standings, followed) = watch::channel(Arc::default());
    let (bfd_requests, bfd_asked) = mpsc::channel(QUEUE);
    let watcher = bfd::run(bfd::Inputs { peers: to_watch, requests: bfd_asked, standings, failed: failures });
    tasks.spawn(async move { ended("BFD", watcher.await) });

    let (admission, admitted) = watch::channel(listen::Admission::default());
    let (connections, accepted) = mpsc::channel(QUEUE);
    let (trouble, listen_trouble) = watch::channel(None);
    let (session_events, sessions) = mpsc::channel(QUEUE);
    tasks.spawn(async move {
        listen::listen(admitted, connections, trouble).await;
        "listener"
    });

    let settings = RibSettings {
        config: RibConfig { local_as: config.bgp.local_as, router_id, max_paths: config.fib.max_paths, role },
        convergence_deadline: config.bgp.graceful_restart.unwrap_or(SWEEP_DEADLINE),
    };
    let (rib, rib_task) = RibHandle::spawn(settings, batches);
    tasks.spawn(async move {
        // Ends with its last handle, or by a panic: either way the agent cannot go on.
        let _ = rib_task.await;
        "RIB"
    });
    // Before any session: the first full announcement has to be full, and nothing is believed only to be refused.
    let _ = rib.connect_hosts(Arc::clone(&origin.hosts)).await;
    let _ = rib.originate(origin.announced.clone()).await;
    let _ = rib.connect(origin.connected.clone()).await;

    let (drain_commands, drains) = mpsc::channel(QUEUE);
    let (kept_drains, restored) = KeptDrains::read(&config.control.socket);
    let kept_links = KeptLinks::read(&config.control.socket);
    let agent = Agent {
        path,
        config: Arc::new(config),
        router_id,
        inherited,
        started,
        interfaces,
        links_before: Arc::default(),
        routers: Routers::new(),
        neighbors: BTreeMap::new(),
        leaving: JoinSet::new(),
        answers: JoinSet::new(),
        next_peer: 0,
        expected: BTreeSet::new(),
        origin,
        sysctls_seen: BTreeSet::new(),
        session_events,
        rib,
        fib,
        local_routes,
        lost_gateways,
        uplinks,
        discovery,
        bfd: Bfd { peers, standings: followed, requests: bfd_requests },
        cluster,
        admission,
        listen_trouble,
        drains: restored,
        kept_drains,
        kept_links,
        trials: super::trial::Trials::default(),
        drain_commands,
        fitness,
        observing: JoinSet::new(),
    };
    Ok((agent, Inputs { routers, sessions, accepted, requests, drains }))
}

/// What was kept of Kubernetes is known when this is ready: the first full announcement has it.
async fn follow_cluster(config: &Config, told: watch::Receiver<Told>, tasks: &mut Tasks) -> Cluster {
    let wanted = cluster::Settings::of(config, cluster::name_here);
    let is_kept = wanted.is_some();
    let (settings, to_follow) = watch::channel(wanted);
    let (snapshot, mut known) = watch::channel(Arc::default());
    let inputs = cluster::Inputs { settings: to_follow, told, snapshot };
    tasks.spawn(async move {
        cluster::run(inputs).await;
        "Kubernetes"
    });
    if is_kept {
        // An error is the end of the task, which the agent finds out.
        let _ = known.changed().await;
        known.mark_unchanged();
    }
    let (conflist, to_write) = watch::channel(None);
    tasks.spawn(async move {
        cni::run(to_write).await;
        "CNI"
    });
    Cluster { settings, known, conflist }
}

/// Families in which the kernel has routes of an earlier run: what the F bits of the first OPENs promise.
async fn wait_for_inherited(answer: oneshot::Receiver<Families>) -> Result<Families, AgentError> {
    let Ok(inherited) = tokio::time::timeout(INHERITED_DEADLINE, answer).await else {
        warn!("the kernel's routes cannot be read: neighbors are told that nothing was preserved");
        return Ok(Families::NONE);
    };
    let inherited = inherited.map_err(|_| AgentError::TaskEnded("FIB"))?;
    let families: Vec<String> = inherited.iter().map(|family| family.to_string()).collect();
    info!(families = families.join(", "), "kernel routes of an earlier run");
    Ok(inherited)
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
