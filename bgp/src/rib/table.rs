//! All paths of all neighbors, by prefix: the Adj-RIBs-In and the Loc-RIB in one ordered map.
//!
//! The order makes answers deterministic and pages cheap. What waits to be decided, or to be told to the FIB, is
//! marked at the destination itself and costs nothing else. Nothing outside this file knows the layout: [`Leaves`], one for each
//! family, so that an IPv4 prefix costs five octets.

use std::net::IpAddr;

use super::interner::Handle;
use super::leaves::{Entry, EntryMut, Leaves, Mark, Octets};
use super::{Generation, Originated};
use crate::policy::Refusal;
use crate::{Family, Ipv4Prefix, Ipv6Prefix, PeerId, Prefix};

/// To be decided.
const DIRTY: Mark = Mark::First;
/// The FIB was told other next hops than are wanted: [`Timing::Settled`].
const FIB: Mark = Mark::Second;
/// The same, but a neighbor may change it soon.
const FIB_EARLY: Mark = Mark::Third;

/// One path in an Adj-RIB-In. Millions of them have to fit, so it is kept to 16 octets.
///
/// A path holds its handles: whoever stores one retains them, whoever takes one out releases them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) peer: PeerId,
    pub(crate) received: Handle,
    /// There where it is accepted.
    imported: Option<Handle>,
    /// Which session of the peer, and which refresh in it, said so last; see [`super::adj_rib_in`].
    pub(crate) generation: Generation,
    /// Where it is not accepted: `None` for an echo.
    refusal: Option<Refusal>,
}

/// What import policy made of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Eligible, with these attributes: the received ones where policy changed nothing.
    Accepted(Handle),
    Refused(Refusal),
    /// Our own route, come back.
    Echo,
}

impl Verdict {
    pub(crate) fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

impl Path {
    pub(crate) fn new(peer: PeerId, generation: Generation, received: Handle, verdict: Verdict) -> Self {
        let mut path = Self { peer, received, imported: None, generation, refusal: None };
        path.judge(verdict);
        path
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (self.imported, self.refusal) {
            (Some(imported), _) => Verdict::Accepted(imported),
            (None, Some(refusal)) => Verdict::Refused(refusal),
            (None, None) => Verdict::Echo,
        }
    }

    pub(crate) fn judge(&mut self, verdict: Verdict) {
        (self.imported, self.refusal) = match verdict {
            Verdict::Accepted(imported) => (Some(imported), None),
            Verdict::Refused(refusal) => (None, Some(refusal)),
            Verdict::Echo => (None, None),
        };
    }

    /// The handles that it holds.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> + use<> {
        std::iter::once(self.received).chain(self.imported)
    }
}

/// The sets of next hops of a destination; it holds their handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NextHopSets {
    /// The one that the last decision chose.
    pub(crate) wanted: Option<Handle>,
    /// The one that the FIB was last told.
    pub(crate) given: Option<Handle>,
}

/// Everything about one prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// At most one for each peer.
    pub(crate) paths: &'a [Path],
    pub(crate) next_hops: NextHopSets,
}

impl<'a> From<Entry<'a, NextHopSets, Path>> for Destination<'a> {
    fn from(entry: Entry<'a, NextHopSets, Path>) -> Self {
        Self { paths: entry.items, next_hops: *entry.state }
    }
}

/// Whether everybody has spoken of a route that the FIB does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    Settled,
    /// A neighbor has not.
    Early,
}

impl Timing {
    fn mark(self) -> Mark {
        match self {
            Self::Settled => FIB,
            Self::Early => FIB_EARLY,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    ipv4: Leaves<Ipv4Prefix, NextHopSets, Path>,
    ipv6: Leaves<Ipv6Prefix, NextHopSets, Path>,
    /// Where the last one to decide was taken from: marks are taken off in circles, by the order of prefixes, so that
    /// one which is marked again and again cannot keep those behind it waiting.
    last_dirty: Option<Prefix>,
    last_fib: Option<Prefix>,
}

impl Table {
    pub(crate) fn get(&self, prefix: Prefix) -> Option<Destination<'_>> {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.get(prefix),
            Prefix::V6(prefix) => self.ipv6.get(prefix),
        }
        .map(Destination::from)
    }

    /// What a peer said of a prefix.
    pub(crate) fn path_mut(&mut self, prefix: Prefix, peer: PeerId) -> Option<&mut Path> {
        self.entry_of(prefix)?.items.iter_mut().find(|path| path.peer == peer)
    }

    /// Adds the path of a peer that has none there. One that does not fit is given back.
    pub(crate) fn add_path(&mut self, prefix: Prefix, path: Path) -> Result<(), Path> {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.push(prefix, path),
            Prefix::V6(prefix) => self.ipv6.push(prefix, path),
        }
    }

    /// Takes a path out, but not its destination.
    pub(crate) fn take_path(&mut self, prefix: Prefix, peer: PeerId) -> Option<Path> {
        let position = self.get(prefix)?.paths.iter().position(|path| path.peer == peer)?;
        match prefix {
            Prefix::V4(prefix) => self.ipv4.take_item(prefix, position),
            Prefix::V6(prefix) => self.ipv6.take_item(prefix, position),
        }
    }

    /// The prefix is to be decided. Its destination is made where it is not there.
    pub(crate) fn mark_dirty(&mut self, prefix: Prefix) {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.ensure(prefix),
            Prefix::V6(prefix) => self.ipv6.ensure(prefix),
        }
        self.mark(prefix, DIRTY);
    }

    /// The next one to decide.
    pub(crate) fn take_dirty(&mut self) -> Option<Prefix> {
        let prefix = self.next_marked(DIRTY, self.last_dirty)?;
        self.last_dirty = Some(prefix);
        self.unmark(prefix, DIRTY);
        Some(prefix)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.marked(DIRTY) > 0
    }

    /// What a decision chose; gives back the handle that is held no more. What replaces something in the FIB, or
    /// takes it out, is never early.
    pub(crate) fn want(&mut self, prefix: Prefix, wanted: Option<Handle>, timing: Timing) -> Option<Handle> {
        let Some(entry) = self.entry_of(prefix) else {
            return wanted;
        };
        let before = *entry.state;
        entry.state.wanted = wanted;
        let timing = if before.given.is_some() { Timing::Settled } else { timing };
        for other in [Timing::Settled, Timing::Early] {
            if other == timing && before.given != wanted {
                self.mark(prefix, other.mark());
            } else {
                self.unmark(prefix, other.mark());
            }
        }
        before.wanted
    }

    /// The next change for the FIB: what it was told, and what is wanted. From now on it was told.
    pub(crate) fn take_fib(&mut self, timing: Timing) -> Option<(Prefix, NextHopSets)> {
        let prefix = self.next_marked(timing.mark(), self.last_fib)?;
        self.last_fib = Some(prefix);
        self.unmark(prefix, timing.mark());
        let entry = self.entry_of(prefix)?;
        let before = *entry.state;
        entry.state.given = before.wanted;
        Some((prefix, before))
    }

    /// How much the FIB is to be told.
    pub(crate) fn fib_changes(&self, timing: Timing) -> usize {
        self.marked(timing.mark())
    }

    /// Forgets a destination about which there is nothing to know. Originated ones stay, so that a walk over
    /// the table meets them.
    pub(crate) fn prune(&mut self, prefix: Prefix, originated: &Originated) {
        let is_unused = self.get(prefix).is_some_and(|destination| {
            destination.paths.is_empty() && destination.next_hops == NextHopSets::default()
        });
        if is_unused && !originated.contains(prefix) {
            match prefix {
                Prefix::V4(prefix) => self.ipv4.remove(prefix),
                Prefix::V6(prefix) => self.ipv6.remove(prefix),
            };
        }
    }

    /// The destinations behind `after`, in order.
    pub(crate) fn behind(&self, after: Option<Prefix>) -> impl Iterator<Item = (Prefix, Destination<'_>)> {
        let (ipv4, ipv6) = match after {
            None => (Some(None), None),
            Some(Prefix::V4(after)) => (Some(Some(after)), None),
            Some(Prefix::V6(after)) => (None, Some(after)),
        };
        let ipv4 = ipv4.into_iter().flat_map(|after| self.ipv4.behind(after));
        let ipv6 = self.ipv6.behind(ipv6);
        ipv4.map(|(prefix, entry)| (Prefix::V4(prefix), entry.into()))
            .chain(ipv6.map(|(prefix, entry)| (Prefix::V6(prefix), entry.into())))
    }

    /// The prefixes inside a network, itself included. They follow one another in the order of [`Prefix`].
    pub(crate) fn inside(&self, network: Prefix) -> impl Iterator<Item = Prefix> {
        let (ipv4, ipv6) = match network {
            Prefix::V4(network) => (Some(self.ipv4.starting_at(network)), None),
            Prefix::V6(network) => (None, Some(self.ipv6.starting_at(network))),
        };
        let ipv4 = ipv4.into_iter().flatten().map(|(prefix, _)| Prefix::V4(prefix));
        let ipv6 = ipv6.into_iter().flatten().map(|(prefix, _)| Prefix::V6(prefix));
        ipv4.chain(ipv6).take_while(move |&prefix| network.covers(prefix))
    }

    /// The destinations that contain an address, longest prefix first.
    pub(crate) fn containing(&self, address: IpAddr) -> impl Iterator<Item = (Prefix, Destination<'_>)> {
        let host = Prefix::host(address);
        let networks =
            (0..=host.length()).rev().filter_map(move |length| Prefix::masked(address, length).ok());
        networks.filter_map(|network| Some((network, self.get(network)?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// What some leaves of a family take, from number `from`.
    pub(crate) fn octets(&self, family: Family, from: usize, limit: usize) -> Octets {
        match family {
            Family::Ipv4Unicast => self.ipv4.octets(from, limit),
            Family::Ipv6Unicast => self.ipv6.octets(from, limit),
        }
    }

    /// What the lists of leaves take.
    pub(crate) fn list_octets(&self) -> usize {
        self.ipv4.list_octets() + self.ipv6.list_octets()
    }

    fn mark(&mut self, prefix: Prefix, mark: Mark) {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.mark(prefix, mark),
            Prefix::V6(prefix) => self.ipv6.mark(prefix, mark),
        }
    }

    fn unmark(&mut self, prefix: Prefix, mark: Mark) {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.unmark(prefix, mark),
            Prefix::V6(prefix) => self.ipv6.unmark(prefix, mark),
        }
    }

    fn marked(&self, mark: Mark) -> usize {
        self.ipv4.marked(mark) + self.ipv6.marked(mark)
    }

    /// The one behind `after` in the circle of all prefixes.
    fn next_marked(&self, mark: Mark, after: Option<Prefix>) -> Option<Prefix> {
        let ipv4 = |after| self.ipv4.next_marked(mark, after).map(Prefix::V4);
        let ipv6 = |after| self.ipv6.next_marked(mark, after).map(Prefix::V6);
        match after {
            None => ipv4(None).or_else(|| ipv6(None)),
            Some(Prefix::V4(after)) => ipv4(Some(after)).or_else(|| ipv6(None)).or_else(|| ipv4(None)),
            Some(Prefix::V6(after)) => ipv6(Some(after)).or_else(|| ipv4(None)).or_else(|| ipv6(None)),
        }
    }

    fn entry_of(&mut self, prefix: Prefix) -> Option<EntryMut<'_, NextHopSets, Path>> {
        match prefix {
            Prefix::V4(prefix) => self.ipv4.get_mut(prefix),
            Prefix::V6(prefix) => self.ipv6.get_mut(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_small() {
        assert_eq!((size_of::<Path>(), size_of::<NextHopSets>()), (16, 8));
        assert_eq!((size_of::<Ipv4Prefix>(), size_of::<Ipv6Prefix>()), (5, 17));
    }

    #[test]
    fn a_busy_prefix_does_not_starve_the_others() {
        let mut table = Table::default();
        let all = ["10.0.0.0/8", "10.0.0.0/16", "::/0"];
        all.into_iter().for_each(|text| table.mark_dirty(text.parse().unwrap()));
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.extend(table.take_dirty().map(|prefix| prefix.to_string()));
            table.mark_dirty("10.0.0.0/8".parse().unwrap());
        }
        assert_eq!(taken, ["10.0.0.0/8", "10.0.0.0/16", "::/0", "10.0.0.0/8"]);
        assert!(table.take_dirty().is_some() && !table.is_dirty());
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
            table.mark_dirty(text.parse().unwrap());
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
