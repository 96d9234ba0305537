//! The ICMP socket below [`ping`](crate::ping): echo requests out, and what the network says to them in.
//!
//! RFC 792 for IPv4, RFC 4443 for IPv6.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Doing, Result};

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_UNREACHABLE_FRAGMENTATION_NEEDED: u8 = 4;
const ICMP_ECHO_REQUEST: u8 = 8;
const ICMP_TIME_EXCEEDED: u8 = 11;

const ICMPV6_UNREACHABLE: u8 = 1;
const ICMPV6_TOO_BIG: u8 = 2;
const ICMPV6_TIME_EXCEEDED: u8 = 3;
const ICMPV6_ECHO_REQUEST: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// Type, code, checksum, and four octets whose meaning is the type's: for an echo, identifier and sequence.
const ICMP_HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// Whether routers, or the sender's own kernel, may cut a packet that is too large for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmentation {
    /// They may.
    Allowed,
    /// They may not: the DF bit of IPv4.
    Forbidden,
}

/// What is said to one echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply,
    Unreachable,
    TimeExceeded,
    TooBig,
}

#[derive(Debug)]
pub(crate) struct EchoSocket {
    socket: Socket,
    is_ipv4: bool,
    identifier: u16,
}

impl EchoSocket {
    pub(crate) fn open(
        to: IpAddr,
        from: Option<IpAddr>,
        fragmentation: Fragmentation,
        identifier: u16,
    ) -> io::Result<Self> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        if fragmentation == Fragmentation::Forbidden {
            forbid_fragmentation(&socket, to)?;
        }
        Ok(Self { socket, is_ipv4: to.is_ipv4(), identifier })
    }

    /// Sends one request. Where the sender's own kernel refuses it, that is the answer.
    pub(crate) fn send(&self, to: IpAddr, sequence: u16, payload: usize) -> Result<Option<Answer>> {
        let message = echo_request(self.is_ipv4, self.identifier, sequence, payload);
        match self.socket.send_to(&message, &SocketAddr::new(to, 0).into()) {
            Ok(_) => Ok(None),
            Err(error) => match error.raw_os_error() {
                // EINVAL is what sending into a blackhole route gives, EACCES into a prohibit route.
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES) => {
                    Ok(Some(Answer::Unreachable))
                }
                Some(libc::EMSGSIZE) => Ok(Some(Answer::TooBig)),
                _ => Err(error).doing(|| format!("send an echo request to {to}")),
            },
        }
    }

    /// Waits for the next message that answers a request of this socket: its sequence number and what it says.
    /// `None` after `limit`, or after a message that is none of ours.
    pub(crate) fn receive(&self, limit: Duration) -> Result<Option<(u16, Answer)>> {
        // The kernel reads a timeout of zero as none.
        let limit = limit.max(Duration::from_micros(1));
        self.socket.set_read_timeout(Some(limit)).doing(|| "set a timeout".to_owned())?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let length = match self.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                        Ok(None)
                    }
                    _ => Err(error).doing(|| "receive an ICMP message".to_owned()),
                };
            }
        };
        let received = buffer.get(..length).unwrap_or_default();
        // SAFETY: recv has written the first `length` octets.
        let received = unsafe { received.assume_init_ref() };
        let parsed = if self.is_ipv4 { parse_ipv4(received) } else { parse_icmpv6(received) };
        Ok(parsed
            .filter(|(identifier, _, _)| *identifier == self.identifier)
            .map(|(_, sequence, answer)| (sequence, answer)))
    }
}

fn forbid_fragmentation(socket: &Socket, to: IpAddr) -> io::Result<()> {
    // PROBE rather than DO: the DF bit without the kernel's memory of path MTUs, so that each packet is tried.
    let (level, name, value) = match to {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the pointer and the size are those of one live integer.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn echo_request(is_ipv4: bool, identifier: u16, sequence: u16, payload: usize) -> Vec<u8> {
    let kind = if is_ipv4 { ICMP_ECHO_REQUEST } else { ICMPV6_ECHO_REQUEST };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(ICMP_HEADER + payload, 0x5e);
    // The kernel fills in the checksum of ICMPv6 (RFC 3542 section 3.1), which covers addresses too.
    if is_ipv4 {
        let sum = checksum(&message).to_be_bytes();
        message.splice(2..4, sum);
    }
    message
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let sum: u32 = octets
        .chunks(2)
        .map(|pair| {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([high, low]))
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

/// A raw IPv4 socket gives the IP header too. The result is identifier, sequence and what is said.
fn parse_ipv4(packet: &[u8]) -> Option<(u16, u16, Answer)> {
    let message = skip_ipv4_header(packet)?;
    let answer = match (*message.first()?, *message.get(1)?) {
        (ICMP_ECHO_REPLY, _) => return echo_numbers(message).map(|(id, seq)| (id, seq, Answer::Reply)),
        (ICMP_UNREACHABLE, ICMP_UNREACHABLE_FRAGMENTATION_NEEDED) => Answer::TooBig,
        (ICMP_UNREACHABLE, _) => Answer::Unreachable,
        (ICMP_TIME_EXCEEDED, _) => Answer::TimeExceeded,
        _ => return None,
    };
    let quoted = skip_ipv4_header(message.get(ICMP_HEADER..)?)?;
    if *quoted.first()? != ICMP_ECHO_REQUEST {
        return None;
    }
    echo_numbers(quoted).map(|(id, seq)| (id, seq, answer))
}

/// A raw ICMPv6 socket gives the message alone.
fn parse_icmpv6(message: &[u8]) -> Option<(u16, u16, Answer)> {
    let answer = match *message.first()? {
        ICMPV6_ECHO_REPLY => return echo_numbers(message).map(|(id, seq)| (id, seq, Answer::Reply)),
        ICMPV6_UNREACHABLE => Answer::Unreachable,
        ICMPV6_TOO_BIG => Answer::TooBig,
        ICMPV6_TIME_EXCEEDED => Answer::TimeExceeded,
        _ => return None,
    };
    let quoted = message.get(ICMP_HEADER + IPV6_HEADER..)?;
    if *quoted.first()? != ICMPV6_ECHO_REQUEST {
        return None;
    }
    echo_numbers(quoted).map(|(id, seq)| (id, seq, answer))
}

fn skip_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

fn echo_numbers(message: &[u8]) -> Option<(u16, u16)> {
    let numbers: [u8; 4] = message.get(4..8)?.try_into().ok()?;
    let [id_high, id_low, sequence_high, sequence_low] = numbers;
    Some((u16::from_be_bytes([id_high, id_low]), u16::from_be_bytes([sequence_high, sequence_low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4_HEADER: [u8; 20] = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];

    fn error_ipv4(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
        [&IPV4_HEADER[..], &[kind, code, 0, 0, 0, 0, 0, 0], &IPV4_HEADER, quoted].concat()
    }

    #[test]
    fn the_checksum_of_a_message_with_its_checksum_is_zero() {
        for payload in [0, 1, 56, 1472] {
            assert_eq!(checksum(&echo_request(true, 0x1234, 0xfffe, payload)), 0, "{payload}");
        }
    }

    #[test]
    fn answers_name_the_request() {
        let request = echo_request(true, 7, 9, 0);
        let mut reply = request.clone();
        reply[0] = ICMP_ECHO_REPLY;
        assert_eq!(parse_ipv4(&[&IPV4_HEADER, &reply[..]].concat()), Some((7, 9, Answer::Reply)));
        assert_eq!(parse_ipv4(&error_ipv4(3, 0, &request)), Some((7, 9, Answer::Unreachable)));
        assert_eq!(parse_ipv4(&error_ipv4(3, 4, &request)), Some((7, 9, Answer::TooBig)));
        assert_eq!(parse_ipv4(&error_ipv4(11, 0, &request)), Some((7, 9, Answer::TimeExceeded)));
    }

    #[test]
    fn answers_of_ipv6_name_the_request() {
        let request = echo_request(false, 7, 9, 0);
        for (kind, answer) in [(1, Answer::Unreachable), (2, Answer::TooBig), (3, Answer::TimeExceeded)] {
            let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[0; IPV6_HEADER], &request].concat();
            assert_eq!(parse_icmpv6(&message), Some((7, 9, answer)));
        }
    }

    #[test]
    fn other_messages_and_cut_ones_are_none() {
        let request = echo_request(true, 7, 9, 0);
        assert_eq!(parse_ipv4(&[&IPV4_HEADER, &request[..]].concat()), None, "our own request");
        let whole = error_ipv4(11, 0, &request);
        for end in 0..whole.len() {
            assert_eq!(parse_ipv4(&whole[..end]), None, "{end}");
            assert_eq!(parse_icmpv6(&whole[..end.min(8)]), None, "{end}");
        }
    }
}
