//! The task of one neighbor: owns its [`Session`] and its TCP connections.
//!
//! In: commands of the agent, bytes, the clock, and route batches that it asked for. Out: session events and
//! UPDATEs to the RIB task, in the order in which they happened; bytes. One loop: wait for one event, feed the
//! machine, drain it.

mod next_hop;
mod tell;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use self::next_hop::next_hop;
use super::{PeerChange, PeerCommand, PeerEvent, PeerSettings, PeerStatus, RefreshAnswer};
use crate::memory::{Usage, list_octets};
use crate::message::{AttributeFault, RefreshKind, RouteRefresh, Update};
use crate::net::connection::{Connection, Io, Reading};
use crate::net::rib::{Epoch, PeerBatch, RibHandle, ToRib};
use crate::net::transport::{self, Target};
use crate::rib::{PeerSession, ToPeer};
use crate::session::{Action, Cause, ConnectionId, Event, Negotiated, Session, SessionError, Stop};
use crate::{Family, PeerId};

/// Unsent octets above which no more routes are asked for.
const OUTPUT_LOW_WATER: usize = 65536;
/// Connections of one neighbor at a time, closing ones included: two live ones, and some that say goodbye.
const MAX_CONNECTIONS: usize = 6;

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) struct Task {
    id: PeerId,
    session: Session,
    rib: RibHandle,
    events: mpsc::Sender<PeerEvent>,
    commands: mpsc::Receiver<PeerCommand>,
    batches: mpsc::Receiver<PeerBatch>,
    target: Option<Target>,
    connections: Vec<Connection>,
    dial: Option<(ConnectionId, Dial)>,
    /// What waits for room in the RIB's inbox. Reading stops while there is something.
    backlog: VecDeque<ToRib>,
    /// UPDATEs of the present turn: they travel together.
    updates: Vec<Update>,
    epoch: Epoch,
    /// Routes were asked for and have not come yet.
    asked: bool,
    /// What the agent had no room for.
    untold: Option<PeerChange>,
    local_address: Option<SocketAddr>,
    since: Instant,
    established: u64,
    attribute_faults: u64,
    last_fault: Option<AttributeFault>,
    /// The last error that is in the log.
    told_error: Option<SessionError>,
    /// Why the session is stopped without a word, where it is.
    silence: Silence,
    administrative: Administrative,
    permission: Permission,
    stopping: bool,
}

/// Whether the agent wants a session at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Administrative {
    Enabled,
    Disabled,
}

/// Whether the agent lets us have the session that it wants: not with a neighbor that packets do not get to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    Granted,
    Withheld,
}

/// Why we end a session silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// The agent ends, and leaves the routes to the next start.
    Shutdown,
    /// The peer cannot be reached any more: the agent knows and says why.
    Unreachable,
    /// The peer is at another address, or has to be reached in another way.
    Moved,
}

impl Silence {
    fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "this daemon stops",
            Self::Unreachable => "the neighbor cannot be reached any more",
            Self::Moved => "the neighbor is to be reached in another way",
        }
    }
}

enum Wake {
    Command(Option<PeerCommand>),
    Io(usize, Io),
    Dialled(ConnectionId, io::Result<TcpStream>),
    RibHasRoom,
    Batch(PeerBatch),
    Deadline,
}

impl Task {
    pub(super) fn new(settings: PeerSettings, rib: RibHandle, commands: mpsc::Receiver<PeerCommand>) -> Self {
        // One batch at a time is asked for, so there is always room for it.
        let (sender, batches) = mpsc::channel(1);
        let configure = ToRib::Configure {
            peer: settings.id,
            name: settings.name,
            config: settings.rib,
            batches: sender,
        };
        Self {
            id: settings.id,
            session: Session::new(settings.session),
            rib,
            events: settings.events,
            commands,
            batches,
            target: None,
            connections: Vec::new(),
            dial: None,
            backlog: VecDeque::from([configure]),
            updates: Vec::new(),
            epoch: Epoch::default(),
            asked: false,
            untold: None,
            local_address: None,
            since: now(),
            established: 0,
            attribute_faults: 0,
            last_fault: None,
            told_error: None,
            silence: Silence::Shutdown,
            administrative: Administrative::Enabled,
            permission: Permission::Granted,
            stopping: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.drain();
            if self.stopping && self.connections.is_empty() && self.backlog.is_empty() {
                return;
            }
            match self.wait().await {
                Wake::Command(command) => {
                    self.command(command.unwrap_or(PeerCommand::Shutdown(Stop::Silent)))
                }
                Wake::Io(index, io) => self.io(index, io),
                Wake::Dialled(id, result) => self.dialled(id, result),
                Wake::RibHasRoom => {}
                Wake::Batch(batch) => self.batch(batch),
                Wake::Deadline => self.deadline(),
            }
        }
    }

    /// Every branch is cancel-safe: the sockets are polled for readiness, the channels lose nothing.
    async fn wait(&mut self) -> Wake {
        let reading = if self.backlog.is_empty() { Reading::Open } else { Reading::Paused };
        let deadline = self.next_deadline();
        tokio::select! {
            command = self.commands.recv(), if !self.stopping => Wake::Command(command),
            (index, io) = next_io(&mut self.connections, reading) => Wake::Io(index, io),
            (id, result) = next_dial(&mut self.dial) => Wake::Dialled(id, result),
            permit = self.rib.reserve(), if !self.backlog.is_empty() => {
                match (permit, self.backlog.pop_front()) {
                    (Some(permit), Some(message)) => permit.send(message),
                    // The RIB has ended, so the agent is about to.
                    (None, _) | (_, None) => self.backlog.clear(),
                }
                Wake::RibHasRoom
            }
            Some(batch) = self.batches.recv() => Wake::Batch(batch),
            () = sleep_until(deadline) => Wake::Deadline,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let closing = self.connections.iter().filter_map(Connection::deadline);
        closing.chain(self.session.poll_deadline()).min()
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Target(target) => self.retarget(target),
            PeerCommand::Accepted(stream) => self.accepted(stream),
            PeerCommand::Configure(config) => {
                self.backlog.push_back(ToRib::Reconfigure { peer: self.id, config });
            }
            PeerCommand::Maintain(maintenance) => {
                self.backlog.push_back(ToRib::Maintain { peer: self.id, maintenance });
            }
            PeerCommand::Disable(notification) => {
                self.administrative = Administrative::Disabled;
                self.session.handle(Event::Stop(Stop::Notify(notification)), now());
            }
            PeerCommand::Enable => {
                self.administrative = Administrative::Enabled;
                self.start();
            }
            PeerCommand::Clear(notification) => {
                self.session.handle(Event::Stop(Stop::Restart(notification)), now())
            }
            PeerCommand::Hold(notification) => {
                self.permission = Permission::Withheld;
                self.session.handle(Event::Stop(Stop::Notify(notification)), now());
            }
            PeerCommand::Release => {
                self.permission = Permission::Granted;
                self.start();
            }
            PeerCommand::Refresh(reply) => {
                // Whoever asked may have gone away; the answer is for nobody else.
                let _ = reply.send(self.refresh());
            }
            PeerCommand::Status(reply) => {
                let _ = reply.send(self.status());
            }
            PeerCommand::Shutdown(stop) => {
                let forget = matches!(stop, Stop::Notify(_));
                self.silence = Silence::Shutdown;
                if forget {
                    // Before the session ends by it: nothing that the peer does is the reason.
                    self.backlog.push_back(ToRib::Deconfigure { peer: self.id });
                }
                self.session.handle(Event::Stop(stop), now());
                self.drain();
                if forget {
                    self.backlog.push_back(ToRib::Remove { peer: self.id });
                }
                self.dial = None;
                self.stopping = true;
            }
        }
    }

    fn retarget(&mut self, target: Option<Target>) {
        if self.target == target {
            return;
        }
        if let (Some(old), Some(new)) = (&self.target, &target)
            && new.reaches_as(old)
        {
            self.target = target;
            return;
        }
        if self.target.take().is_some() {
            self.silence = if target.is_some() { Silence::Moved } else { Silence::Unreachable };
            self.session.handle(Event::Stop(Stop::Silent), now());
            self.drain();
            // There is nobody at the other end any more to wait for.
            self.connections.clear();
            self.dial = None;
        }
        self.target = target;
        self.start();
    }

    /// Where there is a neighbor to have a session with, and one is wanted and permitted.
    fn start(&mut self) {
        match (self.administrative, self.permission) {
            (Administrative::Enabled, Permission::Granted) if self.target.is_some() => {
                self.session.handle(Event::Start, now());
            }
            (
                Administrative::Enabled | Administrative::Disabled,
                Permission::Granted | Permission::Withheld,
            ) => {}
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        let Some(target) = &self.target else { return };
        if self.connections.len() >= MAX_CONNECTIONS {
            // One that lingers for a peer that does not close must not keep out the one that the peer wants now. The
            // session has at most two, so there is one that does.
            match self.connections.iter().position(|connection| connection.deadline().is_some()) {
                Some(index) => drop(self.connections.remove(index)),
                None => return debug!("the neighbor opened one connection too many"),
            }
        }
        if let Err(error) = transport::configure_accepted(&stream, target) {
            return warn!(%error, "cannot set the options of a connection that the neighbor opened");
        }
        let id = self.session.next_connection();
        self.connections.push(Connection::new(id, stream));
        self.session.handle(Event::Accepted(id), now());
    }

    fn refresh(&mut self) -> RefreshAnswer {
        let Some(negotiated) = self.session.negotiated().cloned() else {
            return RefreshAnswer::NotEstablished;
        };
        if !negotiated.route_refresh {
            return RefreshAnswer::NotSupported;
        }
        for family in negotiated.codec.families.iter() {
            let refresh = RouteRefresh { family: family.into(), kind: RefreshKind::Request };
            self.session.send_refresh(refresh, now());
            // And the other way round, as if the peer had asked.
            self.backlog.push_back(ToRib::Refresh { peer: self.id, family, kind: RefreshKind::Request });
        }
        RefreshAnswer::Sent
    }

    fn status(&self) -> PeerStatus {
        PeerStatus {
            state: self.session.state(),
            since: self.since,
            established: self.established,
            target: self.target.clone(),
            local_address: self.local_address,
            negotiated: self.session.negotiated().cloned(),
            received: self.session.received(),
            sent: self.session.sent(),
            attribute_faults: self.attribute_faults,
            last_fault: self.last_fault.clone(),
            last_error: self.session.last_failure().cloned(),
            last_notification: self.session.last_notification().cloned(),
            timers: self.session.timers(),
            buffers: self.buffers(),
        }
    }

    /// A piece of output, or a message for the RIB, is one.
    fn buffers(&self) -> Usage {
        let output: Usage = self.connections.iter().map(Connection::output).sum();
        let waiting: usize = self.backlog.iter().map(ToRib::octets).sum();
        let lists = self.backlog.capacity() * size_of::<ToRib>() + list_octets(&self.updates);
        output + Usage::new(self.backlog.len(), waiting + lists + self.session.receive_room())
    }

    fn io(&mut self, index: usize, io: Io) {
        let Some(connection) = self.connections.get(index) else { return };
        let id = connection.id;
        let event = match io {
            Io::Read(bytes) => Event::Received(id, bytes),
            Io::Written(octets) => Event::Written(id, octets),
            Io::Ended => {
                let connection = self.connections.swap_remove(index);
                if connection.deadline().is_some() {
                    return;
                }
                Event::Closed(id)
            }
        };
        self.session.handle(event, now());
    }

    fn dialled(&mut self, id: ConnectionId, result: io::Result<TcpStream>) {
        match result {
            Ok(stream) => {
                self.connections.push(Connection::new(id, stream));
                self.session.handle(Event::Connected(id), now());
            }
            Err(error) => {
                debug!(%error, "cannot connect");
                self.tell_of_refusal();
                self.session.handle(Event::ConnectFailed(id, error.kind()), now());
            }
        }
    }

    fn batch(&mut self, batch: PeerBatch) {
        // Also of one that is dropped: it may have been in the way of the one that was asked for since.
        self.asked = false;
        if batch.epoch != self.epoch {
            return;
        }
        for item in batch.items {
            match item {
                ToPeer::Update(update) => self.session.send_update(&update, now()),
                ToPeer::Refresh(refresh) => self.session.send_refresh(refresh, now()),
            }
        }
    }

    fn deadline(&mut self) {
        let now = now();
        self.connections.retain(|connection| connection.deadline().is_none_or(|deadline| deadline > now));
        if self.session.poll_deadline().is_some_and(|deadline| deadline <= now) {
            let input_pending = self.connections.iter().any(Connection::has_input);
            let dialling = self.dial.as_ref().map(|(id, _)| *id);
            self.session.handle(Event::Deadline { input_pending }, now);
            self.drain();
            // A dial that is given up for want of an answer fails without a word of TCP.
            let given_up = dialling.is_some() && dialling != self.dial.as_ref().map(|(id, _)| *id);
            if given_up && self.session.negotiated().is_none() {
                self.tell_of_refusal();
            }
        }
    }

    /// Does what the session asks for, in its order.
    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            if !matches!(action, Action::Update(_)) {
                self.flush_updates();
            }
            match action {
                Action::Connect(id) => self.connect(id),
                Action::Transmit(id, bytes) => {
                    if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
                        connection.transmit(bytes);
                    }
                }
                Action::Close(id) => self.close(id),
                Action::Up(id, negotiated) => self.up(id, &negotiated),
                Action::Update(update) => self.update(update),
                Action::Refresh(refresh) => self.refresh_received(refresh),
                Action::Down { reason, kept } => {
                    self.log_down(&reason);
                    self.told_error = self.session.last_error().cloned();
                    self.since = now();
                    self.local_address = None;
                    self.backlog.push_back(ToRib::Down { peer: self.id, kept });
                    if kept.is_empty() {
                        self.tell_of_end(reason.cause());
                    } else {
                        info!("the neighbor may be restarting: its routes are kept meanwhile");
                        self.tell(PeerChange::Restarting);
                    }
                }
                Action::Forget => {
                    info!("what was kept of the neighbor over its restart is dropped");
                    self.backlog.push_back(ToRib::Forget { peer: self.id });
                    if self.session.negotiated().is_none() {
                        // The peer did not come back, unless somebody here has lost patience.
                        self.tell_of_end(match self.administrative {
                            Administrative::Disabled => Cause::Ours,
                            Administrative::Enabled => Cause::Failure,
                        });
                    }
                }
            }
        }
        self.flush_updates();
        self.ask_for_routes();
        self.log_error();
        if let Some(change) = self.untold.take() {
            self.tell(change);
        }
    }

    fn connect(&mut self, id: ConnectionId) {
        if let Some(target) = self.target.clone() {
            self.dial = Some((id, Box::pin(transport::connect(target))));
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.dial.take_if(|(dialling, _)| *dialling == id);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.close(now());
        }
    }

    fn up(&mut self, id: ConnectionId, negotiated: &Negotiated) {
        let Some(target) = &self.target else { return };
        let connection = self.connections.iter().find(|connection| connection.id == id);
        let local = connection.and_then(|connection| connection.local_address().ok());
        let local_ip = local.map(|local| local.ip().to_canonical());
        self.local_address = local;
        self.since = now();
        self.established += 1;
        self.asked = false;
        self.epoch = self.epoch.next();
        let families: Vec<String> =
            negotiated.codec.families.iter().map(|family| family.to_string()).collect();
        info!(
            remote_as = %negotiated.open.asn,
            router_id = %negotiated.open.router_id,
            remote = %target.remote.ip(),
            families = families.join(", "),
            "session established"
        );
        let session = PeerSession {
            kind: negotiated.peer_kind,
            asn: negotiated.open.asn,
            router_id: negotiated.open.router_id,
            address: target.remote.ip(),
            interface: target.interface.as_ref().map(|interface| interface.index),
            families: negotiated.codec.families,
            next_hop_ipv4: next_hop(Family::Ipv4Unicast, local_ip, target, negotiated),
            next_hop_ipv6: next_hop(Family::Ipv6Unicast, local_ip, target, negotiated),
            local_addresses: local_ip.into_iter().chain(target.global_address.map(IpAddr::V6)).collect(),
            enhanced_route_refresh: negotiated.enhanced_route_refresh,
            preserved: negotiated.preserved_families(),
        };
        self.backlog.push_back(ToRib::Up { peer: self.id, epoch: self.epoch, session: Box::new(session) });
        self.tell(PeerChange::Up { keeps: self.session.keeps() });
    }

    fn update(&mut self, update: Update) {
        for fault in &update.faults {
            self.attribute_faults += 1;
            debug!(attribute = fault.code, action = ?fault.action, reason = fault.reason, "malformed attribute");
        }
        if let Some(fault) = update.faults.last() {
            self.last_fault = Some(fault.clone());
        }
        self.updates.push(update);
    }

    fn flush_updates(&mut self) {
        if !self.updates.is_empty() {
            let updates = std::mem::take(&mut self.updates);
            self.backlog.push_back(ToRib::Updates { peer: self.id, updates });
        }
    }

    fn refresh_received(&mut self, refresh: RouteRefresh) {
        // A family that we do not carry is ignored (RFC 2918 section 4).
        if let Ok(family) = Family::try_from(refresh.family) {
            self.backlog.push_back(ToRib::Refresh { peer: self.id, family, kind: refresh.kind });
        }
    }

    fn ask_for_routes(&mut self) {
        let unsent: usize = self.connections.iter().map(Connection::unsent).sum();
        if !self.asked && self.session.negotiated().is_some() && unsent < OUTPUT_LOW_WATER {
            self.asked = true;
            self.backlog.push_back(ToRib::Ready { peer: self.id, epoch: self.epoch });
        }
    }
}

/// The next event of any connection.
async fn next_io(connections: &mut [Connection], reading: Reading) -> (usize, Io) {
    poll_fn(|cx| {
        for (index, connection) in connections.iter_mut().enumerate() {
            if let Poll::Ready(io) = connection.poll(cx, reading) {
                return Poll::Ready((index, io));
            }
        }
        Poll::Pending
    })
    .await
}

/// The end of the dial in flight; for ever without one.
async fn next_dial(dial: &mut Option<(ConnectionId, Dial)>) -> (ConnectionId, io::Result<TcpStream>) {
    let Some((id, future)) = dial else { return pending().await };
    let result = future.await;
    let id = *id;
    *dial = None;
    (id, result)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// The clock: tokio's, so that a test may pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
