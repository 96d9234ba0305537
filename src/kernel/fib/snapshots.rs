//! The snapshots that the FIB follows: which of them are news, and what two of them come to.
//!
//! In: the watches of [`Inputs`]. Out: each snapshot once.

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp::rib::Gateway;
use tokio::sync::watch;

use super::{Inputs, LocalRoutes};
use crate::kernel::interfaces::Interfaces;

/// Snapshots that were taken in.
#[derive(Debug, Default)]
pub(super) struct Seen {
    local: Option<Arc<LocalRoutes>>,
    interfaces: Option<Arc<Interfaces>>,
    dead: Option<Arc<BTreeSet<Gateway>>>,
    failed: Option<Arc<BTreeSet<Gateway>>>,
}

impl Seen {
    /// What this node wants, where that has changed.
    pub(super) fn local(&mut self, inputs: &mut Inputs) -> Option<Arc<LocalRoutes>> {
        news(&mut inputs.local, &mut self.local)
    }

    /// The links, where they have changed.
    pub(super) fn interfaces(&mut self, inputs: &mut Inputs) -> Option<Arc<Interfaces>> {
        news(&mut inputs.interfaces, &mut self.interfaces)
    }

    /// Next hops that nothing is to be sent to, whoever says so, where they have changed.
    pub(super) fn unusable(&mut self, inputs: &mut Inputs) -> Option<Arc<BTreeSet<Gateway>>> {
        let lost = news(&mut inputs.dead, &mut self.dead).is_some();
        let failed = news(&mut inputs.failed, &mut self.failed).is_some();
        (lost || failed).then(|| match (&self.dead, &self.failed) {
            (None, None) => Arc::default(),
            (Some(one), None) | (None, Some(one)) => Arc::clone(one),
            (Some(dead), Some(failed)) => Arc::new(dead.union(failed).copied().collect()),
        })
    }
}

/// A snapshot that was not seen yet.
fn news<T>(snapshots: &mut watch::Receiver<Arc<T>>, seen: &mut Option<Arc<T>>) -> Option<Arc<T>> {
    let now = snapshots.borrow_and_update().clone();
    let is_known = seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now));
    (!is_known).then(|| seen.insert(now).clone())
}
