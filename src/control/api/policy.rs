//! What the routes of each neighbor go by: `GET /v1/policies`, of one neighbor with `?neighbor=NAME`.

use serde::{Deserialize, Serialize};

/// Every neighbor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// In the order of the summary.
    pub neighbors: Vec<NeighborPolicies>,
    /// Whether all routes have gone by them: nothing is left to be decided, and no neighbor has yet to be told of
    /// something. False for a moment whenever routes change.
    pub at_rest: bool,
}

/// One neighbor's, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborPolicies {
    /// Its name, as in the summary.
    pub neighbor: String,
    /// What becomes of what it says.
    pub import: PolicyChain,
    /// What it is told of.
    pub export: PolicyChain,
    /// Whether it may be told of learned routes.
    pub allow_transit: bool,
    /// How often our own AS may be in a path of it.
    pub allowas_in: u8,
}

/// The built-in guard, and then the policy that the file names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChain {
    /// What the guard refuses, in the order in which it looks.
    pub guard: Vec<GuardRule>,
    /// `null`: what the guard lets through is accepted.
    pub policy: Option<PolicyInForce>,
}

/// A rule of the guard: it rejects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardRule {
    /// What it refuses, in words.
    pub reason: String,
    /// How often it has, since the neighbor was configured.
    pub hits: u64,
}

/// A policy of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// Its name.
    pub name: String,
    /// In their order.
    pub rules: Vec<PolicyRule>,
    /// `accept` or `reject`: what becomes of a path that no rule has decided on.
    pub default: String,
    /// How often that was so, since the policy came into force for this neighbor.
    pub default_hits: u64,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its place in the policy, from 1.
    pub number: usize,
    /// As the file writes them, each `key = value`; none where it holds for every path.
    pub conditions: Vec<String>,
    /// The same of what it does, `action` last.
    pub actions: Vec<String>,
    /// How often it has held, since the policy came into force for this neighbor: each time that a path was judged.
    pub hits: u64,
}

/// What a policy did to one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTrace {
    /// The policy's name.
    pub policy: String,
    /// The rules that held, in their order.
    pub rules: Vec<RuleTrace>,
    /// `accept` or `reject` where the end of the policy decided; `null` where the last of the rules did.
    pub default: Option<String>,
}

/// A rule that held for a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTrace {
    /// Its place in the policy, from 1.
    pub number: usize,
    /// What it did, as the file writes it.
    pub actions: Vec<String>,
}
