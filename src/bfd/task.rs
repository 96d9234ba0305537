//! The loop around [`Sessions`]: waits for one thing, feeds the machine, drains it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::Gateway;
use socket2::Domain;
use tokio::sync::{mpsc, oneshot, watch};

use super::packet::{Discriminator, State};
use super::sessions::{Event, Health, Peers, Received, Sessions, Standings, Status, Transmit};
use super::socket::{MAX_DATAGRAM, Receiver, Sender};

/// Datagrams that are read in one [`WINDOW`]. The thread runs before all others: a flood from a pod must leave them
/// something. A hundred sessions at 10 ms need a tenth of it.
const DATAGRAMS: u32 = 1000;
const WINDOW: Duration = Duration::from_millis(10);
/// The ports may be held by another BFD daemon that is about to go.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a BFD thread's input comes from, and what follows it. The thread ends when `peers` is closed.
#[derive(Debug)]
pub struct Inputs {
    /// Whom to watch.
    pub peers: watch::Receiver<Arc<Peers>>,
    /// Questions.
    pub requests: mpsc::Receiver<Request>,
    /// Gets the standing of each neighbor, whenever one changes.
    pub standings: watch::Sender<Arc<Standings>>,
    /// Gets the next hops that have failed, before anybody else hears of it.
    pub failed: watch::Sender<Arc<BTreeSet<Gateway>>>,
}

/// A question to the BFD thread.
#[derive(Debug)]
pub enum Request {
    /// All that is known.
    Show(oneshot::Sender<Status>),
    /// Tell every neighbor that the silence that follows is no failure, and end.
    Stop(oneshot::Sender<()>),
}

pub(super) struct Task {
    inputs: Inputs,
    sessions: Sessions,
    senders: BTreeMap<Discriminator, Sender>,
    /// Source ports of the sessions there were when the last one began.
    ports: BTreeSet<u16>,
    receivers: Receivers,
    flood: Flood,
}

/// What packets come in by. Without neighbors there is none: the ports are free for others then.
enum Receivers {
    Closed { open_at: Option<Instant> },
    Open { v4: Receiver, v6: Receiver },
}

/// How much was read of late.
struct Flood {
    since: Instant,
    datagrams: u32,
}

enum Input<'a> {
    Peers { closed: bool },
    Request(Option<Request>),
    Received(io::Result<Option<Received<'a>>>),
    Due,
}

impl Task {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self {
            inputs,
            sessions: Sessions::new(fastrand::u64(..)),
            senders: BTreeMap::new(),
            ports: BTreeSet::new(),
            receivers: Receivers::Closed { open_at: None },
            flood: Flood { since: Instant::now(), datagrams: 0 },
        }
    }

    /// Until `inputs.peers` is closed, or somebody asks for a stop.
    pub(super) async fn run(mut self) {
        let mut buffer_v4 = [0; MAX_DATAGRAM];
        let mut buffer_v6 = [0; MAX_DATAGRAM];
        self.take_peers();
        loop {
            self.drain();
            let paused_until = self.flood.paused_until();
            let deadlines = [self.sessions.poll_timeout(), self.receivers.open_at(), paused_until];
            let due = sleep_until(deadlines.into_iter().flatten().min());
            let (v4, v6) = self.receivers.pair();
            let is_reading = paused_until.is_none();
            // Every branch is cancel-safe: watches, a channel, and sockets that are read whole datagrams from. In this
            // order: a deadline that has come is not to wait for others.
            let input = tokio::select! {
                biased;
                () = due => Input::Due,
                received = receive(v6, &mut buffer_v6), if is_reading => Input::Received(received),
                received = receive(v4, &mut buffer_v4), if is_reading => Input::Received(received),
                changed = self.inputs.peers.changed() => Input::Peers { closed: changed.is_err() },
                request = self.inputs.requests.recv() => Input::Request(request),
            };
            match input {
                Input::Due => {
                    self.open_receivers();
                    self.take_arrived(&mut buffer_v6);
                    self.sessions.handle_timeout(Instant::now());
                }
                Input::Received(received) => {
                    self.flood.count();
                    take_received(&mut self.sessions, received);
                }
                Input::Peers { closed: false } => self.take_peers(),
                Input::Peers { closed: true } | Input::Request(None) => return,
                Input::Request(Some(Request::Show(reply))) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(self.sessions.status());
                }
                Input::Request(Some(Request::Stop(reply))) => {
                    self.sessions.handle_stop(Instant::now());
                    self.send_all();
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    /// What has arrived was not silence, however late we are to look.
    fn take_arrived(&mut self, buffer: &mut [u8; MAX_DATAGRAM]) {
        let (v4, v6) = self.receivers.pair();
        for receiver in [v4, v6].into_iter().flatten() {
            while self.flood.paused_until().is_none() {
                let received = receiver.try_receive(buffer);
                if received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                    break;
                }
                self.flood.count();
                take_received(&mut self.sessions, received);
            }
        }
    }

    fn take_peers(&mut self) {
        let peers = Arc::clone(&self.inputs.peers.borrow_and_update());
        match (&self.receivers, peers.is_empty()) {
            (Receivers::Open { .. }, true) => self.receivers = Receivers::Closed { open_at: None },
            (Receivers::Closed { open_at: None }, false) => {
                self.receivers = Receivers::Closed { open_at: Some(Instant::now()) };
                self.open_receivers();
            }
            (Receivers::Open { .. } | Receivers::Closed { open_at: Some(_) }, false)
            | (Receivers::Closed { .. }, true) => {}
        }
        self.sessions.handle_peers(&peers, Instant::now());
    }

    fn open_receivers(&mut self) {
        if self.receivers.open_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let opened = Receiver::open(Domain::IPV6)
            .and_then(|v6| Receiver::open(Domain::IPV4).map(|v4| Receivers::Open { v4, v6 }));
        self.receivers = opened.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot open the BFD ports; trying again");
            Receivers::Closed { open_at: Some(Instant::now() + OPEN_AGAIN_AFTER) }
        });
    }

    fn drain(&mut self) {
        self.tell();
        self.send_all();
        while let Some(event) = self.sessions.poll_event() {
            log(&event);
        }
    }

    /// First of all the FIB: packets are lost meanwhile.
    fn tell(&mut self) {
        if self.sessions.are_told(&self.inputs.standings.borrow()) {
            return;
        }
        let standings = self.sessions.standings();
        let failed: BTreeSet<Gateway> = standings
            .iter()
            .filter(|(_, standing)| standing.health == Health::Failed)
            .map(|(gateway, _)| *gateway)
            .collect();
        let before = Arc::clone(&self.inputs.failed.borrow());
        if *before != failed {
            self.inputs.failed.send_replace(Arc::new(failed.clone()));
        }
        for gateway in failed.difference(&before) {
            tracing::warn!(next_hop = %gateway.address, "BFD: packets do not get there; out of all routes");
        }
        self.inputs.standings.send_replace(Arc::new(standings));
    }

    fn send_all(&mut self) {
        while let Some(transmit) = self.sessions.poll_transmit() {
            if let Err(error) = self.send(&transmit) {
                // The link or the address is gone, or nobody listens there. The next packet may do better.
                tracing::debug!(remote = %transmit.gateway.address, %error, "cannot send a BFD packet");
            }
        }
        let sessions = &self.sessions;
        self.senders.retain(|session, _| sessions.has(*session));
    }

    fn send(&mut self, transmit: &Transmit) -> io::Result<()> {
        let Transmit { session, gateway, local, octets } = transmit;
        if !self.senders.contains_key(session) {
            self.ports = self.senders.values().filter_map(Sender::port).collect();
        }
        self.senders.entry(*session).or_default().send(gateway, *local, &self.ports, octets)
    }
}

impl Receivers {
    fn open_at(&self) -> Option<Instant> {
        match self {
            Self::Closed { open_at } => *open_at,
            Self::Open { .. } => None,
        }
    }

    /// Both, where they are there.
    fn pair(&self) -> (Option<&Receiver>, Option<&Receiver>) {
        match self {
            Self::Open { v4, v6 } => (Some(v4), Some(v6)),
            Self::Closed { .. } => (None, None),
        }
    }
}

impl Flood {
    fn count(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self { since: now, datagrams: 0 };
        }
        self.datagrams += 1;
    }

    fn paused_until(&self) -> Option<Instant> {
        let end = self.since + WINDOW;
        (self.datagrams >= DATAGRAMS && end > Instant::now()).then_some(end)
    }
}

/// The next datagram; never one without a socket to read.
async fn receive<'a>(
    receiver: Option<&Receiver>,
    buffer: &'a mut [u8; MAX_DATAGRAM],
) -> io::Result<Option<Received<'a>>> {
    match receiver {
        Some(receiver) => receiver.receive(buffer).await,
        None => std::future::pending().await,
    }
}

fn take_received(sessions: &mut Sessions, received: io::Result<Option<Received<'_>>>) {
    match received {
        Ok(Some(received)) => {
            if let Err(reason) = sessions.handle_received(received, Instant::now()) {
                tracing::trace!(source = %received.source, interface = received.interface.0, %reason, "discarded");
            }
        }
        Ok(None) => tracing::trace!("a datagram of unknown origin, or too long"),
        // Of one moment or one link; the kernel reports it once.
        Err(error) => tracing::debug!(%error, "cannot receive"),
    }
}

fn log(event: &Event) {
    let Event { name, gateway, change, diagnostic } = event;
    let (neighbor, remote) = (name, gateway.address);
    let said = change.remote.map(|(state, diagnostic)| format!("{state}: {diagnostic}"));
    match (change.from, change.to) {
        (_, State::Up) => tracing::info!(%neighbor, %remote, "BFD session up"),
        (State::Up, _) => {
            tracing::info!(%neighbor, %remote, reason = %diagnostic, said, "BFD session down");
        }
        (from @ (State::AdminDown | State::Down | State::Init), to) => {
            tracing::debug!(%neighbor, %remote, %from, %to, "BFD");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
