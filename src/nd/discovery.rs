//! The machine that finds the router at the other end of each uplink and makes itself known to it.
//!
//! In: snapshots of the uplinks, received messages, word that a learned router is dead, and the time. Out:
//! messages to transmit, [`Event`]s, and the next deadline. Obeys RFC 4861 sections 6.1 (validity) and 6.2
//! (routers), and departs from its timing where an uplink is a cable with two routers on it rather than the
//! shared link that the RFC paces itself for:
//!
//! - Solicitations are repeated after 100 ms, then ever more slowly, until a router is heard. RFC 4861 section
//!   6.3.7 waits up to 1 s, then sends three 4 s apart and gives up; a rack that comes back from a power cut
//!   would wait seconds for nothing, and a ToR that boots for minutes would never be asked again.
//! - Each solicitation follows an advertisement. FRR refuses our TCP until it has heard one, so a router that
//!   answers a solicitation is known to have heard us.
//! - Multicast advertisements keep 30 ms apart, the least that RFC 6275 section 7.5 permits, instead of
//!   MIN_DELAY_BETWEEN_RAS, 3 s. FRR itself sends its first four 1 s apart.
//!
//! What was learned does not expire when advertisements stop, and the router lifetime is not examined: FRR
//! does neither, and the BGP session is the better proof of life. It is forgotten when the link goes down,
//! when the interface is made again with another index, and on [`Discovery::forget`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod link;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;

use self::link::{Link, Restarted, Up};
use super::packet::{MacAddress, Message, RouterLifetime};

/// The links on which a router is looked for, by index. Immutable: a change makes a new one.
pub type Uplinks = BTreeMap<InterfaceIndex, Uplink>;

/// One configured uplink, as the kernel has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// For people; the index is what counts.
    pub name: String,
    /// The source of what we send, the first usable one.
    pub link_local: Option<Ipv6Addr>,
    /// Goes into the Source Link-Layer Address option.
    pub mac: Option<MacAddress>,
    /// Up, with carrier.
    pub running: bool,
    /// What we announce.
    pub router_lifetime: RouterLifetime,
}

/// A message as the socket delivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The interface it came in by.
    pub interface: InterfaceIndex,
    /// The sender.
    pub source: Ipv6Addr,
    /// Of the IPv6 header.
    pub hop_limit: u8,
    /// The ICMPv6 message.
    pub octets: &'a [u8],
}

/// A message to send with hop limit 255.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The interface to send it by.
    pub interface: InterfaceIndex,
    /// Our link-local address there.
    pub source: Ipv6Addr,
    /// All nodes, all routers, or the solicitor.
    pub destination: Ipv6Addr,
    /// The ICMPv6 message without its checksum.
    pub octets: Vec<u8>,
}

/// What the rest of the agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A router advertises itself on a link where none was known: it can be dialled, and it has been sent our
    /// advertisement or is about to within 30 ms.
    RouterSeen {
        /// The uplink.
        interface: InterfaceIndex,
        /// Its link-local address.
        router: Ipv6Addr,
    },
    /// Something is wrong with the cabling or the addresses. Told once, until the link goes down or
    /// its router is forgotten.
    Alarm {
        /// The uplink.
        interface: InterfaceIndex,
        /// What is wrong.
        alarm: Alarm,
    },
}

impl Event {
    fn interface(self) -> InterfaceIndex {
        match self {
            Self::RouterSeen { interface, .. } | Self::Alarm { interface, .. } => interface,
        }
    }
}

/// What a person must look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Two routers advertise themselves on one uplink. The first is kept: changing between them would tear the
    /// session down at every advertisement.
    SecondRouter {
        /// The one in use.
        kept: Ipv6Addr,
        /// The one that is not.
        ignored: Ipv6Addr,
    },
    /// Somebody sends from an address that is ours: two nodes share it, or two of our uplinks are joined.
    OwnAddress {
        /// Ours, on this uplink or another.
        address: Ipv6Addr,
    },
}

/// What happened on an uplink since it was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Router Advertisements handed to the socket.
    pub advertisements_sent: u64,
    /// Router Solicitations handed to the socket.
    pub solicitations_sent: u64,
    /// Valid Router Advertisements.
    pub advertisements_received: u64,
    /// Valid Router Solicitations.
    pub solicitations_received: u64,
    /// Messages that were not valid, or came while the uplink was down.
    pub discarded: u64,
    /// Of the messages sent, those that the kernel refused.
    pub send_failures: u64,
}

/// For `bgpctl show interfaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// By index.
    pub uplinks: Vec<UplinkStatus>,
    /// Messages that were ignored because they came from a link that is not an uplink, such as a pod's.
    pub foreign_messages: u64,
}

/// What is known of one uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkStatus {
    /// Its index.
    pub interface: InterfaceIndex,
    /// As last seen.
    pub uplink: Uplink,
    /// The router at the other end, once it is known.
    pub router: Option<RouterStatus>,
    /// Those that stand.
    pub alarms: Vec<Alarm>,
    /// Since the uplink was configured.
    pub counters: Counters,
}

/// A router that was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterStatus {
    /// Link-local.
    pub address: Ipv6Addr,
    /// Time since its first advertisement.
    pub known_for: Duration,
    /// Time since its last advertisement.
    pub last_heard: Duration,
}

/// Router Discovery on all uplinks.
#[derive(Debug)]
pub struct Discovery {
    links: BTreeMap<InterfaceIndex, Link>,
    random: fastrand::Rng,
    transmits: VecDeque<Transmit>,
    /// At most one of each kind for a link: what a link has queued goes when the link starts afresh.
    events: VecDeque<Event>,
    /// [`Status::foreign_messages`]
    foreign: u64,
}

impl Discovery {
    /// No uplink yet. `jitter_seed` makes the timing repeatable.
    #[must_use]
    pub fn new(jitter_seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            random: fastrand::Rng::with_seed(jitter_seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            foreign: 0,
        }
    }

    /// The uplinks as they are now. What was learned on a link that went down or away is forgotten.
    pub fn handle_uplinks(&mut self, now: Instant, uplinks: &Uplinks) {
        let Self { links, transmits, events, .. } = self;
        links.retain(|interface, link| {
            let stays = uplinks.contains_key(interface);
            if !stays {
                // Where the interface itself is gone the kernel refuses it, and nobody needs it.
                transmits.extend(link.farewell());
                events.retain(|event| event.interface() != *interface);
            }
            stays
        });
        for (&interface, uplink) in uplinks {
            let link = links.entry(interface).or_insert_with(|| Link::new(interface, uplink.clone()));
            if link.update(now, uplink) == Restarted::Yes {
                events.retain(|event| event.interface() != interface);
            }
        }
        self.handle_timeout(now);
    }

    /// A message that the socket received.
    pub fn handle_received(&mut self, now: Instant, received: Received<'_>) {
        let source = received.source;
        let is_ours = self.links.values().any(|link| link.uplink.link_local == Some(source));
        // The veth of a pod is a link like any other and its hop limit is 255 too: what is configured decides.
        let Some(link) = self.links.get_mut(&received.interface) else {
            self.foreign = self.foreign.saturating_add(1);
            return;
        };
        let (Some(up), Ok(message)) =
            (&mut link.up, Message::parse(source, received.hop_limit, received.octets))
        else {
            link.counters.discarded = link.counters.discarded.saturating_add(1);
            return;
        };
        if is_ours {
            let alarm = up.own_address_heard(source);
            self.events.extend(alarm.map(|alarm| Event::Alarm { interface: received.interface, alarm }));
            return;
        }
        match message {
            Message::Advertisement(_) => {
                link.counters.advertisements_received =
                    link.counters.advertisements_received.saturating_add(1);
                self.events.extend(up.advertisement_heard(now, received.interface, source));
            }
            Message::Solicitation(_) => {
                link.counters.solicitations_received = link.counters.solicitations_received.saturating_add(1);
                self.transmits.extend(link.answer(now, source));
            }
        }
        self.handle_timeout(now);
    }

    /// The BGP session with `router` on `interface` is over: the next router that advertises itself there is
    /// taken, be it the same or another, and both solicitations and advertisements start quickly again, since a
    /// router that was restarted has forgotten us too. Does nothing when another router, or none, is known.
    pub fn forget(&mut self, now: Instant, interface: InterfaceIndex, router: Ipv6Addr) {
        let Some(link) = self.links.get_mut(&interface) else { return };
        if link.forget(now, router) == Restarted::Yes {
            // An address of ours that somebody else has is still that, and would not be told again.
            self.events.retain(|event| {
                event.interface() != interface
                    || matches!(event, Event::Alarm { alarm: Alarm::OwnAddress { .. }, .. })
            });
        }
        self.handle_timeout(now);
    }

    /// Says goodbye on every uplink where we announced ourselves as a default router (RFC 4861 section 6.2.5).
    /// For a drain, not for a restart: BIRD takes it as the end of the neighbor.
    pub fn handle_leave(&mut self) {
        self.transmits.extend(self.links.values_mut().filter_map(Link::farewell));
        self.links.clear();
        self.events.clear();
    }

    /// The kernel refused what was last sent on `interface`. It is not repeated: the timers do that.
    pub fn handle_send_failure(&mut self, interface: InterfaceIndex) {
        if let Some(link) = self.links.get_mut(&interface) {
            link.counters.send_failures = link.counters.send_failures.saturating_add(1);
        }
    }

    /// Sends what is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Self { links, random, transmits, .. } = self;
        for link in links.values_mut() {
            link.send_due(now, random, transmits);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called. `None` while no uplink is usable.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|link| link.up.as_ref()).map(Up::deadline).min()
    }

    /// The next message to send. To be drained after every input.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Whether [`Self::poll_event`] has one.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event. May wait for its taker: what waits is bounded by the number of uplinks.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Everything, for people.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        Status {
            uplinks: self.links.values().map(|link| link.status(now)).collect(),
            foreign_messages: self.foreign,
        }
    }
}

#[cfg(test)]
mod tests;
