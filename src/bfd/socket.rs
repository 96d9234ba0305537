//! The UDP sockets of BFD (RFC 5881 section 4): one for each family that receives, one for each session that sends.
//!
//! In: packets to send. Out: datagrams with the interface and TTL that they came with. Believes nothing: what to
//! accept is for `sessions`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bgp::InterfaceIndex;
use bgp::rib::Gateway;
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sessions::{HOP_LIMIT, Received};
use crate::datagram::{self, Arrival, set_option};

/// RFC 5881 section 4: where control packets of single-hop sessions go.
const PORT: u16 = 3784;
/// RFC 5881 section 4: where they come from.
const FIRST_SOURCE_PORT: u16 = 49152;
/// Source ports that are tried before a session has to wait: others may have taken some.
const PORTS_TRIED: u32 = 16;
/// CS6, as routing protocols have it: a queue full of data must not pass for a dead path.
const TRAFFIC_CLASS: u32 = 0xc0;
/// Octets of the longest datagram that is read: the longest packet there can be, by its own length field.
pub(super) const MAX_DATAGRAM: usize = 255;

/// A socket on the BFD port.
#[derive(Debug)]
pub(super) struct Receiver(AsyncFd<socket2::Socket>);

impl Receiver {
    /// Opens it in the network namespace of this thread.
    pub(super) fn open(domain: Domain) -> io::Result<Self> {
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        let unspecified: IpAddr = if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32)?;
            socket.set_recv_hoplimit_v6(true)?;
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1_i32)?;
            set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &1_i32)?;
            Ipv4Addr::UNSPECIFIED.into()
        };
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(unspecified, PORT).into())?;
        // SAFETY: `socket` owns its descriptor, which is open and stays the same until the `AsyncFd` drops it.
        let inner = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self(inner))
    }

    /// Waits for a datagram. `None` for one that is too long, or of which the kernel does not say where it came from.
    /// Cancel-safe: a datagram is taken from the kernel only in the poll that returns it.
    pub(super) async fn receive<'a>(
        &self,
        buffer: &'a mut [u8; MAX_DATAGRAM],
    ) -> io::Result<Option<Received<'a>>> {
        let received = self
            .0
            .async_io(Interest::READABLE, |socket| datagram::receive(socket, buffer.as_mut_slice()))
            .await?;
        Ok(received.map(|received| with_octets(received, buffer)))
    }

    /// The same without waiting: an error of the kind `WouldBlock` where there is none.
    pub(super) fn try_receive<'a>(
        &self,
        buffer: &'a mut [u8; MAX_DATAGRAM],
    ) -> io::Result<Option<Received<'a>>> {
        let received = datagram::receive(self.0.get_ref(), buffer.as_mut_slice())?;
        Ok(received.map(|received| with_octets(received, buffer)))
    }
}

fn with_octets((length, source, arrival): (usize, SocketAddr, Arrival), buffer: &[u8]) -> Received<'_> {
    let Arrival { interface, hop_limit } = arrival;
    Received { source: source.ip(), interface, hop_limit, octets: buffer.get(..length).unwrap_or_default() }
}

/// What one session sends by: a source port of its own, the same for all of its packets, however often the link or the
/// address goes that the socket is bound to.
#[derive(Debug, Default)]
pub(super) struct Sender {
    port: Option<u16>,
    socket: Option<socket2::Socket>,
}

impl Sender {
    /// Sends one packet or fails at once; the next interval has another. Fails while the link or the source address is
    /// not there. `taken` are the ports of other sessions.
    pub(super) fn send(
        &mut self,
        gateway: &Gateway,
        local: Option<IpAddr>,
        taken: &BTreeSet<u16>,
        octets: &[u8],
    ) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open(gateway, local, taken)?,
        };
        let outcome = socket.send(octets).map(drop);
        if !outcome.as_ref().is_err_and(is_without_link) {
            self.socket = Some(socket);
        }
        outcome
    }

    /// Its source port, once it has one.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    fn open(
        &mut self,
        gateway: &Gateway,
        local: Option<IpAddr>,
        taken: &BTreeSet<u16>,
    ) -> io::Result<socket2::Socket> {
        let domain = if gateway.address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // RFC 5881 section 5.
        if domain == Domain::IPV6 {
            socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
        } else {
            socket.set_ttl_v4(HOP_LIMIT.into())?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
        }
        // Nobody reads what comes in here: the least that the kernel gives.
        socket.set_recv_buffer_size(0)?;
        socket.set_nonblocking(true)?;
        let unspecified: IpAddr =
            if domain == Domain::IPV6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let local = local.unwrap_or(unspecified);
        self.port = Some(bind(&socket, local, gateway.interface, self.port, taken)?);
        socket.connect(&address(gateway.address, PORT, gateway.interface).into())?;
        Ok(socket)
    }
}

/// Binds to the port that the session had, or to one that no other has. Gives it.
fn bind(
    socket: &socket2::Socket,
    local: IpAddr,
    interface: Option<InterfaceIndex>,
    port: Option<u16>,
    taken: &BTreeSet<u16>,
) -> io::Result<u16> {
    let drawn =
        (0..PORTS_TRIED).map(|_| fastrand::u16(FIRST_SOURCE_PORT..)).filter(|port| !taken.contains(port));
    for port in port.into_iter().chain(drawn) {
        match socket.bind(&address(local, port, interface).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome.map(|()| port),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Whether what a socket is bound to is gone.
fn is_without_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL | libc::EINVAL))
}

/// A link-local address is one of its link.
fn address(ip: IpAddr, port: u16, interface: Option<InterfaceIndex>) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, interface.map_or(0, |index| index.0)).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopbacks() -> [Gateway; 2] {
        ["127.0.0.1", "::1"].map(|address| Gateway { address: address.parse().unwrap(), interface: None })
    }

    fn bound(sender: &Sender) -> u16 {
        sender.socket.as_ref().unwrap().local_addr().unwrap().as_socket().unwrap().port()
    }

    /// RFC 5881 sections 4 and 5.
    #[test]
    fn packets_leave_by_one_port_of_the_range_and_with_255_hops() {
        for gateway in loopbacks() {
            let mut sender = Sender::default();
            // Nobody listens there: that is the next packet's error at most.
            let _ = sender.send(&gateway, None, &BTreeSet::new(), &[0]);
            let _ = sender.send(&gateway, None, &BTreeSet::new(), &[0]);
            let port = sender.port().unwrap();
            assert!(port >= FIRST_SOURCE_PORT, "{port}");
            assert_eq!(bound(&sender), port);
            let socket = sender.socket.as_ref().unwrap();
            let hops = if gateway.address.is_ipv6() { socket.unicast_hops_v6() } else { socket.ttl_v4() };
            assert_eq!(hops.unwrap(), u32::from(HOP_LIMIT));
            assert_eq!(socket.peer_addr().unwrap().as_socket().unwrap().port(), PORT);
        }
    }

    #[test]
    fn a_session_that_has_lost_its_socket_keeps_its_port() {
        for gateway in loopbacks() {
            let mut sender = Sender::default();
            let _ = sender.send(&gateway, None, &BTreeSet::new(), &[0]);
            let port = sender.port();
            for _ in 0..10 {
                sender.socket = None;
                let _ = sender.send(&gateway, None, &BTreeSet::new(), &[0]);
                assert_eq!(sender.port(), port);
                assert_eq!(Some(bound(&sender)), port);
            }
        }
    }

    #[test]
    fn a_port_of_another_session_is_not_taken() {
        // All but one in a hundred.
        let taken: BTreeSet<u16> = (FIRST_SOURCE_PORT..=u16::MAX).filter(|port| port % 100 != 0).collect();
        let [gateway, _] = loopbacks();
        let mut opened = 0;
        for _ in 0..200 {
            let mut sender = Sender::default();
            let _ = sender.send(&gateway, None, &taken, &[0]);
            opened += u32::from(sender.port().is_some());
            assert!(sender.port().is_none_or(|port| !taken.contains(&port)));
        }
        assert!(opened > 0);
    }
}
