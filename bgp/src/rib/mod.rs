//! The three tables of RFC 4271 section 3.2 and the decision process of section 9.1, without clock or task.
//!
//! In: sessions that come and go, their updates, and the set of routes that originate here. Out, as sets keyed
//! by prefix that are emptied when their consumer can take more: FIB changes ([`Rib::poll_fib`]) and what each
//! neighbor has yet to be told ([`Rib::poll_outgoing`]). A superseded change vanishes in the set.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::message::{Attributes, Outgoing, Update};
use crate::policy::Role;
use crate::{Asn, Families, Family, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};

/// What the whole RIB needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RibConfig {
    /// Our AS.
    pub local_as: Asn,
    /// Our BGP Identifier.
    pub router_id: RouterId,
    /// Next hops of a route in the FIB, at most; 1 switches multipath off.
    pub max_paths: usize,
    /// Host, or transit for the tests' ToRs.
    pub role: Role,
}

/// A neighbor as configured; it outlives its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Paths kept from it in each family; what is over it is refused, what is there stays.
    pub max_prefixes: u32,
}

/// A session that came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSession {
    /// Internal or external.
    pub kind: PeerKind,
    /// The peer's AS.
    pub asn: Asn,
    /// The peer's BGP Identifier.
    pub router_id: RouterId,
    /// The peer's address; the last rung of the decision, and the one next hop that a link-local session may carry.
    pub address: IpAddr,
    /// The link, for a link-local address.
    pub interface: Option<InterfaceIndex>,
    /// Families that may flow.
    pub families: Families,
    /// The next hop that the peer is told for IPv4 routes; `None` when there is none that it could take.
    pub next_hop_ipv4: Option<NextHop>,
    /// The same for IPv6 routes.
    pub next_hop_ipv6: Option<NextHop>,
    /// Our own addresses on this session, which must not come back as next hops.
    pub local_addresses: Vec<IpAddr>,
    /// Answers to refreshes are bracketed (RFC 7313).
    pub enhanced_route_refresh: bool,
}

/// Who asked for a route to originate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Originator {
    /// A global address of the loopback interface.
    Loopback,
    /// `[pods.static]`
    StaticBlock,
}

/// One next hop of a route in the FIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    /// Where packets go.
    pub address: IpAddr,
    /// The link; always there for a link-local address.
    pub interface: Option<InterfaceIndex>,
}

/// The next hops of a route: sorted, without duplicates, never empty.
pub type Gateways = SmallVec<[Gateway; 2]>;

/// The FIB has to have this route from now on; `None`: no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibChange {
    /// The destination.
    pub prefix: Prefix,
    /// All equal next hops.
    pub gateways: Option<Gateways>,
}

/// What [`Rib::poll_outgoing`] hands out: attributes are shared with the Adj-RIB-Out.
pub type OutgoingUpdate = Outgoing<Arc<Attributes>>;

/// Adj-RIBs-In, Loc-RIB and Adj-RIBs-Out of this speaker.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
}

impl Rib {
    /// Empty.
    #[must_use]
    pub fn new(config: RibConfig) -> Self {
        Self { config }
    }

    /// Makes a neighbor known, or changes its configuration.
    pub fn configure_peer(&mut self, peer: PeerId, config: PeerConfig) {
        todo!("{peer:?} {config:?}")
    }

    /// Forgets a neighbor and everything it said.
    pub fn remove_peer(&mut self, peer: PeerId) {
        todo!("{peer:?}")
    }

    /// The session is Established: everything is to be announced to it, then End-of-RIB.
    pub fn session_up(&mut self, peer: PeerId, session: PeerSession) {
        todo!("{peer:?} {session:?}")
    }

    /// The session ended: its paths go.
    pub fn session_down(&mut self, peer: PeerId) {
        todo!("{peer:?}")
    }

    /// Takes in one UPDATE. What changed is marked; [`Self::process`] decides.
    pub fn receive(&mut self, peer: PeerId, update: Update) {
        todo!("{peer:?} {update:?}")
    }

    /// The peer asks for a family again (RFC 2918); with RFC 7313 the answer is bracketed.
    pub fn refresh_requested(&mut self, peer: PeerId, family: Family) {
        todo!("{peer:?} {family}")
    }

    /// The peer begins to answer our refresh (BoRR): what it does not repeat until [`Self::refresh_ended`] goes.
    pub fn refresh_began(&mut self, peer: PeerId, family: Family) {
        todo!("{peer:?} {family}")
    }

    /// EoRR.
    pub fn refresh_ended(&mut self, peer: PeerId, family: Family) {
        todo!("{peer:?} {family}")
    }

    /// Replaces the set of routes that originate here.
    pub fn set_originated(&mut self, routes: BTreeMap<Prefix, Originator>) {
        todo!("{routes:?}")
    }

    /// Decides for at most `budget` prefixes; true when more wait.
    pub fn process(&mut self, budget: usize) -> bool {
        todo!("{budget}")
    }

    /// Whether [`Self::process`] has something to do.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        todo!()
    }

    /// Takes at most `limit` FIB changes out of the set that waits.
    pub fn poll_fib(&mut self, limit: usize) -> Vec<FibChange> {
        todo!("{limit}")
    }

    /// Whether [`Self::poll_fib`] has something to give.
    #[must_use]
    pub fn has_fib_changes(&self) -> bool {
        todo!()
    }

    /// Takes at most `limit` prefixes out of what the neighbor has yet to be told, packed by attributes,
    /// withdrawals first; End-of-RIB comes when the first full announcement of a family is out. BoRR and EoRR
    /// are given as [`ToPeer::Refresh`].
    pub fn poll_outgoing(&mut self, peer: PeerId, limit: usize) -> Vec<ToPeer> {
        todo!("{peer:?} {limit}")
    }

    /// Whether [`Self::poll_outgoing`] has something to give.
    #[must_use]
    pub fn has_outgoing(&self, peer: PeerId) -> bool {
        todo!("{peer:?}")
    }

    /// Whether the peer has sent End-of-RIB for every negotiated family in its present session.
    #[must_use]
    pub fn end_of_rib_received(&self, peer: PeerId) -> bool {
        todo!("{peer:?}")
    }
}

/// What a neighbor is to be told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToPeer {
    /// UPDATEs.
    Update(OutgoingUpdate),
    /// BoRR or EoRR.
    Refresh(crate::message::RouteRefresh),
}
