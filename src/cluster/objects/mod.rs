//! What the agent needs of each kind of object of the API server, and where it stands in JSON.
//!
//! Every object is read on its own: one that makes no sense is named and left out, and the others count. Fields that are not
//! needed here are never looked at, so that a newer server is understood as well.

mod calico;
mod node;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use bgp::Prefix;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config;

pub(crate) use calico::{Affinity, AffinityState, Block, Owner, Pool, PoolWay};
pub(crate) use node::{Condition, NETWORK_UNAVAILABLE, Node, Scheduling, ServicesHere};
#[cfg(test)]
pub(crate) use service::Endpoint;
pub use service::{AddressKind, TrafficPolicy};
pub(crate) use service::{Health, Service, Slice};

/// Which object of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectName {
    /// `None` for kinds that belong to the whole cluster.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Why an object is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A field is missing, or is of another type.
    #[error("{0}")]
    Json(String),
    /// A network is none, or one that nobody's pods can have.
    #[error("{field} {text:?} {why}")]
    Network { field: &'static str, text: String, why: String },
    /// A word that stands for nothing.
    #[error("{field} {word:?} is unknown")]
    Word { field: &'static str, word: String },
}

/// An object as the server sent it: its labels, and everything but its metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) fields: &'a Value,
}

/// A kind of object.
pub(crate) trait Object: Sized {
    /// For messages and `show`.
    const KIND: &'static str;

    /// What is needed of it.
    fn read(raw: Raw<'_>) -> Result<Self, Unreadable>;
}

/// `spec` or `status`; what is left out is as good as an empty one.
fn section<T: DeserializeOwned + Default>(fields: &Value, key: &str) -> Result<T, Unreadable> {
    match fields.get(key) {
        // serde would take it as the fields in their order.
        Some(Value::Array(_)) => Err(Unreadable::Json(format!("{key}: a list where fields should be"))),
        Some(_) | None => part(fields, key),
    }
}

/// The part of an object under a key; what is left out is as good as an empty one.
fn part<T: DeserializeOwned + Default>(fields: &Value, key: &str) -> Result<T, Unreadable> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(part) => T::deserialize(part).map_err(|error| Unreadable::Json(format!("{key}: {error}"))),
    }
}

fn network(field: &'static str, text: &str) -> Result<Prefix, Unreadable> {
    let refused = |why: String| Unreadable::Network { field, text: text.to_owned(), why };
    let prefix: Prefix = text.parse().map_err(|error: bgp::PrefixError| refused(format!("({error})")))?;
    match config::reserved(prefix) {
        Some(why) => Err(refused(why.to_owned())),
        None => Ok(prefix),
    }
}
