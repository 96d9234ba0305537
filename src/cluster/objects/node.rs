//! Nodes.

use bgp::Prefix;
use serde::Deserialize;

use super::{Object, Raw, Unreadable, network, section};

/// Withdraws all services from a node that has it, whatever its value (KEP-1143).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// This node, of `v1`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// `spec.podCIDRs`, or `spec.podCIDR` where there are none.
    pub(crate) pod_cidrs: Vec<Prefix>,
    pub(crate) services: ServicesHere,
}

/// Whether load is to come to a node from outside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ServicesHere {
    #[default]
    Announced,
    /// The node has the label that says so.
    Excluded,
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
        }
        let Spec { mut pod_cidrs, pod_cidr } = section(raw.fields, "spec")?;
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(pod_cidr);
        }
        let services = match raw.labels.get(EXCLUDED) {
            Some(_) => ServicesHere::Excluded,
            None => ServicesHere::Announced,
        };
        let pod_cidrs = pod_cidrs.iter().filter(|text| !text.is_empty());
        let pod_cidrs = pod_cidrs.map(|text| network("spec.podCIDRs", text)).collect::<Result<_, _>>()?;
        Ok(Self { pod_cidrs, services })
    }
}
