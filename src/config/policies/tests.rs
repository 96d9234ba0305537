pub(in crate::config) mod any;
mod transit;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bgp::policy::Transit;
use bgp::{Asn, Prefix};

use super::super::tests::{problems, with};
use super::*;

fn rule(keys: &str) -> Rule {
    let text = format!(
        "[[prefix-list]]\nname = 'fabric'\nprefixes = ['10.0.0.0/8 le 32', 'fd00::/8']\n[[policy]]\nname = 'p'\n[[policy.rule]]\n{keys}\n"
    );
    let [policy] = with(&text).policies.try_into().unwrap();
    let [rule] = policy.rules.clone().try_into().unwrap();
    rule
}

/// The title and label of the one problem of a rule.
fn refusal(keys: &str) -> String {
    let text = format!("[[policy]]\nname = 'p'\n[[policy.rule]]\n{keys}\n");
    let all = problems(&text);
    let [problem] = all.as_slice() else { panic!("{keys}: {all:#?}") };
    let Place::Quoted(_) = problem.place else { panic!("{keys}: nowhere") };
    format!("{}: {}", problem.title, problem.label)
}

#[test]
fn each_condition_is_read() {
    let accept = "action = 'accept'";
    let conditions = |keys: &str| rule(&format!("{keys}\n{accept}")).conditions;
    let communities =
        |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Community>>();
    assert_eq!(conditions(""), Conditions::default());
    assert_eq!(conditions("community = 'no-export'").communities, [Community::NO_EXPORT]);
    let both = conditions("community = ['65001:1', 'graceful-shutdown']");
    assert_eq!(both.communities, communities(&["65001:1", "graceful-shutdown"]));
    let large = conditions("large-community = '4200000000:1:2'").large_communities;
    assert_eq!(large, ["4200000000:1:2".parse().unwrap()]);
    for (text, lengths) in [
        ("3", 3..=3),
        ("0", 0..=0),
        ("'le 4'", 0..=4),
        ("'ge 4'", 4..=u16::MAX),
        ("'ge 2 le 4'", 2..=4),
        ("'ge 4 le 4'", 4..=4),
    ] {
        assert_eq!(conditions(&format!("as-path-length = {text}")).as_path_length, Some(lengths), "{text}");
    }
    assert_eq!(conditions("origin-as = 65004").origin_as, [Asn(65004)]);
    assert_eq!(conditions("as-in-path = [65004, 4200000000]").as_in_path, [Asn(65004), Asn(4_200_000_000)]);
    let prefixes = |keys: &str, text: &str| {
        let prefix: Prefix = text.parse().unwrap();
        conditions(keys).prefixes.iter().any(|list| list.contains(prefix))
    };
    assert!(prefixes("prefix = '0.0.0.0/0'", "0.0.0.0/0"));
    assert!(!prefixes("prefix = '0.0.0.0/0'", "10.0.0.0/8"));
    assert!(
        prefixes("prefix-list = 'fabric'", "10.1.0.0/24") && prefixes("prefix-list = 'fabric'", "fd00::/8")
    );
    // Both are one condition.
    let both = "prefix = '0.0.0.0/0'\nprefix-list = ['fabric']";
    assert!(prefixes(both, "0.0.0.0/0") && prefixes(both, "10.1.0.0/24") && !prefixes(both, "11.0.0.0/8"));
}

#[test]
fn each_action_is_read() {
    let changes = |keys: &str| rule(keys).changes;
    let standard =
        |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Community>>();
    assert_eq!(rule("action = 'accept'").action, Some(Action::Accept));
    assert_eq!(rule("action = 'reject'").action, Some(Action::Reject));
    assert_eq!(rule("prepend = 2").action, None);
    assert_eq!(changes("prepend = 32").prepends, 32);
    assert_eq!(changes("set-local-preference = 0").local_pref, Some(0));
    assert_eq!(changes("set-med = 4294967295").med, Some(u32::MAX));
    assert_eq!(changes("set-community = []").communities, Edit::Replace(vec![]));
    assert_eq!(
        changes("set-community = ['1:1', '2:2']").communities,
        Edit::Replace(standard(&["1:1", "2:2"]))
    );
    assert_eq!(
        changes("add-community = '1:1'\nremove-community = ['2:2', 'no-export']").communities,
        Edit::Adjust { remove: standard(&["2:2", "no-export"]), add: standard(&["1:1"]) }
    );
    assert_eq!(
        changes("add-large-community = '1:2:3'").large_communities,
        Edit::Adjust { remove: vec![], add: vec!["1:2:3".parse().unwrap()] }
    );
    assert_eq!(
        changes("set-large-community = '1:2:3'").large_communities,
        Edit::Replace(vec!["1:2:3".parse().unwrap()])
    );
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (keys, expected) in [
        ("", "rule without an effect in [[policy.rule]]: neither accepts"),
        ("prefix = '10.0.0.0/8'", "rule without an effect in [[policy.rule]]: neither accepts"),
        ("add-community = []", "rule without an effect in [[policy.rule]]: neither accepts"),
        ("action = 'reject'\nset-med = 1", "changes of what is rejected in [[policy.rule]]"),
        ("set-community = '1:1'\nadd-community = '2:2'", "too many changes of one list"),
        ("action = 'permit'", "invalid `action` in [[policy.rule]]: permit is neither"),
        ("action = true", "invalid `action` in [[policy.rule]]: expected a string"),
        (
            "action = 'accept'\nprefix = '10.0.0.1/8'",
            "invalid `prefix` in [[policy.rule]]: has host bits set: the network is 10.0.0.0/8",
        ),
        ("action = 'accept'\nprefix = '10.0.0.0'", "invalid `prefix` in [[policy.rule]]: has no length"),
        (
            "action = 'accept'\nprefix = '10.0.0.0/33'",
            "invalid `prefix` in [[policy.rule]]: longer than the 32 bits of IPv4",
        ),
        (
            "action = 'accept'\nprefix = ['10.0.0.0/8', 'x']",
            "invalid `prefix` in [[policy.rule]]: not a network",
        ),
        (
            "action = 'accept'\nprefix = '10.0.0.0/16 le 8'",
            "invalid `prefix` in [[policy.rule]]: 8 is shorter than the network itself, which has 16 bits",
        ),
        (
            "action = 'accept'\nprefix = '10.0.0.0/8 ge 24 le 16'",
            "invalid `prefix` in [[policy.rule]]: no length is at least 24 and at most 16",
        ),
        (
            "action = 'accept'\nprefix = '::/0 le 129'",
            "invalid `prefix` in [[policy.rule]]: 129 is over the 128 bits of IPv6",
        ),
        (
            "action = 'accept'\nprefix = '10.0.0.0/8 eq 9'",
            "invalid `prefix` in [[policy.rule]]: behind the network",
        ),
        ("action = 'accept'\nprefix = []", "invalid `prefix` in [[policy.rule]]: holds for no path"),
        (
            "action = 'accept'\nprefix-list = 'x'",
            "invalid `prefix-list` in [[policy.rule]]: there is no [[prefix-list]] with the name x",
        ),
        (
            "action = 'accept'\ncommunity = 'no-exprot'",
            "invalid `community` in [[policy.rule]]: no well-known community has this name",
        ),
        (
            "action = 'accept'\ncommunity = '65536:1'",
            "invalid `community` in [[policy.rule]]: 65536 is over 65535",
        ),
        ("action = 'accept'\ncommunity = 65001", "invalid `community` in [[policy.rule]]: expected a string"),
        (
            "action = 'accept'\nlarge-community = '1:2'",
            "invalid `large-community` in [[policy.rule]]: not a community",
        ),
        (
            "action = 'accept'\nas-path-length = 'ge 4 le 2'",
            "invalid `as-path-length` in [[policy.rule]]: no length is at least 4 and at most 2",
        ),
        (
            "action = 'accept'\nas-path-length = '4-2'",
            "invalid `as-path-length` in [[policy.rule]]: not a length",
        ),
        (
            "action = 'accept'\nas-path-length = 65536",
            "invalid `as-path-length` in [[policy.rule]]: out of range",
        ),
        ("action = 'accept'\norigin-as = 0", "invalid `origin-as` in [[policy.rule]]: AS 0 is reserved"),
        ("prepend = 0", "invalid `prepend` in [[policy.rule]]: out of range"),
        ("prepend = 33", "invalid `prepend` in [[policy.rule]]: out of range"),
        ("set-med = -1", "invalid `set-med` in [[policy.rule]]: out of range"),
        (
            "action = 'accept'\ncomunity = '1:1'",
            "unknown key `comunity` in [[policy.rule]]: did you mean `community`?",
        ),
    ] {
        let found = refusal(keys);
        assert!(found.starts_with(expected), "{keys}\n{found}");
    }
}

#[test]
fn tables_without_a_name_or_with_one_that_is_taken_are_refused() {
    let titles = |text: &str| problems(text).into_iter().map(|problem| problem.title).collect::<Vec<_>>();
    assert_eq!(titles("[[policy]]"), ["missing `name` in [[policy]]"]);
    assert_eq!(titles("[policy]\nname = 'x'"), ["invalid `policy` at the top level"]);
    assert_eq!(titles("[[policy]]\nname = ''"), ["invalid `name` in [[policy]]"]);
    assert_eq!(titles("[[policy]]\nname = 'a b'"), ["invalid `name` in [[policy]]"]);
    assert_eq!(
        titles("[[policy]]\nname = 'p'\n[[policy]]\nname = 'p'"),
        ["two [[policy]] tables with the name p"]
    );
    assert_eq!(
        titles("[[prefix-list]]"),
        ["missing `name` in [[prefix-list]]", "missing `prefixes` in [[prefix-list]]"]
    );
    let list = "[[prefix-list]]\nname = 'l'\nprefixes = '0.0.0.0/0'\n";
    assert_eq!(titles(&list.repeat(2)), ["two [[prefix-list]] tables with the name l"]);
    assert!(with("[[prefix-list]]\nname = 'l'\nprefixes = []").prefix_lists[0].ranges().is_empty());
    let rules = "[[policy.rule]]\naction = 'accept'\n";
    with(&format!("[[policy]]\nname = 'p'\n{}", rules.repeat(1000)));
    assert_eq!(
        titles(&format!("[[policy]]\nname = 'p'\n{}", rules.repeat(1001))),
        ["invalid `rule` in [[policy]]"]
    );
}

#[test]
fn neighbors_name_their_policies() {
    let policies = "[[policy]]\nname = 'in'\n[[policy]]\nname = 'out'\ndefault = 'accept'\n[[neighbor]]\ninterface = 'ens3'\n";
    let neighbor = |keys: &str| with(&format!("{policies}{keys}")).neighbors.remove(0);
    let plain = neighbor("");
    assert_eq!(
        (plain.import, plain.export, plain.transit, plain.allowed_own_as),
        (None, None, Transit::Never, 0)
    );
    let named = neighbor("import = 'in'\nexport = 'out'\nallow-transit = true\nallowas-in = 10");
    assert_eq!((named.transit, named.allowed_own_as), (Transit::Allowed, 10));
    let (import, export) = (named.import.unwrap(), named.export.unwrap());
    assert_eq!((import.name.as_str(), import.default), ("in", Action::Reject));
    assert_eq!((export.name.as_str(), export.default), ("out", Action::Accept));
    // A table may stand behind the one that names it.
    with("[[neighbor]]\ninterface = 'ens3'\nimport = 'in'\n[[policy]]\nname = 'in'\n");
    let label = |keys: &str| {
        let [problem] = problems(&format!("{policies}{keys}")).try_into().unwrap();
        (problem.label, problem.help.concat())
    };
    assert_eq!(
        label("import = 'inn'"),
        (
            "there is no [[policy]] with the name inn".to_owned(),
            "allowed: the name of a [[policy]]: in, out".to_owned()
        )
    );
    assert_eq!(label("allow-transit = true").0, "would tell the neighbor of everything");
    assert_eq!(label("allowas-in = 11").0, "out of range");
}

#[test]
fn a_long_file_is_read_in_time() {
    let mut text = "[[prefix-list]]\nname = 'long'\nprefixes = [\n".to_owned();
    for number in 0..20_000 {
        let _ = writeln!(text, "'10.{}.{}.0/24 le 32',", number / 256, number % 256);
    }
    text += "]\n";
    for number in 0..100 {
        let _ = writeln!(text, "[[policy]]\nname = 'p{number}'");
        for rule in 0..50 {
            let _ = writeln!(
                text,
                "[[policy.rule]]\nprefix-list = 'long'\ncommunity = '1:{rule}'\naction = 'accept'"
            );
        }
    }
    let begin = Instant::now();
    let config = with(&text);
    // In a tenth of it without optimisation on a machine with nothing else to do.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(config.policies.len(), 100);
    // As long with as many mistakes.
    let wrong = text.replace("'long'\ncommunity", "'lang'\ncommunity");
    assert_eq!(problems(&wrong).len(), 5000);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}
