//! What changes in a namespace's routing tables while nobody looks: the kernel queues its announcements in a socket
//! until they are asked for.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};

use crate::error::{Doing, Result};
use crate::netns::Netns;

/// `1 << (group - 1)` of RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE and RTNLGRP_NEXTHOP in include/uapi/linux/rtnetlink.h.
const GROUPS: u32 = 1 << 6 | 1 << 10 | 1 << 31;
/// RTM_NEWNEXTHOP and RTM_DELNEXTHOP there.
const NEW_NEXTHOP: u16 = 104;
const DELETE_NEXTHOP: u16 = 105;
/// Room for some ten thousand announcements.
const BUFFER: usize = 16 << 20;
/// The kernel's announcements fit into a page or a little more.
const DATAGRAM: usize = 64 << 10;

/// Announcements of changed routes and nexthop objects since it was opened.
#[derive(Debug)]
pub struct Journal {
    socket: OwnedFd,
}

/// One announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub subject: Subject,
    /// Who has made it: rtm_protocol or nh_protocol of rtnetlink(7).
    pub protocol: u8,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// RTM_NEWROUTE, RTM_DELROUTE.
    Route,
    /// RTM_NEWNEXTHOP, RTM_DELNEXTHOP.
    NexthopObject,
}

impl Journal {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(netns: &Netns) -> Result<Self> {
        let doing = || "listen to changes of routes".to_owned();
        netns.run(|| {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
            let socket =
                socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute).doing(doing)?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).doing(doing)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).doing(doing)?;
            Ok(Self { socket })
        })?
    }

    /// What was announced since the last call.
    ///
    /// # Errors
    /// Announcements were lost.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let (mut changes, mut datagram) = (Vec::new(), vec![0; DATAGRAM]);
        loop {
            match recv(self.socket.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
                Ok(length) => changes.extend(parse(datagram.get(..length).unwrap_or_default())),
                Err(Errno::EAGAIN) => return Ok(changes),
                Err(error) => return Err(error).doing(|| "read changes of routes".to_owned()),
            }
        }
    }
}

/// An announcement is a datagram of its own: `nlmsghdr` of 16 octets with its type in the fifth and sixth, and then
/// `rtmsg` with the protocol in the sixth, or `nhmsg` with the protocol in the third.
fn parse(datagram: &[u8]) -> Option<Change> {
    let kind = u16::from_ne_bytes([*datagram.get(4)?, *datagram.get(5)?]);
    let (subject, place) = match kind {
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => (Subject::Route, 16 + 5),
        NEW_NEXTHOP | DELETE_NEXTHOP => (Subject::NexthopObject, 16 + 2),
        _ => return None,
    };
    Some(Change { subject, protocol: *datagram.get(place)? })
}
