//! The three kinds of community, and how operators write them.

use std::fmt;
use std::str::FromStr;

/// A community (RFC 1997): AS number and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// LLGR_STALE (RFC 9494).
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// NO_LLGR (RFC 9494).
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// BLACKHOLE (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// NO_ADVERTISE (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// NO_EXPORT_SUBCONFED (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// NOPEER (RFC 3765).
    pub const NO_PEER: Self = Self(0xffff_ff04);

    /// Those that have a name, in the order of their numbers.
    pub const WELL_KNOWN: [Self; 8] = [
        Self::GRACEFUL_SHUTDOWN,
        Self::LLGR_STALE,
        Self::NO_LLGR,
        Self::BLACKHOLE,
        Self::NO_EXPORT,
        Self::NO_ADVERTISE,
        Self::NO_EXPORT_SUBCONFED,
        Self::NO_PEER,
    ];

    fn name(self) -> Option<&'static str> {
        let name = match self {
            Self::GRACEFUL_SHUTDOWN => "graceful-shutdown",
            Self::LLGR_STALE => "llgr-stale",
            Self::NO_LLGR => "no-llgr",
            Self::BLACKHOLE => "blackhole",
            Self::NO_EXPORT => "no-export",
            Self::NO_ADVERTISE => "no-advertise",
            Self::NO_EXPORT_SUBCONFED => "no-export-subconfed",
            Self::NO_PEER => "no-peer",
            _ => return None,
        };
        Some(name)
    }
}

/// `65001:100`, or the name of a well-known one.
impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// Why a community was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    /// Neither numbers nor a word.
    #[error("not a community")]
    Syntax,
    /// A word that no well-known community has.
    #[error("no well-known community has this name")]
    UnknownName,
    /// A number that its field does not hold.
    #[error("{number} is over {max}")]
    OutOfRange {
        /// What was given.
        number: u64,
        /// The most that the field holds.
        max: u32,
    },
}

/// As it is shown: `65001:100` with numbers up to 65535, or the name of a well-known one.
impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        if let Some(known) = Self::WELL_KNOWN.into_iter().find(|known| known.name() == Some(text)) {
            return Ok(known);
        }
        let [asn, value] = numbers(text, u16::MAX.into())?;
        Ok(Self(asn << 16 | value))
    }
}

/// As it is shown: `64496:1:2`, numbers up to 4294967295 (RFC 8092 section 5).
impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let [global, local1, local2] = numbers(text, u32::MAX)?;
        Ok(Self { global, local1, local2 })
    }
}

/// A community of either kind, where one is to be given to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteCommunity {
    /// RFC 1997
    Standard(Community),
    /// RFC 8092
    Large(LargeCommunity),
}

impl fmt::Display for RouteCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(community) => community.fmt(f),
            Self::Large(community) => community.fmt(f),
        }
    }
}

/// As it is shown: three numbers make a large one.
impl FromStr for RouteCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        match text.split(':').count() {
            3 => text.parse().map(Self::Large),
            _ => text.parse().map(Self::Standard),
        }
    }
}

/// Decimal numbers with colons between them.
fn numbers<const N: usize>(text: &str, max: u32) -> Result<[u32; N], CommunityError> {
    let is_word = |text: &str| text.bytes().all(|octet| octet.is_ascii_alphabetic() || octet == b'-');
    if !text.is_empty() && is_word(text) {
        return Err(CommunityError::UnknownName);
    }
    let number = |field: &str| {
        // A sign is no part of a number here, though Rust would take it.
        let digits = field.bytes().all(|octet| octet.is_ascii_digit()).then_some(field);
        let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(CommunityError::Syntax)?;
        let fits = u32::try_from(number).ok().filter(|number| *number <= max);
        fits.ok_or(CommunityError::OutOfRange { number, max })
    };
    let fields = text.split(':').map(number).collect::<Result<Vec<u32>, _>>()?;
    fields.try_into().map_err(|_| CommunityError::Syntax)
}

/// An extended community (RFC 4360), not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// Sixteen hexadecimal digits: what they mean depends on types that this speaker has no use for.
impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

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

/// `64496:1:2` (RFC 8092 section 5).
impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_read_as_they_are_shown() {
        for text in ["65001:100", "0:0", "65535:65535", "no-export", "graceful-shutdown", "blackhole"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
        for text in [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "1:2:3",
            "+1:2",
            "1:-2",
            "1 :2",
            "0x1:2",
            "no export",
            "99999999999999999999:1",
        ] {
            assert_eq!(text.parse::<Community>(), Err(CommunityError::Syntax), "{text:?}");
        }
        for text in ["no-exprot", "NO-EXPORT", "internet"] {
            assert_eq!(text.parse::<Community>(), Err(CommunityError::UnknownName), "{text}");
        }
        assert_eq!(
            "65536:1".parse::<Community>(),
            Err(CommunityError::OutOfRange { number: 65536, max: 65535 })
        );
        let large: LargeCommunity = "4294967295:0:7".parse().unwrap();
        assert_eq!(large.to_string(), "4294967295:0:7");
        assert_eq!("1:2".parse::<LargeCommunity>(), Err(CommunityError::Syntax));
        assert!(matches!("1:2:4294967296".parse::<LargeCommunity>(), Err(CommunityError::OutOfRange { .. })));
    }

    #[test]
    fn three_numbers_are_a_large_community_and_anything_else_is_none() {
        assert_eq!("65001:100".parse(), Ok(RouteCommunity::Standard(Community(0xfde9_0064))));
        assert_eq!("no-export".parse(), Ok(RouteCommunity::Standard(Community::NO_EXPORT)));
        let large = LargeCommunity { global: 65001, local1: 1, local2: 100 };
        assert_eq!("65001:1:100".parse(), Ok(RouteCommunity::Large(large)));
        for text in ["65001:100", "no-export", "65001:1:100"] {
            assert_eq!(text.parse::<RouteCommunity>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1:2:3:4", "1::2", "a:b:c"] {
            assert_eq!(text.parse::<RouteCommunity>(), Err(CommunityError::Syntax), "{text:?}");
        }
    }

    #[test]
    fn communities_look_as_operators_write_them() {
        assert_eq!(Community(0xfde9_0064).to_string(), "65001:100");
        assert_eq!(Community(0xffff_0000).to_string(), "graceful-shutdown");
        assert_eq!(Community(65535 << 16 | 666).to_string(), "blackhole");
        assert_eq!(Community(65535 << 16 | 65281).to_string(), "no-export");
        assert_eq!(Community(u32::MAX).to_string(), "65535:65535");
        let large = LargeCommunity { global: 4_200_000_000, local1: 0, local2: 7 };
        assert_eq!(large.to_string(), "4200000000:0:7");
        assert_eq!(ExtendedCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, 1]).to_string(), "0x0002fde900000001");
    }
}
