//! When the node is fit for pods, and what becomes of services on one that is to be emptied: `[readiness]` and `[drain]`.

use std::collections::BTreeSet;
use std::time::Duration;

use bgp::{Prefix, PrefixError};

use super::kubernetes::refuse_without_server;
use super::problem::{Problems, Refusal};
use super::sections::whole_seconds;
use super::table::{DRAIN, READINESS, Section, Value};
use super::{Drain, Kubernetes, Readiness, RequiredRoutes};

/// More uplinks than a host has slots for.
const MOST_UPLINKS: u16 = 64;
const LONGEST_ISOLATION_S: u64 = 3600;
const ROUTES_ALLOWED: &str = "networks as address/length, such as [\"0.0.0.0/0\", \"::/0\"]";
const ISOLATED_FOR_ALLOWED: &str = "whole seconds from \"1s\" to \"1h\"";

/// What holds where the file says nothing.
impl Default for Readiness {
    fn default() -> Self {
        Self {
            uplinks: 1,
            routes: RequiredRoutes::Any,
            echo: false,
            isolated_for: Duration::from_secs(30),
            taint: true,
        }
    }
}

pub(super) fn readiness(root: &Section<'_>, problems: &mut Problems) -> Option<Readiness> {
    let section = root.section("readiness", &READINESS, problems)?;
    let default = Readiness::default();
    Some(Readiness {
        uplinks: section
            .read("uplinks", problems, |value| value.integer(1..=MOST_UPLINKS))
            .unwrap_or(default.uplinks),
        routes: routes(&section, problems).unwrap_or(default.routes),
        echo: section.read("echo", problems, Value::boolean).unwrap_or(default.echo),
        isolated_for: section.read("isolated-for", problems, isolated_for).unwrap_or(default.isolated_for),
        taint: section.read("taint", problems, Value::boolean).unwrap_or(default.taint),
    })
}

fn routes(section: &Section<'_>, problems: &mut Problems) -> Option<RequiredRoutes> {
    let values = section.read("routes", problems, |value| value.array(ROUTES_ALLOWED))?;
    let networks: BTreeSet<Prefix> =
        values.iter().filter_map(|value| problems.keep(network(value))).collect();
    Some(RequiredRoutes::Each(networks))
}

/// A default route is one, too.
fn network(value: &Value<'_>) -> Result<Prefix, Refusal> {
    let text = value.string(ROUTES_ALLOWED)?;
    if !text.contains('/') {
        return Err(value.refuse("has no length", ROUTES_ALLOWED));
    }
    text.parse().map_err(|error: PrefixError| value.refuse(error.to_string(), ROUTES_ALLOWED))
}

fn isolated_for(value: &Value<'_>) -> Result<Duration, Refusal> {
    let time = whole_seconds(value, LONGEST_ISOLATION_S, ISOLATED_FOR_ALLOWED)?;
    if time.is_zero() {
        return Err(value.refuse("every flap would count", ISOLATED_FOR_ALLOWED));
    }
    Ok(time)
}

pub(super) fn drain(root: &Section<'_>, kubernetes: Option<&Kubernetes>, problems: &mut Problems) -> Drain {
    let Some(section) = root.section("drain", &DRAIN, problems) else { return Drain::default() };
    let on_cordon = section.read("on-cordon", problems, Value::boolean).unwrap_or_default();
    if on_cordon {
        refuse_without_server(root, &section, "on-cordon", kubernetes, problems);
    }
    Drain { on_cordon }
}
