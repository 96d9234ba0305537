//! `show drain`, and the steps of `drain`.

use selvedge::control::api::{Drain, DrainProgress, DrainState, DrainStep, NeighborDrain};

use super::{Position, left, peer, right, table};
use crate::output::printable;

pub(crate) fn drain(drain: &Drain) -> String {
    let node = match &drain.node {
        None => "Node: serving\n".to_owned(),
        Some(progress) => {
            let then = if progress.stops { ", then the daemon ends" } else { "" };
            let steps: String = progress.steps.iter().map(|step| drain_step(progress, step)).collect();
            format!(
                "Node: {}{}{then}\nMessage: {}\n{steps}",
                progress.state,
                limit(progress),
                printable(&progress.message),
            )
        }
    };
    let neighbors = &drain.neighbors;
    if neighbors.is_empty() {
        return node + "\nNo neighbors.\n";
    }
    let columns = [
        left("Neighbor", 0),
        left("Session", 0),
        left("Drain", 0),
        right("Since"),
        right("Time left"),
        right("Rx packets/s"),
    ];
    let rows = neighbors.iter().map(|neighbor| row(neighbor, drain.node.as_ref())).collect();
    format!("{node}\n{}", table(columns, rows, Position::First))
}

/// `  +3.5s  withdrawing`, from the order on.
pub(crate) fn drain_step(progress: &DrainProgress, step: &DrainStep) -> String {
    let began = progress.steps.first().map_or(0, |first| first.ago_ms);
    let after = began.saturating_sub(step.ago_ms);
    format!("  {:>8}  {}\n", format!("+{}", seconds(after)), meaning(step.state))
}

fn meaning(state: DrainState) -> &'static str {
    match state {
        DrainState::Returning => "returning: taken back, sessions come up",
        DrainState::Marking => "marking: telling neighbors that other ways are better",
        DrainState::Waiting => "waiting: for traffic to leave",
        DrainState::Withdrawing => "withdrawing: telling neighbors that there is no way here",
        DrainState::Ending => "ending: Cease, Administrative Shutdown",
        DrainState::Drained => "drained: no sessions until it is taken back",
    }
}

fn limit(progress: &DrainProgress) -> String {
    progress.time_left_ms.map(|left| format!(", {} left at most", seconds(left))).unwrap_or_default()
}

/// A neighbor of a node that is drained is drained with it.
fn row(neighbor: &NeighborDrain, node: Option<&DrainProgress>) -> [String; 6] {
    let shown = match (&neighbor.drain, node) {
        (Some(own), Some(node)) if own.state < node.state => Some((node, " (node)")),
        (Some(own), _) => Some((own, "")),
        (None, Some(node)) => Some((node, " (node)")),
        (None, None) => None,
    };
    let since = shown.map(|(progress, _)| seconds(progress.since_ms));
    let left = shown.and_then(|(progress, _)| progress.time_left_ms).map(seconds);
    [
        peer(neighbor.hostname.as_deref(), &neighbor.name),
        neighbor.session.map_or_else(|| "absent".to_owned(), |session| session.to_string()),
        shown.map_or_else(|| "-".to_owned(), |(progress, whose)| format!("{}{whose}", progress.state)),
        super::or_dash(since),
        super::or_dash(left),
        super::or_dash(neighbor.received_packets_per_s),
    ]
}

/// `3.5s`
fn seconds(ms: u64) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use selvedge::control::api::SessionState;

    use super::*;

    fn progress(state: DrainState, steps: &[(DrainState, u64)]) -> DrainProgress {
        DrainProgress {
            state,
            since_ms: 1500,
            time_left_ms: (state == DrainState::Waiting).then_some(28_000),
            stops: false,
            message: "disk\u{1b}[2J".to_owned(),
            steps: steps.iter().map(|&(state, ago_ms)| DrainStep { state, ago_ms }).collect(),
        }
    }

    fn neighbor(name: &str, drain: Option<DrainProgress>) -> NeighborDrain {
        NeighborDrain {
            name: name.to_owned(),
            hostname: None,
            session: Some(SessionState::Established),
            drain,
            received_packets_per_s: Some(12),
        }
    }

    #[test]
    fn a_node_that_leaves_says_how_far_it_is() {
        let node = progress(DrainState::Waiting, &[(DrainState::Marking, 2000), (DrainState::Waiting, 1500)]);
        let absent = NeighborDrain {
            session: None,
            received_packets_per_s: None,
            ..neighbor("eth1", Some(progress(DrainState::Drained, &[])))
        };
        let answer = Drain { node: Some(node), neighbors: vec![neighbor("eth0", None), absent] };
        let expected = "\
Node: waiting, 28.0s left at most
Message: disk\\u{1b}[2J
     +0.0s  marking: telling neighbors that other ways are better
     +0.5s  waiting: for traffic to leave

Neighbor  Session      Drain           Since  Time left  Rx packets/s
eth0      Established  waiting (node)   1.5s      28.0s            12
eth1      absent       drained          1.5s          -             -
";
        assert_eq!(drain(&answer), expected);
    }

    #[test]
    fn a_node_that_serves_is_said_to() {
        let serving = NeighborDrain { received_packets_per_s: None, ..neighbor("eth0", None) };
        let expected = "\
Node: serving

Neighbor  Session      Drain  Since  Time left  Rx packets/s
eth0      Established  -          -          -             -
";
        assert_eq!(drain(&Drain { node: None, neighbors: vec![serving] }), expected);
        assert_eq!(drain(&Drain { node: None, neighbors: Vec::new() }), "Node: serving\n\nNo neighbors.\n");
    }
}
