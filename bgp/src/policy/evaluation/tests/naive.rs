//! The language once more, on texts: what an operator would work out on paper. Nothing of it is shared with the policies
//! that it is compared with, but that both are made from one description.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// A rule as keys and values, such as a file has them.
type Keys = BTreeMap<&'static str, Vec<String>>;

/// A path as texts.
#[derive(Debug, Clone, PartialEq)]
struct Paper {
    asns: Vec<u32>,
    communities: Vec<String>,
    large: Vec<String>,
    local_pref: Option<u32>,
    med: Option<u32>,
}

fn bits(address: &str) -> String {
    match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
        IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
    }
}

fn in_range(prefix: &str, range: &str) -> bool {
    let (address, length) = prefix.split_once('/').unwrap();
    let words: Vec<&str> = range.split(' ').collect();
    let (network, shortest) = words[0].split_once('/').unwrap();
    let (address, network): (String, String) = (bits(address), bits(network));
    let (length, own): (usize, usize) = (length.parse().unwrap(), shortest.parse().unwrap());
    let bound = |word: &str| {
        let at = words.iter().position(|other| *other == word)?;
        words[at + 1].parse::<usize>().ok()
    };
    let least = bound("ge").unwrap_or(own);
    let most = bound("le").unwrap_or(if bound("ge").is_some() { network.len() } else { own });
    address.len() == network.len() && address[..own] == network[..own] && least <= length && length <= most
}

fn holds(keys: &Keys, prefix: &str, path: &Paper) -> bool {
    keys.iter().all(|(key, values)| match *key {
        "prefix" => values.iter().any(|range| in_range(prefix, range)),
        "community" => values.iter().any(|one| path.communities.contains(one)),
        "large-community" => values.iter().any(|one| path.large.contains(one)),
        "as-path-length" => {
            let (least, most): (usize, usize) = (values[0].parse().unwrap(), values[1].parse().unwrap());
            least <= path.asns.len() && path.asns.len() <= most
        }
        "origin-as" => values.iter().any(|one| path.asns.last().map(u32::to_string).as_ref() == Some(one)),
        "as-in-path" => values.iter().any(|one| path.asns.iter().any(|asn| asn.to_string() == *one)),
        _ => true,
    })
}

fn edit(list: &mut Vec<String>, keys: &Keys, [set, remove, add]: [&str; 3]) {
    if let Some(values) = keys.get(set) {
        list.clone_from(values);
    }
    if let Some(values) = keys.get(remove) {
        list.retain(|one| !values.contains(one));
    }
    for value in keys.get(add).into_iter().flatten() {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
}

/// `None`: rejected.
fn interpret(rules: &[Keys], default: &str, prefix: &str, path: &Paper) -> Option<Paper> {
    let mut path = path.clone();
    let mut action = default;
    for keys in rules {
        if !holds(keys, prefix, &path) {
            continue;
        }
        edit(&mut path.communities, keys, ["set-community", "remove-community", "add-community"]);
        edit(&mut path.large, keys, ["set-large-community", "remove-large-community", "add-large-community"]);
        if let Some(value) = keys.get("set-local-preference") {
            path.local_pref = value[0].parse().ok();
        }
        if let Some(value) = keys.get("set-med") {
            path.med = value[0].parse().ok();
        }
        for _ in 0..keys.get("prepend").map_or(0, |value| value[0].parse().unwrap()) {
            path.asns.insert(0, NEIGHBOR.0);
        }
        if let Some(value) = keys.get("action") {
            action = &value[0];
            break;
        }
    }
    (action == "accept").then_some(path)
}

fn compiled(rules: &[Keys], default: &str) -> Policy {
    let action = |word: &str| if word == "accept" { Action::Accept } else { Action::Reject };
    let rule = |keys: &Keys| {
        let of = |key: &str| keys.get(key).cloned().unwrap_or_default();
        let number = |key: &str| keys.get(key).map(|value| value[0].parse::<u32>().unwrap());
        let asns = |key: &str| of(key).iter().map(|text| Asn(text.parse().unwrap())).collect();
        let lengths = of("as-path-length");
        let prefixes = of("prefix");
        Rule {
            conditions: Conditions {
                prefixes: if prefixes.is_empty() {
                    vec![]
                } else {
                    super::prefixes(&prefixes.iter().map(String::as_str).collect::<Vec<_>>())
                },
                communities: of("community").iter().map(|text| text.parse().unwrap()).collect(),
                large_communities: of("large-community").iter().map(|text| text.parse().unwrap()).collect(),
                as_path_length: (!lengths.is_empty())
                    .then(|| lengths[0].parse().unwrap()..=lengths[1].parse().unwrap()),
                origin_as: asns("origin-as"),
                as_in_path: asns("as-in-path"),
            },
            changes: Changes {
                communities: edit_of(keys, ["set-community", "remove-community", "add-community"]),
                large_communities: edit_of(
                    keys,
                    ["set-large-community", "remove-large-community", "add-large-community"],
                ),
                local_pref: number("set-local-preference"),
                med: number("set-med"),
                prepends: u8::try_from(number("prepend").unwrap_or(0)).unwrap(),
            },
            action: keys.get("action").map(|value| action(&value[0])),
        }
    };
    Policy { name: "any".to_owned(), rules: rules.iter().map(rule).collect(), default: action(default) }
}

fn edit_of<T: std::str::FromStr<Err: std::fmt::Debug>>(
    keys: &Keys,
    [set, remove, add]: [&str; 3],
) -> Edit<T> {
    let of = |key: &str| keys.get(key).into_iter().flatten().map(|text| text.parse().unwrap()).collect();
    if keys.contains_key(set) {
        Edit::Replace(of(set))
    } else if keys.contains_key(remove) || keys.contains_key(add) {
        Edit::Adjust { remove: of(remove), add: of(add) }
    } else {
        Edit::Leave
    }
}

fn attributes_of(paper: &Paper) -> Attributes {
    let communities: Vec<&str> = paper.communities.iter().chain(&paper.large).map(String::as_str).collect();
    let base = (*super::attributes(&paper.asns, &communities)).clone();
    Attributes { local_pref: paper.local_pref, med: paper.med, ..base }
}

const PREFIXES: [&str; 7] =
    ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "fd00:1::/48", "::/0"];
const RANGES: [&str; 9] = [
    "0.0.0.0/0",
    "0.0.0.0/0 le 32",
    "10.0.0.0/8 le 16",
    "10.0.0.0/8 ge 16",
    "10.1.0.0/16 ge 17 le 24",
    "10.1.2.0/24",
    "10.1.2.0/23 ge 24",
    "::/0 ge 1 le 64",
    "fd00:1::/48",
];
const COMMUNITIES: [&str; 4] = ["65001:1", "65001:2", "no-export", "graceful-shutdown"];
const LARGE: [&str; 3] = ["1:2:3", "4:5:6", "7:8:9"];
const ASNS: [&str; 4] = ["65101", "65102", "65103", "65104"];

fn some(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    let some = proptest::sample::subsequence(of, least..=of.len().min(3));
    some.prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

fn number(range: std::ops::Range<u32>) -> impl Strategy<Value = Vec<String>> {
    range.prop_map(|number| vec![number.to_string()])
}

fn any_rule() -> impl Strategy<Value = Keys> {
    let lengths = (0_u32..4, 0_u32..4).prop_map(|(a, b)| vec![a.min(b).to_string(), a.max(b).to_string()]);
    let key = prop_oneof![
        3 => some(&RANGES, 1).prop_map(|values| vec![("prefix", values)]),
        3 => some(&COMMUNITIES, 1).prop_map(|values| vec![("community", values)]),
        1 => some(&LARGE, 1).prop_map(|values| vec![("large-community", values)]),
        1 => lengths.prop_map(|values| vec![("as-path-length", values)]),
        1 => some(&ASNS, 1).prop_map(|values| vec![("origin-as", values)]),
        1 => some(&ASNS, 1).prop_map(|values| vec![("as-in-path", values)]),
        2 => some(&COMMUNITIES, 0).prop_map(|values| vec![("set-community", values)]),
        2 => (some(&COMMUNITIES, 1), some(&COMMUNITIES, 0))
            .prop_map(|(remove, add)| vec![("remove-community", remove), ("add-community", add)]),
        1 => some(&LARGE, 0).prop_map(|values| vec![("set-large-community", values)]),
        1 => some(&LARGE, 1).prop_map(|values| vec![("add-large-community", values)]),
        1 => number(0..3).prop_map(|value| vec![("set-local-preference", value)]),
        1 => number(0..3).prop_map(|value| vec![("set-med", value)]),
        1 => number(1..3).prop_map(|value| vec![("prepend", value)]),
        2 => proptest::sample::select(vec!["accept", "reject"])
            .prop_map(|word| vec![("action", vec![word.to_owned()])]),
    ];
    proptest::collection::vec(key, 0..4).prop_map(|keys| {
        let mut keys: Keys = keys.into_iter().flatten().collect();
        // The file does not allow both.
        if keys.contains_key("set-community") {
            keys.remove("remove-community");
            keys.remove("add-community");
        }
        if keys.contains_key("set-large-community") {
            keys.remove("add-large-community");
        }
        keys
    })
}

prop_compose! {
    fn any_path()(
        asns in proptest::collection::vec(65101_u32..65105, 0..4),
        communities in some(&COMMUNITIES, 0),
        large in some(&LARGE, 0),
        local_pref in proptest::option::of(0_u32..3),
        med in proptest::option::of(0_u32..3),
    ) -> Paper {
        Paper { asns, communities, large, local_pref, med }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_policy_does_what_is_worked_out_on_paper(
        rules in proptest::collection::vec(any_rule(), 0..6),
        default in proptest::sample::select(vec!["accept", "reject"]),
        path in any_path(),
    ) {
        let policy = compiled(&rules, default);
        let attributes = Arc::new(attributes_of(&path));
        // All prefixes share what is remembered of the attributes.
        let mut variants = Variants::new(Arc::clone(&attributes), NEIGHBOR, Preference::Free);
        for text in PREFIXES {
            let expected = interpret(&rules, default, text, &path).as_ref().map(attributes_of);
            let accepted = variants.judge(&policy, prefix(text), |_| {});
            let outcome = accepted.and_then(|variant| variants.attributes(variant));
            prop_assert_eq!(outcome.map(|attributes| (**attributes).clone()), expected.clone(), "{}", text);
            let ruling = policy.judge(prefix(text), &attributes, NEIGHBOR);
            prop_assert_eq!(ruling.action == Action::Accept, expected.is_some());
            if let Some(expected) = expected {
                prop_assert_eq!(&**ruling.changed.as_ref().unwrap_or(&attributes), &expected);
            }
        }
    }
}
