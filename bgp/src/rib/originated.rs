//! The routes that originate here with what they carry, and the question whether a prefix is inside one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::Originator;
use super::interner::Interner;
use super::lengths::Lengths;
use crate::Prefix;
use crate::message::{Attributes, RouteCommunity};

/// One route that originates here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origination {
    /// Who asked for it.
    pub by: Originator,
    /// What it carries from the beginning; export policies see it, and may change it.
    pub community: Option<RouteCommunity>,
    /// Whether parts of it may be elsewhere.
    pub lending: Lending,
}

/// What of a network that originates here others may speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Lending {
    /// Nothing: all of it is here.
    #[default]
    Nothing,
    /// Single addresses, by host routes: the network is where most of its addresses are, and for those that are not, whoever
    /// has one announces it. No more of these can be believed than it has addresses.
    Addresses,
}

impl From<Originator> for Origination {
    fn from(by: Originator) -> Self {
        Self { by, community: None, lending: Lending::Nothing }
    }
}

/// What originates here, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Originated {
    routes: BTreeMap<Prefix, Origination>,
    lengths: Lengths,
}

impl<T: Into<Origination>> FromIterator<(Prefix, T)> for Originated {
    fn from_iter<I: IntoIterator<Item = (Prefix, T)>>(routes: I) -> Self {
        let routes: BTreeMap<Prefix, Origination> =
            routes.into_iter().map(|(prefix, origination)| (prefix, origination.into())).collect();
        Self { lengths: routes.keys().collect(), routes }
    }
}

impl<T: Into<Origination>> From<BTreeMap<Prefix, T>> for Originated {
    fn from(routes: BTreeMap<Prefix, T>) -> Self {
        routes.into_iter().collect()
    }
}

impl Originated {
    /// Who asked for this very prefix.
    #[must_use]
    pub fn originator(&self, prefix: Prefix) -> Option<Originator> {
        self.routes.get(&prefix).map(|origination| origination.by)
    }

    /// How this very prefix originates here.
    pub(crate) fn origination(&self, prefix: Prefix) -> Option<Origination> {
        self.routes.get(&prefix).copied()
    }

    /// Whether this very prefix originates here.
    #[must_use]
    pub fn contains(&self, prefix: Prefix) -> bool {
        self.routes.contains_key(&prefix)
    }

    /// Whether the prefix is one that originates here, or lies inside one. The default route would cover
    /// everything that others say, so it counts for itself only.
    #[must_use]
    pub fn covers(&self, prefix: Prefix) -> bool {
        self.around(prefix).next().is_some()
    }

    /// Whether the prefix is a single address that each network around it which originates here may lend. What
    /// originates here itself is not lent.
    #[must_use]
    pub fn lends(&self, prefix: Prefix) -> bool {
        let may_lend = |(network, lending)| network != prefix && lending == Lending::Addresses;
        let mut around = self.around(prefix);
        prefix.is_host() && around.next().is_some_and(may_lend) && around.all(may_lend)
    }

    /// What is lent of any network at all.
    pub(crate) fn lending(&self) -> Lending {
        self.routes.values().map(|origination| origination.lending).max().unwrap_or_default()
    }

    /// What [`Self::covers`] speaks of, shortest first.
    fn around(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, Lending)> {
        let counts = move |network: &Prefix| !network.is_default() || prefix.is_default();
        let networks = self.lengths.around(prefix).filter(counts);
        networks.filter_map(|network| Some((network, self.routes.get(&network)?.lending)))
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The first one behind `after`.
    pub(crate) fn next(&self, after: Option<Prefix>) -> Option<Prefix> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.routes.range((from, Bound::Unbounded)).next().map(|(&prefix, _)| prefix)
    }

    /// Prefixes that are in one of both, or in both in different ways.
    pub(crate) fn difference(&self, other: &Self) -> BTreeSet<Prefix> {
        let differs = |prefix: &&Prefix| self.routes.get(*prefix) != other.routes.get(*prefix);
        self.routes.keys().chain(other.routes.keys()).filter(differs).copied().collect()
    }
}

/// The attributes of what originates here: one value for each community, and one without any.
#[derive(Debug)]
pub(crate) struct OriginatedAttributes {
    plain: Arc<Attributes>,
    tagged: BTreeMap<RouteCommunity, Arc<Attributes>>,
}

impl OriginatedAttributes {
    pub(crate) fn new(attributes: &mut Interner<Attributes>) -> Self {
        Self { plain: attributes.share(Attributes::originated()), tagged: BTreeMap::new() }
    }

    /// Makes what the routes carry, and lets go of the rest.
    pub(crate) fn follow(&mut self, originated: &Originated, attributes: &mut Interner<Attributes>) {
        let carried: BTreeSet<RouteCommunity> =
            originated.routes.values().filter_map(|origination| origination.community).collect();
        let gone = self.tagged.extract_if(.., |community, _| !carried.contains(community)).count();
        (0..gone).for_each(|_| attributes.note_release());
        for community in carried {
            let make = || attributes.share(Attributes::originated_with(Some(community)));
            self.tagged.entry(community).or_insert_with(make);
        }
    }

    /// What a route carries.
    pub(crate) fn of(&self, origination: Origination) -> &Arc<Attributes> {
        // Each community of a route that originates here has its attributes.
        let tagged = origination.community.and_then(|community| self.tagged.get(&community));
        tagged.unwrap_or(&self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originated(texts: &[&str]) -> Originated {
        texts.iter().map(|text| (text.parse().unwrap(), Originator::StaticBlock)).collect()
    }

    #[test]
    fn covers_itself_and_what_is_inside_but_not_what_is_around() {
        let own = originated(&["10.1.8.192/26", "1.1.1.1/32", "fd00:8::/64"]);
        let row = |text: &str| own.covers(text.parse().unwrap());
        for inside in ["10.1.8.192/26", "10.1.8.192/27", "10.1.8.255/32", "1.1.1.1/32", "fd00:8::1/128"] {
            assert!(row(inside), "{inside}");
        }
        for outside in ["10.1.8.128/26", "10.1.8.0/24", "0.0.0.0/0", "1.1.1.0/24", "fd00::/16", "::/0"] {
            assert!(!row(outside), "{outside}");
        }
    }

    #[test]
    fn an_originated_default_route_does_not_shut_out_everything() {
        let own = originated(&["0.0.0.0/0"]);
        assert!(own.covers("0.0.0.0/0".parse().unwrap()));
        assert!(!own.covers("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn a_lent_address_is_one_that_every_network_around_it_may_lend() {
        let lent = |text: &str| {
            let lending = Lending::Addresses;
            (text.parse().unwrap(), Origination { lending, ..Originator::CalicoBlock.into() })
        };
        let kept = |text: &str| (text.parse().unwrap(), Origination::from(Originator::Service));
        let own: Originated = [
            lent("10.1.9.0/26"),
            kept("10.1.9.32/29"),
            kept("10.1.9.7/32"),
            lent("10.1.9.64/32"),
            kept("0.0.0.0/0"),
            kept("10.2.0.0/16"),
            lent("10.2.3.0/26"),
            lent("fd00:9::/122"),
        ]
        .into_iter()
        .collect();
        for lent in ["10.1.9.0/32", "10.1.9.5/32", "10.1.9.63/32", "fd00:9::3f/128"] {
            assert!(own.lends(lent.parse().unwrap()), "{lent}");
        }
        let not_lent = [
            "0.0.0.0/0",
            "10.1.9.0/26",
            "10.1.9.0/27",
            "10.1.9.4/31",
            "10.1.9.33/32",
            "10.1.9.7/32",
            "10.1.9.64/32",
            "10.1.9.65/32",
            "10.2.3.4/32",
            "fd00:9::/127",
            "fd00:9::40/128",
        ];
        for kept in not_lent {
            assert!(!own.lends(kept.parse().unwrap()), "{kept}");
        }
    }

    #[test]
    fn difference_names_what_came_went_or_changed_hands() {
        let (before, after) =
            (originated(&["10.0.0.0/26", "10.0.0.64/26"]), originated(&["10.0.0.64/26", "::/64"]));
        let difference: Vec<_> =
            before.difference(&after).into_iter().map(|prefix| prefix.to_string()).collect();
        assert_eq!(difference, ["10.0.0.0/26", "::/64"]);
        let by = Originator::StaticBlock;
        let tagged = Origination { community: Some("65001:100".parse().unwrap()), ..by.into() };
        let tagged = [("10.0.0.64/26".parse().unwrap(), tagged), ("::/64".parse().unwrap(), by.into())];
        let difference = after.difference(&tagged.into_iter().collect());
        assert_eq!(difference, ["10.0.0.64/26".parse().unwrap()].into());
    }
}
