//! What the RIB's task tells the operator: limits that are about to be reached, or were, and default routes that are kept.
//! Each once, when it begins.

use tracing::{info, warn};

use super::Task;
use crate::rib::LimitUse;
use crate::rib::limit::Mark;
use crate::{Family, PeerId};

impl Task {
    /// Says when most of what a neighbor may announce is in use, and when routes are left out.
    pub(super) fn warn_of_limit(&mut self, peer: PeerId) {
        let Some(link) = self.peers.get_mut(&peer) else { return };
        for family in Family::ALL {
            let Some(used) = self.rib.limit_use(peer, family) else { continue };
            let (neighbor, LimitUse { kept, limit, .. }) = (&link.name, used);
            match link.marks.entry(family).or_default().follow(used) {
                None => {}
                Some(Mark::Near) => warn!(
                    neighbor,
                    %family,
                    kept,
                    limit,
                    "the neighbor sends almost as many routes as max-prefixes allows"
                ),
                Some(Mark::Over) => warn!(
                    neighbor,
                    %family,
                    kept,
                    limit,
                    "the neighbor sends more routes than max-prefixes: what was there first is kept, the rest is refused"
                ),
            }
        }
    }

    /// Says once of a default route that it is kept, and once that it is not any more.
    pub(super) fn tell_of_kept_defaults(&mut self) {
        let kept = self.rib.kept_defaults();
        for (prefix, gateways) in kept.iter().filter(|(prefix, _)| !self.kept_defaults.contains_key(prefix)) {
            let over =
                gateways.iter().map(|gateway| gateway.address.to_string()).collect::<Vec<_>>().join(", ");
            warn!(%prefix, over, "default route kept: the configuration has taken its last path");
        }
        for prefix in self.kept_defaults.keys().filter(|prefix| !kept.contains_key(prefix)) {
            info!(%prefix, "default route no longer kept");
        }
        self.kept_defaults = kept;
    }
}
