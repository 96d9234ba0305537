//! Which of two connections to the same peer is kept when the peer's OPEN arrives on one of them.
//!
//! RFC 4271 section 6.8; RFC 6286 section 2.3 (equal identifiers); RFC 4724 section 5 (graceful restart).

use std::time::{Duration, Instant};

use super::connection::{Connection, Direction, Stage};
use crate::{Asn, RouterId};

/// How soon after the session was established a new connection is still the other half of a simultaneous dial. A peer
/// that restarted within it is refused once and dials again.
const SIMULTANEOUS: Duration = Duration::from_secs(1);

/// What decides a collision, compared in this order: BGP Identifiers as numbers, then AS numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Speaker {
    pub(super) router_id: RouterId,
    pub(super) asn: Asn,
}

/// What becomes of the connection on which the OPEN arrived and of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both go on: the other one, if any, has no OPEN yet.
    Proceed,
    /// This one is closed with Cease 6/7.
    Yield,
    /// The other one is closed with Cease 6/7.
    Prevail,
    /// The other one was established; the peer restarted and this one takes its place.
    Replace,
}

/// The direction of the connection that is kept: the one that the speaker with the higher identifier opened.
pub(super) fn kept(ours: Speaker, theirs: Speaker) -> Direction {
    if ours > theirs { Direction::Outbound } else { Direction::Inbound }
}

/// A connection that just received the peer's OPEN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender {
    pub(super) direction: Direction,
    /// When TCP was there.
    pub(super) opened: Instant,
}

/// Judges `contender` against the other connection.
pub(super) fn judge(
    ours: Speaker,
    theirs: Speaker,
    contender: Contender,
    other: Option<&Connection>,
) -> Verdict {
    let Some(other) = other else {
        return Verdict::Proceed;
    };
    match &other.stage {
        Stage::OpenSent(_) => Verdict::Proceed,
        Stage::Withheld { .. } | Stage::OpenConfirm(_) | Stage::Contested { .. } => {
            if contender.direction == kept(ours, theirs) { Verdict::Prevail } else { Verdict::Yield }
        }
        // RFC 4724 section 5 asks for a family in the capability. One without (helper only, FRR's default as
        // ToR) counts too: such a peer may have lost its power as well, and RFC 4271 section 6.8 leaves it to us.
        // A connection that was there before the session was established, or came at the same time, is no sign of a
        // restart.
        Stage::Established { negotiated, since } => {
            let restarted = contender.direction == Direction::Inbound
                && contender.opened >= *since + SIMULTANEOUS
                && negotiated.graceful_restart().is_some();
            if restarted { Verdict::Replace } else { Verdict::Yield }
        }
    }
}
