//! What the peer says: the message events of RFC 4271 section 8.1.5, by the state of their connection.

use std::sync::Arc;
use std::time::Instant;

use super::collision::{Contender, Speaker, Verdict, judge, kept};
use super::connection::{Confirmation, Connection, Direction, Stage};
use super::events::Dialler;
use super::negotiate::{Negotiated, RestartState, negotiate};
use super::{Action, ConnectionId, Session, SessionError, connection_mut};
use crate::Family;
use crate::message::{Frame, MessageKind, Notification, Open, RefreshKind, RouteRefresh};

impl Session {
    /// Bytes came in: takes every whole message out of them. One that ends the connection ends the loop.
    pub(super) fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, id) else {
            return;
        };
        connection.receive(bytes);
        while let Some(connection) = connection_mut(&mut self.connections, id) {
            match connection.next_frame() {
                Ok(Some(frame)) => {
                    self.received.add(frame.kind, 1);
                    if let Err(error) = self.message(id, frame, now) {
                        self.end(id, error, now);
                    }
                }
                Ok(None) => break,
                Err(notification) => self.end(id, SessionError::Malformed(notification), now),
            }
        }
    }

    fn message(&mut self, id: ConnectionId, frame: Frame, now: Instant) -> Result<(), SessionError> {
        let Some(connection) = connection_mut(&mut self.connections, id) else {
            return Ok(());
        };
        // RFC 4271 section 6.4: a NOTIFICATION is never answered, whatever the state.
        if frame.kind == MessageKind::Notification {
            let error = Notification::decode(&frame.body)
                .map_or(SessionError::ReceivedMalformed, SessionError::Received);
            return Err(error);
        }
        let unexpected = SessionError::Unexpected { message: frame.kind, state: connection.state() };
        match &mut connection.stage {
            Stage::OpenSent(ours) => match frame.kind {
                MessageKind::Open => {
                    let theirs = Open::decode(frame.body).map_err(SessionError::Malformed)?;
                    let negotiated = negotiate(&self.config, ours, theirs)?;
                    self.open_received(id, Arc::new(negotiated), now)
                }
                MessageKind::Update
                | MessageKind::Notification
                | MessageKind::Keepalive
                | MessageKind::RouteRefresh => Err(unexpected),
            },
            Stage::Withheld { confirmation, .. } => match frame.kind {
                MessageKind::Keepalive => {
                    *confirmation = Confirmation::Received;
                    connection.restart_hold(now);
                    Ok(())
                }
                MessageKind::Open
                | MessageKind::Update
                | MessageKind::Notification
                | MessageKind::RouteRefresh => Err(unexpected),
            },
            Stage::OpenConfirm(negotiated) => match frame.kind {
                MessageKind::Keepalive => {
                    let negotiated = Arc::clone(negotiated);
                    self.confirmed(id, negotiated, now);
                    Ok(())
                }
                MessageKind::Open
                | MessageKind::Update
                | MessageKind::Notification
                | MessageKind::RouteRefresh => Err(unexpected),
            },
            Stage::Contested { .. } => match frame.kind {
                MessageKind::Keepalive => {
                    connection.restart_hold(now);
                    Ok(())
                }
                // The peer has established this connection: there will be no other.
                MessageKind::Update | MessageKind::RouteRefresh => {
                    self.establish(id, now);
                    self.message(id, frame, now)
                }
                MessageKind::Open | MessageKind::Notification => Err(unexpected),
            },
            Stage::Established { negotiated, .. } => {
                let negotiated = Arc::clone(negotiated);
                match frame.kind {
                    MessageKind::Keepalive => {}
                    MessageKind::Update => {
                        let update = negotiated.codec.decode(frame.body).map_err(SessionError::Malformed)?;
                        connection.restart_hold(now);
                        update.end_of_rib.into_iter().for_each(|family| self.said_everything(family));
                        self.out.push(Action::Update(update));
                        return Ok(());
                    }
                    MessageKind::RouteRefresh => {
                        let refresh = RouteRefresh::decode(&frame.body).map_err(SessionError::Malformed)?;
                        if concerns_us(refresh, &negotiated) {
                            self.out.push(Action::Refresh(refresh));
                        }
                    }
                    MessageKind::Open | MessageKind::Notification => return Err(unexpected),
                }
                connection.restart_hold(now);
                Ok(())
            }
        }
    }

    /// The peer's OPEN is valid: collision detection, then OpenConfirm.
    fn open_received(
        &mut self,
        id: ConnectionId,
        negotiated: Arc<Negotiated>,
        now: Instant,
    ) -> Result<(), SessionError> {
        let (ours, theirs) = (self.speaker(), speaker(&negotiated.open));
        let other = self.connections.iter().find(|connection| connection.id != id);
        let Some(connection) = self.connection(id) else {
            return Ok(());
        };
        let contender = Contender { direction: connection.direction, opened: connection.opened };
        let end_other = match judge(ours, theirs, contender, other) {
            Verdict::Proceed => None,
            Verdict::Yield => return Err(SessionError::Collision),
            Verdict::Prevail => Some(SessionError::Collision),
            Verdict::Replace => Some(SessionError::Replaced),
        };
        if let (Some(error), Some(other)) = (end_other, other.map(|connection| connection.id)) {
            self.end(other, error, now);
        }
        let is_crossed = contender.direction == Direction::Inbound && self.has_open_dial();
        match connection_mut(&mut self.connections, id) {
            Some(connection) if is_crossed => connection.withhold(negotiated, now),
            Some(connection) => connection.confirm(negotiated, &mut self.out, now),
            None => {}
        }
        Ok(())
    }

    /// Whether the peer may not have looked yet at a connection that we dialled.
    fn has_open_dial(&self) -> bool {
        let is_open = |connection: &Connection| {
            connection.direction == Direction::Outbound && matches!(connection.stage, Stage::OpenSent(_))
        };
        matches!(self.dialler, Dialler::Dialling { .. }) || self.connections.iter().any(is_open)
    }

    /// The peer's first KEEPALIVE: the session is established, unless a collision is about to be decided
    /// against this connection.
    fn confirmed(&mut self, id: ConnectionId, negotiated: Arc<Negotiated>, now: Instant) {
        let kept = kept(self.speaker(), speaker(&negotiated.open));
        let rival = self.connections.iter().any(|other| {
            other.id != id && other.direction == kept && matches!(other.stage, Stage::OpenSent(_))
        });
        match connection_mut(&mut self.connections, id) {
            Some(connection) if rival => connection.contest(negotiated, now),
            Some(_) | None => self.establish(id, now),
        }
    }

    /// Both OPENs are confirmed: every other connection is closed (RFC 4271 section 6.8).
    pub(super) fn establish(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, id) else {
            return;
        };
        let Some(negotiated) = connection.negotiated().cloned() else {
            return;
        };
        connection.establish(Arc::clone(&negotiated), now);
        self.restart = RestartState::Running;
        self.keep_over(&negotiated, now);
        self.stop_dialling();
        for other in self.connection_ids().into_iter().filter(|&other| other != id) {
            self.end(other, SessionError::Collision, now);
        }
        self.out.push(Action::Up(id, negotiated));
    }

    /// A connection that waited for the outcome of another one has won when that one is gone.
    pub(super) fn settle_contest(&mut self, now: Instant) {
        if let [Connection { id, .. }] = &self.connections[..]
            && !self.has_open_dial()
        {
            self.settle(*id, now);
        }
    }

    /// A connection waits for no other one any longer.
    pub(super) fn settle(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, id) else {
            return;
        };
        match &connection.stage {
            Stage::Withheld { negotiated, confirmation, .. } => {
                let (negotiated, confirmation) = (Arc::clone(negotiated), *confirmation);
                connection.confirm(Arc::clone(&negotiated), &mut self.out, now);
                match confirmation {
                    Confirmation::Awaited => {}
                    Confirmation::Received => self.confirmed(id, negotiated, now),
                }
            }
            Stage::Contested { .. } => self.establish(id, now),
            Stage::OpenSent(_) | Stage::OpenConfirm(_) | Stage::Established { .. } => {}
        }
    }

    fn speaker(&self) -> Speaker {
        Speaker { router_id: self.config.router_id, asn: self.config.local_as }
    }
}

fn speaker(open: &Open) -> Speaker {
    Speaker { router_id: open.router_id, asn: open.asn }
}

/// Whether somebody has to act on it. Families that were not negotiated are ignored (RFC 2918 section 4), and so
/// are unknown subtypes (RFC 7313 section 5).
fn concerns_us(refresh: RouteRefresh, negotiated: &Negotiated) -> bool {
    let carried =
        Family::try_from(refresh.family).is_ok_and(|family| negotiated.codec.families.contains(family));
    let understood = match refresh.kind {
        RefreshKind::Request => true,
        RefreshKind::Begin | RefreshKind::End => negotiated.enhanced_route_refresh,
        RefreshKind::Unknown(_) => false,
    };
    carried && understood
}
