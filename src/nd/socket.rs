//! The raw ICMPv6 socket: one for all uplinks (RFC 3542).
//!
//! In: messages to send and the interfaces whose groups to join. Out: Router Solicitations and Advertisements
//! with the interface and hop limit that they came with. Believes nothing: what to accept is for the machine.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use bgp::InterfaceIndex;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::discovery::{Received, Transmit};
use super::packet::{ALL_NODES, ALL_ROUTERS, HOP_LIMIT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use crate::datagram::{self, Arrival, CONTROL_ALIGNMENT, CONTROL_HEADER, set_option};

/// Octets of the longest message that is read. FRR's has 24; Neighbor Discovery is never fragmented (RFC 6980).
pub(super) const MAX_MESSAGE: usize = 2048;
/// `ICMPV6_FILTER` of `linux/icmpv6.h`, on level `IPPROTO_ICMPV6`. A set bit blocks that type.
const ICMPV6_FILTER: libc::c_int = 1;

/// The socket and the groups that it is a member of.
#[derive(Debug)]
pub(super) struct Socket {
    inner: AsyncFd<socket2::Socket>,
    joined: BTreeSet<(InterfaceIndex, Ipv6Addr)>,
}

impl Socket {
    /// Opens it. Needs CAP_NET_RAW, here and nowhere later. Belongs to the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        // First of all, so that nothing else is ever queued.
        let mut filter = [u32::MAX; 8];
        for kind in [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT] {
            if let Some(word) = filter.get_mut(usize::from(kind / 32)) {
                *word &= !(1 << (kind % 32));
            }
        }
        set_option(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32)?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        // Only groups that this socket joined, not those of everybody on the host. It holds for all interfaces
        // alike, so the machine still looks at the interface.
        socket.set_multicast_all_v6(false)?;
        socket.set_nonblocking(true)?;
        // SAFETY: `socket` owns its descriptor, which is open and stays the same until the `AsyncFd` drops it.
        let inner = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { inner, joined: BTreeSet::new() })
    }

    /// Is a member of both groups on exactly these interfaces. What cannot be joined yet is tried again at the
    /// next call.
    pub(super) fn set_memberships(&mut self, interfaces: impl Iterator<Item = InterfaceIndex>) {
        let wanted: BTreeSet<_> =
            interfaces.flat_map(|index| [(index, ALL_NODES), (index, ALL_ROUTERS)]).collect();
        let socket = self.inner.get_ref();
        for &(interface, group) in self.joined.difference(&wanted) {
            if let Err(error) = socket.leave_multicast_v6(&group, interface.0) {
                tracing::debug!(interface = interface.0, %group, %error, "cannot leave group");
            }
        }
        self.joined.retain(|membership| wanted.contains(membership));
        for (interface, group) in wanted {
            if self.joined.contains(&(interface, group)) {
                continue;
            }
            match socket.join_multicast_v6(&group, interface.0) {
                Ok(()) => {
                    self.joined.insert((interface, group));
                }
                Err(error) => tracing::debug!(interface = interface.0, %group, %error, "cannot join group"),
            }
        }
    }

    /// Sends one message or fails at once; it does not wait for room, since a later one replaces it.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let destination = SockAddr::from(SocketAddrV6::new(transmit.destination, 0, 0, transmit.interface.0));
        let control = packet_info(transmit.source, transmit.interface);
        let buffers = [IoSlice::new(&transmit.octets)];
        let message = MsgHdr::new().with_addr(&destination).with_buffers(&buffers).with_control(&control);
        self.inner.get_ref().sendmsg(&message, 0).map(drop)
    }

    /// Waits for the next message that is whole and says where it came from. Cancel-safe: a message is taken
    /// from the kernel only in the poll that returns it.
    pub(super) async fn receive<'a>(&self, buffer: &'a mut [u8; MAX_MESSAGE]) -> io::Result<Received<'a>> {
        let (length, source, interface, hop_limit) = loop {
            let received = self
                .inner
                .async_io(Interest::READABLE, |socket| receive_once(socket, buffer.as_mut_slice()))
                .await?;
            if let Some(received) = received {
                break received;
            }
        };
        let octets = buffer.get(..length).unwrap_or_default();
        Ok(Received { interface, source, hop_limit, octets })
    }
}

/// A message's length, source, interface and hop limit. `None` for one that is longer than the buffer or lacks
/// its control messages.
fn receive_once(
    socket: &socket2::Socket,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Ipv6Addr, InterfaceIndex, u8)>> {
    let Some((length, source, Arrival { interface, hop_limit })) = datagram::receive(socket, buffer)? else {
        return Ok(None);
    };
    Ok(match source.ip() {
        IpAddr::V6(source) => Some((length, source, interface, hop_limit)),
        IpAddr::V4(_) => None,
    })
}

/// The control message that chooses source and interface (RFC 3542 section 6.2).
fn packet_info(source: Ipv6Addr, interface: InterfaceIndex) -> Vec<u8> {
    let length = CONTROL_HEADER + size_of::<libc::in6_pktinfo>();
    let mut control = Vec::with_capacity(length.next_multiple_of(CONTROL_ALIGNMENT));
    control.extend(length.to_ne_bytes());
    control.extend(libc::IPPROTO_IPV6.to_ne_bytes());
    control.extend(libc::IPV6_PKTINFO.to_ne_bytes());
    control.extend(source.octets());
    control.extend(interface.0.to_ne_bytes());
    control.resize(length.next_multiple_of(CONTROL_ALIGNMENT), 0);
    control
}
