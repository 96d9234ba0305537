//! Requests one behind the other in a buffer that is used again for the next: no allocation per message.
//!
//! In: headers and attributes. Out: a datagram. Layout: `struct nlmsghdr` of `linux/netlink.h`, `struct rtattr` of
//! `linux/rtnetlink.h`; every message and attribute begins at a multiple of four octets.

use std::net::IpAddr;

/// NLMSG_ALIGNTO and RTA_ALIGNTO.
const ALIGN: usize = 4;
/// `struct rtattr`, in octets.
const ATTRIBUTE: usize = 4;

/// A datagram in the making.
#[derive(Debug, Default)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

impl Packet {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends one request, whose body `body` writes.
    pub(super) fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.last = start;
        self.append(&[0; 4]);
        self.append(&kind.to_ne_bytes());
        self.append(&flags.to_ne_bytes());
        self.append(&sequence.to_ne_bytes());
        // The kernel knows the port.
        self.append(&[0; 4]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.put(start, length.to_ne_bytes());
    }

    /// Sets flags in the header of the last message.
    pub(super) fn flag_last(&mut self, flags: u16) {
        // `nlmsg_flags` follows the length and the type.
        let at = self.last + 6;
        let before =
            self.bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |now| u16::from_ne_bytes(*now));
        self.put(at, (before | flags).to_ne_bytes());
    }

    pub(super) fn append(&mut self, octets: &[u8]) {
        self.bytes.extend_from_slice(octets);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |packet| packet.append(value));
    }

    pub(super) fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// An attribute whose value `value` writes.
    pub(super) fn nested(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.append(&[0; 2]);
        self.append(&kind.to_ne_bytes());
        debug_assert_eq!(self.bytes.len(), start + ATTRIBUTE, "the length covers its own header");
        value(self);
        self.finish(start);
    }

    /// Writes the 16-bit length in front of what began at `start`, as `struct rtattr` and `struct rtnexthop` have
    /// it, and pads.
    pub(super) fn finish(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.put(start, length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn put<const N: usize>(&mut self, at: usize, octets: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = octets;
        }
    }
}

/// AF_INET or AF_INET6, as headers have it.
pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}
