//! TOML tables with their positions: which keys are there, which should not be, what type a value has.
//!
//! In: a table as the `toml` crate parsed it. Out: plain values, or a problem that names the key, its table
//! and what is allowed. What a key means is the business of the readers of each section.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::problem::{Place, Problem, Problems, Refusal, quoted};

/// A kind of table: where it is, in the words of messages, and which keys it may have.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) place: &'static str,
    pub(super) keys: &'static [&'static str],
}

/// Every kind of table of the file.
pub(super) const ROOT: Schema = Schema {
    place: "at the top level",
    keys: &[
        "bgp",
        "loopback",
        "prefix-list",
        "policy",
        "neighbor",
        "kubernetes",
        "pods",
        "services",
        "readiness",
        "drain",
        "fib",
        "sysctl",
        "control",
    ],
};
pub(super) const BGP: Schema = Schema {
    place: "in [bgp]",
    keys: &["local-as", "router-id", "keepalive", "hold-time", "graceful-restart", "stale-time"],
};
pub(super) const LOOPBACK: Schema = Schema { place: "in [loopback]", keys: &["interface", "advertise"] };
pub(super) const NEIGHBOR: Schema = Schema {
    place: "in [[neighbor]]",
    keys: &[
        "interface",
        "address",
        "remote-as",
        "max-prefixes",
        "password-file",
        "ttl-security",
        "link-local-next-hop-length",
        "router-lifetime",
        "damping",
        "bfd",
        "import",
        "export",
        "allow-transit",
        "allowas-in",
    ],
};
pub(super) const BFD: Schema = Schema { place: "in `bfd`", keys: &["interval", "multiplier"] };
pub(super) const PREFIX_LIST: Schema = Schema { place: "in [[prefix-list]]", keys: &["name", "prefixes"] };
pub(super) const POLICY: Schema = Schema { place: "in [[policy]]", keys: &["name", "default", "rule"] };
pub(super) const RULE: Schema = Schema {
    place: "in [[policy.rule]]",
    keys: &[
        "prefix",
        "prefix-list",
        "community",
        "large-community",
        "as-path-length",
        "origin-as",
        "as-in-path",
        "set-community",
        "remove-community",
        "add-community",
        "set-large-community",
        "remove-large-community",
        "add-large-community",
        "set-local-preference",
        "set-med",
        "prepend",
        "action",
    ],
};
pub(super) const KUBERNETES: Schema =
    Schema { place: "in [kubernetes]", keys: &["kubeconfig", "in-cluster", "node-name", "state"] };
pub(super) const PODS: Schema = Schema { place: "in [pods]", keys: &["static", "node", "calico"] };
pub(super) const PODS_STATIC: Schema = Schema { place: "in [pods.static]", keys: &["blocks"] };
pub(super) const PODS_NODE: Schema = Schema { place: "in [pods.node]", keys: &[] };
pub(super) const PODS_CALICO: Schema =
    Schema { place: "in [pods.calico]", keys: &["api", "borrowed", "borrowed-community", "borrowed-limit"] };
pub(super) const SERVICES: Schema =
    Schema { place: "in [services]", keys: &["load-balancer", "external", "cluster", "aggregate"] };
pub(super) const READINESS: Schema =
    Schema { place: "in [readiness]", keys: &["uplinks", "routes", "echo", "isolated-for", "taint"] };
pub(super) const DRAIN: Schema = Schema { place: "in [drain]", keys: &["on-cordon"] };
pub(super) const FIB: Schema = Schema {
    place: "in [fib]",
    keys: &["protocol", "metric", "table", "max-paths", "nexthop-objects", "nexthop-ids"],
};
pub(super) const SYSCTL: Schema = Schema { place: "in [sysctl]", keys: &["manage"] };
pub(super) const CONTROL: Schema = Schema { place: "in [control]", keys: &["socket"] };

const SCHEMAS: [&Schema; 19] = [
    &ROOT,
    &BGP,
    &LOOPBACK,
    &NEIGHBOR,
    &BFD,
    &PREFIX_LIST,
    &POLICY,
    &RULE,
    &KUBERNETES,
    &PODS,
    &PODS_STATIC,
    &PODS_NODE,
    &PODS_CALICO,
    &SERVICES,
    &READINESS,
    &DRAIN,
    &FIB,
    &SYSCTL,
    &CONTROL,
];

/// How alike two keys must be, from 0 to 1, for one to be taken for a slip of the pen for the other.
const ALIKE: f64 = 0.75;

/// Octets of the longest key that is compared with known ones, whose longest has 26.
const LONGEST_COMPARED: usize = 64;

/// Letters from which on the start of a key is taken for that key.
const SHORTEST_STEM: usize = 3;

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section<'t> {
    schema: &'static Schema,
    table: &'t DeTable<'t>,
    /// Its header, or the braces of an inline table.
    span: Range<usize>,
}

impl<'t> Section<'t> {
    /// Keys that the schema does not have are reported here.
    pub(super) fn new(
        schema: &'static Schema,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Self {
        for key in table.keys().filter(|key| !schema.keys.contains(&key.get_ref().as_ref())) {
            problems.push(unknown_key(schema, key.get_ref(), key.span()));
        }
        Self { schema, table, span }
    }

    pub(super) fn value(&self, key: &'static str) -> Option<Value<'t>> {
        self.table.get(key).map(|value| Value {
            place: self.schema.place,
            key,
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value under a key, read by `reader`. `None` when there is none, and when it was refused; then the
    /// problem is kept, and whatever stands in for the value is never used.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        problems: &mut Problems,
        reader: impl FnOnce(&Value<'t>) -> Result<T, Refusal>,
    ) -> Option<T> {
        problems.keep(reader(&self.value(key)?))
    }

    /// The table under a key.
    pub(super) fn section(
        &self,
        key: &'static str,
        schema: &'static Schema,
        problems: &mut Problems,
    ) -> Option<Section<'t>> {
        let (table, span) = self.read(key, problems, |value| value.table(schema))?;
        Some(Section::new(schema, table, span, problems))
    }

    /// What is in this table makes no sense together.
    pub(super) fn useless(&self, title: &str, label: &str, help: &str) -> Problem {
        Problem {
            title: format!("{title} {}", self.schema.place),
            place: Place::Quoted(self.span.clone()),
            label: label.to_owned(),
            related: None,
            help: vec![help.to_owned()],
        }
    }

    /// Something that must be in this table is not.
    pub(super) fn missing(&self, what: &str, allowed: impl Into<String>) -> Problem {
        Problem {
            title: format!("missing {what} {}", self.schema.place),
            place: Place::Quoted(self.span.clone()),
            label: format!("has no {what}"),
            related: None,
            help: vec![allowed.into()],
        }
    }
}

/// One value, with the key that it stands under.
#[derive(Debug, Clone)]
pub(super) struct Value<'t> {
    place: &'static str,
    key: &'static str,
    pub(super) span: Range<usize>,
    value: &'t DeValue<'t>,
}

impl<'t> Value<'t> {
    /// This value is not allowed: what is the matter with it, and what is allowed.
    pub(super) fn refuse(&self, label: impl Into<String>, allowed: impl Display) -> Refusal {
        Box::new(Problem {
            title: format!("invalid `{}` {}", self.key, self.place),
            place: Place::Quoted(self.span.clone()),
            label: label.into(),
            related: None,
            help: vec![format!("allowed: {allowed}")],
        })
    }

    fn wrong_type(&self, expected: &str, allowed: impl Display) -> Refusal {
        self.refuse(format!("expected {expected}, found {}", type_of(self.value)), allowed)
    }

    pub(super) fn string(&self, allowed: impl Display) -> Result<&'t str, Refusal> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string", allowed))
    }

    pub(super) fn boolean(&self) -> Result<bool, Refusal> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false", "true, false"))
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Refusal>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.integer_of(range, &allowed)
    }

    /// As [`Self::integer`], where not every number of the range is allowed in the end.
    pub(super) fn integer_of<T>(&self, range: RangeInclusive<T>, allowed: &str) -> Result<T, Refusal>
    where
        T: TryFrom<i64> + PartialOrd,
    {
        let integer = self.value.as_integer().ok_or_else(|| self.wrong_type("a whole number", allowed))?;
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.refuse("out of range", allowed))
    }

    /// A duration of any length, whatever its unit.
    pub(super) fn duration(&self, allowed: impl Display) -> Result<Duration, Refusal> {
        if let Some(number) = self.value.as_integer() {
            return Err(
                self.refuse(format!("a duration needs a unit: write \"{number}s\" for seconds"), allowed)
            );
        }
        let Some(text) = self.value.as_str() else {
            return Err(self.wrong_type("a duration in quotes", allowed));
        };
        duration::parse(text).map_err(|error| self.refuse(error.to_string(), allowed))
    }

    pub(super) fn array(&self, allowed: impl Display) -> Result<Vec<Value<'t>>, Refusal> {
        if !self.value.is_array() {
            return Err(self.wrong_type("an array", allowed));
        }
        Ok(self.items())
    }

    /// The items of an array, or this value where it is none.
    pub(super) fn items(&self) -> Vec<Value<'t>> {
        match self.value.as_array() {
            Some(array) => array
                .iter()
                .map(|value| Value { span: value.span(), value: value.get_ref(), ..self.clone() })
                .collect(),
            None => vec![self.clone()],
        }
    }

    pub(super) fn table(&self, schema: &'static Schema) -> Result<(&'t DeTable<'t>, Range<usize>), Refusal> {
        let table = self.value.as_table().ok_or_else(|| {
            self.wrong_type("a table", format_args!("a table with {}", schema.keys.join(", ")))
        })?;
        Ok((table, self.span.clone()))
    }
}

/// The whole file as a section.
pub(super) fn root<'t>(document: &'t Spanned<DeTable<'t>>, problems: &mut Problems) -> Section<'t> {
    Section::new(&ROOT, document.get_ref(), document.span(), problems)
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn unknown_key(schema: &'static Schema, key: &str, span: Range<usize>) -> Problem {
    let label = match hint(schema, key) {
        Some(Hint::Nearest(nearest)) => format!("did you mean `{nearest}`?"),
        Some(Hint::Elsewhere(place)) => format!("`{key}` belongs {place}"),
        None => format!("no such key {}", schema.place),
    };
    // Someone who takes `password` for a key has written the secret itself behind it.
    let secret = ["password", "passwd", "secret", "key"].iter().any(|word| key.to_lowercase().contains(word));
    Problem {
        title: format!("unknown key `{}` {}", quoted(key), schema.place),
        place: if secret { Place::Named(span) } else { Place::Quoted(span) },
        label,
        related: None,
        help: vec![format!("allowed {}: {}", schema.place, schema.keys.join(", "))],
    }
}

/// What a person who wrote an unknown key may have had in mind.
enum Hint {
    /// A key of the same table.
    Nearest(&'static str),
    /// The same key of the table at this place.
    Elsewhere(&'static str),
}

fn hint(schema: &'static Schema, key: &str) -> Option<Hint> {
    // Comparing costs the product of both lengths.
    if key.len() > LONGEST_COMPARED {
        return None;
    }
    let elsewhere = SCHEMAS.iter().find(|other| other.keys.contains(&key));
    let alike = |candidate: &str| strsim::normalized_damerau_levenshtein(candidate, &key.to_lowercase());
    let nearest = schema.keys.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    elsewhere.map(|other| Hint::Elsewhere(other.place)).or_else(|| {
        // A key that starts like a known one was cut short or drawn out: `password`, `neighbors`.
        nearest
            .filter(|nearest| {
                let cut = key.len() >= SHORTEST_STEM && nearest.starts_with(key);
                alike(nearest) >= ALIKE || cut || key.starts_with(nearest)
            })
            .map(Hint::Nearest)
    })
}
