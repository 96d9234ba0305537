//! One speaker: a RIB, a session for each link, and a FIB that takes what the RIB says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use bgp::message::update::LinkLocalForm;
use bgp::message::{Attributes, RefreshKind, RouteRefresh, Update};
use bgp::policy::Role;
use bgp::rib::{Gateways, Originator, PeerConfig, PeerSession, Rib, RibConfig, Ripeness, ToPeer};
use bgp::session::{Action, Event, Negotiated, RemoteAs, Session, SessionConfig};
use bgp::{Asn, Families, Family, HoldTime, InterfaceIndex, NextHop, PeerId, Prefix, RouterId};

/// Shorter than the recovery that the tests wait for.
pub(crate) const RESTART_TIME: Duration = Duration::from_secs(10);

/// What a speaker is, over all its restarts.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    pub(crate) number: u8,
    pub(crate) originates: Prefix,
}

impl Identity {
    pub(crate) fn asn(&self) -> Asn {
        Asn(65000 + u32::from(self.number))
    }

    pub(crate) fn router_id(&self) -> RouterId {
        RouterId(Ipv4Addr::from([self.number; 4]))
    }

    pub(crate) fn address(&self, link: usize) -> Ipv6Addr {
        let link = u16::try_from(link).unwrap();
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, self.number.into(), link)
    }
}

/// One neighbor of a speaker.
pub(crate) struct Peer {
    pub(crate) session: Session,
    /// What the peer told us in the present session; `None` without one.
    pub(crate) held: Option<BTreeMap<Prefix, Attributes>>,
    /// What it told us in the session that was lost, as far as it may still count.
    kept: BTreeSet<Prefix>,
    local: Ipv6Addr,
    pub(crate) remote: Ipv6Addr,
}

pub(crate) struct Speaker {
    pub(crate) identity: Identity,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rib: Rib,
    pub(crate) fib: BTreeMap<Prefix, Gateways>,
    /// How often the FIB was written to.
    pub(crate) fib_changes: usize,
}

pub(crate) fn peer_id(peer: usize) -> PeerId {
    PeerId(u32::try_from(peer).unwrap())
}

impl Speaker {
    /// `links`: number of the link and the peer's address on it.
    pub(crate) fn new(identity: Identity, links: &[(usize, Ipv6Addr)], seed: u64) -> Self {
        let mut rib = Rib::new(RibConfig {
            local_as: identity.asn(),
            router_id: identity.router_id(),
            max_paths: 16,
            role: identity.role,
        });
        rib.set_originated(BTreeMap::from([(identity.originates, Originator::StaticBlock)]));
        let peers = links.iter().enumerate().map(|(number, &(link, remote))| {
            rib.configure_peer(peer_id(number), PeerConfig::limited_to(1000));
            let seed = seed.wrapping_mul(31).wrapping_add(u64::try_from(number).unwrap());
            let session = Session::new(session_config(&identity, seed));
            Peer { session, held: None, kept: BTreeSet::new(), local: identity.address(link), remote }
        });
        let peers = peers.collect();
        Self { identity, peers, rib, fib: BTreeMap::new(), fib_changes: 0 }
    }

    /// Feeds a session and carries what it says to the RIB. Gives back what is for TCP.
    pub(crate) fn handle(&mut self, peer: usize, event: Event, now: Instant) -> Vec<Action> {
        self.peers[peer].session.handle(event, now);
        let mut for_tcp = Vec::new();
        while let Some(action) = self.peers[peer].session.poll_action() {
            match action {
                Action::Connect(_) | Action::Transmit(..) | Action::Close(_) => for_tcp.push(action),
                Action::Up(_, negotiated) => self.up(peer, &negotiated),
                Action::Update(update) => self.update(peer, update),
                Action::Refresh(refresh) => self.refresh(peer, refresh),
                Action::Down { reason: _, kept } => {
                    let told = self.peers[peer].held.take().expect("Down comes after Up").into_keys();
                    self.peers[peer].kept = told.filter(|prefix| kept.contains(prefix.family())).collect();
                    self.rib.session_lost(peer_id(peer), kept);
                }
                Action::Forget => {
                    self.peers[peer].kept.clear();
                    self.rib.forget_stale(peer_id(peer));
                }
            }
        }
        for_tcp
    }

    fn up(&mut self, peer: usize, negotiated: &Negotiated) {
        let Peer { local, remote, held, kept, .. } = &mut self.peers[peer];
        *held = Some(BTreeMap::new());
        kept.retain(|prefix| negotiated.preserved_families().contains(prefix.family()));
        let session = PeerSession {
            kind: negotiated.peer_kind,
            asn: negotiated.open.asn,
            router_id: negotiated.open.router_id,
            address: (*remote).into(),
            interface: Some(InterfaceIndex(u32::try_from(peer).unwrap() + 1)),
            families: negotiated.codec.families,
            next_hop_ipv4: Some(NextHop::LinkLocal(*local)),
            next_hop_ipv6: Some(NextHop::LinkLocal(*local)),
            local_addresses: vec![(*local).into()],
            enhanced_route_refresh: negotiated.enhanced_route_refresh,
            preserved: negotiated.preserved_families(),
        };
        self.rib.session_up(peer_id(peer), session);
    }

    fn update(&mut self, peer: usize, update: Update) {
        let Peer { held, kept, .. } = &mut self.peers[peer];
        let held = held.as_mut().expect("an UPDATE comes between Up and Down");
        assert!(update.faults.is_empty(), "{:?}", update.faults);
        for prefix in &update.withdrawn {
            held.remove(prefix);
            kept.remove(prefix);
        }
        for reach in &update.reach {
            held.extend(reach.prefixes.iter().map(|prefix| (*prefix, reach.attributes.clone())));
        }
        kept.retain(|prefix| !held.contains_key(prefix) && Some(prefix.family()) != update.end_of_rib);
        self.rib.receive(peer_id(peer), update);
    }

    fn refresh(&mut self, peer: usize, refresh: RouteRefresh) {
        let family = Family::try_from(refresh.family).expect("a negotiated family");
        match refresh.kind {
            RefreshKind::Request => self.rib.refresh_requested(peer_id(peer), family),
            RefreshKind::Begin => self.rib.refresh_began(peer_id(peer), family),
            RefreshKind::End => self.rib.refresh_ended(peer_id(peer), family),
            RefreshKind::Unknown(kind) => panic!("refresh of kind {kind} reached the driver"),
        }
    }

    /// Decides, programs the FIB and gives back what is for the TCP of each peer.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<(usize, Vec<Action>)> {
        while self.rib.process(16) {}
        while self.rib.has_fib_changes(Ripeness::Any) {
            for change in self.rib.poll_fib(16, Ripeness::Any) {
                self.fib_changes += 1;
                match change.gateways {
                    Some(gateways) => self.fib.insert(change.prefix, gateways),
                    None => self.fib.remove(&change.prefix),
                };
            }
        }
        let mut for_tcp = Vec::new();
        for (number, peer) in self.peers.iter_mut().enumerate() {
            while self.rib.has_outgoing(peer_id(number)) {
                for outgoing in self.rib.poll_outgoing(peer_id(number), 16) {
                    match outgoing {
                        ToPeer::Update(update) => peer.session.send_update(&update, now),
                        ToPeer::Refresh(refresh) => peer.session.send_refresh(refresh, now),
                    }
                }
            }
            let actions: Vec<_> = std::iter::from_fn(|| peer.session.poll_action()).collect();
            for_tcp.push((number, actions));
        }
        for_tcp
    }

    /// No route without a live source: each gateway is a peer that is up and holds out that prefix, or restarts and did
    /// so before.
    pub(crate) fn assert_routes_have_sources(&self) {
        for (prefix, gateways) in &self.fib {
            for gateway in gateways {
                let source = self.peers.iter().find(|peer| gateway.address == peer.remote);
                let says_so = |peer: &Peer| {
                    peer.kept.contains(prefix)
                        || peer.held.as_ref().is_some_and(|held| held.contains_key(prefix))
                };
                assert!(
                    source.is_some_and(says_so),
                    "{} has {prefix} via {}, which does not say so",
                    self.identity.number,
                    gateway.address
                );
            }
        }
    }
}

fn session_config(identity: &Identity, seed: u64) -> SessionConfig {
    SessionConfig {
        local_as: identity.asn(),
        router_id: identity.router_id(),
        remote_as: RemoteAs::External,
        hold_time: HoldTime::from_secs(9).unwrap(),
        keepalive: Duration::from_secs(3),
        families: Families::ALL,
        extended_next_hop: Families::from_iter([Family::Ipv4Unicast]),
        graceful_restart: Some(RESTART_TIME),
        inherited: Families::ALL,
        stale_time: RESTART_TIME,
        hostname: format!("speaker-{}", identity.number),
        software_version: String::new(),
        link_local_form: LinkLocalForm::Twice,
        passive: false,
        seed,
    }
}
