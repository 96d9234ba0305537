//! The task that keeps the addresses true.
//!
//! Two sockets: events on one, dumps over the other (DESIGN 4.9). The subscription comes before the dump, so that
//! nothing falls between them; an overrun or a dump that failed means another full dump, until which the addresses stay
//! as they were.

use std::sync::Arc;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use tokio::sync::watch;

use super::PodAddresses;
use super::table::{DUMPED_FAMILIES, Table, dump_request, may_be_of_pod};
use crate::kernel::netlink::{
    self, DumpError, GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE, GROUP_LINK, RECEIVE_BUFFER, RTM_GETROUTE, Socket,
};

/// Links come on the same socket as routes because the kernel takes IPv4 routes with them without an event of its own.
const GROUPS: [u32; 3] = [GROUP_LINK, GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE];
/// A dump is interrupted when a link changes meanwhile, which is over soon.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// Netlink that fails for long is not worth more than a look now and then.
const RETRY_LAST: Duration = Duration::from_secs(5);

/// Follows the network namespace of this thread until every receiver is gone. What is sent is `None` until the kernel
/// has told of all routes once.
pub async fn run(addresses: watch::Sender<Option<PodAddresses>>) {
    let closed = addresses.clone();
    tokio::select! {
        () = closed.closed() => {}
        never = follow(addresses) => match never {},
    }
}

/// Nothing: what has no end.
enum Never {}

async fn follow(addresses: watch::Sender<Option<PodAddresses>>) -> Never {
    let mut pause = RETRY_FIRST;
    loop {
        let error = match Monitor::start().await {
            Ok(mut monitor) => loop {
                monitor.publish(&addresses);
                match monitor.follow().await {
                    Ok(()) => pause = RETRY_FIRST,
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::warn!(%error, ?pause, "routes to pods are read anew");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

struct Monitor {
    events: Socket,
    table: Table,
}

impl Monitor {
    async fn start() -> Result<Self, DumpError> {
        let events = Socket::open(&GROUPS, RECEIVE_BUFFER)?;
        events.hear_host_routes()?;
        let mut requests = Socket::open(&[], RECEIVE_BUFFER)?;
        let mut table = Table::default();
        // Links first: a route says nothing of the name.
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        requests.dump(links, |message| table.apply(&message, 0)).await?;
        for family in DUMPED_FAMILIES {
            let each = |message: &netlink::Message<'_>| {
                // The table may be that of the whole Internet: most is not worth decoding.
                if may_be_of_pod(message.payload) {
                    message.decode().iter().for_each(|message| table.apply(message, 0));
                }
            };
            requests.dump_raw(RTM_GETROUTE, &dump_request(family), each).await?;
        }
        Ok(Self { events, table })
    }

    /// Takes in what changes. Cancel safe.
    async fn follow(&mut self) -> Result<(), DumpError> {
        let Self { events, table } = self;
        events
            .events(|message| message.decode().iter().for_each(|decoded| table.apply(decoded, message.flags)))
            .await
    }

    fn publish(&self, addresses: &watch::Sender<Option<PodAddresses>>) {
        let now = self.table.addresses();
        addresses.send_if_modified(|known| {
            let has_changed = known.as_deref() != Some(&now);
            if has_changed {
                *known = Some(Arc::new(now));
            }
            has_changed
        });
    }
}
