//! One neighbor's session: the finite state machine of RFC 4271 section 8, without clock, socket or task.
//!
//! In: [`Event`]s and `now`. Out: [`Action`]s, drained with [`Session::poll_action`] after each input, and
//! [`Session::poll_deadline`], the time at which it wants [`Event::Deadline`].

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::message::update::LinkLocalForm;
use crate::message::{Attributes, Notification, Open, Outgoing, RouteRefresh, Update, UpdateCodec};
use crate::{Asn, Families, HoldTime, PeerKind, RouterId};

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
    /// Whether the first OPENs of this process carry the R bit.
    pub restarting: bool,
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

/// One TCP connection of a session. Numbers are never used twice within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What happens to a session. Names follow RFC 4271 section 8.1 where it has one.
#[derive(Debug)]
pub enum Event {
    /// ManualStart: the neighbor can be reached (its address is known, its link is up).
    Start,
    /// ManualStop: end the session as it says.
    Stop(Stop),
    /// The time that `poll_deadline` named has come. `input_pending`: the socket holds bytes that were not
    /// given to the session yet, so that the peer is not silent but we are slow.
    Deadline {
        /// Extends the hold timer instead of ending the session.
        input_pending: bool,
    },
    /// TcpCrAcked: the connection asked for by [`Action::Connect`] is there.
    Connected(ConnectionId),
    /// TcpConnectionFails before it was there.
    ConnectFailed(ConnectionId),
    /// TcpConnectionConfirmed: the peer dialled us. The id comes from [`Session::next_connection`].
    Accepted(ConnectionId),
    /// Bytes from the peer, any cut.
    Received(ConnectionId, Bytes),
    /// The peer closed, or the connection broke.
    Closed(ConnectionId),
    /// The socket took this many bytes of what was to be transmitted.
    Written(ConnectionId, usize),
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Close TCP without a word, so that a peer with graceful restart keeps our routes.
    Silent,
    /// Send this NOTIFICATION first.
    Notify(Notification),
    /// As `Notify`, then start again (`clear`).
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
    /// The peer asks for routes, or brackets its answer; only between `Up` and `Down`.
    Refresh(RouteRefresh),
    /// The session left Established.
    Down(DownReason),
}

/// Both OPENs taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// What shapes UPDATEs.
    pub codec: UpdateCodec,
    /// The peer's OPEN, for what it says of itself.
    pub open: Open,
    /// Internal or external.
    pub peer_kind: PeerKind,
    /// The smaller of both.
    pub hold_time: HoldTime,
    /// How often we send KEEPALIVE; `None` with a hold time of zero.
    pub keepalive: Option<Duration>,
    /// The peer answers ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Both bracket their answers (RFC 7313).
    pub enhanced_route_refresh: bool,
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

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Messages of one direction since the neighbor was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// OPEN
    pub open: u64,
    /// UPDATE
    pub update: u64,
    /// NOTIFICATION
    pub notification: u64,
    /// KEEPALIVE
    pub keepalive: u64,
    /// ROUTE-REFRESH
    pub route_refresh: u64,
}

impl MessageCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.route_refresh
    }
}

/// One neighbor's session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
}

impl Session {
    /// Idle until [`Event::Start`].
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self { config }
    }

    /// Takes one event. Drain [`Self::poll_action`] afterwards.
    pub fn handle(&mut self, event: Event, now: Instant) {
        todo!("{event:?} {now:?}")
    }

    /// A number for a connection that the peer opened, to be used in [`Event::Accepted`].
    pub fn next_connection(&mut self) -> ConnectionId {
        todo!()
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }

    /// When to send [`Event::Deadline`], unless something else happens before.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Queues UPDATEs; becomes [`Action::Transmit`]. Dropped silently when not Established: the RIB hears of
    /// that by [`Action::Down`].
    pub fn send_update<A: Borrow<Attributes>>(&mut self, outgoing: &Outgoing<A>, now: Instant) {
        todo!("{now:?}")
    }

    /// Queues a ROUTE-REFRESH, if the peer can read it.
    pub fn send_refresh(&mut self, refresh: RouteRefresh, now: Instant) {
        todo!("{refresh:?} {now:?}")
    }

    /// The state of the connection that is furthest.
    #[must_use]
    pub fn state(&self) -> State {
        todo!()
    }

    /// What the peer and we agreed on; `Some` exactly in Established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        todo!()
    }

    /// What came in.
    #[must_use]
    pub fn received(&self) -> MessageCounts {
        todo!()
    }

    /// What went out.
    #[must_use]
    pub fn sent(&self) -> MessageCounts {
        todo!()
    }

    /// Why the last session ended or the last try failed, for people; `None` before the first.
    #[must_use]
    pub fn last_error(&self) -> Option<&SessionError> {
        todo!()
    }
}

/// What ended a session or a try to get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Out of Established.
    #[error("{0:?}")]
    Down(DownReason),
}
