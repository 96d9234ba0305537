//! The Router Advertisements of a ToR (RFC 4861 section 6.2): at an interval, and at once when solicited. An agent
//! that discovers its neighbors by them could not find the ToR otherwise.

use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::Result;
use socket2::{Domain, Protocol, Socket, Type};

use super::refused;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 section 6.1.2: of any other a receiver takes nothing.
const HOP_LIMIT: u32 = 255;
const SOLICITATION: u8 = 133;
/// Type 134, hop limit 64, lifetime 1800 s, the rest unspecified; the kernel fills in the checksum.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
/// How often the thread looks whether it should end.
const STOP_SLICE: Duration = Duration::from_millis(50);

/// A socket that sends and hears Neighbor Discovery on one link.
#[derive(Debug)]
pub(super) struct Advertiser {
    socket: Socket,
    interface: u32,
}

impl Advertiser {
    /// Opens it, in the network namespace of this thread.
    pub(super) fn open(interface: u32) -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_multicast_hops_v6(HOP_LIMIT)?;
            socket.set_unicast_hops_v6(HOP_LIMIT)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(interface)?;
            socket.join_multicast_v6(&ALL_ROUTERS, interface)?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(refused("open an ICMPv6 socket"))?, interface })
    }

    /// Advertises until told to stop.
    pub(super) fn run(&self, interval: Duration, stop: &AtomicBool) {
        let everyone = SocketAddrV6::new(ALL_NODES, 0, 0, self.interface).into();
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                // Fails while the link is down, and is tried again.
                let _ = self.socket.send_to(&ADVERTISEMENT, &everyone);
                next = Instant::now() + interval;
            }
            let left = next.saturating_duration_since(Instant::now());
            if self.hears_solicitation(left.clamp(Duration::from_millis(1), STOP_SLICE)) {
                next = Instant::now();
            }
        }
    }

    fn hears_solicitation(&self, limit: Duration) -> bool {
        let mut buffer = [0; 256];
        let mut socket = &self.socket;
        // A timeout is an error too.
        let heard = self.socket.set_read_timeout(Some(limit)).and_then(|()| socket.read(&mut buffer));
        heard.is_ok_and(|length| length > 0 && buffer.first() == Some(&SOLICITATION))
    }
}
