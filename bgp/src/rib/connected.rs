//! What is on links of this host, and what becomes of paths when this changes.
//!
//! In: [`Rib::set_connected`], the networks that links are in, and [`Rib::set_hosts`], single addresses with a route of
//! their own over a link, as pods have. The guard refuses what is inside a network, and host routes to such an address:
//! whoever is there is reached over the link itself, and a neighbor that could speak for a part of it would draw to itself
//! what hosts on the link say to one another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::lengths::Lengths;
use super::{Effort, Rib};
use crate::{PeerId, Prefix};

/// Networks that are not to be learned, nor any part of them; and single hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connected {
    networks: BTreeSet<Prefix>,
    lengths: Lengths,
    hosts: Arc<BTreeSet<IpAddr>>,
}

impl From<BTreeSet<Prefix>> for Connected {
    fn from(networks: BTreeSet<Prefix>) -> Self {
        Self { lengths: networks.iter().collect(), networks, hosts: Arc::default() }
    }
}

impl Connected {
    /// The same networks with these hosts.
    #[must_use]
    pub fn with_hosts(self, hosts: Arc<BTreeSet<IpAddr>>) -> Self {
        Self { hosts, ..self }
    }

    /// Whether the prefix is that of one of the hosts.
    #[must_use]
    pub fn has_host(&self, prefix: Prefix) -> bool {
        prefix.is_host() && self.hosts.contains(&prefix.address())
    }

    /// Whether the prefix is one of the networks, or lies inside one. A default route, which would cover everything that others
    /// say, is nobody's network.
    #[must_use]
    pub fn covers(&self, prefix: Prefix) -> bool {
        let mut networks = self.lengths.around(prefix);
        networks.any(|network| !network.is_default() && self.networks.contains(&network))
    }

    /// Those that are in one of both and cover anything.
    fn difference(&self, other: &Self) -> Vec<Prefix> {
        let differing = self.networks.symmetric_difference(&other.networks);
        differing.filter(|network| !network.is_default()).copied().collect()
    }
}

impl Rib {
    /// Replaces the set of networks that links of this host are in. [`Self::process`] judges anew what neighbors have
    /// said of those that came or went.
    pub fn set_connected(&mut self, networks: BTreeSet<Prefix>) {
        let connected = Connected::from(networks).with_hosts(Arc::clone(&self.connected.hosts));
        let before = std::mem::replace(&mut self.connected, connected);
        let changed = before.difference(&self.connected);
        if !changed.is_empty() {
            self.judge_next_hops();
        }
        // One that was being gone through begins anew.
        self.revising.extend(changed.into_iter().map(|network| (network, None)));
    }

    /// Replaces the set of hosts that are reached over links of this host by routes of their own. What neighbors have said of
    /// one that came or went is judged anew at once.
    pub fn set_hosts(&mut self, hosts: Arc<BTreeSet<IpAddr>>) {
        let before = std::mem::replace(&mut self.connected.hosts, hosts);
        let changed = before.symmetric_difference(&self.connected.hosts);
        let changed: Vec<Prefix> = changed.map(|&address| Prefix::host(address)).collect();
        let peers: SmallVec<[PeerId; 4]> = self.peers.keys().copied().collect();
        for peer in peers {
            if let Some(mut intake) = self.intake(peer) {
                changed.iter().for_each(|&host| intake.judge_again(host));
                intake.forget_assessed();
            }
        }
    }

    /// Judges anew all that those neighbors say which gave next hops that may be in our own networks.
    pub(super) fn judge_next_hops(&mut self) {
        let concerned = self.peers.iter().filter(|(_, known)| known.depends_on_networks);
        self.judging.extend(concerned.map(|(&peer, _)| (peer, None)));
    }

    /// Judges anew what all neighbors say of one prefix in a network that came or went; `None` when there is none.
    pub(super) fn revise_next(&mut self) -> Option<Effort> {
        let (&network, &after) = self.revising.first_key_value()?;
        let next = match after {
            None => self.table.inside(network).next(),
            Some(_) => {
                let behind = self.table.behind(after).next().map(|(prefix, _)| prefix);
                behind.filter(|prefix| network.covers(*prefix))
            }
        };
        let Some(prefix) = next else {
            self.revising.remove(&network);
            return Some(Effort::LOOK);
        };
        let peers: SmallVec<[PeerId; 4]> = self.peers.keys().copied().collect();
        let mut effort = 0;
        for peer in peers {
            if let Some(mut intake) = self.intake(peer) {
                effort += Effort::with(intake.import).0;
                intake.judge_again(prefix);
                intake.forget_assessed();
            }
        }
        self.revising.insert(network, Some(prefix));
        Some(Effort(effort))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_itself_and_what_is_inside_but_no_default_route() {
        let connected = Connected::from(BTreeSet::from(
            ["192.0.2.0/31", "10.88.0.0/16", "0.0.0.0/0", "::/0", "fd00:5::/64"]
                .map(|text| text.parse().unwrap()),
        ));
        let row = |text: &str| connected.covers(text.parse().unwrap());
        for inside in ["192.0.2.0/31", "192.0.2.1/32", "10.88.7.0/24", "fd00:5::/64", "fd00:5::7/128"] {
            assert!(row(inside), "{inside}");
        }
        for outside in
            ["0.0.0.0/0", "::/0", "192.0.2.0/30", "192.0.2.2/31", "10.0.0.0/8", "fd00:5::/48", "20.0.0.0/8"]
        {
            assert!(!row(outside), "{outside}");
        }
    }
}
