//! One BFD session: asynchronous mode, active role (RFC 5880 section 6.8).
//!
//! In: packets for this session, parameters, the time. Out: packets to send, the next deadline, changes of state.
//! No clock, no socket. What a change means to others is for `sessions`.
//!
//! A packet is sent at once where it says something that the one before did not (RFC 5880 section 6.8.7), so that the
//! other end learns of a change without waiting for an interval that may be a second.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use super::packet::{ControlPacket, Diagnostic, Discriminator, State};

/// RFC 5880 section 6.8.3: what is sent at least apart while the session is not Up.
pub const SLOW: Duration = Duration::from_secs(1);

/// Whether a session is to come up at all (RFC 5880 section 6.8.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Administration {
    /// As the path allows.
    #[default]
    Enabled,
    /// Held down, which is no failure to the other end.
    Disabled,
}

/// What we want of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The least interval that we send at, and that we receive at.
    pub interval: Duration,
    /// Intervals of our silence that are a failure to the other end.
    pub multiplier: NonZeroU8,
}

/// The other end, as its last packet describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    packet: ControlPacket,
    heard: Instant,
}

/// Whether the other end is being asked to confirm what we announce (RFC 5880 section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// P is set in all that is sent, until F comes.
    Asking {
        about: Question,
    },
    /// F has come, and another one may be on its way, for a packet that was sent meanwhile. RFC 5880 section 6.8.3, the
    /// third choice: nothing else is asked before a packet without F.
    Settling {
        next: Next,
    },
}

/// What a Final that comes now is an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Present,
    /// What was announced when the asking began has changed since: perhaps to that.
    Past,
}

/// What follows a poll that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    /// What was announced has changed since.
    Another,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// The other end's state and why it has it, where that is the reason.
    pub remote: Option<(State, Diagnostic)>,
}

/// The timers of a session as they are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// What we send at, before jitter; `None` where the other end wants no packets.
    pub transmit: Option<Duration>,
    /// Silence of the other end that is a failure; `None` until it was heard.
    pub detection: Option<Duration>,
}

/// The machine.
#[derive(Debug)]
pub struct Session {
    parameters: Parameters,
    discriminator: Discriminator,
    state: State,
    diagnostic: Diagnostic,
    remote: Option<Remote>,
    /// bfd.DesiredMinTxInterval: what we announce.
    desired_min_tx: Duration,
    /// What we do, which follows it later when it grows.
    transmit_in_force: Duration,
    /// What we expect, which follows bfd.RequiredMinRxInterval later when that shrinks.
    receive_in_force: Duration,
    poll: Poll,
    /// The last packet of the periodic ones.
    transmitted: Option<Instant>,
    transmit_at: Option<Instant>,
    /// What the other end was told last.
    told: Option<ControlPacket>,
    out: VecDeque<ControlPacket>,
    changes: VecDeque<Change>,
    jitter: fastrand::Rng,
}

impl Session {
    /// Down or held down, and about to send its first packet.
    #[must_use]
    pub fn new(
        discriminator: Discriminator,
        parameters: Parameters,
        administration: Administration,
        seed: u64,
        now: Instant,
    ) -> Self {
        let slow = parameters.interval.max(SLOW);
        let (state, diagnostic) = match administration {
            Administration::Enabled => (State::Down, Diagnostic::NONE),
            Administration::Disabled => (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        };
        let mut session = Self {
            parameters,
            discriminator,
            state,
            diagnostic,
            remote: None,
            desired_min_tx: slow,
            transmit_in_force: slow,
            receive_in_force: parameters.interval,
            poll: Poll::Idle,
            transmitted: None,
            transmit_at: None,
            told: None,
            out: VecDeque::new(),
            changes: VecDeque::new(),
            jitter: fastrand::Rng::with_seed(seed),
        };
        session.say_news(now);
        session
    }

    /// Our number for it.
    #[must_use]
    pub fn discriminator(&self) -> Discriminator {
        self.discriminator
    }

    /// bfd.SessionState
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// bfd.LocalDiag
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the other end said last; `None` where it has not been heard for a Detection Time.
    #[must_use]
    pub fn remote(&self) -> Option<&ControlPacket> {
        self.remote.as_ref().map(|remote| &remote.packet)
    }

    /// The timers in force.
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        Intervals {
            transmit: self.transmit_interval(),
            detection: self.remote().map(|packet| self.detection_time(packet)),
        }
    }

    /// Other parameters, without an end of the session. Announced at once; in force as RFC 5880 section 6.8.3 has it.
    pub fn configure(&mut self, parameters: Parameters, now: Instant) {
        if self.parameters == parameters {
            return;
        }
        self.parameters = parameters;
        self.set_timers(now);
        if self.expires().is_some_and(|at| at <= now) {
            self.expire(now);
        }
        self.say_news(now);
    }

    /// RFC 5880 section 6.8.16. Held down, it goes on saying so: the other end keeps the session, and learns of its
    /// return at once.
    pub fn administer(&mut self, administration: Administration, now: Instant) {
        let (state, diagnostic) = match (administration, self.state) {
            (Administration::Disabled, State::Down | State::Init | State::Up) => {
                (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN)
            }
            (Administration::Enabled, State::AdminDown) => (State::Down, Diagnostic::NONE),
            (Administration::Disabled, State::AdminDown)
            | (Administration::Enabled, State::Down | State::Init | State::Up) => return,
        };
        self.diagnostic = diagnostic;
        self.enter(state, None);
        self.set_timers(now);
        // As after other parameters: a poll that is over with the state may have held back a shorter time.
        if self.expires().is_some_and(|at| at <= now) {
            self.expire(now);
        }
        self.say_news(now);
    }

    /// A packet of the other end that was found to be for this session: the part of RFC 5880 section 6.8.6 that
    /// follows the choice of the session, in its order.
    pub fn handle_packet(&mut self, packet: &ControlPacket, now: Instant) {
        self.remote = Some(Remote { packet: *packet, heard: now });
        self.follow_poll(packet.answers_poll);
        self.reschedule(now);
        // What is held down takes note of the other end, and neither follows its state nor answers.
        if self.state == State::AdminDown {
            return self.say_news(now);
        }
        let (to, diagnostic) = next_state(self.state, packet.state);
        if to != self.state {
            self.diagnostic = diagnostic;
            self.enter(to, Some((packet.state, packet.diagnostic)));
            self.set_timers(now);
        }
        if packet.poll {
            // RFC 5880 section 6.8.7: without regard to the transmission timer. P is clear in it.
            let answer = ControlPacket { poll: false, answers_poll: true, ..self.packet() };
            self.tell(answer);
        }
        self.say_news(now);
    }

    /// The time has come that [`Self::poll_timeout`] gave.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.expires().is_some_and(|at| at <= now) {
            self.expire(now);
        }
        if self.transmit_at.is_some_and(|at| at <= now) {
            self.tell(self.packet());
            self.transmitted = Some(now);
            self.transmit_at = None;
        }
        self.reschedule(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.expires(), self.transmit_at].into_iter().flatten().min()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<ControlPacket> {
        self.out.pop_front()
    }

    /// The next change of state.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// When the other end is taken for gone if it stays silent. RFC 5880 section 6.8.3: other intervals count at once,
    /// from its last packet on.
    fn expires(&self) -> Option<Instant> {
        self.remote.map(|remote| remote.heard + self.detection_time(&remote.packet))
    }

    /// RFC 5880 section 6.8.4: the Detection Time has passed in silence.
    fn expire(&mut self, now: Instant) {
        // RFC 5880 section 6.8.1: bfd.RemoteDiscr, whatever the state; section 6.8.18: bfd.RemoteMinRxInterval, so that an
        // end that wanted no packets is looked for again. There is nobody left to answer a poll.
        self.remote = None;
        self.poll = Poll::Idle;
        match self.state {
            State::Init | State::Up => {
                self.diagnostic = Diagnostic::DETECTION_TIME_EXPIRED;
                self.enter(State::Down, None);
                self.set_timers(now);
            }
            State::AdminDown | State::Down => {}
        }
        self.say_news(now);
    }

    fn enter(&mut self, state: State, remote: Option<(State, Diagnostic)>) {
        let from = std::mem::replace(&mut self.state, state);
        if from != state {
            self.changes.push_back(Change { from, to: state, remote });
        }
    }

    /// RFC 5880 section 6.8.3: timers follow the parameters and the state, and the other end is asked to confirm what
    /// changes. While Up we neither send more slowly nor expect more until it has done so; before, it has nothing to lose.
    fn set_timers(&mut self, now: Instant) {
        self.desired_min_tx = match self.state {
            State::Up => self.parameters.interval,
            State::AdminDown | State::Down | State::Init => self.parameters.interval.max(SLOW),
        };
        let timers = (self.desired_min_tx, self.parameters.interval);
        let is_news = |told: &ControlPacket| {
            // RFC 5880 section 6.6: of an end that we are silent to, so that no later packet repeats it.
            let is_missed = self.is_on_demand() && told.multiplier != self.parameters.multiplier;
            (told.desired_min_tx, told.required_min_rx) != timers || is_missed
        };
        if self.told.as_ref().is_some_and(is_news) {
            self.ask();
        }
        match (self.state, self.poll) {
            (State::Up, Poll::Asking { .. } | Poll::Settling { next: Next::Another }) => {
                self.transmit_in_force = self.transmit_in_force.min(self.desired_min_tx);
                self.receive_in_force = self.receive_in_force.max(self.parameters.interval);
            }
            (State::Up, Poll::Idle | Poll::Settling { next: Next::Nothing })
            | (State::AdminDown | State::Down | State::Init, _) => self.timers_confirmed(),
        }
        self.reschedule(now);
    }

    /// Begins a poll, now or when the one before is over. Where nobody is known at the other end there is none:
    /// whoever comes hears of no change.
    fn ask(&mut self) {
        if self.remote.is_none() {
            return;
        }
        self.poll = match self.poll {
            Poll::Idle => Poll::Asking { about: Question::Present },
            Poll::Asking { .. } => Poll::Asking { about: Question::Past },
            Poll::Settling { .. } => Poll::Settling { next: Next::Another },
        };
    }

    /// A packet came in, with F or without.
    fn follow_poll(&mut self, is_final: bool) {
        self.poll = match (self.poll, is_final) {
            (Poll::Asking { about: Question::Present }, true) => {
                self.timers_confirmed();
                Poll::Settling { next: Next::Nothing }
            }
            (Poll::Asking { about: Question::Past }, true) => Poll::Settling { next: Next::Another },
            (Poll::Settling { next: Next::Nothing }, false) => Poll::Idle,
            (Poll::Settling { next: Next::Another }, false) => Poll::Asking { about: Question::Present },
            (poll @ Poll::Asking { .. }, false)
            | (poll @ Poll::Settling { .. }, true)
            | (poll @ Poll::Idle, _) => poll,
        };
    }

    fn is_asking(&self) -> bool {
        match self.poll {
            Poll::Asking { .. } => true,
            Poll::Idle | Poll::Settling { .. } => false,
        }
    }

    fn timers_confirmed(&mut self) {
        self.transmit_in_force = self.desired_min_tx;
        self.receive_in_force = self.parameters.interval;
    }

    /// RFC 5880 section 6.8.4, for asynchronous mode.
    fn detection_time(&self, packet: &ControlPacket) -> Duration {
        self.receive_in_force.max(packet.desired_min_tx) * u32::from(packet.multiplier.get())
    }

    /// RFC 5880 section 6.8.7: the greater of what we want and what the other end can take, unless it wants nothing.
    fn transmit_interval(&self) -> Option<Duration> {
        let Some(packet) = self.remote() else { return Some(self.transmit_in_force) };
        if packet.required_min_rx.is_zero() || (self.is_on_demand() && !self.is_asking()) {
            return None;
        }
        Some(self.transmit_in_force.max(packet.required_min_rx))
    }

    /// RFC 5880 section 6.8.6: demand mode is active at the other end.
    fn is_on_demand(&self) -> bool {
        self.remote()
            .is_some_and(|packet| packet.demand && self.state == State::Up && packet.state == State::Up)
    }

    /// The next periodic packet, counted from the last one.
    fn reschedule(&mut self, now: Instant) {
        let Some(interval) = self.transmit_interval() else {
            self.transmit_at = None;
            return;
        };
        let Some(transmitted) = self.transmitted else {
            self.transmit_at = Some(now);
            return;
        };
        // Drawn once for each packet: a draw for each reason to look would find the shortest of many.
        let is_kept = self.transmit_at.is_some_and(|at| {
            let pause = at.saturating_duration_since(transmitted);
            let longest = interval.mul_f64(1.0 - smallest_cut(self.parameters.multiplier));
            (interval.mul_f64(1.0 - LARGEST_CUT)..=longest).contains(&pause)
        });
        if !is_kept {
            let pause = jittered(interval, self.parameters.multiplier, &mut self.jitter);
            self.transmit_at = Some((transmitted + pause).max(now));
        }
    }

    /// Sends a packet at once where the last one says something else. It takes the place of a periodic one.
    fn say_news(&mut self, now: Instant) {
        let packet = self.packet();
        let without_poll =
            |packet: ControlPacket| ControlPacket { poll: false, answers_poll: false, ..packet };
        if self.told.map(without_poll) != Some(without_poll(packet)) {
            self.tell(packet);
            self.transmitted = Some(now);
            self.transmit_at = None;
        }
        self.reschedule(now);
    }

    fn tell(&mut self, packet: ControlPacket) {
        self.told = Some(packet);
        self.out.push_back(packet);
    }

    /// RFC 5880 section 6.8.7: the contents of a packet that is sent now.
    fn packet(&self) -> ControlPacket {
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.is_asking(),
            answers_poll: false,
            // This process is the control plane.
            control_plane_independent: false,
            demand: false,
            multiplier: self.parameters.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote().map(|packet| packet.my_discriminator),
            desired_min_tx: self.desired_min_tx,
            required_min_rx: self.parameters.interval,
        }
    }
}

/// RFC 5880 section 6.8.6, the state machine of section 6.2: what the other end's state makes of ours, and why.
fn next_state(local: State, remote: State) -> (State, Diagnostic) {
    match (local, remote) {
        (State::AdminDown, _) => (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (State::Down, State::Down) => (State::Init, Diagnostic::NONE),
        (State::Down, State::Init) | (State::Init, State::Init | State::Up) => (State::Up, Diagnostic::NONE),
        (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
            (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN)
        }
        (State::Down, State::AdminDown | State::Up)
        | (State::Init, State::Down)
        | (State::Up, State::Init | State::Up) => (local, Diagnostic::NONE),
    }
}

/// RFC 5880 section 6.8.7: the parts of an interval that jitter takes off it.
const LARGEST_CUT: f64 = 0.25;
/// With a multiplier of 1 every packet counts, and has to be there before the interval ends.
const SMALLEST_CUT_OF_ONE: f64 = 0.10;

fn smallest_cut(multiplier: NonZeroU8) -> f64 {
    if multiplier == NonZeroU8::MIN { SMALLEST_CUT_OF_ONE } else { 0.0 }
}

fn jittered(interval: Duration, multiplier: NonZeroU8, random: &mut fastrand::Rng) -> Duration {
    let smallest = smallest_cut(multiplier);
    interval.mul_f64(1.0 - smallest - random.f64() * (LARGEST_CUT - smallest))
}

#[cfg(test)]
mod tests;
