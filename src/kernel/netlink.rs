//! One netlink socket: what is the same for every conversation with the kernel.
//!
//! In: requests as bytes or as typed messages. Out: the kernel's messages one by one, dumps that either are
//! complete or fail, and errors with the kernel's own words (extended acknowledgements).
//!
//! A dump that fails must never look like an empty table, and a receive buffer that overran must never look
//! like silence; that is why dumps are read here and not by a general client. Layouts: `linux/netlink.h`,
//! `linux/rtnetlink.h`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use tokio::io::unix::AsyncFd;

/// RTNLGRP_LINK
pub(super) const GROUP_LINK: u32 = 1;
/// RTNLGRP_IPV4_IFADDR
pub(super) const GROUP_IPV4_ADDRESS: u32 = 5;
/// RTNLGRP_IPV4_ROUTE
pub(super) const GROUP_IPV4_ROUTE: u32 = 7;
/// RTNLGRP_IPV6_IFADDR
pub(super) const GROUP_IPV6_ADDRESS: u32 = 9;
/// RTNLGRP_IPV6_ROUTE
pub(super) const GROUP_IPV6_ROUTE: u32 = 11;
/// RTNLGRP_NEXTHOP
pub(super) const GROUP_NEXTHOP: u32 = 32;

/// RTM_NEWROUTE
const RTM_NEWROUTE: u16 = 24;
/// RTM_DELROUTE
const RTM_DELROUTE: u16 = 25;
/// RTM_GETROUTE
pub(super) const RTM_GETROUTE: u16 = 26;

/// Room for acknowledgements and events, in octets. The kernel charges about 1 KiB for each, so this holds
/// some thousands; the default of 212,992 loses acknowledgements of a batch of 256.
pub(super) const RECEIVE_BUFFER: usize = 8 << 20;
/// A batch of requests has to fit, in octets.
const SEND_BUFFER: usize = 1 << 20;
/// The kernel sends at most 32 KiB at once.
const DATAGRAM: usize = 64 << 10;
/// `struct nlmsghdr`, in octets.
pub(super) const HEADER: usize = 16;
/// The kernel answers a request within microseconds; a dump pauses no longer than the lock of the table is held.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the kernel says about a request that it refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct KernelError {
    /// A positive errno.
    pub errno: i32,
    /// The text of the extended acknowledgement, where there is one.
    pub message: Option<String>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

/// Why a dump is not complete. Nothing of what it gave may be taken for the whole table.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The socket failed.
    #[error("netlink socket")]
    Io(#[from] io::Error),
    /// The kernel refused or gave up.
    #[error("the kernel ended the dump: {0}")]
    Kernel(#[from] KernelError),
    /// The table changed under the dump (NLM_F_DUMP_INTR).
    #[error("the table changed while it was read")]
    Interrupted,
    /// The receive buffer was too small.
    #[error("netlink receive buffer overran")]
    Overrun,
    /// Nothing came for five seconds.
    #[error("no answer from the kernel")]
    Timeout,
}

/// A netlink message as it lies in a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// RTM_* or NLMSG_*
    pub(super) kind: u16,
    /// NLM_F_*
    pub(super) flags: u16,
    /// Of the request that caused it.
    pub(super) sequence: u32,
    /// The socket that caused it; 0: the kernel by itself.
    pub(super) port: u32,
    pub(super) payload: &'a [u8],
}

impl Message<'_> {
    /// `None` for NLMSG_* and what the decoder does not know.
    pub(super) fn decode(&self) -> Option<RouteNetlinkMessage> {
        let mut header = NetlinkHeader::default();
        header.message_type = self.kind;
        RouteNetlinkMessage::deserialize(&header, self.payload)
            .inspect_err(|error| tracing::debug!(kind = self.kind, %error, "undecodable netlink message"))
            .ok()
    }

    /// The result in an NLMSG_ERROR or NLMSG_DONE: `struct nlmsgerr` begins with the code, which is 0 or
    /// negative, as the payload of NLMSG_DONE does.
    pub(super) fn result(&self) -> Result<(), KernelError> {
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Ok(());
        }
        // With NETLINK_CAP_ACK an error carries only the header of the request before the attributes.
        let attributes = if self.kind == NLMSG_DONE { 4 } else { 4 + HEADER };
        let message = self.payload.get(attributes..).and_then(extended_ack_text);
        Err(KernelError { errno: code.saturating_neg(), message })
    }
}

/// NLMSGERR_ATTR_MSG among the attributes of an extended acknowledgement.
fn extended_ack_text(mut attributes: &[u8]) -> Option<String> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    while let Some((&[l0, l1, k0, k1], rest)) = attributes.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(..length.checked_sub(4)?)?;
        if u16::from_ne_bytes([k0, k1]) == NLMSGERR_ATTR_MSG {
            let text = value.split(|&octet| octet == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The messages of one datagram; ends at the first malformed one.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload: datagram.get(HEADER..length)?,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// What reading a socket gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// [`Socket::datagram`] holds it.
    Datagram,
    /// Messages were lost (ENOBUFS): what was told is no longer the whole truth.
    Overrun,
}

/// A NETLINK_ROUTE socket, bound, with extended acknowledgements.
pub(super) struct Socket {
    fd: AsyncFd<RawSocket>,
    port: u32,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the network namespace of this thread and joins the groups. `receive_buffer` is in
    /// octets.
    pub(super) fn open(groups: &[u32], receive_buffer: usize) -> io::Result<Self> {
        let mut socket = RawSocket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Filters in dumps; the kernel knows it since 4.20. Everything is filtered again here.
        if let Err(error) = socket.set_netlink_get_strict_chk(true) {
            tracing::debug!(%error, "no strict checking of netlink dumps");
        }
        set_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive_buffer)?;
        set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        for &group in groups {
            socket.add_membership(group)?;
        }
        // SAFETY: the socket owns its descriptor, which stays the same and open until both are dropped.
        let fd = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { fd, port, sequence: 0, datagram: Vec::with_capacity(DATAGRAM) })
    }

    /// Joins one more group.
    pub(super) fn join(&self, group: u32) -> io::Result<()> {
        const GROUP: libc::socklen_t = 4;
        // SAFETY: the descriptor is open while `self` is borrowed, and the kernel reads four octets of `group`.
        let result = unsafe {
            libc::setsockopt(
                self.fd.get_ref().as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_ADD_MEMBERSHIP,
                (&raw const group).cast(),
                GROUP,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// What the kernel writes into messages that this socket caused.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number that was not used for the last four billion requests; never 0.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    /// Sends one datagram to the kernel, which handles it before this returns. Cancel safe.
    pub(super) async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            let mut ready = self.fd.writable().await?;
            match ready.try_io(|fd| fd.get_ref().send_to(datagram, &kernel, 0)) {
                Ok(sent) => return sent.map(|_| ()),
                Err(_would_block) => continue,
            }
        }
    }

    /// Waits for the next datagram. Cancel safe: nothing is read before it is complete.
    pub(super) async fn receive(&mut self) -> io::Result<Received> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| read_from_kernel(fd.get_ref(), &mut self.datagram)) {
                Ok(received) => return received,
                Err(_would_block) => continue,
            }
        }
    }

    /// The next datagram if there is one.
    pub(super) fn try_receive(&mut self) -> io::Result<Option<Received>> {
        match read_from_kernel(self.fd.get_ref(), &mut self.datagram) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for events and hands over all that are there, so that whoever then looks at what they led to never sees a
    /// state that the kernel has already left. Cancel safe.
    pub(super) async fn events(&mut self, mut each: impl FnMut(&Message<'_>)) -> Result<(), DumpError> {
        let mut received = self.receive().await?;
        loop {
            match received {
                Received::Overrun => return Err(DumpError::Overrun),
                Received::Datagram => messages(&self.datagram).for_each(|message| each(&message)),
            }
            match self.try_receive()? {
                Some(next) => received = next,
                None => return Ok(()),
            }
        }
    }

    /// What the last receive gave.
    pub(super) fn datagram(&self) -> &[u8] {
        &self.datagram
    }

    /// Reads a whole table. After an error the socket may still hold the rest of the dump: use a new one.
    pub(super) async fn dump(
        &mut self,
        request: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), DumpError> {
        let sequence = self.next_sequence();
        self.send(&encode(request, NLM_F_REQUEST | NLM_F_DUMP, sequence)).await?;
        self.read_dump(sequence, |message| message.decode().into_iter().for_each(&mut each)).await
    }

    /// Whether a table has something that is wanted: reads no further than that. The rest of the dump goes with the
    /// socket.
    pub(super) async fn dump_has(
        mut self,
        request: RouteNetlinkMessage,
        mut is_wanted: impl FnMut(RouteNetlinkMessage) -> bool,
    ) -> Result<bool, DumpError> {
        let sequence = self.next_sequence();
        self.send(&encode(request, NLM_F_REQUEST | NLM_F_DUMP, sequence)).await?;
        loop {
            self.receive_of_dump().await?;
            for message in messages(&self.datagram).filter(|message| message.sequence == sequence) {
                match message.kind {
                    // A table that changed meanwhile may have had it, and may have it no more.
                    NLMSG_DONE | NLMSG_ERROR => return Ok(message.result().map(|()| false)?),
                    _ if message.decode().is_some_and(&mut is_wanted) => return Ok(true),
                    _ => {}
                }
            }
        }
    }

    /// As [`Self::dump`], of a table whose messages the decoder does not know.
    pub(super) async fn dump_raw(
        &mut self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(&Message<'_>),
    ) -> Result<(), DumpError> {
        let sequence = self.next_sequence();
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(sequence.to_ne_bytes());
        // The kernel knows the port.
        request.extend([0; 4]);
        request.extend(body);
        self.send(&request).await?;
        self.read_dump(sequence, each).await
    }

    async fn receive_of_dump(&mut self) -> Result<(), DumpError> {
        let received = tokio::time::timeout(ANSWER_TIMEOUT, self.receive()).await;
        match received.map_err(|_elapsed| DumpError::Timeout)?? {
            Received::Overrun => Err(DumpError::Overrun),
            Received::Datagram => Ok(()),
        }
    }

    async fn read_dump(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), DumpError> {
        let mut interrupted = false;
        loop {
            self.receive_of_dump().await?;
            for message in messages(&self.datagram).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        message.result()?;
                        return if interrupted { Err(DumpError::Interrupted) } else { Ok(()) };
                    }
                    _ => each(&message),
                }
            }
        }
    }

    /// Never hears of what the socket with that port causes: a group that is replaced tells of each of its
    /// routes, which no buffer could hold.
    pub(super) fn ignore(&self, port: u32) -> io::Result<()> {
        // `nlmsg_pid` is the last field of `struct nlmsghdr`; the filter reads it as big-endian.
        const PORT_OFFSET: u32 = 12;
        let port = u32::from_be_bytes(port.to_ne_bytes());
        self.filter(&mut [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, PORT_OFFSET),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        ])
    }

    /// Of routes, hears only of those to a single address: the table of the whole Internet, which others write, would
    /// take more time and room than it is worth.
    pub(super) fn hear_host_routes(&self) -> io::Result<()> {
        // `nlmsg_type` of `struct nlmsghdr`, read as big-endian.
        const TYPE_OFFSET: u32 = 4;
        // `rtm_dst_len` of `struct rtmsg`, which follows it.
        const LENGTH_OFFSET: u32 = 17;
        let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
        let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.filter(&mut [
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, TYPE_OFFSET),
            step(jump, 1, 0, kind(RTM_NEWROUTE)),
            step(jump, 0, 4, kind(RTM_DELROUTE)),
            step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, LENGTH_OFFSET),
            step(jump, 2, 0, Ipv4Addr::BITS),
            step(jump, 1, 0, Ipv6Addr::BITS),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        ])
    }

    /// Attaches a classic BPF program, which sees each message before it takes room in the buffer.
    fn filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let steps = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
        let filter = libc::sock_fprog { len: steps, filter: program.as_mut_ptr() };
        const LENGTH: usize = size_of::<libc::sock_fprog>();
        let length = libc::socklen_t::try_from(LENGTH).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open while `self` is borrowed; the kernel copies the program, whose steps, as many
        // as `len` says, outlive the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.get_ref().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// An instruction of classic BPF (`linux/filter.h`): after a comparison, how many to leave out if it holds, and if not.
fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

/// One request as bytes.
pub(super) fn encode(request: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

fn read_from_kernel(socket: &RawSocket, datagram: &mut Vec<u8>) -> io::Result<Received> {
    loop {
        datagram.clear();
        match socket.recv_from(datagram, 0) {
            Ok((_, sender)) if sender.port_number() == 0 => return Ok(Received::Datagram),
            // Another process may write to our port; only the kernel is believed.
            Ok(_) => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Overrun),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
    }
}

/// Sets a buffer size past the system's limit, or up to it without CAP_NET_ADMIN.
fn set_buffer(socket: &RawSocket, force: i32, plain: i32, octets: usize) -> io::Result<()> {
    let octets = i32::try_from(octets).unwrap_or(i32::MAX);
    [force, plain]
        .into_iter()
        .map(|option| set_option(socket, option, octets))
        .find(Result::is_ok)
        .unwrap_or_else(|| {
            Err(io::Error::other("the kernel refuses every size of the netlink socket's buffer"))
        })
}

fn set_option(socket: &RawSocket, option: i32, value: i32) -> io::Result<()> {
    const INT: libc::socklen_t = 4;
    // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel reads four octets of `value`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), INT)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + payload.len()).unwrap();
        let mut bytes = Vec::new();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_split_and_ends_at_nonsense() {
        let mut datagram = message(24, b"abc");
        datagram.extend(message(25, b""));
        let kinds: Vec<_> = messages(&datagram).map(|m| (m.kind, m.payload.len())).collect();
        assert_eq!(kinds, [(24, 3), (25, 0)]);
        for cut in 0..datagram.len() {
            assert!(messages(&datagram[..cut]).count() < 2, "{cut}");
        }
        assert_eq!(messages(&[0; 32]).count(), 0, "a length below the header's");
    }

    #[test]
    fn a_dump_that_failed_is_an_error_with_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend(9_u16.to_ne_bytes());
        payload.extend(1_u16.to_ne_bytes());
        payload.extend(b"nope\0");
        let bytes = message(NLMSG_DONE, &payload);
        let error = messages(&bytes).next().unwrap().result().unwrap_err();
        assert_eq!(error, KernelError { errno: libc::EINVAL, message: Some("nope".into()) });
        assert_eq!(error.to_string(), "Invalid argument (os error 22): nope");
        let bytes = message(NLMSG_DONE, &0_i32.to_ne_bytes());
        assert_eq!(messages(&bytes).next().unwrap().result(), Ok(()));
    }
}
