//! What the tasks around the RIB and its own say to each other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::memory::list_octets;
use crate::message::{RefreshKind, Update};
use crate::policy::Maintenance;
use crate::rib::{LostLink, Originated, PeerConfig, PeerSession, Rib, ToPeer};
use crate::{Families, Family, PeerId, Prefix};

/// Counts the sessions of one neighbor, so that what was meant for an earlier one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::net) struct Epoch(u64);

impl Epoch {
    pub(in crate::net) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Routes that a peer asked for.
#[derive(Debug)]
pub(in crate::net) struct PeerBatch {
    pub(in crate::net) epoch: Epoch,
    pub(in crate::net) items: Vec<ToPeer>,
}

pub(super) type Question = Box<dyn FnOnce(&Rib) + Send>;

/// What the RIB task is told.
pub(in crate::net) enum ToRib {
    Configure {
        peer: PeerId,
        /// For logs.
        name: String,
        config: PeerConfig,
        batches: mpsc::Sender<PeerBatch>,
    },
    Reconfigure {
        peer: PeerId,
        config: PeerConfig,
    },
    /// How the neighbor is used from now on.
    Maintain {
        peer: PeerId,
        maintenance: Maintenance,
    },
    Remove {
        peer: PeerId,
    },
    /// It is to be removed, because the configuration has it no longer.
    Deconfigure {
        peer: PeerId,
    },
    LinksLost(Vec<LostLink>),
    Up {
        peer: PeerId,
        epoch: Epoch,
        session: Box<PeerSession>,
    },
    /// What is said of these families is kept: the peer restarts.
    Down {
        peer: PeerId,
        kept: Families,
    },
    /// What is still kept of a session that was lost goes.
    Forget {
        peer: PeerId,
    },
    Updates {
        peer: PeerId,
        updates: Vec<Update>,
    },
    Refresh {
        peer: PeerId,
        family: Family,
        kind: RefreshKind,
    },
    /// The peer can take a batch.
    Ready {
        peer: PeerId,
        epoch: Epoch,
    },
    Originated(Originated),
    /// The networks that links of this host are in.
    Connected(BTreeSet<Prefix>),
    /// Hosts on its links that have routes of their own.
    Hosts(Arc<BTreeSet<IpAddr>>),
    /// Which neighbors the first convergence waits for.
    Expected(BTreeSet<PeerId>),
    Question(Question),
}

impl ToRib {
    /// The work it makes, in prefixes.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Updates { updates, .. } => updates
                .iter()
                .map(|update| {
                    let announced: usize = update.reach.iter().map(|reach| reach.prefixes.len()).sum();
                    1 + update.withdrawn.len() + announced
                })
                .sum(),
            Self::Originated(routes) => 1 + routes.len(),
            Self::Connected(networks) => 1 + networks.len(),
            Self::Hosts(hosts) => 1 + hosts.len(),
            Self::Configure { .. }
            | Self::Reconfigure { .. }
            | Self::Maintain { .. }
            | Self::Remove { .. }
            | Self::Deconfigure { .. }
            | Self::LinksLost(_)
            | Self::Up { .. }
            | Self::Down { .. }
            | Self::Forget { .. }
            | Self::Refresh { .. }
            | Self::Ready { .. }
            | Self::Expected(_)
            | Self::Question(_) => 1,
        }
    }

    /// What it has on the heap. Only UPDATEs come in such numbers that it matters.
    pub(in crate::net) fn octets(&self) -> usize {
        match self {
            Self::Updates { updates, .. } => {
                list_octets(updates) + updates.iter().map(Update::heap_octets).sum::<usize>()
            }
            Self::Configure { .. }
            | Self::Reconfigure { .. }
            | Self::Maintain { .. }
            | Self::Remove { .. }
            | Self::Deconfigure { .. }
            | Self::LinksLost(_)
            | Self::Up { .. }
            | Self::Down { .. }
            | Self::Forget { .. }
            | Self::Refresh { .. }
            | Self::Ready { .. }
            | Self::Originated(_)
            | Self::Connected(_)
            | Self::Hosts(_)
            | Self::Expected(_)
            | Self::Question(_) => 0,
        }
    }
}
