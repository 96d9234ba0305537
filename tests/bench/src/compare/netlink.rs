//! What the kernel says about IPv4 routes and nexthop objects, cut out of its messages with as little work as possible:
//! whoever watches a million routes come runs beside the agent that is measured.
//!
//! In: datagrams of a netlink socket. Out: [`Change`]s. Layouts: `linux/netlink.h`, `linux/rtnetlink.h`,
//! `linux/nexthop.h`.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use lab::{Error, Netns, Result};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use smallvec::SmallVec;

use super::fib::{Change, Destination, NexthopObject, Via};
use super::refused;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// NLM_F_REQUEST | NLM_F_DUMP
const REQUEST_DUMP: u16 = 0x301;
/// RTNLGRP_IPV4_ROUTE
const GROUP_IPV4_ROUTE: u32 = 7;
/// RTNLGRP_NEXTHOP
const GROUP_NEXTHOP: u32 = 32;
const AF_INET: u8 = 2;
/// RT_TABLE_MAIN
const MAIN: u32 = 254;
/// RTPROT_STATIC: what has this number or a lower one was not made by a routing daemon.
const STATIC: u8 = 4;
/// RTN_UNICAST
const UNICAST: u8 = 1;
/// RTM_F_CLONED: a cache entry.
const CLONED: u32 = 0x200;
/// The kernel sends at most 32 KiB at once.
const DATAGRAM: usize = 64 << 10;
/// Room for events in octets, so that the watcher may sleep while they come: about 1 KiB each.
const RECEIVE_BUFFER: libc::c_int = 512 << 20;

/// A netlink socket of a namespace; any thread may use it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What a look for events found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// All that there was.
    Everything,
    /// The kernel had no room for some: only a dump tells what is true now.
    Overrun,
}

impl Connection {
    /// Opens a socket for requests.
    pub(super) fn open(netns: &Netns) -> Result<Self> {
        let doing = "open a netlink socket";
        let socket = netns.run(|| Socket::new(NETLINK_ROUTE))?.map_err(refused(doing))?;
        force_receive_buffer(&socket).map_err(refused(doing))?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Opens a socket for the events of IPv4 routes and nexthop objects.
    pub(super) fn listen(netns: &Netns) -> Result<Self> {
        let mut connection = Self::open(netns)?;
        let doing = "listen for routes";
        connection.socket.bind(&SocketAddr::new(0, 0)).map_err(refused(doing))?;
        for group in [GROUP_IPV4_ROUTE, GROUP_NEXTHOP] {
            connection.socket.add_membership(group).map_err(refused(doing))?;
        }
        Ok(connection)
    }

    /// Gives every event that waits, and does not wait for more.
    pub(super) fn drain(&mut self, mut take: impl FnMut(Change)) -> Result<Heard> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    for message in Messages(&self.buffer) {
                        message.change().into_iter().for_each(&mut take);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Everything),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Heard::Overrun),
                Err(error) => return Err(refused("listen for routes")(error)),
            }
        }
    }

    /// Gives every IPv4 route of the main table that a routing daemon made.
    ///
    /// # Errors
    /// Also where the table changed meanwhile too often to be read.
    pub(super) fn dump_routes(&mut self, take: impl FnMut(Change)) -> Result<()> {
        self.dump(RTM_GETROUTE, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], take)
    }

    /// Gives every nexthop object.
    ///
    /// # Errors
    /// As [`Connection::dump_routes`].
    pub(super) fn dump_nexthops(&mut self, take: impl FnMut(Change)) -> Result<()> {
        self.dump(RTM_GETNEXTHOP, &[0; 8], take)
    }

    /// An interrupted dump still has all that did not change; what changed comes as an event. So it is good enough
    /// to begin from, and for a count at rest it is not interrupted.
    fn dump(&mut self, kind: u16, head: &[u8], mut take: impl FnMut(Change)) -> Result<()> {
        let doing = "list routes";
        self.socket.send_to(&request(kind, head), &SocketAddr::new(0, 0), 0).map_err(refused(doing))?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).map_err(refused(doing))?;
            for message in Messages(&self.buffer) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(Error::Missing(format!("the kernel refuses to {doing}"))),
                    _ => message.change().into_iter().for_each(&mut take),
                }
            }
        }
    }
}

fn request(kind: u16, head: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + head.len()).unwrap_or_default();
    let mut request = Vec::with_capacity(16 + head.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence and port: one request at a time needs neither.
    request.extend([0; 8]);
    request.extend(head);
    request
}

/// Beyond net.core.rmem_max, which root may.
fn force_receive_buffer(socket: &Socket) -> io::Result<()> {
    let size = RECEIVE_BUFFER;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the descriptor is open as long as `socket` is borrowed; the kernel reads `length` octets of `size`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The messages of a datagram. One that is cut off ends them.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (&[l0, l1, l2, l3, k0, k1, ..], _) = self.0.split_first_chunk::<16>()?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = self.0.get(16..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes([k0, k1]), payload })
    }
}

impl Message<'_> {
    /// `None` for anything but what the module is about.
    fn change(&self) -> Option<Change> {
        match self.kind {
            RTM_NEWROUTE => route(self.payload).map(|(destination, via)| Change::Route(destination, via)),
            RTM_DELROUTE => route(self.payload).map(|(destination, _)| Change::NoRoute(destination)),
            RTM_NEWNEXTHOP => nexthop(self.payload).map(|(id, object)| Change::Nexthop(id, object)),
            RTM_DELNEXTHOP => nexthop(self.payload).map(|(id, _)| Change::NoNexthop(id)),
            _ => None,
        }
    }
}

/// Attributes: length and type of two octets each, then the value, padded to four.
struct AttributesOf<'a>(&'a [u8]);

impl<'a> Iterator for AttributesOf<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[l0, l1, k0, k1], _) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

/// `struct rtmsg` and its attributes.
fn route(payload: &[u8]) -> Option<(Destination, Via)> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_MULTIPATH: u16 = 9;
    const RTA_TABLE: u16 = 15;
    const RTA_NH_ID: u16 = 30;
    let (&[family, length, _, _, table, protocol, _, kind, f0, f1, f2, f3], attributes) =
        payload.split_first_chunk()?;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    if family != AF_INET || protocol <= STATIC || kind != UNICAST || flags & CLONED != 0 {
        return None;
    }
    let mut table = u32::from(table);
    let mut address = [0; 4];
    let mut object = None;
    let mut interfaces = SmallVec::new();
    for (kind, value) in AttributesOf(attributes) {
        match kind {
            RTA_DST => address = *value.first_chunk()?,
            RTA_OIF => interfaces.push(number(value)?),
            RTA_MULTIPATH => interfaces = legs(value),
            RTA_TABLE => table = number(value)?,
            RTA_NH_ID => object = Some(number(value)?),
            _ => {}
        }
    }
    let via = object.map_or(Via::Interfaces(interfaces), Via::Nexthop);
    (table == MAIN).then_some((Destination { address, length }, via))
}

/// `struct rtnexthop`s: length of two octets, flags, weight, and the index of the interface, then attributes.
fn legs(mut value: &[u8]) -> SmallVec<[u32; 2]> {
    let mut interfaces = SmallVec::new();
    while let Some((&[l0, l1, _, _, i0, i1, i2, i3], _)) = value.split_first_chunk() {
        interfaces.push(u32::from_ne_bytes([i0, i1, i2, i3]));
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        // One of length zero would never end.
        value = value.get(length.next_multiple_of(4).max(8)..).unwrap_or_default();
    }
    interfaces
}

/// `struct nhmsg` and its attributes.
fn nexthop(payload: &[u8]) -> Option<(u32, NexthopObject)> {
    const NHA_ID: u16 = 1;
    const NHA_GROUP: u16 = 2;
    const NHA_OIF: u16 = 5;
    let (_, attributes) = payload.split_first_chunk::<8>()?;
    let mut id = None;
    let mut object = NexthopObject::Blackhole;
    for (kind, value) in AttributesOf(attributes) {
        match kind {
            NHA_ID => id = number(value),
            // struct nexthop_grp: the id, then weight and padding.
            NHA_GROUP => object = NexthopObject::Group(value.chunks_exact(8).filter_map(number).collect()),
            NHA_OIF => object = NexthopObject::Interface(number(value)?),
            _ => {}
        }
    }
    Some((id?, object))
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    const TEN: Destination = Destination { address: [10, 0, 0, 0], length: 26 };

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn message(kind: u16, head: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let payload = [head, &attributes.concat()].concat();
        let length = u32::try_from(16 + payload.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &payload].concat()
    }

    /// `struct rtmsg` of a unicast route of BGP to 10.0.0.0/26.
    fn head(table: u8, protocol: u8) -> [u8; 12] {
        [AF_INET, 26, 0, 0, table, protocol, 0, UNICAST, 0, 0, 0, 0]
    }

    fn changes(octets: &[u8]) -> Vec<Change> {
        Messages(octets).filter_map(|message| message.change()).collect()
    }

    fn leg(interface: u32) -> Vec<u8> {
        // With a gateway behind it, as the kernel writes it.
        let gateway = attribute(18, &[0; 18]);
        let length = u16::try_from(8 + gateway.len()).unwrap();
        [&length.to_ne_bytes()[..], &[0, 0], &interface.to_ne_bytes(), &gateway].concat()
    }

    #[test]
    fn routes_are_read_in_line_and_by_object() {
        let to = attribute(1, &[10, 0, 0, 0]);
        let single = attribute(4, &2_u32.to_ne_bytes());
        let many = attribute(9, &[leg(2), leg(3)].concat());
        let object = attribute(30, &77_u32.to_ne_bytes());
        let octets = [
            message(RTM_NEWROUTE, &head(254, 186), &[to.clone(), single]),
            message(RTM_NEWROUTE, &head(254, 186), &[to.clone(), many.clone()]),
            message(RTM_NEWROUTE, &head(254, 186), &[to.clone(), object, many]),
            message(RTM_DELROUTE, &head(254, 186), &[to]),
        ]
        .concat();
        let expected = [
            Change::Route(TEN, Via::Interfaces(smallvec![2])),
            Change::Route(TEN, Via::Interfaces(smallvec![2, 3])),
            Change::Route(TEN, Via::Nexthop(77)),
            Change::NoRoute(TEN),
        ];
        assert_eq!(changes(&octets), expected);
    }

    #[test]
    fn only_the_main_tables_routes_of_routing_daemons_count() {
        let to = attribute(1, &[10, 0, 0, 0]);
        let elsewhere = attribute(15, &1000_u32.to_ne_bytes());
        for (head, attributes) in [
            (head(254, 2), vec![to.clone()]),
            (head(255, 186), vec![to.clone()]),
            (head(252, 186), vec![to.clone(), elsewhere]),
        ] {
            assert_eq!(changes(&message(RTM_NEWROUTE, &head, &attributes)), []);
        }
    }

    #[test]
    fn nexthop_objects_are_read() {
        let id = attribute(1, &5_u32.to_ne_bytes());
        let member = |id: u32| [&id.to_ne_bytes()[..], &[0; 4]].concat();
        let group = attribute(2, &[member(3), member(4)].concat());
        let interface = attribute(5, &2_u32.to_ne_bytes());
        let octets = [
            message(RTM_NEWNEXTHOP, &[0; 8], &[id.clone(), interface]),
            message(RTM_NEWNEXTHOP, &[0; 8], &[id.clone(), group]),
            message(RTM_DELNEXTHOP, &[0; 8], &[id]),
        ]
        .concat();
        let expected = [
            Change::Nexthop(5, NexthopObject::Interface(2)),
            Change::Nexthop(5, NexthopObject::Group(smallvec![3, 4])),
            Change::NoNexthop(5),
        ];
        assert_eq!(changes(&octets), expected);
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        let to = attribute(1, &[10, 0, 0, 0]);
        let whole = message(RTM_NEWROUTE, &head(254, 186), &[to, attribute(30, &77_u32.to_ne_bytes())]);
        for length in 0..whole.len() {
            assert_eq!(changes(&whole[..length]), [], "{length} octets");
        }
        assert_eq!(changes(&whole).len(), 1);
    }
}
