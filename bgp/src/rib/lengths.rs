//! The prefix lengths that a set of networks uses: a few, which spare one look-up for each possible length when the
//! networks around a prefix are looked for.

use std::collections::BTreeSet;

use crate::{Family, Prefix};

/// In use, by family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lengths(BTreeSet<(Family, u8)>);

impl<'a> FromIterator<&'a Prefix> for Lengths {
    fn from_iter<I: IntoIterator<Item = &'a Prefix>>(networks: I) -> Self {
        Self(networks.into_iter().map(|network| (network.family(), network.length())).collect())
    }
}

impl Lengths {
    /// The networks of these lengths that contain the prefix, shortest first, itself included.
    pub(super) fn around(&self, prefix: Prefix) -> impl Iterator<Item = Prefix> {
        let lengths = self.0.range((prefix.family(), 0)..=(prefix.family(), prefix.length()));
        lengths.filter_map(move |&(_, length)| Prefix::masked(prefix.address(), length).ok())
    }
}
