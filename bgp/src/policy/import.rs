//! The guard between Adj-RIB-In and Loc-RIB.
//!
//! In: a path as received. Out: a [`Judgement`]. RFC 4271 sections 5.1.3, 6.3 and 9.1.2, RFC 4456 section 8,
//! RFC 8326 section 4.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inbound, Preference, Role, Variants, is_martian};
use crate::message::{Attributes, Community};
use crate::rib::{Connected, Gateway, Originated, PeerSession, RibConfig};
use crate::{Asn, NextHop, PeerKind, Prefix};

/// ASes in a path that a host believes, at most. Real paths have fewer than 20; longer ones come from mistakes.
pub const MAX_PATH_LENGTH: usize = 64;

/// Why a path does not take part in the decision. In the order in which the guard looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Our AS is in the AS_PATH (RFC 4271 section 9.1.2), more often than is allowed.
    AsLoop,
    /// ORIGINATOR_ID is our own BGP Identifier (RFC 4456 section 8).
    OriginatorLoop,
    /// A prefix that originates here, or a part of it, unless it is an address that the network may lend
    /// ([`Lending`](crate::rib::Lending)).
    OwnPrefix,
    /// The address of a host on a link of this one, which has a route of its own to it: a pod's.
    LocalHost,
    /// A network that a link of this host is in, or a part of it.
    Connected,
    /// See [`is_martian`].
    Martian,
    /// More than [`MAX_PATH_LENGTH`] ASes.
    PathTooLong,
    /// The first AS of the path is not the external peer's (RFC 4271 section 6.3).
    FirstAs,
    /// The path carries no next hop.
    NextHopMissing,
    /// The next hop is no unicast address, or an IPv4 address for an IPv6 prefix.
    NextHopInvalid,
    /// The next hop is this speaker (RFC 4271 section 5.1.3).
    NextHopOurs,
    /// A link-local next hop which is not the address of the peer, on a link-local session; or, of an external peer, another
    /// address than its own that no link of this host is in, or that is in a network of its own (RFC 4271 section 5.1.3).
    NextHopThirdParty,
    /// A link-local next hop alone, on a session that is not bound to an interface.
    NextHopWithoutInterface,
    /// The neighbor's import policy rejects it.
    Policy,
    /// The peer has as many paths here as it may have. Paths refused for this are not remembered.
    Limit,
}

impl Refusal {
    /// All, in their order.
    pub const ALL: [Self; 15] = [
        Self::AsLoop,
        Self::OriginatorLoop,
        Self::OwnPrefix,
        Self::LocalHost,
        Self::Connected,
        Self::Martian,
        Self::PathTooLong,
        Self::FirstAs,
        Self::NextHopMissing,
        Self::NextHopInvalid,
        Self::NextHopOurs,
        Self::NextHopThirdParty,
        Self::NextHopWithoutInterface,
        Self::Policy,
        Self::Limit,
    ];
}

/// What the guard says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It takes part as it was received.
    AsReceived,
    /// It takes part with these attributes instead.
    Changed(Box<Attributes>),
    /// It does not take part.
    Refused(Refusal),
    /// It is our own route on its way back: the peer accepted it. It does not take part.
    Echo,
}

/// What the guard compares a path with.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The speaker.
    pub config: &'a RibConfig,
    /// What originates here.
    pub originated: &'a Originated,
    /// What its links are in, and who is on them.
    pub connected: &'a Connected,
    /// The session that the path came over.
    pub session: &'a PeerSession,
    /// How its paths are to be used.
    pub inbound: Inbound,
    /// How often our own AS may be in a path; see [`PeerConfig`](crate::rib::PeerConfig).
    pub allowed_own_as: u8,
}

/// What the guard says of attributes, whatever prefix they come with. It is worked out once for all prefixes of an
/// UPDATE, since the peer decides how long the lists in them are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Assessment {
    has_our_as: bool,
    loops: Option<Refusal>,
    implausible: Option<Refusal>,
    next_hop_is_ours: bool,
    bearer: Bearer,
    /// LOCAL_PREF with which the path takes part, unless policy gives it another.
    local_pref: Option<u32>,
    preference: Preference,
}

/// Whose address a next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bearer {
    /// The peer's; or it is link-local, which has rules of its own.
    Peer,
    /// Somebody's on a link of this host.
    OnLink,
    /// Somebody's whom no packet reaches directly. The kernel would refuse the whole route, with the next hops of others
    /// in it. Or a pod's: a neighbor has no business to send anything there.
    Elsewhere,
}

/// What the guard says of a prefix with attributes that have been assessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It takes part, with the attributes that [`Assessment::imported`] gives.
    Admitted,
    Refused(Refusal),
    Echo,
}

impl Guard<'_> {
    /// Judges one path.
    #[must_use]
    pub fn judge(&self, prefix: Prefix, attributes: &Attributes) -> Judgement {
        let assessment = self.assess(attributes);
        match self.admit(prefix, attributes.next_hop, assessment) {
            Admission::Admitted => match assessment.imported(attributes) {
                Some(changed) => Judgement::Changed(Box::new(changed)),
                None => Judgement::AsReceived,
            },
            Admission::Refused(refusal) => Judgement::Refused(refusal),
            Admission::Echo => Judgement::Echo,
        }
    }

    /// The part of the judgement that is the same for every prefix.
    pub(crate) fn assess(&self, attributes: &Attributes) -> Assessment {
        let own_as = attributes.as_path.count(self.config.local_as);
        let is_loop = own_as > usize::from(self.allowed_own_as);
        let (local_pref, preference) = self.local_pref(attributes);
        Assessment {
            has_our_as: own_as > 0,
            loops: if is_loop { Some(Refusal::AsLoop) } else { self.originator_loop(attributes) },
            implausible: self.implausible(attributes),
            next_hop_is_ours: self.originates(attributes.next_hop),
            bearer: self.bearer(attributes.next_hop),
            local_pref,
            preference,
        }
    }

    /// The part that is about one prefix.
    pub(crate) fn admit(&self, prefix: Prefix, next_hop: NextHop, assessment: Assessment) -> Admission {
        if assessment.has_our_as && self.originated.contains(prefix) {
            return Admission::Echo;
        }
        let refusal = assessment
            .loops
            .or_else(|| self.is_ours(prefix).then_some(Refusal::OwnPrefix))
            .or_else(|| self.unlearnable(prefix))
            .or(assessment.implausible)
            .or_else(|| usable_gateway(prefix, next_hop, self.session).err())
            .or_else(|| assessment.next_hop_is_ours.then_some(Refusal::NextHopOurs))
            .or_else(|| (assessment.bearer == Bearer::Elsewhere).then_some(Refusal::NextHopThirdParty));
        refusal.map_or(Admission::Admitted, Admission::Refused)
    }

    /// What others may not speak for. What is lent is looked for last: nearly nothing that is believed is in a network of
    /// our own.
    fn is_ours(&self, prefix: Prefix) -> bool {
        self.originated.covers(prefix) && !self.originated.lends(prefix)
    }

    fn originator_loop(&self, attributes: &Attributes) -> Option<Refusal> {
        let is_ours = self.session.kind == PeerKind::Internal
            && attributes.originator_id == Some(self.config.router_id);
        is_ours.then_some(Refusal::OriginatorLoop)
    }

    /// What a host does not believe. A ToR has to carry what its fabric uses, and shares networks with its neighbors.
    fn unlearnable(&self, prefix: Prefix) -> Option<Refusal> {
        match self.config.role {
            Role::Transit => None,
            Role::Host if self.connected.has_host(prefix) => Some(Refusal::LocalHost),
            Role::Host if self.connected.covers(prefix) => Some(Refusal::Connected),
            Role::Host => is_martian(prefix).then_some(Refusal::Martian),
        }
    }

    /// The same of attributes.
    fn implausible(&self, attributes: &Attributes) -> Option<Refusal> {
        match self.config.role {
            Role::Transit => return None,
            Role::Host => {}
        }
        if attributes.as_path.length() > MAX_PATH_LENGTH {
            Some(Refusal::PathTooLong)
        } else if self.session.kind == PeerKind::External
            && attributes.as_path.neighbor_as() != Some(self.session.asn)
        {
            Some(Refusal::FirstAs)
        } else {
            None
        }
    }

    /// A next hop that originates here as a host is this speaker by another name, a loopback address as a rule.
    fn originates(&self, next_hop: NextHop) -> bool {
        let is_ours = |address: IpAddr| self.originated.contains(Prefix::host(address));
        match next_hop {
            NextHop::Itself => false,
            NextHop::Ipv4(address) => is_ours(address.into()),
            NextHop::Ipv6(address) | NextHop::LinkLocal(address) => is_ours(address.into()),
            NextHop::Ipv6WithLinkLocal { global, link_local } => {
                is_ours(global.into()) || is_ours(link_local.into())
            }
        }
    }

    /// RFC 4271 section 5.1.3: an external peer that is one hop away gives its own address or one on a network that it
    /// shares with us. An internal one may pass on what it was given.
    fn bearer(&self, next_hop: NextHop) -> Bearer {
        let address = match (self.config.role, self.session.kind, next_hop) {
            (Role::Host, PeerKind::External, NextHop::Ipv4(address)) => IpAddr::V4(address),
            (Role::Host, PeerKind::External, NextHop::Ipv6(address)) => IpAddr::V6(address),
            // Without a link the other half cannot be used.
            (Role::Host, PeerKind::External, NextHop::Ipv6WithLinkLocal { global, .. })
                if self.session.interface.is_none() =>
            {
                IpAddr::V6(global)
            }
            (_, _, _) => return Bearer::Peer,
        };
        let host = Prefix::host(address);
        if address == self.session.address {
            Bearer::Peer
        } else if self.connected.covers(host) && !self.originated.covers(host) {
            Bearer::OnLink
        } else {
            Bearer::Elsewhere
        }
    }

    fn local_pref(&self, attributes: &Attributes) -> (Option<u32>, Preference) {
        match self.inbound {
            // RFC 8326 section 4: what the initiator does to the paths of the session that it will shut down.
            Inbound::Last => return (Some(0), Preference::Fixed),
            Inbound::Plain => {}
        }
        match self.session.kind {
            PeerKind::Internal => (attributes.local_pref, Preference::Free),
            // RFC 8326 section 4: 0 is the lowest there is, so any other path wins.
            PeerKind::External if attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN) => {
                (Some(0), Preference::Fixed)
            }
            // RFC 4271 section 5.1.5: not to be sent by an external peer, and ignored.
            PeerKind::External => (None, Preference::Free),
        }
    }
}

impl Assessment {
    /// Whether other networks of this host may make another judgement of it, whatever the prefix.
    pub(crate) fn depends_on_networks(&self) -> bool {
        match self.bearer {
            Bearer::Peer => false,
            Bearer::OnLink | Bearer::Elsewhere => true,
        }
    }

    /// What the policy of a neighbor is to make its variants of.
    pub(crate) fn variants(&self, attributes: &Arc<Attributes>, neighbor: Asn) -> Variants {
        let base = self.imported(attributes).map_or_else(|| Arc::clone(attributes), Arc::new);
        Variants::new(base, neighbor, self.preference)
    }

    /// The attributes with which an admitted path takes part; `None` where that is as it was received.
    pub(crate) fn imported(&self, attributes: &Attributes) -> Option<Attributes> {
        let local_pref = self.local_pref;
        (attributes.local_pref != local_pref).then(|| Attributes { local_pref, ..attributes.clone() })
    }
}

/// Where packets for a path of this session go.
///
/// # Errors
/// One of the `NextHop…` refusals.
pub fn usable_gateway(prefix: Prefix, next_hop: NextHop, session: &PeerSession) -> Result<Gateway, Refusal> {
    let global = |address: IpAddr| Gateway { address, interface: None };
    let (gateway, other_half) = match next_hop {
        NextHop::Itself => return Err(Refusal::NextHopMissing),
        NextHop::Ipv4(address) => match prefix {
            Prefix::V4(_) => (global(address.into()), None),
            Prefix::V6(_) => return Err(Refusal::NextHopInvalid),
        },
        NextHop::Ipv6(address) => (global(address.into()), None),
        NextHop::LinkLocal(address) => (on_link(address, session)?, None),
        NextHop::Ipv6WithLinkLocal { global: address, link_local } => {
            // A session between global addresses may not say which link the other half is on.
            let gateway = on_link(link_local, session).or_else(|refusal| match refusal {
                Refusal::NextHopWithoutInterface => Ok(global(address.into())),
                other => Err(other),
            })?;
            (gateway, Some(IpAddr::V6(address)))
        }
    };
    let is_ours = |address| session.local_addresses.contains(&address);
    if is_ours(gateway.address) || other_half.is_some_and(is_ours) {
        Err(Refusal::NextHopOurs)
    } else if is_unicast(gateway) {
        Ok(gateway)
    } else {
        Err(Refusal::NextHopInvalid)
    }
}

fn on_link(address: Ipv6Addr, session: &PeerSession) -> Result<Gateway, Refusal> {
    if session.local_addresses.contains(&address.into()) {
        return Err(Refusal::NextHopOurs);
    }
    let peer_is_link_local = matches!(session.address, IpAddr::V6(peer) if peer.is_unicast_link_local());
    if peer_is_link_local && session.address != address {
        return Err(Refusal::NextHopThirdParty);
    }
    match session.interface {
        Some(_) => Ok(Gateway { address: address.into(), interface: session.interface }),
        None => Err(Refusal::NextHopWithoutInterface),
    }
}

/// Link-local addresses count only where the link is known.
fn is_unicast(gateway: Gateway) -> bool {
    match gateway.address {
        IpAddr::V4(address) => {
            let reserved = address.octets().first().is_none_or(|&first| first == 0 || first >= 240);
            !(reserved || address.is_loopback() || address.is_multicast())
        }
        IpAddr::V6(address) => {
            let scope_known = gateway.interface.is_some() || !address.is_unicast_link_local();
            let mapped = address.to_ipv4_mapped().is_some();
            scope_known
                && !(mapped || address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    }
}
