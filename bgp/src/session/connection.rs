//! One TCP connection to the peer: what it has agreed on, its receive buffer and its timers.
//!
//! In: bytes, messages to send, `now`. Out: frames, [`super::Action::Transmit`], deadlines.
//! RFC 4271 sections 4.4, 6.5, 8.2.2 (HoldTimer, KeepaliveTimer), 10; RFC 9687 (send hold timer).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::negotiate::{Negotiated, OpenForm, SHORTEST_KEEPALIVE};
use super::outbox::Outbox;
use super::retry::Jitter;
use super::{ConnectionId, State};
use crate::message::{self, Frame, MAX_LENGTH, MessageKind, Notification, Open};

/// RFC 4271 section 8.2.2: the "large value" of the hold timer until the peer's OPEN tells its own.
pub(super) const LARGE_HOLD_TIME: Duration = Duration::from_mins(4);
/// RFC 9687: the send hold time is this or twice the hold time, whichever is longer.
pub(super) const SHORTEST_SEND_HOLD_TIME: Duration = Duration::from_mins(8);

/// A connection that is ready waits this long for a better one: both OPENs there are on their way.
const CONTEST_PATIENCE: Duration = Duration::from_secs(1);

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The peer.
    Inbound,
    /// We.
    Outbound,
}

/// How far a connection is, and what it knows by then.
#[derive(Debug)]
pub(super) enum Stage {
    /// Our OPEN is out; this is it.
    OpenSent(Open),
    /// Both OPENs are there, and our KEEPALIVE waits for what becomes of our own dial, which crossed the peer's. A peer
    /// with this one established that only then finds the other one in its queue may take it for a restart of ours,
    /// and close this one (FRR, `bgpd/bgp_network.c`, for a peer with graceful restart).
    Withheld {
        negotiated: Arc<Negotiated>,
        confirmation: Confirmation,
        /// How long to wait for our dial.
        until: Instant,
    },
    /// Both OPENs are there.
    OpenConfirm(Arc<Negotiated>),
    /// The peer confirmed our OPEN, but another connection will be kept instead of this one if the peer's OPEN
    /// arrives there too. Establishing this one now could make each side close the connection that the
    /// other one keeps.
    Contested {
        negotiated: Arc<Negotiated>,
        /// How long to wait for that OPEN.
        until: Instant,
    },
    /// Routes may flow.
    Established {
        negotiated: Arc<Negotiated>,
        /// When it got there.
        since: Instant,
    },
}

/// The peer's KEEPALIVE that confirms our OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    Awaited,
    Received,
}

/// What becomes of a hold timer that expired although the driver holds unread input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    /// The timer runs again.
    Granted,
    /// It has been extended by a whole hold time already.
    Exhausted,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    /// How much our OPEN says.
    pub(super) form: OpenForm,
    pub(super) stage: Stage,
    /// When TCP was there.
    pub(super) opened: Instant,
    /// Less than one whole message between two events.
    input: BytesMut,
    hold: Option<HoldTimer>,
    keepalive: Option<Instant>,
    /// Bytes handed to the driver that the socket has not taken yet.
    outstanding: usize,
    /// Runs while bytes are outstanding.
    send_hold: Option<Instant>,
    jitter: Jitter,
}

/// The HoldTimer, and how far unread input may extend it.
#[derive(Debug)]
struct HoldTimer {
    time: Duration,
    deadline: Instant,
    /// One hold time after the deadline that the last message set.
    extendable_until: Instant,
}

impl HoldTimer {
    fn new(time: Duration, now: Instant) -> Self {
        let deadline = now + time;
        Self { time, deadline, extendable_until: deadline + time }
    }
}

impl Connection {
    /// TCP is there, and `ours` is to be sent next.
    pub(super) fn new(
        id: ConnectionId,
        direction: Direction,
        form: OpenForm,
        ours: Open,
        jitter: Jitter,
        now: Instant,
    ) -> Self {
        Self {
            id,
            direction,
            form,
            stage: Stage::OpenSent(ours),
            opened: now,
            input: BytesMut::new(),
            hold: Some(HoldTimer::new(LARGE_HOLD_TIME, now)),
            keepalive: None,
            outstanding: 0,
            send_hold: None,
            jitter,
        }
    }

    /// Sends our OPEN. Only the first message of a connection is one.
    pub(super) fn send_open(&mut self, out: &mut Outbox, now: Instant) {
        if let Stage::OpenSent(ours) = &self.stage {
            let mut bytes = BytesMut::new();
            ours.encode(&mut bytes);
            self.transmit(MessageKind::Open, bytes, out, now);
        }
    }

    pub(super) fn state(&self) -> State {
        match self.stage {
            Stage::OpenSent(_) => State::OpenSent,
            Stage::Withheld { .. } | Stage::OpenConfirm(_) | Stage::Contested { .. } => State::OpenConfirm,
            Stage::Established { .. } => State::Established,
        }
    }

    /// What was agreed on, once both OPENs are there.
    pub(super) fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        match &self.stage {
            Stage::OpenSent(_) => None,
            Stage::Withheld { negotiated, .. }
            | Stage::OpenConfirm(negotiated)
            | Stage::Contested { negotiated, .. }
            | Stage::Established { negotiated, .. } => Some(negotiated),
        }
    }

    /// Both OPENs are there, but the peer's is not confirmed yet.
    pub(super) fn withhold(&mut self, negotiated: Arc<Negotiated>, now: Instant) {
        let confirmation = Confirmation::Awaited;
        self.stage = Stage::Withheld { negotiated, confirmation, until: now + CONTEST_PATIENCE };
        self.restart_hold(now);
    }

    /// Both OPENs are there: confirms the peer's and lets the negotiated timers run.
    pub(super) fn confirm(&mut self, negotiated: Arc<Negotiated>, out: &mut Outbox, now: Instant) {
        self.stage = Stage::OpenConfirm(negotiated);
        self.restart_hold(now);
        self.send_keepalive(out, now);
    }

    /// The peer confirmed ours, but another connection may be kept instead.
    pub(super) fn contest(&mut self, negotiated: Arc<Negotiated>, now: Instant) {
        self.stage = Stage::Contested { negotiated, until: now + CONTEST_PATIENCE };
        self.restart_hold(now);
    }

    /// Routes may flow.
    pub(super) fn establish(&mut self, negotiated: Arc<Negotiated>, now: Instant) {
        self.stage = Stage::Established { negotiated, since: now };
        self.restart_hold(now);
    }

    /// When the other connection has had its chance.
    fn contested_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Withheld { until, .. } | Stage::Contested { until, .. } => Some(until),
            Stage::OpenSent(_) | Stage::OpenConfirm(_) | Stage::Established { .. } => None,
        }
    }

    pub(super) fn contest_over(&self, now: Instant) -> bool {
        self.contested_until().is_some_and(|until| until <= now)
    }

    /// Takes in bytes. They are copied, so that a short message never pins a long read.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Notification> {
        let max_length = self.negotiated().map_or(MAX_LENGTH, |negotiated| negotiated.longest_received());
        message::frame(&mut self.input, max_length)
    }

    /// A message came in that its state allows. RFC 4271 names KEEPALIVE and UPDATE; ROUTE-REFRESH is as good
    /// a sign of life.
    pub(super) fn restart_hold(&mut self, now: Instant) {
        let time = match &self.stage {
            Stage::OpenSent(_) => Some(LARGE_HOLD_TIME),
            // Without a hold time only the wait for the peer's KEEPALIVE is bounded.
            Stage::Withheld { negotiated, .. }
            | Stage::OpenConfirm(negotiated)
            | Stage::Contested { negotiated, .. } => {
                Some(negotiated.hold_time.duration().unwrap_or(LARGE_HOLD_TIME))
            }
            Stage::Established { negotiated, .. } => negotiated.hold_time.duration(),
        };
        self.hold = time.map(|time| HoldTimer::new(time, now));
    }

    /// Lets an expired hold timer run again because the peer is not silent but the driver is slow: a third of
    /// the hold time at once, one whole hold time in all since the last message.
    pub(super) fn extend_hold(&mut self, now: Instant) -> Extension {
        match &mut self.hold {
            Some(hold) if now < hold.extendable_until => {
                hold.deadline = (now + hold.time / 3).min(hold.extendable_until);
                Extension::Granted
            }
            Some(_) | None => Extension::Exhausted,
        }
    }

    pub(super) fn hold_expired(&self, now: Instant) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.deadline <= now)
    }

    pub(super) fn keepalive_due(&self, now: Instant) -> bool {
        self.keepalive.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn send_hold_expired(&self, now: Instant) -> bool {
        self.send_hold.is_some_and(|deadline| deadline <= now)
    }

    /// When the first of the timers expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers().map(|(_, at)| at).chain(self.contested_until()).min()
    }

    /// The timers that run.
    pub(super) fn timers(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        [
            ("HoldTimer", self.hold.as_ref().map(|hold| hold.deadline)),
            ("KeepaliveTimer", self.keepalive),
            ("SendHoldTimer", self.send_hold),
        ]
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
    }

    pub(super) fn send_keepalive(&mut self, out: &mut Outbox, now: Instant) {
        let mut bytes = BytesMut::new();
        message::encode_keepalive(&mut bytes);
        self.transmit(MessageKind::Keepalive, bytes, out, now);
    }

    pub(super) fn send_notification(&mut self, notification: &Notification, out: &mut Outbox, now: Instant) {
        let mut bytes = BytesMut::new();
        notification.encode(&mut bytes);
        self.transmit(MessageKind::Notification, bytes, out, now);
    }

    /// Hands whole messages of one kind to the driver.
    pub(super) fn transmit(&mut self, kind: MessageKind, bytes: BytesMut, out: &mut Outbox, now: Instant) {
        if bytes.is_empty() {
            return;
        }
        self.outstanding = self.outstanding.saturating_add(bytes.len());
        if self.send_hold.is_none() {
            self.restart_send_hold(now);
        }
        // RFC 4271 section 8.2.2: KEEPALIVE and UPDATE restart the KeepaliveTimer.
        match kind {
            MessageKind::Keepalive | MessageKind::Update => self.restart_keepalive(now),
            MessageKind::Open | MessageKind::Notification | MessageKind::RouteRefresh => {}
        }
        out.transmit(self.id, kind, bytes.freeze());
    }

    /// The socket took some of it.
    pub(super) fn written(&mut self, length: usize, now: Instant) {
        self.outstanding = self.outstanding.saturating_sub(length);
        if self.outstanding == 0 {
            self.send_hold = None;
        } else if length > 0 {
            self.restart_send_hold(now);
        }
    }

    fn restart_send_hold(&mut self, now: Instant) {
        let hold_time = self.negotiated().and_then(|negotiated| negotiated.hold_time.duration());
        let twice = hold_time.unwrap_or_default().saturating_mul(2);
        self.send_hold = Some(now + twice.max(SHORTEST_SEND_HOLD_TIME));
    }

    fn restart_keepalive(&mut self, now: Instant) {
        let interval = self.negotiated().and_then(|negotiated| negotiated.keepalive);
        self.keepalive = interval.map(|interval| now + self.jitter.apply(interval).max(SHORTEST_KEEPALIVE));
    }

    /// What came in and is not a whole message yet.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.input.len()
    }

    /// The room that the receive buffer has, in octets.
    pub(super) fn receive_room(&self) -> usize {
        self.input.capacity()
    }
}
