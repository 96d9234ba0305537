//! Who is who in the rack: names, numbers and addresses, before anything is built.
//!
//! ```text
//!            tor1 4.4.4.4 AS 65004        tor2 5.5.5.5 AS 65005
//!              c1|  c2|  c3|                c1|  c2|  c3|
//!                +----|----|--------+---------+    |    |
//!                |    +----|--------|----+---------+    |
//!                |         +--------|----|----+---------+
//!            tor1|tor2          tor1|tor2         tor1|tor2
//!         c1 1.1.1.1         c2 2.2.2.2         c3 3.3.3.3
//!            AS 65001           AS 65002           AS 65003
//!            10.1.8.192/26      10.1.71.192/26     10.1.240.0/26
//!            fd00:10:1:8::/64   fd00:10:1:71::/64  fd00:10:1:240::/64
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::{Asn, Prefix};

/// One router of the rack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Its name, and that of the ports of others that lead to it.
    pub name: &'static str,
    /// Its AS.
    pub asn: Asn,
    /// Its address on `lo`, and its BGP identifier.
    pub loopback: Ipv4Addr,
    /// Its IPv6 address on `lo`.
    pub loopback_v6: Ipv6Addr,
    /// Its pod blocks: none, or one of each family, IPv4 first.
    pub blocks: Vec<Prefix>,
}

/// Nodes of the rack.
#[must_use]
pub fn nodes() -> Vec<Router> {
    [("c1", 1, [10, 1, 8, 192], 0x8), ("c2", 2, [10, 1, 71, 192], 0x71), ("c3", 3, [10, 1, 240, 0], 0x240)]
        .into_iter()
        .map(|(name, number, block, third)| {
            let block_v6 = Ipv6Addr::new(0xfd00, 0x10, 0x1, third, 0, 0, 0, 0);
            let blocks = [(IpAddr::from(block), 26), (block_v6.into(), 64)];
            let blocks = blocks.into_iter().filter_map(|(at, length)| Prefix::masked(at, length).ok());
            Router { blocks: blocks.collect(), ..router(name, number) }
        })
        .collect()
}

/// ToRs of the rack.
#[must_use]
pub fn tors() -> Vec<Router> {
    vec![router("tor1", 4), router("tor2", 5)]
}

fn router(name: &'static str, number: u8) -> Router {
    Router {
        name,
        asn: Asn(65000 + u32::from(number)),
        loopback: Ipv4Addr::from([number; 4]),
        loopback_v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()),
        blocks: Vec::new(),
    }
}

impl Router {
    /// Both loopback addresses.
    #[must_use]
    pub fn loopbacks(&self) -> [IpAddr; 2] {
        [self.loopback.into(), self.loopback_v6.into()]
    }

    /// All that it originates: its loopback addresses and its blocks.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.loopbacks().map(Prefix::host).into_iter().chain(self.blocks.iter().copied()).collect()
    }

    /// The address that is this far into each of its blocks: pods have 1 and 2, nobody has more.
    #[must_use]
    pub fn pod_addresses(&self, offset: u8) -> Vec<IpAddr> {
        let shift = |block: &Prefix| match block.address() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::from(offset)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(offset)).into()),
        };
        self.blocks.iter().map(shift).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rack_is_numbered_as_documented() {
        let all: Vec<_> = nodes().into_iter().chain(tors()).collect();
        let text = |node: &Router| {
            let prefixes: Vec<_> = node.prefixes().iter().map(ToString::to_string).collect();
            format!("{} {} {}", node.name, node.asn.0, prefixes.join(" "))
        };
        let expected = [
            "c1 65001 1.1.1.1/32 fd00::1/128 10.1.8.192/26 fd00:10:1:8::/64",
            "c2 65002 2.2.2.2/32 fd00::2/128 10.1.71.192/26 fd00:10:1:71::/64",
            "c3 65003 3.3.3.3/32 fd00::3/128 10.1.240.0/26 fd00:10:1:240::/64",
            "tor1 65004 4.4.4.4/32 fd00::4/128",
            "tor2 65005 5.5.5.5/32 fd00::5/128",
        ];
        assert_eq!(all.iter().map(text).collect::<Vec<_>>(), expected);
        let pods: Vec<_> = all[0].pod_addresses(1).iter().map(ToString::to_string).collect();
        assert_eq!(pods, ["10.1.8.193", "fd00:10:1:8::1"]);
    }
}
