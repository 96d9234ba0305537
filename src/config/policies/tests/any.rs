//! Policies and prefix lists as property tests want them: every condition, change and action, of few values, so that
//! they meet. Nothing of this crate but the library's types, as tests in network namespaces take this file in too.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use bgp::Asn;
use bgp::policy::{Action, Changes, Conditions, Edit, Policy, PrefixList, PrefixRange, Rule};
use proptest::prelude::*;

fn any_communities<T: FromStr<Err: Debug> + Debug + Clone>(
    texts: &'static [&'static str],
    least: usize,
) -> impl Strategy<Value = Vec<T>> {
    proptest::sample::subsequence(texts, least..=texts.len())
        .prop_map(|texts| texts.into_iter().map(|text| text.parse().unwrap()).collect())
}

fn any_edit<T: FromStr<Err: Debug> + Debug + Clone + 'static>(
    texts: &'static [&'static str],
) -> impl Strategy<Value = Edit<T>> {
    prop_oneof![
        Just(Edit::Leave),
        any_communities(texts, 0).prop_map(Edit::Replace),
        (any_communities(texts, 1), any_communities(texts, 0))
            .prop_map(|(remove, add)| Edit::Adjust { remove, add }),
        any_communities(texts, 1).prop_map(|add| Edit::Adjust { remove: vec![], add }),
    ]
}

const STANDARD: [&str; 4] = ["65001:1", "0:65535", "no-export", "65535:65535"];
const LARGE: [&str; 3] = ["1:2:3", "4294967295:0:0", "0:0:0"];
const RANGES: [&str; 5] =
    ["0.0.0.0/0", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 16", "10.0.0.0/8 ge 16 le 24", "fd00::/8 le 64"];

fn any_ranges(least: usize) -> impl Strategy<Value = Vec<PrefixRange>> {
    any_communities::<PrefixRange>(&RANGES, least)
}

/// Mostly those of a fabric, so that there are paths for which the rule holds.
fn any_asns() -> impl Strategy<Value = Vec<Asn>> {
    let asn = prop_oneof![3 => 65001_u32..65006, 1 => 1_u32..23456];
    proptest::collection::vec(asn.prop_map(Asn), 0..3)
}

prop_compose! {
    fn any_rule(lists: Vec<Arc<PrefixList>>)(
        inline in any_ranges(0),
        named in proptest::sample::subsequence(lists.clone(), 0..=lists.len()),
        communities in any_communities(&STANDARD, 0),
        large_communities in any_communities(&LARGE, 0),
        as_path_length in proptest::option::of((0_u16..9, prop_oneof![9_u16..20, Just(u16::MAX)])),
        origin_as in any_asns(),
        as_in_path in any_asns(),
        edits in (any_edit(&STANDARD), any_edit(&LARGE)),
        local_pref in proptest::option::of(any::<u32>()),
        med in proptest::option::of(any::<u32>()),
        prepends in 0_u8..33,
        action in proptest::option::of(prop_oneof![Just(Action::Accept), Just(Action::Reject)]),
    ) -> Rule {
        let own_list = (!inline.is_empty()).then(|| Arc::new(PrefixList::new(None, inline)));
        let (communities_edit, large_edit) = edits;
        let changes = Changes {
            communities: communities_edit, large_communities: large_edit, local_pref, med, prepends,
        };
        let conditions = Conditions {
            prefixes: own_list.into_iter().chain(named).collect(),
            communities, large_communities,
            as_path_length: as_path_length.map(|(least, most)| least..=most),
            origin_as, as_in_path,
        };
        match action {
            Some(Action::Reject) => Rule { conditions, changes: Changes::default(), action },
            None if changes.is_empty() => Rule { conditions, changes, action: Some(Action::Accept) },
            Some(Action::Accept) | None => Rule { conditions, changes, action },
        }
    }
}

fn any_policy(lists: Vec<Arc<PrefixList>>) -> impl Strategy<Value = (Vec<Rule>, Action)> {
    let default = prop_oneof![Just(Action::Accept), Just(Action::Reject)];
    (proptest::collection::vec(any_rule(lists), 0..4), default)
}

prop_compose! {
    fn any_lists()(lists in proptest::collection::vec(any_ranges(0), 0..3)) -> Vec<Arc<PrefixList>> {
        let named = lists.into_iter().enumerate();
        named.map(|(number, ranges)| Arc::new(PrefixList::new(Some(format!("list-{number}")), ranges))).collect()
    }
}

/// Prefix lists, and policies that use them.
pub(crate) fn any_policies() -> impl Strategy<Value = (Vec<Arc<PrefixList>>, Vec<Arc<Policy>>)> {
    any_lists().prop_flat_map(|lists| {
        let policies = proptest::collection::vec(any_policy(lists.clone()), 0..3);
        (Just(lists), policies).prop_map(|(lists, policies)| {
            let named = policies.into_iter().enumerate().map(|(number, (rules, default))| {
                Arc::new(Policy { name: format!("policy_{number}"), rules, default })
            });
            (lists, named.collect())
        })
    })
}
