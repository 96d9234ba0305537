//! Canonical address prefixes: the bits behind the length are always zero, so equal networks are equal values.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Family;

/// Why a prefix was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("{0:?} is not a prefix: write address/length, such as 10.1.8.192/26")]
    Syntax(String),
    /// More bits than the family has.
    #[error("a length of {length} is over the {max} bits of {family}")]
    Length {
        /// What was given.
        length: u8,
        /// 32 or 128.
        max: u8,
        /// The family of the address.
        family: Family,
    },
    /// An address inside the network rather than the network.
    #[error("{given} has host bits set: the network is {network}")]
    HostBits {
        /// What was given.
        given: String,
        /// The same with its host bits cleared.
        network: Prefix,
    },
}

/// An IPv4 network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Prefix {
    address: Ipv4Addr,
    length: u8,
}

/// An IPv6 network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv6Prefix {
    address: Ipv6Addr,
    length: u8,
}

/// A network of either family. Ordered by family, address, length: a network comes before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Prefix {
    /// An IPv4 network.
    V4(Ipv4Prefix),
    /// An IPv6 network.
    V6(Ipv6Prefix),
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Ipv4Prefix {
    /// The network of that length that the address is in; `None` above 32.
    #[must_use]
    pub fn masked(address: Ipv4Addr, length: u8) -> Option<Self> {
        (length <= 32).then(|| Self { address: (u32::from(address) & mask_v4(length)).into(), length })
    }

    /// The lowest address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Significant bits, 0 to 32.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the address is inside.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask_v4(self.length) == u32::from(self.address)
    }
}

impl Ipv6Prefix {
    /// The network of that length that the address is in; `None` above 128.
    #[must_use]
    pub fn masked(address: Ipv6Addr, length: u8) -> Option<Self> {
        (length <= 128).then(|| Self { address: (u128::from(address) & mask_v6(length)).into(), length })
    }

    /// The lowest address.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Significant bits, 0 to 128.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the address is inside.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        u128::from(address) & mask_v6(self.length) == u128::from(self.address)
    }
}

impl Prefix {
    /// The network of that length that the address is in. What a message carries is read this way: bits
    /// behind the length are irrelevant (RFC 4271 section 4.3).
    ///
    /// # Errors
    /// [`PrefixError::Length`] above 32 or 128.
    pub fn masked(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let (prefix, family) = match address {
            IpAddr::V4(v4) => (Ipv4Prefix::masked(v4, length).map(Self::V4), Family::Ipv4Unicast),
            IpAddr::V6(v6) => (Ipv6Prefix::masked(v6, length).map(Self::V6), Family::Ipv6Unicast),
        };
        prefix.ok_or(PrefixError::Length { length, max: family.max_length(), family })
    }

    /// The /32 or /128 of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(Ipv4Prefix { address, length: 32 }),
            IpAddr::V6(address) => Self::V6(Ipv6Prefix { address, length: 128 }),
        }
    }

    /// The family that carries it.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4Unicast,
            Self::V6(_) => Family::Ipv6Unicast,
        }
    }

    /// The lowest address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(prefix) => prefix.address.into(),
            Self::V6(prefix) => prefix.address.into(),
        }
    }

    /// Significant bits.
    #[must_use]
    pub fn length(self) -> u8 {
        match self {
            Self::V4(prefix) => prefix.length,
            Self::V6(prefix) => prefix.length,
        }
    }

    /// The default route of a family: 0.0.0.0/0 or ::/0.
    #[must_use]
    pub fn default_route(family: Family) -> Self {
        match family {
            Family::Ipv4Unicast => Self::V4(Ipv4Prefix { address: Ipv4Addr::UNSPECIFIED, length: 0 }),
            Family::Ipv6Unicast => Self::V6(Ipv6Prefix { address: Ipv6Addr::UNSPECIFIED, length: 0 }),
        }
    }

    /// Whether it is 0.0.0.0/0 or ::/0.
    #[must_use]
    pub fn is_default(self) -> bool {
        self.length() == 0
    }

    /// Whether it is a /32 or /128: one address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self.length() == self.family().max_length()
    }

    /// Whether the address is inside; never across families.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(prefix), IpAddr::V4(address)) => prefix.contains(address),
            (Self::V6(prefix), IpAddr::V6(address)) => prefix.contains(address),
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether every address of `other` is inside this one (which holds for itself).
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.length() <= other.length() && self.contains(other.address())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `address/length`; a bare address is its own /32 or /128. Host bits are an error.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| syntax());
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let length: u8 = length.parse().map_err(|_| syntax())?;
        let network = Self::masked(address, length)?;
        if network.address() != address {
            return Err(PrefixError::HostBits { given: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(prefix) => prefix.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// By address, then length. Written out because tables of routes spend much of their time here, and whole
/// numbers compare several times faster than arrays of octets.
impl Ord for Ipv4Prefix {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |prefix: &Self| u64::from(u32::from(prefix.address)) << 8 | u64::from(prefix.length);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Ipv4Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By address, then length.
impl Ord for Ipv6Prefix {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |prefix: &Self| (u128::from(prefix.address), prefix.length);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Ipv6Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! display_as_cidr {
    ($($prefix:ty),*) => {$(
        impl fmt::Display for $prefix {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{}/{}", self.address, self.length))
            }
        }

        impl fmt::Debug for $prefix {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
display_as_cidr!(Ipv4Prefix, Ipv6Prefix);

impl From<Ipv4Prefix> for Prefix {
    fn from(prefix: Ipv4Prefix) -> Self {
        Self::V4(prefix)
    }
}

impl From<Ipv6Prefix> for Prefix {
    fn from(prefix: Ipv6Prefix) -> Self {
        Self::V6(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn text_goes_both_ways() {
        for text in ["0.0.0.0/0", "10.1.8.192/26", "1.1.1.1/32", "::/0", "fd00:10::/64", "2001:db8::1/128"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("1.1.1.1").to_string(), "1.1.1.1/32");
    }

    #[test]
    fn host_bits_and_nonsense_are_refused_with_the_network() {
        let error = "10.1.8.195/26".parse::<Prefix>().unwrap_err();
        assert_eq!(error.to_string(), "10.1.8.195/26 has host bits set: the network is 10.1.8.192/26");
        assert!(matches!(
            "10.0.0.0/33".parse::<Prefix>(),
            Err(PrefixError::Length { length: 33, max: 32, .. })
        ));
        for text in
            ["", "/", "10.0.0.0/", "10.0.0/8", "10.0.0.0/x", "::1%eth0/64", "10.0.0.0/-1", "10.0.0.0/256"]
        {
            assert!(matches!(text.parse::<Prefix>(), Err(PrefixError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn masking_clears_host_bits_at_every_length() {
        for length in 0..=32 {
            let network = Prefix::masked([255, 255, 255, 255].into(), length).unwrap();
            assert_eq!(network.to_string().parse::<Prefix>().unwrap(), network);
        }
        for length in 0..=128 {
            let network = Prefix::masked(Ipv6Addr::from(u128::MAX).into(), length).unwrap();
            assert_eq!(network.to_string().parse::<Prefix>().unwrap(), network);
        }
        assert!(Prefix::masked(Ipv4Addr::UNSPECIFIED.into(), 33).is_err());
        assert!(Prefix::masked(Ipv6Addr::UNSPECIFIED.into(), 129).is_err());
    }

    #[test]
    fn covers_is_by_bits_and_family() {
        assert!(prefix("10.0.0.0/8").covers(prefix("10.1.8.192/26")));
        assert!(prefix("10.1.8.192/26").covers(prefix("10.1.8.192/26")));
        assert!(!prefix("10.1.8.192/26").covers(prefix("10.0.0.0/8")));
        assert!(!prefix("0.0.0.0/0").covers(prefix("::/0")));
        assert!(prefix("::/0").contains("fe80::1".parse().unwrap()));
    }

    #[test]
    fn a_network_sorts_before_what_it_covers() {
        let mut all = [prefix("10.1.0.0/16"), prefix("::/0"), prefix("10.0.0.0/8"), prefix("10.0.0.0/16")];
        all.sort();
        assert_eq!(all.map(|p| p.to_string()), ["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "::/0"]);
    }
}
