//! One uplink: what is known of its other end, when to send next, and what.
//!
//! The intervals are here; why they are not those of RFC 4861 is told in the parent.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;

use super::{Alarm, Counters, Event, RouterStatus, Transmit, Uplink, UplinkStatus};
use crate::nd::packet::{ALL_NODES, ALL_ROUTERS, Advertisement, RouterLifetime, Solicitation};

/// Until the second solicitation; doubles from one to the next.
const FIRST_SOLICITATION_INTERVAL: Duration = Duration::from_millis(100);
/// RTR_SOLICITATION_INTERVAL (RFC 4861 section 10): how slowly a silent link is asked in the end.
const LAST_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// Advertisements that follow quickly on the one a new router gets at once: it may have heard that one before
/// it was ready for it. Together four, as many as FRR sends.
const QUICK_ADVERTISEMENTS: u8 = 3;
/// Between those.
const QUICK_ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// The most that MaxRtrAdvInterval is (RFC 4861 section 6.2.1). FRR's bgpd asks for the same on unnumbered links.
const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(10);
/// The least.
const SHORTEST_ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two multicast advertisements, and between two answers to solicitors.
pub(super) const ADVERTISEMENT_SPACING: Duration = Duration::from_millis(30);
/// MIN_DELAY_BETWEEN_RAS (RFC 4861 section 10): for multicast answers, whose pace a solicitor would set.
const MULTICAST_ANSWER_SPACING: Duration = Duration::from_secs(3);
/// An interval is cut by up to this share, so that MinRtrAdvInterval is 0.75 * MaxRtrAdvInterval.
const JITTER: f64 = 0.25;

/// Whether what was known on a link is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restarted {
    Yes,
    No,
}

/// One uplink.
#[derive(Debug)]
pub(super) struct Link {
    interface: InterfaceIndex,
    pub(super) uplink: Uplink,
    /// While running with a link-local address.
    pub(super) up: Option<Up>,
    pub(super) counters: Counters,
}

/// An uplink that can send.
#[derive(Debug)]
pub(super) struct Up {
    source: Ipv6Addr,
    router: Router,
    /// The last multicast advertisement.
    advertised: Option<Instant>,
    /// The last advertisement to a solicitor alone.
    answered: Option<Instant>,
    second_router: Option<Alarm>,
    own_address: Option<Alarm>,
}

/// What is known of the other end.
#[derive(Debug, Clone, Copy)]
enum Router {
    /// Asked for, with an advertisement before each solicitation.
    Unknown { next_solicitation: Instant, interval: Duration },
    /// Only advertised to.
    Known {
        address: Ipv6Addr,
        first_heard: Instant,
        last_heard: Instant,
        next_advertisement: Instant,
        quick: u8,
    },
}

impl Link {
    pub(super) fn new(interface: InterfaceIndex, uplink: Uplink) -> Self {
        Self { interface, uplink, up: None, counters: Counters::default() }
    }

    pub(super) fn update(&mut self, now: Instant, uplink: &Uplink) -> Restarted {
        self.uplink.clone_from(uplink);
        let source = uplink.link_local.filter(|_| uplink.running);
        // Under another address we are another neighbor to the router, so that is a start too.
        if self.up.as_ref().map(|up| up.source) == source {
            return Restarted::No;
        }
        self.up = source.map(|source| Up::new(now, source));
        Restarted::Yes
    }

    pub(super) fn forget(&mut self, now: Instant, router: Ipv6Addr) -> Restarted {
        match &mut self.up {
            Some(up) if matches!(up.router, Router::Known { address, .. } if address == router) => {
                up.router = Router::sought(up.not_before(now));
                up.second_router = None;
                Restarted::Yes
            }
            Some(_) | None => Restarted::No,
        }
    }

    pub(super) fn send_due(
        &mut self,
        now: Instant,
        random: &mut fastrand::Rng,
        transmits: &mut VecDeque<Transmit>,
    ) {
        let Some(up) = self.up.as_mut().filter(|up| up.deadline() <= now) else { return };
        let source = up.source;
        up.advertised = Some(now);
        let solicits = match &mut up.router {
            Router::Unknown { next_solicitation, interval } => {
                *next_solicitation = now + jittered(*interval, random);
                *interval = interval.saturating_mul(2).min(LAST_SOLICITATION_INTERVAL);
                true
            }
            Router::Known { next_advertisement, quick, .. } => {
                *next_advertisement = now
                    + match quick.checked_sub(1) {
                        Some(left) => {
                            *quick = left;
                            QUICK_ADVERTISEMENT_INTERVAL
                        }
                        None => jittered(advertisement_interval(self.uplink.router_lifetime), random),
                    };
                false
            }
        };
        // The advertisement first: whoever answers the solicitation has then heard it.
        transmits.push_back(self.advertisement(source, ALL_NODES, self.uplink.router_lifetime));
        if solicits {
            transmits.push_back(self.solicitation(source));
        }
    }

    /// RFC 4861 section 6.2.6 lets a router answer the solicitor alone, and limits the rate of multicast
    /// answers. A unicast answer goes out at once; the random delay that the RFC adds spreads the answers of
    /// several routers, and a cable has one other end. Neither FRR nor BIRD solicits: this is for another
    /// Selvedge, and for a kernel at the other end that still plays host.
    pub(super) fn answer(&mut self, now: Instant, solicitor: Ipv6Addr) -> Option<Transmit> {
        let up = self.up.as_mut()?;
        if !solicitor.is_unicast_link_local() {
            up.advertise_by(up.advertised.map_or(now, |at| now.max(at + MULTICAST_ANSWER_SPACING)));
            return None;
        }
        // A flood of solicitations is not answered with one of advertisements. Who is left out asks again.
        if up.answered.is_some_and(|at| now < at + ADVERTISEMENT_SPACING) {
            return None;
        }
        up.answered = Some(now);
        let source = up.source;
        Some(self.advertisement(source, solicitor, self.uplink.router_lifetime))
    }

    /// The last advertisement, with a lifetime of zero. Says nothing new where all had that, so it is left out.
    pub(super) fn farewell(&mut self) -> Option<Transmit> {
        if self.uplink.router_lifetime == RouterLifetime::ZERO {
            return None;
        }
        let source = self.up.as_ref()?.source;
        Some(self.advertisement(source, ALL_NODES, RouterLifetime::ZERO))
    }

    fn advertisement(
        &mut self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        router_lifetime: RouterLifetime,
    ) -> Transmit {
        self.counters.advertisements_sent = self.counters.advertisements_sent.saturating_add(1);
        let octets = Advertisement { router_lifetime, source_link_layer: self.uplink.mac }.to_octets();
        Transmit { interface: self.interface, source, destination, octets }
    }

    fn solicitation(&mut self, source: Ipv6Addr) -> Transmit {
        self.counters.solicitations_sent = self.counters.solicitations_sent.saturating_add(1);
        let octets = Solicitation { source_link_layer: self.uplink.mac }.to_octets();
        Transmit { interface: self.interface, source, destination: ALL_ROUTERS, octets }
    }

    pub(super) fn status(&self, now: Instant) -> UplinkStatus {
        UplinkStatus {
            interface: self.interface,
            uplink: self.uplink.clone(),
            router: self.up.as_ref().and_then(|up| up.router.status(now)),
            alarms: self.up.iter().flat_map(|up| [up.second_router, up.own_address]).flatten().collect(),
            counters: self.counters,
        }
    }
}

impl Up {
    fn new(now: Instant, source: Ipv6Addr) -> Self {
        Self {
            source,
            router: Router::sought(now),
            advertised: None,
            answered: None,
            second_router: None,
            own_address: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self.router {
            Router::Unknown { next_solicitation, .. } => next_solicitation,
            Router::Known { next_advertisement, .. } => next_advertisement,
        }
    }

    /// The first moment from `now` on at which another multicast advertisement may go out.
    fn not_before(&self, now: Instant) -> Instant {
        self.advertised.map_or(now, |at| now.max(at + ADVERTISEMENT_SPACING))
    }

    /// Brings the next advertisement forward.
    fn advertise_by(&mut self, at: Instant) {
        let next = match &mut self.router {
            Router::Unknown { next_solicitation, .. } => next_solicitation,
            Router::Known { next_advertisement, .. } => next_advertisement,
        };
        *next = at.min(*next);
    }

    pub(super) fn advertisement_heard(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        source: Ipv6Addr,
    ) -> Option<Event> {
        let not_before = self.not_before(now);
        match &mut self.router {
            Router::Unknown { .. } => {
                // It may have come up after all that we sent: it gets an advertisement before we dial.
                self.router = Router::Known {
                    address: source,
                    first_heard: now,
                    last_heard: now,
                    next_advertisement: not_before,
                    quick: QUICK_ADVERTISEMENTS,
                };
                Some(Event::RouterSeen { interface, router: source })
            }
            Router::Known { address, last_heard, .. } if *address == source => {
                *last_heard = now;
                None
            }
            Router::Known { address, .. } => {
                let alarm = Alarm::SecondRouter { kept: *address, ignored: source };
                let is_first = self.second_router.replace(alarm).is_none();
                is_first.then_some(Event::Alarm { interface, alarm })
            }
        }
    }

    pub(super) fn own_address_heard(&mut self, address: Ipv6Addr) -> Option<Alarm> {
        let alarm = Alarm::OwnAddress { address };
        self.own_address.replace(alarm).is_none().then_some(alarm)
    }
}

impl Router {
    fn sought(from: Instant) -> Self {
        Self::Unknown { next_solicitation: from, interval: FIRST_SOLICITATION_INTERVAL }
    }

    fn status(self, now: Instant) -> Option<RouterStatus> {
        match self {
            Self::Unknown { .. } => None,
            Self::Known { address, first_heard, last_heard, .. } => Some(RouterStatus {
                address,
                known_for: now.saturating_duration_since(first_heard),
                last_heard: now.saturating_duration_since(last_heard),
            }),
        }
    }
}

/// A lifetime outlasts three intervals, as AdvDefaultLifetime does by default (RFC 4861 section 6.2.1): BIRD
/// gives a neighbor up when it ends.
fn advertisement_interval(lifetime: RouterLifetime) -> Duration {
    match lifetime {
        RouterLifetime::ZERO => ADVERTISEMENT_INTERVAL,
        lifetime => (Duration::from_secs(lifetime.as_secs().into()) / 3)
            .clamp(SHORTEST_ADVERTISEMENT_INTERVAL, ADVERTISEMENT_INTERVAL),
    }
}

fn jittered(interval: Duration, random: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 - JITTER * random.f64())
}
