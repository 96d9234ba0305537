//! Prefix lists: networks, each with the lengths that are meant inside it.
//!
//! In: text such as `10.0.0.0/8 ge 16 le 24`, as FRR's prefix lists have it. Out: whether a prefix is in the list.
//! Looking one up takes a binary search for each length that networks of the list have, however many there are.

use std::fmt;
use std::str::FromStr;

use crate::{Family, Prefix, PrefixError};

/// Ranges that are looked at one by one: a search would take longer.
const FEW: usize = 8;

/// A network and the lengths of the prefixes inside it that are meant: its own, unless `ge` or `le` say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixRange {
    network: Prefix,
    /// Never shorter than the network.
    shortest: u8,
    /// Never shorter than `shortest`, nor longer than the family's addresses.
    longest: u8,
}

/// Why a prefix range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixRangeError {
    /// Its network is no network.
    #[error(transparent)]
    Network(#[from] PrefixError),
    /// A bare address: whether one host or a network was meant is not known.
    #[error("has no length")]
    NoLength,
    /// What follows the network is not `ge N`, `le N`, or both in this order.
    #[error("behind the network there may be \"ge N\", \"le N\", or \"ge N le N\", not {0:?}")]
    Syntax(String),
    /// More bits than the family has.
    #[error("{bound} is over the {max} bits of {family}")]
    TooLong {
        /// What was given.
        bound: u8,
        /// 32 or 128.
        max: u8,
        /// The network's.
        family: Family,
    },
    /// A prefix inside the network is never shorter than it.
    #[error("{bound} is shorter than the network itself, which has {length} bits")]
    TooShort {
        /// What was given.
        bound: u8,
        /// The network's.
        length: u8,
    },
    /// No length is both.
    #[error("no length is at least {ge} and at most {le}")]
    Contradiction {
        /// The lower bound.
        ge: u8,
        /// The upper bound.
        le: u8,
    },
}

impl PrefixRange {
    /// The network alone.
    #[must_use]
    pub fn exact(network: Prefix) -> Self {
        Self { network, shortest: network.length(), longest: network.length() }
    }

    /// Prefixes inside the network of at least `ge` bits and at most `le`. Without `ge` they begin with the network
    /// itself; without `le`, but with `ge`, they go down to single addresses.
    ///
    /// # Errors
    /// [`PrefixRangeError::TooLong`], [`PrefixRangeError::TooShort`], [`PrefixRangeError::Contradiction`].
    pub fn new(network: Prefix, ge: Option<u8>, le: Option<u8>) -> Result<Self, PrefixRangeError> {
        let (length, family) = (network.length(), network.family());
        let max = family.max_length();
        for bound in ge.into_iter().chain(le) {
            if bound > max {
                return Err(PrefixRangeError::TooLong { bound, max, family });
            }
            if bound < length {
                return Err(PrefixRangeError::TooShort { bound, length });
            }
        }
        match (ge, le) {
            (Some(ge), Some(le)) if ge > le => Err(PrefixRangeError::Contradiction { ge, le }),
            (None, None) => Ok(Self::exact(network)),
            (ge, le) => Ok(Self { network, shortest: ge.unwrap_or(length), longest: le.unwrap_or(max) }),
        }
    }

    /// Whether the prefix is meant.
    #[must_use]
    pub fn contains(&self, prefix: Prefix) -> bool {
        self.has_length(prefix.length()) && self.network.covers(prefix)
    }

    fn has_length(&self, length: u8) -> bool {
        (self.shortest..=self.longest).contains(&length)
    }
}

impl FromStr for PrefixRange {
    type Err = PrefixRangeError;

    /// `NETWORK [ge N] [le N]`; host bits in the network are an error.
    fn from_str(text: &str) -> Result<Self, PrefixRangeError> {
        let mut words = text.split_ascii_whitespace();
        let network = words.next().unwrap_or_default();
        let parsed: Prefix = network.parse()?;
        if !network.contains('/') {
            return Err(PrefixRangeError::NoLength);
        }
        let rest: Vec<&str> = words.collect();
        let syntax = || PrefixRangeError::Syntax(rest.join(" "));
        let number = |word: &str| word.parse::<u8>().map_err(|_| syntax());
        let (ge, le) = match rest.as_slice() {
            [] => (None, None),
            ["ge", ge] => (Some(number(ge)?), None),
            ["le", le] => (None, Some(number(le)?)),
            ["ge", ge, "le", le] => (Some(number(ge)?), Some(number(le)?)),
            _ => return Err(syntax()),
        };
        Self::new(parsed, ge, le)
    }
}

/// As it is read, in the shortest way.
impl fmt::Display for PrefixRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, shortest, longest } = *self;
        write!(f, "{network}")?;
        let (length, max) = (network.length(), network.family().max_length());
        match (shortest > length, longest < max) {
            _ if longest == length => Ok(()),
            (false, _) => write!(f, " le {longest}"),
            (true, false) => write!(f, " ge {shortest}"),
            (true, true) => write!(f, " ge {shortest} le {longest}"),
        }
    }
}

/// Prefix ranges, any of which may hold; both families may be among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixList {
    name: Option<String>,
    ranges: Vec<PrefixRange>,
    /// The same by network, to search in.
    sorted: Vec<PrefixRange>,
    /// The lengths that its networks have, in ascending order.
    lengths: [Vec<u8>; 2],
}

impl PrefixList {
    /// These ranges. A list without a name belongs to one rule.
    #[must_use]
    pub fn new(name: Option<String>, ranges: Vec<PrefixRange>) -> Self {
        let mut sorted = ranges.clone();
        sorted.sort_unstable();
        let lengths = Family::ALL.map(|family| {
            let networks = sorted.iter().map(|range| range.network);
            let mut lengths: Vec<u8> =
                networks.filter(|network| network.family() == family).map(Prefix::length).collect();
            lengths.sort_unstable();
            lengths.dedup();
            lengths
        });
        Self { name, ranges, sorted, lengths }
    }

    /// What the file calls it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// In the order in which they were given.
    #[must_use]
    pub fn ranges(&self) -> &[PrefixRange] {
        &self.ranges
    }

    /// Whether any of its ranges has the prefix.
    #[must_use]
    pub fn contains(&self, prefix: Prefix) -> bool {
        if self.ranges.len() <= FEW {
            return self.ranges.iter().any(|range| range.contains(prefix));
        }
        let [ipv4, ipv6] = &self.lengths;
        let lengths = match prefix.family() {
            Family::Ipv4Unicast => ipv4,
            Family::Ipv6Unicast => ipv6,
        };
        let shorter = lengths.iter().take_while(|&&length| length <= prefix.length());
        shorter
            .filter_map(|&length| Prefix::masked(prefix.address(), length).ok())
            .any(|network| self.of_network(network).any(|range| range.has_length(prefix.length())))
    }

    fn of_network(&self, network: Prefix) -> impl Iterator<Item = &PrefixRange> {
        let first = self.sorted.partition_point(|range| range.network < network);
        let from_there = self.sorted.get(first..).unwrap_or_default().iter();
        from_there.take_while(move |range| range.network == network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PrefixRange {
        text.parse().unwrap()
    }

    fn list(texts: &[&str]) -> PrefixList {
        PrefixList::new(None, texts.iter().copied().map(range).collect())
    }

    #[test]
    fn text_goes_both_ways_in_the_shortest_form() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8 le 8", "10.0.0.0/8"),
            ("10.0.0.0/8 ge 8 le 8", "10.0.0.0/8"),
            ("10.0.0.0/8 le 24", "10.0.0.0/8 le 24"),
            ("10.0.0.0/8 ge 8 le 24", "10.0.0.0/8 le 24"),
            ("10.0.0.0/8 ge 16", "10.0.0.0/8 ge 16"),
            ("10.0.0.0/8 ge 16 le 32", "10.0.0.0/8 ge 16"),
            ("10.0.0.0/8 ge 8", "10.0.0.0/8 le 32"),
            ("10.0.0.0/8  ge\t16 le 16 ", "10.0.0.0/8 ge 16 le 16"),
            ("1.1.1.1/32 ge 32", "1.1.1.1/32"),
            ("::/0 le 128", "::/0 le 128"),
            ("fd00::/8 ge 48 le 64", "fd00::/8 ge 48 le 64"),
        ] {
            assert_eq!(range(text).to_string(), shown, "{text}");
            assert_eq!(range(shown), range(text));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        use PrefixRangeError::{Contradiction, Network, NoLength, Syntax, TooLong, TooShort};
        let error = |text: &str| text.parse::<PrefixRange>().unwrap_err();
        assert_eq!(error("10.0.0.0/16 le 8"), TooShort { bound: 8, length: 16 });
        assert_eq!(error("10.0.0.0/16 ge 8"), TooShort { bound: 8, length: 16 });
        assert_eq!(error("10.0.0.0/8 ge 24 le 16"), Contradiction { ge: 24, le: 16 });
        assert!(matches!(error("10.0.0.0/8 le 33"), TooLong { bound: 33, max: 32, .. }));
        assert!(matches!(error("::/0 ge 129"), TooLong { bound: 129, max: 128, .. }));
        assert_eq!(error("10.0.0.0"), NoLength);
        assert!(matches!(error("10.0.0.1/8"), Network(PrefixError::HostBits { .. })));
        assert!(matches!(error(""), Network(PrefixError::Syntax(_))));
        for text in ["le", "le x", "le 24 ge 8", "24", "ge 8 le", "eq 8", "le 256", "le -1", "ge 8 le 9 10"] {
            assert!(matches!(error(&format!("10.0.0.0/8 {text}")), Syntax(_)), "{text}");
        }
    }

    #[test]
    fn a_list_has_what_one_of_its_ranges_has() {
        let list = list(&[
            "0.0.0.0/0",
            "10.0.0.0/8 ge 16 le 24",
            "10.0.0.0/8 ge 30",
            "10.1.0.0/16 le 26",
            "fd00::/8 ge 48 le 64",
        ]);
        let others = (0..2 * FEW).map(|number| range(&format!("203.0.{number}.0/24")));
        let long = PrefixList::new(None, list.ranges().iter().copied().chain(others).collect());
        for (text, expected) in [
            ("0.0.0.0/0", true),
            ("0.0.0.0/1", false),
            ("10.0.0.0/8", false),
            ("10.0.0.0/15", false),
            ("10.0.0.0/16", true),
            ("10.200.3.0/24", true),
            ("10.200.3.0/25", false),
            ("10.200.3.0/30", true),
            ("10.200.3.1/32", true),
            ("10.1.3.0/26", true),
            ("10.1.3.0/27", false),
            ("11.0.0.0/16", false),
            ("::/0", false),
            ("fd00::/8", false),
            ("fd00:1::/48", true),
            ("fd00:1:2:3::/64", true),
            ("fd00:1:2:3::/65", false),
            ("2001:db8::/48", false),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(list.contains(prefix), expected, "{text}");
            assert_eq!(long.contains(prefix), expected, "{text}");
            assert_eq!(list.ranges().iter().any(|range| range.contains(prefix)), expected, "{text}");
        }
        assert!(!super::PrefixList::new(None, Vec::new()).contains("0.0.0.0/0".parse().unwrap()));
    }
}
