//! The three tables of RFC 4271 section 3.2 and the decision process of section 9.1, without clock or task.
//!
//! In: sessions that come and go, their updates, the set of routes that originate here and that of networks which its links
//! are in. Out, as sets keyed
//! by prefix that are emptied when their consumer can take more: FIB changes ([`Rib::poll_fib`]) and what each
//! neighbor has yet to be told ([`Rib::poll_outgoing`]). A superseded change vanishes in the set.
//!
//! A learned route passes through these files: `adj_rib_in` (what the peer said), `policy` (whether to
//! believe it), `loc_rib` with `decision` (which one is best), `adj_rib_out` (what the peers are told). They
//! share the `table` and the `interner`; `view` answers questions.

mod adj_rib_in;
mod adj_rib_out;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod census;
mod chunks;
mod connected;
pub mod decision;
#[cfg(test)]
pub(crate) mod fixtures;
mod interner;
mod kept_default;
mod leaves;
mod lengths;
pub(crate) mod limit;
mod loc_rib;
mod maintenance;
mod originated;
mod peer;
mod pending;
mod per_family;
mod policies;
mod restart;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use self::adj_rib_in::{AdjRibIn, Generation, Intake};
use self::adj_rib_out::Answer;
use self::interner::Interner;
use self::kept_default::Way;
use self::loc_rib::Sweep;
use self::originated::OriginatedAttributes;
use self::peer::Peer;
use self::per_family::PerFamily;
use self::table::{NextHopSets, Table, Timing};
use crate::message::{Attributes, Outgoing, RouteRefresh, Update};
use crate::policy::{Policy, Role, Transit};
use crate::{Asn, Families, Family, InterfaceIndex, NextHop, PeerId, PeerKind, Prefix, RouterId};

pub use census::{Census, RibMemory};
pub use connected::Connected;
pub use decision::Reason;
pub use kept_default::LostLink;
pub use limit::LimitUse;
pub use originated::{Lending, Originated, Origination};
pub use policies::{AppliedPolicy, PoliciesView};
pub use view::{
    AdvertisedView, DestinationView, FamilyCounts, Freshness, Page, PathSource, PathStatus, PathView,
    ReceivedView, Totals,
};

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
    /// Paths kept from it in each family; what is over it is refused, what is there stays. Paths that import
    /// policy refuses and echoes count as well: they are remembered, and this is what bounds the memory.
    pub max_prefixes: u32,
    /// How often our own AS may be in a path of it, for racks whose hosts share one; beyond that it is a loop.
    pub allowed_own_as: u8,
    /// Whether it may be told of learned routes.
    pub transit: Transit,
    /// What becomes of paths of it that the guard has let through; `None`: they are accepted.
    pub import: Option<Arc<Policy>>,
    /// What becomes of routes that it may be told; `None`: they are.
    pub export: Option<Arc<Policy>>,
}

impl PeerConfig {
    /// A neighbor for which the guard alone decides.
    #[must_use]
    pub fn limited_to(max_prefixes: u32) -> Self {
        Self { max_prefixes, allowed_own_as: 0, transit: Transit::Never, import: None, export: None }
    }
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
    /// Families whose forwarding state the peer says to have preserved over its restart (the F bit of RFC 4724 section
    /// 3). It matters where paths of an earlier session were kept.
    pub preserved: Families,
}

/// Who asked for a route to originate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Originator {
    /// A global address of the loopback interface.
    Loopback,
    /// `[pods.static]`
    StaticBlock,
    /// A block of the node's own in Kubernetes.
    NodeBlock,
    /// A block of Calico's IPAM.
    CalicoBlock,
    /// A pod of this node whose address is of another node's block.
    BorrowedAddress,
    /// A service's address, or a range of them.
    Service,
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

/// Which changes the FIB is given.
///
/// Where several neighbors announce a table at the same time, most routes come once from each: a route that is written
/// when the first has spoken is written again for each of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ripeness {
    /// All but new routes of which a neighbor has said nothing yet.
    Settled,
    /// New routes of which a neighbor has said nothing yet.
    Unsettled,
    /// All.
    Any,
}

impl Ripeness {
    fn timings(self) -> &'static [Timing] {
        match self {
            Self::Settled => &[Timing::Settled],
            Self::Unsettled => &[Timing::Early],
            Self::Any => &[Timing::Settled, Timing::Early],
        }
    }
}

/// What a turn of [`Rib::process`] takes, in looks at a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Effort(usize);

impl Effort {
    const LOOK: Self = Self(1);
    /// Rules and values of a policy that take as long as everything else about a prefix, at most.
    const RULES: usize = 16;

    /// A look at a prefix by a policy.
    fn with(policy: Option<&Policy>) -> Self {
        Self(1 + policy.map_or(0, |policy| policy.size() / Self::RULES))
    }
}

/// What [`Rib::poll_outgoing`] hands out: attributes are shared with the Adj-RIB-Out.
pub type OutgoingUpdate = Outgoing<Arc<Attributes>>;

/// Adj-RIBs-In, Loc-RIB and Adj-RIBs-Out of this speaker.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
    peers: BTreeMap<PeerId, Peer>,
    table: Table,
    originated: Originated,
    originated_attributes: OriginatedAttributes,
    connected: Connected,
    attributes: Interner<Attributes>,
    gateways: Interner<Gateways>,
    sweep: Sweep,
    /// Full announcements under way.
    announcing: BTreeSet<(PeerId, Family)>,
    /// Where the generations of removed neighbors stood, until their paths are swept.
    retired: BTreeMap<PeerId, PerFamily<Generation>>,
    /// Neighbors whose paths are judged anew, and the last prefix that was.
    judging: BTreeMap<PeerId, Option<Prefix>>,
    /// Networks in which the paths of all neighbors are judged anew, and the last prefix of each that was.
    revising: BTreeMap<Prefix, Option<Prefix>>,
    /// Neighbors that are to be told anew whatever changed for them, and the last prefix that was looked at.
    telling: BTreeMap<PeerId, Option<Prefix>>,
    /// What is kept of default routes that the configuration has taken the last path of.
    kept_ways: PerFamily<Vec<Way>>,
}

impl Rib {
    /// Empty.
    #[must_use]
    pub fn new(config: RibConfig) -> Self {
        let mut attributes = Interner::new();
        Self {
            config,
            peers: BTreeMap::new(),
            table: Table::default(),
            originated: Originated::default(),
            originated_attributes: OriginatedAttributes::new(&mut attributes),
            connected: Connected::default(),
            attributes,
            gateways: Interner::new(),
            sweep: Sweep::default(),
            announcing: BTreeSet::new(),
            retired: BTreeMap::new(),
            judging: BTreeMap::new(),
            revising: BTreeMap::new(),
            telling: BTreeMap::new(),
            kept_ways: PerFamily::default(),
        }
    }

    /// Makes a neighbor known, or changes its configuration. A lower limit takes nothing away. Where policy changes,
    /// [`Self::process`] judges anew what the neighbor said, and looks again at what it is to be told.
    pub fn configure_peer(&mut self, peer: PeerId, config: PeerConfig) {
        if self.peers.contains_key(&peer) {
            self.reconfigure(peer, config);
            return;
        }
        let mut adj_rib_in = PerFamily::default();
        if let Some(generations) = self.retired.remove(&peer) {
            for family in Family::ALL {
                *adj_rib_in.of_mut(family) = AdjRibIn::continued(*generations.of(family));
            }
        }
        self.peers.insert(peer, Peer::new(config, adj_rib_in));
    }

    /// Forgets a neighbor and everything it said.
    pub fn remove_peer(&mut self, peer: PeerId) {
        self.session_down(peer);
        if let Some(removed) = self.peers.remove(&peer) {
            let mut generations = PerFamily::default();
            for family in Family::ALL {
                *generations.of_mut(family) = removed.adj_rib_in.of(family).generation();
            }
            self.retired.insert(peer, generations);
            self.sweep.request();
        }
    }

    /// The session is Established: everything is to be announced to it, then End-of-RIB; [`Self::process`]
    /// prepares it. Nothing happens where the neighbor is not configured.
    pub fn session_up(&mut self, peer: PeerId, session: PeerSession) {
        self.settle_restart(peer, &session);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        for family in session.families.iter() {
            known.adj_rib_out.start(family);
            self.announcing.insert((peer, family));
        }
        known.session = Some(session);
    }

    /// The session ended: its paths go, and those that were kept of an earlier one. They count no more from now on;
    /// [`Self::process`] takes them out.
    pub fn session_down(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(session) = known.session.take().or(known.lost.take()) else { return };
        known.adj_rib_out = adj_rib_out::AdjRibOut::default();
        for family in Family::ALL {
            known.adj_rib_in.of_mut(family).reset();
            self.announcing.remove(&(peer, family));
        }
        self.speaker_lost(&session, Families::ALL);
        self.sweep.request();
    }

    /// Takes in one UPDATE. What changed is marked; [`Self::process`] decides.
    pub fn receive(&mut self, peer: PeerId, update: Update) {
        let Update { withdrawn, reach, end_of_rib, faults: _ } = update;
        // The order matters: a prefix in both is reachable (RFC 4271 section 4.3).
        if self.peers.get(&peer).is_some_and(|known| known.session.is_some())
            && let Some(mut intake) = self.intake(peer)
        {
            withdrawn.into_iter().for_each(|prefix| intake.withdraw(prefix));
            for reach in reach {
                intake.announce_all(reach.prefixes, reach.attributes);
            }
        }
        if let Some(adj_rib_in) = end_of_rib.and_then(|family| self.flowing(peer, family)) {
            adj_rib_in.end_of_rib = true;
            // RFC 4724 section 4.2: what the peer has not said again by now it does not say any more.
            if adj_rib_in.stale_ended() {
                self.sweep.request();
            }
        }
        end_of_rib.into_iter().for_each(|family| self.announcement_ended(family));
    }

    /// The peer asks for a family again (RFC 2918); with RFC 7313 the answer is bracketed.
    pub fn refresh_requested(&mut self, peer: PeerId, family: Family) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(session) = known.session_with(family) else {
            return;
        };
        let answer = if session.enhanced_route_refresh { Answer::Bracketed } else { Answer::Plain };
        if known.adj_rib_out.refresh(family, answer) {
            self.announcing.insert((peer, family));
        }
    }

    /// The peer begins to answer our refresh (BoRR): what it does not repeat until [`Self::refresh_ended`] goes.
    pub fn refresh_began(&mut self, peer: PeerId, family: Family) {
        if let Some(adj_rib_in) = self.flowing(peer, family) {
            adj_rib_in.refresh_began();
        }
    }

    /// EoRR.
    pub fn refresh_ended(&mut self, peer: PeerId, family: Family) {
        if self.flowing(peer, family).is_some_and(AdjRibIn::refresh_ended) {
            self.sweep.request();
        }
    }

    /// Families of which something was refused for the limit while there is room now: a refresh brings it back.
    /// Each is given once; what the answer brings over the limit is marked again.
    pub fn take_refresh_wanted(&mut self, peer: PeerId) -> Families {
        let Some(known) = self.peers.get_mut(&peer) else {
            return Families::NONE;
        };
        let limit = known.config.max_prefixes;
        let mut lacks_and_has_room = |family: &Family| {
            let adj_rib_in = known.adj_rib_in.of_mut(*family);
            adj_rib_in.kept < limit && std::mem::take(&mut adj_rib_in.lacking)
        };
        Family::ALL.into_iter().filter(|family| lacks_and_has_room(family)).collect()
    }

    /// Replaces the set of routes that originate here. Paths from neighbors that this concerns are judged anew.
    pub fn set_originated(&mut self, routes: impl Into<Originated>) {
        let before = std::mem::replace(&mut self.originated, routes.into());
        self.originated_attributes.follow(&self.originated, &mut self.attributes);
        let changed = before.difference(&self.originated);
        if !changed.is_empty() {
            self.judge_next_hops();
        }
        for &prefix in &changed {
            self.table.mark_dirty(prefix);
        }
        let concerned: BTreeSet<Prefix> =
            changed.into_iter().flat_map(|network| self.concerned_by(network)).collect();
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            if let Some(mut intake) = self.intake(peer) {
                concerned.iter().for_each(|&prefix| intake.judge_again(prefix));
                intake.forget_assessed();
            }
        }
    }

    /// Works for `budget` turns, give or take the last one; true when more wait. A turn looks at one prefix: it decides for one that
    /// changed, takes out its dead paths, judges a path anew, or prepares it for an announcement. One that has to go by a
    /// long policy counts as several.
    pub fn process(&mut self, budget: usize) -> bool {
        let turns = [
            Self::decide_next,
            Self::sweep_next,
            Self::judge_next,
            Self::revise_next,
            Self::announce_next,
            Self::tell_next,
            Self::free_next,
        ];
        let mut left = budget;
        while left > 0 {
            let before = left;
            // One after the other, so that a flood of changes does not keep dead paths in use.
            for turn in turns {
                if left > 0 {
                    left = left.saturating_sub(turn(self).map_or(0, |Effort(effort)| effort.max(1)));
                }
            }
            if left == before {
                break;
            }
        }
        self.is_dirty()
    }

    /// Whether [`Self::process`] has something to do.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.table.is_dirty()
            || matches!(self.sweep, Sweep::Running { .. })
            || !self.announcing.is_empty()
            || !self.judging.is_empty()
            || !self.revising.is_empty()
            || !self.telling.is_empty()
            || self.attributes.is_sweeping()
            || self.gateways.is_sweeping()
    }

    /// Whether all that was heard and configured is decided, and each session was handed all that follows for it.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.is_dirty() && !self.peers.values().any(|peer| peer.adj_rib_out.has_outgoing())
    }

    /// Takes at most `limit` FIB changes out of the set that waits, settled ones first.
    pub fn poll_fib(&mut self, limit: usize, ripeness: Ripeness) -> Vec<FibChange> {
        let waiting: usize = ripeness.timings().iter().map(|timing| self.table.fib_changes(*timing)).sum();
        let mut changes = Vec::with_capacity(limit.min(waiting));
        for &timing in ripeness.timings() {
            while changes.len() < limit
                && let Some((prefix, NextHopSets { wanted, given })) = self.table.take_fib(timing)
            {
                let gateways = wanted.and_then(|wanted| self.gateways.get(wanted));
                changes.push(FibChange { prefix, gateways: gateways.map(|gateways| (**gateways).clone()) });
                wanted.into_iter().for_each(|wanted| self.gateways.retain(wanted));
                given.into_iter().for_each(|given| self.gateways.release(given));
                self.table.prune(prefix, &self.originated);
            }
        }
        changes
    }

    /// Whether [`Self::poll_fib`] has something to give.
    #[must_use]
    pub fn has_fib_changes(&self, ripeness: Ripeness) -> bool {
        ripeness.timings().iter().any(|timing| self.table.fib_changes(*timing) > 0)
    }

    /// Whether the first announcement of a neighbor is under way.
    #[must_use]
    pub fn awaits_end_of_rib(&self) -> bool {
        self.peers.values().any(|peer| {
            let mut flowing = Family::ALL.into_iter().filter(|&family| peer.session_with(family).is_some());
            flowing.any(|family| !peer.adj_rib_in.of(family).end_of_rib)
        })
    }

    /// Takes at most `limit` prefixes out of what the neighbor has yet to be told, packed by attributes,
    /// withdrawals first; End-of-RIB comes when the first full announcement of a family is out. BoRR and EoRR
    /// are given as [`ToPeer::Refresh`]. Look at [`Self::is_dirty`] afterwards: a refresh that was asked for in the
    /// meantime begins where the announcement before it is complete.
    pub fn poll_outgoing(&mut self, peer: PeerId, limit: usize) -> Vec<ToPeer> {
        let Some(known) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        let outgoing = known.adj_rib_out.poll(limit);
        for family in Family::ALL {
            if let Some(answer) = known.adj_rib_out.take_asked_again(family)
                && known.adj_rib_out.refresh(family, answer)
            {
                self.announcing.insert((peer, family));
            }
        }
        for message in &outgoing {
            // Each prefix may have let go of attributes of its own.
            let prefixes = match message {
                ToPeer::Update(Outgoing::Unreach { prefixes } | Outgoing::Reach { prefixes, .. }) => {
                    prefixes.len()
                }
                ToPeer::Update(Outgoing::EndOfRib(_)) | ToPeer::Refresh(_) => 0,
            };
            (0..prefixes).for_each(|_| self.attributes.note_release());
        }
        outgoing
    }

    /// Whether [`Self::poll_outgoing`] has something to give.
    #[must_use]
    pub fn has_outgoing(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.adj_rib_out.has_outgoing())
    }

    /// Whether the peer has sent End-of-RIB for every negotiated family in its present session.
    #[must_use]
    pub fn end_of_rib_received(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| {
            let session = peer.session.as_ref();
            session.is_some_and(|session| {
                session.families.iter().all(|family| peer.adj_rib_in.of(family).end_of_rib)
            })
        })
    }

    /// The prefixes whose paths are judged by whether a network originates here, itself first: those that
    /// [`Originated::covers`] speaks of, which for a default route is no other.
    fn concerned_by(&self, network: Prefix) -> impl Iterator<Item = Prefix> {
        let most = if network.is_default() { 1 } else { usize::MAX };
        self.table.inside(network).take(most)
    }

    /// What takes in what a peer says and judges what it said; `None` while nothing of it counts.
    fn intake(&mut self, id: PeerId) -> Option<Intake<'_>> {
        let Peer { config, maintenance, session, lost, adj_rib_in, import_hits, depends_on_networks, .. } =
            self.peers.get_mut(&id)?;
        Some(Intake {
            peer: id,
            config: &self.config,
            session: session.as_ref().or(lost.as_ref())?,
            inbound: maintenance.inbound,
            allowed_own_as: config.allowed_own_as,
            import: config.import.as_deref(),
            hits: import_hits,
            originated: &self.originated,
            connected: &self.connected,
            depends_on_networks,
            limit: config.max_prefixes,
            adj_rib_in,
            table: &mut self.table,
            attributes: &mut self.attributes,
            assessed: None,
        })
    }

    /// The Adj-RIB-In of a family that flows.
    fn flowing(&mut self, peer: PeerId, family: Family) -> Option<&mut AdjRibIn> {
        let peer = self.peers.get_mut(&peer)?;
        peer.session_with(family)?;
        Some(peer.adj_rib_in.of_mut(family))
    }
}

/// What a neighbor is to be told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToPeer {
    /// UPDATEs.
    Update(OutgoingUpdate),
    /// BoRR or EoRR.
    Refresh(RouteRefresh),
}
