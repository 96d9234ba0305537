//! The machine in virtual time: `t` counts from an arbitrary start.

use proptest::prelude::*;

use super::link::ADVERTISEMENT_SPACING;
use super::*;
use crate::nd::packet::{ALL_NODES, ALL_ROUTERS, Advertisement, HOP_LIMIT, Solicitation};

const ETH0: InterfaceIndex = InterfaceIndex(3);
const ETH1: InterfaceIndex = InterfaceIndex(4);
const POD: InterfaceIndex = InterfaceIndex(9);
const US: Ipv6Addr = link_local(1);
const US_TOO: Ipv6Addr = link_local(2);
const TOR: Ipv6Addr = link_local(0x11);
const OTHER_TOR: Ipv6Addr = link_local(0x22);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

const fn link_local(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn uplink(link_local: Ipv6Addr) -> Uplink {
    Uplink {
        name: "eth".to_owned(),
        link_local: Some(link_local),
        mac: Some(MAC),
        running: true,
        router_lifetime: RouterLifetime::ZERO,
    }
}

fn eth0() -> Uplinks {
    Uplinks::from([(ETH0, uplink(US))])
}

/// What went out, short enough to compare by eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Advertisement to all nodes.
    Ra,
    /// Advertisement to one solicitor.
    RaTo(Ipv6Addr),
    /// Solicitation to all routers.
    Rs,
    /// Advertisement to all nodes with a lifetime.
    RaFor(u16),
}

/// The machine, its clock, and all that it ever sent and told.
struct Bench {
    machine: Discovery,
    start: Instant,
    t: Duration,
    sent: Vec<(Duration, InterfaceIndex, Sent)>,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    fn new() -> Self {
        Self { machine: Discovery::new(4861), start: Instant::now(), t: Duration::ZERO, sent: Vec::new() }
    }

    fn up() -> Self {
        let mut bench = Self::new();
        bench.uplinks(&eth0());
        bench
    }

    /// Up, with TOR learned, its event taken and all that was sent forgotten.
    fn learned() -> Self {
        let mut bench = Self::up();
        bench.hear(ETH0, TOR);
        assert_eq!(bench.events(), [seen(ETH0, TOR)]);
        bench.sent.clear();
        bench
    }

    fn now(&self) -> Instant {
        self.start + self.t
    }

    fn uplinks(&mut self, uplinks: &Uplinks) {
        self.machine.handle_uplinks(self.now(), uplinks);
        self.drain();
    }

    fn receive(&mut self, interface: InterfaceIndex, source: Ipv6Addr, hop_limit: u8, octets: &[u8]) {
        self.machine.handle_received(self.now(), Received { interface, source, hop_limit, octets });
        self.drain();
    }

    fn hear(&mut self, interface: InterfaceIndex, source: Ipv6Addr) {
        self.receive(interface, source, HOP_LIMIT, &advertisement());
    }

    fn solicit(&mut self, source: Ipv6Addr) {
        let octets = Solicitation { source_link_layer: None }.to_octets();
        self.receive(ETH0, source, HOP_LIMIT, &octets);
    }

    fn forget(&mut self, router: Ipv6Addr) {
        self.machine.forget(self.now(), ETH0, router);
        self.drain();
    }

    /// Runs the machine's own deadlines up to and including `t`.
    fn run_until(&mut self, t: Duration) {
        while let Some(deadline) = self.machine.poll_timeout().map(|at| at - self.start) {
            if deadline > t {
                break;
            }
            assert!(deadline > self.t, "the deadline moves on at {:?}", self.t);
            self.t = deadline;
            self.machine.handle_timeout(self.now());
            self.drain();
        }
        self.t = t;
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let message =
                Message::parse(transmit.source, HOP_LIMIT, &transmit.octets).expect("what we send is valid");
            let sent = match (message, transmit.destination) {
                (Message::Solicitation(_), ALL_ROUTERS) => Sent::Rs,
                (Message::Advertisement(Advertisement { router_lifetime, .. }), ALL_NODES) => {
                    match router_lifetime.as_secs() {
                        0 => Sent::Ra,
                        lifetime => Sent::RaFor(lifetime),
                    }
                }
                (Message::Advertisement(_), solicitor) => Sent::RaTo(solicitor),
                other => panic!("sent {other:?}"),
            };
            self.sent.push((self.t, transmit.interface, sent));
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    fn times(&self, sent: Sent) -> Vec<Duration> {
        self.sent.iter().filter(|(_, _, what)| *what == sent).map(|(t, ..)| *t).collect()
    }

    fn kinds(&self) -> Vec<Sent> {
        self.sent.iter().map(|(_, _, sent)| *sent).collect()
    }

    fn status(&self, interface: InterfaceIndex) -> UplinkStatus {
        self.machine
            .status(self.now())
            .uplinks
            .into_iter()
            .find(|status| status.interface == interface)
            .unwrap()
    }
}

fn advertisement() -> Vec<u8> {
    Advertisement { router_lifetime: RouterLifetime::ZERO, source_link_layer: None }.to_octets()
}

fn seen(interface: InterfaceIndex, router: Ipv6Addr) -> Event {
    Event::RouterSeen { interface, router }
}

#[test]
fn a_usable_uplink_advertises_and_solicits_at_once() {
    let mut bench = Bench::new();
    bench.machine.handle_uplinks(bench.now(), &eth0());
    let first = bench.machine.poll_transmit().unwrap();
    let advertisement = Advertisement { router_lifetime: RouterLifetime::ZERO, source_link_layer: Some(MAC) };
    assert_eq!(
        first,
        Transmit { interface: ETH0, source: US, destination: ALL_NODES, octets: advertisement.to_octets() }
    );
    let second = bench.machine.poll_transmit().unwrap();
    let solicitation = Solicitation { source_link_layer: Some(MAC) };
    assert_eq!(
        second,
        Transmit { interface: ETH0, source: US, destination: ALL_ROUTERS, octets: solicitation.to_octets() }
    );
    assert_eq!(bench.machine.poll_transmit(), None);
}

#[test]
fn an_unusable_uplink_is_silent() {
    let mut bench = Bench::new();
    let without_address = Uplink { link_local: None, ..uplink(US) };
    let without_carrier = Uplink { running: false, ..uplink(US_TOO) };
    bench.uplinks(&Uplinks::from([(ETH0, without_address), (ETH1, without_carrier)]));
    bench.hear(ETH0, TOR);
    assert_eq!(bench.kinds(), []);
    assert_eq!(bench.events(), []);
    assert_eq!(bench.machine.poll_timeout(), None);
    assert_eq!(bench.status(ETH0).counters.discarded, 1);
}

#[test]
fn solicitations_are_repeated_for_ever_and_ever_more_slowly() {
    let mut bench = Bench::up();
    bench.run_until(Duration::from_secs(600));
    let solicited = bench.times(Sent::Rs);
    let mut expected = 100;
    for pair in solicited.windows(2) {
        let (gap, whole) = (pair[1] - pair[0], ms(expected));
        assert!(gap > whole.mul_f64(0.75) && gap <= whole, "{gap:?} where {whole:?} was due");
        expected = (expected * 2).min(4000);
    }
    assert!(solicited.len() > 600 / 4, "{}", solicited.len());
    assert_eq!(solicited, bench.times(Sent::Ra), "an advertisement goes with each");
}

#[test]
fn a_learned_router_gets_four_quick_advertisements_then_one_every_ten_seconds() {
    let mut bench = Bench::up();
    bench.run_until(ms(10));
    bench.hear(ETH0, TOR);
    bench.run_until(Duration::from_secs(120));
    assert_eq!(bench.events(), [seen(ETH0, TOR)]);
    assert_eq!(bench.times(Sent::Rs), [ms(0)], "nothing is asked any more");
    let advertised = bench.times(Sent::Ra);
    // 30 ms behind the first.
    assert_eq!(advertised[..5], [ms(0), ms(30), ms(1030), ms(2030), ms(3030)]);
    let gaps: Vec<_> = advertised[4..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 11 && gaps.iter().all(|gap| *gap > ms(7500) && *gap <= ms(10_000)), "{gaps:?}");
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "jitter");
}

#[test]
fn a_router_lifetime_outlasts_the_loss_of_an_advertisement() {
    for (lifetime, longest) in [(0, 10_000), (1, 1000), (9, 3000), (30, 10_000), (9000, 10_000)] {
        let mut bench = Bench::new();
        let router_lifetime = RouterLifetime::announced(Duration::from_secs(lifetime));
        bench.uplinks(&Uplinks::from([(ETH0, Uplink { router_lifetime, ..uplink(US) })]));
        bench.hear(ETH0, TOR);
        bench.run_until(Duration::from_secs(60));
        bench.sent.drain(..6);
        for pair in bench.sent.windows(2) {
            let gap = pair[1].0 - pair[0].0;
            assert!(gap > ms(longest * 3 / 4) && gap <= ms(longest), "{lifetime} s: {gap:?}");
        }
    }
}

#[test]
fn a_router_that_comes_up_later_hears_from_us_at_once() {
    let mut bench = Bench::up();
    bench.run_until(ms(5000));
    bench.sent.clear();
    bench.hear(ETH0, TOR);
    assert_eq!(bench.sent, [(ms(5000), ETH0, Sent::Ra)]);
}

#[test]
fn a_known_router_that_goes_silent_stays() {
    let mut bench = Bench::learned();
    bench.run_until(Duration::from_secs(3600));
    assert_eq!(bench.events(), []);
    let router = bench.status(ETH0).router.unwrap();
    assert_eq!(router.address, TOR);
    assert_eq!(router.known_for, Duration::from_secs(3600));
    assert_eq!(router.last_heard, Duration::from_secs(3600));
    bench.hear(ETH0, TOR);
    assert_eq!(bench.events(), [], "its next advertisement is no news");
    assert_eq!(bench.status(ETH0).router.unwrap().last_heard, Duration::ZERO);
}

#[test]
fn invalid_messages_change_nothing() {
    let table = [
        ("hop limit 64", ETH0, TOR, 64, advertisement()),
        ("global source", ETH0, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 255, advertisement()),
        ("option of length zero", ETH0, TOR, 255, [advertisement(), vec![1, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ("a pod's link", POD, TOR, 255, advertisement()),
        ("a link that was configured once", InterfaceIndex(2), TOR, 255, advertisement()),
    ];
    for (name, interface, source, hop_limit, octets) in table {
        let mut bench = Bench::up();
        bench.receive(interface, source, hop_limit, &octets);
        assert_eq!(bench.events(), [], "{name}");
        let status = bench.status(ETH0);
        assert_eq!(status.router, None, "{name}");
        let foreign = u64::from(interface != ETH0);
        assert_eq!((status.counters.discarded, bench.machine.foreign), (1 - foreign, foreign), "{name}");
    }
}

#[test]
fn the_first_of_two_routers_is_kept_and_the_alarm_raised_once() {
    let mut bench = Bench::learned();
    let alarm = Alarm::SecondRouter { kept: TOR, ignored: OTHER_TOR };
    bench.hear(ETH0, OTHER_TOR);
    assert_eq!(bench.events(), [Event::Alarm { interface: ETH0, alarm }]);
    for _ in 0..3 {
        bench.hear(ETH0, OTHER_TOR);
        bench.hear(ETH0, TOR);
    }
    assert_eq!(bench.events(), []);
    assert_eq!(bench.status(ETH0).router.unwrap().address, TOR);
    assert_eq!(bench.status(ETH0).alarms, [alarm]);
}

#[test]
fn our_own_address_is_an_alarm_and_never_a_router() {
    let both = Uplinks::from([(ETH0, uplink(US)), (ETH1, uplink(US_TOO))]);
    for ours in [US, US_TOO] {
        let mut bench = Bench::new();
        bench.uplinks(&both);
        bench.hear(ETH0, ours);
        bench.hear(ETH0, ours);
        let alarm = Alarm::OwnAddress { address: ours };
        assert_eq!(bench.events(), [Event::Alarm { interface: ETH0, alarm }]);
        assert_eq!(bench.status(ETH0).router, None);
        assert_eq!(bench.status(ETH0).alarms, [alarm]);
        assert_eq!(bench.status(ETH1).alarms, []);
    }
}

#[test]
fn after_forget_the_next_router_wins_and_is_sought_quickly() {
    let mut bench = Bench::learned();
    bench.run_until(Duration::from_secs(60));
    bench.hear(ETH0, OTHER_TOR);
    bench.events();
    bench.sent.clear();
    bench.forget(TOR);
    assert_eq!(bench.kinds(), [Sent::Ra, Sent::Rs]);
    assert_eq!(bench.status(ETH0).router, None);
    assert_eq!(bench.status(ETH0).alarms, []);
    bench.hear(ETH0, OTHER_TOR);
    assert_eq!(bench.events(), [seen(ETH0, OTHER_TOR)]);
}

#[test]
fn forget_leaves_the_alarm_of_our_own_address() {
    let mut bench = Bench::learned();
    bench.hear(ETH0, US);
    bench.hear(ETH0, OTHER_TOR);
    bench.forget(TOR);
    let alarm = Alarm::OwnAddress { address: US };
    assert_eq!(bench.events(), [Event::Alarm { interface: ETH0, alarm }]);
    assert_eq!(bench.status(ETH0).alarms, [alarm]);
}

#[test]
fn forget_names_the_router_that_is_meant() {
    let mut bench = Bench::learned();
    bench.forget(OTHER_TOR);
    assert_eq!(bench.status(ETH0).router.unwrap().address, TOR);
    // With no router known it does not restart the backoff: whoever says it in a loop does not flood the link.
    let mut bench = Bench::up();
    bench.run_until(Duration::from_secs(60));
    bench.sent.clear();
    bench.forget(TOR);
    assert_eq!(bench.kinds(), []);
}

#[test]
fn a_loop_of_forget_and_learn_is_paced() {
    let mut bench = Bench::up();
    for _ in 0..1000 {
        bench.hear(ETH0, TOR);
        bench.forget(TOR);
        bench.run_until(bench.t + ms(1));
    }
    let advertised = bench.times(Sent::Ra);
    assert!(advertised.windows(2).all(|pair| pair[1] - pair[0] >= ADVERTISEMENT_SPACING));
    assert!(bench.events().len() <= 1, "and what waits for its taker does not grow");
}

#[test]
fn link_down_forgets_and_link_up_starts_afresh() {
    let mut bench = Bench::learned();
    bench.hear(ETH0, OTHER_TOR);
    bench.events();
    bench.uplinks(&Uplinks::from([(ETH0, Uplink { running: false, ..uplink(US) })]));
    assert_eq!(bench.status(ETH0).router, None);
    assert_eq!(bench.status(ETH0).alarms, []);
    assert_eq!(bench.machine.poll_timeout(), None);
    bench.sent.clear();
    bench.uplinks(&eth0());
    assert_eq!(bench.kinds(), [Sent::Ra, Sent::Rs]);
    bench.hear(ETH0, TOR);
    assert_eq!(bench.events(), [seen(ETH0, TOR)]);
}

#[test]
fn an_event_that_nobody_took_goes_with_its_link() {
    let mut bench = Bench::up();
    bench.hear(ETH0, TOR);
    assert!(bench.machine.has_event());
    bench.uplinks(&Uplinks::new());
    assert_eq!(bench.events(), []);
}

#[test]
fn a_new_index_is_a_new_link() {
    let mut bench = Bench::learned();
    bench.uplinks(&Uplinks::from([(ETH1, uplink(US))]));
    assert_eq!(bench.sent, [(ms(0), ETH1, Sent::Ra), (ms(0), ETH1, Sent::Rs)]);
    bench.hear(ETH0, TOR);
    assert_eq!(bench.events(), [], "the old index is nothing to us");
    bench.hear(ETH1, TOR);
    assert_eq!(bench.events(), [seen(ETH1, TOR)]);
}

#[test]
fn a_new_address_of_ours_is_a_start_and_another_snapshot_of_the_same_is_not() {
    let mut bench = Bench::learned();
    let mut same = uplink(US);
    same.mac = None;
    bench.uplinks(&Uplinks::from([(ETH0, same), (ETH1, uplink(US_TOO))]));
    assert_eq!(bench.status(ETH0).router.unwrap().address, TOR);
    bench.uplinks(&Uplinks::from([(ETH0, uplink(link_local(7))), (ETH1, uplink(US_TOO))]));
    assert_eq!(bench.status(ETH0).router, None);
    assert_eq!(bench.status(ETH0).counters.solicitations_sent, 2);
}

#[test]
fn links_do_not_disturb_each_other() {
    let mut bench = Bench::new();
    bench.uplinks(&Uplinks::from([(ETH0, uplink(US)), (ETH1, uplink(US_TOO))]));
    bench.hear(ETH0, TOR);
    // One router with the same address on both links is two neighbors.
    bench.hear(ETH1, TOR);
    assert_eq!(bench.events(), [seen(ETH0, TOR), seen(ETH1, TOR)]);
    bench.forget(TOR);
    assert_eq!(bench.status(ETH1).router.unwrap().address, TOR);
}

#[test]
fn a_solicitor_is_answered_at_once_and_alone() {
    let mut bench = Bench::learned();
    bench.run_until(ms(100));
    bench.sent.clear();
    bench.solicit(OTHER_TOR);
    assert_eq!(bench.sent, [(ms(100), ETH0, Sent::RaTo(OTHER_TOR))]);
    assert_eq!(bench.events(), [], "a solicitor is no router");
    // A flood is answered at its own pace, not at the flood's.
    for step in 0..300 {
        bench.run_until(ms(100 + step));
        bench.solicit(OTHER_TOR);
    }
    assert_eq!(bench.times(Sent::RaTo(OTHER_TOR)).len(), 10);
}

#[test]
fn a_solicitor_without_link_local_source_is_answered_by_multicast_every_three_seconds() {
    for source in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)] {
        let mut bench = Bench::learned();
        // Behind the quick ones, and well before the next.
        bench.run_until(ms(3100));
        bench.sent.clear();
        for step in 0..40 {
            bench.run_until(ms(3100 + step * 100));
            bench.solicit(source);
        }
        assert_eq!(bench.times(Sent::Ra), [ms(6030)]);
    }
}

#[test]
fn goodbye_is_said_only_where_we_were_a_default_router() {
    let router = Uplink { router_lifetime: RouterLifetime::announced(ms(30_000)), ..uplink(US) };
    let uplinks = Uplinks::from([(ETH0, router), (ETH1, uplink(US_TOO))]);
    let mut bench = Bench::new();
    bench.uplinks(&uplinks);
    assert_eq!(bench.kinds(), [Sent::RaFor(30), Sent::Rs, Sent::Ra, Sent::Rs]);
    bench.sent.clear();
    bench.machine.handle_leave();
    bench.drain();
    assert_eq!(bench.sent, [(ms(0), ETH0, Sent::Ra)]);
    assert_eq!(bench.machine.poll_timeout(), None);

    let mut bench = Bench::new();
    bench.uplinks(&uplinks);
    bench.sent.clear();
    bench.uplinks(&Uplinks::new());
    assert_eq!(bench.sent, [(ms(0), ETH0, Sent::Ra)], "no longer configured");
}

#[test]
fn counters_count() {
    let mut bench = Bench::up();
    bench.machine.handle_send_failure(ETH0);
    bench.hear(ETH0, TOR);
    bench.solicit(TOR);
    bench.receive(ETH0, TOR, 64, &advertisement());
    let expected = Counters {
        advertisements_sent: 2,
        solicitations_sent: 1,
        advertisements_received: 1,
        solicitations_received: 1,
        discarded: 1,
        send_failures: 1,
    };
    assert_eq!(bench.status(ETH0).counters, expected);
}

#[derive(Debug, Clone)]
enum Input {
    Uplinks(Vec<(u32, Option<u16>, bool)>),
    Hear(u32, u16),
    Solicit(u32, u16),
    Octets(u32, Vec<u8>),
    Forget(u32, u16),
    Wait(u64),
    TakeEvents,
}

fn input() -> impl Strategy<Value = Input> {
    let snapshot = proptest::collection::vec((1..4_u32, proptest::option::of(1..3_u16), any::<bool>()), 0..4);
    prop_oneof![
        snapshot.prop_map(Input::Uplinks),
        (1..4_u32, 1..7_u16).prop_map(|(interface, source)| Input::Hear(interface, source)),
        (1..4_u32, 1..7_u16).prop_map(|(interface, source)| Input::Solicit(interface, source)),
        (1..4_u32, any::<Vec<u8>>()).prop_map(|(interface, octets)| Input::Octets(interface, octets)),
        (1..4_u32, 3..7_u16).prop_map(|(interface, router)| Input::Forget(interface, router)),
        (0..20_000_u64).prop_map(Input::Wait),
        Just(Input::TakeEvents),
    ]
}

proptest! {
    /// Whatever happens in whatever order: nothing is sent on a link that cannot send, no link learns one of
    /// our addresses, the multicast pace holds, and what waits is bounded.
    #[test]
    fn invariants_hold(inputs in proptest::collection::vec(input(), 1..60)) {
        let mut bench = Bench::new();
        let mut uplinks = Uplinks::new();
        for input in inputs {
            let before = bench.sent.len();
            match input {
                Input::Uplinks(links) => {
                    uplinks = links.into_iter().map(|(index, address, running)| {
                        let link = Uplink { link_local: address.map(link_local), running, ..uplink(US) };
                        (InterfaceIndex(index), link)
                    }).collect();
                    bench.uplinks(&uplinks);
                }
                Input::Hear(interface, source) => bench.hear(InterfaceIndex(interface), link_local(source)),
                Input::Solicit(interface, source) => {
                    let octets = Solicitation { source_link_layer: None }.to_octets();
                    bench.receive(InterfaceIndex(interface), link_local(source), HOP_LIMIT, &octets);
                }
                Input::Octets(interface, octets) => bench.receive(InterfaceIndex(interface), TOR, HOP_LIMIT, &octets),
                Input::Forget(interface, router) => {
                    bench.machine.forget(bench.now(), InterfaceIndex(interface), link_local(router));
                    bench.drain();
                }
                Input::Wait(milliseconds) => bench.run_until(bench.t + ms(milliseconds)),
                Input::TakeEvents => drop(bench.events()),
            }
            for (_, interface, _) in &bench.sent[before..] {
                let link = &uplinks[interface];
                prop_assert!(link.running && link.link_local.is_some());
            }
            prop_assert!(bench.machine.events.len() <= 3 * uplinks.len());
            for status in bench.machine.status(bench.now()).uplinks {
                let usable = status.uplink.running && status.uplink.link_local.is_some();
                prop_assert!(status.router.is_none() || usable);
                prop_assert_eq!(&uplinks[&status.interface], &status.uplink);
            }
            let usable = uplinks.values().any(|link| link.running && link.link_local.is_some());
            prop_assert_eq!(bench.machine.poll_timeout().is_some(), usable);
        }
    }
}
