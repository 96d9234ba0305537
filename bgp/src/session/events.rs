//! Start, stop, timers and what happens to TCP: the events of RFC 4271 sections 8.1.2 to 8.1.4.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::connection::{Connection, Direction, Extension, Stage};
use super::error::{Damping, is_unsupported_parameter};
use super::negotiate::{OpenForm, RestartState, our_open};
use super::{Action, Administrative, ConnectionId, Session, SessionError, State, Stop, connection_mut};
use crate::message::{CeaseSubcode, MessageKind, Notification};

/// A dial that is not answered is given up after this long: two retransmissions of the SYN.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent inbound connection holds our own dial back for this long.
pub(super) const INBOUND_PATIENCE: Duration = Duration::from_secs(2);
/// A session that lasted this long was a good one: the next retry starts with short intervals again.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Our side of getting a connection.
#[derive(Debug)]
pub(super) enum Dialler {
    /// Stopped or passive, or an outbound or established connection is there.
    Resting,
    /// ConnectRetryTimer runs.
    Waiting { until: Instant },
    /// TCP is on its way.
    Dialling {
        id: ConnectionId,
        /// When it began: the interval to the next dial counts from here.
        since: Instant,
    },
}

impl Dialler {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Resting => None,
            Self::Waiting { until } => Some(*until),
            Self::Dialling { since, .. } => Some(*since + CONNECT_TIMEOUT),
        }
    }
}

/// Whether the peer is silent or we are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The socket holds bytes that the session was not given yet.
    Pending,
    Drained,
}

impl From<bool> for Input {
    fn from(pending: bool) -> Self {
        if pending { Self::Pending } else { Self::Drained }
    }
}

impl Session {
    pub(super) fn start(&mut self, now: Instant) {
        match self.administrative {
            // RFC 4271 section 8.2.2: start events are ignored in every other state.
            Administrative::Started => {}
            Administrative::Stopped => {
                self.administrative = Administrative::Started;
                self.retry.reset();
                if !self.config.passive {
                    self.dial(now);
                }
            }
        }
    }

    pub(super) fn stop(&mut self, stop: Stop, now: Instant) {
        if self.administrative == Administrative::Stopped {
            return;
        }
        // Nothing is dialled again while the connections are taken down.
        self.administrative = Administrative::Stopped;
        self.stop_dialling();
        let error = match &stop {
            Stop::Silent => SessionError::Stopped,
            Stop::Notify(notification) | Stop::Restart(notification) => {
                SessionError::StoppedWith(notification.clone())
            }
        };
        for id in self.connection_ids() {
            self.end(id, error.clone(), now);
        }
        self.forget();
        self.retry.reset();
        match stop {
            Stop::Silent => self.restart = RestartState::Severed,
            Stop::Notify(_) => {}
            Stop::Restart(_) => {
                self.administrative = Administrative::Started;
                self.rearm(now);
            }
        }
    }

    pub(super) fn timers_expired(&mut self, input: Input, now: Instant) {
        for id in self.connection_ids() {
            self.connection_timers_expired(id, input, now);
        }
        self.forget_if_overdue(now);
        match self.dialler {
            Dialler::Dialling { id, since } if since + CONNECT_TIMEOUT <= now => {
                self.out.push(Action::Close(id));
                self.last_error = Some((now, SessionError::ConnectTimeout(CONNECT_TIMEOUT)));
                self.dialler = Dialler::Waiting { until: since + self.retry.next_interval() };
                self.settle_contest(now);
            }
            Dialler::Resting | Dialler::Waiting { .. } | Dialler::Dialling { .. } => {}
        }
        self.dial_if_due(now);
    }

    fn connection_timers_expired(&mut self, id: ConnectionId, input: Input, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, id) else {
            return;
        };
        if connection.send_hold_expired(now) {
            self.end(id, SessionError::SendHoldTimerExpired, now);
            return;
        }
        if connection.hold_expired(now) {
            let extension = match input {
                Input::Pending => connection.extend_hold(now),
                Input::Drained => Extension::Exhausted,
            };
            match extension {
                Extension::Granted => {}
                Extension::Exhausted => {
                    self.end(id, SessionError::HoldTimerExpired, now);
                    return;
                }
            }
        }
        if connection.contest_over(now) {
            self.settle(id, now);
            return;
        }
        if connection.keepalive_due(now) {
            connection.send_keepalive(&mut self.out, now);
        }
    }

    pub(super) fn connected(&mut self, id: ConnectionId, now: Instant) {
        match self.dialler {
            Dialler::Dialling { id: dialled, .. } if dialled == id => {
                self.dialler = Dialler::Resting;
                self.open(id, Direction::Outbound, now);
            }
            Dialler::Resting | Dialler::Waiting { .. } | Dialler::Dialling { .. } => {}
        }
    }

    /// TcpConnectionFails (event 18), before or after TCP was there.
    pub(super) fn connection_failed(&mut self, id: ConnectionId, kind: io::ErrorKind, now: Instant) {
        match self.dialler {
            Dialler::Dialling { id: dialled, since } if dialled == id => {
                self.last_error = Some((now, SessionError::ConnectFailed(kind)));
                self.dialler = Dialler::Waiting { until: since + self.retry.next_interval() };
                self.settle_contest(now);
                self.dial_if_due(now);
            }
            Dialler::Resting | Dialler::Waiting { .. } | Dialler::Dialling { .. } => {}
        }
        if let Some(state) = self.connection(id).map(Connection::state) {
            self.end(id, SessionError::ConnectionClosed(state), now);
        }
    }

    pub(super) fn accepted(&mut self, id: ConnectionId, now: Instant) {
        if self.connection(id).is_some() {
            return;
        }
        match self.administrative {
            Administrative::Stopped => self.out.push(Action::Close(id)),
            Administrative::Started => {
                // The peer has given up on an inbound connection that got nowhere when it opens another.
                let superseded = self.connections.iter().find(|connection| {
                    connection.direction == Direction::Inbound && connection.state() != State::Established
                });
                if let Some(superseded) = superseded.map(|connection| connection.id) {
                    self.end(superseded, SessionError::Collision, now);
                }
                match self.negotiated().map(|negotiated| negotiated.graceful_restart().is_some()) {
                    // RFC 4271 section 6.8: the established session wins, whatever the OPEN would say.
                    Some(false) => self.reject(id),
                    Some(true) | None => self.open(id, Direction::Inbound, now),
                }
            }
        }
    }

    /// Refuses an inbound connection before its OPEN.
    fn reject(&mut self, id: ConnectionId) {
        let mut bytes = BytesMut::new();
        Notification::cease(CeaseSubcode::ConnectionCollision).encode(&mut bytes);
        self.out.transmit(id, MessageKind::Notification, bytes.freeze());
        self.out.push(Action::Close(id));
    }

    pub(super) fn written(&mut self, id: ConnectionId, length: usize, now: Instant) {
        if let Some(connection) = connection_mut(&mut self.connections, id) {
            connection.written(length, now);
        }
    }

    /// Ends a connection for the reason given, and the session with it where it was established.
    pub(super) fn end(&mut self, id: ConnectionId, error: SessionError, now: Instant) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        let mut connection = self.connections.swap_remove(index);
        if let Some(notification) = error.notification() {
            connection.send_notification(&notification, &mut self.out, now);
        }
        match error {
            SessionError::ConnectionClosed(_) => {}
            _ => self.out.push(Action::Close(id)),
        }
        let established = match &connection.stage {
            Stage::Established { negotiated, since } => Some((Arc::clone(negotiated), *since)),
            Stage::OpenSent(_) | Stage::Withheld { .. } | Stage::OpenConfirm(_) | Stage::Contested { .. } => {
                None
            }
        };
        if let Some((negotiated, since)) = &established {
            if now.saturating_duration_since(*since) >= STABLE_AFTER {
                self.retry.reset();
            }
            let kept = self.keep_after(&error, negotiated, now);
            self.out.push(Action::Down { reason: error.down_reason(), kept });
        }
        match error.damping() {
            Damping::Damped => self.retry.damp(),
            Damping::Undamped => {}
        }
        if let SessionError::Received(notification) = &error {
            self.last_notification = Some((now, notification.clone()));
            if is_unsupported_parameter(notification) {
                self.try_without_parameters(&connection);
            }
        }
        if established.is_some() || error.is_worth_telling() {
            self.last_error = Some((now, error));
        }
        match self.administrative {
            Administrative::Started => self.settle_contest(now),
            Administrative::Stopped => {}
        }
        self.rearm(now);
    }

    /// RFC 5492 section 3: a peer that refused an OPEN with optional parameters is offered one without, once.
    fn try_without_parameters(&mut self, refused: &Connection) {
        match (&refused.stage, refused.form) {
            (Stage::OpenSent(_) | Stage::Withheld { .. } | Stage::OpenConfirm(_), OpenForm::Full) => {
                self.next_open = OpenForm::Plain;
            }
            (Stage::OpenSent(_) | Stage::Withheld { .. } | Stage::OpenConfirm(_), OpenForm::Plain)
            | (Stage::Contested { .. } | Stage::Established { .. }, _) => {}
        }
    }

    /// Makes sure that an attempt follows where nothing else leads to a session.
    pub(super) fn rearm(&mut self, now: Instant) {
        let dials = self.administrative == Administrative::Started && !self.config.passive;
        let is_leading = |connection: &Connection| {
            connection.direction == Direction::Outbound || connection.state() == State::Established
        };
        match self.dialler {
            Dialler::Resting if dials && !self.connections.iter().any(is_leading) => {
                self.dialler = Dialler::Waiting { until: now + self.retry.next_interval() };
            }
            Dialler::Resting | Dialler::Waiting { .. } | Dialler::Dialling { .. } => {}
        }
    }

    /// Gives up a dial, in flight or planned.
    pub(super) fn stop_dialling(&mut self) {
        match self.dialler {
            Dialler::Dialling { id, .. } => self.out.push(Action::Close(id)),
            Dialler::Resting | Dialler::Waiting { .. } => {}
        }
        self.dialler = Dialler::Resting;
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    pub(super) fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    /// Dials when the retry timer has expired, unless an inbound connection makes that unnecessary for now.
    fn dial_if_due(&mut self, now: Instant) {
        match self.dialler {
            Dialler::Waiting { until } if until <= now => match self.held_back_until(now) {
                Some(until) => self.dialler = Dialler::Waiting { until },
                None => self.dial(now),
            },
            Dialler::Resting | Dialler::Waiting { .. } | Dialler::Dialling { .. } => {}
        }
    }

    fn dial(&mut self, now: Instant) {
        let id = self.next_connection();
        self.dialler = Dialler::Dialling { id, since: now };
        self.out.push(Action::Connect(id));
    }

    /// Until when an inbound connection on its way makes a dial of ours unnecessary.
    fn held_back_until(&self, now: Instant) -> Option<Instant> {
        let inbound =
            self.connections.iter().find(|connection| connection.direction == Direction::Inbound)?;
        let until = match inbound.stage {
            Stage::OpenSent(_) => inbound.opened + INBOUND_PATIENCE,
            // It ends by its own hold timer where the peer falls silent.
            Stage::Withheld { .. }
            | Stage::OpenConfirm(_)
            | Stage::Contested { .. }
            | Stage::Established { .. } => now + INBOUND_PATIENCE,
        };
        (until > now).then_some(until)
    }

    fn open(&mut self, id: ConnectionId, direction: Direction, now: Instant) {
        let form = std::mem::take(&mut self.next_open);
        let ours = our_open(&self.config, form, self.restart);
        let jitter = self.jitter.fork();
        let mut connection = Connection::new(id, direction, form, ours, jitter, now);
        connection.send_open(&mut self.out, now);
        self.connections.push(connection);
    }
}
