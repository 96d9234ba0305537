//! Reading the kernel's tables: whole, or no further than the first route of ours.
//!
//! Out: what the kernel has, for [`super::delta`] to take in, or why it could not be read: half a table is never given.

use bgp::{Families, Family};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Settings;
use super::delta::Reading;
use super::nexthop::{self, Nexthop};
use super::route::Owner;
use crate::kernel::netlink::{DumpError, RECEIVE_BUFFER, Socket};

/// Families in which our table has a route of ours.
pub(super) async fn inherited(settings: &Settings) -> Result<Families, DumpError> {
    let mut inherited = Families::NONE;
    for family in Family::ALL {
        let family_of_kernel = match family {
            Family::Ipv4Unicast => AddressFamily::Inet,
            Family::Ipv6Unicast => AddressFamily::Inet6,
        };
        let mut request = request(settings, family_of_kernel);
        // Since Linux 4.20 the kernel skips all others, however many they are.
        request.header.protocol = settings.ownership.protocol.into();
        let socket = Socket::open(&[], RECEIVE_BUFFER)?;
        let is_ours = |message| match message {
            RouteNetlinkMessage::NewRoute(route) => {
                settings.ownership.observe(&route).is_some_and(|observation| observation.owner == Owner::Ours)
            }
            _ => false,
        };
        match socket.dump_has(RouteNetlinkMessage::GetRoute(request), is_ours).await {
            Ok(true) => inherited.insert(family),
            Ok(false) => {}
            // The kernel makes a table when the first route enters it.
            Err(DumpError::Kernel(error)) if error.errno == libc::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(inherited)
}

/// All routes of our table that could be ours or in our way, both families.
pub(super) async fn routes(settings: &Settings) -> Result<Reading, DumpError> {
    let mut reading = Reading::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        // A new socket each time: nothing of a dump that failed can be taken for the next one's.
        let mut socket = Socket::open(&[], RECEIVE_BUFFER)?;
        let result = socket
            .dump(RouteNetlinkMessage::GetRoute(request(settings, family)), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message
                    && let Some(observation) = settings.ownership.observe(&route)
                {
                    reading.add(&settings.ownership, observation);
                }
            })
            .await;
        match result {
            // The kernel makes a table when the first route enters it.
            Err(DumpError::Kernel(error)) if error.errno == libc::ENOENT => {}
            result => result?,
        }
    }
    Ok(reading)
}

/// All nexthop objects.
pub(super) async fn objects() -> Result<Vec<Nexthop>, DumpError> {
    let mut objects = Vec::new();
    let mut socket = Socket::open(&[], RECEIVE_BUFFER)?;
    socket
        .dump_raw(nexthop::READ, &nexthop::dump_request(), |message| {
            objects.extend(nexthop::parse(message.payload))
        })
        .await?;
    Ok(objects)
}

fn request(settings: &Settings, family: AddressFamily) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.attributes.push(RouteAttribute::Table(settings.ownership.table));
    request
}
