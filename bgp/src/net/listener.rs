//! The listener on TCP 179, for both families. It knows no neighbor: it lets those through that it is told of, and
//! hands each connection, with the address and link that it came from, to its owner, who decides before a byte is read.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::admission::{self, Caller};
use super::transport::{self, Md5Key};
use crate::InterfaceIndex;

/// Connections that the kernel holds for us while we are busy; a rack has a handful of neighbors.
const BACKLOG: i32 = 64;

/// A connection that somebody opened to us.
#[derive(Debug)]
pub struct Accepted {
    /// The connection; nothing was read.
    pub stream: TcpStream,
    /// Who opened it; an IPv4 peer as such, not mapped.
    pub address: IpAddr,
    /// The link, for a link-local address.
    pub interface: Option<InterfaceIndex>,
}

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Listens on every address of the namespace.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2): the port is taken, or needs CAP_NET_BIND_SERVICE.
    pub fn bind(port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        // A connection of the process before us may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        // The answer to a SYN leaves before anybody knows whose it is: a peer that uses GTSM must not drop it.
        socket.set_unicast_hops_v6(255)?;
        socket.set_ttl_v4(255)?;
        socket.bind(&SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)).into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { inner: TcpListener::from_std(socket.into())? })
    }

    /// Has the kernel drop what anybody else sends, before it takes a place in a queue; until then everybody gets
    /// through. Where they are too many to tell apart there, everybody does again.
    ///
    /// # Errors
    /// Those of setsockopt(2): out of memory for socket options (`net.core.optmem_max`).
    pub fn admit(&self, callers: &BTreeSet<Caller>) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.inner);
        match admission::program(callers) {
            Some(program) => socket.attach_filter(&program),
            None => match socket.detach_filter() {
                // There was none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            },
        }
    }

    /// Sets or removes the TCP MD5 key of a peer; accepted connections inherit it.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_md5_key(&self, peer: IpAddr, key: Option<&Md5Key>) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.inner);
        transport::set_md5_key(&socket, peer, key)
    }

    /// The next connection. Cancel-safe.
    ///
    /// # Errors
    /// Those of accept(2). Out of file descriptors is one that passes: wait before calling again.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (stream, remote) = self.inner.accept().await?;
        // It comes with the listener's filter, which it has passed; that it cannot be without it harms nobody.
        let _ = socket2::SockRef::from(&stream).detach_filter();
        let interface = match remote {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(InterfaceIndex(v6.scope_id())),
            SocketAddr::V6(_) | SocketAddr::V4(_) => None,
        };
        Ok(Accepted { stream, address: remote.ip().to_canonical(), interface })
    }
}

/// Closes a connection of somebody who is no neighbor, with a RST: no state of it stays in the kernel.
pub fn refuse(connection: Accepted) {
    // Without the option the close would be an orderly one: nothing is lost but a TIME_WAIT.
    let _ = socket2::SockRef::from(&connection.stream).set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream as StdStream};
    use std::time::Duration;

    use super::*;

    const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    /// Long for the loopback interface.
    const SILENCE: Duration = Duration::from_millis(200);

    fn connects(listener: &Listener, to: IpAddr) -> bool {
        let port = listener.inner.local_addr().unwrap().port();
        StdStream::connect_timeout(&SocketAddr::new(to, port), SILENCE).is_ok()
    }

    /// Whether connections from 127.0.0.1 and from ::1 get through.
    fn admitted(listener: &Listener, callers: &[Caller]) -> [bool; 2] {
        listener.admit(&callers.iter().copied().collect()).unwrap();
        [LOOPBACK_V4, LOOPBACK_V6].map(|address| connects(listener, address))
    }

    #[tokio::test]
    async fn only_callers_get_through() {
        let listener = Listener::bind(0).unwrap();
        assert_eq!(
            [LOOPBACK_V4, LOOPBACK_V6].map(|address| connects(&listener, address)),
            [true, true],
            "before anybody has said who may"
        );
        assert_eq!(admitted(&listener, &[]), [false, false]);
        assert_eq!(admitted(&listener, &[Caller::Address(LOOPBACK_V4)]), [true, false]);
        assert_eq!(admitted(&listener, &[Caller::Address(LOOPBACK_V6)]), [false, true]);
        let others = ["192.0.2.1", "127.0.0.2", "::2", "1::1", "0:0:1::1", "0:0:0:0:1::1"];
        let others: Vec<_> = others.map(|other| Caller::Address(other.parse().unwrap())).into();
        assert_eq!(admitted(&listener, &others), [false, false]);
        let among_others: Vec<_> = others
            .iter()
            .copied()
            .chain([LOOPBACK_V4, LOOPBACK_V6].map(Caller::Address))
            .chain((1..50).map(|index| Caller::Link(InterfaceIndex(index))))
            .collect();
        assert_eq!(admitted(&listener, &among_others), [true, true]);
        // A link stands for the link-local addresses on it, which these are not.
        assert_eq!(admitted(&listener, &[Caller::Link(InterfaceIndex(1))]), [false, false]);
    }

    #[tokio::test]
    async fn too_many_callers_are_told_apart_by_nobody() {
        let listener = Listener::bind(0).unwrap();
        let many: Vec<_> = (0..600_u16)
            .map(|number| Caller::Address(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into()))
            .collect();
        assert_eq!(admitted(&listener, &many), [true, true]);
        assert_eq!(admitted(&listener, &[]), [false, false]);
        assert_eq!(admitted(&listener, &many), [true, true]);
    }

    #[tokio::test]
    async fn an_accepted_connection_goes_on_whoever_is_admitted_next() {
        use tokio::io::AsyncReadExt;
        let listener = Listener::bind(0).unwrap();
        listener.admit(&BTreeSet::from([Caller::Address(LOOPBACK_V4)])).unwrap();
        let port = listener.inner.local_addr().unwrap().port();
        let mut peer = StdStream::connect((LOOPBACK_V4, port)).unwrap();
        let mut accepted = listener.accept().await.unwrap();
        assert_eq!(accepted.address, LOOPBACK_V4);
        listener.admit(&BTreeSet::new()).unwrap();
        std::io::Write::write_all(&mut peer, b"heard").unwrap();
        let mut heard = [0; 5];
        accepted.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"heard");
    }
}
