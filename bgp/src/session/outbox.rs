//! What the session has yet to ask of its driver, and the count of what it sent.

use std::collections::VecDeque;

use super::Action;
use crate::message::MessageKind;

/// Messages of one direction since the neighbor was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// OPEN
    pub open: u64,
    /// UPDATE
    pub update: u64,
    /// NOTIFICATION
    pub notification: u64,
    /// KEEPALIVE
    pub keepalive: u64,
    /// ROUTE-REFRESH
    pub route_refresh: u64,
}

impl MessageCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.route_refresh
    }

    pub(super) fn add(&mut self, kind: MessageKind, messages: u64) {
        let count = match kind {
            MessageKind::Open => &mut self.open,
            MessageKind::Update => &mut self.update,
            MessageKind::Notification => &mut self.notification,
            MessageKind::Keepalive => &mut self.keepalive,
            MessageKind::RouteRefresh => &mut self.route_refresh,
        };
        *count = count.saturating_add(messages);
    }
}

/// Actions in order. It is emptied after each event, so it holds what one event brings.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    sent: MessageCounts,
}

impl Outbox {
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn sent(&self) -> MessageCounts {
        self.sent
    }

    /// Counts the messages of one kind that were encoded one after the other.
    pub(super) fn count(&mut self, kind: MessageKind, encoded: &[u8]) {
        self.sent.add(kind, count_messages(encoded));
    }
}

/// Follows the length fields of the headers (RFC 4271 section 4.1): marker of 16 octets, then the length.
fn count_messages(mut encoded: &[u8]) -> u64 {
    let mut messages = 0;
    while let Some(&[high, low]) = encoded.get(16..18) {
        messages += 1;
        let length = usize::from(u16::from_be_bytes([high, low]));
        match encoded.get(length..) {
            Some(rest) if length > 0 => encoded = rest,
            Some(_) | None => break,
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16) -> Vec<u8> {
        let mut bytes = vec![0xff; length.into()];
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn messages_are_counted_by_their_headers() {
        assert_eq!(count_messages(&[]), 0);
        assert_eq!(count_messages(&message(19)), 1);
        assert_eq!(count_messages(&[message(23), message(4096), message(19)].concat()), 3);
        assert_eq!(count_messages(&[0; 100]), 1, "a length of zero ends the walk");
    }
}
