//! RFC 7606 as a table: for each attribute that this speaker knows, how it must look and what it costs when
//! it does not.
//!
//! In: the code, flags and length of one attribute of one session. Out: whether it may stand there at all, and
//! the consequence of the first thing that is wrong. What a value means is not looked at here.

use super::super::notification::UpdateSubcode;
use super::super::update::AsWidth;
use crate::PeerKind;

/// Attribute type codes (IANA registry "BGP Path Attributes").
pub(crate) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH_NLRI: u8 = 14;
    pub(crate) const MP_UNREACH_NLRI: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Bits of the attribute flags octet (RFC 4271 section 4.3).
pub(crate) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
}

/// The consequence of a fault, weakest first (RFC 7606 section 2). "AFI/SAFI disable" is not used: with two
/// families on a session, a reset costs little more and is understood by every peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Drop the attribute, keep the routes.
    Discard,
    /// Treat the routes as withdrawn.
    Withdraw,
    /// End the session.
    Reset,
}

/// The category of an attribute (RFC 4271 section 5), which sets its Optional and Transitive bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    WellKnown,
    OptionalTransitive,
    OptionalNonTransitive,
}

/// What lengths are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// The value has a structure of its own that tells.
    Any,
    Exactly(u16),
    /// Depends on the width of AS numbers.
    ByAsWidth {
        two: u16,
        four: u16,
    },
    /// One or more items of this size.
    Items(u16),
}

/// On which sessions the attribute may stand; elsewhere it is discarded unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Legal {
    Everywhere,
    /// RFC 7606 sections 7.5, 7.9 and 7.10.
    Internal,
    /// RFC 6793 section 4.1: a four-octet speaker does not send it.
    TwoOctetAs,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) code: u8,
    pub(crate) category: Category,
    pub(crate) length: Length,
    pub(crate) legal: Legal,
    /// For a wrong length and a wrong value. Wrong flags are never cheaper than [`Action::Withdraw`] (RFC 7606
    /// section 3 c).
    pub(crate) malformed: Action,
    /// How a NOTIFICATION names a wrong value, where it comes to that.
    pub(crate) subcode: UpdateSubcode,
}

use Action::{Discard, Reset, Withdraw};
use Category::{OptionalNonTransitive, OptionalTransitive, WellKnown};
use Legal::{Everywhere, Internal, TwoOctetAs};
use Length::{Any, ByAsWidth, Exactly, Items};
use UpdateSubcode::{InvalidNextHop, InvalidOrigin, MalformedAsPath, OptionalAttribute};

const fn row(
    code: u8,
    category: Category,
    length: Length,
    legal: Legal,
    malformed: Action,
    subcode: UpdateSubcode,
) -> Rule {
    Rule { code, category, length, legal, malformed, subcode }
}

/// Every attribute that this speaker looks into, in the order of their codes. Any other optional attribute is
/// kept untouched, whatever is in it.
#[rustfmt::skip]
pub(crate) const RULES: [Rule; 18] = [
    // RFC 7606 section 7, RFC 4271 section 6.3
    row(code::ORIGIN,           WellKnown,             Exactly(1), Everywhere, Withdraw, InvalidOrigin),
    row(code::AS_PATH,          WellKnown,             Any,        Everywhere, Withdraw, MalformedAsPath),
    row(code::NEXT_HOP,         WellKnown,             Exactly(4), Everywhere, Withdraw, InvalidNextHop),
    row(code::MED,              OptionalNonTransitive, Exactly(4), Everywhere, Withdraw, OptionalAttribute),
    row(code::LOCAL_PREF,       WellKnown,             Exactly(4), Internal,   Withdraw, OptionalAttribute),
    row(code::ATOMIC_AGGREGATE, WellKnown,             Exactly(0), Everywhere, Discard,  OptionalAttribute),
    row(code::AGGREGATOR,       OptionalTransitive,    ByAsWidth { two: 6, four: 8 },
                                                                   Everywhere, Discard,  OptionalAttribute),
    row(code::COMMUNITIES,      OptionalTransitive,    Items(4),   Everywhere, Withdraw, OptionalAttribute),
    row(code::ORIGINATOR_ID,    OptionalNonTransitive, Exactly(4), Internal,   Withdraw, OptionalAttribute),
    row(code::CLUSTER_LIST,     OptionalNonTransitive, Items(4),   Internal,   Withdraw, OptionalAttribute),
    // RFC 7606 sections 5.3 and 7.11: behind a fault in front of them, prefixes cannot be located.
    row(code::MP_REACH_NLRI,    OptionalNonTransitive, Any,        Everywhere, Reset,    OptionalAttribute),
    row(code::MP_UNREACH_NLRI,  OptionalNonTransitive, Any,        Everywhere, Reset,    OptionalAttribute),
    row(code::EXTENDED_COMMUNITIES, OptionalTransitive, Items(8),  Everywhere, Withdraw, OptionalAttribute),
    // RFC 6793 section 6
    row(code::AS4_PATH,         OptionalTransitive,    Any,        TwoOctetAs, Discard,  OptionalAttribute),
    row(code::AS4_AGGREGATOR,   OptionalTransitive,    Exactly(8), TwoOctetAs, Discard,  OptionalAttribute),
    // RFC 7606 section 7.15; checked, then kept as it is
    row(code::IPV6_EXTENDED_COMMUNITIES, OptionalTransitive, Items(20), Everywhere, Withdraw, OptionalAttribute),
    // RFC 8092 section 6
    row(code::LARGE_COMMUNITIES, OptionalTransitive,   Items(12),  Everywhere, Withdraw, OptionalAttribute),
    // RFC 9234 section 5; checked, then kept as it is
    row(code::ONLY_TO_CUSTOMER, OptionalTransitive,    Exactly(4), Everywhere, Withdraw, OptionalAttribute),
];

/// The row of a code; `None` for an attribute that this speaker does not look into.
pub(crate) fn rule(code: u8) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

impl Rule {
    /// Optional and Transitive as they have to be.
    pub(crate) fn flags(&self) -> u8 {
        match self.category {
            WellKnown => flag::TRANSITIVE,
            OptionalTransitive => flag::OPTIONAL | flag::TRANSITIVE,
            OptionalNonTransitive => flag::OPTIONAL,
        }
    }

    /// Partial, Extended Length and the reserved bits are not compared (RFC 7606 section 3 c).
    pub(crate) fn flags_fit(&self, flags: u8) -> bool {
        flags & (flag::OPTIONAL | flag::TRANSITIVE) == self.flags()
    }

    pub(crate) fn wrong_flags(&self) -> Action {
        self.malformed.max(Withdraw)
    }

    pub(crate) fn length_fits(&self, length: usize, width: AsWidth) -> bool {
        match self.length {
            Any => true,
            Exactly(exactly) => length == usize::from(exactly),
            ByAsWidth { two, four } => {
                length
                    == usize::from(match width {
                        AsWidth::Two => two,
                        AsWidth::Four => four,
                    })
            }
            Items(size) => length != 0 && length.is_multiple_of(size.into()),
        }
    }

    pub(crate) fn is_legal(&self, peer: PeerKind, width: AsWidth) -> bool {
        match self.legal {
            Everywhere => true,
            Internal => peer == PeerKind::Internal,
            TwoOctetAs => width == AsWidth::Two,
        }
    }
}
