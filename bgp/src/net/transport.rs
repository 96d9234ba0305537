//! TCP as BGP wants it: bound to the link, with the hop limit of RFC 5082 and the key of RFC 2385 where set.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::InterfaceIndex;

/// CS6, network control (RFC 4594 section 3.1), as it stands in the traffic class octet.
const TRAFFIC_CLASS_CS6: u32 = 0xc0;
/// `TCP_MD5SIG_MAXKEYLEN` (`linux/tcp.h`).
const MD5_MAX_KEY_LENGTH: usize = 80;

/// Where a peer is and how it is reached. A snapshot: another place or way means another session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Address and port; a link-local address carries its interface as scope.
    pub remote: SocketAddr,
    /// The link, for an unnumbered neighbor.
    pub interface: Option<BoundInterface>,
    /// Our own link-local address there, for an unnumbered neighbor: the one that it was told in our Router
    /// Advertisements, and that it knows us by.
    pub link_local: Option<Ipv6Addr>,
    /// A global IPv6 address of ours on that link, to be sent beside the link-local next hop (RFC 2545 section 3).
    pub global_address: Option<Ipv6Addr>,
    /// Hop limit sent, and demanded of the peer.
    pub hop_limit: HopLimit,
    /// TCP MD5 key.
    pub md5: Option<Md5Key>,
}

impl Target {
    /// Whether a session with one goes on with the other: they differ in nothing but what we say of ourselves. The
    /// addresses of a link come and go (SLAAC), and that is no reason to lose routes.
    pub(super) fn reaches_as(&self, other: &Self) -> bool {
        let Self { remote, interface, link_local, global_address: _, hop_limit, md5 } = self;
        (remote, interface, link_local) == (&other.remote, &other.interface, &other.link_local)
            && (hop_limit, md5) == (&other.hop_limit, &other.md5)
    }
}

/// An interface to which sockets are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundInterface {
    /// For SO_BINDTODEVICE.
    pub name: String,
    /// The scope of link-local addresses.
    pub index: InterfaceIndex,
}

/// The hop limit of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopLimit {
    /// The system's: iBGP.
    System,
    /// 1: eBGP to a neighbor on the link (RFC 4271 leaves it open; FRR and BIRD do the same).
    Link,
    /// Sent as 255, and anything lower from the peer is dropped by the kernel (RFC 5082).
    Gtsm,
}

/// A TCP MD5 key (RFC 2385): 1 to 80 octets. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Vec<u8>);

/// A key of another length than 1 to 80 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TCP MD5 key has 1 to {MD5_MAX_KEY_LENGTH} octets, not {0}")]
pub struct Md5KeyLength(pub usize);

impl Md5Key {
    /// Takes 1 to 80 octets.
    ///
    /// # Errors
    /// [`Md5KeyLength`].
    pub fn new(key: Vec<u8>) -> Result<Self, Md5KeyLength> {
        if key.is_empty() || key.len() > MD5_MAX_KEY_LENGTH {
            return Err(Md5KeyLength(key.len()));
        }
        Ok(Self(key))
    }
}

impl std::fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5Key(..)")
    }
}

/// Dials. Dropping the future gives up.
pub(super) async fn connect(target: Target) -> io::Result<TcpStream> {
    let domain = Domain::for_address(target.remote);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if let Some(interface) = &target.interface {
        socket.bind_device(Some(interface.name.as_bytes()))?;
    }
    if let (Some(address), Some(interface)) = (target.link_local, &target.interface) {
        socket.bind(&SocketAddr::from(SocketAddrV6::new(address, 0, 0, interface.index.0)).into())?;
    }
    if let Some(key) = &target.md5 {
        set_md5_key(&socket, target.remote.ip(), Some(key))?;
    }
    set_options(&socket, target.remote.ip(), target.hop_limit)?;
    TcpSocket::from_std_stream(socket.into()).connect(target.remote).await
}

/// The options of a connection that the peer opened.
pub(super) fn configure_accepted(stream: &TcpStream, target: &Target) -> io::Result<()> {
    set_options(&SockRef::from(stream), target.remote.ip(), target.hop_limit)
}

fn set_options(socket: &Socket, remote: IpAddr, hop_limit: HopLimit) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let hops = match hop_limit {
        HopLimit::System => None,
        HopLimit::Link => Some(1),
        HopLimit::Gtsm => Some(255),
    };
    // A peer on our dual-stack listener may be IPv4 on an IPv6 socket: the family of the socket decides for the
    // IPv6 options, that of the address for the others.
    if socket.domain()? == Domain::IPV6 {
        socket.set_tclass_v6(TRAFFIC_CLASS_CS6)?;
        if let Some(hops) = hops {
            socket.set_unicast_hops_v6(hops)?;
        }
        if hop_limit == HopLimit::Gtsm {
            set_integer(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, 255)?;
        }
    }
    if remote.to_canonical().is_ipv4() {
        socket.set_tos_v4(TRAFFIC_CLASS_CS6)?;
        if let Some(hops) = hops {
            socket.set_ttl_v4(hops)?;
        }
        if hop_limit == HopLimit::Gtsm {
            set_integer(socket, libc::IPPROTO_IP, libc::IP_MINTTL, 255)?;
        }
    }
    Ok(())
}

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct TcpMd5Sig {
    address: socket2::SockAddrStorage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface_index: i32,
    key: [u8; MD5_MAX_KEY_LENGTH],
}

/// Sets the key of one peer on a socket, or takes it away. The kernel finds keys by address alone: two peers
/// with one link-local address on two links cannot have two keys.
pub(super) fn set_md5_key(socket: &Socket, peer: IpAddr, key: Option<&Md5Key>) -> io::Result<()> {
    let bytes = key.map_or(&[][..], |key| &key.0);
    // On an IPv6 socket the kernel wants IPv4 peers in mapped form.
    let address = match (socket.domain()? == Domain::IPV6, peer) {
        (true, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => peer,
    };
    let mut padded = [0; MD5_MAX_KEY_LENGTH];
    padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let option = TcpMd5Sig {
        address: socket2::SockAddr::from(SocketAddr::new(address, 0)).as_storage(),
        flags: 0,
        prefix_length: 0,
        key_length: u16::try_from(bytes.len()).map_err(io::Error::other)?,
        interface_index: 0,
        key: padded,
    };
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option)
}

fn set_integer(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option(socket, level, name, &value)
}

fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of one live `T` without padding that matters, and the kernel
    // only reads it during the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
