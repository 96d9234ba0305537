//! What Calico's IPAM says: who has which block, and what its pools are for.

use bgp::Prefix;
use serde::Deserialize;

use super::{Object, Raw, Unreadable, network, section};

/// That a node may use a block of Calico's: BlockAffinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// `spec.node`. The name of the object must not be asked: it is shortened for long names of nodes.
    pub(crate) node: String,
    pub(crate) block: Prefix,
    pub(crate) state: AffinityState,
}

/// `spec.state`, and whether the object is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AffinityState {
    Confirmed,
    Pending,
    PendingDeletion,
    /// `spec.deleted`, or for something else than a node: as good as not there.
    Gone,
}

impl Object for Affinity {
    const KIND: &'static str = "BlockAffinity";

    /// `libcalico-go/lib/apis/crd.projectcalico.org/v1/blockaffinity.go` and
    /// `api/pkg/apis/projectcalico/v3/blockaffinity.go` of Calico, whose `deleted` is a string and a boolean.
    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            cidr: String,
            node: String,
            state: String,
            r#type: String,
            deleted: Deleted,
        }
        let Spec { cidr, node, state, r#type, deleted } = section(raw.fields, "spec")?;
        let state = match (deleted.is_true(), r#type.as_str(), state.as_str()) {
            // Blocks of type "virtual" are Calico's own, for addresses of load balancers.
            (true, _, _) | (false, "virtual", _) => AffinityState::Gone,
            (false, "" | "host", "confirmed") => AffinityState::Confirmed,
            (false, "" | "host", "" | "pending") => AffinityState::Pending,
            (false, "" | "host", "pendingDeletion") => AffinityState::PendingDeletion,
            (false, "" | "host", word) => {
                return Err(Unreadable::Word { field: "spec.state", word: word.to_owned() });
            }
            (false, word, _) => {
                return Err(Unreadable::Word { field: "spec.type", word: word.to_owned() });
            }
        };
        Ok(Self { block: network("spec.cidr", &cidr)?, node, state })
    }
}

/// `deleted` in either of the shapes that Calico gives it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Deleted {
    Bool(bool),
    Text(String),
}

impl Default for Deleted {
    fn default() -> Self {
        Self::Bool(false)
    }
}

impl Deleted {
    fn is_true(&self) -> bool {
        match self {
            Self::Bool(deleted) => *deleted,
            Self::Text(text) => text == "true",
        }
    }
}

/// A block of Calico's and whose it is: IPAMBlock, the word of truth where affinities contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) cidr: Prefix,
    pub(crate) owner: Owner,
}

/// `spec.affinity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    Node(String),
    /// Nobody's, or not a node's.
    Nobody,
}

impl Object for Block {
    const KIND: &'static str = "IPAMBlock";

    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            cidr: String,
            affinity: Option<String>,
            deleted: bool,
        }
        let Spec { cidr, affinity, deleted } = section(raw.fields, "spec")?;
        let owner = match affinity.as_deref().and_then(|affinity| affinity.strip_prefix("host:")) {
            Some(node) if !deleted => Owner::Node(node.to_owned()),
            Some(_) | None => Owner::Nobody,
        };
        Ok(Self { cidr: network("spec.cidr", &cidr)?, owner })
    }
}

/// A range that Calico gives blocks from: IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) cidr: Prefix,
    pub(crate) way: PoolWay,
}

/// How pods of a pool are to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolWay {
    /// Their blocks are announced.
    Announced,
    /// `disableBGPExport`.
    NotExported,
    /// `ipipMode` other than `Never`, which nothing here does.
    Ipip,
    /// `vxlanMode` other than `Never`, which nothing here does.
    Vxlan,
}

impl Object for Pool {
    const KIND: &'static str = "IPPool";

    /// `disabled` is not asked: pods of a pool that gives out no more addresses are still there.
    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            cidr: String,
            #[serde(rename = "ipipMode")]
            ipip: String,
            #[serde(rename = "vxlanMode")]
            vxlan: String,
            #[serde(rename = "disableBGPExport")]
            no_export: bool,
        }
        let Spec { cidr, ipip, vxlan, no_export } = section(raw.fields, "spec")?;
        let is_never = |mode: &str| matches!(mode, "" | "Never");
        let way = match (is_never(&ipip), is_never(&vxlan)) {
            (false, _) => PoolWay::Ipip,
            (true, false) => PoolWay::Vxlan,
            (true, true) if no_export => PoolWay::NotExported,
            (true, true) => PoolWay::Announced,
        };
        Ok(Self { cidr: network("spec.cidr", &cidr)?, way })
    }
}
