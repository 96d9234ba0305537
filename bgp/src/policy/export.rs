//! The way out: which best routes a neighbor is told, and with which attributes.
//!
//! RFC 4271 sections 5.1 and 9.1.3, RFC 1997, RFC 4360 section 6, RFC 4456 section 8,
//! RFC 8326 section 4.

use std::sync::Arc;

use super::{Preference, Role, Transit, Variants};
use crate::message::{
    Attributes, Community, DEFAULT_LOCAL_PREF, ExtendedCommunity, Seldom, UnknownAttribute, attribute_flag,
};
use crate::{Asn, NextHop, PeerId, PeerKind};

/// Extended community type bit: stays within the AS (RFC 4360 section 2).
const EXTENDED_NON_TRANSITIVE: u8 = 0x40;

/// Where the best path of a prefix comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It originates here.
    Originated,
    /// A neighbor told it.
    Learned {
        /// That neighbor.
        peer: PeerId,
        /// Internal or external.
        kind: PeerKind,
    },
}

/// Whom it may be told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The neighbor.
    pub peer: PeerId,
    /// Internal or external.
    pub kind: PeerKind,
    /// Whether it may be told of learned routes.
    pub transit: Transit,
}

/// Why a best route is not advertised to a neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// A host is not transit.
    Learned,
    /// It is the neighbor's own.
    FromThisPeer,
    /// From one internal neighbor to another (RFC 4271 section 9.2; this speaker is no route reflector).
    InternalToInternal,
    /// It carries NO_ADVERTISE.
    NoAdvertise,
    /// It carries NO_EXPORT and the neighbor is external.
    NoExport,
    /// The neighbor's export policy rejects it.
    Policy,
}

impl Withheld {
    /// All, in the order in which they are looked for.
    pub const ALL: [Self; 6] = [
        Self::Learned,
        Self::FromThisPeer,
        Self::InternalToInternal,
        Self::NoAdvertise,
        Self::NoExport,
        Self::Policy,
    ];
}

/// How often best routes were withheld, by reason: each time that one was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WithheldCounts([u64; Withheld::ALL.len()]);

impl WithheldCounts {
    /// One more.
    pub(crate) fn count(&mut self, reason: Withheld) {
        let at = Withheld::ALL.iter().position(|one| *one == reason);
        if let Some(count) = at.and_then(|at| self.0.get_mut(at)) {
            *count += 1;
        }
    }

    /// Every reason, in their order, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Withheld, u64)> {
        Withheld::ALL.into_iter().zip(self.0)
    }
}

/// Whether a best route may be told to a neighbor.
///
/// # Errors
/// Why not.
pub fn permits(role: Role, route: Route, attributes: &Attributes, target: Target) -> Result<(), Withheld> {
    let Route::Learned { peer, kind } = route else {
        return Ok(());
    };
    match (role, target.transit) {
        (Role::Host, Transit::Never) => return Err(Withheld::Learned),
        (Role::Host, Transit::Allowed) | (Role::Transit, Transit::Never | Transit::Allowed) => {}
    }
    let carries = |community| attributes.communities.contains(&community);
    if peer == target.peer {
        Err(Withheld::FromThisPeer)
    } else if kind == PeerKind::Internal && target.kind == PeerKind::Internal {
        Err(Withheld::InternalToInternal)
    } else if carries(Community::NO_ADVERTISE) {
        Err(Withheld::NoAdvertise)
    } else if target.kind == PeerKind::External
        // RFC 1997: with no confederation, both mean the same.
        && (carries(Community::NO_EXPORT) || carries(Community::NO_EXPORT_SUBCONFED))
    {
        Err(Withheld::NoExport)
    } else {
        Ok(())
    }
}

/// The attributes as the neighbor gets them.
///
/// `next_hop` is always that of the session, to internal neighbors too: the next hops of a fabric are
/// link-local and mean nothing on another link.
#[must_use]
pub fn rewrite(attributes: &Attributes, local_as: Asn, kind: PeerKind, next_hop: NextHop) -> Attributes {
    let med = own_med(attributes, kind);
    Attributes { med, ..sent(attributes, local_as, kind, next_hop) }
}

/// MULTI_EXIT_DISC with which a route starts its way to a neighbor.
fn own_med(attributes: &Attributes, kind: PeerKind) -> Option<u32> {
    match kind {
        PeerKind::Internal => attributes.med,
        // RFC 4271 section 5.1.4: what another AS said is not passed on.
        PeerKind::External => None,
    }
}

/// What the export policy of a neighbor is to make its variants of: the attributes as they are here, without a
/// MULTI_EXIT_DISC that is not ours. [`sent`] makes of a variant what the neighbor gets.
pub(crate) fn variants(attributes: &Arc<Attributes>, local_as: Asn, kind: PeerKind) -> Variants {
    let med = own_med(attributes, kind);
    let base = if med == attributes.med {
        Arc::clone(attributes)
    } else {
        Arc::new(Attributes { med, ..(**attributes).clone() })
    };
    // A route that is to be given up is marked after policy, so nothing here is fixed.
    Variants::new(base, local_as, Preference::Free)
}

/// As [`rewrite`], with a MULTI_EXIT_DISC that is our own.
pub(crate) fn sent(attributes: &Attributes, local_as: Asn, kind: PeerKind, next_hop: NextHop) -> Attributes {
    let unknown = attributes.unknown.iter().filter(|unknown| unknown.flags & attribute_flag::TRANSITIVE != 0);
    // RFC 4271 section 5: what is not understood and passed on is marked as partial.
    let unknown = unknown.map(|unknown| UnknownAttribute {
        flags: unknown.flags | attribute_flag::PARTIAL,
        ..unknown.clone()
    });
    let common = Attributes { next_hop, unknown: unknown.collect(), ..attributes.clone() };
    match kind {
        PeerKind::Internal => Attributes {
            // RFC 4271 section 5.1.5: always there between internal peers.
            local_pref: Some(attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
            ..common
        },
        PeerKind::External => Attributes {
            // RFC 4271 section 5.1.2 b.
            as_path: attributes.as_path.prepended(local_as),
            // RFC 4271 section 5.1.5.
            local_pref: None,
            // RFC 4456 section 8: optional non-transitive.
            originator_id: None,
            cluster_list: Seldom::default(),
            extended_communities: attributes
                .extended_communities
                .iter()
                .copied()
                .filter(|&ExtendedCommunity([kind, ..])| kind & EXTENDED_NON_TRANSITIVE == 0)
                .collect(),
            ..common
        },
    }
}

/// The attributes as a neighbor gets them that is to stop sending us traffic: rewritten ones with GRACEFUL_SHUTDOWN, and
/// worse than any other path in what each kind of neighbor compares first.
#[must_use]
pub fn marked(rewritten: &Attributes, local_as: Asn, kind: PeerKind, prepends: u8) -> Attributes {
    let mut communities = rewritten.communities.to_vec();
    if !communities.contains(&Community::GRACEFUL_SHUTDOWN) {
        communities.push(Community::GRACEFUL_SHUTDOWN);
    }
    let mut marked = Attributes { communities: communities.into(), ..rewritten.clone() };
    match kind {
        // RFC 8326 section 4: the lowest there is.
        PeerKind::Internal => marked.local_pref = Some(0),
        PeerKind::External => {
            for _ in 0..prepends {
                marked.as_path = marked.as_path.prepended(local_as);
            }
        }
    }
    marked
}
