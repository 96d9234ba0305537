//! What the peer is told to send packets to.

use std::net::IpAddr;

use crate::net::transport::Target;
use crate::session::Negotiated;
use crate::{Family, NextHop};

/// The next hop that the peer is told for routes of a family: our own end of the session (RFC 4271 section
/// 5.1.3), with a global address beside a link-local one where the link has one (RFC 2545 section 3). IPv4 routes
/// over IPv6 need the peer's consent (RFC 8950 section 4).
pub(super) fn next_hop(
    family: Family,
    local: Option<IpAddr>,
    target: &Target,
    negotiated: &Negotiated,
) -> Option<NextHop> {
    match (family, local?) {
        (Family::Ipv4Unicast, IpAddr::V4(address)) => Some(NextHop::Ipv4(address)),
        (Family::Ipv6Unicast, IpAddr::V4(_)) => None,
        (Family::Ipv4Unicast, IpAddr::V6(_))
            if !negotiated.codec.extended_next_hop.contains(Family::Ipv4Unicast) =>
        {
            None
        }
        (Family::Ipv4Unicast | Family::Ipv6Unicast, IpAddr::V6(address)) => {
            Some(match (address.is_unicast_link_local(), target.global_address) {
                (true, Some(global)) => NextHop::Ipv6WithLinkLocal { global, link_local: address },
                (true, None) => NextHop::LinkLocal(address),
                (false, _) => NextHop::Ipv6(address),
            })
        }
    }
}
