//! The task that listens on the BGP port. It hands connections on unread: [`super::Agent`] knows the neighbors, and says
//! which links and addresses the kernel need not drop at the door.
//!
//! A port that is taken is not fatal: neighbors are dialled all the same, and it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp::net::{Accepted, Caller, Listener, Md5Key};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::neighbors::BGP_PORT;

/// Between two tries to bind, and after a failed accept: out of file descriptors passes, a busy loop does not.
const RETRY: Duration = Duration::from_secs(1);

/// TCP MD5 keys of the numbered neighbors that have one.
pub(super) type Keys = BTreeMap<IpAddr, Md5Key>;

/// Who may connect, and what they have to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Admission {
    pub(super) callers: BTreeSet<Caller>,
    pub(super) keys: Keys,
}

/// Why nobody can connect at present. Its text is what people read.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// Also one that has the port on a single address.
    #[error("another program has TCP port {BGP_PORT}")]
    PortTaken,
    /// Anything else that the kernel has against it.
    #[error("cannot listen on TCP port {BGP_PORT}: {0}")]
    NoPort(Arc<io::Error>),
    /// Connections are there and cannot be taken: out of file descriptors or memory.
    #[error("cannot accept connections: {0}")]
    NotAccepting(Arc<io::Error>),
}

impl Trouble {
    fn of_bind(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::PortTaken,
            _ => Self::NoPort(Arc::new(error)),
        }
    }
}

/// Runs until the agent drops its end of either of the first two channels. `trouble` says why nobody can connect, if
/// so; the log has each change once.
pub(super) async fn listen(
    mut admission: watch::Receiver<Admission>,
    accepted: mpsc::Sender<Accepted>,
    trouble: watch::Sender<Option<Trouble>>,
) {
    let Some(listener) = bind(&accepted, &trouble).await else { return };
    let mut applied = Admission::default();
    admit(&listener, &applied);
    loop {
        let wanted = admission.borrow_and_update().clone();
        if wanted.callers != applied.callers {
            admit(&listener, &wanted);
        }
        set_keys(&listener, &applied.keys, &wanted.keys);
        applied = wanted;
        tokio::select! {
            changed = admission.changed() => if changed.is_err() { return },
            result = listener.accept() => match result {
                Ok(connection) => {
                    if trouble.send_replace(None).is_some() {
                        info!("connections are accepted again");
                    }
                    if accepted.send(connection).await.is_err() { return }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    match trouble.send_replace(Some(Trouble::NotAccepting(Arc::clone(&error)))) {
                        None => warn!(%error, "cannot accept connections: neighbors are dialled, but cannot reach us; trying again"),
                        Some(_) => debug!(%error, "still no connection accepted"),
                    }
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

fn admit(listener: &Listener, admission: &Admission) {
    if let Err(error) = listener.admit(&admission.callers) {
        warn!(%error, "strangers' connections are not dropped by the kernel; they are refused one by one");
    }
}

async fn bind(
    accepted: &mpsc::Sender<Accepted>,
    trouble: &watch::Sender<Option<Trouble>>,
) -> Option<Listener> {
    loop {
        match Listener::bind(BGP_PORT) {
            Ok(listener) => {
                if trouble.send_replace(None).is_some() {
                    info!(port = BGP_PORT, "listening at last");
                }
                return Some(listener);
            }
            Err(error) => {
                let reason = error.to_string();
                if trouble.send_replace(Some(Trouble::of_bind(error))).is_none() {
                    warn!(
                        error = reason,
                        port = BGP_PORT,
                        "cannot listen: neighbors that only wait to be dialled are dialled, others cannot reach us; trying again"
                    );
                }
            }
        }
        tokio::select! {
            () = accepted.closed() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn set_keys(listener: &Listener, applied: &Keys, wanted: &Keys) {
    let gone = applied.keys().filter(|address| !wanted.contains_key(address)).map(|address| (address, None));
    let set = wanted.iter().filter(|(address, key)| applied.get(address) != Some(key));
    for (address, key) in gone.chain(set.map(|(address, key)| (address, Some(key)))) {
        if let Err(error) = listener.set_md5_key(*address, key) {
            warn!(%error, %address, "cannot set the TCP MD5 key of a neighbor on the listener");
        }
    }
}
