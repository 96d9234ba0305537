//! Nodes.

use bgp::Prefix;
use serde::Deserialize;
use serde_json::Value;

use super::{Object, Raw, Unreadable, network, section};

/// Withdraws all services from a node that has it, whatever its value (KEP-1143).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The condition that says whether a node's network is there (`NodeNetworkUnavailable` of `k8s.io/api/core/v1`).
pub(crate) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// This node, of `v1`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// `spec.podCIDRs`, or `spec.podCIDR` where there are none.
    pub(crate) pod_cidrs: Vec<Prefix>,
    pub(crate) services: ServicesHere,
    pub(crate) scheduling: Scheduling,
    /// `NetworkUnavailable` of `status.conditions`.
    pub(crate) network: Option<Condition>,
    /// `spec.taints` as they stand there, whoever they belong to.
    pub(crate) taints: Vec<Value>,
}

/// Whether load is to come to a node from outside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ServicesHere {
    #[default]
    Announced,
    /// The node has the label that says so.
    Excluded,
}

/// `spec.unschedulable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Scheduling {
    #[default]
    Open,
    /// The node takes no new pods.
    Cordoned,
}

/// One of `status.conditions`, without its times.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    pub(crate) r#type: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Object for Node {
    const KIND: &'static str = "Node";

    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Spec {
            #[serde(rename = "podCIDRs")]
            pod_cidrs: Vec<String>,
            #[serde(rename = "podCIDR")]
            pod_cidr: Option<String>,
            unschedulable: bool,
            taints: Vec<Value>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            conditions: Vec<Condition>,
        }
        let Spec { mut pod_cidrs, pod_cidr, unschedulable, taints } = section(raw.fields, "spec")?;
        let Status { conditions } = section(raw.fields, "status")?;
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(pod_cidr);
        }
        let services = match raw.labels.get(EXCLUDED) {
            Some(_) => ServicesHere::Excluded,
            None => ServicesHere::Announced,
        };
        let scheduling = if unschedulable { Scheduling::Cordoned } else { Scheduling::Open };
        let reachability = conditions.into_iter().find(|condition| condition.r#type == NETWORK_UNAVAILABLE);
        let pod_cidrs = pod_cidrs.iter().filter(|text| !text.is_empty());
        let pod_cidrs = pod_cidrs.map(|text| network("spec.podCIDRs", text)).collect::<Result<_, _>>()?;
        Ok(Self { pod_cidrs, services, scheduling, network: reachability, taints })
    }
}
