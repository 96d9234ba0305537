//! Neighbors in the words of the control API.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use bgp::message::Capability;
use bgp::net::PeerStatus;
use bgp::policy::Refusal;
use bgp::rib::FamilyCounts;
use bgp::session::{RemoteAs, SessionError, State};
use bgp::{Family, PeerId};

use crate::config;
use crate::control::api;

use super::super::neighbors::NeighborName;
use super::{Neighbor, View, Wanted, bfd, is_established, status, stopping, words};

/// What the RIB counts for one neighbor.
pub(super) type Counts = BTreeMap<Family, FamilyCounts>;

impl View {
    pub(super) async fn neighbors(&self) -> Result<api::Neighbors, api::Error> {
        let statuses = self.statuses().await?;
        let counts = self.counts().await?;
        let bfd = self.bfd().await?;
        let neighbors = self
            .neighbors
            .iter()
            .zip(&statuses)
            .map(|(neighbor, status)| {
                self.detail(neighbor, status, counts.get(&neighbor.id), bfd::of(&bfd, neighbor))
            })
            .collect();
        Ok(api::Neighbors { neighbors })
    }

    pub(super) async fn neighbor(&self, selector: &str) -> Result<api::Neighbor, api::Error> {
        let neighbor = self.find(selector).await?;
        let status = status(neighbor).await?;
        let counts = self.counts().await?;
        let bfd = self.bfd().await?;
        Ok(self.detail(neighbor, &status, counts.get(&neighbor.id), bfd::of(&bfd, neighbor)))
    }

    /// What the RIB counts, for all neighbors at once.
    pub(super) async fn counts(&self) -> Result<BTreeMap<PeerId, Counts>, api::Error> {
        let peers: Vec<PeerId> = self.neighbors.iter().map(|neighbor| neighbor.id).collect();
        let question = move |rib: &bgp::rib::Rib| {
            let of = |peer| {
                let families = Family::ALL.into_iter();
                families.filter_map(|family| Some((family, rib.counts(peer, family)?))).collect()
            };
            peers.into_iter().map(|peer| (peer, of(peer))).collect()
        };
        self.rib.ask(question).await.map_err(|_| stopping())
    }

    fn detail(
        &self,
        neighbor: &Neighbor,
        status: &PeerStatus,
        counts: Option<&Counts>,
        bfd: Option<&api::BfdSession>,
    ) -> api::Neighbor {
        let negotiated = status.negotiated.as_deref();
        let families = counts.into_iter().flat_map(BTreeMap::values);
        let mut refused = BTreeMap::new();
        for (reason, count) in families.clone().flat_map(|counts| &counts.refused) {
            *refused.entry(words::refusal(*reason).to_owned()).or_default() += u64::from(*count);
        }
        let over_limit: u64 = families.clone().map(|counts| u64::from(counts.over_limit)).sum();
        if over_limit > 0 {
            refused.insert(words::refusal(Refusal::Limit).to_owned(), over_limit);
        }
        api::Neighbor {
            summary: summary(neighbor, status, counts, bfd),
            interface: match &neighbor.name {
                NeighborName::Interface(name) => Some(name.clone()),
                NeighborName::Address(_) => None,
            },
            configured_remote_as: neighbor.settings.remote_as.to_string(),
            kind: negotiated.map(|negotiated| negotiated.peer_kind),
            remote_router_id: negotiated.map(|negotiated| negotiated.open.router_id),
            local_address: status.local_address.map(|local| local.ip().to_canonical()),
            discovered_router: self.discovered(neighbor),
            waiting_for: bfd::waiting_for(bfd).or_else(|| self.waiting_for(neighbor, status)),
            configured_hold_time_s: self.config.bgp.hold_time.as_secs(),
            configured_keepalive_ms: words::milliseconds(self.config.bgp.keepalive),
            negotiated: negotiated.map(|negotiated| api::NegotiatedTimers {
                hold_time_s: negotiated.hold_time.as_secs(),
                keepalive_ms: negotiated.keepalive.map(words::milliseconds),
            }),
            bfd: neighbor.settings.bfd.map(|parameters| api::NeighborBfd {
                interval_ms: words::milliseconds(parameters.interval),
                multiplier: parameters.multiplier.get(),
                session: bfd.cloned(),
            }),
            timers: timers(status),
            families: negotiated.map(|n| n.codec.families.iter().collect()).unwrap_or_default(),
            capabilities: api::Capabilities {
                sent: negotiated.map(|n| n.offered.iter().map(Into::into).collect()).unwrap_or_default(),
                received: negotiated
                    .map(|n| n.open.capabilities.iter().map(Into::into).collect())
                    .unwrap_or_default(),
            },
            messages: api::Messages { received: status.received.into(), sent: status.sent.into() },
            max_prefixes: neighbor.settings.max_prefixes,
            refused,
            stale: families.clone().map(|counts| u64::from(counts.stale)).sum(),
            echoes: families.map(|counts| u64::from(counts.echoes)).sum(),
            times_established: status.established,
            flaps: api::Flaps {
                count: neighbor.flaps,
                held_back_for_ms: neighbor
                    .held_back_until
                    .map(|until| words::milliseconds(until.saturating_duration_since(Instant::now()))),
            },
            last_failure: status.last_error.as_ref().map(|(when, error)| api::FailureReport {
                reason: failure(&neighbor.settings, error),
                ago_s: when.elapsed().as_secs(),
            }),
            last_notification: status.last_notification.as_ref().map(|(when, notification)| {
                api::NotificationReport {
                    direction: api::Direction::Received,
                    code: notification.code,
                    subcode: notification.subcode,
                    text: notification.to_string(),
                    ago_s: when.elapsed().as_secs(),
                }
            }),
        }
    }

    fn discovered(&self, neighbor: &Neighbor) -> Option<Ipv6Addr> {
        match &neighbor.name {
            NeighborName::Interface(name) => self.routers.get(&self.interfaces.by_name(name)?.index).copied(),
            NeighborName::Address(_) => None,
        }
    }

    /// What has to happen before a session can start.
    fn waiting_for(&self, neighbor: &Neighbor, status: &PeerStatus) -> Option<String> {
        match self.drains.wanted(&neighbor.name) {
            Wanted::Session(_) => {}
            Wanted::NoSession(_) => return Some("the end of its drain (bgpctl undrain)".to_owned()),
        }
        if status.target.is_some() {
            return silence(&neighbor.settings, status.state);
        }
        if neighbor.held_back_until.is_some() {
            return Some("the end of its being held back: its sessions do not last".to_owned());
        }
        let NeighborName::Interface(name) = &neighbor.name else {
            return Some("carrier on the interface that its network is on".to_owned());
        };
        let Some(interface) = self.interfaces.by_name(name) else {
            return Some(format!("interface {name}, which does not exist"));
        };
        Some(if !interface.admin_up {
            format!("interface {name}, which is down")
        } else if !interface.carrier {
            format!("carrier on {name}")
        } else if interface.link_local.is_none() {
            format!("a link-local address on {name}")
        } else {
            format!("a Router Advertisement on {name}")
        })
    }
}

/// The line of the summary.
pub(super) fn summary(
    neighbor: &Neighbor,
    status: &PeerStatus,
    counts: Option<&Counts>,
    bfd: Option<&api::BfdSession>,
) -> api::NeighborSummary {
    let by_family: BTreeMap<Family, api::PrefixCounts> = counts
        .into_iter()
        .flatten()
        .filter(|(family, _)| status.negotiated.as_ref().is_some_and(|n| n.codec.families.contains(**family)))
        .map(|(family, counts)| (*family, prefixes(counts)))
        .collect();
    let configured_as = match neighbor.settings.remote_as {
        RemoteAs::Number(asn) => Some(asn),
        RemoteAs::External | RemoteAs::Internal => None,
    };
    api::NeighborSummary {
        name: neighbor.name.to_string(),
        hostname: peer_hostname(status),
        address: status.target.as_ref().map(|target| target.remote.ip()),
        remote_as: status.negotiated.as_ref().map(|negotiated| negotiated.open.asn).or(configured_as),
        state: status.state.into(),
        up_down_s: (status.established > 0).then(|| status.since.elapsed().as_secs()),
        messages_received: status.received.total(),
        messages_sent: status.sent.total(),
        prefixes: by_family.values().fold(api::PrefixCounts::default(), |sum, counts| api::PrefixCounts {
            received: sum.received + counts.received,
            accepted: sum.accepted + counts.accepted,
            sent: sum.sent + counts.sent,
        }),
        prefixes_by_family: by_family,
        bfd_state: bfd.map(|bfd| bfd.state),
        last_error: match (is_established(status), &status.last_error) {
            (false, Some((_, error))) => Some(failure(&neighbor.settings, error)),
            (true, _) | (_, None) => None,
        },
    }
}

/// What is missing where the TCP connection is there. A peer that lacks `ttl-security` can get that far: some set the
/// hop limit of their connections only after the handshake.
fn silence(settings: &config::Neighbor, state: State) -> Option<String> {
    match (state, settings.ttl_security) {
        (State::OpenSent, false) => Some("the peer's OPEN".to_owned()),
        (State::OpenSent, true) => Some("the peer's OPEN (has it ttl-security too?)".to_owned()),
        (State::Idle | State::Connect | State::Active | State::OpenConfirm | State::Established, _) => None,
    }
}

/// What went wrong, and what it may mean.
fn failure(settings: &config::Neighbor, error: &SessionError) -> String {
    match error {
        // Nothing else stops the session of a daemon that is still there to be asked.
        SessionError::Stopped => "its link or its address went away".to_owned(),
        error => format!("{error}{}", suspicion(settings, error)),
    }
}

/// What the silence of a peer may mean: packets without our key, or from too far, are dropped by a kernel that tells
/// neither side (RFC 2385 section 4.1, RFC 5082 section 3).
fn suspicion(settings: &config::Neighbor, error: &SessionError) -> &'static str {
    match error {
        SessionError::ConnectTimeout(_) => match (&settings.password, settings.ttl_security) {
            (Some(_), false) => ": has it the same TCP MD5 key?",
            (Some(_), true) => ": has it the same TCP MD5 key, and ttl-security too?",
            (None, true) => ": has it ttl-security too?",
            (None, false) => "",
        },
        _ => "",
    }
}

fn prefixes(counts: &FamilyCounts) -> api::PrefixCounts {
    api::PrefixCounts {
        received: counts.received.into(),
        accepted: counts.accepted.into(),
        sent: words::count(counts.advertised),
    }
}

/// What the peer calls itself in its OPEN.
pub(super) fn peer_hostname(status: &PeerStatus) -> Option<String> {
    let capabilities = &status.negotiated.as_ref()?.open.capabilities;
    capabilities.iter().find_map(|capability| match capability {
        Capability::Fqdn { hostname, .. } if !hostname.is_empty() => Some(hostname.clone()),
        _ => None,
    })
}

fn timers(status: &PeerStatus) -> Vec<api::Timer> {
    let now = Instant::now();
    let timer = |(name, deadline): &(&'static str, Instant)| api::Timer {
        name: (*name).to_owned(),
        remaining_ms: words::milliseconds(deadline.saturating_duration_since(now)),
    };
    status.timers.iter().map(timer).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(more: &str) -> config::Neighbor {
        let text = format!("[bgp]\nlocal-as = 65001\n[[neighbor]]\naddress = \"192.0.2.1\"\n{more}");
        config::parse(&text, "test.toml").unwrap().neighbors.remove(0)
    }

    #[test]
    fn silence_makes_a_key_and_gtsm_suspects_and_nothing_else_does() {
        let timeout = SessionError::ConnectTimeout(Duration::from_secs(3));
        let plain = settings("");
        let gtsm = settings("ttl-security = true\n");
        let key = config::Neighbor { password: Some(config::Password(b"k".to_vec())), ..plain.clone() };
        let both = config::Neighbor { ttl_security: true, ..key.clone() };
        assert_eq!(suspicion(&plain, &timeout), "");
        assert!(suspicion(&gtsm, &timeout).contains("ttl-security"));
        assert!(suspicion(&key, &timeout).contains("MD5 key"));
        assert!(["ttl-security", "MD5 key"].iter().all(|word| suspicion(&both, &timeout).contains(word)));
        assert_eq!(suspicion(&both, &SessionError::ConnectFailed(std::io::ErrorKind::ConnectionRefused)), "");
        assert_eq!(silence(&plain, State::OpenSent).as_deref(), Some("the peer's OPEN"));
        assert!(silence(&gtsm, State::OpenSent).unwrap().contains("ttl-security"));
        assert_eq!(silence(&gtsm, State::Established), None);
    }
}
