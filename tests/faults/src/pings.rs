//! Pings between pods while a fault is made: four trains, from the victim's pods and to them, over both uplinks.

use std::time::Duration;

use lab::capture::IpHeader;
use lab::{Capture, Error, Host, Outcome, Ping, Pinging, Pod, Rack, Result, Train};

use crate::fault::Loss;
use crate::site::BOTH;

/// Between two pings of a train.
const INTERVAL: Duration = Duration::from_millis(10);
/// For the first answer over a rack that has converged.
const ANSWER: Duration = Duration::from_secs(2);

/// Trains that are under way.
#[derive(Debug)]
pub(crate) struct Pings(Vec<Pinging>);

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Of all trains.
    pub(crate) sent: u32,
    /// Of all trains.
    pub(crate) lost: usize,
    /// The most that one train lost one after the other.
    pub(crate) row: u32,
    /// The longest time between two answers to one train.
    pub(crate) longest_gap: Duration,
}

impl Pings {
    /// Starts them.
    ///
    /// # Errors
    /// A pod cannot reach another one before anything is broken.
    pub(crate) fn start(rack: &Rack) -> Result<Self> {
        let [victim, other] = [rack.nodes.first(), rack.nodes.get(1)]
            .map(|node| node.ok_or_else(|| Error::Missing("a rack of less than two nodes".to_owned())));
        let (victim, other) = (victim?, other?);
        let flows = [pick(victim, other)?, pick(other, victim)?].concat();
        let start = |(pod, ping): (&Pod, Ping)| ping.start(&pod.netns, INTERVAL);
        Ok(Self(flows.into_iter().map(start).collect::<Result<_>>()?))
    }

    /// Ends them and counts.
    ///
    /// # Errors
    /// A train could not be sent.
    pub(crate) fn stop(self) -> Result<Tally> {
        let trains = self.0.into_iter().map(Pinging::stop).collect::<Result<Vec<_>>>()?;
        Ok(Tally {
            sent: trains.iter().map(|train| train.sent).sum(),
            lost: trains.iter().map(|train| train.lost.len()).sum(),
            row: trains.iter().map(longest_row).max().unwrap_or_default(),
            longest_gap: trains.iter().map(|train| train.longest_gap).max().unwrap_or_default(),
        })
    }
}

impl Tally {
    /// What was lost beyond what may be.
    pub(crate) fn excess(&self, allowed: Loss) -> Option<String> {
        let row = INTERVAL.saturating_mul(self.row);
        match allowed {
            Loss::None if self.lost > 0 => Some(format!("{} pings lost, none may be", self.lost)),
            Loss::Row(most) if row > most => {
                Some(format!("{row:?} of pings lost in a row, at most {most:?}"))
            }
            Loss::None | Loss::Row(_) | Loss::Any => None,
        }
    }
}

/// For each uplink of `from`, a pod of it and a ping to a pod of `to` that leaves by that uplink. The kernel chooses by a
/// hash of the addresses, so each pair of pods is tried; where all go the same way, any two will do.
fn pick<'a>(from: &'a Host, to: &Host) -> Result<Vec<(&'a Pod, Ping)>> {
    let mut flows = Vec::new();
    for pod in &from.pods {
        for address in to.pods.iter().flat_map(|target| &target.addresses) {
            flows.push((pod, Ping::new(*address)));
        }
    }
    let seen = uplinks_of(from, &flows)?;
    // One family for each uplink, where the hash allows.
    let over = |uplink: usize, wants_v4: bool| {
        let over: Vec<_> = flows.iter().zip(&seen).filter(|(_, used)| **used == Some(uplink)).collect();
        let suits = over.iter().find(|((_, ping), _)| ping.to.is_ipv4() == wants_v4);
        suits.or(over.first()).map(|(flow, _)| **flow)
    };
    Ok(match (over(0, true), over(1, false)) {
        (Some(first), Some(second)) => vec![first, second],
        _ => flows.into_iter().take(BOTH.len()).collect(),
    })
}

/// By which of [`BOTH`] each ping leaves; `None` where both have frames of it, as a route changed meanwhile.
fn uplinks_of(node: &Host, flows: &[(&Pod, Ping)]) -> Result<Vec<Option<usize>>> {
    let captures = BOTH.map(|uplink| Capture::start(&node.netns, uplink));
    for (pod, ping) in flows {
        let outcome = ping.once(&pod.netns, ANSWER)?;
        if !matches!(outcome, Outcome::Reply(_)) {
            return Err(Error::Missing(format!("an answer of {} to {}: {outcome:?}", ping.to, pod.name)));
        }
    }
    let mut headers = Vec::new();
    for capture in captures {
        headers.push(capture?.stop().iter().filter_map(|frame| frame.ip).collect::<Vec<_>>());
    }
    let used = |(pod, ping): &(&Pod, Ping)| {
        let is_request = |ip: &IpHeader| ip.destination == ping.to && pod.addresses.contains(&ip.source);
        let mut used = headers.iter().enumerate().filter(|(_, headers)| headers.iter().any(is_request));
        match (used.next(), used.next()) {
            (Some((uplink, _)), None) => Some(uplink),
            _ => None,
        }
    };
    Ok(flows.iter().map(used).collect())
}

fn longest_row(train: &Train) -> u32 {
    let (mut longest, mut row, mut last) = (0, 0, None);
    for lost in &train.lost {
        row = if last.is_some_and(|last: u32| last + 1 == *lost) { row + 1 } else { 1 };
        longest = longest.max(row);
        last = Some(*lost);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(lost: &[u32]) -> Train {
        Train {
            sent: 100,
            lost: lost.to_vec(),
            longest_gap: Duration::ZERO,
            time_exceeded: 0,
            unreachable: 0,
        }
    }

    #[test]
    fn a_row_is_of_neighbors() {
        for (lost, row) in [(&[][..], 0), (&[7], 1), (&[1, 3, 5], 1), (&[1, 2, 9, 10, 11, 20], 3)] {
            assert_eq!(longest_row(&train(lost)), row, "{lost:?}");
        }
    }

    #[test]
    fn what_is_lost_beyond_what_may_be_is_said() {
        let tally = |lost, row| Tally { lost, row, ..Tally::default() };
        assert_eq!(tally(0, 0).excess(Loss::None), None);
        assert!(tally(1, 1).excess(Loss::None).is_some());
        assert_eq!(tally(9, 3).excess(Loss::Row(Duration::from_millis(30))), None);
        assert!(tally(4, 4).excess(Loss::Row(Duration::from_millis(30))).is_some());
        assert_eq!(tally(99, 99).excess(Loss::Any), None);
    }
}
