//! Routes and nexthop objects of other programs in a node's kernel: planted before the first fault, and looked at after
//! each.

use lab::{Error, Host, Result};
use serde_json::Value;

use crate::site::tool;

/// Whoever else writes routes on a node: static ones, some with a prefix of ours and another metric, unknown
/// protocols, and nexthop objects.
fn routes(node: &Host) -> Vec<String> {
    let name = node.router.name;
    // Another node's blocks: this node has ECMP routes to them, with metric 20.
    let remote = lab::topology::nodes().into_iter().rev().find(|other| other.name != name);
    let covering = remote.into_iter().flat_map(|other| other.blocks).flat_map(|block| {
        [
            format!("ip route add unreachable {block} proto static metric 500"),
            format!("ip route add blackhole {block} proto 99 metric 4000"),
        ]
    });
    let own = node.router.blocks.iter().map(|block| format!("ip route add prohibit {block} metric 700"));
    let others = [
        "ip route add blackhole 192.0.2.0/24 proto static",
        "ip route add unreachable 198.51.100.0/24 proto 99 metric 20",
        "ip route add blackhole 2001:db8:1::/48 proto 99 metric 20",
        "ip nexthop add id 4242 blackhole proto static",
        "ip route add 203.0.113.0/24 nhid 4242 proto static",
    ];
    let device = format!("ip route add 198.18.0.0/15 dev cali{name}p1 proto dhcp metric 20");
    others.map(str::to_owned).into_iter().chain([device]).chain(covering).chain(own).collect()
}

/// What one node had of foreign routes when they had been planted.
#[derive(Debug)]
pub(crate) struct Foreign {
    node: &'static str,
    before: Vec<Value>,
}

impl Foreign {
    /// Plants them, and remembers every route that is not the agent's.
    ///
    /// # Errors
    /// `ip` fails.
    pub(crate) fn plant(node: &Host) -> Result<Self> {
        for line in routes(node) {
            tool(&node.netns, &family(&line))?;
        }
        let before = present(node)?;
        Ok(Self { node: node.router.name, before })
    }

    /// What is missing, and what is there that was not.
    ///
    /// # Errors
    /// `ip` fails.
    pub(crate) fn changes(&self, node: &Host) -> Result<Vec<String>> {
        let now = present(node)?;
        let missing = self.before.iter().filter(|entry| !now.contains(entry));
        let new = now.iter().filter(|entry| !self.before.contains(entry));
        let say = |what: &str, entry: &Value| format!("{}: foreign {what}: {entry}", self.node);
        Ok(missing.map(|entry| say("gone", entry)).chain(new.map(|entry| say("new", entry))).collect())
    }
}

/// `ip` takes a blackhole for one of IPv4 unless it is told.
fn family(line: &str) -> String {
    if line.contains("::") { line.replacen("ip ", "ip -6 ", 1) } else { line.to_owned() }
}

/// All routes of all tables, and all nexthop objects, without those of the agent and of the kernel: the latter come and
/// go with links and addresses.
fn present(node: &Host) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    for line in
        ["ip -j -d -4 route show table all", "ip -j -d -6 route show table all", "ip -j -d nexthop show"]
    {
        let text = tool(&node.netns, line)?;
        let list: Vec<Value> = serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })
            .map_err(|source| Error::Json { command: line.to_owned(), source })?;
        entries.extend(list.into_iter().filter(is_foreign).map(without_state));
    }
    Ok(entries)
}

fn is_foreign(entry: &Value) -> bool {
    let protocol = entry.get("protocol").and_then(Value::as_str);
    !matches!(protocol, Some("bgp" | "kernel" | "ra" | "redirect"))
}

/// Flags such as `linkdown` follow the link.
fn without_state(mut entry: Value) -> Value {
    if let Some(entry) = entry.as_object_mut() {
        entry.remove("flags");
        entry.remove("cache");
    }
    entry
}
