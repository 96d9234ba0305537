//! Questions about the RIB, answered with data for others to print.
//!
//! Long answers come in pages: pass [`Page::next`] as `after` to go on. Between two pages the table may change;
//! each prefix that stays is seen once. A page looks at a bounded number of prefixes, so it may hold fewer items
//! than asked for and still not be the last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use super::decision::{Reason, Source, Standing};
use super::loc_rib::Contender;
use super::table::{Destination, Path, Verdict};
use super::{Gateway, Gateways, Originator, Rib};
use crate::message::Attributes;
use crate::policy::{Policy, Refusal, Ruling};
use crate::{Family, PeerId, Prefix};

/// Prefixes that one page looks at.
const PAGE_SCAN: usize = 4096;

/// A part of a long answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of prefixes.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Prefix>,
}

/// One prefix with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationView {
    /// The prefix.
    pub prefix: Prefix,
    /// Our own first, then in no particular order.
    pub paths: Vec<PathView>,
    /// What the FIB has, or is about to get; `None` for no route, and for a prefix that originates here.
    pub gateways: Option<Gateways>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathView {
    /// Who says so.
    pub source: PathSource,
    /// As it came in.
    pub received: Arc<Attributes>,
    /// As it takes part in the decision; `None` where it does not.
    pub imported: Option<Arc<Attributes>>,
    /// How it stands.
    pub status: PathStatus,
    /// Whether it is of the present session.
    pub freshness: Freshness,
    /// Where its packets would go; `None` for our own, and where it does not take part.
    pub gateway: Option<Gateway>,
}

/// Who says that a prefix is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathSource {
    /// It originates here.
    Originated(Originator),
    /// A neighbor.
    Peer(PeerId),
}

/// How a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathStatus {
    /// The best.
    Best,
    /// Used along with the best.
    Multipath,
    /// Eligible, but another one is better.
    NotSelected(Reason),
    /// Import policy does not let it take part.
    Refused(Refusal),
    /// Our own route, come back: proof that the neighbor took it.
    Echo,
}

/// Whether a path is of the present session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Our own, or said in the present session.
    Fresh,
    /// Kept from a session that was lost, while the neighbor restarts (RFC 4724 section 4.2). It takes part as any
    /// other.
    Stale,
}

/// One route that a neighbor sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedView {
    /// The prefix.
    pub prefix: Prefix,
    /// What became of it.
    pub path: PathView,
    /// The neighbor's import policy and what its rules did; `None` where there is no policy, or the guard did not let the
    /// path come to it.
    pub ruling: Option<(Arc<Policy>, Ruling)>,
}

/// One route that a neighbor was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedView {
    /// The prefix.
    pub prefix: Prefix,
    /// As the neighbor got them.
    pub attributes: Arc<Attributes>,
}

/// Counts of one family of one neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FamilyCounts {
    /// Paths remembered of the present session, and of one that was lost: accepted, echoes and refused ones.
    pub received: u32,
    /// Those that take part in decisions.
    pub accepted: u32,
    /// Those of all these that are kept from a session that was lost; see [`Freshness::Stale`].
    pub stale: u32,
    /// Our own routes, come back.
    pub echoes: u32,
    /// Remembered paths that import policy refuses. [`Refusal::Limit`] is never among them.
    pub refused: BTreeMap<Refusal, u32>,
    /// Announcements that were refused for [`PeerConfig::max_prefixes`](super::PeerConfig) since the neighbor last
    /// began to send everything; without those that it withdrew. An announcement that came twice counts twice.
    pub over_limit: u32,
    /// How often a path came to be refused, since the neighbor was configured.
    pub refused_total: BTreeMap<Refusal, u64>,
    /// Routes that the neighbor was told.
    pub advertised: usize,
    /// Routes that it has yet to be told, withdrawals included.
    pub pending: usize,
}

/// The size of the RIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Prefixes in the table.
    pub destinations: usize,
    /// Paths to them: those of the Adj-RIBs-In, whatever became of them, and our own.
    pub paths: usize,
    /// Different sets of attributes in memory.
    pub attributes: usize,
}

impl Rib {
    /// The counts of a neighbor; `None` where it is not configured.
    #[must_use]
    pub fn counts(&self, peer: PeerId, family: Family) -> Option<FamilyCounts> {
        let peer = self.peers.get(&peer)?;
        let adj_rib_in = peer.adj_rib_in.of(family);
        Some(FamilyCounts {
            received: adj_rib_in.kept,
            accepted: adj_rib_in.accepted,
            stale: adj_rib_in.stale,
            echoes: adj_rib_in.echoes,
            refused: adj_rib_in.refused.clone(),
            over_limit: adj_rib_in.over_limit,
            refused_total: adj_rib_in.refused_total.clone(),
            advertised: peer.adj_rib_out.advertised(family).len(),
            pending: peer.adj_rib_out.pending(family),
        })
    }

    /// Neighbors that sent our own route back in the session that they have now: they took it. What is kept of a session
    /// that was lost (RFC 4724 section 4.2) says what they had once.
    #[must_use]
    pub fn echoes(&self, prefix: Prefix) -> Vec<PeerId> {
        let destination = self.table.get(prefix);
        let paths = destination.into_iter().flat_map(|destination| destination.paths);
        paths
            .filter(|path| self.has_session(path.peer) && self.is_live(path, prefix.family()))
            .filter(|path| self.freshness(prefix, path) == Freshness::Fresh)
            .filter(|path| match path.verdict() {
                Verdict::Echo => true,
                Verdict::Accepted(_) | Verdict::Refused(_) => false,
            })
            .map(|path| path.peer)
            .collect()
    }

    /// At most `limit` prefixes behind `after`, of both families.
    #[must_use]
    pub fn destinations(&self, after: Option<Prefix>, limit: usize) -> Page<DestinationView> {
        self.page(after, limit, |prefix, destination| {
            let view = self.view(prefix, destination);
            (!view.paths.is_empty()).then_some(view)
        })
    }

    /// One prefix; `None` where nothing is known of it.
    #[must_use]
    pub fn destination(&self, prefix: Prefix) -> Option<DestinationView> {
        let view = self.view(prefix, self.table.get(prefix)?);
        (!view.paths.is_empty()).then_some(view)
    }

    /// The longest prefix that contains the address and has a best path.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<DestinationView> {
        let has_best = |view: &DestinationView| view.paths.iter().any(|path| path.status == PathStatus::Best);
        self.table
            .containing(address)
            .map(|(prefix, destination)| self.view(prefix, destination))
            .find(has_best)
    }

    /// What a neighbor said: at most `limit` prefixes behind `after`, each with its one path.
    #[must_use]
    pub fn received(&self, peer: PeerId, after: Option<Prefix>, limit: usize) -> Page<ReceivedView> {
        self.page(after, limit, |prefix, destination| {
            // Cheap first: a view decides.
            destination.paths.iter().find(|path| path.peer == peer)?;
            let mut paths = self.view(prefix, destination).paths.into_iter();
            let path = paths.find(|path| path.source == PathSource::Peer(peer))?;
            let ruling = self.ruling(peer, prefix, &path);
            Some(ReceivedView { prefix, path, ruling })
        })
    }

    /// What a neighbor was told: at most `limit` prefixes behind `after`.
    #[must_use]
    pub fn advertised(&self, peer: PeerId, after: Option<Prefix>, limit: usize) -> Page<AdvertisedView> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let of = |family| {
            let adj_rib_out = self.peers.get(&peer).map(|peer| &peer.adj_rib_out);
            adj_rib_out
                .into_iter()
                .flat_map(move |out| out.advertised(family).range((from, Bound::Unbounded)))
        };
        let mut routes = Family::ALL.into_iter().flat_map(of);
        let taken = routes.by_ref().take(limit);
        let items: Vec<AdvertisedView> = taken
            .map(|(&prefix, attributes)| AdvertisedView { prefix, attributes: Arc::clone(attributes) })
            .collect();
        let next = routes.next().and_then(|_| items.last().map(|last| last.prefix));
        Page { items, next }
    }

    /// How much there is of everything.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let kept = |peer: &super::peer::Peer| -> usize {
            let families = Family::ALL.into_iter();
            families
                .map(|family| usize::try_from(peer.adj_rib_in.of(family).kept).unwrap_or(usize::MAX))
                .sum()
        };
        Totals {
            destinations: self.table.len(),
            paths: self.peers.values().map(kept).sum::<usize>() + self.originated.len(),
            attributes: self.attributes.len(),
        }
    }

    fn page<T>(
        &self,
        after: Option<Prefix>,
        limit: usize,
        item: impl Fn(Prefix, Destination<'_>) -> Option<T>,
    ) -> Page<T> {
        let mut items = Vec::new();
        let mut last = None;
        for (looked_at, (prefix, destination)) in self.table.behind(after).enumerate() {
            if items.len() >= limit || looked_at >= PAGE_SCAN {
                return Page { items, next: last.or(after) };
            }
            items.extend(item(prefix, destination));
            last = Some(prefix);
        }
        Page { items, next: None }
    }

    fn view(&self, prefix: Prefix, destination: Destination<'_>) -> DestinationView {
        let contenders = self.contenders(prefix);
        let standings = self.standings(&contenders);
        let eligible = contenders.iter().zip(standings);
        let mut paths: Vec<PathView> = eligible
            .filter_map(|(contender, standing)| self.eligible_path(prefix, destination, contender, standing))
            .collect();
        let live = destination.paths.iter().filter(|path| self.is_live(path, prefix.family()));
        paths.extend(live.filter_map(|path| self.ineligible_path(prefix, path)));
        let wanted = destination.next_hops.wanted.and_then(|wanted| self.gateways.get(wanted));
        DestinationView { prefix, paths, gateways: wanted.map(|gateways| (**gateways).clone()) }
    }

    fn eligible_path(
        &self,
        prefix: Prefix,
        destination: Destination<'_>,
        contender: &Contender<'_>,
        standing: Standing,
    ) -> Option<PathView> {
        let (source, received, freshness) = match contender.source {
            Source::Local => {
                let originator = self.originated.originator(prefix)?;
                (PathSource::Originated(originator), contender.imported, Freshness::Fresh)
            }
            Source::Peer { peer, .. } => {
                let path = destination.paths.iter().find(|path| path.peer == peer)?;
                (PathSource::Peer(peer), self.attributes.get(path.received)?, self.freshness(prefix, path))
            }
        };
        Some(PathView {
            source,
            received: Arc::clone(received),
            imported: Some(Arc::clone(contender.imported)),
            status: match standing {
                Standing::Best => PathStatus::Best,
                Standing::Multipath => PathStatus::Multipath,
                Standing::NotSelected(reason) => PathStatus::NotSelected(reason),
            },
            freshness,
            gateway: self.gateway(prefix, contender),
        })
    }

    fn freshness(&self, prefix: Prefix, path: &Path) -> Freshness {
        let adj_rib_in = self.peers.get(&path.peer).map(|peer| peer.adj_rib_in.of(prefix.family()));
        if adj_rib_in.is_some_and(|adj_rib_in| adj_rib_in.is_stale(path.generation)) {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    fn ineligible_path(&self, prefix: Prefix, path: &Path) -> Option<PathView> {
        let status = match path.verdict() {
            Verdict::Accepted(_) => return None,
            Verdict::Refused(refusal) => PathStatus::Refused(refusal),
            Verdict::Echo => PathStatus::Echo,
        };
        Some(PathView {
            source: PathSource::Peer(path.peer),
            received: Arc::clone(self.attributes.get(path.received)?),
            imported: None,
            status,
            freshness: self.freshness(prefix, path),
            gateway: None,
        })
    }
}
