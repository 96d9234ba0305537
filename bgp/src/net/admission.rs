//! Who gets through to the listener: a filter in the kernel, in front of its queues.
//!
//! In: the links and addresses of the neighbors. Out: a classic BPF program for SO_ATTACH_FILTER, which the kernel runs
//! on every segment for the listening socket before it does anything about it (`tcp_filter`, `net/ipv4/tcp_ipv4.c`).
//! A SYN of anybody else gets no answer and takes no place: a pod on a veth of its own cannot fill the queues that the
//! ToRs' connections wait in, and finds no port. Whoever forges a neighbor's address still has to come over its link.
//!
//! The agent checks each connection again: the filter knows links, not which router is on one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockFilter;

use crate::InterfaceIndex;

/// Somebody whose connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// Whoever has a link-local address on this link.
    Link(InterfaceIndex),
    /// This address, IPv4 not mapped; over any link.
    Address(IpAddr),
}

/// `BPF_MAXINSNS` of `linux/bpf_common.h`; two hundred IPv6 addresses take half of it.
const MAX_LENGTH: usize = 4096;
/// `linux/if_ether.h`
const ETHERTYPE_IPV6: u32 = 0x86dd;
/// Offset of the source address in an IPv4 header (RFC 791 section 3.1).
const SOURCE_IPV4: u32 = 12;
/// And in an IPv6 header (RFC 8200 section 3).
const SOURCE_IPV6: u32 = 8;
/// The first ten bits of an address, and what they are in a link-local one (RFC 4291 section 2.5.6).
const LINK_LOCAL: (u32, u32) = (0xffc0_0000, 0xfe80_0000);

const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// The program that lets nobody through but them; `None` where they are too many for one.
pub(super) fn program(callers: &BTreeSet<Caller>) -> Option<Vec<SockFilter>> {
    let ipv6 = ipv6_part(callers);
    let mut program = vec![load_metadata(libc::SKF_AD_PROTOCOL), jump_if_equal(ETHERTYPE_IPV6, 1, 0)];
    program.push(jump(u32::try_from(ipv6.len()).ok()?));
    program.extend(ipv6);
    program.push(load_network(SOURCE_IPV4));
    for caller in callers {
        if let Caller::Address(IpAddr::V4(address)) = caller {
            program.extend([jump_if_equal(Ipv4Addr::to_bits(*address), 0, 1), end(PASS)]);
        }
    }
    program.push(end(DROP));
    (program.len() <= MAX_LENGTH).then_some(program)
}

fn ipv6_part(callers: &BTreeSet<Caller>) -> Vec<SockFilter> {
    let mut links = vec![load_metadata(libc::SKF_AD_IFINDEX)];
    let mut addresses = Vec::new();
    for caller in callers {
        match caller {
            Caller::Link(index) => links.extend([jump_if_equal(index.0, 0, 1), end(PASS)]),
            Caller::Address(IpAddr::V6(address)) => addresses.extend(pass_if_from(*address)),
            Caller::Address(IpAddr::V4(_)) => {}
        }
    }
    links.push(end(DROP));

    let mut part = vec![load_network(SOURCE_IPV6), and(LINK_LOCAL.0), jump_if_equal(LINK_LOCAL.1, 1, 0)];
    part.push(jump(u32::try_from(links.len()).unwrap_or(u32::MAX)));
    part.extend(links);
    part.extend(addresses);
    part.push(end(DROP));
    part
}

/// Four comparisons, each of which skips the rest.
fn pass_if_from(address: Ipv6Addr) -> impl Iterator<Item = SockFilter> {
    let bits = address.to_bits();
    let words = [(96, 0, 7), (64, 4, 5), (32, 8, 3), (0, 12, 1)];
    words
        .into_iter()
        .flat_map(move |(shift, offset, skip)| {
            let word = u32::try_from((bits >> shift) & u128::from(u32::MAX)).unwrap_or_default();
            [load_network(SOURCE_IPV6 + offset), jump_if_equal(word, 0, skip)]
        })
        .chain([end(PASS)])
}

fn load_network(offset: u32) -> SockFilter {
    load(libc::SKF_NET_OFF.cast_unsigned().wrapping_add(offset))
}

fn load_metadata(what: i32) -> SockFilter {
    load((libc::SKF_AD_OFF + what).cast_unsigned())
}

fn load(offset: u32) -> SockFilter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn and(mask: u32) -> SockFilter {
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask)
}

/// Skips the next `equal` or `different` instructions.
fn jump_if_equal(value: u32, equal: u8, different: u8) -> SockFilter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, equal, different, value)
}

/// Skips the next `length` instructions.
fn jump(length: u32) -> SockFilter {
    step(libc::BPF_JMP | libc::BPF_JA, 0, 0, length)
}

fn end(octets: u32) -> SockFilter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, octets)
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> SockFilter {
    // The codes of classic BPF have eight bits.
    SockFilter::new(u16::try_from(code).unwrap_or_default(), jt, jf, k)
}
