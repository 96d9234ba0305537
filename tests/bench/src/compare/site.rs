//! Where a measurement takes place: the agent's namespace and two ToRs', joined by veth pairs.
//!
//! ```text
//! BENCH-tor1 (AS 65101)  dut --- tor1 \
//!                                      BENCH-dut: the agent (AS 65000, 10.255.0.1)
//! BENCH-tor2 (AS 65102)  dut --- tor2 /
//! ```
//!
//! Link-local addresses are fixed, for daemons that must be told those of their neighbors. All is gone when the site
//! is dropped; what a bench leaves that was killed, the next one clears, or `lab clean`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bgp::Asn;
use lab::{Netns, Port, Result, Scratch, cable};

/// The agent's AS.
pub(super) const ASN: Asn = Asn(65000);
/// The agent's loopback and router id.
pub(super) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// What a ToR calls its end of the cable.
pub(super) const TOR_PORT: &str = "dut";
/// The kernel takes a turn of its own to make an address usable.
const LINK_LOCAL_LIMIT: Duration = Duration::from_secs(5);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// One cable to a ToR, seen from the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uplink {
    /// The interface at the agent's end.
    pub(super) interface: &'static str,
    /// Its address there.
    pub(super) own: Ipv6Addr,
    /// The ToR's address on the cable.
    pub(super) tor: Ipv6Addr,
    /// The ToR's AS.
    pub(super) tor_asn: Asn,
    /// The ToR's BGP identifier.
    pub(super) tor_router_id: Ipv4Addr,
}

/// The two uplinks of the agent.
pub(super) fn uplinks() -> [Uplink; 2] {
    [("tor1", 1_u8), ("tor2", 2)].map(|(interface, number)| Uplink {
        interface,
        own: Ipv6Addr::from_bits(LINK_LOCAL.to_bits() | 0xd0 | u128::from(number)),
        tor: Ipv6Addr::from_bits(LINK_LOCAL.to_bits() | 0xa0 | u128::from(number)),
        tor_asn: Asn(65100 + u32::from(number)),
        tor_router_id: Ipv4Addr::new(192, 0, 2, number),
    })
}

/// The namespaces.
#[derive(Debug)]
pub(super) struct Site {
    /// The agent's.
    pub(super) dut: Netns,
    /// The ToRs', in the order of [`uplinks`]. Only the second is good for a loss of carrier: the two ends of its cable
    /// have different interface indices, by which the kernel tells a veth from a real device, and acts at once. For a
    /// real one it waits up to a second if any link of the machine has changed within the last (`net/core/link_watch.c`).
    pub(super) tors: [Netns; 2],
    /// Where the daemons keep their files.
    pub(super) directory: PathBuf,
    /// Last, as its directory goes last.
    _scratch: Scratch,
}

impl Site {
    /// Makes the namespaces, lays the cables and gives the addresses.
    pub(super) fn build() -> Result<Self> {
        let mut scratch = Scratch::create(&format!("bench-{}", std::process::id()))?;
        let directory = scratch.directory("dut")?;
        let dut = scratch.netns("dut")?;
        let [first, second] = uplinks();
        let tors = [scratch.netns(first.interface)?, scratch.netns(second.interface)?];
        for (name, value) in
            [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv4/fib_multipath_hash_policy", 1)]
        {
            dut.set_sysctl(name, value)?;
        }
        dut.add_address("lo", LOOPBACK.into(), 32)?;
        for (uplink, tor) in uplinks().iter().zip(&tors) {
            let near = Port { netns: &dut, name: uplink.interface };
            let far = Port { netns: tor, name: TOR_PORT };
            cable(near, far)?;
            for (port, address) in [(near, uplink.own), (far, uplink.tor)] {
                let conf = format!("ipv6/conf/{}", port.name);
                // The address is ours to give, and usable at once: no duplicate address detection.
                port.netns.set_sysctl(&format!("{conf}/addr_gen_mode"), 1)?;
                port.netns.set_sysctl(&format!("{conf}/accept_dad"), 0)?;
                port.netns.set_up(port.name)?;
                port.netns.add_address(port.name, address.into(), 64)?;
            }
            for port in [near, far] {
                port.netns.await_link_local(port.name, LINK_LOCAL_LIMIT)?;
            }
        }
        Ok(Self { dut, tors, directory, _scratch: scratch })
    }
}
