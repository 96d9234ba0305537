//! The small types that every module speaks: numbers with one meaning each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An autonomous system number of four octets (RFC 6793). 0 is reserved (RFC 7607) and is refused where
/// a number comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// AS_TRANS (RFC 6793 section 9): stands for a number that does not fit two octets.
    pub const TRANS: Self = Self(23456);

    /// The number as a speaker of two-octet numbers sees it: itself, or AS_TRANS.
    #[must_use]
    pub fn two_octet(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP Identifier (RFC 6286): any four octets but zero, unique within an AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouterId(pub Ipv4Addr);

impl RouterId {
    /// `None` for 0.0.0.0, which RFC 6286 section 2.1 forbids.
    #[must_use]
    pub fn new(address: Ipv4Addr) -> Option<Self> {
        (!address.is_unspecified()).then_some(Self(address))
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address family as it stands on the wire, known to us or not (RFC 4760 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AfiSafi {
    /// Address Family Identifier: 1 is IPv4, 2 is IPv6.
    pub afi: u16,
    /// Subsequent Address Family Identifier: 1 is unicast.
    pub safi: u8,
}

/// An address family that this speaker carries routes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Every family, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The longest prefix: 32 or 128 bits.
    #[must_use]
    pub fn max_length(self) -> u8 {
        match self {
            Self::Ipv4Unicast => 32,
            Self::Ipv6Unicast => 128,
        }
    }
}

impl From<Family> for AfiSafi {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4Unicast => Self { afi: 1, safi: 1 },
            Family::Ipv6Unicast => Self { afi: 2, safi: 1 },
        }
    }
}

/// The pair is of a family that this speaker does not carry.
impl TryFrom<AfiSafi> for Family {
    type Error = AfiSafi;

    fn try_from(pair: AfiSafi) -> Result<Self, AfiSafi> {
        Self::ALL.into_iter().find(|&family| AfiSafi::from(family) == pair).ok_or(pair)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "IPv4 unicast",
            Self::Ipv6Unicast => "IPv6 unicast",
        })
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Families(u8);

impl Families {
    /// No family.
    pub const NONE: Self = Self(0);
    /// Every family that this speaker carries.
    pub const ALL: Self = Self(0b11);

    fn bit(family: Family) -> u8 {
        match family {
            Family::Ipv4Unicast => 0b01,
            Family::Ipv6Unicast => 0b10,
        }
    }

    /// Adds a family.
    pub fn insert(&mut self, family: Family) {
        self.0 |= Self::bit(family);
    }

    /// Takes a family out.
    pub fn remove(&mut self, family: Family) {
        self.0 &= !Self::bit(family);
    }

    /// Whether the family is in the set.
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        self.0 & Self::bit(family) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The families that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The families in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |&family| self.contains(family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        let mut set = Self::NONE;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

/// A Hold Time in whole seconds: zero (no keepalives, the session never expires) or 3 to 65535
/// (RFC 4271 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

impl HoldTime {
    /// Switches the Hold and Keepalive timers off.
    pub const OFF: Self = Self(0);

    /// Refuses 1 and 2 seconds (RFC 4271 section 6.2).
    ///
    /// # Errors
    /// [`InvalidHoldTime`] with the number that was given.
    pub fn from_secs(seconds: u16) -> Result<Self, InvalidHoldTime> {
        match seconds {
            1 | 2 => Err(InvalidHoldTime(seconds)),
            _ => Ok(Self(seconds)),
        }
    }

    /// As it stands in an OPEN.
    #[must_use]
    pub fn as_secs(self) -> u16 {
        self.0
    }

    /// `None` when switched off.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(self.0.into()))
    }
}

/// A Hold Time of one or two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hold time of {0} s is not allowed: it is 0 (off) or at least 3 s")]
pub struct InvalidHoldTime(pub u16);

/// A kernel interface index (`ifindex`, never 0), the scope of a link-local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InterfaceIndex(pub u32);

/// Names one neighbor within this process. A neighbor keeps its number over all its sessions; a number is
/// never given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(pub u32);

/// Whether a neighbor is in our own AS (RFC 4271 section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// iBGP.
    Internal,
    /// eBGP.
    External,
}

/// The next hop of a path, as a message carries it. The interface of a link-local one is that of the
/// session it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// This speaker: the route originates here. Never on the wire; export puts the session's own address in.
    Itself,
    /// NEXT_HOP, or MP_REACH_NLRI with four octets.
    Ipv4(Ipv4Addr),
    /// A global IPv6 address alone (RFC 2545 section 3, RFC 8950 section 3).
    Ipv6(Ipv6Addr),
    /// A link-local address alone: 16 octets, or 32 in which the global half repeats it (FRR) or is
    /// unspecified (BIRD).
    LinkLocal(Ipv6Addr),
    /// Both, 32 octets (RFC 2545 section 3).
    Ipv6WithLinkLocal {
        /// The first 16 octets.
        global: Ipv6Addr,
        /// The second 16 octets.
        link_local: Ipv6Addr,
    },
}

impl NextHop {
    /// The address that packets are sent to: the link-local one where there is one, as FRR does
    /// (`bgpd/bgp_zebra.c`). `None` for this speaker itself.
    #[must_use]
    pub fn forwarding_address(self) -> Option<IpAddr> {
        match self {
            Self::Itself => None,
            Self::Ipv4(address) => Some(address.into()),
            Self::Ipv6(address) | Self::LinkLocal(address) => Some(address.into()),
            Self::Ipv6WithLinkLocal { link_local, .. } => Some(link_local.into()),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("self"),
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) | Self::LinkLocal(address) => address.fmt(f),
            Self::Ipv6WithLinkLocal { global, link_local } => write!(f, "{global} ({link_local})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_time_is_zero_or_at_least_three_seconds() {
        assert_eq!(HoldTime::from_secs(0), Ok(HoldTime::OFF));
        assert_eq!(HoldTime::from_secs(1), Err(InvalidHoldTime(1)));
        assert_eq!(HoldTime::from_secs(2), Err(InvalidHoldTime(2)));
        assert_eq!(HoldTime::from_secs(3).unwrap().duration(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn families_are_a_set() {
        let mut set = Families::NONE;
        set.insert(Family::Ipv6Unicast);
        set.insert(Family::Ipv6Unicast);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Family::Ipv6Unicast]);
        assert!(set.intersection(Families::from_iter([Family::Ipv4Unicast])).is_empty());
    }
}
