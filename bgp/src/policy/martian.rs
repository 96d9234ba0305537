//! Networks that no neighbor can have a route to (RFC 6890, RFC 1122 section 3.2.1.3, RFC 4291 section 2.4).
//!
//! Documentation networks (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32) and private ones are not
//! in the list: fabrics and labs do use them, and a route to one does no harm.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Ipv4Prefix, Ipv6Prefix, Prefix};

const IPV4: [(Ipv4Addr, u8); 5] = [
    // "This network". The default route and the halves of it are shorter, so they are not inside.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local (RFC 3927).
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // IETF protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Multicast (224/4) and reserved (240/4) together, so that 224.0.0.0/3 itself is caught too.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

const IPV6: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    // IPv4-mapped.
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    // Link-local.
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    // Multicast.
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether the prefix is inside a network that cannot be routed. A prefix that merely contains one is fine.
#[must_use]
pub fn is_martian(prefix: Prefix) -> bool {
    match prefix {
        Prefix::V4(_) => IPV4
            .iter()
            .filter_map(|&(address, length)| Ipv4Prefix::masked(address, length))
            .any(|network| Prefix::V4(network).covers(prefix)),
        Prefix::V6(_) => IPV6
            .iter()
            .filter_map(|&(address, length)| Ipv6Prefix::masked(address, length))
            .any(|network| Prefix::V6(network).covers(prefix)),
    }
}
