//! Objects in the JSON that API servers send, kind by kind; [`garbage`] is what stands in their fields instead.

mod calico;
mod garbage;
mod node;
mod service;

use serde_json::{Value, json};

use super::*;

/// Reads an object as a watch does: the labels of its metadata, and the rest.
fn read<T: Object>(object: &Value) -> Result<T, Unreadable> {
    let labels = object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap();
    T::read(Raw { labels: &labels, fields: object })
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What no pod can have, and what is no network at all.
const NO_NETWORKS: [&str; 16] = [
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/8",
    "127.0.0.0/8",
    "126.0.0.0/7",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "fe80::/64",
    "ff00::/8",
    "::1/128",
    "10.1.8.193/26",
    "10.1.8.192/33",
    "10.1.8.192/26 ",
    "pods",
];
