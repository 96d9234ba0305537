//! Links, TCP and time between the speakers, and what has to hold of all of them together.
//!
//! A packet takes up to 20 ms; those of one direction of one connection stay in order. What is lost on a cut link
//! breaks its connection: nothing arrives on it any more, and neither end is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::Prefix;
use bgp::policy::Role;
use bgp::session::{Action, ConnectionId, Event, State, Stop};
use bytes::Bytes;

use crate::speaker::{Identity, Speaker, peer_id};

const LONGEST_DELAY: Duration = Duration::from_millis(20);

/// How a link fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends see the carrier go, and stop the session.
    Carrier,
    /// Packets vanish.
    Silent,
}

#[derive(Debug)]
struct Link {
    /// Number of the speaker and of its peer.
    ends: [(usize, usize); 2],
    cut: Option<Cut>,
}

/// One end of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    speaker: usize,
    /// How often the speaker was restarted by then.
    incarnation: u32,
    peer: usize,
    id: ConnectionId,
}

enum Packet {
    Syn(End),
    ToEnd { from: End, to: End, segment: Segment },
}

enum Segment {
    SynAck,
    Data(Bytes),
    Fin,
}

pub(crate) struct Network {
    speakers: Vec<Speaker>,
    incarnations: Vec<u32>,
    links: Vec<Link>,
    /// The other end, as long as this one is open.
    connections: BTreeMap<End, End>,
    last_arrival: BTreeMap<End, Instant>,
    packets: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    now: Instant,
    rng: fastrand::Rng,
    seed: u64,
}

impl Network {
    /// Every host has a link to every ToR. Speakers are numbered hosts first; link `h * tors + t` is that of host
    /// `h` and ToR `t`. All of them start at once.
    pub(crate) fn rack(hosts: usize, tors: usize, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        let links: Vec<_> = (0..hosts * tors)
            .map(|link| Link {
                ends: [(link / tors, link % tors), (hosts + link % tors, link / tors)],
                cut: None,
            })
            .collect();
        let mut network = Self {
            speakers: Vec::new(),
            incarnations: vec![0; hosts + tors],
            links,
            connections: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            packets: BTreeMap::new(),
            sent: 0,
            now,
            rng: fastrand::Rng::with_seed(seed),
            seed,
        };
        for number in 0..hosts + tors {
            let role = if number < hosts { Role::Host } else { Role::Transit };
            let octet = u8::try_from(number + 1).unwrap();
            let originates = format!("10.{octet}.0.0/26").parse().unwrap();
            network.speakers.push(Speaker::new(Identity { role, number: octet, originates }, &[], 0));
        }
        for speaker in 0..hosts + tors {
            network.boot(speaker);
        }
        network
    }

    pub(crate) fn random_time(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.f64())
    }

    pub(crate) fn random_fault(&mut self) {
        let link = self.rng.usize(..self.links.len());
        match self.rng.u8(..8) {
            0..3 => self.cut(link, Cut::Carrier),
            3..5 => self.cut(link, Cut::Silent),
            5..7 => self.restore(link),
            _ => {
                let speaker = self.rng.usize(..self.speakers.len());
                self.restart(speaker);
            }
        }
    }

    pub(crate) fn cut(&mut self, link: usize, cut: Cut) {
        if self.links[link].cut.is_none() {
            self.links[link].cut = Some(cut);
            if cut == Cut::Carrier {
                self.at_both_ends(link, || Event::Stop(Stop::Silent));
            }
        }
    }

    /// The carrier goes, and the speaker at the other end is not there to see it.
    pub(crate) fn cut_at(&mut self, speaker: usize, peer: usize) {
        self.handle(speaker, peer, Event::Stop(Stop::Silent));
    }

    pub(crate) fn restore(&mut self, link: usize) {
        if self.links[link].cut.take() == Some(Cut::Carrier) {
            self.at_both_ends(link, || Event::Start);
        }
    }

    pub(crate) fn restore_all(&mut self) {
        for link in 0..self.links.len() {
            self.restore(link);
        }
    }

    fn at_both_ends(&mut self, link: usize, event: impl Fn() -> Event) {
        for (speaker, peer) in self.links[link].ends {
            self.handle(speaker, peer, event());
        }
    }

    /// The process dies and starts again; its kernel closes what it left open.
    pub(crate) fn restart(&mut self, speaker: usize) {
        self.stop(speaker);
        self.boot(speaker);
    }

    /// The process dies, and its kernel does not answer for it.
    pub(crate) fn stop(&mut self, speaker: usize) {
        let left_open: Vec<_> =
            self.connections.keys().copied().filter(|end| end.speaker == speaker).collect();
        for end in left_open {
            self.send_from(end, Segment::Fin);
            self.connections.remove(&end);
        }
        self.incarnations[speaker] += 1;
        let identity = self.speakers[speaker].identity.clone();
        self.speakers[speaker] = Speaker::new(identity, &[], 0);
    }

    pub(crate) fn boot(&mut self, speaker: usize) {
        let mut neighbors = Vec::new();
        for (number, link) in self.links.iter().enumerate() {
            let [first, second] = link.ends;
            for (own, other) in [(first, second), (second, first)] {
                if own.0 == speaker {
                    neighbors.push((number, self.speakers[other.0].identity.address(number)));
                }
            }
        }
        let identity = self.speakers[speaker].identity.clone();
        let seed = self.seed + 1000 * u64::from(self.incarnations[speaker]) + u64::try_from(speaker).unwrap();
        self.speakers[speaker] = Speaker::new(identity, &neighbors, seed);
        for (peer, (link, _)) in neighbors.into_iter().enumerate() {
            if self.links[link].cut != Some(Cut::Carrier) {
                self.handle(speaker, peer, Event::Start);
            }
        }
    }

    /// Runs packets and deadlines in the order of their times.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.packets.first_key_value().map(|(&(at, _), _)| at);
            let deadline = self.next_deadline();
            let next = packet.into_iter().chain(deadline.map(|(at, ..)| at)).min();
            let Some(next) = next.filter(|&at| at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            match deadline {
                Some((at, speaker, peer)) if packet.is_none_or(|packet| at < packet) => {
                    self.handle(speaker, peer, Event::Deadline { input_pending: false });
                }
                _ => {
                    if let Some((_, packet)) = self.packets.pop_first() {
                        self.deliver(packet);
                    }
                }
            }
        }
        self.now = end;
    }

    fn next_deadline(&self) -> Option<(Instant, usize, usize)> {
        let peers = self.speakers.iter().enumerate().flat_map(|(number, speaker)| {
            speaker.peers.iter().enumerate().map(move |(peer, state)| (number, peer, state))
        });
        peers.filter_map(|(speaker, peer, state)| Some((state.session.poll_deadline()?, speaker, peer))).min()
    }

    fn handle(&mut self, speaker: usize, peer: usize, event: Event) {
        let for_tcp = self.speakers[speaker].handle(peer, event, self.now);
        self.perform(speaker, peer, for_tcp);
        for (peer, for_tcp) in self.speakers[speaker].settle(self.now) {
            self.perform(speaker, peer, for_tcp);
        }
        self.speakers[speaker].assert_routes_have_sources();
    }

    fn perform(&mut self, speaker: usize, peer: usize, actions: Vec<Action>) {
        for action in actions {
            let end = |id| End { speaker, incarnation: self.incarnations[speaker], peer, id };
            match action {
                Action::Connect(id) => self.send(end(id), Packet::Syn(end(id))),
                Action::Transmit(id, bytes) => {
                    let length = bytes.len();
                    self.send_from(end(id), Segment::Data(bytes));
                    self.speakers[speaker].peers[peer].session.handle(Event::Written(id, length), self.now);
                }
                Action::Close(id) => {
                    let end = end(id);
                    self.send_from(end, Segment::Fin);
                    self.connections.remove(&end);
                }
                Action::Up(..)
                | Action::Update(_)
                | Action::Refresh(_)
                | Action::Down { .. }
                | Action::Forget => {
                    unreachable!("the speaker keeps these")
                }
            }
        }
    }

    fn link_of(&self, end: End) -> &Link {
        let is_end = |link: &&Link| link.ends.contains(&(end.speaker, end.peer));
        self.links.iter().find(is_end).expect("every peer has a link")
    }

    /// To the other end of an open connection.
    fn send_from(&mut self, from: End, segment: Segment) {
        if let Some(&to) = self.connections.get(&from) {
            self.send(to, Packet::ToEnd { from, to, segment });
        }
    }

    /// Arrives after what was sent to the same end before.
    fn send(&mut self, to: End, packet: Packet) {
        let delay = self.random_time(LONGEST_DELAY);
        let earliest = self.last_arrival.get(&to).copied().unwrap_or(self.now);
        let at = (self.now + delay).max(earliest);
        self.last_arrival.insert(to, at);
        self.sent += 1;
        self.packets.insert((at, self.sent), packet);
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Syn(from) => self.deliver_syn(from),
            Packet::ToEnd { from, to, .. } if self.link_of(to).cut.is_some() => {
                // The stream has a hole now.
                self.connections.remove(&from);
                self.connections.remove(&to);
            }
            Packet::ToEnd { to, segment, .. } if self.connections.contains_key(&to) => {
                let event = match segment {
                    Segment::SynAck => Event::Connected(to.id),
                    Segment::Data(bytes) => Event::Received(to.id, bytes),
                    Segment::Fin => {
                        self.connections.remove(&to);
                        Event::Closed(to.id)
                    }
                };
                self.handle(to.speaker, to.peer, event);
            }
            // Nobody is there: a reset tells the sender.
            Packet::ToEnd { from, to, segment: Segment::SynAck | Segment::Data(_) } => {
                self.send(from, Packet::ToEnd { from: to, to: from, segment: Segment::Fin });
            }
            Packet::ToEnd { segment: Segment::Fin, .. } => {}
        }
    }

    fn deliver_syn(&mut self, from: End) {
        let link = self.link_of(from);
        if link.cut.is_some() || from.incarnation != self.incarnations[from.speaker] {
            return;
        }
        let [first, second] = link.ends;
        let (speaker, peer) = if first == (from.speaker, from.peer) { second } else { first };
        let Some(neighbor) = self.speakers[speaker].peers.get_mut(peer) else {
            return;
        };
        let id = neighbor.session.next_connection();
        let to = End { speaker, incarnation: self.incarnations[speaker], peer, id };
        self.connections.insert(from, to);
        self.connections.insert(to, from);
        self.send_from(to, Segment::SynAck);
        self.handle(speaker, peer, Event::Accepted(id));
    }

    /// Nothing is left to do: sessions are up on every link that is, both sides of each agree on the routes, and
    /// all FIBs are what the topology says.
    pub(crate) fn assert_at_rest(&self) {
        for link in &self.links {
            let [first, second] = link.ends;
            for (from, to) in [(first, second), (second, first)] {
                let sender = &self.speakers[from.0];
                let receiver = &self.speakers[to.0].peers[to.1];
                let up = receiver.session.state() == State::Established;
                assert_eq!(up, link.cut.is_none(), "seed {}: {link:?} {:?}", self.seed, receiver.session);
                if let Some(held) = &receiver.held {
                    let page = sender.rib.advertised(peer_id(from.1), None, usize::MAX);
                    let advertised: BTreeMap<_, _> = page
                        .items
                        .into_iter()
                        .map(|view| (view.prefix, (*view.attributes).clone()))
                        .collect();
                    assert_eq!(&advertised, held, "seed {}: {from:?} to {to:?}", self.seed);
                }
            }
        }
        for number in 0..self.speakers.len() {
            assert_eq!(self.fib(number), self.expected_fib(number), "seed {}: FIB of {number}", self.seed);
        }
    }

    /// How often the FIB of a speaker was written to.
    pub(crate) fn fib_changes(&self, speaker: usize) -> usize {
        self.speakers[speaker].fib_changes
    }

    pub(crate) fn fib(&self, speaker: usize) -> BTreeMap<Prefix, BTreeSet<IpAddr>> {
        let addresses =
            |gateways: &bgp::rib::Gateways| gateways.iter().map(|gateway| gateway.address).collect();
        let fib = &self.speakers[speaker].fib;
        fib.iter().map(|(prefix, gateways)| (*prefix, addresses(gateways))).collect()
    }

    /// A neighbor's prefix is reached directly, another host's by every ToR that both have a link to; nothing is
    /// ever reached through a host.
    fn expected_fib(&self, speaker: usize) -> BTreeMap<Prefix, BTreeSet<IpAddr>> {
        let mut fib: BTreeMap<Prefix, BTreeSet<IpAddr>> = BTreeMap::new();
        for (neighbor, address) in self.neighbors(speaker) {
            let direct = &self.speakers[neighbor].identity;
            fib.entry(direct.originates).or_default().insert(address);
            if direct.role == Role::Transit {
                for (behind, _) in
                    self.neighbors(neighbor).into_iter().filter(|&(behind, _)| behind != speaker)
                {
                    fib.entry(self.speakers[behind].identity.originates).or_default().insert(address);
                }
            }
        }
        fib
    }

    /// Over links that are up: the speaker at the other end, and its address there.
    fn neighbors(&self, speaker: usize) -> Vec<(usize, IpAddr)> {
        let up = self.links.iter().enumerate().filter(|(_, link)| link.cut.is_none());
        up.flat_map(|(number, link)| {
            let [first, second] = link.ends;
            [(first, second), (second, first)].map(|(own, other)| (number, own, other))
        })
        .filter(|&(_, own, _)| own.0 == speaker)
        .map(|(number, _, other)| (other.0, self.speakers[other.0].identity.address(number).into()))
        .collect()
    }
}
