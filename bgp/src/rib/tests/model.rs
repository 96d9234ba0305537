//! Any sequence of events against a model that keeps everything and starts from nothing each time.
//!
//! The model shares the pure functions (guard, decision, rewrite), which have tables of their own; what it checks
//! is all the bookkeeping around them: marks, sweeps, generations, sets that wait, partial turns.

mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use self::events::{Event, event};
use crate::message::{Attributes, Community, RefreshKind, Update};
use crate::policy::{
    Action, Guard, Inbound, Judgement, Maintenance, Outbound, Refusal, Role, Route, Target, marked, permits,
    rewrite, usable_gateway,
};
use crate::rib::decision::{Candidate, Source, Standing, decide};
use crate::rib::fixtures::{
    Held, LOCAL_AS, config, from_peer, path, prefix, reach, session, settle, withdraw,
};
use crate::rib::{
    Connected, FibChange, Freshness, Gateways, Origination, Originator, PeerConfig, PeerSession, Rib,
    Ripeness, ToPeer, Totals,
};
use crate::{Families, Family, NextHop, PeerId, PeerKind, Prefix};

/// Some can originate here, some are addresses inside such a one, one is a martian.
const PREFIXES: [&str; 10] = [
    "0.0.0.0/0",
    "10.1.8.192/26",
    "10.1.8.200/32",
    "10.1.8.201/32",
    "20.0.0.0/8",
    "21.0.0.0/8",
    "127.0.0.0/8",
    "2001:db8::/32",
    "fd00:8::/64",
    "fd00:8::1/128",
];
const OWN: [&str; 3] = ["10.1.8.192/26", "21.0.0.0/8", "fd00:8::/64"];
/// Pods can have these, in networks of our own and elsewhere.
const HOSTS: [&str; 3] = ["10.1.8.200", "21.0.0.9", "fd00:8::1"];
/// What they can carry; policies here ask for the first one.
const CARRIED: [&str; 3] = ["no-export", "65001:100", "65001:1:100"];
/// Links can be in these: one of them contains two of the others and no prefix of its own length.
const LINKS: [&str; 4] = ["0.0.0.0/0", "10.1.8.0/24", "20.0.0.0/7", "2001:db8::/32"];
/// The last one is internal.
const PEERS: u32 = 4;
const VARIANTS: u8 = 8;

fn session_of(number: u32) -> PeerSession {
    let kind = if number == PEERS { PeerKind::Internal } else { PeerKind::External };
    // Next hops differ by family, as where a link has a global IPv4 address.
    let next_hop_ipv4 = Some(NextHop::Ipv4([192, 0, 2, 1].into()));
    PeerSession { enhanced_route_refresh: number != 2, next_hop_ipv4, ..session(number, kind) }
}

fn attributes(number: u32, variant: u8) -> Attributes {
    let base = from_peer(number, &[65200]);
    match variant {
        0 => base,
        1 => from_peer(number, &[]),
        2 => from_peer(number, &[LOCAL_AS.0]),
        3 => Attributes { med: Some(5), as_path: path(&[65100 + number, 65300]), ..base },
        4 => Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..base },
        5 => Attributes { communities: [Community::NO_EXPORT].into(), local_pref: Some(150), ..base },
        // On a link or not, and in a network that originates here or not.
        6 => Attributes { next_hop: NextHop::Ipv4([21, 0, 0, 9].into()), ..base },
        _ => Attributes { as_path: path(&[64999]), ..base },
    }
}

/// What one peer said in its present session, or before it.
#[derive(Debug, Default)]
struct Said {
    paths: BTreeMap<Prefix, Attributes>,
    /// Not said again since BoRR.
    stale: BTreeSet<Prefix>,
    refreshing: BTreeSet<Family>,
    /// Not said again since the session that was lost.
    left: BTreeSet<Prefix>,
}

impl Said {
    fn forget_left(&mut self, is_concerned: impl Fn(Prefix) -> bool) {
        let gone: Vec<Prefix> = self.left.iter().copied().filter(|&prefix| is_concerned(prefix)).collect();
        for prefix in gone {
            self.paths.remove(&prefix);
            self.stale.remove(&prefix);
            self.left.remove(&prefix);
        }
    }

    /// What is left of it when the session is lost, or the next one is there.
    fn kept(mut self, families: Families) -> Self {
        self.paths.retain(|prefix, _| families.contains(prefix.family()));
        Self { left: self.paths.keys().copied().collect(), paths: self.paths, ..Self::default() }
    }
}

#[derive(Debug, Default)]
struct Model {
    up: BTreeMap<u32, Said>,
    /// Those that restart.
    away: BTreeMap<u32, Said>,
    originated: BTreeMap<Prefix, Origination>,
    connected: BTreeSet<Prefix>,
    hosts: Arc<BTreeSet<IpAddr>>,
    maintained: BTreeMap<u32, Maintenance>,
    configured: BTreeMap<u32, PeerConfig>,
}

/// The RIB, the model, and those who listen to the RIB.
struct World {
    rib: Rib,
    model: Model,
    fib: BTreeMap<Prefix, Gateways>,
    held: BTreeMap<u32, Held>,
}

impl World {
    fn new(role: Role) -> Self {
        let mut rib = Rib::new(config(role));
        for number in 1..=PEERS {
            rib.configure_peer(PeerId(number), PeerConfig::limited_to(1000));
        }
        Self { rib, model: Model::default(), fib: BTreeMap::new(), held: BTreeMap::new() }
    }

    fn apply(&mut self, event: Event) {
        let id = PeerId;
        match event {
            Event::Up(peer, preserved) => {
                self.rib.session_up(id(peer), PeerSession { preserved, ..session_of(peer) });
                let kept = self.model.away.remove(&peer).map(|said| said.kept(preserved));
                self.model.up.insert(peer, kept.unwrap_or_default());
                self.held.insert(peer, Held::default());
            }
            Event::Lost(peer, kept) => {
                self.rib.session_lost(id(peer), kept);
                self.held.remove(&peer);
                if let Some(mut said) = self.model.up.remove(&peer) {
                    said.forget_left(|_| true);
                    self.model.away.insert(peer, said.kept(kept));
                }
            }
            Event::ForgetStale(peer) => {
                self.rib.forget_stale(id(peer));
                self.model.away.remove(&peer);
                if let Some(said) = self.model.up.get_mut(&peer) {
                    said.forget_left(|_| true);
                }
            }
            Event::EndOfRib(peer, family) => {
                self.rib.receive(id(peer), Update { end_of_rib: Some(family), ..Update::default() });
                if let Some(said) = self.model.up.get_mut(&peer) {
                    said.forget_left(|prefix| prefix.family() == family);
                }
            }
            Event::Down(peer) => {
                self.rib.session_down(id(peer));
                self.forget(peer);
            }
            Event::Reconfigure(peer) => {
                self.rib.remove_peer(id(peer));
                self.rib.configure_peer(id(peer), PeerConfig::limited_to(1000));
                self.forget(peer);
                self.model.maintained.remove(&peer);
                self.model.configured.remove(&peer);
            }
            Event::Configure(peer, config) => {
                self.rib.configure_peer(id(peer), config.clone());
                self.model.configured.insert(peer, config);
            }
            Event::Maintain(peer, maintenance) => {
                self.rib.maintain(id(peer), maintenance);
                self.model.maintained.insert(peer, maintenance);
            }
            Event::Announce { peer, variant, prefixes } => {
                let attributes = attributes(peer, variant);
                self.rib.receive(id(peer), reach(&attributes, &prefixes));
                self.model.announce(peer, &attributes, &prefixes);
            }
            Event::Withdraw { peer, prefixes } => {
                self.rib.receive(id(peer), withdraw(&prefixes));
                if let Some(said) = self.model.up.get_mut(&peer) {
                    for prefix in prefixes.into_iter().map(prefix) {
                        said.paths.remove(&prefix);
                        said.left.remove(&prefix);
                    }
                }
            }
            Event::Originate(routes) => {
                let by = Originator::StaticBlock;
                let origination = |community: Option<&str>, lending| Origination {
                    by,
                    community: community.map(|text| text.parse().unwrap()),
                    lending,
                };
                let routes: BTreeMap<_, _> = routes
                    .into_iter()
                    .map(|(text, community, lending)| (prefix(text), origination(community, lending)))
                    .collect();
                self.rib.set_originated(routes.clone());
                self.model.originated = routes;
            }
            Event::Connect(networks) => {
                let networks: BTreeSet<_> = networks.into_iter().map(prefix).collect();
                self.rib.set_connected(networks.clone());
                self.model.connected = networks;
            }
            Event::Host(addresses) => {
                let hosts: Arc<BTreeSet<IpAddr>> =
                    Arc::new(addresses.into_iter().map(|text| text.parse().unwrap()).collect());
                self.rib.set_hosts(Arc::clone(&hosts));
                self.model.hosts = hosts;
            }
            Event::RefreshRequested(peer, family) => self.rib.refresh_requested(id(peer), family),
            Event::RefreshBegan(peer, family) => {
                self.rib.refresh_began(id(peer), family);
                self.model.refresh_began(peer, family);
            }
            Event::RefreshEnded(peer, family) => {
                self.rib.refresh_ended(id(peer), family);
                self.model.refresh_ended(peer, family);
            }
            Event::Process(budget) => _ = self.rib.process(budget),
            Event::PollFib(limit, ripeness) => self.poll_fib(limit, ripeness),
            Event::PollOutgoing(peer, limit) => self.poll_outgoing(peer, limit),
        }
    }

    fn forget(&mut self, peer: u32) {
        self.model.up.remove(&peer);
        self.model.away.remove(&peer);
        self.held.remove(&peer);
    }

    /// Each change has to change something.
    fn poll_fib(&mut self, limit: usize, ripeness: Ripeness) {
        let changes = self.rib.poll_fib(limit, ripeness);
        assert!(changes.len() <= limit);
        for FibChange { prefix, gateways } in changes {
            assert_ne!(self.fib.get(&prefix), gateways.as_ref(), "{prefix}");
            match gateways {
                Some(gateways) => _ = self.fib.insert(prefix, gateways),
                None => _ = self.fib.remove(&prefix),
            }
        }
    }

    fn poll_outgoing(&mut self, peer: u32, limit: usize) {
        let has_outgoing = self.rib.has_outgoing(PeerId(peer));
        let messages: Vec<ToPeer> = self.rib.poll_outgoing(PeerId(peer), limit);
        assert!(has_outgoing || messages.is_empty());
        match self.held.get_mut(&peer) {
            Some(held) => held.take(messages),
            None => assert_eq!(messages, []),
        }
    }

    fn come_to_rest(&mut self) {
        settle(&mut self.rib);
        for peer in 1..=PEERS {
            while self.rib.has_outgoing(PeerId(peer)) {
                self.poll_outgoing(peer, 3);
                settle(&mut self.rib);
            }
        }
        while self.rib.has_fib_changes(Ripeness::Any) {
            self.poll_fib(3, Ripeness::Any);
        }
        settle(&mut self.rib);
    }

    fn check(&self, role: Role) {
        let mut expected = self.model.fib(role);
        for (prefix, gateways) in self.rib.kept_defaults() {
            let mut said = self.model.up.iter().chain(&self.model.away);
            let is_refused = said.any(|(&peer, said)| {
                let judged = said.paths.get(&prefix).map(|path| self.model.judge(role, peer, prefix, path));
                matches!(judged, Some(Judgement::Refused(_)))
            });
            assert!(is_refused, "nobody gives {prefix}");
            assert_eq!(expected.insert(prefix, gateways), None, "somebody gives {prefix}");
        }
        assert_eq!(self.fib, expected);
        for (&peer, held) in &self.held {
            let told: BTreeMap<_, _> =
                held.routes.iter().map(|(&prefix, told)| (prefix, (**told).clone())).collect();
            assert_eq!(told, self.model.export(role, peer), "peer {peer}");
            let advertised = self.rib.advertised(PeerId(peer), None, 1000).items;
            let advertised: Vec<_> = advertised.into_iter().map(|route| route.prefix).collect();
            assert_eq!(advertised, held.routes.keys().copied().collect::<Vec<_>>());
            assert_eq!(held.end_of_rib.len(), 2, "End-of-RIB once for each family");
            check_brackets(&held.refreshes);
            assert_eq!(self.rib.maintained(PeerId(peer)), Some(self.model.maintenance(peer)));
        }
        for (&peer, said) in self.model.up.iter().chain(&self.model.away) {
            self.check_counts(role, peer, said);
            self.check_freshness(peer, said);
        }
    }

    fn check_freshness(&self, peer: u32, said: &Said) {
        let received = self.rib.received(PeerId(peer), None, 1000).items;
        let stale: BTreeSet<_> = received
            .into_iter()
            .filter(|route| route.path.freshness == Freshness::Stale)
            .map(|route| route.prefix)
            .collect();
        assert_eq!(stale, said.left, "peer {peer}");
    }

    fn check_counts(&self, role: Role, peer: u32, said: &Said) {
        for family in Family::ALL {
            let counts = self.rib.counts(PeerId(peer), family).unwrap();
            let paths = || said.paths.iter().filter(|(prefix, _)| prefix.family() == family);
            let judged: Vec<_> =
                paths().map(|(&prefix, path)| self.model.judge(role, peer, prefix, path)).collect();
            let count = |wanted: fn(&Judgement) -> bool| {
                u32::try_from(judged.iter().filter(|one| wanted(one)).count()).unwrap()
            };
            assert_eq!(counts.received, count(|_| true));
            assert_eq!(counts.echoes, count(|judged| matches!(judged, Judgement::Echo)));
            assert_eq!(
                counts.refused.values().sum::<u32>(),
                count(|judged| matches!(judged, Judgement::Refused(_)))
            );
            assert_eq!(
                counts.accepted + counts.echoes + counts.refused.values().sum::<u32>(),
                counts.received
            );
            assert_eq!(counts.pending, 0);
            let left = said.left.iter().filter(|prefix| prefix.family() == family).count();
            assert_eq!(usize::try_from(counts.stale).unwrap(), left);
        }
    }
}

/// BoRR and EoRR of a family come in turns.
fn check_brackets(refreshes: &[(Family, RefreshKind)]) {
    for family in Family::ALL {
        let kinds: Vec<_> = refreshes.iter().filter(|(of, _)| *of == family).map(|(_, kind)| *kind).collect();
        for pair in kinds.chunks(2) {
            assert_eq!(pair, [RefreshKind::Begin, RefreshKind::End]);
        }
    }
}

impl Model {
    fn announce(&mut self, peer: u32, attributes: &Attributes, prefixes: &[&str]) {
        if let Some(said) = self.up.get_mut(&peer) {
            for text in prefixes {
                said.paths.insert(prefix(text), attributes.clone());
                said.stale.remove(&prefix(text));
                said.left.remove(&prefix(text));
            }
        }
    }

    fn refresh_began(&mut self, peer: u32, family: Family) {
        if let Some(said) = self.up.get_mut(&peer) {
            said.refreshing.insert(family);
            said.stale.extend(said.paths.keys().filter(|prefix| prefix.family() == family));
        }
    }

    fn refresh_ended(&mut self, peer: u32, family: Family) {
        if let Some(said) = self.up.get_mut(&peer)
            && said.refreshing.remove(&family)
        {
            let stale = &said.stale;
            said.paths.retain(|prefix, _| prefix.family() != family || !stale.contains(prefix));
            said.left.retain(|prefix| prefix.family() != family || !stale.contains(prefix));
            said.stale.retain(|prefix| prefix.family() != family);
        }
    }

    fn judge(&self, role: Role, peer: u32, prefix: Prefix, path: &Attributes) -> Judgement {
        let (config, session) = (&config(role), &session_of(peer));
        let connected = Connected::from(self.connected.clone()).with_hosts(Arc::clone(&self.hosts));
        let (originated, connected) = (&self.originated.clone().into(), &connected);
        let inbound = self.maintenance(peer).inbound;
        let PeerConfig { allowed_own_as, import, .. } = self.config_of(peer);
        let guard = Guard { config, originated, connected, session, inbound, allowed_own_as };
        let judgement = guard.judge(prefix, path);
        let guarded = match &judgement {
            Judgement::AsReceived => path.clone(),
            Judgement::Changed(changed) => (**changed).clone(),
            Judgement::Refused(_) | Judgement::Echo => return judgement,
        };
        let Some(policy) = import else { return judgement };
        let ruling = policy.judge(prefix, &Arc::new(guarded.clone()), session.asn);
        let is_external = session.kind == PeerKind::External;
        let is_leaving = is_external && path.communities.contains(&Community::GRACEFUL_SHUTDOWN);
        match (ruling.action, ruling.changed) {
            (Action::Reject, _) => Judgement::Refused(Refusal::Policy),
            (Action::Accept, None) => judgement,
            (Action::Accept, Some(changed)) => {
                let mut changed = (*changed).clone();
                if inbound == Inbound::Last || is_leaving {
                    changed.local_pref = guarded.local_pref;
                }
                Judgement::Changed(Box::new(changed))
            }
        }
    }

    fn config_of(&self, peer: u32) -> PeerConfig {
        self.configured.get(&peer).cloned().unwrap_or_else(|| PeerConfig::limited_to(1000))
    }

    /// A best route that a neighbor may be told, after its export policy.
    fn exported(
        &self,
        to: u32,
        prefix: Prefix,
        attributes: &Attributes,
        next_hop: NextHop,
    ) -> Option<Attributes> {
        let kind = session_of(to).kind;
        let Some(policy) = self.config_of(to).export else {
            return Some(rewrite(attributes, LOCAL_AS, kind, next_hop));
        };
        let mut base = attributes.clone();
        if kind == PeerKind::External {
            base.med = None;
        }
        let ruling = policy.judge(prefix, &Arc::new(base.clone()), LOCAL_AS);
        let changed = ruling.changed.as_deref().unwrap_or(&base);
        let told = Attributes { med: changed.med, ..rewrite(changed, LOCAL_AS, kind, next_hop) };
        (ruling.action == Action::Accept).then_some(told)
    }

    fn maintenance(&self, peer: u32) -> Maintenance {
        self.maintained.get(&peer).copied().unwrap_or_default()
    }

    /// Eligible paths of a prefix with their standing.
    fn standings(&self, role: Role, prefix: Prefix) -> Vec<(Source, Attributes, Standing)> {
        let mut eligible = Vec::new();
        if let Some(origination) = self.originated.get(&prefix) {
            eligible.push((Source::Local, Attributes::originated_with(origination.community)));
        }
        for (&number, said) in self.up.iter().chain(&self.away) {
            let Some(path) = said.paths.get(&prefix) else {
                continue;
            };
            let imported = match self.judge(role, number, prefix, path) {
                Judgement::AsReceived => path.clone(),
                Judgement::Changed(changed) => *changed,
                Judgement::Refused(_) | Judgement::Echo => continue,
            };
            let PeerSession { kind, router_id, address, interface, .. } = session_of(number);
            eligible
                .push((Source::Peer { peer: PeerId(number), kind, router_id, address, interface }, imported));
        }
        let candidates: Vec<_> =
            eligible.iter().map(|(source, attributes)| Candidate { attributes, source: *source }).collect();
        let standings = decide(&candidates, config(role).max_paths);
        eligible
            .into_iter()
            .zip(standings)
            .map(|((source, attributes), standing)| (source, attributes, standing))
            .collect()
    }

    fn fib(&self, role: Role) -> BTreeMap<Prefix, Gateways> {
        let mut fib = BTreeMap::new();
        for prefix in PREFIXES.map(prefix) {
            let mut gateways = Gateways::new();
            for (source, attributes, standing) in self.standings(role, prefix) {
                if let (Source::Peer { peer, .. }, Standing::Best | Standing::Multipath) = (source, standing)
                {
                    gateways.push(usable_gateway(prefix, attributes.next_hop, &session_of(peer.0)).unwrap());
                }
            }
            gateways.sort();
            if !gateways.is_empty() {
                fib.insert(prefix, gateways);
            }
        }
        fib
    }

    fn export(&self, role: Role, to: u32) -> BTreeMap<Prefix, Attributes> {
        let session = session_of(to);
        let target = Target { peer: PeerId(to), kind: session.kind, transit: self.config_of(to).transit };
        let mut exported = BTreeMap::new();
        for prefix in PREFIXES.map(prefix) {
            for (source, attributes, standing) in self.standings(role, prefix) {
                let route = match source {
                    Source::Local => Route::Originated,
                    Source::Peer { peer, kind, .. } => Route::Learned { peer, kind },
                };
                if standing == Standing::Best && permits(role, route, &attributes, target).is_ok() {
                    let next_hop = session.next_hop(prefix.family()).unwrap();
                    let Some(plain) = self.exported(to, prefix, &attributes, next_hop) else { continue };
                    let told = match self.maintenance(to).outbound {
                        Outbound::Plain => plain,
                        Outbound::Marked { prepends } => marked(&plain, LOCAL_AS, session.kind, prepends),
                        Outbound::Withdrawn => continue,
                    };
                    exported.insert(prefix, told);
                }
            }
        }
        exported
    }
}

fn run(role: Role, events: Vec<Event>) {
    let mut world = World::new(role);
    for event in events {
        world.apply(event);
    }
    world.come_to_rest();
    world.check(role);

    // Nothing is left behind but the attributes of originated routes.
    (1..=PEERS).for_each(|peer| world.apply(Event::Down(peer)));
    world.apply(Event::Originate(Vec::new()));
    world.come_to_rest();
    assert_eq!(world.fib, BTreeMap::new());
    let Totals { destinations: prefixes, attributes, .. } = world.rib.totals();
    assert!(prefixes == 0 && attributes <= 1, "{prefixes} prefixes, {attributes} attributes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_host_agrees_with_the_model(events in prop::collection::vec(event(), 1..120)) {
        run(Role::Host, events);
    }

    #[test]
    fn a_tor_agrees_with_the_model(events in prop::collection::vec(event(), 1..120)) {
        run(Role::Transit, events);
    }
}
