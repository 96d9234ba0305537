//! What four-octet AS numbers become on a session that only has two octets for them (RFC 6793 section 4.2).

use super::Aggregator;
use super::as_path::{AsPath, MAX_SEGMENT, Segment, SegmentKind};
use crate::Asn;

/// The path and aggregator that the four attributes of a two-octet session stand for (RFC 6793 section 4.2.3).
pub(super) fn reconcile(
    as_path: AsPath,
    aggregator: Option<Aggregator>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
) -> (AsPath, Option<Aggregator>) {
    let aggregator = match (aggregator, as4_aggregator) {
        // A two-octet speaker aggregated again: what came before it says nothing about this route.
        (Some(seen), Some(_)) if seen.asn != Asn::TRANS => return (as_path, Some(seen)),
        (Some(_), Some(real)) => Some(real),
        (seen, _) => seen,
    };
    let path = match as4_path {
        Some(as4_path) => merge(&as_path, &as4_path).unwrap_or(as_path),
        None => as_path,
    };
    (path, aggregator)
}

/// The leading numbers of AS_PATH that AS4_PATH does not know, then AS4_PATH; `None` where AS4_PATH is the
/// longer one and so cannot be of this path.
fn merge(as_path: &AsPath, as4_path: &AsPath) -> Option<AsPath> {
    let mut missing = as_path.length().checked_sub(as4_path.length())?;
    let mut segments = Vec::new();
    for segment in as_path.segments() {
        if missing == 0 {
            break;
        }
        let mut segment = segment;
        match segment.kind {
            SegmentKind::Sequence => {
                segment.asns.truncate(missing);
                missing -= segment.asns.len();
            }
            SegmentKind::Set => missing -= 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => {}
        }
        segments.push(segment);
    }
    Some(joined(segments, as4_path))
}

/// Both parts; where two sequences meet that fit one segment, they become one.
fn joined(mut segments: Vec<Segment>, as4_path: &AsPath) -> AsPath {
    let mut rest = as4_path.segments();
    if let Some(next) = rest.next() {
        match segments.last_mut() {
            Some(last)
                if last.kind == SegmentKind::Sequence
                    && next.kind == SegmentKind::Sequence
                    && last.asns.len() + next.asns.len() <= MAX_SEGMENT =>
            {
                last.asns.extend(next.asns);
            }
            _ => segments.push(next),
        }
    }
    AsPath::from_segments(segments.into_iter().chain(rest))
}

/// The path without its confederation segments, which never stand in AS4_PATH (RFC 6793 section 3).
pub(super) fn without_confederation(path: &AsPath) -> AsPath {
    AsPath::from_segments(path.segments().filter(|segment| match segment.kind {
        SegmentKind::Set | SegmentKind::Sequence => true,
        SegmentKind::ConfedSequence | SegmentKind::ConfedSet => false,
    }))
}
