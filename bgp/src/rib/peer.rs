//! A neighbor as the RIB knows it: its configuration, its present session, and what both sides said.

use super::adj_rib_in::AdjRibIn;
use super::adj_rib_out::AdjRibOut;
use super::per_family::PerFamily;
use super::{PeerConfig, PeerSession};
use crate::policy::{Hits, Maintenance, WithheldCounts};
use crate::{Family, NextHop};

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) maintenance: Maintenance,
    /// `None` while no session is Established.
    pub(crate) session: Option<PeerSession>,
    /// The session that was lost, with the families whose paths are kept until the next one; never there beside
    /// `session`.
    pub(crate) lost: Option<PeerSession>,
    pub(crate) adj_rib_in: PerFamily<AdjRibIn>,
    pub(crate) adj_rib_out: AdjRibOut,
    /// Of its import policy.
    pub(crate) import_hits: Hits,
    /// Of its export policy.
    pub(crate) export_hits: Hits,
    /// Best routes that it was not told.
    pub(crate) withheld: WithheldCounts,
    /// Whether it ever gave a next hop whose judgement depends on what originates here and on what our links are in.
    pub(crate) depends_on_networks: bool,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig, adj_rib_in: PerFamily<AdjRibIn>) -> Self {
        let import_hits = Hits::none_yet(config.import.as_deref());
        let export_hits = Hits::none_yet(config.export.as_deref());
        Self {
            config,
            maintenance: Maintenance::default(),
            session: None,
            lost: None,
            adj_rib_in,
            adj_rib_out: AdjRibOut::default(),
            import_hits,
            export_hits,
            withheld: WithheldCounts::default(),
            depends_on_networks: false,
        }
    }

    /// The session, where the family flows over it.
    pub(crate) fn session_with(&self, family: Family) -> Option<&PeerSession> {
        self.session.as_ref().filter(|session| session.families.contains(family))
    }

    /// The session that its paths of a family belong to, be it that the peer restarts and they are stale.
    pub(crate) fn source_with(&self, family: Family) -> Option<&PeerSession> {
        self.session.as_ref().or(self.lost.as_ref()).filter(|session| session.families.contains(family))
    }
}

impl PeerSession {
    /// Whether the peer is the one that it was in another session, at the same place.
    pub(crate) fn is_with_the_same_speaker(&self, other: &Self) -> bool {
        let speaker = |session: &Self| {
            (session.kind, session.asn, session.router_id, session.address, session.interface)
        };
        speaker(self) == speaker(other)
    }

    /// The next hop that the peer is told for routes of a family.
    pub(crate) fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.next_hop_ipv4,
            Family::Ipv6Unicast => self.next_hop_ipv6,
        }
    }
}
