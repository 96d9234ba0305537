//! Which next hops are worth a packet. Snapshots of the links and of the sessions that are lost; no socket.

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp::InterfaceIndex;
use bgp::rib::{Gateway, Gateways};

use crate::kernel::interfaces::{Interface, Interfaces};

/// What is known of links and sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    pub(super) interfaces: Arc<Interfaces>,
    /// Next hops whose session is lost.
    pub(super) dead: Arc<BTreeSet<Gateway>>,
}

impl Reach {
    /// Whether its link runs, and its session is not lost.
    pub(super) fn is_alive(&self, gateway: &Gateway) -> bool {
        self.is_on(gateway, Interface::is_running) && !self.is_dead(gateway)
    }

    /// Whether its session is lost.
    pub(super) fn is_dead(&self, gateway: &Gateway) -> bool {
        self.dead.contains(gateway)
    }

    /// Those that live.
    pub(super) fn living(&self, gateways: &Gateways) -> Gateways {
        gateways.iter().filter(|gateway| self.is_alive(gateway)).copied().collect()
    }

    /// Next hops for a route that has them in line: those that live, a local repair before the RIB has noticed;
    /// if none does, those that the kernel would take.
    pub(super) fn usable(&self, gateways: &Gateways) -> Option<Gateways> {
        let those = |condition: &dyn Fn(&Gateway) -> bool| -> Gateways {
            gateways.iter().filter(|gateway| condition(gateway)).copied().collect()
        };
        [
            self.living(gateways),
            those(&|gateway| self.is_on(gateway, Interface::is_running)),
            those(&|gateway| self.is_on(gateway, |interface| interface.admin_up)),
        ]
        .into_iter()
        .find(|gateways| !gateways.is_empty())
    }

    /// Whether packets to a next hop leave by that link. One that names none is where its network is.
    pub(super) fn goes_over(&self, gateway: &Gateway, index: InterfaceIndex) -> bool {
        let has_network = |link: &Interface| link.addresses.iter().any(|ours| ours.contains(gateway.address));
        match gateway.interface {
            Some(own) => own == index,
            None => self.interfaces.by_index.get(&index).is_some_and(has_network),
        }
    }

    fn is_on(&self, gateway: &Gateway, condition: impl Fn(&Interface) -> bool) -> bool {
        gateway.interface.is_none_or(|index| self.interfaces.by_index.get(&index).is_some_and(condition))
    }
}
