//! What is lacking, in words: a reason for programs, a message for people.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::Lack;
use crate::config;

/// The reason of a node that is fit.
pub const READY: &str = "UplinksReady";
const NO_UPLINK: &str = "NoUplink";
const TOO_FEW_UPLINKS: &str = "TooFewUplinks";
const NO_ROUTE: &str = "NoRoute";
const NO_ECHO: &str = "NoEcho";
/// The reason of a node that nobody looks at any more.
const UNWATCHED: &str = "UplinksNotWatched";
/// Things of one kind that a message names; a person who has read so many knows what is the matter.
const MOST_NAMED: usize = 8;

/// Why a node is fit or is not, as conditions of Kubernetes have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Words {
    /// The first lack gives the reason, and each one its part of the message; `None` where nothing is lacking.
    pub(super) fn of_lacks(lacks: &[Lack]) -> Option<Self> {
        let reason = reason(lacks.first()?);
        let message = lacks.iter().map(message).collect::<Vec<_>>().join("; ");
        Some(Self { reason, message })
    }

    /// It depends on the settings alone, so that it is the same whatever comes and goes meanwhile.
    pub(super) fn of_ready(settings: &config::Readiness) -> Self {
        let config::Readiness { uplinks, routes, echo, isolated_for: _, taint: _ } = settings;
        let mut message = match uplinks {
            1 => "at least 1 session with a ToR is established".to_owned(),
            uplinks => format!("at least {uplinks} sessions with ToRs are established"),
        };
        match routes {
            config::RequiredRoutes::Any => message += ", and routes are learned",
            config::RequiredRoutes::Each(routes) if routes.is_empty() => {}
            config::RequiredRoutes::Each(routes) => {
                // Writing to a string cannot fail.
                let _ = write!(message, ", and these routes are learned: {}", named(routes));
            }
        }
        if *echo {
            message += "; what this node announces comes back";
        }
        Self { reason: READY, message }
    }

    /// Of a node that nobody looks at any more.
    pub(crate) fn of_unwatched() -> Self {
        let message = "the configuration of Selvedge has no [readiness] any more: nobody watches the uplinks"
            .to_owned();
        Self { reason: UNWATCHED, message }
    }

    /// Whether a reason is one of these words.
    pub(crate) fn are_ours(reason: &str) -> bool {
        [READY, UNWATCHED, NO_UPLINK, TOO_FEW_UPLINKS, NO_ROUTE, NO_ECHO].contains(&reason)
    }
}

fn reason(lack: &Lack) -> &'static str {
    match lack {
        Lack::Uplinks { up: 0, .. } => NO_UPLINK,
        Lack::Uplinks { .. } => TOO_FEW_UPLINKS,
        Lack::AnyRoute | Lack::Routes(_) => NO_ROUTE,
        Lack::Echo(_) => NO_ECHO,
    }
}

fn message(lack: &Lack) -> String {
    match lack {
        Lack::Uplinks { up: 0, down, .. } if down.is_empty() => {
            "no session with a ToR is established: there is no neighbor".to_owned()
        }
        Lack::Uplinks { up: 0, down, .. } => {
            format!("no session with a ToR is established: {}", downs(down))
        }
        Lack::Uplinks { up, required, down } => {
            let established = if *up == 1 { "is established" } else { "are established" };
            let rest = if down.is_empty() { "there is no other neighbor".to_owned() } else { downs(down) };
            format!("{up} of {required} required sessions with ToRs {established}: {rest}")
        }
        Lack::AnyRoute => "no neighbor tells of any route".to_owned(),
        Lack::Routes(missing) => format!("no neighbor tells of {}", named(missing)),
        Lack::Echo(missing) if missing.is_empty() => {
            "this node announces nothing that could come back".to_owned()
        }
        Lack::Echo(missing) => format!("no neighbor with a session sends back {}", named(missing)),
    }
}

fn downs(down: &[(String, Timestamp)]) -> String {
    named(down.iter().map(|(name, since)| format!("{name} is down since {}", rfc3339(*since))))
}

/// As Kubernetes writes times (RFC 3339), in whole seconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn named(things: impl IntoIterator<Item: ToString>) -> String {
    let mut things = things.into_iter();
    let first: Vec<String> = things.by_ref().take(MOST_NAMED).map(|thing| thing.to_string()).collect();
    match things.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
