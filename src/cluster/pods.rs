//! The pods of this node that the kernel has routes to, for as long as somebody asks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::Settings;
use crate::config::{Borrowed, Calico};
use crate::kernel::pods::{self, PodAddresses};

/// The kernel tells of its routes within milliseconds. One that does not must not keep the node off the network.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Follows the kernel until it is dropped.
pub(super) struct LocalPods {
    addresses: Option<watch::Receiver<Option<PodAddresses>>>,
    /// Ends with this.
    _monitor: JoinSet<()>,
}

impl LocalPods {
    /// Ready when the pods are known, so that what is borrowed is announced with everything else.
    pub(super) async fn follow(settings: &Settings) -> Self {
        let mut monitor = JoinSet::new();
        match settings.pods.calico {
            Some(Calico { borrowed: Borrowed::Advertise { .. }, .. }) => {}
            Some(Calico { borrowed: Borrowed::Refuse, .. }) | None => {
                return Self { addresses: None, _monitor: monitor };
            }
        }
        let (found, mut addresses) = watch::channel(None);
        monitor.spawn(pods::run(found));
        if tokio::time::timeout(FIRST_LOOK, addresses.wait_for(Option::is_some)).await.is_err() {
            warn!("the kernel's routes cannot be read: no borrowed address is announced");
        }
        Self { addresses: Some(addresses), _monitor: monitor }
    }

    /// When there is another one, or one less. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if let Some(addresses) = &mut self.addresses
            && addresses.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// `None` while nothing is known.
    pub(super) fn now(&mut self) -> Option<PodAddresses> {
        self.addresses.as_mut().and_then(|addresses| addresses.borrow_and_update().clone())
    }
}
