//! ICMP echo from inside a namespace: once, or as a train that counts what got lost.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::echo::{Answer, EchoSocket, Fragmentation};
use crate::error::{Doing, Error, Result};
use crate::netns::Netns;

/// How long the last echoes of a train are waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Distinguishes the sockets of one process: a raw socket sees every ICMP message of its namespace.
static NEXT_IDENTIFIER: AtomicU16 = AtomicU16::new(1);

/// What to send where.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// Destination.
    pub to: IpAddr,
    /// Source; by default what the kernel's route says.
    pub from: Option<IpAddr>,
    /// Octets after the ICMP header. 1472 fill an IPv4 packet of 1500 octets, 1452 an IPv6 one.
    pub payload: usize,
    /// Whether the packet may be cut.
    pub fragmentation: Fragmentation,
}

/// What became of one echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, after this time.
    Reply(Duration),
    /// A router says that it has no route; or the kernel of the sender does.
    Unreachable,
    /// A router dropped it as its hop limit ran out: it went round in a loop.
    TimeExceeded,
    /// It is larger than a link on its way, and may not be cut.
    TooBig,
    /// Silence: lost, or swallowed by a blackhole route.
    Timeout,
}

/// What became of a train of echo requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// How many were sent.
    pub sent: u32,
    /// Which of them, from 0, were not answered.
    pub lost: Vec<u32>,
    /// The longest time between two answers that came one after the other.
    pub longest_gap: Duration,
    /// How many died of their hop limit.
    pub time_exceeded: u32,
    /// For how many a router said that it has no route.
    pub unreachable: u32,
}

/// A train on its way.
#[derive(Debug)]
pub struct Pinging {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Result<Train>>>,
    netns: String,
}

impl Ping {
    /// A small echo request.
    #[must_use]
    pub fn new(to: impl Into<IpAddr>) -> Self {
        Self { to: to.into(), from: None, payload: 56, fragmentation: Fragmentation::Allowed }
    }

    /// With this source address.
    #[must_use]
    pub fn from(self, from: impl Into<IpAddr>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// A packet of `octets` in all, IP header included, that may not be fragmented.
    #[must_use]
    pub fn whole_packet(self, octets: usize) -> Self {
        let headers = if self.to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        Self { payload: octets.saturating_sub(headers), fragmentation: Fragmentation::Forbidden, ..self }
    }

    /// Sends one and waits for what becomes of it.
    ///
    /// # Errors
    /// The socket cannot be had.
    pub fn once(self, netns: &Netns, limit: Duration) -> Result<Outcome> {
        netns.run(|| {
            let socket = self.socket()?;
            let sent = Instant::now();
            if let Some(answer) = socket.send(self.to, 0, self.payload)? {
                return Ok(outcome(answer, sent));
            }
            while let Some(left) = limit.checked_sub(sent.elapsed()).filter(|left| !left.is_zero()) {
                if let Some((0, answer)) = socket.receive(left)? {
                    return Ok(outcome(answer, sent));
                }
            }
            Ok(Outcome::Timeout)
        })?
    }

    /// Starts a train: one request each `interval` until it is stopped, at most 65,536 of them.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self, netns: &Netns, interval: Duration) -> Result<Pinging> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = netns.spawn(move || run_train(self, interval, &flag))?;
        Ok(Pinging { stop, thread, netns: netns.name().to_owned() })
    }

    fn socket(self) -> Result<EchoSocket> {
        let identifier = NEXT_IDENTIFIER.fetch_add(1, Ordering::Relaxed);
        EchoSocket::open(self.to, self.from, self.fragmentation, identifier)
            .doing(|| format!("open an ICMP socket to {} (this needs root)", self.to))
    }
}

impl Pinging {
    /// Sends no more, waits half a second for the last answers, and counts.
    ///
    /// # Errors
    /// The train could not be sent.
    pub fn stop(self) -> Result<Train> {
        self.stop.store(true, Ordering::Relaxed);
        let netns = self.netns;
        match self.thread.join() {
            Ok(Some(train)) => train,
            Ok(None) => Err(Error::Missing(format!("namespace {netns} could not be entered"))),
            Err(_panic) => Err(Error::Panicked { netns }),
        }
    }
}

fn outcome(answer: Answer, sent: Instant) -> Outcome {
    match answer {
        Answer::Reply => Outcome::Reply(sent.elapsed()),
        Answer::Unreachable => Outcome::Unreachable,
        Answer::TimeExceeded => Outcome::TimeExceeded,
        Answer::TooBig => Outcome::TooBig,
    }
}

/// What is known of a train while it runs.
#[derive(Default)]
struct Tally {
    answered: Vec<bool>,
    last_answer: Option<Instant>,
    longest_gap: Duration,
    time_exceeded: u32,
    unreachable: u32,
}

impl Tally {
    fn note(&mut self, sequence: u16, answer: Answer, now: Instant) {
        match answer {
            Answer::Reply => {
                if let Some(answered) = self.answered.get_mut(usize::from(sequence)) {
                    *answered = true;
                }
                if let Some(last) = self.last_answer {
                    self.longest_gap = self.longest_gap.max(now.duration_since(last));
                }
                self.last_answer = Some(now);
            }
            Answer::TimeExceeded => self.time_exceeded += 1,
            Answer::Unreachable | Answer::TooBig => self.unreachable += 1,
        }
    }

    fn is_complete(&self) -> bool {
        self.answered.iter().all(|answered| *answered)
    }

    fn finish(self) -> Train {
        let sent = u32::try_from(self.answered.len()).unwrap_or(u32::MAX);
        Train {
            sent,
            lost: (0..sent).zip(&self.answered).filter(|(_, a)| !**a).map(|(n, _)| n).collect(),
            longest_gap: self.longest_gap,
            time_exceeded: self.time_exceeded,
            unreachable: self.unreachable,
        }
    }
}

fn run_train(ping: Ping, interval: Duration, stop: &AtomicBool) -> Result<Train> {
    let socket = ping.socket()?;
    let mut tally = Tally::default();
    let mut next = Instant::now();
    for sequence in 0..=u16::MAX {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tally.answered.push(false);
        if let Some(answer) = socket.send(ping.to, sequence, ping.payload)? {
            tally.note(sequence, answer, Instant::now());
        }
        next += interval;
        collect_until(&socket, next, &mut tally)?;
    }
    let end = Instant::now() + GRACE;
    while !tally.is_complete() && Instant::now() < end {
        collect_until(&socket, end.min(Instant::now() + interval), &mut tally)?;
    }
    Ok(tally.finish())
}

fn collect_until(socket: &EchoSocket, deadline: Instant, tally: &mut Tally) -> Result<()> {
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if let Some((sequence, answer)) = socket.receive(left)? {
            tally.note(sequence, answer, Instant::now());
        }
    }
    Ok(())
}
