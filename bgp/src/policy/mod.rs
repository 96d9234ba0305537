//! What may enter the Loc-RIB and what may leave it.
//!
//! The default is derived, not configured: a host exports exactly what it originates and imports only what a
//! host should believe. Everything refused has a reason, which is counted and can be shown.
//!
//! Pure functions: [`Guard::judge`] for a path that came in, [`permits`] and [`rewrite`] for one that may go out.
//!
//! What the guard has let through goes by a [`Policy`] of the operator's where there is one: it can take away and change,
//! and never lets pass what the guard has refused.

mod evaluation;
mod export;
mod import;
mod language;
mod maintenance;
mod martian;
mod prefix_list;
#[cfg(test)]
mod tests;

pub use evaluation::{Decider, Hits, Ruling};
pub(crate) use evaluation::{Preference, VariantNumber, Variants};
pub use export::{Route, Target, Withheld, WithheldCounts, marked, permits, rewrite};
pub(crate) use export::{sent, variants};
pub(crate) use import::{Admission, Assessment};
pub use import::{Guard, Judgement, MAX_PATH_LENGTH, Refusal, usable_gateway};
pub use language::{Action, Changes, Conditions, Edit, Policy, Rule};
pub use maintenance::{Inbound, Maintenance, Outbound};
pub use martian::is_martian;
pub use prefix_list::{PrefixList, PrefixRange, PrefixRangeError};

/// What this speaker is to its neighbors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Never transit: a learned route is not advertised to anyone.
    #[default]
    Host,
    /// Advertises learned routes too, as a ToR does. No configuration of the agent reaches this: it is for the
    /// lab and the tests.
    Transit,
}

/// Whether a host tells a neighbor of routes that it has learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Transit {
    /// It tells of its own alone.
    #[default]
    Never,
    /// An operator wants this host to be transit. All other rules stay.
    Allowed,
}
