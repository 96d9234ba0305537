//! Prefixes that wait for their turn, in the order in which they came; the families take turns.
//!
//! That a prefix is in only once is for the owner to see to, who has a mark for it with the prefix itself: so
//! a queue costs the octets of a prefix, and only while it waits.

use std::collections::VecDeque;

use crate::{Family, Ipv4Prefix, Ipv6Prefix, Prefix};

/// Room for this many prefixes is kept when the queue runs empty.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    ipv4: VecDeque<Ipv4Prefix>,
    ipv6: VecDeque<Ipv6Prefix>,
    /// Of which family the last one was.
    last: Option<Family>,
}

impl Queue {
    pub(crate) fn push(&mut self, prefix: Prefix) {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.push_back(prefix),
            Prefix::V6(prefix) => self.ipv6.push_back(prefix),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Prefix> {
        let families = match self.last {
            Some(Family::Ipv4Unicast) => [Family::Ipv6Unicast, Family::Ipv4Unicast],
            Some(Family::Ipv6Unicast) | None => Family::ALL,
        };
        let prefix = families.into_iter().find_map(|family| self.pop_of(family))?;
        self.last = Some(prefix.family());
        Some(prefix)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    fn pop_of(&mut self, family: Family) -> Option<Prefix> {
        match family {
            Family::Ipv4Unicast => pop(&mut self.ipv4).map(Prefix::V4),
            Family::Ipv6Unicast => pop(&mut self.ipv6).map(Prefix::V6),
        }
    }
}

fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_no_family_waits_for_the_other() {
        let mut queue = Queue::default();
        let all = ["10.0.0.0/8", "9.0.0.0/8", "11.0.0.0/8", "::/0"];
        all.into_iter().for_each(|text| queue.push(text.parse().unwrap()));
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|prefix| prefix.to_string()).collect();
        assert_eq!(taken, ["10.0.0.0/8", "::/0", "9.0.0.0/8", "11.0.0.0/8"]);
        assert!(queue.is_empty());
    }
}
