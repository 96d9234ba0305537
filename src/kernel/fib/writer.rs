//! How changes reach the kernel: many in one datagram, an acknowledgement for the last.
//!
//! In: changes of routes and of nexthop objects. Out: for each whether the kernel did it, in its own words. The
//! kernel works a datagram off before `send` returns, in order, and goes on behind a message that it refuses; each
//! refusal carries the sequence number of its message. At most one datagram is under way.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR};

use super::delta::{Action, Operation};
use super::nexthop;
use super::objects::ObjectOperation;
use super::packet::Packet;
use super::route::{self, Ownership, RequestWay};
use super::table::{Image, Sets};
use crate::kernel::netlink::{self, ANSWER_TIMEOUT, KernelError, RECEIVE_BUFFER, Received, Socket};

/// Octets in one datagram, well below the socket's send buffer.
const DATAGRAM: usize = 128 << 10;
const CREATE: u16 = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
const REPLACE: u16 = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE;

/// Nobody knows which of the changes the kernel made.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("netlink socket")]
    Io(#[from] io::Error),
    #[error("acknowledgements were lost")]
    Overrun,
    #[error("the kernel did not answer")]
    Timeout,
}

/// What the kernel refused: the place in what was written, and why.
pub(super) type Refusals = Vec<(usize, KernelError)>;

/// The socket that all our changes go through. Their events carry its port.
pub(super) struct Writer {
    ownership: Ownership,
    socket: Socket,
    packet: Packet,
}

impl Writer {
    /// Opens the socket in the network namespace of this thread.
    pub(super) fn open(ownership: Ownership) -> io::Result<Self> {
        Ok(Self { ownership, socket: Socket::open(&[], RECEIVE_BUFFER)?, packet: Packet::default() })
    }

    /// What the kernel writes into events that our changes caused.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Changes routes, in this order. After an error the writer has to be opened again.
    pub(super) async fn write(
        &mut self,
        operations: &[Operation],
        sets: &Sets,
    ) -> Result<Refusals, WriteError> {
        let ownership = self.ownership;
        self.write_all(operations, |packet, operation, sequence| {
            append_route(&ownership, packet, operation, sets, sequence);
        })
        .await
    }

    /// As [`Self::write`], nexthop objects.
    pub(super) async fn write_objects(
        &mut self,
        operations: &[ObjectOperation],
    ) -> Result<Refusals, WriteError> {
        self.write_all(operations, append_object).await
    }

    async fn write_all<T>(
        &mut self,
        operations: &[T],
        append: impl Fn(&mut Packet, &T, u32),
    ) -> Result<Refusals, WriteError> {
        let mut refusals = Refusals::new();
        let mut done = 0;
        while let Some(rest) = operations.get(done..).filter(|rest| !rest.is_empty()) {
            let Self { packet, socket, .. } = self;
            packet.clear();
            let (mut first, mut last, mut count) = (0, 0, 0);
            for operation in rest {
                last = socket.next_sequence();
                if count == 0 {
                    first = last;
                }
                append(packet, operation, last);
                count += 1;
                // Sequence numbers within a datagram are consecutive.
                if packet.len() >= DATAGRAM || last == u32::MAX {
                    break;
                }
            }
            packet.flag_last(NLM_F_ACK);
            socket.send(packet.bytes()).await?;
            self.refusals_until(first, last, done, &mut refusals).await?;
            done += count;
        }
        Ok(refusals)
    }

    /// Reads until the last message is answered.
    async fn refusals_until(
        &mut self,
        first: u32,
        last: u32,
        done: usize,
        refusals: &mut Refusals,
    ) -> Result<(), WriteError> {
        loop {
            let received = tokio::time::timeout(ANSWER_TIMEOUT, self.socket.receive()).await;
            match received.map_err(|_elapsed| WriteError::Timeout)?? {
                Received::Overrun => return Err(WriteError::Overrun),
                Received::Datagram => {}
            }
            for message in netlink::messages(self.socket.datagram()).filter(|m| m.kind == NLMSG_ERROR) {
                let place = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Err(error) = message.result() {
                    refusals.push((done.saturating_add(place), error));
                }
                if message.sequence == last {
                    return Ok(());
                }
            }
        }
    }
}

pub(super) fn append_route(
    ownership: &Ownership,
    packet: &mut Packet,
    operation: &Operation,
    sets: &Sets,
    sequence: u32,
) {
    let key = operation.key;
    let (image, flags) = match operation.action {
        Action::Create(image) => (image, CREATE),
        Action::Replace(image) => (image, REPLACE),
        Action::Delete => {
            return packet.message(route::DELETE, NLM_F_REQUEST, sequence, |packet| {
                ownership.append_delete(packet, key);
            });
        }
    };
    let (way, source) = match image {
        Image::InLine { set, source } => (RequestWay::InLine(sets.gateways(set)), source),
        Image::Object { id, source } => (RequestWay::Object(id), source),
        // The other two are never written; a route that drops is the least that could go wrong.
        Image::Blackhole { source } => (RequestWay::Blackhole, source),
        Image::Irregular | Image::Several => (RequestWay::Blackhole, None),
    };
    packet.message(route::NEW, flags, sequence, |packet| ownership.append_route(packet, key, way, source));
}

fn append_object(packet: &mut Packet, operation: &ObjectOperation, sequence: u32) {
    let (nexthop, flags) = match operation {
        ObjectOperation::Create(nexthop) => (nexthop, CREATE),
        ObjectOperation::Replace(nexthop) => (nexthop, REPLACE),
        ObjectOperation::Delete(id) => {
            return packet.message(nexthop::DELETE, NLM_F_REQUEST, sequence, |packet| {
                nexthop::append_delete(packet, *id);
            });
        }
    };
    packet.message(nexthop::NEW, flags, sequence, |packet| nexthop::append_new(packet, nexthop));
}
