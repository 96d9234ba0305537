//! A neighbor's task as the agent sees it: what it starts with, what it can be told, what it tells. The task itself
//! is in `task`.

mod task;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument, error, info_span, warn};

use self::task::Task;
use super::rib::RibHandle;
use super::transport::Target;
use crate::memory::Usage;
use crate::message::{AttributeFault, Notification};
use crate::policy::Maintenance;
use crate::rib::PeerConfig;
use crate::session::{Cause, MessageCounts, Negotiated, SessionConfig, SessionError, State, Stop};
use crate::{Families, PeerId};

/// Commands that may wait; the agent sends few, and waits when there are more.
const COMMAND_QUEUE: usize = 16;
/// Before a task that failed is started again: what made it fail may come again with the next session.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// What a neighbor's task starts with.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    /// For logs: the interface or the address as configured.
    pub name: String,
    /// Its number in the RIB.
    pub id: PeerId,
    /// The session.
    pub session: SessionConfig,
    /// Its limits in the RIB.
    pub rib: PeerConfig,
    /// Where the agent hears of the session.
    pub events: mpsc::Sender<PeerEvent>,
}

/// Something the agent may want to act on. While the agent is far behind, the last word on a session waits and
/// replaces what was not told before it; a failed dial is dropped, as the next one tells again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerEvent {
    /// Whose session.
    pub peer: PeerId,
    /// What happened to it.
    pub change: PeerChange,
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerChange {
    /// It is Established.
    Up {
        /// Families in which [`PeerChange::Restarting`] may follow.
        keeps: Families,
    },
    /// It no longer is, and what the peer said is kept while the peer restarts (RFC 4724): packets still go there.
    /// [`PeerChange::Up`], [`PeerChange::Down`] or [`PeerChange::Left`] follows.
    Restarting,
    /// It no longer is, nor is anything kept of it.
    Down {
        /// Where the peer was; the agent may have learnt of another place since.
        remote: IpAddr,
        /// Who is behind it.
        cause: Cause,
    },
    /// The same, because the agent has said that the peer is not to be reached any more, or not there.
    Left,
    /// The peer could not be dialled where it was said to be.
    Unreachable {
        /// Where that is.
        remote: IpAddr,
    },
    /// Its task has failed, by a bug. The RIB has forgotten its routes; somebody has to start another task.
    Failed,
}

/// What the agent tells a neighbor's task.
#[derive(Debug)]
pub enum PeerCommand {
    /// Where the peer is; `None` while it cannot be reached (no link, no neighbor discovered), which ends the
    /// session silently. A snapshot: the same target again changes nothing, and another global address of ours
    /// only the next session.
    Target(Option<Target>),
    /// The peer dialled us.
    Accepted(TcpStream),
    /// New limits; the session stays.
    Configure(PeerConfig),
    /// How the neighbor is used from now on; the session stays, and later ones are like it.
    Maintain(Maintenance),
    /// End the session with this NOTIFICATION and have none until [`Self::Enable`].
    Disable(Notification),
    /// After [`Self::Disable`]: have sessions again.
    Enable,
    /// End the session with this NOTIFICATION and begin anew.
    Clear(Notification),
    /// End the session with this NOTIFICATION, and have no other before [`PeerCommand::Release`].
    Hold(Notification),
    /// A session may be had again, where it was not.
    Release,
    /// Ask the peer to send everything again, and send everything again ourselves.
    Refresh(oneshot::Sender<RefreshAnswer>),
    /// For people.
    Status(oneshot::Sender<PeerStatus>),
    /// End the session as it says, forget the neighbor or keep its routes, and end the task.
    Shutdown(Stop),
}

/// What became of [`PeerCommand::Refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshAnswer {
    /// The request is on its way, and our routes are.
    Sent,
    /// There is no session.
    NotEstablished,
    /// The peer did not announce the capability (RFC 2918).
    NotSupported,
}

/// A neighbor's session as it is now.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// RFC 4271 section 8.2.2.
    pub state: State,
    /// When it went into or out of Established, or was configured.
    pub since: Instant,
    /// How often it was Established.
    pub established: u64,
    /// Where it is, when known.
    pub target: Option<Target>,
    /// Our own end of the session.
    pub local_address: Option<SocketAddr>,
    /// What both OPENs agreed on, while Established.
    pub negotiated: Option<Arc<Negotiated>>,
    /// Messages that came in.
    pub received: MessageCounts,
    /// Messages that went out.
    pub sent: MessageCounts,
    /// Attributes of the peer that were dropped or cost it routes (RFC 7606).
    pub attribute_faults: u64,
    /// The last such fault.
    pub last_fault: Option<AttributeFault>,
    /// What ended the last session or try, and when, whatever happened since.
    pub last_error: Option<(Instant, SessionError)>,
    /// The last NOTIFICATION of the peer, and when it came.
    pub last_notification: Option<(Instant, Notification)>,
    /// The timers that run, by their names in RFC 4271 section 8.
    pub timers: Vec<(&'static str, Instant)>,
    /// What waits for the socket and for the RIB, in pieces; with the room of the receive buffer.
    pub buffers: Usage,
}

/// The agent's end of a neighbor's task.
#[derive(Debug)]
pub struct Peer {
    /// Its number in the RIB.
    pub id: PeerId,
    commands: mpsc::Sender<PeerCommand>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts the task. It is idle until it has a target.
    #[must_use]
    pub fn spawn(settings: PeerSettings, rib: RibHandle) -> Self {
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (id, events) = (settings.id, settings.events.clone());
        let span = info_span!("neighbor", name = %settings.name);
        let run = Task::new(settings, rib.clone(), receiver).run().instrument(span.clone());
        let task = tokio::spawn(supervise(id, run, rib, events).instrument(span));
        Self { id, commands, task }
    }

    /// Sends a command; waits while the task is busy. A task that has ended takes nothing more.
    pub async fn send(&self, command: PeerCommand) {
        // The task only ends when it was told to.
        let _ = self.commands.send(command).await;
    }

    /// Another sender of commands, for whoever asks for the status.
    #[must_use]
    pub fn commands(&self) -> mpsc::Sender<PeerCommand> {
        self.commands.clone()
    }

    /// Ends the session as it says and waits for the task.
    pub async fn shutdown(self, stop: Stop) {
        self.send(PeerCommand::Shutdown(stop)).await;
        if let Err(error) = self.task.await {
            warn!(%error, "a neighbor's task did not end well");
        }
    }
}

/// Runs the task of a neighbor. A panic in it, which can only be a bug, costs that neighbor its session and nobody else
/// anything: what it said is forgotten, or its routes would lead nowhere for ever.
async fn supervise(
    id: PeerId,
    run: impl Future<Output = ()> + Send + 'static,
    rib: RibHandle,
    events: mpsc::Sender<PeerEvent>,
) {
    let Err(error) = tokio::spawn(run).await else { return };
    error!(%error, "the neighbor's task has failed; it is started again");
    rib.forget(id).await;
    tokio::time::sleep(FAILURE_PAUSE).await;
    // An agent that has ended starts nothing again.
    let _ = events.send(PeerEvent { peer: id, change: PeerChange::Failed }).await;
}

#[cfg(test)]
mod tests;
