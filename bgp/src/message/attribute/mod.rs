//! Path attributes (RFC 4271 section 5 and the RFCs that added to it), decoded once and compared whole.
//!
//! [`Attributes`] is what the RIB holds. How each attribute must look on the wire and what a malformed one
//! costs (RFC 7606) is the table in `rule`; `read` turns the attribute list of an UPDATE into values by
//! that table (each value in `value`), `write` does the reverse. The prefixes that belong to them are the business of
//! [`super::update`].

use std::fmt;
use std::net::Ipv4Addr;

use bytes::Bytes;

use crate::{Asn, NextHop, RouterId};

mod as4;
mod as_path;
mod community;
pub(super) mod next_hop;
pub(super) mod read;
pub(super) mod rule;
mod seldom;
mod value;
pub(super) mod write;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use community::{Community, CommunityError, ExtendedCommunity, LargeCommunity, RouteCommunity};
pub use seldom::Seldom;

/// What LOCAL_PREF is where a path carries none. It has to be there on iBGP (RFC 4271 section 5.1.5), which leaves the
/// number open; every implementation takes this one for "no preference".
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// Everything a path carries besides its prefix. AS4_PATH and AS4_AGGREGATOR are merged into their
/// four-octet meaning when they come in (RFC 6793 section 4.2.3) and do not appear.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// 1
    pub origin: Origin,
    /// 2
    pub as_path: AsPath,
    /// 3, or the next hop of 14.
    pub next_hop: NextHop,
    /// 4, MULTI_EXIT_DISC
    pub med: Option<u32>,
    /// 5
    pub local_pref: Option<u32>,
    /// 6
    pub atomic_aggregate: bool,
    /// 7
    pub aggregator: Option<Aggregator>,
    /// 8 (RFC 1997)
    pub communities: Box<[Community]>,
    /// 9 (RFC 4456)
    pub originator_id: Option<RouterId>,
    /// 10 (RFC 4456)
    pub cluster_list: Seldom<Ipv4Addr>,
    /// 16 (RFC 4360)
    pub extended_communities: Seldom<ExtendedCommunity>,
    /// 32 (RFC 8092)
    pub large_communities: Seldom<LargeCommunity>,
    /// Optional attributes that this speaker does not know, in ascending order of codes.
    pub unknown: Seldom<UnknownAttribute>,
}

impl Attributes {
    /// What a route that originates here starts from: IGP, an empty path, next hop [`NextHop::Itself`].
    #[must_use]
    pub fn originated() -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop: NextHop::Itself,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Box::default(),
            originator_id: None,
            cluster_list: Seldom::default(),
            extended_communities: Seldom::default(),
            large_communities: Seldom::default(),
            unknown: Seldom::default(),
        }
    }

    /// The same with a community, or without one.
    #[must_use]
    pub(crate) fn originated_with(community: Option<RouteCommunity>) -> Self {
        let plain = Self::originated();
        match community {
            None => plain,
            Some(RouteCommunity::Standard(community)) => Self { communities: [community].into(), ..plain },
            Some(RouteCommunity::Large(community)) => {
                Self { large_communities: vec![community].into(), ..plain }
            }
        }
    }

    /// What they take on the heap beside themselves. A value that is unknown is counted with its own length, though it
    /// may be a part of something longer.
    pub(crate) fn heap_octets(&self) -> usize {
        let unknown: usize = self.unknown.iter().map(|attribute| attribute.value.len()).sum();
        self.as_path.heap_octets()
            + size_of_val::<[Community]>(&self.communities)
            + self.cluster_list.heap_octets()
            + self.extended_communities.heap_octets()
            + self.large_communities.heap_octets()
            + self.unknown.heap_octets()
            + unknown
    }
}

/// ORIGIN. The order of the variants is the order of preference (RFC 4271 section 9.1.2.2 b).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

/// AGGREGATOR, four-octet form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// The AS that aggregated.
    pub asn: Asn,
    /// The speaker in it.
    pub router_id: Ipv4Addr,
}

/// An optional attribute with a code that this speaker does not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// As received, without the Extended Length bit.
    pub flags: u8,
    /// The attribute type code.
    pub code: u8,
    /// The value, intact.
    pub value: Bytes,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "incomplete",
        })
    }
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.asn, self.router_id)
    }
}
