//! What an operator adds to the built-in guard: policies of rules.
//!
//! A rule holds for a path where each of its conditions does; a condition that names several values holds where any of
//! them does, and a rule without conditions holds for every path. The rules are looked at in their order. One that holds
//! changes the path as it says; the rules behind it see the change. The first one that holds and accepts or rejects ends
//! the matter, and where none does, the policy's default.
//!
//! What a policy makes of a path is worked out in `evaluation`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::PrefixList;
use crate::message::{Attributes, Community, LargeCommunity};
use crate::{Asn, Prefix};

/// A list of rules with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What the file calls it.
    pub name: String,
    /// In the order in which they are looked at.
    pub rules: Vec<Rule>,
    /// What becomes of a path that no rule has accepted or rejected.
    pub default: Action,
}

/// What becomes of a path in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on, with what the rules have changed.
    Accept,
    /// It does not.
    Reject,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// When it holds.
    pub conditions: Conditions,
    /// What it does to the path.
    pub changes: Changes,
    /// What becomes of the path; `None`: the next rule is looked at.
    pub action: Option<Action>,
}

/// All of these have to hold. An empty list is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The prefix is in one of these.
    pub prefixes: Vec<Arc<PrefixList>>,
    /// The path carries one of these (RFC 1997).
    pub communities: Vec<Community>,
    /// The path carries one of these (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// Length of the AS_PATH as the decision counts it ([`AsPath::length`](crate::message::AsPath::length)).
    pub as_path_length: Option<RangeInclusive<u16>>,
    /// The route comes from one of these ASes: the last one of the path. A route that originates here has none.
    pub origin_as: Vec<Asn>,
    /// One of these ASes is anywhere in the path.
    pub as_in_path: Vec<Asn>,
}

/// What a rule does to a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// To COMMUNITIES.
    pub communities: Edit<Community>,
    /// To LARGE_COMMUNITY.
    pub large_communities: Edit<LargeCommunity>,
    /// LOCAL_PREF from now on. On the way out it reaches internal neighbors only (RFC 4271 section 5.1.5).
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC from now on.
    pub med: Option<u32>,
    /// How often an AS is put before the path: the neighbor's on the way in, ours on the way out.
    pub prepends: u8,
}

/// What becomes of a list of communities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Edit<T> {
    /// Nothing.
    #[default]
    Leave,
    /// It is this list from now on.
    Replace(Vec<T>),
    /// Some go, then some come, each unless it is there already.
    Adjust {
        /// Those that go.
        remove: Vec<T>,
        /// Those that come.
        add: Vec<T>,
    },
}

impl Policy {
    /// How much work it is to judge a path, in rules and values that are compared with what the path carries.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.rules.iter().map(|rule| 1 + rule.conditions.values()).sum()
    }
}

impl Conditions {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && !self.look_at_attributes()
    }

    /// Whether those that are about the prefix hold.
    pub(super) fn allow_prefix(&self, prefix: Prefix) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|list| list.contains(prefix))
    }

    /// Whether there is one that is about attributes.
    pub(super) fn look_at_attributes(&self) -> bool {
        let Self { prefixes: _, communities, large_communities, as_path_length, origin_as, as_in_path } =
            self;
        !(communities.is_empty()
            && large_communities.is_empty()
            && as_path_length.is_none()
            && origin_as.is_empty()
            && as_in_path.is_empty())
    }

    /// Whether those that are about attributes hold.
    pub(super) fn allow_attributes(&self, attributes: &Attributes, carried: &Carried) -> bool {
        let path = &attributes.as_path;
        let is_any_of =
            |asns: &[Asn], test: &dyn Fn(Asn) -> bool| asns.is_empty() || asns.iter().any(|&asn| test(asn));
        shares(&self.communities, &carried.communities)
            && shares(&self.large_communities, &carried.large_communities)
            && self
                .as_path_length
                .as_ref()
                .is_none_or(|lengths| lengths.contains(&u16::try_from(path.length()).unwrap_or(u16::MAX)))
            && is_any_of(&self.origin_as, &|asn| path.origin_as() == Some(asn))
            && is_any_of(&self.as_in_path, &|asn| path.contains(asn))
    }

    fn values(&self) -> usize {
        let Self { prefixes, communities, large_communities, as_path_length: _, origin_as, as_in_path } =
            self;
        prefixes.len() + communities.len() + large_communities.len() + origin_as.len() + as_in_path.len()
    }
}

/// What a path carries, in order: a peer may send a thousand communities, and a policy may name as many.
#[derive(Debug)]
pub(super) struct Carried {
    communities: Vec<Community>,
    large_communities: Vec<LargeCommunity>,
}

impl Carried {
    pub(super) fn by(attributes: &Attributes) -> Self {
        let mut carried = Self {
            communities: attributes.communities.to_vec(),
            large_communities: attributes.large_communities.to_vec(),
        };
        carried.communities.sort_unstable();
        carried.large_communities.sort_unstable();
        carried
    }
}

/// Whether one of the wanted is carried, or none is wanted.
fn shares<T: Ord>(wanted: &[T], carried: &[T]) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| carried.binary_search(one).is_ok())
}

impl Changes {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The attributes with the changes made.
    pub(super) fn apply(&self, attributes: &Attributes, prepended: Asn) -> Attributes {
        let Self { communities, large_communities, local_pref, med, prepends } = self;
        let mut changed = attributes.clone();
        if let Some(communities) = communities.apply(&changed.communities) {
            changed.communities = communities.into();
        }
        if let Some(communities) = large_communities.apply(&changed.large_communities) {
            changed.large_communities = communities.into();
        }
        changed.local_pref = local_pref.or(changed.local_pref);
        changed.med = med.or(changed.med);
        for _ in 0..*prepends {
            changed.as_path = changed.as_path.prepended(prepended);
        }
        changed
    }
}

impl<T: Copy + PartialEq> Edit<T> {
    /// `None` where the list stays as it is.
    fn apply(&self, list: &[T]) -> Option<Vec<T>> {
        match self {
            Self::Leave => None,
            Self::Replace(with) => Some(with.clone()),
            Self::Adjust { remove, add } => {
                let mut adjusted: Vec<T> = list.iter().copied().filter(|one| !remove.contains(one)).collect();
                for &one in add {
                    if !adjusted.contains(&one) {
                        adjusted.push(one);
                    }
                }
                Some(adjusted)
            }
        }
    }
}
