//! The last default route of a family, which the node's own configuration does not take: the operator who loses it may
//! have no other way to the host than the one that it was.
//!
//! In: a neighbor that is no longer configured, and a path that another policy refuses, each where it gave a default
//! route; links that are lost. Out: next hops for a default route without a path, for the FIB alone; it is told to no
//! neighbor. A way is kept until some neighbor gives a default route again, or until the neighbor that gave it takes it
//! back: by a withdrawal, with its session, or by a next one with the same speaker that ends its announcement (RFC 4724
//! section 2) without a default route. The way of a neighbor that is not configured any more is kept until its link is
//! lost, too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::per_family::PerFamily;
use super::table::{Path, Verdict};
use super::{Gateway, Gateways, PeerConfig, PeerSession, Rib};
use crate::policy::Admission;
use crate::{Families, Family, InterfaceIndex, PeerId, Prefix};

/// A next hop without a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    gateway: Gateway,
    speaker: Speaker,
    giver: Giver,
}

/// Who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    /// It still does, and policy refuses it.
    Refused(PeerId),
    Deconfigured,
}

/// The other end of a session, whichever session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Speaker {
    address: IpAddr,
    interface: Option<InterfaceIndex>,
}

impl From<&PeerSession> for Speaker {
    fn from(session: &PeerSession) -> Self {
        Self { address: session.address, interface: session.interface }
    }
}

/// A link that packets do not pass any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostLink {
    /// Which one.
    pub interface: InterfaceIndex,
    /// The networks that were on it.
    pub networks: Vec<Prefix>,
}

impl LostLink {
    fn carried(&self, gateway: &Gateway) -> bool {
        match gateway.interface {
            Some(interface) => interface == self.interface,
            None => self.networks.iter().any(|network| network.contains(gateway.address)),
        }
    }
}

impl Rib {
    /// As [`Self::remove_peer`], for a neighbor that the configuration does not have any more: what it gave of the last
    /// default route is kept.
    pub fn deconfigure_peer(&mut self, peer: PeerId) {
        let mut given: PerFamily<Vec<Way>> = PerFamily::default();
        for family in Family::ALL {
            let refused =
                self.kept_ways.of(family).iter().filter(|way| way.giver == Giver::Refused(peer)).copied();
            let given = given.of_mut(family);
            given.extend(self.way_by(peer, family));
            given.extend(refused);
        }
        self.remove_peer(peer);
        for family in Family::ALL {
            given
                .of(family)
                .iter()
                .for_each(|way| self.keep(family, Way { giver: Giver::Deconfigured, ..*way }));
        }
    }

    /// Nothing that was kept leads over these links any more.
    pub fn links_lost(&mut self, links: &[LostLink]) {
        self.forget_ways(Families::ALL, |way| links.iter().any(|link| link.carried(&way.gateway)));
    }

    /// The default routes that no neighbor gives as policy would have it, with the next hops that they are kept over.
    #[must_use]
    pub fn kept_defaults(&self) -> BTreeMap<Prefix, Gateways> {
        let kept = Family::ALL.into_iter().map(|family| (Prefix::default_route(family), self.ways(family)));
        kept.filter(|(prefix, ways)| !ways.is_empty() && self.contenders(*prefix).is_empty()).collect()
    }

    /// The default routes that would lose their last path, were these neighbors configured so, or not at all (`None`).
    /// Those that have lost it already and are kept are among them.
    #[must_use]
    pub fn defaults_lost_by(&self, changes: &BTreeMap<PeerId, Option<PeerConfig>>) -> Vec<Prefix> {
        let is_lost = |family: &Family| {
            let prefix = Prefix::default_route(*family);
            let has_some = !self.contenders(prefix).is_empty() || !self.ways(*family).is_empty();
            has_some && !self.originated.contains(prefix) && !self.would_have(prefix, changes)
        };
        Family::ALL.into_iter().filter(is_lost).map(Prefix::default_route).collect()
    }

    fn would_have(&self, prefix: Prefix, changes: &BTreeMap<PeerId, Option<PeerConfig>>) -> bool {
        let paths = self.table.get(prefix).map(|found| found.paths).unwrap_or_default();
        let mut living = paths.iter().filter(|path| self.is_live(path, prefix.family()));
        living.any(|path| match changes.get(&path.peer) {
            None => path.verdict().is_accepted(),
            Some(None) => false,
            Some(Some(config)) => self.would_accept(prefix, path, config),
        })
    }

    fn would_accept(&self, prefix: Prefix, path: &Path, config: &PeerConfig) -> bool {
        let accepted = || {
            let known = self.peers.get(&path.peer)?;
            let received = self.attributes.get(path.received)?;
            let guard = self.guard(known, prefix.family(), config)?;
            let assessment = guard.assess(received);
            match guard.admit(prefix, received.next_hop, assessment) {
                Admission::Admitted => {}
                Admission::Refused(_) | Admission::Echo => return None,
            }
            match &config.import {
                None => Some(()),
                Some(policy) => {
                    let mut variants = assessment.variants(received, guard.session.asn);
                    variants.judge(policy, prefix, |_| ()).map(drop)
                }
            }
        };
        accepted().is_some()
    }

    /// What a neighbor gives of the default route, where policy lets it.
    pub(super) fn way_by(&self, peer: PeerId, family: Family) -> Option<Way> {
        let prefix = Prefix::default_route(family);
        let path = self.table.get(prefix)?.paths.iter().find(|path| path.peer == peer)?;
        let gateway = self.gateway(prefix, &self.contender(path, family)?)?;
        let speaker = self.peers.get(&peer)?.source_with(family)?.into();
        Some(Way { gateway, speaker, giver: Giver::Refused(peer) })
    }

    /// A path for the default route was judged anew, since the neighbor is configured in another way.
    pub(super) fn judged(&mut self, peer: PeerId, family: Family, before: Option<Way>) {
        if let Some(way) = before
            && self.is_refused(peer, family)
        {
            self.keep(family, way);
        }
    }

    fn keep(&mut self, family: Family, way: Way) {
        let ways = self.kept_ways.of_mut(family);
        ways.retain(|other| other.gateway != way.gateway);
        ways.push(way);
        self.table.mark_dirty(Prefix::default_route(family));
    }

    /// What is kept of a default route for which nobody gives a path. Where somebody does, nothing has to be kept any
    /// more.
    pub(super) fn kept_gateways(&mut self, family: Family, given: Given) -> Gateways {
        let mut ways = std::mem::take(self.kept_ways.of_mut(family));
        match given {
            Given::Some => ways.clear(),
            Given::None => ways.retain(|way| self.is_still_given(way, family)),
        }
        *self.kept_ways.of_mut(family) = ways;
        self.ways(family)
    }

    fn ways(&self, family: Family) -> Gateways {
        let mut gateways: Gateways = self.kept_ways.of(family).iter().map(|way| way.gateway).collect();
        gateways.sort_unstable();
        gateways
    }

    fn is_still_given(&self, way: &Way, family: Family) -> bool {
        match way.giver {
            Giver::Refused(peer) => self.is_refused(peer, family),
            // Whoever is there in its place has said all that it has to say, and no default route.
            Giver::Deconfigured => !self.peers.iter().any(|(&peer, known)| {
                let is_same =
                    known.session.as_ref().is_some_and(|session| Speaker::from(session) == way.speaker);
                is_same && known.adj_rib_in.of(family).end_of_rib && !self.is_refused(peer, family)
            }),
        }
    }

    /// Whether a neighbor gives a default route and policy refuses it.
    fn is_refused(&self, peer: PeerId, family: Family) -> bool {
        let paths =
            self.table.get(Prefix::default_route(family)).map(|found| found.paths).unwrap_or_default();
        let mut refused = paths.iter().filter(|path| match path.verdict() {
            Verdict::Refused(_) => path.peer == peer,
            Verdict::Accepted(_) | Verdict::Echo => false,
        });
        refused.any(|path| self.is_live(path, family))
    }

    /// Somebody has said all that it has to say.
    pub(super) fn announcement_ended(&mut self, family: Family) {
        if !self.kept_ways.of(family).is_empty() {
            self.table.mark_dirty(Prefix::default_route(family));
        }
    }

    /// A session was lost, with what was said of these families: its speaker is not to be relied on any more.
    pub(super) fn speaker_lost(&mut self, session: &PeerSession, families: Families) {
        let speaker = Speaker::from(session);
        self.forget_ways(families, |way| way.speaker == speaker);
    }

    fn forget_ways(&mut self, families: Families, mut which: impl FnMut(&Way) -> bool) {
        for family in families.iter() {
            let ways = self.kept_ways.of_mut(family);
            let before = ways.len();
            ways.retain(|way| !which(way));
            if ways.len() < before {
                self.table.mark_dirty(Prefix::default_route(family));
            }
        }
    }
}

/// Whether a neighbor, or the node itself, gives a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    None,
    Some,
}
