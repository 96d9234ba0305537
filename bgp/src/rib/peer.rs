//! A neighbor as the RIB knows it: its configuration, its present session, and what both sides said.

use super::adj_rib_in::AdjRibIn;
use super::adj_rib_out::AdjRibOut;
use super::per_family::PerFamily;
use super::{PeerConfig, PeerSession, ToPeer};
use crate::message::{RefreshKind, RouteRefresh};
use crate::{Family, NextHop};

/// Room that has to be there before a neighbor is asked for everything again, as a fraction of its limit: one that
/// hovers at the limit is not asked at each withdrawal.
const ROOM_FRACTION: u32 = 16;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    /// `None` while no session is Established.
    pub(crate) session: Option<PeerSession>,
    pub(crate) adj_rib_in: PerFamily<AdjRibIn>,
    pub(crate) adj_rib_out: AdjRibOut,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig, adj_rib_in: PerFamily<AdjRibIn>) -> Self {
        Self { config, session: None, adj_rib_in, adj_rib_out: AdjRibOut::default() }
    }

    /// The session, where the family flows over it.
    pub(crate) fn session_with(&self, family: Family) -> Option<&PeerSession> {
        self.session.as_ref().filter(|session| session.families.contains(family))
    }

    /// Whether a family lacks what was refused for the limit while there is room now.
    pub(crate) fn wants_refresh(&self) -> bool {
        Family::ALL.into_iter().any(|family| self.lacks_and_has_room(family))
    }

    /// A request for each such family. What the answer brings over the limit is lacking again.
    pub(crate) fn take_refresh_requests(&mut self) -> Vec<ToPeer> {
        let families = Family::ALL.into_iter().filter(|&family| self.lacks_and_has_room(family));
        let families: Vec<Family> = families.collect();
        families
            .into_iter()
            .map(|family| {
                self.adj_rib_in.of_mut(family).lacking = false;
                ToPeer::Refresh(RouteRefresh { family: family.into(), kind: RefreshKind::Request })
            })
            .collect()
    }

    fn lacks_and_has_room(&self, family: Family) -> bool {
        let (limit, adj_rib_in) = (self.config.max_prefixes, self.adj_rib_in.of(family));
        let room = limit.saturating_sub(adj_rib_in.kept);
        adj_rib_in.lacking && room > 0 && room >= limit / ROOM_FRACTION
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
