//! The task that listens on the BGP port. It hands connections on unread: [`super::Agent`] knows the neighbors.
//!
//! A port that is taken is not fatal: neighbors are dialled all the same, and it is tried again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bgp::net::{Accepted, Listener, Md5Key};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::neighbors::BGP_PORT;

/// Between two tries to bind, and after a failed accept: out of file descriptors passes, a busy loop does not.
const RETRY: Duration = Duration::from_secs(1);

/// TCP MD5 keys of the numbered neighbors that have one.
pub(super) type Keys = BTreeMap<IpAddr, Md5Key>;

/// Runs until the agent drops its end of either channel.
pub(super) async fn listen(mut keys: watch::Receiver<Keys>, accepted: mpsc::Sender<Accepted>) {
    let Some(listener) = bind(&accepted).await else { return };
    let mut applied = Keys::new();
    loop {
        let wanted = keys.borrow_and_update().clone();
        apply(&listener, &applied, &wanted);
        applied = wanted;
        tokio::select! {
            changed = keys.changed() => if changed.is_err() { return },
            result = listener.accept() => match result {
                Ok(connection) => if accepted.send(connection).await.is_err() { return },
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

async fn bind(accepted: &mpsc::Sender<Accepted>) -> Option<Listener> {
    let mut warned = false;
    loop {
        match Listener::bind(BGP_PORT) {
            Ok(listener) => {
                if warned {
                    info!(port = BGP_PORT, "listening at last");
                }
                return Some(listener);
            }
            Err(error) if !warned => {
                warned = true;
                warn!(%error, port = BGP_PORT, "cannot listen: neighbors that only wait to be dialled are dialled, others cannot reach us; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = accepted.closed() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn apply(listener: &Listener, applied: &Keys, wanted: &Keys) {
    let gone = applied.keys().filter(|address| !wanted.contains_key(address)).map(|address| (address, None));
    let set = wanted.iter().filter(|(address, key)| applied.get(address) != Some(key));
    for (address, key) in gone.chain(set.map(|(address, key)| (address, Some(key)))) {
        if let Err(error) = listener.set_md5_key(*address, key) {
            warn!(%error, %address, "cannot set the TCP MD5 key of a neighbor on the listener");
        }
    }
}
