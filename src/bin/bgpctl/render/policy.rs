//! `show policy`: what the routes of each neighbor go by, the guard first, with how often each rule has held.

use selvedge::control::api::{
    NeighborPolicies, Policies, PolicyChain, PolicyInForce, PolicyRule, PolicyTrace,
};

use crate::output::printable;

/// Places of a counter; longer ones push their line to the right.
const HITS_WIDTH: usize = 10;

pub(crate) fn policies(policies: &Policies) -> String {
    if policies.neighbors.is_empty() {
        return "No neighbors.\n".to_owned();
    }
    let mut texts: Vec<String> = policies.neighbors.iter().map(neighbor).collect();
    if !policies.at_rest {
        texts.push("Routes are still being decided, or told to a neighbor.\n".to_owned());
    }
    texts.join("\n")
}

fn neighbor(policies: &NeighborPolicies) -> String {
    let NeighborPolicies { neighbor, import, export, allow_transit, allowas_in } = policies;
    let mut text = format!("Neighbor {}\n", printable(neighbor));
    text += &chain("Import", import, "accepted");
    if *allowas_in > 0 {
        text += &format!("    Our AS may be in a path {allowas_in} times.\n");
    }
    text += &chain("Export", export, "told");
    if *allow_transit {
        text += "    Learned routes may be told: this host is transit for the neighbor.\n";
    }
    text
}

fn chain(direction: &str, PolicyChain { guard, policy }: &PolicyChain, fate: &str) -> String {
    let mut text = format!("  {direction}, built-in guard: rejects what has to do with\n");
    for rule in guard {
        text += &format!("{:>HITS_WIDTH$}  {}\n", rule.hits, printable(&rule.reason));
    }
    match policy {
        Some(policy) => text += &in_force(direction, policy),
        None => text += &format!("  {direction}, no policy: all else is {fate}\n"),
    }
    text
}

fn in_force(direction: &str, policy: &PolicyInForce) -> String {
    let PolicyInForce { name, rules, default, default_hits } = policy;
    let mut text = format!("  {direction}, policy {}\n", printable(name));
    for PolicyRule { number, conditions, actions, hits } in rules {
        let conditions = if conditions.is_empty() { "always".to_owned() } else { joined(conditions) };
        text += &format!("{hits:>HITS_WIDTH$}  {number}. {conditions}: {}\n", joined(actions));
    }
    text + &format!("{default_hits:>HITS_WIDTH$}  at the end: {}\n", printable(default))
}

fn joined(texts: &[String]) -> String {
    texts.iter().map(|text| printable(text)).collect::<Vec<_>>().join(", ")
}

/// What a policy did to one path, in one cell.
pub(crate) fn trace(trace: &PolicyTrace) -> String {
    let rules = trace.rules.iter().map(|rule| format!("{}: {}", rule.number, joined(&rule.actions)));
    let default = trace.default.iter().map(|action| format!("at the end: {}", printable(action)));
    let steps: Vec<String> = rules.chain(default).collect();
    format!("{} {}", printable(&trace.policy), steps.join("; "))
}

#[cfg(test)]
mod tests {
    use selvedge::control::api::{GuardRule, RuleTrace};

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_guard_stands_before_the_rules() {
        let guard = |reason: &str, hits| vec![GuardRule { reason: reason.to_owned(), hits }];
        let rule = |number, conditions: &[&str], actions: &[&str], hits| PolicyRule {
            number,
            conditions: texts(conditions),
            actions: texts(actions),
            hits,
        };
        let rules = vec![
            rule(
                1,
                &["prefix = \"0.0.0.0/0\"", "community = \"1:1\""],
                &["set-med = 5", "action = \"accept\""],
                12,
            ),
            rule(2, &[], &["prepend = 2"], 0),
        ];
        let policy =
            PolicyInForce { name: "in".to_owned(), rules, default: "reject".to_owned(), default_hits: 1 };
        let shown = NeighborPolicies {
            neighbor: "eth0".to_owned(),
            import: PolicyChain { guard: guard("our AS is in the AS path", 3), policy: Some(policy) },
            export: PolicyChain { guard: guard("it carries NO_EXPORT", 0), policy: None },
            allow_transit: true,
            allowas_in: 2,
        };
        let expected = "\
Neighbor eth0
  Import, built-in guard: rejects what has to do with
         3  our AS is in the AS path
  Import, policy in
        12  1. prefix = \"0.0.0.0/0\", community = \"1:1\": set-med = 5, action = \"accept\"
         0  2. always: prepend = 2
         1  at the end: reject
    Our AS may be in a path 2 times.
  Export, built-in guard: rejects what has to do with
         0  it carries NO_EXPORT
  Export, no policy: all else is told
    Learned routes may be told: this host is transit for the neighbor.
";
        let all = Policies { neighbors: vec![shown], at_rest: true };
        assert_eq!(policies(&all), expected);
        let busy = policies(&Policies { at_rest: false, ..all });
        assert_eq!(busy, format!("{expected}\nRoutes are still being decided, or told to a neighbor.\n"));
        assert_eq!(policies(&Policies { neighbors: vec![], at_rest: true }), "No neighbors.\n");
    }

    #[test]
    fn a_trace_is_the_rules_and_the_end() {
        let rule = |number, actions: &[&str]| RuleTrace { number, actions: texts(actions) };
        let decided = PolicyTrace {
            policy: "in".to_owned(),
            rules: vec![rule(1, &["set-med = 5"]), rule(3, &["action = \"accept\""])],
            default: None,
        };
        assert_eq!(trace(&decided), "in 1: set-med = 5; 3: action = \"accept\"");
        let fell = PolicyTrace { policy: "in".to_owned(), rules: vec![], default: Some("reject".to_owned()) };
        assert_eq!(trace(&fell), "in at the end: reject");
    }
}
