//! All paths of all neighbors, by prefix: the Adj-RIBs-In and the Loc-RIB in one ordered map.
//!
//! The order makes answers deterministic and pages cheap. Nothing outside this file knows the layout.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Gateways, Originated};
use crate::message::Attributes;
use crate::policy::Refusal;
use crate::{PeerId, Prefix};

/// One path in an Adj-RIB-In. A million of them have to fit, so it is kept to 32 bytes.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) peer: PeerId,
    /// Which session of the peer, and which refresh in it, said so last; see [`super::adj_rib_in`].
    pub(crate) generation: u32,
    pub(crate) received: Arc<Attributes>,
    pub(crate) verdict: Verdict,
}

/// What import policy made of a path.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Eligible, with these attributes: the received ones where policy changed nothing.
    Accepted(Arc<Attributes>),
    Refused(Refusal),
    /// Our own route, come back.
    Echo,
}

impl Verdict {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Accepted(mine), Self::Accepted(theirs)) => Arc::ptr_eq(mine, theirs),
            (Self::Refused(mine), Self::Refused(theirs)) => mine == theirs,
            (Self::Echo, Self::Echo) => true,
            (Self::Accepted(_) | Self::Refused(_) | Self::Echo, _) => false,
        }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// Everything about one prefix.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    /// At most one for each peer.
    pub(crate) paths: SmallVec<[Path; 2]>,
    /// The next hops that the last decision chose.
    pub(crate) wanted: Option<Arc<Gateways>>,
    /// The next hops that the FIB was last told.
    pub(crate) given: Option<Arc<Gateways>>,
}

impl Destination {
    fn is_unused(&self) -> bool {
        self.paths.is_empty() && self.wanted.is_none() && self.given.is_none()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    destinations: BTreeMap<Prefix, Destination>,
}

impl Table {
    pub(crate) fn get(&self, prefix: Prefix) -> Option<&Destination> {
        self.destinations.get(&prefix)
    }

    pub(crate) fn get_mut(&mut self, prefix: Prefix) -> Option<&mut Destination> {
        self.destinations.get_mut(&prefix)
    }

    /// The destination, made where it is not there.
    pub(crate) fn entry(&mut self, prefix: Prefix) -> &mut Destination {
        self.destinations.entry(prefix).or_default()
    }

    /// What a peer said of a prefix.
    pub(crate) fn path_mut(&mut self, prefix: Prefix, peer: PeerId) -> Option<&mut Path> {
        self.get_mut(prefix)?.paths.iter_mut().find(|path| path.peer == peer)
    }

    /// Takes a path out, but not its destination.
    pub(crate) fn take_path(&mut self, prefix: Prefix, peer: PeerId) -> Option<Path> {
        let destination = self.get_mut(prefix)?;
        let position = destination.paths.iter().position(|path| path.peer == peer)?;
        Some(destination.paths.remove(position))
    }

    /// Forgets a destination about which there is nothing to know. Originated ones stay, so that a walk over
    /// the table meets them.
    pub(crate) fn prune(&mut self, prefix: Prefix, originated: &Originated) {
        if self.get(prefix).is_some_and(Destination::is_unused) && !originated.contains(prefix) {
            self.destinations.remove(&prefix);
        }
    }

    /// The destinations behind `after`, in order.
    pub(crate) fn behind(&self, after: Option<Prefix>) -> impl Iterator<Item = (Prefix, &Destination)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.destinations.range((from, Bound::Unbounded)).map(|(&prefix, destination)| (prefix, destination))
    }

    /// The prefixes inside a network, itself included. They follow one another in the order of [`Prefix`].
    pub(crate) fn inside(&self, network: Prefix) -> impl Iterator<Item = Prefix> {
        self.destinations
            .range(network..)
            .map(|(&prefix, _)| prefix)
            .take_while(move |&prefix| network.covers(prefix))
    }

    /// The destinations that contain an address, longest prefix first.
    pub(crate) fn containing(&self, address: IpAddr) -> impl Iterator<Item = (Prefix, &Destination)> {
        let host = Prefix::host(address);
        let networks =
            (0..=host.length()).rev().filter_map(move |length| Prefix::masked(address, length).ok());
        networks.filter_map(|network| Some((network, self.get(network)?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.destinations.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_small() {
        assert!(size_of::<Path>() <= 32, "{}", size_of::<Path>());
        assert!(size_of::<Destination>() <= 96, "{}", size_of::<Destination>());
    }

    #[test]
    fn inside_and_containing_follow_the_bits() {
        let mut table = Table::default();
        let all = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "10.1.255.255/32",
            "10.2.0.0/16",
            "::/0",
        ];
        for text in all {
            table.entry(text.parse().unwrap());
        }
        let texts =
            |prefixes: Vec<Prefix>| prefixes.into_iter().map(|prefix| prefix.to_string()).collect::<Vec<_>>();
        let inside = texts(table.inside("10.1.0.0/16".parse().unwrap()).collect());
        assert_eq!(inside, ["10.1.0.0/16", "10.1.0.0/24", "10.1.255.255/32"]);
        let containing =
            texts(table.containing("10.1.0.7".parse().unwrap()).map(|(prefix, _)| prefix).collect());
        assert_eq!(containing, ["10.1.0.0/24", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]);
    }
}
