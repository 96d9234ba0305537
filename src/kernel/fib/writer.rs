//! How changes reach the kernel: many in one datagram, an acknowledgement for the last.
//!
//! In: [`Operation`]s. Out: for each whether the kernel did it, in its own words. The kernel works a datagram
//! off before `send` returns, in order, and goes on behind a message that it refuses; each refusal carries the
//! sequence number of its message. What the messages look like is [`super::route`]'s; routes over nexthop
//! objects would enter between the two.

use std::collections::HashMap;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;

use super::delta::{Action, Operation};
use super::route::Ownership;
use crate::kernel::netlink::{self, ANSWER_TIMEOUT, KernelError, RECEIVE_BUFFER, Received, Socket};

/// Octets in one datagram, well below the socket's send buffer.
const DATAGRAM: usize = 128 << 10;

/// Nobody knows which of the operations the kernel did.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("netlink socket")]
    Io(#[from] io::Error),
    #[error("acknowledgements were lost")]
    Overrun,
    #[error("the kernel did not answer")]
    Timeout,
}

/// An operation and the kernel's answer.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) operation: Operation,
    pub(super) sequence: u32,
    pub(super) result: Result<(), KernelError>,
}

/// The socket that all our changes go through. Their events carry its port.
pub(super) struct Writer {
    ownership: Ownership,
    socket: Socket,
}

impl Writer {
    /// Opens the socket in the network namespace of this thread.
    pub(super) fn open(ownership: Ownership) -> io::Result<Self> {
        Ok(Self { ownership, socket: Socket::open(&[], RECEIVE_BUFFER)? })
    }

    /// What the kernel writes into events that our changes caused.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Writes the operations in their order. After an error the writer has to be opened again.
    pub(super) async fn write(&mut self, operations: &[Operation]) -> Result<Vec<Outcome>, WriteError> {
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut rest = operations;
        while !rest.is_empty() {
            let (datagram, first, count) = self.encode(rest);
            self.socket.send(&datagram).await?;
            let (now, later) = rest.split_at(count);
            let last = first.wrapping_add(u32::try_from(count).unwrap_or(0)).wrapping_sub(1);
            let mut errors = self.errors_until(last).await?;
            for (sequence, operation) in (first..=last).zip(now) {
                let result = errors.remove(&sequence).map_or(Ok(()), Err);
                outcomes.push(Outcome { operation: operation.clone(), sequence, result });
            }
            rest = later;
        }
        Ok(outcomes)
    }

    /// As many operations as a datagram takes; gives it, the first sequence number and how many they are.
    fn encode(&mut self, operations: &[Operation]) -> (Vec<u8>, u32, usize) {
        let mut datagram = Vec::new();
        let mut last_header = 0;
        let (mut first, mut count) = (0, 0);
        for operation in operations {
            let sequence = self.socket.next_sequence();
            if count == 0 {
                first = sequence;
            }
            last_header = datagram.len();
            let (request, flags) = self.request(operation);
            datagram.extend(netlink::encode(request, NLM_F_REQUEST | flags, sequence));
            count += 1;
            // Sequence numbers within a datagram are consecutive.
            if datagram.len() >= DATAGRAM || sequence == u32::MAX {
                break;
            }
        }
        // `nlmsg_flags` follows the length and the type (`struct nlmsghdr`).
        if let Some(flags) = datagram.get_mut(last_header + 6..last_header + 8) {
            let acknowledged = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&acknowledged.to_ne_bytes());
        }
        (datagram, first, count)
    }

    fn request(&self, operation: &Operation) -> (RouteNetlinkMessage, u16) {
        let key = operation.key;
        match &operation.action {
            Action::Create(route) => (
                RouteNetlinkMessage::NewRoute(self.ownership.route_message(key, route)),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            Action::Replace(route) => (
                RouteNetlinkMessage::NewRoute(self.ownership.route_message(key, route)),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
            Action::Delete => (RouteNetlinkMessage::DelRoute(self.ownership.delete_message(key)), 0),
        }
    }

    /// Reads until the last message is answered; the errors by their sequence numbers.
    async fn errors_until(&mut self, last: u32) -> Result<HashMap<u32, KernelError>, WriteError> {
        let mut errors = HashMap::new();
        loop {
            let received = tokio::time::timeout(ANSWER_TIMEOUT, self.socket.receive()).await;
            match received.map_err(|_elapsed| WriteError::Timeout)?? {
                Received::Overrun => return Err(WriteError::Overrun),
                Received::Datagram => {}
            }
            for message in netlink::messages(self.socket.datagram()).filter(|m| m.kind == NLMSG_ERROR) {
                if let Err(error) = message.result() {
                    errors.insert(message.sequence, error);
                }
                if message.sequence == last {
                    return Ok(errors);
                }
            }
        }
    }
}
