//! All BFD sessions: which there are, which packet belongs to which, and what each says of its neighbor.
//!
//! In: snapshots of the neighbors to watch, datagrams with what the kernel says of them, the time. Out: packets to
//! send, the next deadline, and what others follow: a [`Standing`] for each neighbor. No clock, no socket. Obeys RFC
//! 5880 sections 6.3 (demultiplexing) and 6.8.6 (reception), RFC 5881 sections 3 (first packets) and 5 (TTL 255), and
//! decides what is a failure by RFC 5882 sections 3.2, 4.2 and 4.3.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;
use bgp::rib::Gateway;

use super::packet::{self, ControlPacket, DecodeError, Diagnostic, Discriminator, LENGTH, State};
use super::session::{Administration, Change, Intervals, Parameters, Session};

/// RFC 5881 section 5: what has passed a router on the way has less.
pub const HOP_LIMIT: u8 = 255;
/// A neighbor that has failed, and of which not a packet was heard for this long, is believed to do without BFD: it
/// came back with another configuration, and to wait for it would keep it off for ever.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);
/// A neighbor that has announced graceful restart, and whose BFD ends with its control plane, may be about to restart when
/// it says Down: FRR's bfdd does when bgpd goes, a millisecond or ten after the end of TCP. For this long the BGP session
/// may say so first.
const BENEFIT_OF_DOUBT: Duration = Duration::from_millis(30);
/// How long a session that nobody wants any more says so: RFC 5880 section 6.8.16 asks for a Detection Time, and RFC 5882
/// section 8 for it where BFD is taken out of the configuration.
const FAREWELL: Duration = Duration::from_secs(3);

/// The neighbors to watch, by their next hop. Immutable: a change makes a new one.
pub type Peers = BTreeMap<Gateway, Peer>;

/// One neighbor to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// For people.
    pub name: String,
    /// The source of our packets; the kernel's choice where left out.
    pub local: Option<IpAddr>,
    /// The link that its packets come in by; any where not known.
    pub interface: Option<InterfaceIndex>,
    /// What we want of the session.
    pub parameters: Parameters,
    /// Whether we want one.
    pub administration: Administration,
    /// Whether its BGP session is lost and its routes are kept nevertheless (RFC 4724).
    pub restart: Restart,
}

/// What a neighbor's BGP session says of its control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// None is expected: it never announced one, or has no session.
    #[default]
    None,
    /// It is there, and its end might be the beginning of one.
    Agreed,
    /// It is believed to restart, and to forward meanwhile.
    Graceful,
}

/// Whether a neighbor can be used, as far as BFD knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// BFD has nothing to say: not up yet, held down by the neighbor's administrator (RFC 5882 section 3.2 and 4.2
    /// forbid to take that for a failure), or given up.
    Unknown,
    /// Packets get there and back.
    Alive,
    /// They did, and do no longer.
    Failed,
}

/// Whether the neighbor's BFD goes on without its control plane: its C bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlPlane {
    /// It does: its silence is a failure to forward.
    Independent,
    /// It does not, or never said so.
    Shared,
}

/// What others follow. `failures` only grows while the neighbor is watched, so that no failure is missed by who looks
/// seldom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// At present.
    pub health: Health,
    /// How often it failed.
    pub failures: u64,
}

/// The standing of every neighbor that is watched.
pub type Standings = BTreeMap<Gateway, Standing>;

/// A datagram as the socket delivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The sender.
    pub source: IpAddr,
    /// The interface it came in by.
    pub interface: InterfaceIndex,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// The payload.
    pub octets: &'a [u8],
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Whose it is: each session has a source port of its own (RFC 5881 section 4).
    pub session: Discriminator,
    /// Where it goes.
    pub gateway: Gateway,
    /// Where it comes from; the kernel's choice where left out.
    pub local: Option<IpAddr>,
    /// The payload.
    pub octets: [u8; LENGTH],
}

/// Packets of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Accepted.
    pub received: u64,
    /// Handed to the socket.
    pub sent: u64,
}

/// Packets that were for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discards {
    /// Their TTL was not 255.
    pub hop_limit: u64,
    /// They broke a rule of RFC 5880 section 6.8.6.
    pub malformed: u64,
    /// They were authenticated, which is not in use.
    pub authenticated: u64,
    /// No session is theirs.
    pub no_session: u64,
}

/// All that people may want to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In the order of their next hops.
    pub sessions: Vec<SessionStatus>,
    /// Of all interfaces together.
    pub discards: Discards,
}

/// One session for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The neighbor's name.
    pub name: String,
    /// Its next hop.
    pub gateway: Gateway,
    /// Our state.
    pub state: State,
    /// Why.
    pub diagnostic: Diagnostic,
    /// When it became so.
    pub since: Instant,
    /// What others follow.
    pub standing: Standing,
    /// How often it was Up.
    pub times_up: u64,
    /// Our number for it.
    pub discriminator: Discriminator,
    /// What we want.
    pub parameters: Parameters,
    /// What is in force.
    pub intervals: Intervals,
    /// What the other end said last; `None` while it is silent.
    pub remote: Option<ControlPacket>,
    /// Its packets.
    pub counters: Counters,
}

/// One session with what is known of its neighbor.
#[derive(Debug)]
struct Entry {
    session: Session,
    peer: Peer,
    health: Health,
    failures: u64,
    times_up: u64,
    since: Instant,
    heard: Option<Instant>,
    control_plane: ControlPlane,
    /// When it has failed, unless it turns out to restart.
    suspect_until: Option<Instant>,
    counters: Counters,
}

/// A session that nobody wants any more.
#[derive(Debug)]
struct Leaving {
    session: Session,
    gateway: Gateway,
    local: Option<IpAddr>,
    until: Instant,
}

/// What happened to a session, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The neighbor's name.
    pub name: String,
    /// Its next hop.
    pub gateway: Gateway,
    /// The change.
    pub change: Change,
    /// Why.
    pub diagnostic: Diagnostic,
}

/// The machine.
#[derive(Debug)]
pub struct Sessions {
    entries: BTreeMap<Gateway, Entry>,
    leaving: Vec<Leaving>,
    discards: Discards,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    random: fastrand::Rng,
}

impl Sessions {
    /// Without any session. `seed` makes discriminators and jitter: one that nobody can guess.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            leaving: Vec::new(),
            discards: Discards::default(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Makes the sessions those of the snapshot. Another interval or multiplier changes a session without its end.
    pub fn handle_peers(&mut self, peers: &Peers, now: Instant) {
        let gone: Vec<(Gateway, Entry)> = self
            .entries
            .extract_if(.., |gateway, entry| {
                peers.get(gateway).is_none_or(|peer| {
                    (peer.local, peer.interface) != (entry.peer.local, entry.peer.interface)
                })
            })
            .collect();
        for (gateway, Entry { mut session, peer, .. }) in gone {
            session.administer(Administration::Disabled, now);
            self.leaving.push(Leaving { session, gateway, local: peer.local, until: now + FAREWELL });
        }
        for (gateway, peer) in peers {
            if let Some(entry) = self.entries.get_mut(gateway) {
                entry.session.configure(peer.parameters, now);
                entry.session.administer(peer.administration, now);
                entry.peer.clone_from(peer);
                entry.judge(now);
            } else {
                // Whoever is told of the end of one session must not take it for that of the other.
                self.leaving.retain(|leaving| leaving.gateway != *gateway);
                let entry = self.entry(peer, now);
                self.entries.insert(*gateway, entry);
            }
        }
        self.drain(now);
    }

    /// A datagram from the BFD port. Gives the reason where it is discarded.
    ///
    /// # Errors
    /// [`Discard`]; it is counted as well.
    pub fn handle_received(&mut self, received: Received<'_>, now: Instant) -> Result<(), Discard> {
        let outcome = self.receive(received, now);
        match outcome {
            Ok(()) => self.drain(now),
            Err(Discard::HopLimit(_)) => self.discards.hop_limit += 1,
            Err(Discard::Malformed(DecodeError::Authenticated)) => self.discards.authenticated += 1,
            Err(Discard::Malformed(_)) => self.discards.malformed += 1,
            Err(Discard::NoSession) => self.discards.no_session += 1,
        }
        outcome
    }

    /// The time has come that [`Self::poll_timeout`] gave.
    pub fn handle_timeout(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.session.handle_timeout(now);
        }
        self.leaving.retain_mut(|leaving| {
            leaving.session.handle_timeout(now);
            leaving.until > now
        });
        self.drain(now);
        for entry in self.entries.values_mut() {
            entry.judge(now);
            if entry.given_up_at().is_some_and(|at| at <= now) {
                entry.excuse();
            }
        }
    }

    /// Every session says that it is held down, and is forgotten: this daemon ends, and the path is as good as it was.
    pub fn handle_stop(&mut self, now: Instant) {
        self.handle_peers(&Peers::new(), now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let entries = self.entries.values();
        let entries = entries
            .flat_map(|entry| [entry.session.poll_timeout(), entry.given_up_at(), entry.suspect_until]);
        let leaving =
            self.leaving.iter().flat_map(|leaving| [leaving.session.poll_timeout(), Some(leaving.until)]);
        entries.chain(leaving).flatten().min()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// What happened, for the log.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is such a session, perhaps one that takes its leave.
    #[must_use]
    pub fn has(&self, session: Discriminator) -> bool {
        let entries = self.entries.values().map(|entry| &entry.session);
        let mut all = entries.chain(self.leaving.iter().map(|leaving| &leaving.session));
        all.any(|other| other.discriminator() == session)
    }

    /// What others follow.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.entries.iter().map(|(gateway, entry)| (*gateway, entry.standing())).collect()
    }

    /// Whether others know all of that. Without a copy, since it is asked at each turn: see `thread`.
    #[must_use]
    pub fn are_told(&self, told: &Standings) -> bool {
        let now = self.entries.iter().map(|(gateway, entry)| (gateway, entry.standing()));
        now.eq(told.iter().map(|(gateway, standing)| (gateway, *standing)))
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> Status {
        let sessions = self.entries.iter().map(|(gateway, entry)| SessionStatus {
            name: entry.peer.name.clone(),
            gateway: *gateway,
            state: entry.session.state(),
            diagnostic: entry.session.diagnostic(),
            since: entry.since,
            standing: entry.standing(),
            times_up: entry.times_up,
            discriminator: entry.session.discriminator(),
            parameters: entry.peer.parameters,
            intervals: entry.session.intervals(),
            remote: entry.session.remote().copied(),
            counters: entry.counters,
        });
        Status { sessions: sessions.collect(), discards: self.discards }
    }

    fn entry(&mut self, peer: &Peer, now: Instant) -> Entry {
        // RFC 5880 section 6.8.1: unique, nonzero, and better not guessed.
        let discriminator = loop {
            let drawn = Discriminator::new(self.random.u32(..));
            if let Some(discriminator) = drawn.filter(|drawn| !self.has(*drawn)) {
                break discriminator;
            }
        };
        Entry {
            session: Session::new(
                discriminator,
                peer.parameters,
                peer.administration,
                self.random.u64(..),
                now,
            ),
            peer: peer.clone(),
            health: Health::Unknown,
            failures: 0,
            times_up: 0,
            since: now,
            heard: None,
            control_plane: ControlPlane::Shared,
            suspect_until: None,
            counters: Counters::default(),
        }
    }

    fn receive(&mut self, received: Received<'_>, now: Instant) -> Result<(), Discard> {
        if received.hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit(received.hop_limit));
        }
        let packet = packet::decode(received.octets).map_err(Discard::Malformed)?;
        let entry = self.owner(&packet, received).ok_or(Discard::NoSession)?;
        entry.counters.received += 1;
        entry.heard = Some(now);
        if packet.state != State::AdminDown {
            entry.control_plane = if packet.control_plane_independent {
                ControlPlane::Independent
            } else {
                ControlPlane::Shared
            };
        }
        entry.session.handle_packet(&packet, now);
        // RFC 5882 section 3.2: also after a failure, the neighbor's administrator has spoken.
        if packet.state == State::AdminDown {
            entry.excuse();
        }
        Ok(())
    }

    /// RFC 5880 section 6.3: by our discriminator, or by where it comes from before the other end knows that. The
    /// source is looked at in either case: a guess at 32 bits is all that a stranger on another link would need.
    fn owner(&mut self, packet: &ControlPacket, received: Received<'_>) -> Option<&mut Entry> {
        let (_, entry) = self.entries.iter_mut().find(|(gateway, entry)| {
            let is_named =
                packet.your_discriminator.is_none_or(|named| named == entry.session.discriminator());
            is_named
                && gateway.address == received.source
                && entry.peer.interface.is_none_or(|interface| interface == received.interface)
        })?;
        Some(entry)
    }

    fn drain(&mut self, now: Instant) {
        let Self { entries, leaving, out, events, .. } = self;
        for (&gateway, entry) in entries {
            while let Some(change) = entry.session.poll_change() {
                entry.changed(change, now);
                events.push_back(Event {
                    name: entry.peer.name.clone(),
                    gateway,
                    change,
                    diagnostic: entry.session.diagnostic(),
                });
            }
            let local = entry.peer.local;
            entry.counters.sent += send(&mut entry.session, gateway, local, out);
        }
        for Leaving { session, gateway, local, .. } in leaving {
            send(session, *gateway, *local, out);
        }
    }
}

impl Entry {
    /// RFC 5882 section 4.2: what leaves Up for Down is a failure, unless an administrator of either end wants it.
    fn changed(&mut self, change: Change, now: Instant) {
        self.since = now;
        match (change.from, change.to) {
            (_, State::Up) => {
                self.times_up += 1;
                // Whatever it was, the neighbor has seen it too.
                if self.suspect_until.take().is_some() {
                    self.failures += 1;
                }
                self.health = Health::Alive;
            }
            // RFC 5882 section 3.2: also after a failure, ours has spoken.
            (_, State::AdminDown) => self.excuse(),
            (State::Up, State::Down | State::Init) => match change.remote {
                Some((State::AdminDown, _)) => self.excuse(),
                // It hears nothing of us: of that its restart is no reason.
                Some((_, Diagnostic::DETECTION_TIME_EXPIRED)) => self.suspect_until = Some(now),
                Some((State::Down | State::Init | State::Up, _)) => {
                    self.suspect_until = Some(now + BENEFIT_OF_DOUBT);
                }
                // It may be anything, and packets are lost meanwhile.
                None => self.suspect_until = Some(now),
            },
            (State::AdminDown | State::Down | State::Init, State::Down | State::Init) => {}
        }
        self.judge(now);
    }

    /// RFC 5882 section 4.3: a neighbor whose BFD ends with its control plane falls silent when that restarts, and may
    /// well forward.
    fn judge(&mut self, now: Instant) {
        let Some(until) = self.suspect_until else { return };
        match (self.peer.restart, self.control_plane) {
            (Restart::Graceful, ControlPlane::Shared) => self.excuse(),
            (Restart::Agreed, ControlPlane::Shared) if now < until => {}
            (Restart::None | Restart::Agreed, _) | (Restart::Graceful, ControlPlane::Independent) => {
                self.suspect_until = None;
                self.health = Health::Failed;
                self.failures += 1;
            }
        }
    }

    /// It is no failure, or is none any more.
    fn excuse(&mut self) {
        self.suspect_until = None;
        self.health = Health::Unknown;
    }

    fn standing(&self) -> Standing {
        Standing { health: self.health, failures: self.failures }
    }

    /// When a failed neighbor is believed to do without BFD.
    fn given_up_at(&self) -> Option<Instant> {
        match self.health {
            Health::Failed => Some(self.heard.unwrap_or(self.since).max(self.since) + GIVEN_UP_AFTER),
            Health::Unknown | Health::Alive => None,
        }
    }
}

/// Why a datagram is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// It came from afar (RFC 5881 section 5).
    #[error("TTL {0} is not 255")]
    HopLimit(u8),
    /// It is not a packet that can be accepted.
    #[error("{0}")]
    Malformed(DecodeError),
    /// There is no session that it could belong to.
    #[error("no session")]
    NoSession,
}

fn send(session: &mut Session, gateway: Gateway, local: Option<IpAddr>, out: &mut VecDeque<Transmit>) -> u64 {
    let mut sent = 0;
    while let Some(packet) = session.poll_transmit() {
        let octets = packet.encode();
        out.push_back(Transmit { session: session.discriminator(), gateway, local, octets });
        sent += 1;
    }
    sent
}

#[cfg(test)]
mod tests;
