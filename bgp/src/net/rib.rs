//! The task that owns the [`Rib`]: the one place where routes are decided.
//!
//! In: what the peer tasks heard, in order; the routes that originate here; questions. Out: FIB changes to the
//! agent, and to each peer the routes it has room for. It works in turns of bounded length and looks at its inbox
//! between them.

mod messages;
mod slices;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;
use tracing::info;

use self::messages::Question;
pub(super) use self::messages::{Epoch, PeerBatch, ToRib};
use crate::message::{RefreshKind, RouteRefresh};
use crate::rib::limit::Marks;
use crate::rib::{FibChange, Gateways, LostLink, Originated, Rib, RibConfig, Ripeness, ToPeer};
use crate::{Family, PeerId, Prefix};

/// Messages that may wait for the RIB. Each is one read of a socket at most, whose prefixes and attributes take up to
/// eight times the room that they have on the wire: a megabyte in all, which is what the RIB takes in in some turns. A
/// peer with more stops reading.
const INBOX: usize = 8;
/// Prefixes decided in one turn: well below 5 ms.
const DECISION_BUDGET: usize = 1024;
/// Prefixes taken in in one turn, give or take one message of some two thousand: the same.
const INTAKE_BUDGET: usize = 1024;
/// Prefixes in one batch for a peer: some messages of full length.
const PEER_BATCH: usize = 4096;
/// Between two requests to send everything again, because a peer over its limit has made room: each costs the peer a
/// walk over its table, and where a route comes and goes at the limit there would be one for each time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Changes in one batch for the FIB.
const FIB_BATCH: usize = 1024;

/// How long what is not settled waits while neighbors announce their tables and the FIB has nothing else to do.
const FIB_PATIENCE: Duration = Duration::from_millis(3);
/// How long it waits behind a stream of settled changes: then there is a batch of it, however much else there is.
const FIB_LIMIT: Duration = Duration::from_millis(250);
/// Neighbors announce their tables as long as it is no longer than this since a turn took in as much as a turn may.
const FLOOD: Duration = Duration::from_millis(10);

/// What the RIB task starts with.
#[derive(Debug, Clone)]
pub struct RibSettings {
    /// The RIB itself.
    pub config: RibConfig,
    /// How long after the start the first convergence is declared, whoever is still missing.
    pub convergence_deadline: Duration,
}

/// FIB changes in one go; superseded ones are already gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FibBatch {
    /// One for each prefix at most.
    pub changes: Vec<FibChange>,
    /// Everything that the neighbors had to say at first is in this batch or an earlier one (every neighbor sent
    /// End-of-RIB, or the deadline passed): what nobody asked for until now may be swept.
    pub converged: bool,
}

/// The RIB task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the RIB has been shut down")]
pub struct RibStopped;

/// The sending end of the RIB task. The task ends when the last of them is gone.
#[derive(Clone)]
pub struct RibHandle {
    inbox: mpsc::Sender<ToRib>,
}

impl std::fmt::Debug for RibHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RibHandle")
    }
}

impl RibHandle {
    /// Starts the task. FIB changes go to `fib`; while it is full they wait in the RIB, as a set.
    #[must_use]
    pub fn spawn(settings: RibSettings, fib: mpsc::Sender<FibBatch>) -> (Self, JoinHandle<()>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let task = Task {
            rib: Rib::new(settings.config),
            inbox,
            fib,
            peers: BTreeMap::new(),
            unsettled_since: None,
            last_full_turn: None,
            kept_defaults: BTreeMap::new(),
            unheard: None,
            convergence: Convergence::Waiting {
                deadline: Instant::now() + settings.convergence_deadline,
                expected: None,
            },
        };
        let join = tokio::spawn(task.run());
        (Self { inbox: sender }, join)
    }

    /// A handle to a RIB that a test plays.
    #[cfg(test)]
    pub(super) fn played(inbox: mpsc::Sender<ToRib>) -> Self {
        Self { inbox }
    }

    /// Replaces the set of routes that originate here.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn originate(&self, routes: impl Into<Originated>) -> Result<(), RibStopped> {
        self.inbox.send(ToRib::Originated(routes.into())).await.map_err(|_| RibStopped)
    }

    /// Replaces the set of networks that links of this host are in: nothing inside them is learned.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn connect(&self, networks: BTreeSet<Prefix>) -> Result<(), RibStopped> {
        self.inbox.send(ToRib::Connected(networks)).await.map_err(|_| RibStopped)
    }

    /// Replaces the set of hosts on links of this one that the kernel has routes of their own to: nobody else is believed
    /// about these addresses.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn connect_hosts(&self, hosts: Arc<BTreeSet<IpAddr>>) -> Result<(), RibStopped> {
        self.inbox.send(ToRib::Hosts(hosts)).await.map_err(|_| RibStopped)
    }

    /// Names the neighbors whose End-of-RIB completes the first convergence. Before the first call only the deadline
    /// does.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn expect(&self, peers: BTreeSet<PeerId>) -> Result<(), RibStopped> {
        self.inbox.send(ToRib::Expected(peers)).await.map_err(|_| RibStopped)
    }

    /// Packets do not pass these links any more. What a neighbor says does not depend on it; what is kept of neighbors
    /// that say nothing does.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn links_lost(&self, links: Vec<LostLink>) -> Result<(), RibStopped> {
        self.inbox.send(ToRib::LinksLost(links)).await.map_err(|_| RibStopped)
    }

    /// Asks the RIB something. The question runs between two turns and has to be short: a page, not a table.
    ///
    /// # Errors
    /// [`RibStopped`].
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Rib) -> T + Send + 'static,
    ) -> Result<T, RibStopped> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |rib| {
            // Whoever asked may have gone away.
            let _ = reply.send(question(rib));
        });
        self.inbox.send(ToRib::Question(question)).await.map_err(|_| RibStopped)?;
        answer.await.map_err(|_| RibStopped)
    }

    /// Messages that wait for the task.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inbox.max_capacity() - self.inbox.capacity()
    }

    /// Forgets a neighbor whose task has failed.
    pub(super) async fn forget(&self, peer: PeerId) {
        // A RIB that has ended knows nobody.
        let _ = self.inbox.send(ToRib::Remove { peer }).await;
    }

    /// Room for one message. Cancel-safe.
    pub(super) async fn reserve(&self) -> Option<mpsc::Permit<'_, ToRib>> {
        self.inbox.reserve().await.ok()
    }
}

/// A peer task's end.
struct PeerLink {
    name: String,
    batches: mpsc::Sender<PeerBatch>,
    /// It waits for a batch of this session.
    ready: Option<Epoch>,
    epoch: Option<Epoch>,
    /// When it may be asked for a refresh again, where it was asked lately.
    next_refresh: Option<Instant>,
    /// How full the log calls each family.
    marks: BTreeMap<Family, Marks>,
}

/// Whether the neighbors have said what they had to say at first.
enum Convergence {
    Waiting {
        deadline: Instant,
        expected: Option<BTreeSet<PeerId>>,
    },
    /// To be told to the FIB when its changes are out.
    Reached,
    Told,
}

struct Task {
    rib: Rib,
    inbox: mpsc::Receiver<ToRib>,
    fib: mpsc::Sender<FibBatch>,
    peers: BTreeMap<PeerId, PeerLink>,
    /// Since when something waits for the FIB that is not settled.
    unsettled_since: Option<Instant>,
    /// When a turn last took in as much as a turn may.
    last_full_turn: Option<Instant>,
    convergence: Convergence,
    /// As was logged.
    kept_defaults: BTreeMap<Prefix, Gateways>,
    /// What the last turn had no time for.
    unheard: Option<ToRib>,
}

enum Wake {
    Message(Option<ToRib>),
    FibReady,
    Turn,
    ConvergenceDeadline,
    RefreshAllowed,
}

impl Task {
    async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Message(None) => return,
                Wake::Message(Some(message)) => self.take_in(message),
                Wake::FibReady | Wake::Turn | Wake::ConvergenceDeadline | Wake::RefreshAllowed => {}
            }
            // A turn is short, and then it is the others': a peer task that waits on this thread has a KEEPALIVE to send.
            yield_now().await;
            self.rib.process(DECISION_BUDGET);
            self.tell_of_kept_defaults();
            yield_now().await;
            self.serve_peers();
            self.check_convergence();
            self.serve_fib();
            yield_now().await;
        }
    }

    /// Every branch is cancel-safe. Messages come first, so that sessions are heard while there is work; nobody is
    /// kept waiting by that, since each turn serves everybody.
    async fn wait(&mut self) -> Wake {
        if let Some(message) = self.unheard.take() {
            return Wake::Message(Some(message));
        }
        let deadline = match &self.convergence {
            Convergence::Waiting { deadline, .. } => Some(*deadline),
            Convergence::Reached | Convergence::Told => None,
        };
        // One whose peer takes nothing is past, and comes up again when the peer is ready.
        let now = Instant::now();
        let next_refresh =
            self.peers.values().filter_map(|link| link.next_refresh).filter(|next| *next > now).min();
        // One that is past means that the FIB has no room, which is waited for.
        let fib_deadline = self.unsettled_deadline().filter(|deadline| *deadline > now);
        tokio::select! {
            biased;
            message = self.inbox.recv() => Wake::Message(message),
            () = ready(()), if self.rib.is_dirty() => Wake::Turn,
            // The room is taken in the turn that follows: nobody else sends to the FIB.
            _ = self.fib.reserve(), if self.fib_waits() => Wake::FibReady,
            () = sleep_until(deadline) => Wake::ConvergenceDeadline,
            () = sleep_until(next_refresh) => Wake::RefreshAllowed,
            () = sleep_until(fib_deadline) => Wake::FibReady,
        }
    }

    /// One message, and what is already there behind it: it belongs into the same turn, since it may supersede what
    /// came before.
    fn take_in(&mut self, message: ToRib) {
        let (mut left, mut next) = (INTAKE_BUDGET, Some(message));
        while let Some(message) = next {
            let message = self.slice(message, left);
            left = left.saturating_sub(message.cost().saturating_mul(self.weight(&message)));
            self.handle(message);
            next = if left > 0 && self.unheard.is_none() { self.inbox.try_recv().ok() } else { None };
        }
        if left == 0 {
            self.last_full_turn = Some(Instant::now());
        }
    }

    fn fib_waits(&self) -> bool {
        let to_tell = matches!(self.convergence, Convergence::Reached) && !self.rib.is_dirty();
        self.rib.has_fib_changes(self.ripeness()) || to_tell
    }

    /// What the FIB may have now.
    fn ripeness(&self) -> Ripeness {
        let is_past = |deadline: Instant| deadline <= Instant::now();
        let is_flooded = self.last_full_turn.is_some_and(|last| !is_past(last + FLOOD));
        let may_wait = is_flooded || self.rib.awaits_end_of_rib();
        let has_waited = self.unsettled_deadline().is_some_and(is_past);
        if has_waited || !may_wait { Ripeness::Any } else { Ripeness::Settled }
    }

    fn unsettled_deadline(&self) -> Option<Instant> {
        let is_busy = self.rib.has_fib_changes(Ripeness::Settled);
        let patience = if is_busy { FIB_LIMIT } else { FIB_PATIENCE };
        self.unsettled_since.map(|since| since + patience)
    }

    /// Looks at the clock for what is not settled. Once its time has come, what follows it does not wait for its own
    /// while the FIB has nothing else to do.
    fn mind_the_unsettled(&mut self) {
        let waits = self.rib.has_fib_changes(Ripeness::Unsettled);
        self.unsettled_since = waits.then(|| self.unsettled_since.unwrap_or_else(Instant::now));
    }

    /// Gives the FIB a batch if it has room for one. What is superseded until then is never written.
    fn serve_fib(&mut self) {
        self.mind_the_unsettled();
        let is_full = self.fib.capacity() == 0 && !self.fib.is_closed();
        if is_full || !self.fib_waits() {
            return;
        }
        let (ripeness, is_busy) = (self.ripeness(), self.rib.has_fib_changes(Ripeness::Settled));
        let changes = self.rib.poll_fib(FIB_BATCH, ripeness);
        if is_busy && ripeness == Ripeness::Any {
            self.unsettled_since = None;
        }
        let last = !self.rib.has_fib_changes(Ripeness::Any) && !self.rib.is_dirty();
        let converged = last && matches!(self.convergence, Convergence::Reached);
        if converged {
            self.convergence = Convergence::Told;
        }
        if converged || !changes.is_empty() {
            // There was room, and nobody else sends. Without a FIB (library use, or a stop) changes go nowhere.
            let _ = self.fib.try_send(FibBatch { changes, converged });
        }
    }

    fn handle(&mut self, message: ToRib) {
        match message {
            ToRib::Configure { peer, name, config, batches } => {
                self.rib.configure_peer(peer, config);
                let marks = BTreeMap::new();
                let link = PeerLink { name, batches, ready: None, epoch: None, next_refresh: None, marks };
                self.peers.insert(peer, link);
            }
            ToRib::Reconfigure { peer, config } => {
                self.rib.configure_peer(peer, config);
                self.warn_of_limit(peer);
            }
            ToRib::Maintain { peer, maintenance } => self.rib.maintain(peer, maintenance),
            ToRib::Remove { peer } => {
                self.rib.remove_peer(peer);
                self.peers.remove(&peer);
            }
            // Its task says goodbye, and has it removed then.
            ToRib::Deconfigure { peer } => self.rib.deconfigure_peer(peer),
            ToRib::LinksLost(links) => self.rib.links_lost(&links),
            ToRib::Up { peer, epoch, session } => {
                self.rib.session_up(peer, *session);
                // What is left of the last session, or nothing.
                self.warn_of_limit(peer);
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.epoch = Some(epoch);
                    link.ready = None;
                    link.next_refresh = None;
                }
            }
            ToRib::Down { peer, kept } => {
                self.rib.session_lost(peer, kept);
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.epoch = None;
                    link.ready = None;
                    link.next_refresh = None;
                }
            }
            ToRib::Forget { peer } => self.rib.forget_stale(peer),
            ToRib::Updates { peer, updates } => {
                updates.into_iter().for_each(|update| self.rib.receive(peer, update));
                self.warn_of_limit(peer);
            }
            ToRib::Refresh { peer, family, kind } => match kind {
                RefreshKind::Request => self.rib.refresh_requested(peer, family),
                RefreshKind::Begin => self.rib.refresh_began(peer, family),
                RefreshKind::End => self.rib.refresh_ended(peer, family),
                // RFC 7313 section 5: ignored.
                RefreshKind::Unknown(_) => {}
            },
            ToRib::Ready { peer, epoch } => {
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.ready = Some(epoch);
                }
            }
            ToRib::Originated(routes) => self.rib.set_originated(routes),
            ToRib::Connected(networks) => self.rib.set_connected(networks),
            ToRib::Hosts(hosts) => self.rib.set_hosts(hosts),
            ToRib::Expected(peers) => {
                if let Convergence::Waiting { expected, .. } = &mut self.convergence {
                    *expected = Some(peers);
                }
            }
            ToRib::Question(question) => question(&self.rib),
        }
    }

    /// Gives a batch to every peer that asked for one and has something coming.
    fn serve_peers(&mut self) {
        for (&peer, link) in &mut self.peers {
            let Some(epoch) = link.ready.filter(|&ready| link.epoch == Some(ready)) else { continue };
            if link.batches.capacity() == 0 {
                continue;
            }
            let mut items = refresh_requests(&mut self.rib, peer, link, Instant::now());
            if self.rib.has_outgoing(peer) {
                items.extend(self.rib.poll_outgoing(peer, PEER_BATCH));
            }
            if !items.is_empty() {
                // There was room, and nobody else sends; a task that has ended needs nothing more.
                let _ = link.batches.try_send(PeerBatch { epoch, items });
                link.ready = None;
            }
        }
    }

    /// RFC 4724 section 4.1 lets a restarting speaker go ahead without neighbors that restart as well or do not have the
    /// capability, since each would wait for the other. Nobody waits for a host, which announces its own routes at once
    /// and no others; so it can wait for these too, and what it inherited stays as it was a little longer.
    fn check_convergence(&mut self) {
        let Convergence::Waiting { deadline, expected } = &self.convergence else { return };
        let all_heard = expected.as_ref().is_some_and(|expected| {
            !expected.is_empty() && expected.iter().all(|&peer| self.rib.end_of_rib_received(peer))
        });
        if all_heard && !self.rib.is_dirty() {
            self.converged("End-of-RIB from all neighbors");
        } else if *deadline <= Instant::now() {
            self.converged("deadline");
        }
    }

    fn converged(&mut self, by: &'static str) {
        info!(by, "first convergence");
        self.convergence = Convergence::Reached;
    }
}

/// What a peer is to be asked for again, since there is room now for what was over its limit.
fn refresh_requests(rib: &mut Rib, peer: PeerId, link: &mut PeerLink, now: Instant) -> Vec<ToPeer> {
    if link.next_refresh.is_some_and(|next| now < next) {
        return Vec::new();
    }
    let wanted = rib.take_refresh_wanted(peer);
    link.next_refresh = (!wanted.is_empty()).then(|| now + REFRESH_INTERVAL);
    if !wanted.is_empty() {
        info!(neighbor = link.name, "asking for the routes that were over max-prefixes");
    }
    let request = |family: Family| RouteRefresh { family: family.into(), kind: RefreshKind::Request };
    wanted.iter().map(|family| ToPeer::Refresh(request(family))).collect()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
