//! The task that keeps the snapshot of links and addresses true.
//!
//! Two sockets: events on one, dumps over the other (DESIGN 4.9). The subscription comes before the dump, so
//! that nothing falls between them; an overrun or a dump that failed means another full dump.

use std::sync::Arc;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use tokio::sync::watch;

use super::Interfaces;
use super::table::Table;
use crate::kernel::netlink::{
    DumpError, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS, GROUP_LINK, RECEIVE_BUFFER, Socket,
};

const GROUPS: [u32; 3] = [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS];
/// A dump is interrupted when a link changes meanwhile, which is over soon.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// Netlink that fails for long is not worth more than a look now and then.
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Interrupted dumps at start before it counts as a failure.
const START_ATTEMPTS: u32 = 8;

/// Netlink is unusable: the agent cannot work here.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel's links and addresses over netlink")]
pub struct StartError(#[from] DumpError);

/// Follows the kernel while [`Monitor::run`] runs.
pub struct Monitor {
    events: Socket,
    table: Table,
    sender: watch::Sender<Arc<Interfaces>>,
}

/// Subscribes and reads everything once, in the network namespace of this thread. The receiver holds the first
/// snapshot already; it stays true while the monitor runs.
///
/// # Errors
/// When netlink cannot be used at all.
pub async fn start() -> Result<(Monitor, watch::Receiver<Arc<Interfaces>>), StartError> {
    let mut attempt = 0;
    let (events, table) = loop {
        match subscribe_and_dump().await {
            Ok(connected) => break connected,
            Err(DumpError::Interrupted | DumpError::Overrun) if attempt < START_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let (sender, receiver) = watch::channel(Arc::new(table.snapshot()));
    Ok((Monitor { events, table, sender }, receiver))
}

impl Monitor {
    /// Follows the kernel until every receiver is gone. Netlink errors are answered by a new connection.
    pub async fn run(mut self) {
        loop {
            let closed = self.sender.clone();
            tokio::select! {
                () = closed.closed() => return,
                followed = self.follow() => match followed {
                    Ok(()) => self.publish(),
                    Err(error) => {
                        tracing::warn!(%error, "link events were lost; reading everything again");
                        tokio::select! {
                            () = closed.closed() => return,
                            () = self.reconnect() => self.publish(),
                        }
                    }
                },
            }
        }
    }

    /// Takes in what changes. Cancel safe.
    async fn follow(&mut self) -> Result<(), DumpError> {
        let Self { events, table, sender: _ } = self;
        events.events(|message| message.decode().iter().for_each(|message| table.apply(message))).await
    }

    async fn reconnect(&mut self) {
        let mut pause = RETRY_FIRST;
        loop {
            match subscribe_and_dump().await {
                Ok((events, table)) => {
                    self.events = events;
                    self.table = table;
                    return;
                }
                Err(error) => tracing::warn!(%error, ?pause, "cannot read links and addresses; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }

    fn publish(&self) {
        let snapshot = self.table.snapshot();
        self.sender.send_if_modified(|current| {
            let changed = **current != snapshot;
            if changed {
                *current = Arc::new(snapshot);
            }
            changed
        });
    }
}

async fn subscribe_and_dump() -> Result<(Socket, Table), DumpError> {
    let events = Socket::open(&GROUPS, RECEIVE_BUFFER)?;
    let mut requests = Socket::open(&[], RECEIVE_BUFFER)?;
    let mut table = Table::default();
    let everything = [
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    ];
    for request in everything {
        requests.dump(request, |message| table.apply(&message)).await?;
    }
    Ok((events, table))
}
