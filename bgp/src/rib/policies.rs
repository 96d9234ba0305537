//! The policies of neighbors at work: what becomes of a change at run time, and what they have done so far.
//!
//! A path is kept as it was received, whatever policy makes of it, so another policy needs nothing from the neighbor. It
//! is applied in turns, prefix by prefix; where the outcome is the same, nobody is told anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::peer::Peer;
use super::view::{PathStatus, PathView};
use super::{Lending, PeerConfig, Rib};
use crate::policy::{Guard, Hits, Policy, Refusal, Ruling, Transit, WithheldCounts};
use crate::{Family, PeerId, Prefix};

/// What a neighbor's routes go by, the guard first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoliciesView {
    /// How often our own AS may be in a path.
    pub allowed_own_as: u8,
    /// Whether learned routes may be told.
    pub transit: Transit,
    /// Whether a network that originates here lends addresses: then single ones are believed to be elsewhere.
    pub lending: Lending,
    /// How often a path came to be refused, since the neighbor was configured, in both families.
    pub refused_total: BTreeMap<Refusal, u64>,
    /// How often a best route was not told, since the neighbor was configured.
    pub withheld_total: WithheldCounts,
    /// On the way in.
    pub import: Option<AppliedPolicy>,
    /// On the way out.
    pub export: Option<AppliedPolicy>,
}

/// A policy with what it has done for a neighbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// The policy.
    pub policy: Arc<Policy>,
    /// How often its rules have held, since it came into force.
    pub hits: Hits,
}

impl Rib {
    /// What a neighbor's routes go by; `None` where it is not configured.
    #[must_use]
    pub fn policies(&self, peer: PeerId) -> Option<PoliciesView> {
        let known = self.peers.get(&peer)?;
        let mut refused_total = BTreeMap::new();
        for family in Family::ALL {
            for (&refusal, count) in &known.adj_rib_in.of(family).refused_total {
                *refused_total.entry(refusal).or_default() += count;
            }
        }
        let applied = |policy: &Option<Arc<Policy>>, hits: &Hits| {
            policy.as_ref().map(|policy| AppliedPolicy { policy: Arc::clone(policy), hits: hits.clone() })
        };
        Some(PoliciesView {
            allowed_own_as: known.config.allowed_own_as,
            transit: known.config.transit,
            lending: self.originated.lending(),
            refused_total,
            withheld_total: known.withheld,
            import: applied(&known.config.import, &known.import_hits),
            export: applied(&known.config.export, &known.export_hits),
        })
    }

    /// Gives a known neighbor another configuration.
    pub(super) fn reconfigure(&mut self, peer: PeerId, config: PeerConfig) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let before = std::mem::replace(&mut known.config, config.clone());
        if before.import != config.import {
            known.import_hits = Hits::none_yet(config.import.as_deref());
        }
        if before.export != config.export {
            known.export_hits = Hits::none_yet(config.export.as_deref());
        }
        if (&before.import, before.allowed_own_as) != (&config.import, config.allowed_own_as) {
            self.judging.insert(peer, None);
        }
        if (&before.export, before.transit) != (&config.export, config.transit) {
            // What it may be told no more was perhaps told before.
            self.tell_again(peer, self.extent(&config).max(self.extent(&before)));
        }
    }

    /// What the rules of a neighbor's import policy do to a path of it.
    pub(super) fn ruling(
        &self,
        peer: PeerId,
        prefix: Prefix,
        path: &PathView,
    ) -> Option<(Arc<Policy>, Ruling)> {
        match path.status {
            PathStatus::Best | PathStatus::Multipath | PathStatus::NotSelected(_) => {}
            PathStatus::Refused(Refusal::Policy) => {}
            PathStatus::Refused(_) | PathStatus::Echo => return None,
        }
        let known = self.peers.get(&peer)?;
        let policy = known.config.import.as_ref()?;
        let guard = self.guard(known, prefix.family(), &known.config)?;
        let variants = guard.assess(&path.received).variants(&path.received, guard.session.asn);
        Some((Arc::clone(policy), policy.rule_on(prefix, variants)))
    }

    /// What judges the paths of a peer, were it configured so; `None` while nothing of it counts.
    pub(super) fn guard<'a>(
        &'a self,
        known: &'a Peer,
        family: Family,
        config: &PeerConfig,
    ) -> Option<Guard<'a>> {
        Some(Guard {
            config: &self.config,
            originated: &self.originated,
            connected: &self.connected,
            session: known.source_with(family)?,
            inbound: known.maintenance.inbound,
            allowed_own_as: config.allowed_own_as,
        })
    }
}
