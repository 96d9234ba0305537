//! `show summary`: the columns that FRR's users know, without those that mean nothing here.

use selvedge::control::api::{BfdState, NeighborSummary, SessionState, Summary, Trial};

use super::{Position, kubernetes, left, peer, right, span, table};
use crate::output::printable;

pub(crate) fn summary(summary: &Summary) -> String {
    let router_id = summary.router_id.map_or_else(|| "not known yet".to_owned(), |id| id.to_string());
    let head = format!(
        "BGP router identifier {router_id}, local AS number {}\n\
         {}, selvedge {}, up {}\n\
         RIB: {} destinations, {} paths; FIB: {} routes\n{}{}{}\n",
        summary.local_as,
        printable(&summary.hostname),
        printable(&summary.version),
        span(summary.uptime_s),
        summary.rib.destinations,
        summary.rib.paths,
        summary.fib_routes,
        summary.listen_error.as_deref().map(deaf).unwrap_or_default(),
        summary.kubernetes.as_ref().map(kubernetes::in_summary).unwrap_or_default(),
        summary.trial.as_ref().map(trial).unwrap_or_default(),
    );
    let neighbors = &summary.neighbors;
    if neighbors.is_empty() {
        return head + "No neighbors.\n";
    }
    let columns = [
        left("Neighbor", 0),
        right("AS"),
        right("MsgRcvd"),
        right("MsgSent"),
        right("Up/Down"),
        right("State/PfxRcd"),
        right("PfxSnt"),
    ];
    let table = table(columns, neighbors.iter().map(row).collect(), Position::First);
    let established = neighbors.iter().filter(|neighbor| neighbor.state == SessionState::Established).count();
    let errors: String = neighbors.iter().filter_map(error).collect();
    let unwatched: String = neighbors.iter().filter_map(unwatched).collect();
    format!("{head}{table}\nNeighbors: {}, established: {established}\n{errors}{unwatched}", neighbors.len())
}

/// Nobody can connect to us.
fn deaf(reason: &str) -> String {
    format!("Listener: neighbors cannot connect, and are dialled only: {}\n", printable(reason))
}

/// What becomes of the configuration.
fn trial(trial: &Trial) -> String {
    match trial {
        Trial::Running { left_s } => {
            format!("Configuration: on trial for another {}, unless `bgpctl confirm` comes\n", span(*left_s))
        }
        Trial::Failed { ago_s, reason } => format!(
            "Configuration: not that of the file, which was left {} ago: {}\n",
            span(*ago_s),
            printable(reason)
        ),
    }
}

/// Why a neighbor is not up, where anything is known.
fn error(neighbor: &NeighborSummary) -> Option<String> {
    let error = neighbor.last_error.as_deref().filter(|_| neighbor.state != SessionState::Established)?;
    Some(format!("{}: {}\n", printable(&neighbor.name), printable(error)))
}

/// A neighbor that BFD was to watch, and does not.
fn unwatched(neighbor: &NeighborSummary) -> Option<String> {
    let state = neighbor.bfd_state.filter(|state| *state != BfdState::Up)?;
    Some(format!("{}: BFD is {state}\n", printable(&neighbor.name)))
}

fn row(neighbor: &NeighborSummary) -> [String; 7] {
    let state = match neighbor.state {
        SessionState::Established => neighbor.prefixes.received.to_string(),
        state @ (SessionState::Idle
        | SessionState::Connect
        | SessionState::Active
        | SessionState::OpenSent
        | SessionState::OpenConfirm) => state.to_string(),
    };
    [
        peer(neighbor.hostname.as_deref(), &neighbor.name),
        super::or_dash(neighbor.remote_as),
        neighbor.messages_received.to_string(),
        neighbor.messages_sent.to_string(),
        neighbor.up_down_s.map_or_else(|| "never".to_owned(), span),
        state,
        neighbor.prefixes.sent.to_string(),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use bgp::{Asn, Family, RouterId};
    use selvedge::control::api::{ApiServer, KubernetesSummary, PrefixCounts, RibTotals};

    use super::*;

    pub(in crate::render) fn established() -> NeighborSummary {
        let prefixes = PrefixCounts { received: 4, accepted: 3, sent: 2 };
        NeighborSummary {
            name: "eth0".to_owned(),
            hostname: Some("tor1".to_owned()),
            address: "fe80::a".parse().ok(),
            remote_as: Some(Asn(65004)),
            state: SessionState::Established,
            up_down_s: Some(83),
            messages_received: 31,
            messages_sent: 29,
            prefixes,
            prefixes_by_family: BTreeMap::from([(Family::Ipv4Unicast, prefixes)]),
            bfd_state: Some(BfdState::Up),
            last_error: None,
        }
    }

    #[test]
    fn summary_has_the_columns_of_frr() {
        let down = NeighborSummary {
            name: "eth1".to_owned(),
            hostname: None,
            address: None,
            remote_as: None,
            state: SessionState::Active,
            up_down_s: None,
            messages_received: 0,
            messages_sent: 0,
            prefixes: PrefixCounts::default(),
            prefixes_by_family: BTreeMap::new(),
            bfd_state: Some(BfdState::Down),
            last_error: Some("connection refused".to_owned()),
        };
        let answer = Summary {
            router_id: RouterId::new([1, 1, 1, 1].into()),
            local_as: Asn(65001),
            hostname: "c1".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 93_780,
            rib: RibTotals { destinations: 8, paths: 14 },
            fib_routes: 6,
            trial: None,
            kubernetes: None,
            listen_error: None,
            neighbors: vec![established(), down],
        };
        let expected = "\
BGP router identifier 1.1.1.1, local AS number 65001
c1, selvedge 0.1.0, up 1d02h03m
RIB: 8 destinations, 14 paths; FIB: 6 routes

Neighbor       AS  MsgRcvd  MsgSent   Up/Down  State/PfxRcd  PfxSnt
tor1(eth0)  65004       31       29  00:01:23             4       2
eth1            -        0        0     never        Active       0

Neighbors: 2, established: 1
eth1: connection refused
eth1: BFD is Down
";
        assert_eq!(summary(&answer), expected);
        let running = Summary { trial: Some(Trial::Running { left_s: 59 }), ..answer.clone() };
        assert!(summary(&running).contains(
            "6 routes\nConfiguration: on trial for another 00:00:59, unless `bgpctl confirm` comes\n\nNeighbor"
        ));
        let failed = Trial::Failed { ago_s: 3, reason: "it was not confirmed in time".to_owned() };
        let failed = Summary { trial: Some(failed), ..answer.clone() };
        assert!(summary(&failed).contains(
            "\nConfiguration: not that of the file, which was left 00:00:03 ago: it was not confirmed in time\n\n"
        ));
        let server = ApiServer::Answers;
        let kubernetes = Some(KubernetesSummary { server, blocks: 3, service_prefixes: 12, problems: 0 });
        let clustered = Summary { kubernetes, ..answer.clone() };
        assert!(summary(&clustered).contains(
            "6 routes\nKubernetes: API server answers; 3 blocks and 12 prefixes of services announced\n\nNeighbor"
        ));
        let deaf =
            Summary { listen_error: Some("another program has TCP port 179".to_owned()), ..answer.clone() };
        assert!(summary(&deaf).contains(
            "6 routes\nListener: neighbors cannot connect, and are dialled only: another program has TCP port 179\n\n"
        ));
        let none = Summary { neighbors: Vec::new(), router_id: None, ..answer };
        assert!(summary(&none).starts_with("BGP router identifier not known yet, local AS number 65001\n"));
        assert!(summary(&none).ends_with("\n\nNo neighbors.\n"));
    }
}
