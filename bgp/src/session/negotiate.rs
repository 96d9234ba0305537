//! What we say in our OPEN, and what both OPENs taken together mean.
//!
//! In: the configuration and two OPENs. Out: an OPEN to send, or [`Negotiated`], or the reason to refuse.
//! RFC 4271 section 4.2 and 6.2, RFC 4724 section 3, RFC 4760 section 8, RFC 5492, RFC 6793, RFC 7313, RFC 8654,
//! RFC 8950.

use std::time::Duration;

use super::{RemoteAs, SessionConfig, SessionError};
use crate::message::capability::ForwardingState;
use crate::message::update::{AsWidth, UpdateCodec};
use crate::message::{Capability, GracefulRestart, MAX_EXTENDED_LENGTH, MAX_LENGTH, Open};
use crate::{AfiSafi, Families, Family, HoldTime, PeerKind};

/// RFC 4271 section 4.4: no more than one KEEPALIVE per second.
pub(super) const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(1);
/// The address family number of an IPv6 next hop (RFC 8950 section 4).
const NEXT_HOP_IPV6: u16 = 2;

/// Both OPENs taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// What shapes UPDATEs.
    pub codec: UpdateCodec,
    /// The peer's OPEN, for what it says of itself.
    pub open: Open,
    /// Capabilities of our own OPEN.
    pub offered: Vec<Capability>,
    /// Internal or external.
    pub peer_kind: PeerKind,
    /// The smaller of both.
    pub hold_time: HoldTime,
    /// How often we send KEEPALIVE; `None` with a hold time of zero.
    pub keepalive: Option<Duration>,
    /// The peer answers ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Both bracket their answers (RFC 7313).
    pub enhanced_route_refresh: bool,
}

impl Negotiated {
    /// The peer's graceful restart capability (RFC 4724), also when it lists no family (helper only).
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.open.capabilities.iter().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// Families that the peer may go on forwarding for while it restarts, whatever it says of the last time.
    pub(super) fn restarting_families(&self) -> Families {
        let listed = self.graceful_restart().into_iter().flat_map(|restart| &restart.families);
        listed.filter_map(|(pair, _)| Family::try_from(*pair).ok()).collect()
    }

    /// Families whose forwarding state the peer says to have preserved over its restart (F).
    #[must_use]
    pub fn preserved_families(&self) -> Families {
        let listed = self.graceful_restart().into_iter().flat_map(|restart| &restart.families);
        let preserved = listed.filter(|(_, state)| *state == ForwardingState::Preserved);
        preserved.filter_map(|(pair, _)| Family::try_from(*pair).ok()).collect()
    }

    /// The longest message that the peer may send. RFC 8654 section 4: our announcement alone allows it, whether or
    /// not the peer made the same one.
    pub(super) fn longest_received(&self) -> usize {
        if self.offered.contains(&Capability::ExtendedMessage) { MAX_EXTENDED_LENGTH } else { MAX_LENGTH }
    }
}

/// How much an OPEN says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OpenForm {
    /// With capabilities.
    #[default]
    Full,
    /// Without optional parameters, for a peer that refused them (RFC 5492 section 3).
    Plain,
}

/// What the R and F bits of RFC 4724 section 3 tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestartState {
    /// This process has not had a session with the peer yet. Where it found no routes of a predecessor, whatever the
    /// peer still forwards to us by its stale routes is lost, so it must not keep them (RFC 4724 section 4.2).
    Started {
        /// Families in which it did.
        inherited: Families,
    },
    /// There was a session: the kernel's routes have been there ever since.
    Running,
    /// The peer was out of reach. Its kernel may have lost its routes to us with the link, and FRR 8.4 does not write
    /// them again for paths that it has kept as stale: it must not keep them.
    Severed,
}

impl RestartState {
    fn forwarding(self, family: Family) -> ForwardingState {
        match self {
            Self::Started { inherited } if !inherited.contains(family) => ForwardingState::Lost,
            Self::Severed => ForwardingState::Lost,
            Self::Started { .. } | Self::Running => ForwardingState::Preserved,
        }
    }

    /// The R bit: set in the OPENs that follow a restart, and in no others (RFC 4724 section 4.1).
    fn is_restarting(self) -> bool {
        match self {
            Self::Started { inherited } => !inherited.is_empty(),
            Self::Running | Self::Severed => false,
        }
    }
}

/// The OPEN to send.
pub(super) fn our_open(config: &SessionConfig, form: OpenForm, restart: RestartState) -> Open {
    let capabilities = match form {
        OpenForm::Full => capabilities(config, restart),
        OpenForm::Plain => Vec::new(),
    };
    Open { asn: config.local_as, hold_time: config.hold_time, router_id: config.router_id, capabilities }
}

fn capabilities(config: &SessionConfig, restart: RestartState) -> Vec<Capability> {
    let mut capabilities: Vec<_> = config.families.iter().map(Capability::multiprotocol).collect();
    let extended_next_hop: Vec<_> =
        config.extended_next_hop.iter().map(|family| (AfiSafi::from(family), NEXT_HOP_IPV6)).collect();
    if !extended_next_hop.is_empty() {
        capabilities.push(Capability::ExtendedNextHop(extended_next_hop));
    }
    capabilities.extend([
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAs(config.local_as),
        Capability::ExtendedMessage,
    ]);
    if let Some(restart_time) = config.graceful_restart {
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: restart.is_restarting(),
            // RFC 8538: with the N bit a host that hangs would be a black hole for the restart time.
            notification: false,
            restart_time,
            families: config
                .families
                .iter()
                .map(|family| (family.into(), restart.forwarding(family)))
                .collect(),
        }));
    }
    if !config.hostname.is_empty() {
        capabilities.push(Capability::Fqdn { hostname: config.hostname.clone(), domain: String::new() });
    }
    if !config.software_version.is_empty() {
        capabilities.push(Capability::SoftwareVersion(config.software_version.clone()));
    }
    capabilities
}

/// Takes both OPENs together, or says what is wrong with the peer's.
pub(super) fn negotiate(
    config: &SessionConfig,
    ours: &Open,
    theirs: Open,
) -> Result<Negotiated, SessionError> {
    let peer_kind = peer_kind(config, &theirs)?;
    // RFC 6286 section 2.2: only within an AS does the identifier have to be unique.
    if peer_kind == PeerKind::Internal && theirs.router_id == config.router_id {
        return Err(SessionError::RouterIdInUse(theirs.router_id));
    }
    let families = families(ours, config.families).intersection(families(&theirs, Families::ALL));
    if families.is_empty() {
        return Err(SessionError::NoCommonFamily(config.families));
    }
    let both = |capability: &Capability| {
        ours.capabilities.contains(capability) && theirs.capabilities.contains(capability)
    };
    let four_octets = [ours, &theirs].into_iter().all(sends_four_octets);
    let hold_time = ours.hold_time.min(theirs.hold_time);
    Ok(Negotiated {
        codec: UpdateCodec {
            families,
            extended_next_hop: config
                .extended_next_hop
                .intersection(families)
                .intersection(extended_next_hop(&theirs)),
            as_width: if four_octets { AsWidth::Four } else { AsWidth::Two },
            max_length: if both(&Capability::ExtendedMessage) { MAX_EXTENDED_LENGTH } else { MAX_LENGTH },
            peer_kind,
            link_local_form: config.link_local_form,
        },
        peer_kind,
        hold_time,
        keepalive: keepalive(config.keepalive, hold_time),
        route_refresh: theirs.capabilities.contains(&Capability::RouteRefresh),
        enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
        open: theirs,
        offered: ours.capabilities.clone(),
    })
}

/// RFC 4271 section 6.2, Bad Peer AS. AS 0 is refused where the OPEN is read (RFC 7607).
fn peer_kind(config: &SessionConfig, theirs: &Open) -> Result<PeerKind, SessionError> {
    let internal = theirs.asn == config.local_as;
    let fits = match config.remote_as {
        RemoteAs::External => !internal,
        RemoteAs::Internal => internal,
        RemoteAs::Number(asn) => theirs.asn == asn,
    };
    if !fits {
        return Err(SessionError::PeerAs { actual: theirs.asn, expected: config.remote_as });
    }
    Ok(if internal { PeerKind::Internal } else { PeerKind::External })
}

/// The families that an OPEN offers, out of `known`. Without any multiprotocol capability it is IPv4 unicast,
/// which is what BGP was before RFC 4760.
fn families(open: &Open, known: Families) -> Families {
    let mut multiprotocol = open
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Multiprotocol(pair) => Some(*pair),
            _ => None,
        })
        .peekable();
    let offered: Families = if multiprotocol.peek().is_some() {
        multiprotocol.filter_map(|pair| Family::try_from(pair).ok()).collect()
    } else {
        Families::from_iter([Family::Ipv4Unicast])
    };
    offered.intersection(known)
}

/// The families that the sender takes IPv6 next hops for (RFC 8950 section 4).
fn extended_next_hop(open: &Open) -> Families {
    open.capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::ExtendedNextHop(entries) => Some(entries),
            _ => None,
        })
        .flatten()
        .filter(|(_, next_hop)| *next_hop == NEXT_HOP_IPV6)
        .filter_map(|(pair, _)| Family::try_from(*pair).ok())
        .collect()
}

fn sends_four_octets(open: &Open) -> bool {
    open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)))
}

/// RFC 4271 section 4.4: a third of the hold time at most, and not below a second.
fn keepalive(configured: Duration, hold_time: HoldTime) -> Option<Duration> {
    hold_time.duration().map(|hold| configured.min(hold / 3).max(SHORTEST_KEEPALIVE))
}

#[cfg(test)]
mod tests;
