//! What a pod can send at its node: SYNs with any source, connections that are in earnest, datagrams for BFD.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::{Netns, Result, eventually};
use socket2::{Domain, Protocol, Socket, Type};

/// BGP.
const BGP: u16 = 179;
/// BFD over one hop, its echoes, and over several (RFC 5881, RFC 5883).
const BFD: [u16; 3] = [3784, 3785, 4784];
/// IPPROTO_RAW: the header is ours.
const RAW: i32 = 255;
/// In one go, before the others get their turn.
const BURST: u32 = 64;

/// A flood that goes on until it is stopped.
#[derive(Debug)]
pub(super) struct Flood {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Option<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    sent: AtomicU64,
}

impl Flood {
    /// From a pod, at an address of its node.
    ///
    /// # Errors
    /// The system refuses a thread. What it refuses a thread is seen in what was sent.
    pub(super) fn start(pod: &Netns, target: Ipv4Addr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let ways: [fn(Ipv4Addr, &Shared); 3] = [syns, connections, datagrams];
        let start = |way: fn(Ipv4Addr, &Shared)| {
            let shared = Arc::clone(&shared);
            pod.spawn(move || {
                while !shared.over.load(Ordering::Relaxed) {
                    way(target, &shared);
                    // The machine is to do something else as well.
                    std::thread::yield_now();
                }
            })
        };
        let threads = ways.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Waits until so much has been sent.
    pub(super) fn await_sent(&self, packets: u64, limit: Duration) -> Result<()> {
        eventually(&format!("{packets} packets of a flood"), limit, || {
            Ok((self.shared.sent.load(Ordering::Relaxed) >= packets).then_some(()))
        })
    }

    /// Ends it and says how many packets it was.
    pub(super) fn stop(mut self) -> u64 {
        self.end();
        self.shared.sent.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has sent nothing more.
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn syns(target: Ipv4Addr, shared: &Shared) {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))) else { return };
    for _ in 0..BURST {
        // Addresses of nobody (RFC 2544 section C.2.2), and ports by chance.
        let source = Ipv4Addr::new(198, 19, fastrand::u8(..), fastrand::u8(..));
        let packet = syn(source, fastrand::u16(1024..), target);
        if socket.send_to(&packet, &SocketAddr::from((target, 0)).into()).is_ok() {
            shared.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Connections that wait for their answer until the burst is over.
fn connections(target: Ipv4Addr, shared: &Shared) {
    let mut waiting = Vec::new();
    for _ in 0..BURST {
        let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else { continue };
        if socket.set_nonblocking(true).is_err() {
            continue;
        }
        match socket.connect(&SocketAddr::from((target, BGP)).into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => {}
            Ok(()) | Err(_) => {
                shared.sent.fetch_add(1, Ordering::Relaxed);
                waiting.push(socket);
            }
        }
    }
    drop(waiting);
}

fn datagrams(target: Ipv4Addr, shared: &Shared) {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return };
    for _ in 0..BURST {
        for port in BFD {
            // As long as a control packet (RFC 5880 section 4.1).
            if socket.send_to(&[0x20; 24], (target, port)).is_ok() {
                shared.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A TCP segment with SYN, in IPv4 (RFC 791 section 3.1, RFC 9293 section 3.1). The kernel fills in the length and the
/// checksum of the IP header.
fn syn(source: Ipv4Addr, port: u16, target: Ipv4Addr) -> Vec<u8> {
    let [p0, p1] = port.to_be_bytes();
    let [d0, d1] = BGP.to_be_bytes();
    let [s0, s1, s2, s3] = fastrand::u32(..).to_be_bytes();
    let tcp = [p0, p1, d0, d1, s0, s1, s2, s3, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    let pseudo = [&source.octets()[..], &target.octets(), &[0, 6, 0, 20], &tcp].concat();
    let [c0, c1] = checksum(&pseudo).to_be_bytes();
    let ip = [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0][..], &source.octets(), &target.octets()].concat();
    let (before, after) = tcp.split_at(16);
    [&ip[..], before, &[c0, c1], after.get(2..).unwrap_or_default()].concat()
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| pair.iter().fold(0, |word: u32, octet| word << 8 | u32::from(*octet));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_segment_is_right() {
        let (source, target) = (Ipv4Addr::new(198, 19, 1, 2), Ipv4Addr::new(1, 1, 1, 1));
        let packet = syn(source, 4711, target);
        assert_eq!(packet.len(), 40);
        let pseudo =
            [&source.octets()[..], &target.octets(), &[0, 6, 0, 20], packet.get(20..).unwrap()].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
