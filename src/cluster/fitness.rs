//! What has to be written of a node, for Kubernetes to know whether it is fit for pods: one condition and one taint.
//!
//! In: what is to be told, and the node as the server has it. Out: one [`Write`] at a time, as the patch that makes it and
//! touches nothing else, or none. Pure.
//!
//! Conditions are a list with keys, which a strategic merge patch goes by: those of the kubelet stay out of it. Taints are
//! replaced as a whole by anybody who merges, so ours comes and goes by a JSON patch (RFC 6902) that holds only for the
//! taints that were seen: where somebody else has changed them meanwhile, the server refuses, and we look again.

use std::fmt;

use serde_json::{Value, json};

use super::objects::{Condition, NETWORK_UNAVAILABLE, Node};
use crate::readiness::{Told, Words};

/// The taint of nodes that are not ready for pods: of one that has started, until the fabric is there.
const TAINT: &str = "selvedge.dev/uplinks-not-ready";
const EFFECT: &str = "NoSchedule";

/// Whether the taint is ours to put there and to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tainting {
    /// `taint = true`
    Managed,
    /// `taint = false`
    LeftAlone,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Condition {
        condition: Condition,
        /// Whether `lastTransitionTime` moves: it tells of the status alone.
        transition: Transition,
    },
    AddTaint {
        /// What is there already.
        beside: Vec<Value>,
    },
    RemoveTaint {
        /// Where it stands.
        at: usize,
        taint: Value,
    },
}

/// Whether the status of a condition becomes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    OtherStatus,
    OtherWords,
}

impl Write {
    /// What to write next; nothing once the server has it all, or where it is to be told nothing.
    pub(super) fn next(told: &Told, node: &Node, tainting: Tainting) -> Option<Self> {
        let of_condition = match told {
            Told::Nothing => return None,
            Told::Ready(words) => condition("False", words, node),
            Told::NotReady(words) => condition("True", words, node),
            // Of a condition that was never ours, or is somebody else's by now, there is nothing to take back.
            Told::Unwatched => match &node.network {
                Some(now) if Words::are_ours(&now.reason) => condition("False", &Words::of_unwatched(), node),
                Some(_) | None => None,
            },
        };
        of_condition.or_else(|| match tainting {
            Tainting::Managed => taint(told, node),
            Tainting::LeftAlone => None,
        })
    }

    /// Whether the node shows it.
    pub(super) fn is_in(&self, node: &Node) -> bool {
        match self {
            Self::Condition { condition, .. } => node.network.as_ref() == Some(condition),
            Self::AddTaint { .. } => node.taints.iter().any(is_ours),
            Self::RemoveTaint { .. } => !node.taints.iter().any(is_ours),
        }
    }

    /// What is patched, as roles (RBAC) have it.
    pub(super) fn resource(&self) -> &'static str {
        match self {
            Self::Condition { .. } => "nodes/status",
            Self::AddTaint { .. } | Self::RemoveTaint { .. } => "nodes",
        }
    }

    /// Whether a refusal with this code of HTTP says no more than that the node was another one: 404, it is gone; 409,
    /// somebody wrote at the same time; 422, a test of a JSON patch does not hold.
    pub(super) fn is_outdated(&self, code: u16) -> bool {
        match self {
            Self::Condition { .. } => matches!(code, 404 | 409),
            Self::AddTaint { .. } | Self::RemoveTaint { .. } => matches!(code, 404 | 409 | 422),
        }
    }

    /// The body of the request; `now` as Kubernetes writes times.
    pub(super) fn patch(&self, now: &str) -> Value {
        match self {
            Self::Condition { condition: Condition { r#type, status, reason, message }, transition } => {
                let mut condition = json!({
                    "type": r#type, "status": status, "reason": reason, "message": message,
                    "lastHeartbeatTime": now,
                });
                match transition {
                    // Left out, the time that is there stays.
                    Transition::OtherWords => {}
                    Transition::OtherStatus => {
                        if let Some(fields) = condition.as_object_mut() {
                            fields.insert("lastTransitionTime".to_owned(), now.into());
                        }
                    }
                }
                json!({ "status": { "conditions": [condition] } })
            }
            Self::AddTaint { beside } => {
                let ours = json!({ "key": TAINT, "effect": EFFECT });
                // An empty list is as good as none to the server, which keeps neither: null is what a field that is not
                // there equals.
                let seen = if beside.is_empty() { Value::Null } else { beside.clone().into() };
                let all: Vec<Value> = beside.iter().cloned().chain([ours]).collect();
                json!([
                    { "op": "test", "path": "/spec/taints", "value": seen },
                    { "op": "add", "path": "/spec/taints", "value": all },
                ])
            }
            Self::RemoveTaint { at, taint } => {
                let path = format!("/spec/taints/{at}");
                json!([
                    { "op": "test", "path": path, "value": taint },
                    { "op": "remove", "path": path },
                ])
            }
        }
    }
}

fn condition(status: &str, words: &Words, node: &Node) -> Option<Write> {
    let condition = Condition {
        r#type: NETWORK_UNAVAILABLE.to_owned(),
        status: status.to_owned(),
        reason: words.reason.to_owned(),
        message: words.message.clone(),
    };
    let transition = match &node.network {
        Some(now) if *now == condition => return None,
        Some(now) if now.status == condition.status => Transition::OtherWords,
        Some(_) | None => Transition::OtherStatus,
    };
    Some(Write::Condition { condition, transition })
}

fn taint(told: &Told, node: &Node) -> Option<Write> {
    let there = node.taints.iter().enumerate().find(|(_, taint)| is_ours(taint));
    match (told, there) {
        (Told::NotReady(_), None) => Some(Write::AddTaint { beside: node.taints.clone() }),
        (Told::Ready(_) | Told::Unwatched, Some((at, taint))) => {
            Some(Write::RemoveTaint { at, taint: taint.clone() })
        }
        (Told::Nothing, _) | (Told::NotReady(_), Some(_)) | (Told::Ready(_) | Told::Unwatched, None) => None,
    }
}

/// Whatever its value. One of the same key with another effect is somebody else's.
fn is_ours(taint: &Value) -> bool {
    let field = |name| taint.get(name).and_then(Value::as_str);
    (field("key"), field("effect")) == (Some(TAINT), Some(EFFECT))
}

/// For logs.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { condition: Condition { r#type, status, reason, message }, .. } => {
                write!(f, "{type}={status}, {reason}: {message}")
            }
            Self::AddTaint { .. } => write!(f, "taint {TAINT}:{EFFECT} added"),
            Self::RemoveTaint { .. } => write!(f, "taint {TAINT}:{EFFECT} removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words { reason: "NoUplink", message: "tor1 is down".to_owned() }
    }

    fn network(status: &str, Words { reason, message }: Words) -> Option<Condition> {
        let (status, reason) = (status.to_owned(), reason.to_owned());
        Some(Condition { r#type: NETWORK_UNAVAILABLE.to_owned(), status, reason, message })
    }

    fn foreign() -> Value {
        json!({ "key": "example.com/gpu", "effect": "NoSchedule", "value": "yes" })
    }

    fn ours() -> Value {
        json!({ "key": TAINT, "effect": EFFECT })
    }

    /// What a server makes of it, as far as the node is read.
    fn apply(node: &mut Node, write: &Write) {
        match write {
            Write::Condition { condition, .. } => node.network = Some(condition.clone()),
            Write::AddTaint { .. } | Write::RemoveTaint { .. } => {
                let mut document = json!({ "spec": { "taints": node.taints } });
                if node.taints.is_empty() {
                    document = json!({ "spec": {} });
                }
                let operations = write.patch("");
                for operation in operations.as_array().unwrap() {
                    let path = operation["path"].as_str().unwrap();
                    match operation["op"].as_str().unwrap() {
                        "test" => {
                            let seen = document.pointer(path).unwrap_or(&Value::Null);
                            assert_eq!(seen, &operation["value"]);
                        }
                        "add" => document["spec"]["taints"] = operation["value"].clone(),
                        "remove" => {
                            let at: usize = path.rsplit('/').next().unwrap().parse().unwrap();
                            document["spec"]["taints"].as_array_mut().unwrap().remove(at);
                        }
                        other => panic!("{other}"),
                    }
                }
                node.taints = document["spec"]["taints"].as_array().unwrap().clone();
            }
        }
    }

    #[test]
    fn whatever_a_node_has_it_gets_what_is_told_and_nothing_else_changes() {
        let states = [None, network("True", words()), network("False", words()), network("Unknown", words())];
        let taints =
            [vec![], vec![foreign()], vec![ours()], vec![foreign(), ours()], vec![ours(), foreign()]];
        for (network, taints) in
            states.iter().flat_map(|state| taints.iter().map(move |taints| (state, taints)))
        {
            let before = Node { network: network.clone(), taints: taints.clone(), ..Node::default() };
            for (told, status, is_tainted) in
                [(Told::Ready(words()), "False", false), (Told::NotReady(words()), "True", true)]
            {
                let mut node = before.clone();
                let mut writes = 0;
                while let Some(write) = Write::next(&told, &node, Tainting::Managed) {
                    assert!(!write.is_in(&node), "{write:?}");
                    apply(&mut node, &write);
                    assert!(write.is_in(&node), "{write:?}");
                    writes += 1;
                    assert!(writes <= 2, "{before:?}: {told:?}");
                }
                assert_eq!(node.network.as_ref().unwrap().status, status);
                assert_eq!(node.taints.contains(&ours()), is_tainted, "{before:?}: {told:?}");
                assert_eq!(node.taints.contains(&foreign()), before.taints.contains(&foreign()));

                let mut node = before.clone();
                while let Some(write) = Write::next(&told, &node, Tainting::LeftAlone) {
                    apply(&mut node, &write);
                }
                assert_eq!(node.taints, before.taints);
            }
            assert_eq!(Write::next(&Told::Nothing, &before, Tainting::Managed), None);
        }
    }

    #[test]
    fn what_was_told_is_taken_back_and_what_others_told_is_not() {
        let others = || Words { reason: "RouteCreated", message: "by the cloud".to_owned() };
        let unwatched = || network("False", Words::of_unwatched());
        let (with, without) = (vec![foreign(), ours()], vec![foreign()]);
        let rows = [
            (network("True", words()), unwatched()),
            (network("False", Words { reason: crate::readiness::READY, ..words() }), unwatched()),
            (network("True", others()), network("True", others())),
            // A node that was registered with the taint, and never had a fabric.
            (None, None),
        ];
        for (before, after) in rows {
            for (tainting, taints) in [(Tainting::Managed, &without), (Tainting::LeftAlone, &with)] {
                let mut node = Node { network: before.clone(), taints: with.clone(), ..Node::default() };
                while let Some(write) = Write::next(&Told::Unwatched, &node, tainting) {
                    apply(&mut node, &write);
                    assert!(write.is_in(&node), "{write:?}");
                }
                assert_eq!((&node.network, &node.taints), (&after, taints), "{before:?}");
            }
        }
    }

    #[test]
    fn the_time_of_the_transition_is_that_of_the_status() {
        let patch = |network| {
            let node = Node { network, ..Node::default() };
            Write::next(&Told::NotReady(words()), &node, Tainting::LeftAlone).map(|write| write.patch("now"))
        };
        let other_words = Words { message: "tor2 is down".to_owned(), ..words() };
        assert_eq!(patch(network("True", words())), None);
        let condition = json!({
            "type": "NetworkUnavailable", "status": "True", "reason": "NoUplink", "message": "tor1 is down",
            "lastHeartbeatTime": "now",
        });
        let rewritten = json!({ "status": { "conditions": [condition] } });
        assert_eq!(patch(network("True", other_words)), Some(rewritten.clone()));
        let mut changed = rewritten;
        changed["status"]["conditions"][0]["lastTransitionTime"] = "now".into();
        assert_eq!(patch(network("False", words())), Some(changed.clone()));
        assert_eq!(patch(None), Some(changed));
    }

    #[test]
    fn a_taint_of_the_same_key_with_another_effect_is_not_ours() {
        let taint = json!({ "key": TAINT, "effect": "NoExecute" });
        let node =
            Node { taints: vec![taint.clone()], network: network("False", words()), ..Node::default() };
        assert_eq!(Write::next(&Told::Ready(words()), &node, Tainting::Managed), None);
        let node = Node { network: network("True", words()), ..node };
        let write = Write::next(&Told::NotReady(words()), &node, Tainting::Managed);
        assert_eq!(write, Some(Write::AddTaint { beside: vec![taint] }));
    }
}
