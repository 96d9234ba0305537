//! `[[prefix-list]]` and `[[policy]]`: what operators add to the built-in guard.
//!
//! In: the tables of the file. Out: policies as the RIB takes them, each once, with the prefix lists that they share.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::sync::Arc;

use bgp::PrefixError;
use bgp::message::{Community, CommunityError, LargeCommunity, RouteCommunity};
use bgp::policy::{
    Action, Changes, Conditions, Edit, Policy, PrefixList, PrefixRange, PrefixRangeError, Rule,
};

use super::problem::{Place, Problem, Problems, Refusal, quoted};
use super::sections::as_number;
use super::table::{POLICY, PREFIX_LIST, RULE, Schema, Section, Value};

/// Octets of a name.
const LONGEST_NAME: usize = 64;
/// A path is held against each of them in one turn of the RIB. What needs more is a prefix list, which has no such
/// limit.
const MOST_RULES: usize = 1000;
/// A longer path is refused by everybody.
const MOST_PREPENDS: u8 = 32;
/// Names that a message lists.
const MOST_NAMES: usize = 10;

const NAME_ALLOWED: &str = "1 to 64 letters, digits, hyphens, underscores and dots";
const PREFIX_ALLOWED: &str =
    "networks, such as \"10.0.0.0/8\" (itself), \"10.0.0.0/8 le 24\", \"10.0.0.0/8 ge 16 le 24\"";
const COMMUNITY_ALLOWED: &str = "\"AS:VALUE\" with numbers up to 65535, or one of";
const LARGE_COMMUNITY_ALLOWED: &str = "\"GLOBAL:LOCAL1:LOCAL2\" with numbers up to 4294967295";
const LENGTH_ALLOWED: &str = "a whole number from 0 to 65535, or \"ge N\", \"le N\", \"ge N le N\"";
const ACTION_ALLOWED: &str = "\"accept\", \"reject\"";
const RULES_ALLOWED: &str = "[[policy.rule]] as often as there are rules";

/// Values with names, and where each was given its name.
#[derive(Debug)]
pub(super) struct Named<T> {
    /// What the names are of, in messages.
    kind: &'static str,
    /// In the order of the file.
    values: Vec<(Arc<T>, Range<usize>)>,
    by_name: HashMap<String, usize>,
}

impl<T> Named<T> {
    fn new(kind: &'static str) -> Self {
        Self { kind, values: Vec::new(), by_name: HashMap::new() }
    }

    fn insert(&mut self, name: &str, value: T, span: Range<usize>, problems: &mut Problems) {
        if let Some((_, first)) = self.by_name.get(name).and_then(|&at| self.values.get(at)) {
            problems.push(Problem {
                title: format!("two [[{}]] tables with the name {name}", self.kind),
                place: Place::Quoted(span),
                label: "there a second time".to_owned(),
                related: Some((first.clone(), "the first".to_owned())),
                help: vec!["each name is given once".to_owned()],
            });
            return;
        }
        self.by_name.insert(name.to_owned(), self.values.len());
        self.values.push((Arc::new(value), span));
    }

    /// The one that a value of the file names.
    pub(super) fn find(&self, value: &Value<'_>) -> Result<Arc<T>, Refusal> {
        let allowed = format!("the name of a [[{}]]", self.kind);
        let name = value.string(&allowed)?;
        let found = self.by_name.get(name).and_then(|&at| self.values.get(at));
        found.map(|(value, _)| Arc::clone(value)).ok_or_else(|| {
            let label = format!("there is no [[{}]] with the name {}", self.kind, quoted(name));
            value.refuse(label, format_args!("{allowed}: {}", self.known()))
        })
    }

    fn known(&self) -> String {
        let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        let more = if names.len() > MOST_NAMES { ", ..." } else { "" };
        names.truncate(MOST_NAMES);
        if names.is_empty() { "there is none".to_owned() } else { names.join(", ") + more }
    }

    pub(super) fn into_values(self) -> Vec<Arc<T>> {
        self.values.into_iter().map(|(value, _)| value).collect()
    }
}

pub(super) fn prefix_lists(root: &Section<'_>, problems: &mut Problems) -> Named<PrefixList> {
    let mut lists = Named::new("prefix-list");
    for section in
        tables(root, "prefix-list", &PREFIX_LIST, "[[prefix-list]] as often as there are lists", problems)
    {
        let name = name(&section, problems);
        if section.value("prefixes").is_none() {
            problems.push(section.missing("`prefixes`", "write `prefixes = [\"10.0.0.0/8 le 24\"]`"));
        }
        let ranges = several(&section, "prefixes", problems, prefix_range);
        if let Some((name, span)) = name {
            // A list with a mistake in it is there all the same for the rules that name it.
            let ranges = ranges.unwrap_or_default();
            lists.insert(name, PrefixList::new(Some(name.to_owned()), ranges), span, problems);
        }
    }
    lists
}

pub(super) fn policies(
    root: &Section<'_>,
    lists: &Named<PrefixList>,
    problems: &mut Problems,
) -> Named<Policy> {
    let mut policies = Named::new("policy");
    for section in tables(root, "policy", &POLICY, "[[policy]] as often as there are policies", problems) {
        let name = name(&section, problems);
        // What no rule speaks of was not thought of: FRR's route maps reject it as well.
        let default = section.read("default", problems, action).unwrap_or(Action::Reject);
        let rules: Vec<Rule> = tables(&section, "rule", &RULE, RULES_ALLOWED, problems)
            .iter()
            .filter_map(|section| rule(section, lists, problems))
            .collect();
        if let Some(value) = section.value("rule").filter(|_| rules.len() > MOST_RULES) {
            let label = format!("{} rules are more than a path can be held against", rules.len());
            problems
                .push(value.refuse(label, "1000 rules; prefixes in any number fit into a [[prefix-list]]"));
        }
        if let Some((name, span)) = name {
            policies.insert(name, Policy { name: name.to_owned(), rules, default }, span, problems);
        }
    }
    policies
}

/// The tables of an array of them.
fn tables<'t>(
    parent: &Section<'t>,
    key: &'static str,
    schema: &'static Schema,
    allowed: &'static str,
    problems: &mut Problems,
) -> Vec<Section<'t>> {
    let values = parent.read(key, problems, |value| {
        if value.is_table() {
            return Err(value.refuse("each one is a table in double brackets", allowed));
        }
        value.array(allowed)
    });
    let section = |value: &Value<'t>, problems: &mut Problems| {
        let (table, span) = problems.keep(value.table(schema))?;
        Some(Section::new(schema, table, span, problems))
    };
    values.unwrap_or_default().iter().filter_map(|value| section(value, problems)).collect()
}

fn name<'t>(section: &Section<'t>, problems: &mut Problems) -> Option<(&'t str, Range<usize>)> {
    let Some(value) = section.value("name") else {
        problems.push(section.missing("`name`", format!("a name is {NAME_ALLOWED}")));
        return None;
    };
    let name = section.read("name", problems, |value| {
        let name = value.string(NAME_ALLOWED)?;
        let is_plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
        if name.is_empty() || name.len() > LONGEST_NAME || !is_plain {
            return Err(value.refuse("not a name", NAME_ALLOWED));
        }
        Ok(name)
    })?;
    Some((name, value.span))
}

fn rule(section: &Section<'_>, lists: &Named<PrefixList>, problems: &mut Problems) -> Option<Rule> {
    let conditions = conditions(section, lists, problems);
    let changes = changes(section, problems);
    let action = section.read("action", problems, action);
    let (conditions, changes) = (conditions?, changes?);
    let has_action = section.value("action").is_some();
    if changes.is_empty() && !has_action {
        problems.push(section.useless(
            "rule without an effect",
            "neither accepts, nor rejects, nor changes anything",
            "write `action = \"accept\"`, `action = \"reject\"`, or what is to be changed",
        ));
        return None;
    }
    if action == Some(Action::Reject) && !changes.is_empty() {
        problems.push(section.useless(
            "changes of what is rejected",
            "changes a path and rejects it",
            "nobody sees the changes: leave out either them or `action = \"reject\"`",
        ));
        return None;
    }
    Some(Rule { conditions, changes, action })
}

fn conditions(
    section: &Section<'_>,
    lists: &Named<PrefixList>,
    problems: &mut Problems,
) -> Option<Conditions> {
    // All are read, so that all problems are found.
    let inline = condition(section, "prefix", problems, prefix_range);
    let named = condition(section, "prefix-list", problems, |value| lists.find(value));
    let communities = condition(section, "community", problems, community);
    let large_communities = condition(section, "large-community", problems, large_community);
    let as_path_length = optional(section, "as-path-length", problems, path_lengths);
    let origin_as = condition(section, "origin-as", problems, as_number);
    let as_in_path = condition(section, "as-in-path", problems, as_number);
    let inline = inline?;
    let own_list = (!inline.is_empty()).then(|| Arc::new(PrefixList::new(None, inline)));
    Some(Conditions {
        prefixes: own_list.into_iter().chain(named?).collect(),
        communities: communities?,
        large_communities: large_communities?,
        as_path_length: as_path_length?,
        origin_as: origin_as?,
        as_in_path: as_in_path?,
    })
}

fn changes(section: &Section<'_>, problems: &mut Problems) -> Option<Changes> {
    let keys = ["set-community", "remove-community", "add-community"];
    let communities = edit(section, keys, problems, community);
    let keys = ["set-large-community", "remove-large-community", "add-large-community"];
    let large_communities = edit(section, keys, problems, large_community);
    let number = |value: &Value<'_>| value.integer(0..=u32::MAX);
    let local_pref = optional(section, "set-local-preference", problems, number);
    let med = optional(section, "set-med", problems, number);
    let prepends = optional(section, "prepend", problems, |value| value.integer(1..=MOST_PREPENDS));
    Some(Changes {
        communities: communities?,
        large_communities: large_communities?,
        local_pref: local_pref?,
        med: med?,
        prepends: prepends?.unwrap_or(0),
    })
}

/// `None` where the value was refused, `Some(None)` where there is none.
fn optional<'t, T>(
    section: &Section<'t>,
    key: &'static str,
    problems: &mut Problems,
    reader: impl FnOnce(&Value<'t>) -> Result<T, Refusal>,
) -> Option<Option<T>> {
    match section.value(key) {
        Some(_) => section.read(key, problems, reader).map(Some),
        None => Some(None),
    }
}

/// One value or an array of them, all in order, or `None`.
fn several<T>(
    section: &Section<'_>,
    key: &'static str,
    problems: &mut Problems,
    mut reader: impl FnMut(&Value<'_>) -> Result<T, Refusal>,
) -> Option<Vec<T>> {
    let items = section.value(key)?.items();
    let read: Vec<T> = items.iter().filter_map(|item| problems.keep(reader(item))).collect();
    (read.len() == items.len()).then_some(read)
}

/// The values of a condition; none where it is not there.
fn condition<T>(
    section: &Section<'_>,
    key: &'static str,
    problems: &mut Problems,
    reader: impl FnMut(&Value<'_>) -> Result<T, Refusal>,
) -> Option<Vec<T>> {
    let Some(value) = section.value(key) else {
        return Some(Vec::new());
    };
    let values = several(section, key, problems, reader)?;
    if values.is_empty() {
        problems.push(
            value.refuse("holds for no path", "at least one value; without the key every path is meant"),
        );
        return None;
    }
    Some(values)
}

fn edit<T>(
    section: &Section<'_>,
    [set, remove, add]: [&'static str; 3],
    problems: &mut Problems,
    reader: impl Fn(&Value<'_>) -> Result<T, Refusal>,
) -> Option<Edit<T>> {
    let mut read = |key| match section.value(key) {
        Some(_) => several(section, key, problems, &reader).map(Some),
        None => Some(None),
    };
    let (replace, remove_these, add_these) = (read(set), read(remove), read(add));
    match (replace?, remove_these?, add_these?) {
        (None, None, None) => Some(Edit::Leave),
        (Some(all), None, None) => Some(Edit::Replace(all)),
        (None, remove, add) => match (remove.unwrap_or_default(), add.unwrap_or_default()) {
            (remove, add) if remove.is_empty() && add.is_empty() => Some(Edit::Leave),
            (remove, add) => Some(Edit::Adjust { remove, add }),
        },
        (Some(_), _, _) => {
            problems.push(section.useless(
                "too many changes of one list",
                &format!("sets the whole list, and adds or removes as well (`{set}`, `{add}`, `{remove}`)"),
                &format!("either `{set}` alone, or `{remove}` and `{add}`"),
            ));
            None
        }
    }
}

fn action(value: &Value<'_>) -> Result<Action, Refusal> {
    match value.string(ACTION_ALLOWED)? {
        "accept" => Ok(Action::Accept),
        "reject" => Ok(Action::Reject),
        other => Err(value.refuse(format!("{} is neither", quoted(other)), ACTION_ALLOWED)),
    }
}

fn prefix_range(value: &Value<'_>) -> Result<PrefixRange, Refusal> {
    value.string(PREFIX_ALLOWED)?.parse().map_err(|error: PrefixRangeError| {
        let label = match error {
            PrefixRangeError::Network(PrefixError::Syntax(_)) => "not a network".to_owned(),
            PrefixRangeError::Network(PrefixError::Length { max, family, .. }) => {
                format!("longer than the {max} bits of {family}")
            }
            PrefixRangeError::Network(PrefixError::HostBits { network, .. }) => {
                format!("has host bits set: the network is {network}")
            }
            PrefixRangeError::Syntax(_) => {
                "behind the network there may be \"ge N\", \"le N\", or \"ge N le N\"".to_owned()
            }
            PrefixRangeError::NoLength
            | PrefixRangeError::TooLong { .. }
            | PrefixRangeError::TooShort { .. }
            | PrefixRangeError::Contradiction { .. } => error.to_string(),
        };
        value.refuse(label, PREFIX_ALLOWED)
    })
}

fn community(value: &Value<'_>) -> Result<Community, Refusal> {
    parsed(value, &community_allowed())
}

fn community_allowed() -> String {
    let names: Vec<String> = Community::WELL_KNOWN.iter().map(ToString::to_string).collect();
    format!("{COMMUNITY_ALLOWED} {}", names.join(", "))
}

/// One of either kind.
pub(super) fn route_community(value: &Value<'_>) -> Result<RouteCommunity, Refusal> {
    parsed(value, &format!("{LARGE_COMMUNITY_ALLOWED}, {}", community_allowed()))
}

fn large_community(value: &Value<'_>) -> Result<LargeCommunity, Refusal> {
    parsed(value, LARGE_COMMUNITY_ALLOWED)
}

fn parsed<T: FromStr<Err = CommunityError>>(value: &Value<'_>, allowed: &str) -> Result<T, Refusal> {
    value.string(allowed)?.parse().map_err(|error: CommunityError| value.refuse(error.to_string(), allowed))
}

fn path_lengths(value: &Value<'_>) -> Result<RangeInclusive<u16>, Refusal> {
    if value.is_integer() {
        let length = value.integer_of(0..=u16::MAX, LENGTH_ALLOWED)?;
        return Ok(length..=length);
    }
    let words: Vec<&str> = value.string(LENGTH_ALLOWED)?.split_ascii_whitespace().collect();
    let number = |word: &str| word.parse().map_err(|_| value.refuse("not a length", LENGTH_ALLOWED));
    let lengths = match words.as_slice() {
        ["ge", ge] => number(ge)?..=u16::MAX,
        ["le", le] => 0..=number(le)?,
        ["ge", ge, "le", le] => number(ge)?..=number(le)?,
        _ => return Err(value.refuse("not a length", LENGTH_ALLOWED)),
    };
    if lengths.is_empty() {
        let label = format!("no length is at least {} and at most {}", lengths.start(), lengths.end());
        return Err(value.refuse(label, LENGTH_ALLOWED));
    }
    Ok(lengths)
}

#[cfg(test)]
pub(super) mod tests;
