//! Path attributes (RFC 4271 section 5 and the RFCs that added to it), decoded once and compared whole.

use std::net::Ipv4Addr;

use bytes::Bytes;

use crate::{Asn, NextHop, RouterId};

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
    pub cluster_list: Box<[Ipv4Addr]>,
    /// 16 (RFC 4360)
    pub extended_communities: Box<[ExtendedCommunity]>,
    /// 32 (RFC 8092)
    pub large_communities: Box<[LargeCommunity]>,
    /// Optional attributes that this speaker does not know, in the order received.
    pub unknown: Box<[UnknownAttribute]>,
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
            cluster_list: Box::default(),
            extended_communities: Box::default(),
            large_communities: Box::default(),
            unknown: Box::default(),
        }
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

/// A community (RFC 1997): AS number and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// NO_ADVERTISE (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
}

/// An extended community (RFC 4360), not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// A large community (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global Administrator.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
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

/// An AS_PATH of four-octet numbers.
///
/// One allocation, in wire form: a path is compared and copied far more often than it is looked into.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath {
    wire: Box<[u8]>,
}

/// The types of AS_PATH segment, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// 1, AS_SET (deprecated by RFC 9774: withdrawn where it comes in).
    Set,
    /// 2, AS_SEQUENCE
    Sequence,
    /// 3, AS_CONFED_SEQUENCE (RFC 5065)
    ConfedSequence,
    /// 4, AS_CONFED_SET (RFC 5065)
    ConfedSet,
}

/// One segment of an AS_PATH: 1 to 255 numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// What the numbers mean.
    pub kind: SegmentKind,
    /// In the order of the wire.
    pub asns: Vec<Asn>,
}

impl AsPath {
    /// Puts the segments together, splitting what is longer than 255.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        todo!()
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        std::iter::empty()
    }

    /// Length as the decision counts it: a set is one, confederation segments are none (RFC 4271 section
    /// 9.1.2.2 a, RFC 5065 section 5.3).
    #[must_use]
    pub fn length(&self) -> usize {
        todo!()
    }

    /// Whether the AS is anywhere in it (the loop test of RFC 4271 section 9.1.2).
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        todo!("{asn}")
    }

    /// The AS next to us: the first of a leading AS_SEQUENCE.
    #[must_use]
    pub fn neighbor_as(&self) -> Option<Asn> {
        todo!()
    }

    /// The AS where the route comes from: the last of a trailing AS_SEQUENCE.
    #[must_use]
    pub fn origin_as(&self) -> Option<Asn> {
        todo!()
    }

    /// The path with the AS put before it, in a new segment where the first one is full (RFC 4271 section 5.1.2).
    #[must_use]
    pub fn prepended(&self, asn: Asn) -> Self {
        todo!("{asn}")
    }
}
