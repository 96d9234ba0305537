//! One neighbor's session: the finite state machine of RFC 4271 section 8, without clock, socket or task.
//!
//! It owns at most two connections (one that leads, and a contender while both sides dial or the peer
//! restarts), their timers and receive buffers, and the retry timer.
//!
//! In: [`Event`]s and `now`. Out: [`Action`]s, drained with [`Session::poll_action`] after each input, and
//! [`Session::poll_deadline`], the time at which it wants [`Event::Deadline`].
//!
//! Where it goes beyond or beside RFC 4271:
//! - The optional DelayOpen is left out. DampPeerOscillations is on: after an error the session does not fall
//!   back to Idle but waits in Active, where the peer may still dial, with a retry timer of 75 ms to 5 s.
//! - While an inbound connection is on its way no new dial is begun, for at most two seconds if it is silent. A
//!   dial that is in flight already goes on, so that two speakers that accept each other's connection at the same
//!   time do not both give up their own; collision detection then decides.
//! - A new inbound connection takes the place of an inbound one that is not established: the peer has
//!   evidently given up on the old one.
//! - A connection that is confirmed while the one that would win a collision still waits for the peer's OPEN is
//!   established only when that one is gone, or after a second, or when the peer sends routes over it. By the letter
//!   of RFC 4271 one side may establish one connection while the other side decides for the other one, and both die.
//! - An inbound connection is confirmed only when nothing is open of a dial of ours that crossed it: the peer has spoken on
//!   that one, or it failed, or a second has passed. FRR, which takes a new connection of a peer with graceful restart
//!   for a sign of its restart, would otherwise find ours in its queue and drop what it has just established.
//! - Graceful restart (RFC 4724): a new inbound connection of a peer that announced it, opened a second or more after
//!   the session was established, takes the place of the established one when the peer's OPEN arrives on it. What is
//!   kept of the session that was lost, and how long, is in `restart`.
//! - The hold timer is extended while unread input waits, by one hold time at most ([`Event::Deadline`]).
//! - The send hold timer of RFC 9687 runs in every state of a connection.
//!
//! Memory: a connection buffers less than one message of the longest length that we announced, 65535 octets
//! at most, between two events; the queue of actions holds what one event brings.

mod cause;
mod collision;
mod connection;
mod error;
mod events;
mod messages;
mod negotiate;
mod outbox;
mod restart;
mod retry;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use self::cause::Cause;
pub use self::error::SessionError;
pub use self::negotiate::Negotiated;
pub use self::outbox::MessageCounts;

use self::connection::{Connection, Stage};
use self::events::Dialler;
use self::negotiate::{OpenForm, RestartState};
use self::outbox::Outbox;
use self::restart::Kept;
use self::retry::{Jitter, Retry};
use crate::message::update::LinkLocalForm;
use crate::message::{Attributes, MessageKind, Notification, Outgoing, RefreshKind, RouteRefresh, Update};
use crate::{Asn, Families, HoldTime, RouterId};

/// What a session needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS.
    pub local_as: Asn,
    /// Our BGP Identifier.
    pub router_id: RouterId,
    /// What the peer's AS has to be.
    pub remote_as: RemoteAs,
    /// Proposed in OPEN.
    pub hold_time: HoldTime,
    /// Upper bound of the keepalive interval; a third of the negotiated hold time where that is shorter.
    pub keepalive: Duration,
    /// Families to offer.
    pub families: Families,
    /// Families to take IPv6 next hops for (RFC 8950).
    pub extended_next_hop: Families,
    /// Restart time to announce (RFC 4724), whole seconds below 4096; `None` leaves the capability out.
    pub graceful_restart: Option<Duration>,
    /// Families in which this process started over the routes of a predecessor. Until its first session is established
    /// its OPENs carry F bits for these alone, and the R bit where there are any.
    pub inherited: Families,
    /// How long the routes of a peer that restarts are kept, however long it asks for; zero: not at all.
    pub stale_time: Duration,
    /// FQDN capability; empty leaves it out.
    pub hostname: String,
    /// Software version capability; empty leaves it out.
    pub software_version: String,
    /// How we write link-local next hops.
    pub link_local_form: LinkLocalForm,
    /// Whether to dial, or only to wait for the peer to do so.
    pub passive: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// The AS that a peer must be in (`remote-as`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAs {
    /// Any but ours.
    External,
    /// Ours.
    Internal,
    /// This one.
    Number(Asn),
}

impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("external"),
            Self::Internal => f.write_str("internal"),
            Self::Number(asn) => asn.fmt(f),
        }
    }
}

/// One TCP connection of a session. Numbers are never used twice within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What happens to a session. Names follow RFC 4271 section 8.1 where it has one.
///
/// An event of a connection that the session closed, or never knew, is ignored.
#[derive(Debug)]
pub enum Event {
    /// ManualStart: the neighbor can be reached (its address is known, its link is up). Ignored unless Idle.
    Start,
    /// ManualStop: end the session as it says.
    Stop(Stop),
    /// The time that `poll_deadline` named has come. `input_pending`: the socket holds bytes that were not
    /// given to the session yet, so that the peer is not silent but we are slow.
    Deadline {
        /// Extends the hold timer by a third of the hold time instead of ending the session; by one whole
        /// hold time in all until a message comes in.
        input_pending: bool,
    },
    /// TcpCrAcked: the connection asked for by [`Action::Connect`] is there.
    Connected(ConnectionId),
    /// TcpConnectionFails before it was there, and why, for people. The connection needs no [`Action::Close`].
    ConnectFailed(ConnectionId, io::ErrorKind),
    /// TcpConnectionConfirmed: the peer dialled us. The id comes from [`Session::next_connection`].
    Accepted(ConnectionId),
    /// Bytes from the peer, any cut.
    Received(ConnectionId, Bytes),
    /// The peer closed, or the connection broke. The connection needs no [`Action::Close`].
    Closed(ConnectionId),
    /// The socket took this many bytes of what was to be transmitted.
    Written(ConnectionId, usize),
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Close TCP without a word, so that a peer with graceful restart keeps our routes: this process ends, or the peer
    /// is out of reach. After the latter the next OPEN says that no forwarding state was preserved.
    Silent,
    /// Send this NOTIFICATION first.
    Notify(Notification),
    /// As `Notify`, then start again (`clear`). A session that is Idle stays so.
    Restart(Notification),
}

/// What a session asks its driver to do, in order.
#[derive(Debug)]
pub enum Action {
    /// Dial the peer.
    Connect(ConnectionId),
    /// Write these bytes.
    Transmit(ConnectionId, Bytes),
    /// Close after what was to be transmitted is written, or at once where that takes too long. No event
    /// of this connection counts any more.
    Close(ConnectionId),
    /// The session is Established.
    Up(ConnectionId, Arc<Negotiated>),
    /// Routes, End-of-RIB or both; only between `Up` and `Down`.
    Update(Update),
    /// The peer asks for routes of a negotiated family, or brackets its answer; only between `Up` and `Down`.
    Refresh(RouteRefresh),
    /// The session left Established.
    Down {
        /// Why.
        reason: DownReason,
        /// Families whose routes are to be kept as stale, since the peer restarts (RFC 4724 section 4.2), until
        /// [`Action::Forget`] or the next session. All others go.
        kept: Families,
    },
    /// What is still stale of the session before the last `Down` goes: the peer has not come back in time, or not said
    /// everything again, or cannot be reached any more. Before an `Up` or after it.
    Forget,
}

/// Why a session left Established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// We sent this NOTIFICATION.
    Sent(Notification),
    /// The peer sent this one.
    Received(Notification),
    /// The TCP connection ended without one.
    ConnectionLost,
    /// The socket took nothing for the send hold time (RFC 9687).
    SendHoldTimer,
    /// A new connection of the peer replaced this one (RFC 4724 section 5).
    Replaced,
    /// Stopped silently by us.
    Stopped,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "we sent {notification}"),
            Self::Received(notification) => write!(f, "the peer sent {notification}"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::SendHoldTimer => f.write_str("the peer took no data for the send hold time"),
            Self::Replaced => f.write_str("the peer opened a new connection"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Not started, or stopped.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the retry timer, or for the peer to dial.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are there.
    OpenConfirm,
    /// Routes may flow.
    Established,
}

/// As RFC 4271 writes them, and operators know them.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// Whether the session is to exist (RFC 4271 section 8.1.2, ManualStart and ManualStop).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Administrative {
    Started,
    Stopped,
}

/// One neighbor's session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    administrative: Administrative,
    dialler: Dialler,
    /// At most two: an outbound and an inbound one on their way, or an established one and an inbound one.
    connections: Vec<Connection>,
    retry: Retry,
    jitter: Jitter,
    next_id: u64,
    next_open: OpenForm,
    restart: RestartState,
    out: Outbox,
    received: MessageCounts,
    last_error: Option<(Instant, SessionError)>,
    last_notification: Option<(Instant, Notification)>,
    kept: Kept,
}

impl Session {
    /// Idle until [`Event::Start`].
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        let mut jitter = Jitter::new(config.seed);
        let restart = RestartState::Started { inherited: config.inherited };
        Self {
            config,
            administrative: Administrative::Stopped,
            dialler: Dialler::Resting,
            connections: Vec::with_capacity(2),
            retry: Retry::new(jitter.fork()),
            jitter,
            next_id: 0,
            next_open: OpenForm::Full,
            restart,
            out: Outbox::default(),
            received: MessageCounts::default(),
            last_error: None,
            last_notification: None,
            kept: Kept::Nothing,
        }
    }

    /// Takes one event. Drain [`Self::poll_action`] afterwards.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Start => self.start(now),
            Event::Stop(stop) => self.stop(stop, now),
            Event::Deadline { input_pending } => self.timers_expired(input_pending.into(), now),
            Event::Connected(id) => self.connected(id, now),
            Event::ConnectFailed(id, kind) => self.connection_failed(id, kind, now),
            Event::Closed(id) => self.connection_failed(id, io::ErrorKind::ConnectionAborted, now),
            Event::Accepted(id) => self.accepted(id, now),
            Event::Received(id, bytes) => self.receive(id, &bytes, now),
            Event::Written(id, length) => self.written(id, length, now),
        }
    }

    /// A number for a connection that the peer opened, to be used in [`Event::Accepted`].
    pub fn next_connection(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        id
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// When to send [`Event::Deadline`], unless something else happens before.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        let kept = self.kept.deadline().map(|(_, at)| at);
        self.connections
            .iter()
            .filter_map(Connection::deadline)
            .chain(self.dialler.deadline())
            .chain(kept)
            .min()
    }

    /// Queues UPDATEs; becomes [`Action::Transmit`]. Dropped silently when not Established: the RIB hears of
    /// that by [`Action::Down`].
    pub fn send_update<A: Borrow<Attributes>>(&mut self, outgoing: &Outgoing<A>, now: Instant) {
        let Some((connection, negotiated)) = established_mut(&mut self.connections) else {
            return;
        };
        let mut bytes = BytesMut::new();
        negotiated.codec.encode(outgoing, &mut bytes);
        connection.transmit(MessageKind::Update, bytes, &mut self.out, now);
    }

    /// Queues a ROUTE-REFRESH, if the peer can read it.
    pub fn send_refresh(&mut self, refresh: RouteRefresh, now: Instant) {
        let Some((connection, negotiated)) = established_mut(&mut self.connections) else {
            return;
        };
        let understood = match refresh.kind {
            RefreshKind::Request => negotiated.route_refresh,
            RefreshKind::Begin | RefreshKind::End => negotiated.enhanced_route_refresh,
            RefreshKind::Unknown(_) => false,
        };
        if understood {
            let mut bytes = BytesMut::new();
            refresh.encode(&mut bytes);
            connection.transmit(MessageKind::RouteRefresh, bytes, &mut self.out, now);
        }
    }

    /// The state of the connection that is furthest.
    #[must_use]
    pub fn state(&self) -> State {
        let without_connection = match (self.administrative, &self.dialler) {
            (Administrative::Stopped, _) => State::Idle,
            (Administrative::Started, Dialler::Dialling { .. }) => State::Connect,
            (Administrative::Started, Dialler::Resting | Dialler::Waiting { .. }) => State::Active,
        };
        self.connections.iter().map(Connection::state).max().unwrap_or(without_connection)
    }

    /// What the peer and we agreed on; `Some` exactly in Established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        self.connections.iter().find_map(|connection| match &connection.stage {
            Stage::Established { negotiated, .. } => Some(negotiated),
            Stage::OpenSent(_) | Stage::Withheld { .. } | Stage::OpenConfirm(_) | Stage::Contested { .. } => {
                None
            }
        })
    }

    /// What came in.
    #[must_use]
    pub fn received(&self) -> MessageCounts {
        self.received
    }

    /// What went out.
    #[must_use]
    pub fn sent(&self) -> MessageCounts {
        self.out.sent()
    }

    /// Why the last session ended or the last try failed, for people; `None` before the first.
    #[must_use]
    pub fn last_error(&self) -> Option<&SessionError> {
        self.last_error.as_ref().map(|(_, error)| error)
    }

    /// [`Self::last_error`] and when that was, whatever happened since.
    #[must_use]
    pub fn last_failure(&self) -> Option<&(Instant, SessionError)> {
        self.last_error.as_ref()
    }

    /// The last NOTIFICATION that the peer sent, and when, whatever happened since.
    #[must_use]
    pub fn last_notification(&self) -> Option<&(Instant, Notification)> {
        self.last_notification.as_ref()
    }

    /// The room that receive buffers have, in octets.
    #[must_use]
    pub fn receive_room(&self) -> usize {
        self.connections.iter().map(Connection::receive_room).sum()
    }

    /// Whether routes of a session that was lost are kept while the peer is away.
    #[must_use]
    pub fn awaits_restart(&self) -> bool {
        matches!(self.kept, Kept::Awaiting { .. })
    }

    /// The timers that run, by their names in RFC 4271 section 8 and RFC 9687, and when they expire; with them those of
    /// routes that are kept over a restart of the peer.
    #[must_use]
    pub fn timers(&self) -> Vec<(&'static str, Instant)> {
        let furthest = self.connections.iter().max_by_key(|connection| connection.state());
        let dialler = self.dialler.deadline().map(|at| ("ConnectRetryTimer", at));
        furthest.into_iter().flat_map(Connection::timers).chain(dialler).chain(self.kept.deadline()).collect()
    }
}

/// A borrow of the connections alone, so that the rest of the session stays free.
fn connection_mut(connections: &mut [Connection], id: ConnectionId) -> Option<&mut Connection> {
    connections.iter_mut().find(|connection| connection.id == id)
}

/// The connection over which routes may flow.
fn established_mut(connections: &mut [Connection]) -> Option<(&mut Connection, Arc<Negotiated>)> {
    connections.iter_mut().find_map(|connection| match &connection.stage {
        Stage::Established { negotiated, .. } => {
            let negotiated = Arc::clone(negotiated);
            Some((connection, negotiated))
        }
        Stage::OpenSent(_) | Stage::Withheld { .. } | Stage::OpenConfirm(_) | Stage::Contested { .. } => None,
    })
}
