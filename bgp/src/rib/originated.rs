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
}

impl From<Originator> for Origination {
    fn from(by: Originator) -> Self {
        Self { by, community: None }
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
        let mut networks = self.lengths.around(prefix);
        networks.any(|network| self.contains(network) && (!network.is_default() || prefix.is_default()))
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The first one behind `after`.
    pub(crate) fn next(&self, after: Option<Prefix>) -> Option<Prefix> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.routes.range((from, Bound::Unbounded)).next().map(|(&prefix, _)| prefix)
    }

    /// Prefixes that are in one of both, or in both with different originators or communities.
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
    fn difference_names_what_came_went_or_changed_hands() {
        let (before, after) =
            (originated(&["10.0.0.0/26", "10.0.0.64/26"]), originated(&["10.0.0.64/26", "::/64"]));
        let difference: Vec<_> =
            before.difference(&after).into_iter().map(|prefix| prefix.to_string()).collect();
        assert_eq!(difference, ["10.0.0.0/26", "::/64"]);
        let by = Originator::StaticBlock;
        let tagged = Origination { by, community: Some("65001:100".parse().unwrap()) };
        let tagged = [("10.0.0.64/26".parse().unwrap(), tagged), ("::/64".parse().unwrap(), by.into())];
        let difference = after.difference(&tagged.into_iter().collect());
        assert_eq!(difference, ["10.0.0.64/26".parse().unwrap()].into());
    }
}
