//! A row for each condition and each action, and any policy against an interpreter that knows nothing of this one.

mod naive;

use std::ops::RangeInclusive;

use super::*;
use crate::message::{Community, LargeCommunity};
use crate::policy::{Changes, Conditions, Edit, PrefixList};
use crate::rib::fixtures::{path, prefix};

const NEIGHBOR: Asn = Asn(65101);

/// What a test's path carries: these ASes, and these communities of either kind.
fn attributes(asns: &[u32], communities: &[&str]) -> Arc<Attributes> {
    let large = communities.iter().filter(|text| text.matches(':').count() == 2);
    let standard = communities.iter().filter(|text| text.matches(':').count() != 2);
    Arc::new(Attributes {
        as_path: path(asns),
        communities: standard.map(|text| text.parse::<Community>().unwrap()).collect(),
        large_communities: large.map(|text| text.parse::<LargeCommunity>().unwrap()).collect(),
        ..Attributes::originated()
    })
}

fn prefixes(ranges: &[&str]) -> Vec<Arc<PrefixList>> {
    vec![Arc::new(PrefixList::new(None, ranges.iter().map(|text| text.parse().unwrap()).collect()))]
}

fn accept_if(conditions: Conditions) -> Policy {
    let rule = Rule { conditions, changes: Changes::default(), action: Some(Action::Accept) };
    policy(vec![rule])
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy { name: "test".to_owned(), rules, default: Action::Reject }
}

fn accepts(policy: &Policy, text: &str, attributes: &Arc<Attributes>) -> bool {
    policy.judge(prefix(text), attributes, NEIGHBOR).action == Action::Accept
}

#[test]
fn each_condition() {
    let carried = attributes(&[65101, 65102, 65103], &["65001:1", "65001:2", "no-export", "7:8:9"]);
    let community = |text: &str| text.parse::<Community>().unwrap();
    let large = |text: &str| text.parse::<LargeCommunity>().unwrap();
    let lengths =
        |lengths: RangeInclusive<u16>| Conditions { as_path_length: Some(lengths), ..Conditions::default() };
    let origin = |asns: &[u32]| Conditions {
        origin_as: asns.iter().copied().map(Asn).collect(),
        ..Conditions::default()
    };
    let in_path = |asns: &[u32]| Conditions {
        as_in_path: asns.iter().copied().map(Asn).collect(),
        ..Conditions::default()
    };
    let communities = |texts: &[&str]| Conditions {
        communities: texts.iter().copied().map(community).collect(),
        ..Conditions::default()
    };
    let large_communities = |texts: &[&str]| Conditions {
        large_communities: texts.iter().copied().map(large).collect(),
        ..Conditions::default()
    };
    let in_ranges = |ranges: &[&str]| Conditions { prefixes: prefixes(ranges), ..Conditions::default() };
    let rows = [
        (Conditions::default(), true),
        (in_ranges(&["10.1.0.0/16"]), true),
        (in_ranges(&["10.0.0.0/8"]), false),
        (in_ranges(&["10.0.0.0/8 le 15"]), false),
        (in_ranges(&["10.0.0.0/8 le 16"]), true),
        (in_ranges(&["10.0.0.0/8 ge 16"]), true),
        (in_ranges(&["10.0.0.0/8 ge 17"]), false),
        (in_ranges(&["::/0 le 128"]), false),
        (in_ranges(&["::/0 le 128", "0.0.0.0/0 le 32"]), true),
        (communities(&["65001:1"]), true),
        (communities(&["65001:3"]), false),
        (communities(&["65001:3", "65001:2"]), true),
        (communities(&["no-export"]), true),
        (communities(&["65535:65281"]), true),
        (communities(&["no-advertise"]), false),
        (large_communities(&["7:8:9"]), true),
        (large_communities(&["7:8:10", "7:8:9"]), true),
        (large_communities(&["7:8:10"]), false),
        (lengths(3..=3), true),
        (lengths(0..=2), false),
        (lengths(0..=u16::MAX), true),
        (lengths(4..=u16::MAX), false),
        (origin(&[65103]), true),
        (origin(&[65101]), false),
        (origin(&[65101, 65103]), true),
        (in_path(&[65102]), true),
        (in_path(&[65101]), true),
        (in_path(&[65104]), false),
        (in_path(&[65104, 65103]), true),
        // All of them.
        (Conditions { origin_as: vec![Asn(65103)], ..communities(&["65001:1"]) }, true),
        (Conditions { origin_as: vec![Asn(65104)], ..communities(&["65001:1"]) }, false),
        (Conditions { origin_as: vec![Asn(65103)], ..communities(&["65001:9"]) }, false),
        (Conditions { prefixes: prefixes(&["11.0.0.0/8 le 32"]), ..communities(&["65001:1"]) }, false),
    ];
    for (conditions, expected) in rows {
        let policy = accept_if(conditions);
        assert_eq!(accepts(&policy, "10.1.0.0/16", &carried), expected, "{:?}", policy.rules);
    }
}

#[test]
fn a_route_of_our_own_has_a_path_of_no_length_and_no_origin() {
    let own = attributes(&[], &[]);
    let length = Conditions { as_path_length: Some(0..=0), ..Conditions::default() };
    assert!(accepts(&accept_if(length), "10.1.0.0/16", &own));
    let origin = Conditions { origin_as: vec![Asn(65001)], ..Conditions::default() };
    assert!(!accepts(&accept_if(origin), "10.1.0.0/16", &own));
}

#[test]
fn each_change() {
    let carried = attributes(&[65101], &["65001:1", "65001:2", "7:8:9"]);
    let standard =
        |texts: &[&str]| texts.iter().map(|text| text.parse::<Community>().unwrap()).collect::<Vec<_>>();
    let large =
        |texts: &[&str]| texts.iter().map(|text| text.parse::<LargeCommunity>().unwrap()).collect::<Vec<_>>();
    let of = |edit| Changes { communities: edit, ..Changes::default() };
    let of_large = |edit| Changes { large_communities: edit, ..Changes::default() };
    let adjust =
        |remove: &[&str], add: &[&str]| Edit::Adjust { remove: standard(remove), add: standard(add) };
    let same = || (*carried).clone();
    let rows = [
        (
            of(Edit::Replace(standard(&["1:1"]))),
            Attributes { communities: standard(&["1:1"]).into(), ..same() },
        ),
        (of(Edit::Replace(vec![])), Attributes { communities: [].into(), ..same() }),
        (
            of(adjust(&[], &["1:1", "65001:2"])),
            Attributes { communities: standard(&["65001:1", "65001:2", "1:1"]).into(), ..same() },
        ),
        (
            of(adjust(&["65001:1", "5:5"], &[])),
            Attributes { communities: standard(&["65001:2"]).into(), ..same() },
        ),
        (
            of(adjust(&["65001:1"], &["65001:1"])),
            Attributes { communities: standard(&["65001:2", "65001:1"]).into(), ..same() },
        ),
        (
            of_large(Edit::Replace(large(&["1:1:1"]))),
            Attributes { large_communities: large(&["1:1:1"]).into(), ..same() },
        ),
        (
            of_large(Edit::Adjust { remove: large(&["7:8:9"]), add: large(&["1:1:1"]) }),
            Attributes { large_communities: large(&["1:1:1"]).into(), ..same() },
        ),
        (Changes { local_pref: Some(0), ..Changes::default() }, Attributes { local_pref: Some(0), ..same() }),
        (Changes { med: Some(u32::MAX), ..Changes::default() }, Attributes { med: Some(u32::MAX), ..same() }),
        (
            Changes { prepends: 3, ..Changes::default() },
            Attributes { as_path: path(&[65101, 65101, 65101, 65101]), ..same() },
        ),
    ];
    for (changes, expected) in rows {
        let rule = Rule { changes, action: Some(Action::Accept), ..Rule::default() };
        let ruling = policy(vec![rule]).judge(prefix("10.0.0.0/8"), &carried, NEIGHBOR);
        assert_eq!(ruling.changed.as_deref(), Some(&expected));
    }
}

#[test]
fn the_first_rule_that_ends_it_does_and_the_default_where_none_does() {
    let note =
        |value: u32| Rule { changes: Changes { med: Some(value), ..Changes::default() }, ..Rule::default() };
    let end = |action| Rule { action: Some(action), ..Rule::default() };
    let other = |action| Rule {
        conditions: Conditions { prefixes: prefixes(&["99.0.0.0/8"]), ..Conditions::default() },
        action: Some(action),
        ..Rule::default()
    };
    use Action::{Accept, Reject};
    let rows = [
        (vec![], Reject, Reject, vec![], Decider::Default),
        (vec![], Accept, Accept, vec![], Decider::Default),
        (vec![note(1)], Reject, Reject, vec![0], Decider::Default),
        (vec![note(1), note(2)], Accept, Accept, vec![0, 1], Decider::Default),
        (vec![end(Accept), end(Reject)], Reject, Accept, vec![0], Decider::Rule),
        (vec![end(Reject), end(Accept)], Accept, Reject, vec![0], Decider::Rule),
        (vec![other(Reject), note(1), end(Accept), note(2)], Reject, Accept, vec![1, 2], Decider::Rule),
        (vec![other(Accept), other(Reject)], Accept, Accept, vec![], Decider::Default),
    ];
    for (rules, default, action, matched, decided_by) in rows {
        let policy = Policy { name: "test".to_owned(), rules, default };
        let ruling = policy.judge(prefix("10.0.0.0/8"), &attributes(&[65101], &[]), NEIGHBOR);
        assert_eq!((ruling.action, &ruling.matched, ruling.decided_by), (action, &matched, decided_by));
        let med = (action == Accept)
            .then(|| matched.iter().filter(|rule| policy.rules[**rule].action.is_none()).count());
        let expected = med.filter(|count| *count > 0).map(|count| u32::try_from(count).unwrap());
        assert_eq!(ruling.changed.and_then(|changed| changed.med), expected);
    }
}

#[test]
fn a_rule_sees_what_those_before_it_have_changed() {
    let tag: Vec<Community> = vec!["65001:1".parse().unwrap()];
    let rules = vec![
        Rule {
            conditions: Conditions { prefixes: prefixes(&["10.0.0.0/8 le 32"]), ..Conditions::default() },
            changes: Changes { communities: Edit::Replace(tag.clone()), ..Changes::default() },
            action: None,
        },
        Rule {
            conditions: Conditions { communities: tag, ..Conditions::default() },
            action: Some(Action::Accept),
            ..Rule::default()
        },
    ];
    let policy = policy(rules);
    let plain = attributes(&[65101], &[]);
    // Both in one go, since what is remembered of one prefix must not be taken for the other's.
    let mut variants = Variants::new(plain, NEIGHBOR, Preference::Free);
    for _ in 0..2 {
        assert!(variants.judge(&policy, prefix("10.0.0.0/24"), |_| {}).is_some());
        assert_eq!(variants.judge(&policy, prefix("11.0.0.0/24"), |_| {}), None);
    }
    assert_eq!(variants.list.len(), 2);
}

#[test]
fn what_the_guard_has_made_the_last_choice_stays_that() {
    let rule = Rule {
        changes: Changes { local_pref: Some(500), med: Some(1), ..Changes::default() },
        action: Some(Action::Accept),
        ..Rule::default()
    };
    let last = Arc::new(Attributes { local_pref: Some(0), ..(*attributes(&[65101], &[])).clone() });
    let ruling =
        policy(vec![rule]).rule_on(prefix("10.0.0.0/8"), Variants::new(last, NEIGHBOR, Preference::Fixed));
    let changed = ruling.changed.unwrap();
    assert_eq!((changed.local_pref, changed.med), (Some(0), Some(1)));
}

#[test]
fn hits_are_counted_by_rule() {
    let rules = vec![
        Rule { changes: Changes { med: Some(1), ..Changes::default() }, ..Rule::default() },
        Rule {
            conditions: Conditions { prefixes: prefixes(&["10.0.0.0/8"]), ..Conditions::default() },
            action: Some(Action::Accept),
            ..Rule::default()
        },
    ];
    let policy = policy(rules);
    let mut hits = Hits::none_yet(Some(&policy));
    let mut variants = Variants::new(attributes(&[65101], &[]), NEIGHBOR, Preference::Free);
    for text in ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"] {
        variants.judge(&policy, prefix(text), |step| hits.count(step));
    }
    assert_eq!(hits, Hits { rules: vec![3, 1], default: 2 });
}
