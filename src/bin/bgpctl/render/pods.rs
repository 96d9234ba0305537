//! `show pods`: the blocks of this node, whose they are, and what is wrong with what Kubernetes says of them.

use selvedge::control::api::{BlockSource, BlockStatus, PodBlock, Pods};

use super::{Position, kubernetes, left, table};
use crate::output::printable;

pub(crate) fn pods(pods: &Pods) -> String {
    let head = kubernetes::head(pods.kubernetes.as_ref());
    let blocks = if pods.blocks.is_empty() {
        "No blocks.\n".to_owned()
    } else {
        let columns = [
            left("Block", 0),
            left("Source", 0),
            left("Announced", 0),
            left("Blackhole", 0),
            left("Why not", 0),
        ];
        table(columns, pods.blocks.iter().map(row).collect(), Position::First)
    };
    let conflicts = pods.blocks.iter().filter_map(|block| conflict(block, &pods.blocks));
    let errors =
        conflicts.collect::<String>() + &pods.kubernetes.as_ref().map(kubernetes::errors).unwrap_or_default();
    let separator = if errors.is_empty() { "" } else { "\n" };
    format!("{head}\n{blocks}{separator}{errors}")
}

fn row(block: &PodBlock) -> [String; 5] {
    let source = match block.source {
        BlockSource::File => "file",
        BlockSource::Node => "node",
        BlockSource::Calico => "Calico",
        BlockSource::Borrowed => "borrowed",
    };
    let why_not = why_not(&block.status);
    [
        block.prefix.to_string(),
        source.to_owned(),
        yes_or_no(why_not.is_none()).to_owned(),
        yes_or_no(block.blackhole).to_owned(),
        why_not.unwrap_or_default(),
    ]
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// `None` for what is announced.
fn why_not(status: &BlockStatus) -> Option<String> {
    let words = match status {
        BlockStatus::Announced => return None,
        BlockStatus::Pending => "Calico has not confirmed yet that it is this node's",
        BlockStatus::PendingDeletion => "Calico takes it away from this node",
        BlockStatus::OwnerUnknown => "its IPAMBlock, which says whose it is, is not known yet",
        BlockStatus::PoolsUnknown => "the IPPools, of which its own may not be announced, are not known yet",
        BlockStatus::Unclaimed => "its IPAMBlock is nobody's, or is not there",
        BlockStatus::OwnedBy { node } => {
            return Some(format!("its IPAMBlock says that it is {}'s", printable(node)));
        }
        BlockStatus::NotExported => "its IPPool has disableBGPExport",
        BlockStatus::Ipip => "its IPPool wants IPIP, which nothing here does: set ipipMode to Never",
        BlockStatus::Vxlan => "its IPPool wants VXLAN, which nothing here does: set vxlanMode to Never",
        BlockStatus::NoPool => "it is in no IPPool",
        BlockStatus::RouteUnknown => "the kernel has not said yet whether it has a route to it",
    };
    Some(words.to_owned())
}

/// Nodes that say the same block is theirs: of each packet to it, one of them gets what is the other's.
fn conflict(block: &PodBlock, all: &[PodBlock]) -> Option<String> {
    let prefix = block.prefix;
    let claims = match block.rivals.as_slice() {
        [] => None,
        [rival] => Some(format!("{} claims", printable(rival))),
        rivals => {
            let names: Vec<String> = rivals.iter().map(|rival| printable(rival)).collect();
            Some(format!("{} claim", names.join(", ")))
        }
    };
    let outcome = match &block.status {
        BlockStatus::Announced => "this node announces it".to_owned(),
        BlockStatus::OwnedBy { node } => format!("its IPAMBlock says that it is {}'s", printable(node)),
        BlockStatus::Unclaimed => "its IPAMBlock is nobody's, or is not there".to_owned(),
        BlockStatus::Pending
        | BlockStatus::PendingDeletion
        | BlockStatus::OwnerUnknown
        | BlockStatus::PoolsUnknown
        | BlockStatus::NotExported
        | BlockStatus::Ipip
        | BlockStatus::Vxlan
        | BlockStatus::NoPool
        | BlockStatus::RouteUnknown => "this node does not announce it".to_owned(),
    };
    let rivals = claims.map(|claims| format!("error: {claims} {prefix} as well; {outcome}\n"));
    let is_in_file = all.iter().any(|other| other.prefix == prefix && other.source == BlockSource::File);
    let of_file = match &block.status {
        BlockStatus::OwnedBy { node } if is_in_file => Some(format!(
            "error: this node announces {prefix}, since its file says so ([pods.static]), and it is {}'s\n",
            printable(node)
        )),
        BlockStatus::OwnedBy { .. }
        | BlockStatus::Announced
        | BlockStatus::Pending
        | BlockStatus::PendingDeletion
        | BlockStatus::OwnerUnknown
        | BlockStatus::PoolsUnknown
        | BlockStatus::Unclaimed
        | BlockStatus::NotExported
        | BlockStatus::Ipip
        | BlockStatus::Vxlan
        | BlockStatus::NoPool
        | BlockStatus::RouteUnknown => None,
    };
    match (rivals, of_file) {
        (None, None) => None,
        (rivals, of_file) => Some(rivals.unwrap_or_default() + &of_file.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kubernetes::tests::answering;
    use super::*;

    fn block(prefix: &str, source: BlockSource, status: BlockStatus, rivals: &[&str]) -> PodBlock {
        PodBlock {
            prefix: prefix.parse().unwrap(),
            source,
            status,
            blackhole: true,
            rivals: rivals.iter().map(|&rival| rival.to_owned()).collect(),
        }
    }

    #[test]
    fn blocks_are_a_line_each_and_errors_follow() {
        let owned = BlockStatus::OwnedBy { node: "c2".to_owned() };
        let blocks = vec![
            block("10.1.8.0/26", BlockSource::File, BlockStatus::Announced, &[]),
            block("10.1.8.0/26", BlockSource::Calico, owned.clone(), &["c2"]),
            block("10.1.8.64/26", BlockSource::Calico, BlockStatus::Pending, &[]),
            PodBlock {
                blackhole: false,
                ..block("10.1.8.128/26", BlockSource::Calico, BlockStatus::Ipip, &["c3"])
            },
            block("10.1.8.192/26", BlockSource::Calico, BlockStatus::Announced, &["c2", "c3"]),
            PodBlock {
                blackhole: false,
                ..block("10.1.9.5/32", BlockSource::Borrowed, BlockStatus::Announced, &[])
            },
            block("10.2.0.0/24", BlockSource::Node, BlockStatus::Announced, &[]),
        ];
        let expected = "\
Kubernetes: this is node c1; API server answers

Block          Source    Announced  Blackhole  Why not
10.1.8.0/26    file      yes        yes
10.1.8.0/26    Calico    no         yes        its IPAMBlock says that it is c2's
10.1.8.64/26   Calico    no         yes        Calico has not confirmed yet that it is this node's
10.1.8.128/26  Calico    no         no         its IPPool wants IPIP, which nothing here does: set ipipMode to Never
10.1.8.192/26  Calico    yes        yes
10.1.9.5/32    borrowed  yes        no
10.2.0.0/24    node      yes        yes

error: c2 claims 10.1.8.0/26 as well; its IPAMBlock says that it is c2's
error: this node announces 10.1.8.0/26, since its file says so ([pods.static]), and it is c2's
error: c3 claims 10.1.8.128/26 as well; this node does not announce it
error: c2, c3 claim 10.1.8.192/26 as well; this node announces it
";
        assert_eq!(pods(&Pods { kubernetes: Some(answering()), blocks }), expected);
    }

    #[test]
    fn every_reason_has_its_own_words() {
        let all = [
            BlockStatus::Pending,
            BlockStatus::PendingDeletion,
            BlockStatus::OwnerUnknown,
            BlockStatus::PoolsUnknown,
            BlockStatus::Unclaimed,
            BlockStatus::OwnedBy { node: "c2".to_owned() },
            BlockStatus::NotExported,
            BlockStatus::Ipip,
            BlockStatus::Vxlan,
            BlockStatus::NoPool,
            BlockStatus::RouteUnknown,
        ];
        let words: std::collections::BTreeSet<String> = all.iter().filter_map(why_not).collect();
        assert_eq!(words.len(), all.len());
        assert_eq!(why_not(&BlockStatus::Announced), None);
    }

    #[test]
    fn a_node_without_kubernetes_and_blocks_says_so() {
        let text = pods(&Pods { kubernetes: None, blocks: Vec::new() });
        assert_eq!(
            text,
            "Kubernetes: not asked, since the configuration has no [kubernetes]\n\nNo blocks.\n"
        );
    }
}
