//! What one router tells another by BGP, put together from the frames on their cable: whatever it was, however short it
//! held. In: a [`Capture`]. Out: the messages of one side, in the order of each connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bgp::message::update::{AsWidth, LinkLocalForm};
use bgp::message::{MAX_EXTENDED_LENGTH, MessageKind, Update, UpdateCodec, frame};
use bgp::{Families, PeerKind};
use bytes::BytesMut;

use crate::capture::{Capture, Segment};
use crate::error::{Error, Result};
use crate::link::Mac;
use crate::netns::Netns;

/// One side's messages, from the moment it was made.
#[derive(Debug)]
pub struct Speech {
    capture: Capture,
    speaker: Mac,
    connections: BTreeMap<(u16, u16), Stream>,
    heard: VecDeque<Update>,
}

impl Speech {
    /// Listens to what the router in this namespace says over this interface. Connections that are there already are not
    /// heard.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn hear(netns: &Netns, interface: &str) -> Result<Self> {
        let speaker = netns.mac(interface)?;
        let capture = Capture::start(netns, interface)?;
        Ok(Self { capture, speaker, connections: BTreeMap::new(), heard: VecDeque::new() })
    }

    /// The next UPDATE to another AS, waited for.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`, with what is missing of a connection, or [`Error::Missing`] where something is
    /// no BGP.
    pub fn next_update(&mut self, limit: Duration) -> Result<Update> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(update) = self.heard.pop_front() {
                return Ok(update);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(frame) = self.capture.await_frame(left, |frame| frame.from == self.speaker) else {
                let early: usize = self.connections.values().map(|stream| stream.early.len()).sum();
                let what = format!("an UPDATE ({early} segments lack one before them)");
                return Err(Error::Timeout { what, limit });
            };
            let Some(segment) = frame.bgp_segment() else { continue };
            let stream = self.connections.entry(segment.ports).or_default();
            stream.take(&segment);
            stream.read(&mut self.heard)?;
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    /// Where the next segment is to begin; `None` as long as its beginning was not seen.
    next: Option<u32>,
    early: BTreeMap<u32, Vec<u8>>,
    octets: BytesMut,
}

impl Stream {
    fn take(&mut self, segment: &Segment<'_>) {
        if segment.is_first {
            // RFC 9293 section 3.4: the SYN takes one number. The same ports may be used again.
            *self = Self { next: Some(segment.sequence.wrapping_add(1)), ..Self::default() };
            return;
        }
        if !segment.payload.is_empty() {
            self.early.insert(segment.sequence, segment.payload.to_vec());
        }
        let Some(mut next) = self.next else { return self.early.clear() };
        // Numbers wrap: the order of the map says nothing.
        let follows = |next: u32, early: &BTreeMap<u32, Vec<u8>>| {
            early.keys().copied().find(|begin| begin.wrapping_sub(next).cast_signed() <= 0)
        };
        while let Some(begin) = follows(next, &self.early) {
            let payload = self.early.remove(&begin).unwrap_or_default();
            let known = usize::try_from(next.wrapping_sub(begin)).unwrap_or(usize::MAX);
            let new = payload.get(known..).unwrap_or_default();
            self.octets.extend_from_slice(new);
            // A segment is no longer than an IP packet.
            next = next.wrapping_add(u32::try_from(new.len()).unwrap_or(0));
        }
        self.next = Some(next);
    }

    fn read(&mut self, heard: &mut VecDeque<Update>) -> Result<()> {
        let codec = UpdateCodec {
            families: Families::ALL,
            extended_next_hop: Families::ALL,
            as_width: AsWidth::Four,
            max_length: MAX_EXTENDED_LENGTH,
            peer_kind: PeerKind::External,
            link_local_form: LinkLocalForm::default(),
        };
        let refused = |notification| Error::Missing(format!("a BGP message: {notification:?}"));
        while let Some(message) = frame(&mut self.octets, MAX_EXTENDED_LENGTH).map_err(refused)? {
            match message.kind {
                MessageKind::Update => heard.push_back(codec.decode(message.body).map_err(refused)?),
                MessageKind::Open
                | MessageKind::Notification
                | MessageKind::Keepalive
                | MessageKind::RouteRefresh => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv4 10.0.0.0/8 is gone.
    const UPDATE: [u8; 25] = [
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 25, 2, 0, 2, 8,
        10, 0, 0,
    ];

    fn segment(sequence: u32, payload: &[u8]) -> Segment<'_> {
        Segment { ports: (40000, 179), sequence, is_first: false, payload }
    }

    #[test]
    fn segments_come_in_any_order_and_twice_and_numbers_wrap() {
        let start = u32::MAX - 10;
        let mut stream = Stream::default();
        stream.take(&Segment { is_first: true, ..segment(start, &[]) });
        let at = |offset: usize| start.wrapping_add(1).wrapping_add(u32::try_from(offset).unwrap());
        let mut heard = VecDeque::new();
        for (from, to) in [(15, 25), (0, 5), (3, 10), (0, 5), (10, 12), (3, 15)] {
            assert!(heard.is_empty());
            stream.take(&segment(at(from), &UPDATE[from..to]));
            stream.read(&mut heard).unwrap();
        }
        assert_eq!(heard.iter().flat_map(|update| &update.withdrawn).count(), 1);
        assert!(stream.octets.is_empty() && stream.early.is_empty());
    }

    #[test]
    fn a_connection_whose_beginning_was_not_seen_is_not_heard() {
        let mut stream = Stream::default();
        stream.take(&segment(7, &UPDATE));
        let mut heard = VecDeque::new();
        stream.read(&mut heard).unwrap();
        assert!(heard.is_empty() && stream.early.is_empty());
    }
}
