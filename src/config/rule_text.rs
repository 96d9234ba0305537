//! Rules as the file writes them: for [`Config::to_toml`](super::Config::to_toml) and for `bgpctl show policy`.

use std::fmt::Display;

use bgp::policy::{Action, Edit, Rule};

use super::show::in_quotes;

/// A rule in the words of the file: each entry is one `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// When it holds; nothing where it always does.
    pub conditions: Vec<String>,
    /// What it does, `action` last.
    pub actions: Vec<String>,
}

impl RuleText {
    /// The words of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        Self { conditions: conditions(rule), actions: actions(rule) }
    }
}

fn conditions(rule: &Rule) -> Vec<String> {
    let conditions = &rule.conditions;
    let mut lines = Vec::new();
    let unnamed = conditions.prefixes.iter().filter(|list| list.name().is_none());
    let inline: Vec<_> = unnamed.flat_map(|list| list.ranges()).collect();
    let named: Vec<_> = conditions.prefixes.iter().filter_map(|list| list.name()).collect();
    lines.extend(condition("prefix", &inline, in_quotes));
    lines.extend(condition("prefix-list", &named, in_quotes));
    lines.extend(condition("community", &conditions.communities, in_quotes));
    lines.extend(condition("large-community", &conditions.large_communities, in_quotes));
    if let Some(lengths) = &conditions.as_path_length {
        let text = match (*lengths.start(), *lengths.end()) {
            (least, most) if least == most => least.to_string(),
            (0, most) => in_quotes(format_args!("le {most}")),
            (least, u16::MAX) => in_quotes(format_args!("ge {least}")),
            (least, most) => in_quotes(format_args!("ge {least} le {most}")),
        };
        lines.push(format!("as-path-length = {text}"));
    }
    lines.extend(condition("origin-as", &conditions.origin_as, |asn| asn.to_string()));
    lines.extend(condition("as-in-path", &conditions.as_in_path, |asn| asn.to_string()));
    lines
}

/// Nothing where it is not there.
fn condition<'a, T>(key: &str, values: &'a [T], text: impl Fn(&'a T) -> String) -> Option<String> {
    (!values.is_empty()).then(|| list(key, values, text))
}

fn list<'a, T>(key: &str, values: &'a [T], text: impl Fn(&'a T) -> String) -> String {
    let texts: Vec<String> = values.iter().map(text).collect();
    match texts.as_slice() {
        [one] => format!("{key} = {one}"),
        several => format!("{key} = [{}]", several.join(", ")),
    }
}

fn actions(rule: &Rule) -> Vec<String> {
    let changes = &rule.changes;
    let mut lines = edits(["set-community", "remove-community", "add-community"], &changes.communities);
    let keys = ["set-large-community", "remove-large-community", "add-large-community"];
    lines.extend(edits(keys, &changes.large_communities));
    lines.extend(changes.local_pref.map(|number| format!("set-local-preference = {number}")));
    lines.extend(changes.med.map(|number| format!("set-med = {number}")));
    lines.extend((changes.prepends > 0).then(|| format!("prepend = {}", changes.prepends)));
    lines.extend(rule.action.map(|action| format!("action = {}", in_quotes(action_word(action)))));
    lines
}

fn edits<T: Display>([set, remove, add]: [&str; 3], edit: &Edit<T>) -> Vec<String> {
    match edit {
        Edit::Leave => Vec::new(),
        Edit::Replace(all) => vec![list(set, all, in_quotes)],
        Edit::Adjust { remove: removed, add: added } => {
            let removed = condition(remove, removed, in_quotes);
            removed.into_iter().chain(condition(add, added, in_quotes)).collect()
        }
    }
}

/// `accept` or `reject`.
#[must_use]
pub fn action_word(action: Action) -> &'static str {
    match action {
        Action::Accept => "accept",
        Action::Reject => "reject",
    }
}
