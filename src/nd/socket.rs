//! The raw ICMPv6 socket: one for all uplinks (RFC 3542).
//!
//! In: messages to send and the interfaces whose groups to join. Out: Router Solicitations and Advertisements
//! with the interface and hop limit that they came with. Believes nothing: what to accept is for the machine.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use bgp::InterfaceIndex;
use socket2::{Domain, MaybeUninitSlice, MsgHdr, MsgHdrMut, Protocol, SockAddr, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::discovery::{Received, Transmit};
use super::packet::{ALL_NODES, ALL_ROUTERS, HOP_LIMIT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};

/// Octets of the longest message that is read. FRR's has 24; Neighbor Discovery is never fragmented (RFC 6980).
pub(super) const MAX_MESSAGE: usize = 2048;
/// Octets for the two control messages that the kernel adds, with room to spare.
const MAX_CONTROL: usize = 128;

/// `ICMPV6_FILTER` of `linux/icmpv6.h`, on level `IPPROTO_ICMPV6`. A set bit blocks that type.
const ICMPV6_FILTER: libc::c_int = 1;

/// Octets of the kernel's `cmsghdr`: a `size_t` and two `int` (`linux/socket.h`).
const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// `CMSG_ALIGN` of `linux/socket.h`: where a control message may start.
const CONTROL_ALIGNMENT: usize = size_of::<usize>();

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
    let mut address = SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
    let mut control = [0_u8; MAX_CONTROL];
    let mut slices = [MaybeUninitSlice::new(as_uninit(buffer))];
    let mut header = MsgHdrMut::new()
        .with_addr(&mut address)
        .with_buffers(&mut slices)
        .with_control(as_uninit(&mut control));
    let length = socket.recvmsg(&mut header, 0)?;
    let is_truncated = header.flags().is_truncated();
    let control_length = header.control_len();
    let arrival = Arrival::from_control(control.get(..control_length).unwrap_or_default());
    Ok(match (address.as_socket_ipv6(), arrival) {
        (Some(source), Some(Arrival { interface, hop_limit })) if !is_truncated => {
            Some((length, *source.ip(), interface, hop_limit))
        }
        _ => None,
    })
}

/// What the kernel says of a packet beside its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrival {
    interface: InterfaceIndex,
    hop_limit: u8,
}

impl Arrival {
    /// Reads `IPV6_PKTINFO` and `IPV6_HOPLIMIT` (RFC 3542 section 6). Each control message is a length that
    /// counts itself, a level and a type, and its data, padded to [`CONTROL_ALIGNMENT`].
    fn from_control(mut control: &[u8]) -> Option<Self> {
        let (mut interface, mut hop_limit) = (None, None);
        while let Some((length, rest)) = control.split_first_chunk() {
            let length = usize::from_ne_bytes(*length);
            let (level, rest) = rest.split_first_chunk()?;
            let (kind, _) = rest.split_first_chunk()?;
            let data = control.get(CONTROL_HEADER..length)?;
            match (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) {
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    // `struct in6_pktinfo`: the destination, then the interface.
                    let (index, _) = data.get(size_of::<Ipv6Addr>()..)?.split_first_chunk()?;
                    interface = Some(InterfaceIndex(u32::from_ne_bytes(*index)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let (limit, _) = data.split_first_chunk()?;
                    hop_limit = Some(u8::try_from(i32::from_ne_bytes(*limit)).ok()?);
                }
                _ => {}
            }
            control = control.get(length.next_multiple_of(CONTROL_ALIGNMENT)..).unwrap_or_default();
        }
        Some(Self { interface: interface?, hop_limit: hop_limit? })
    }
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

fn as_uninit(buffer: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the layouts are the same, and `recvmsg` only ever writes initialised octets, as socket2 promises
    // for all of its receiving functions, so that `buffer` is as sound behind the call as before it.
    unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) }
}

fn set_option<T: Copy>(
    socket: &socket2::Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads `length` octets
    // from `value`, which is exactly its size.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn hop_limit(value: i32) -> Vec<u8> {
        let mut control = Vec::new();
        control.extend((CONTROL_HEADER + 4).to_ne_bytes());
        control.extend(libc::IPPROTO_IPV6.to_ne_bytes());
        control.extend(libc::IPV6_HOPLIMIT.to_ne_bytes());
        control.extend(value.to_ne_bytes());
        control.resize(control.len().next_multiple_of(CONTROL_ALIGNMENT), 0);
        control
    }

    #[test]
    fn control_messages_are_read_in_any_order() {
        let info = packet_info(SOURCE, InterfaceIndex(7));
        let expected = Some(Arrival { interface: InterfaceIndex(7), hop_limit: 255 });
        assert_eq!(Arrival::from_control(&[info.clone(), hop_limit(255)].concat()), expected);
        assert_eq!(Arrival::from_control(&[hop_limit(255), info].concat()), expected);
    }

    #[test]
    fn a_missing_or_malformed_control_message_makes_none() {
        let info = packet_info(SOURCE, InterfaceIndex(7));
        assert_eq!(Arrival::from_control(&[]), None);
        assert_eq!(Arrival::from_control(&info), None);
        assert_eq!(Arrival::from_control(&hop_limit(255)), None);
        assert_eq!(Arrival::from_control(&[info.clone(), hop_limit(-1)].concat()), None);
        assert_eq!(Arrival::from_control(&[info.clone(), hop_limit(256)].concat()), None);
        // A length shorter than the header, and one behind the end.
        for length in [0_usize, 15, usize::MAX] {
            let mut control = [hop_limit(255), info.clone()].concat();
            control[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Arrival::from_control(&control), None, "length {length}");
        }
    }

    #[test]
    fn any_control_octets_end() {
        let mut random = fastrand::Rng::with_seed(3542);
        let valid = [packet_info(SOURCE, InterfaceIndex(7)), hop_limit(255)].concat();
        for _ in 0..50_000 {
            let mut control = valid.clone();
            for _ in 0..3 {
                let at = random.usize(..control.len());
                control[at] = random.u8(..);
            }
            control.truncate(random.usize(..=control.len()));
            let _ = Arrival::from_control(&control);
        }
    }
}
