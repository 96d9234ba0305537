//! A ToR made for a test: it says on the unnumbered link what a test writes in octets, and reads nothing into the answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::time::Duration;

use lab::{Netns, eventually};
use socket2::{Domain, Protocol, Socket, Type};

use super::fixture::{Link, PATIENCE};

/// Of the ToR in the lab.
pub(super) const ASN: [u8; 4] = [0, 0, 0xfd, 0xec];
/// To be written at the beginning of the agent's configuration: nothing has to be said for as long as a test takes.
pub(super) const NO_HURRY: &str = "hold-time = \"180s\"\nkeepalive = \"60s\"\n";

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;
const HEADER: usize = 19;

/// One session with the agent of the node.
pub(super) struct Speaker {
    stream: TcpStream,
}

impl Speaker {
    /// Advertises itself as a router until the agent takes its connection, and makes a session of that.
    pub(super) fn establish(link: &Link) -> Self {
        let from = link.tor_link_local();
        let to = link.node_link_local();
        let scope = link.tor.index("c1").unwrap();
        let stream = eventually("the agent takes the connection", PATIENCE, || {
            advertise(&link.tor, "c1", from, &[]);
            // Before it has heard of the router the agent takes nothing from it.
            Ok(link.tor.run(|| open(SocketAddrV6::new(to, 179, 0, scope)))?.ok())
        });
        let mut speaker =
            Self { stream: stream.unwrap_or_else(|error| panic!("{error}\n{}", link.agent().log())) };
        speaker.send(&message(KEEPALIVE, &[]));
        speaker.await_kind(KEEPALIVE);
        speaker
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    /// Announces prefixes over MP_REACH_NLRI (RFC 4760 section 3; RFC 8950 for IPv4), with an AS path of its own AS and
    /// `more` attributes.
    pub(super) fn announce(&mut self, prefixes: &[&str], next_hop: &[Ipv6Addr], more: &[u8]) {
        for is_ipv6 in [false, true] {
            let of_family: Vec<_> = prefixes.iter().filter(|text| text.contains(':') == is_ipv6).collect();
            if of_family.is_empty() {
                continue;
            }
            let mut value = vec![0, if is_ipv6 { 2 } else { 1 }, 1];
            value.push(u8::try_from(16 * next_hop.len()).unwrap());
            value.extend(next_hop.iter().flat_map(Ipv6Addr::octets));
            value.push(0);
            value.extend(of_family.into_iter().flat_map(|text| nlri(text)));
            let path = if more.windows(2).any(|two| two == [0x50, 2]) { Vec::new() } else { as_path(&[ASN]) };
            self.update(&[&origin(), &path, more, &attribute(0x80, 14, &value)].concat(), &[]);
        }
    }

    /// Announces IPv4 prefixes as RFC 4271 section 4.3 has it.
    pub(super) fn announce_ipv4(&mut self, prefixes: &[&str], next_hop: [u8; 4]) {
        let attributes = [origin(), as_path(&[ASN]), attribute(0x40, 3, &next_hop)].concat();
        let nlri: Vec<u8> = prefixes.iter().flat_map(|text| nlri(text)).collect();
        self.update(&attributes, &nlri);
    }

    fn update(&mut self, attributes: &[u8], nlri: &[u8]) {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        self.send(&message(UPDATE, &[&[0, 0], &length[..], attributes, nlri].concat()));
    }

    /// Asks for the IPv4 routes as often as that, and counts the answers as they come: each ends with EoRR (RFC 7313).
    pub(super) fn refresh(&mut self, times: usize) -> usize {
        let mut stream = self.stream.try_clone().unwrap();
        let storm = std::thread::spawn(move || {
            let question = message(ROUTE_REFRESH, &[0, 1, 0, 1]);
            for portion in vec![question; times].chunks(100) {
                stream.write_all(&portion.concat()).unwrap();
            }
        });
        let mut answers = 0;
        self.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        // Silence is the end of it: how many answers there are is the agent's choice.
        while let Some((kind, body)) = self.hear() {
            answers += usize::from((kind, body.as_slice()) == (ROUTE_REFRESH, &[0, 1, 2, 1]));
        }
        storm.join().unwrap();
        answers
    }

    fn await_kind(&mut self, wanted: u8) {
        loop {
            let (kind, body) = self.hear().expect("a message of the agent");
            assert_ne!(kind, NOTIFICATION, "{body:?}");
            if kind == wanted {
                return;
            }
        }
    }

    /// The next message; `None` where none comes.
    fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        hear(&mut self.stream)
    }
}

fn hear(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    match stream.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
        Err(error) => panic!("the agent has ended the session: {error}"),
    }
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length - HEADER];
    stream.read_exact(&mut body).unwrap();
    Some((header[18], body))
}

/// A connection on which both have said who they are.
fn open(agent: SocketAddrV6) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&agent.into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Version 4, AS_TRANS, 180 s, 4.4.4.4; IPv4 and IPv6, IPv6 next hops for IPv4 (RFC 8950), refresh, enhanced refresh
    // (RFC 7313), four-octet AS numbers.
    let capabilities =
        [&[1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 5, 6, 0, 1, 0, 1, 0, 2, 2, 0, 70, 0, 65, 4][..], &ASN]
            .concat();
    let length = u8::try_from(capabilities.len()).unwrap();
    let open = [&[4, 0x5b, 0xa0, 0, 180, 4, 4, 4, 4, length + 2, 2, length][..], &capabilities].concat();
    stream.write_all(&message(OPEN, &open))?;
    let mut kind = [0; HEADER];
    // Where the agent does not know the router yet, it resets the connection.
    stream.peek(&mut kind)?;
    let heard = hear(&mut stream);
    assert_eq!(heard.as_ref().map(|(kind, _)| *kind), Some(OPEN), "{heard:?}");
    Ok(stream)
}

/// One Router Advertisement to all nodes (RFC 4861 section 4.2), from an address of the namespace, with a lifetime of half an
/// hour and these options.
pub(super) fn advertise(netns: &Netns, interface: &str, from: Ipv6Addr, options: &[u8]) {
    let message = [&[134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..], options].concat();
    icmp(netns, interface, from, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), &message);
}

/// One ICMPv6 message with 255 hops.
pub(super) fn icmp(netns: &Netns, interface: &str, from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) {
    let scope = netns.index(interface).unwrap();
    let send = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.bind(&SocketAddrV6::new(from, 0, 0, scope).into())?;
        socket.send_to(message, &SocketAddrV6::new(to, 0, 0, scope).into())
    };
    netns.run(send).unwrap().unwrap();
}

/// An attribute with a length of two octets.
pub(super) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[flags | 0x10, kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// AS_PATH of AS_SEQUENCEs (RFC 4271 section 4.3).
pub(super) fn as_path(asns: &[[u8; 4]]) -> Vec<u8> {
    let segment = |part: &[[u8; 4]]| [&[2, u8::try_from(part.len()).unwrap()][..], &part.concat()].concat();
    attribute(0x40, 2, &asns.chunks(255).flat_map(segment).collect::<Vec<_>>())
}

fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16][..], &length, &[kind], body].concat()
}

fn nlri(text: &str) -> Vec<u8> {
    let prefix: bgp::Prefix = text.parse().unwrap();
    let octets = match prefix.address() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let used = usize::from(prefix.length()).div_ceil(8);
    [&[prefix.length()], &octets[..used]].concat()
}
