//! Frames on one interface, as they are on the wire: to see what a packet is wrapped in, and when a message was sent.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{Doing, Result};
use crate::link::Mac;
use crate::netns::Netns;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;
/// RFC 9293 section 3.1.
const TCP_SYN: u8 = 0x02;
const BGP_PORT: u16 = 179;
/// RFC 4271 section 4.1: marker, length, type.
const BGP_HEADER: usize = 19;
const BGP_UPDATE: u8 = 2;
/// An UPDATE without path attributes, End-of-RIB of IPv4, has 23 octets; End-of-RIB of another family (RFC 4724
/// section 2) adds one MP_UNREACH_NLRI of at most 7.
const LONGEST_END_OF_RIB: usize = 30;

/// How often the thread looks whether it should end.
const STOP_SLICE: Duration = Duration::from_millis(50);

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When the capture saw it.
    pub at: Instant,
    /// Who sent it.
    pub from: Mac,
    /// What the Ethernet header says is inside.
    pub ethertype: u16,
    /// The outermost IP header, if it is an IP packet.
    pub ip: Option<IpHeader>,
    /// All of it, Ethernet header included.
    pub octets: Vec<u8>,
}

/// What matters of an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What is inside: protocol, or next header.
    pub protocol: u8,
    /// Length of the packet in octets, as its header says.
    pub length: usize,
    /// Length of the header itself.
    header: usize,
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source and destination port.
    pub ports: (u16, u16),
    /// Number of its first octet, or of the SYN.
    pub sequence: u32,
    /// Whether it has the SYN flag: the connection begins with it.
    pub is_first: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A capture that is running. It ends when it is dropped.
#[derive(Debug)]
pub struct Capture {
    frames: Receiver<Frame>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<()>>>,
}

impl Capture {
    /// Starts to capture what goes out of and comes into an interface. Frames that pass after this returns are seen.
    ///
    /// # Errors
    /// There is no such interface, or no permission.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self> {
        let index = netns.index(interface)?;
        let socket =
            netns.run(|| packet_socket(index))?.doing(|| format!("capture on {interface} (needs root)"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, frames) = mpsc::channel();
        let flag = Arc::clone(&stop);
        let thread = netns.spawn(move || read_frames(&socket, &sender, &flag))?;
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// Waits for a frame as wanted. Those before it are dropped.
    ///
    /// `None` after `limit`.
    #[must_use]
    pub fn await_frame(&self, limit: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Ok(frame) if wanted(&frame) => return Some(frame),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Ends the capture and gives all frames that were not taken yet.
    #[must_use]
    pub fn stop(mut self) -> Vec<Frame> {
        self.end();
        self.frames.try_iter().collect()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; what was captured before it still counts.
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

impl Frame {
    /// Whether it carries a BGP UPDATE with routes in it, rather than only an End-of-RIB.
    #[must_use]
    pub fn has_bgp_routes(&self) -> bool {
        self.bgp_messages().any(|(kind, length)| kind == BGP_UPDATE && length > LONGEST_END_OF_RIB)
    }

    /// Type and length of each BGP message that begins in this frame. Right as long as messages begin with segments,
    /// which they do while the connection is young and no segment is full.
    pub fn bgp_messages(&self) -> impl Iterator<Item = (u8, usize)> {
        let mut rest = self.bgp_segment().map(|segment| segment.payload).unwrap_or_default();
        std::iter::from_fn(move || {
            let header: &[u8; BGP_HEADER] = rest.first_chunk()?;
            let [marker @ .., high, low, kind] = header;
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if marker != &[0xff; 16] || length < BGP_HEADER {
                return None;
            }
            rest = rest.get(length..).unwrap_or_default();
            Some((*kind, length))
        })
    }

    /// The TCP segment in it, if it belongs to BGP.
    #[must_use]
    pub fn bgp_segment(&self) -> Option<Segment<'_>> {
        let ip = self.ip.filter(|ip| ip.protocol == PROTOCOL_TCP)?;
        let packet = self.octets.get(14..)?;
        let segment = packet.get(ip.header..ip.length)?;
        let header: &[u8; 14] = segment.first_chunk()?;
        let [s0, s1, d0, d1, n0, n1, n2, n3, _, _, _, _, offset, flags] = *header;
        let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        if ports.0 != BGP_PORT && ports.1 != BGP_PORT {
            return None;
        }
        Some(Segment {
            ports,
            sequence: u32::from_be_bytes([n0, n1, n2, n3]),
            is_first: flags & TCP_SYN != 0,
            payload: segment.get(usize::from(offset >> 4) * 4..)?,
        })
    }

    fn parse(octets: &[u8], at: Instant) -> Option<Self> {
        let from = octets.get(6..12)?.try_into().ok()?;
        let ethertype = u16::from_be_bytes([*octets.get(12)?, *octets.get(13)?]);
        let packet = octets.get(14..)?;
        let ip = match ethertype {
            ETHERTYPE_IPV4 => parse_ipv4(packet),
            ETHERTYPE_IPV6 => parse_ipv6(packet),
            _ => None,
        };
        Some(Self { at, from, ethertype, ip, octets: octets.to_vec() })
    }
}

fn parse_ipv4(packet: &[u8]) -> Option<IpHeader> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let address = |at: usize| header.get(at..)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a).into());
    Some(IpHeader {
        source: address(12)?,
        destination: address(16)?,
        protocol: *header.get(9)?,
        length: u16::from_be_bytes([*header.get(2)?, *header.get(3)?]).into(),
        header: usize::from(header.first()? & 0x0f) * 4,
    })
}

fn parse_ipv6(packet: &[u8]) -> Option<IpHeader> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let address = |at: usize| header.get(at..)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a).into());
    Some(IpHeader {
        source: address(8)?,
        destination: address(24)?,
        protocol: *header.get(6)?,
        length: 40 + usize::from(u16::from_be_bytes([*header.get(4)?, *header.get(5)?])),
        header: 40,
    })
}

/// A socket that sees every frame of one interface, both directions.
fn packet_socket(index: u32) -> io::Result<Socket> {
    // packet(7) wants the protocol in network byte order. Opened with none, so that nothing of other interfaces
    // comes in before the bind.
    let all = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    // SAFETY: sockaddr_ll is smaller than the sockaddr_storage behind the pointer, which is zeroed and aligned for
    // every address type; the length stored is that of what was written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = family;
            (*link).sll_protocol = all;
            (*link).sll_ifindex = ifindex;
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    socket.set_read_timeout(Some(STOP_SLICE))?;
    Ok(socket)
}

fn read_frames(socket: &Socket, frames: &Sender<Frame>, stop: &AtomicBool) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 65_536];
    loop {
        // Read before the receive, so that what was queued when the end was asked for is still taken.
        let last = stop.load(Ordering::Relaxed);
        // Frames that come in faster than a receive gives up, as those of BFD do, are to end it nevertheless.
        if last && socket.set_nonblocking(true).is_err() {
            return;
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let received = buffer.get(..length).unwrap_or_default();
                // SAFETY: recv has written the first `length` octets.
                let octets = unsafe { received.assume_init_ref() };
                if let Some(frame) = Frame::parse(octets, Instant::now())
                    && frames.send(frame).is_err()
                {
                    return;
                }
            }
            // The interface went down: the socket stays bound and works again when it comes up.
            Err(_) if last => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let ethernet = [&[1; 6][..], &[2; 6], &[0x86, 0xdd]].concat();
        let ipv6 = [&[0x60, 0, 0, 0, length[0], length[1], 6, 1][..], &[0xfe; 16], &[0xfd; 16]].concat();
        let tcp = [&[0xc0, 0, 0, 179][..], &[0; 8], &[0x50], &[0; 7]].concat();
        // Ethernet pads short frames; the padding is not payload.
        [&ethernet[..], &ipv6, &tcp, payload, &[0; 8]].concat()
    }

    fn message(kind: u8, length: u16) -> Vec<u8> {
        let mut message = [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
        message.resize(length.into(), 0);
        message
    }

    #[test]
    fn bgp_messages_are_found_behind_one_another() {
        let octets = tcp_frame(&[message(4, 19), message(2, 23), message(2, 80)].concat());
        let frame = Frame::parse(&octets, Instant::now()).unwrap();
        assert_eq!(frame.from, [2; 6]);
        assert_eq!(frame.bgp_messages().collect::<Vec<_>>(), [(4, 19), (2, 23), (2, 80)]);
        assert!(frame.has_bgp_routes());
    }

    #[test]
    fn end_of_rib_is_no_route_and_a_cut_frame_no_panic() {
        let octets = tcp_frame(&[message(2, 23), message(2, 29)].concat());
        assert!(!Frame::parse(&octets, Instant::now()).unwrap().has_bgp_routes());
        for end in 0..octets.len() {
            if let Some(frame) = Frame::parse(&octets[..end], Instant::now()) {
                assert!(!frame.has_bgp_routes(), "{end}");
            }
        }
    }
}
