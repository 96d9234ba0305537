//! The reconciler for the project's own bench, with a kernel that does all it is asked; no part of the agent.
//!
//! In: changes as the RIB says them. Out: the number of routes that were written, each as the netlink request that
//! would go to the kernel. The turns are those of `task`.

use std::sync::Arc;
use std::time::Instant;

use bgp::rib::FibChange;

use super::Settings;
use super::delta::{Delta, Reading};
use super::packet::Packet;
use super::task::OPERATIONS;
use super::writer::append_route;
use crate::kernel::interfaces::Interfaces;

/// The difference between what is wanted and what such a kernel has.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    delta: Delta,
    packet: Packet,
}

impl Reconciler {
    /// Beside a kernel that was read and has no route of ours.
    #[must_use]
    pub fn new(settings: Settings, interfaces: Arc<Interfaces>, now: Instant) -> Self {
        let mut delta = Delta::new(&settings);
        delta.set_interfaces(interfaces);
        delta.resync_objects(&[]);
        delta.resync(Reading::default(), now);
        delta.drained();
        Self { settings, delta, packet: Packet::default() }
    }

    /// The RIB's word on one prefix.
    pub fn want(&mut self, change: FibChange) {
        self.delta.want(change);
    }

    /// Writes all that there is to write. Gives the number of changes of routes.
    pub fn settle(&mut self, now: Instant) -> usize {
        let mut written = 0;
        while !self.delta.is_at_rest() {
            for operation in self.delta.poll_objects(now) {
                self.delta.object_completed(&operation, Ok(()), now);
            }
            let operations = self.delta.poll_operations(now, OPERATIONS);
            written += operations.len();
            self.packet.clear();
            for (operation, sequence) in operations.iter().zip(1..) {
                append_route(
                    &self.settings.ownership,
                    &mut self.packet,
                    operation,
                    self.delta.sets(),
                    sequence,
                );
            }
            operations.into_iter().for_each(|operation| self.delta.completed(operation, Ok(()), now));
            self.delta.drained();
        }
        written
    }
}
