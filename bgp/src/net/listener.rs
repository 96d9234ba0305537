//! The listener on TCP 179, for both families. It knows no neighbor: it hands each connection, with the
//! address and link that it came from, to its owner, who decides before a byte is read.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

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
