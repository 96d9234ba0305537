//! Next hops on the wire: NEXT_HOP (RFC 4271 section 5.1.3) and the next hop field of MP_REACH_NLRI (RFC 2545
//! section 3, RFC 8950 section 3), in the forms that are seen in the field.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};

use super::super::update::LinkLocalForm;
use crate::{Family, NextHop};

/// Why a next hop cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextHopFault {
    /// A length that the family does not have, so that what follows cannot be located either.
    Length,
    /// An address that no host can have.
    Martian,
}

/// NEXT_HOP: an IPv4 address that a host may have (RFC 4271 section 6.3).
pub(super) fn decode_ipv4(octets: [u8; 4]) -> Result<NextHop, NextHopFault> {
    let address = Ipv4Addr::from(octets);
    // 240.0.0.0/4 is reserved (RFC 1112 section 4) and holds the limited broadcast address.
    let martian = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || octets.first().is_some_and(|&first| first >= 240);
    if martian { Err(NextHopFault::Martian) } else { Ok(NextHop::Ipv4(address)) }
}

/// The next hop field of MP_REACH_NLRI.
pub(super) fn decode_mp(family: Family, octets: &[u8]) -> Result<NextHop, NextHopFault> {
    let (addresses, rest) = octets.as_chunks::<16>();
    match (addresses, rest) {
        ([], rest) => match (family, <[u8; 4]>::try_from(rest)) {
            (Family::Ipv4Unicast, Ok(octets)) => decode_ipv4(octets),
            _ => Err(NextHopFault::Length),
        },
        ([only], []) => single(Ipv6Addr::from(*only)),
        ([first, second], []) => pair(Ipv6Addr::from(*first), Ipv6Addr::from(*second)),
        // 24 and 48 belong to VPN families.
        _ => Err(NextHopFault::Length),
    }
}

fn single(address: Ipv6Addr) -> Result<NextHop, NextHopFault> {
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        Err(NextHopFault::Martian)
    } else if address.is_unicast_link_local() {
        Ok(NextHop::LinkLocal(address))
    } else {
        Ok(NextHop::Ipv6(address))
    }
}

/// FRR writes a link-local address alone twice, BIRD writes it behind the unspecified address.
fn pair(global: Ipv6Addr, link_local: Ipv6Addr) -> Result<NextHop, NextHopFault> {
    if !link_local.is_unicast_link_local() {
        // As FRR does: the second half says nothing, the first one stands alone.
        return single(global);
    }
    if global.is_unspecified() {
        return Ok(NextHop::LinkLocal(link_local));
    }
    match single(global)? {
        NextHop::Ipv6(global) => Ok(NextHop::Ipv6WithLinkLocal { global, link_local }),
        _ => Ok(NextHop::LinkLocal(link_local)),
    }
}

/// Appends the next hop field without its length. [`NextHop::Itself`] has no wire form and adds nothing.
pub(in crate::message) fn encode_mp(next_hop: NextHop, form: LinkLocalForm, out: &mut BytesMut) {
    match next_hop {
        NextHop::Itself => {}
        NextHop::Ipv4(address) => out.put_slice(&address.octets()),
        NextHop::Ipv6(address) => out.put_slice(&address.octets()),
        NextHop::LinkLocal(address) => {
            out.put_slice(&address.octets());
            match form {
                LinkLocalForm::Once => {}
                LinkLocalForm::Twice => out.put_slice(&address.octets()),
            }
        }
        NextHop::Ipv6WithLinkLocal { global, link_local } => {
            out.put_slice(&global.octets());
            out.put_slice(&link_local.octets());
        }
    }
}
