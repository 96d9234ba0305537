//! AS_PATH and AS4_PATH (RFC 4271 section 4.3 b, RFC 5065, RFC 6793): one value in four-octet wire form.
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! | Segment type  |  Count 1-255  |  count numbers, 2 or 4 octets each
//! +---------------+---------------+-------------------------------+
//! ```

use std::fmt;

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::super::update::AsWidth;
use super::super::wire::Reader;
use crate::Asn;

/// Numbers in one segment: its count is one octet.
pub(super) const MAX_SEGMENT: usize = 255;

/// An AS_PATH of four-octet numbers.
///
/// In wire form: a path is compared and copied far more often than it is looked into. Paths of a fabric are short, and
/// five ASes need no allocation.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath {
    wire: SmallVec<[u8; 24]>,
}

/// The types of AS_PATH segment, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// 1, AS_SET (deprecated by RFC 9774: withdrawn where it comes in).
    Set,
    /// 2, AS_SEQUENCE
    Sequence,
    /// 3, AS_CONFED_SEQUENCE (RFC 5065)
    ConfedSequence,
    /// 4, AS_CONFED_SET (RFC 5065)
    ConfedSet,
}

/// One segment of an AS_PATH: 1 to 255 numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// What the numbers mean.
    pub kind: SegmentKind,
    /// In the order of the wire.
    pub asns: Vec<Asn>,
}

impl AsPath {
    /// Puts the segments together, splitting what is longer than 255 and leaving out what is empty.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut wire = Vec::new();
        for segment in segments {
            for asns in segment.asns.chunks(MAX_SEGMENT) {
                push_segment(&mut wire, segment.kind, asns.iter().copied());
            }
        }
        Self { wire: SmallVec::from_slice(&wire) }
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        self.views().map(|view| Segment { kind: view.kind, asns: view.asns().collect() })
    }

    /// What it takes on the heap.
    pub(super) fn heap_octets(&self) -> usize {
        if self.wire.spilled() { self.wire.capacity() } else { 0 }
    }

    /// Whether there is no AS in it: the route originates in the AS of the speaker that sent it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Length as the decision counts it: a set is one, confederation segments are none (RFC 4271 section
    /// 9.1.2.2 a, RFC 5065 section 5.3).
    #[must_use]
    pub fn length(&self) -> usize {
        self.views().map(|view| view.length()).sum()
    }

    /// Whether the AS is anywhere in it (the loop test of RFC 4271 section 9.1.2).
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.views().flat_map(View::asns).any(|other| other == asn)
    }

    /// How often the AS is in it.
    #[must_use]
    pub fn count(&self, asn: Asn) -> usize {
        self.views().flat_map(View::asns).filter(|&other| other == asn).count()
    }

    /// The AS next to us: the first of a leading AS_SEQUENCE.
    #[must_use]
    pub fn neighbor_as(&self) -> Option<Asn> {
        self.views().next().filter(|view| view.kind == SegmentKind::Sequence)?.asns().next()
    }

    /// The AS where the route comes from: the last of a trailing AS_SEQUENCE.
    #[must_use]
    pub fn origin_as(&self) -> Option<Asn> {
        self.views().last().filter(|view| view.kind == SegmentKind::Sequence)?.asns().last()
    }

    /// The path with the AS put before it, in a new segment where the first one is full (RFC 4271 section 5.1.2).
    #[must_use]
    pub fn prepended(&self, asn: Asn) -> Self {
        let mut views = self.views();
        let mut wire = Vec::with_capacity(self.wire.len() + 6);
        match views.next() {
            Some(first) if first.kind == SegmentKind::Sequence && first.numbers.len() < MAX_SEGMENT => {
                push_segment(&mut wire, first.kind, std::iter::once(asn).chain(first.asns()));
                wire.extend_from_slice(views.reader.rest());
            }
            Some(_) | None => {
                push_segment(&mut wire, SegmentKind::Sequence, std::iter::once(asn));
                wire.extend_from_slice(&self.wire);
            }
        }
        Self { wire: SmallVec::from_slice(&wire) }
    }

    /// Reads the value of an AS_PATH or AS4_PATH. Only its structure is checked.
    ///
    /// # Errors
    /// What is wrong with it (RFC 7606 section 7.2).
    pub(super) fn decode(value: &[u8], width: AsWidth) -> Result<Self, &'static str> {
        let mut reader = Reader::new(value);
        let mut wide = Vec::new();
        while let Some(code) = reader.u8() {
            let kind = SegmentKind::from_code(code).ok_or("unknown segment type")?;
            let count = reader.u8().ok_or("segment without a count")?;
            if count == 0 {
                return Err("empty segment");
            }
            let octets = match width {
                AsWidth::Two => 2,
                AsWidth::Four => 4,
            };
            let numbers = reader.take(usize::from(count) * octets).ok_or("segment longer than the path")?;
            if width == AsWidth::Two {
                let (numbers, _) = numbers.as_chunks::<2>();
                let asns = numbers.iter().map(|number| Asn(u16::from_be_bytes(*number).into()));
                push_segment(&mut wide, kind, asns);
            }
        }
        Ok(Self {
            wire: match width {
                AsWidth::Two => SmallVec::from_slice(&wide),
                AsWidth::Four => SmallVec::from_slice(value),
            },
        })
    }

    /// Appends the value. Numbers that two octets do not hold become AS_TRANS (RFC 6793 section 4.2.2).
    pub(super) fn encode(&self, width: AsWidth, out: &mut BytesMut) {
        match width {
            AsWidth::Four => out.put_slice(&self.wire),
            AsWidth::Two => {
                for view in self.views() {
                    out.put_u8(view.kind.code());
                    out.put_u8(u8::try_from(view.numbers.len()).unwrap_or(u8::MAX));
                    view.asns().for_each(|asn| out.put_u16(asn.two_octet()));
                }
            }
        }
    }

    /// The segments without an allocation.
    pub(super) fn views(&self) -> Views<'_> {
        Views { reader: Reader::new(&self.wire) }
    }

    /// Whether a two-octet speaker would see AS_TRANS in place of a number.
    pub(super) fn needs_four_octets(&self) -> bool {
        self.views().flat_map(View::asns).any(|asn| u16::try_from(asn.0).is_err())
    }
}

/// The segments of a path, borrowed from it.
#[derive(Debug)]
pub(super) struct Views<'a> {
    reader: Reader<'a>,
}

/// One segment, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) kind: SegmentKind,
    numbers: &'a [[u8; 4]],
}

impl<'a> Iterator for Views<'a> {
    type Item = View<'a>;

    /// The wire form was checked when the path was made, so that it ends only where the path does.
    fn next(&mut self) -> Option<View<'a>> {
        let kind = SegmentKind::from_code(self.reader.u8()?)?;
        let count = usize::from(self.reader.u8()?);
        let (numbers, _) = self.reader.take(count * 4)?.as_chunks();
        Some(View { kind, numbers })
    }
}

impl<'a> View<'a> {
    pub(super) fn asns(self) -> impl Iterator<Item = Asn> + 'a {
        self.numbers.iter().map(|number| Asn(u32::from_be_bytes(*number)))
    }

    pub(super) fn length(self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.numbers.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

/// The caller gives 1 to 255 numbers.
fn push_segment(wire: &mut Vec<u8>, kind: SegmentKind, asns: impl Iterator<Item = Asn>) {
    let start = wire.len();
    wire.extend_from_slice(&[kind.code(), 0]);
    let mut count = 0_u8;
    for asn in asns {
        count = count.saturating_add(1);
        wire.extend_from_slice(&asn.0.to_be_bytes());
    }
    if let Some(field) = wire.get_mut(start + 1) {
        *field = count;
    }
}

impl SegmentKind {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    fn brackets(self) -> (&'static str, &'static str) {
        match self {
            Self::Set => ("{", "}"),
            Self::Sequence => ("", ""),
            Self::ConfedSequence => ("(", ")"),
            Self::ConfedSet => ("[", "]"),
        }
    }
}

/// `65001 65002 {1 2} (65100)`; a confederation set is in square brackets.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, view) in self.views().enumerate() {
            let (open, close) = view.kind.brackets();
            f.write_str(if position == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (position, asn) in view.asns().enumerate() {
                f.write_str(if position == 0 { "" } else { " " })?;
                asn.fmt(f)?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

#[cfg(test)]
mod tests;
