//! Datagrams with what the kernel says of them beside their octets: the interface they came in by, and their TTL or
//! hop limit. For the sockets of Router Discovery and of BFD, which believe nobody but a neighbor on the link.
//!
//! In: a socket that was told to say so (`IP_PKTINFO` and `IP_RECVTTL`, or `IPV6_RECVPKTINFO` and
//! `IPV6_RECVHOPLIMIT`). Out: a datagram's length, source and [`Arrival`]. Obeys RFC 3542 section 6.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use bgp::InterfaceIndex;
use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, Socket};

/// Octets for the two control messages that the kernel adds, with room to spare.
const MAX_CONTROL: usize = 128;
/// Octets of the kernel's `cmsghdr`: a `size_t` and two `int` (`linux/socket.h`).
pub(crate) const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// `CMSG_ALIGN` of `linux/socket.h`: where a control message may start.
pub(crate) const CONTROL_ALIGNMENT: usize = size_of::<usize>();

/// What the kernel says of a packet beside its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) interface: InterfaceIndex,
    /// TTL or hop limit.
    pub(crate) hop_limit: u8,
}

/// The next datagram's length, source and arrival. `None` for one that is longer than the buffer or lacks its control
/// messages.
///
/// # Errors
/// Those of `recvmsg`; `WouldBlock` where a socket that does not block has none.
pub(crate) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, Arrival)>> {
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
    Ok(match (address.as_socket(), arrival) {
        (Some(source), Some(arrival)) if !is_truncated => Some((length, source, arrival)),
        _ => None,
    })
}

impl Arrival {
    /// Reads the control messages of either family. Each is a length that counts itself, a level and a type, and its
    /// data, padded to [`CONTROL_ALIGNMENT`].
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
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // `struct in_pktinfo`: the interface, then two addresses.
                    let (index, _) = data.split_first_chunk()?;
                    interface = Some(InterfaceIndex(u32::from_ne_bytes(*index)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) | (libc::IPPROTO_IP, libc::IP_TTL) => {
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

fn as_uninit(buffer: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the layouts are the same, and `recvmsg` only ever writes initialised octets, as socket2 promises
    // for all of its receiving functions, so that `buffer` is as sound behind the call as before it.
    unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) }
}

/// Sets an option that socket2 does not wrap.
///
/// # Errors
/// Those of `setsockopt`.
pub(crate) fn set_option<T: Copy>(
    socket: &Socket,
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

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut control = Vec::new();
        control.extend((CONTROL_HEADER + data.len()).to_ne_bytes());
        control.extend(level.to_ne_bytes());
        control.extend(kind.to_ne_bytes());
        control.extend(data);
        control.resize(control.len().next_multiple_of(CONTROL_ALIGNMENT), 0);
        control
    }

    fn info_v6(index: u32) -> Vec<u8> {
        let data = [[0xfe_u8; 16].as_slice(), &index.to_ne_bytes()].concat();
        message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
    }

    fn hop_limit(value: i32) -> Vec<u8> {
        message(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &value.to_ne_bytes())
    }

    #[test]
    fn control_messages_are_read_in_any_order() {
        let expected = Some(Arrival { interface: InterfaceIndex(7), hop_limit: 255 });
        assert_eq!(Arrival::from_control(&[info_v6(7), hop_limit(255)].concat()), expected);
        assert_eq!(Arrival::from_control(&[hop_limit(255), info_v6(7)].concat()), expected);
        let info_v4 = [7_u32.to_ne_bytes(), [192, 0, 2, 1], [192, 0, 2, 2]].concat();
        let info_v4 = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &info_v4);
        let ttl = message(libc::IPPROTO_IP, libc::IP_TTL, &255_i32.to_ne_bytes());
        assert_eq!(Arrival::from_control(&[info_v4, ttl].concat()), expected);
    }

    #[test]
    fn a_missing_or_malformed_control_message_makes_none() {
        let info = info_v6(7);
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
        let valid = [info_v6(7), hop_limit(255)].concat();
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
