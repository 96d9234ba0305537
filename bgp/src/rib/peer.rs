//! A neighbor as the RIB knows it: its configuration, its present session, and what both sides said.

use super::adj_rib_in::AdjRibIn;
use super::adj_rib_out::AdjRibOut;
use super::per_family::PerFamily;
use super::{PeerConfig, PeerSession};
use crate::policy::Maintenance;
use crate::{Family, NextHop};

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) maintenance: Maintenance,
    /// `None` while no session is Established.
    pub(crate) session: Option<PeerSession>,
    pub(crate) adj_rib_in: PerFamily<AdjRibIn>,
    pub(crate) adj_rib_out: AdjRibOut,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig, adj_rib_in: PerFamily<AdjRibIn>) -> Self {
        Self {
            config,
            maintenance: Maintenance::default(),
            session: None,
            adj_rib_in,
            adj_rib_out: AdjRibOut::default(),
        }
    }

    /// The session, where the family flows over it.
    pub(crate) fn session_with(&self, family: Family) -> Option<&PeerSession> {
        self.session.as_ref().filter(|session| session.families.contains(family))
    }
}

impl PeerSession {
    /// The next hop that the peer is told for routes of a family.
    pub(crate) fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.next_hop_ipv4,
            Family::Ipv6Unicast => self.next_hop_ipv6,
        }
    }
}
