//! What may enter the Loc-RIB and what may leave it.
//!
//! The default is derived, not configured: a host exports exactly what it originates and imports only what a
//! host should believe. Everything refused has a reason, which is counted and can be shown.
//!
//! Pure functions: [`Guard::judge`] for a path that came in, [`permits`] and [`rewrite`] for one that may go out.

mod export;
mod import;
mod maintenance;
mod martian;
#[cfg(test)]
mod tests;

pub use export::{Route, Target, Withheld, marked, permits, rewrite};
pub(crate) use import::{Admission, Assessment};
pub use import::{Guard, Judgement, MAX_PATH_LENGTH, Refusal, usable_gateway};
pub use maintenance::{Inbound, Maintenance, Outbound};
pub use martian::is_martian;

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
