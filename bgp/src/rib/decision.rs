//! The decision process (RFC 4271 section 9.1.2), a pure function.
//!
//! In: the paths of one prefix that are eligible. Out: how each of them stands, with the rung of the ladder at
//! which it lost. Nothing is remembered: the answer to "why not this one" is computed again when asked, and the
//! order in which the paths are given never changes it. For the same reason "the oldest path wins", which some
//! speakers have, is not a rung here.
//!
//! The interior cost of section 9.1.2.2 e is not compared: there is no IGP beneath, every next hop is on a link.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::message::{Attributes, DEFAULT_LOCAL_PREF};
use crate::{InterfaceIndex, PeerId, PeerKind, RouterId};

/// A path that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// After import policy.
    pub attributes: &'a Attributes,
    /// Where it comes from.
    pub source: Source,
}

/// Where a candidate comes from; two candidates never have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It originates here.
    Local,
    /// A neighbor told it.
    Peer {
        /// The neighbor.
        peer: PeerId,
        /// Internal or external.
        kind: PeerKind,
        /// The neighbor's BGP Identifier.
        router_id: RouterId,
        /// The neighbor's address.
        address: IpAddr,
        /// The link of a link-local session.
        interface: Option<InterfaceIndex>,
    },
}

/// How a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The one path that others are told of.
    Best,
    /// As good as the best: its next hop is used as well.
    Multipath,
    /// It lost at this rung.
    NotSelected(Reason),
}

/// The rungs of the ladder, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Lower LOCAL_PREF (RFC 4271 section 9.1.1); 100 where there is none.
    LocalPref,
    /// A route that originates here wins.
    LocallyOriginated,
    /// Longer AS_PATH (section 9.1.2.2 a).
    AsPathLength,
    /// Worse ORIGIN (b).
    Origin,
    /// Higher MED among the paths of one neighboring AS (c); 0 where there is none.
    Med,
    /// Internal, where there is an external one (d).
    InternalPeer,
    /// Equal to the best, but there are as many next hops as may be used.
    MaxPaths,
    /// Higher BGP Identifier, or ORIGINATOR_ID where there is one (f; RFC 4456 section 9).
    RouterId,
    /// Longer CLUSTER_LIST (RFC 4456 section 9).
    ClusterListLength,
    /// Higher peer address (g).
    PeerAddress,
    /// A later interface or neighbor: two sessions between the same addresses.
    PeerId,
}

/// How the candidates stand, in the order in which they were given.
pub type Standings = SmallVec<[Standing; 4]>;

/// Decides for one prefix. Exactly one is [`Standing::Best`], unless there is no candidate; at most `max_paths`
/// (taken as 1 where it is 0) are [`Standing::Best`] or [`Standing::Multipath`].
#[must_use]
pub fn decide(candidates: &[Candidate<'_>], max_paths: usize) -> Standings {
    let mut ladder = Ladder { candidates, standings: SmallVec::from_elem(None, candidates.len()) };
    ladder.keep_least(Reason::LocalPref, |path| {
        std::cmp::Reverse(path.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF))
    });
    ladder.keep_least(Reason::LocallyOriginated, |path| path.source != Source::Local);
    ladder.keep_least(Reason::AsPathLength, |path| path.attributes.as_path.length());
    ladder.keep_least(Reason::Origin, |path| path.attributes.origin);
    ladder.keep_lowest_med();
    ladder.keep_least(Reason::InternalPeer, |path| path.is_internal());
    ladder.rank(max_paths.max(1));
    // Every rung leaves at least one, and the last one ranks all that remain.
    ladder.standings.into_iter().map(|standing| standing.unwrap_or(Standing::Best)).collect()
}

struct Ladder<'a> {
    candidates: &'a [Candidate<'a>],
    /// `None`: still in.
    standings: SmallVec<[Option<Standing>; 4]>,
}

impl<'a> Ladder<'a> {
    /// Those still in, with their position.
    fn remaining(&self) -> impl Iterator<Item = (usize, &'a Candidate<'a>)> {
        let all = self.candidates.iter().enumerate().zip(&self.standings);
        all.filter(|(_, standing)| standing.is_none()).map(|(candidate, _)| candidate)
    }

    fn set(&mut self, position: usize, standing: Standing) {
        if let Some(slot) = self.standings.get_mut(position) {
            *slot = Some(standing);
        }
    }

    fn eliminate(&mut self, reason: Reason, loses: impl Fn(&Candidate<'_>) -> bool) {
        let losers: SmallVec<[usize; 4]> =
            self.remaining().filter(|(_, path)| loses(path)).map(|(position, _)| position).collect();
        losers.into_iter().for_each(|position| self.set(position, Standing::NotSelected(reason)));
    }

    fn keep_least<K: Ord>(&mut self, reason: Reason, key: impl Fn(&Candidate<'_>) -> K) {
        if let Some(least) = self.remaining().map(|(_, path)| key(path)).min() {
            self.eliminate(reason, |path| key(path) > least);
        }
    }

    /// RFC 4271 section 9.1.2.2 c compares each path with all others of its neighboring AS at once, so the
    /// order in which they came cannot matter.
    fn keep_lowest_med(&mut self) {
        let neighboring = |path: &Candidate<'_>| path.attributes.as_path.neighbor_as();
        let med = |path: &Candidate<'_>| path.attributes.med.unwrap_or(0);
        let remaining: SmallVec<[&Candidate<'_>; 4]> = self.remaining().map(|(_, path)| path).collect();
        self.eliminate(Reason::Med, |path| {
            remaining.iter().any(|other| neighboring(other) == neighboring(path) && med(other) < med(path))
        });
    }

    /// What remains is equal. The first `max_paths` by the last rungs are used, the very first is the best.
    fn rank(&mut self, max_paths: usize) {
        let mut equal: SmallVec<[(usize, TieBreak); 4]> =
            self.remaining().map(|(position, path)| (position, path.tie_break())).collect();
        equal.sort_unstable_by_key(|(_, key)| *key);
        let Some(&(_, first)) = equal.first() else {
            return;
        };
        for (rank, (position, key)) in equal.into_iter().enumerate() {
            let standing = match rank {
                0 => Standing::Best,
                _ if rank < max_paths => Standing::Multipath,
                _ if max_paths > 1 => Standing::NotSelected(Reason::MaxPaths),
                _ => Standing::NotSelected(key.reason_against(first)),
            };
            self.set(position, standing);
        }
    }
}

/// The last rungs; the fields are compared in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TieBreak {
    router_id: RouterId,
    cluster_list_length: usize,
    address: Option<IpAddr>,
    interface: Option<InterfaceIndex>,
    peer: Option<PeerId>,
}

impl TieBreak {
    fn reason_against(self, winner: Self) -> Reason {
        if self.router_id != winner.router_id {
            Reason::RouterId
        } else if self.cluster_list_length != winner.cluster_list_length {
            Reason::ClusterListLength
        } else if self.address != winner.address {
            Reason::PeerAddress
        } else {
            Reason::PeerId
        }
    }
}

impl Candidate<'_> {
    fn is_internal(&self) -> bool {
        match self.source {
            Source::Local => false,
            Source::Peer { kind, .. } => kind == PeerKind::Internal,
        }
    }

    fn tie_break(&self) -> TieBreak {
        let cluster_list_length = self.attributes.cluster_list.len();
        match self.source {
            // Never compared with another: it won or lost above.
            Source::Local => TieBreak {
                router_id: RouterId(Ipv4Addr::UNSPECIFIED),
                cluster_list_length,
                address: None,
                interface: None,
                peer: None,
            },
            Source::Peer { peer, router_id, address, interface, .. } => TieBreak {
                router_id: self.attributes.originator_id.unwrap_or(router_id),
                cluster_list_length,
                address: Some(address),
                interface,
                peer: Some(peer),
            },
        }
    }
}
