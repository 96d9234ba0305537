//! UPDATE (RFC 4271 section 4.3, RFC 4760): what came in, what goes out, and the codec between.
//!
//! In: the body of an UPDATE, or an [`Outgoing`]. Out: an [`Update`] that is safe to use whatever the peer sent
//! (RFC 7606), or whole messages by their real length. What both sides agreed on is the [`UpdateCodec`].

use std::borrow::Borrow;

use bytes::{Bytes, BytesMut};

use super::{Attributes, Notification};
use crate::memory::list_octets;
use crate::{Families, Family, PeerKind, Prefix};

mod decode;
mod encode;
pub(super) mod nlri;

/// A received UPDATE after RFC 7606: what remains of it is safe to use.
///
/// Treat-as-withdraw has already moved the reachable prefixes to `withdrawn`. A prefix that is in both lists is
/// reachable (RFC 4271 section 4.3): take `withdrawn` first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// From Withdrawn Routes, MP_UNREACH_NLRI, and everything treated as withdrawn.
    pub withdrawn: Vec<Prefix>,
    /// At most two: the IPv4 NLRI field with NEXT_HOP, and MP_REACH_NLRI with its own next hop.
    pub reach: Vec<Reach>,
    /// The message was the End-of-RIB marker of this family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong with it, for counters and logs; empty for a clean message.
    pub faults: Vec<AttributeFault>,
}

impl Update {
    /// What it takes on the heap, in octets.
    pub(crate) fn heap_octets(&self) -> usize {
        let reach = self.reach.iter();
        let reach: usize =
            reach.map(|reach| list_octets(&reach.prefixes) + reach.attributes.heap_octets()).sum();
        list_octets(&self.withdrawn) + list_octets(&self.reach) + list_octets(&self.faults) + reach
    }
}

/// Prefixes that became reachable with one set of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Including the next hop of these prefixes.
    pub attributes: Attributes,
    /// All of one family; never empty.
    pub prefixes: Vec<Prefix>,
}

/// One malformed attribute and what it cost (RFC 7606).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeFault {
    /// Attribute type code; 0 where the attribute list as a whole was malformed.
    pub code: u8,
    /// The consequence that was drawn.
    pub action: FaultAction,
    /// What was wrong, in words, without a peer's own text in it.
    pub reason: &'static str,
}

/// The consequences that leave the session up; the third one, a reset, is a [`super::Notification`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultAction {
    /// The attribute was dropped, the routes stay.
    Discard,
    /// The routes were treated as withdrawn.
    TreatAsWithdraw,
}

/// What a speaker says in UPDATEs. The encoder makes as many messages of it as it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<A> {
    /// These prefixes, all of one family, have these attributes. `A` is a handle to [`Attributes`].
    Reach {
        /// With the next hop that the peer is to see; never [`crate::NextHop::Itself`].
        attributes: A,
        /// Not empty.
        prefixes: Vec<Prefix>,
    },
    /// These prefixes, all of one family, are gone.
    Unreach {
        /// Not empty.
        prefixes: Vec<Prefix>,
    },
    /// End-of-RIB (RFC 4724 section 2).
    EndOfRib(Family),
}

/// What both OPENs agreed on, as far as it shapes UPDATEs and their limits. It is made by
/// [`crate::session::Negotiated`]; without one no UPDATE can be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateCodec {
    /// Families that both sides announced; NLRI of any other is ignored.
    pub families: Families,
    /// Families whose IPv6 next hop the peer can take (RFC 8950). IPv6 itself needs no entry.
    pub extended_next_hop: Families,
    /// Width of AS numbers in AS_PATH and AGGREGATOR.
    pub as_width: AsWidth,
    /// Longest message that may be sent: 4096, or 65535 where both sides announced RFC 8654.
    pub max_length: usize,
    /// Decides which attributes are legal (LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST).
    pub peer_kind: PeerKind,
    /// How a link-local next hop alone is written.
    pub link_local_form: LinkLocalForm,
}

/// Width of AS numbers on a session (RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsWidth {
    /// The peer did not send capability 65.
    Two,
    /// Both did.
    Four,
}

/// Wire form of a next hop that is only link-local: peers differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkLocalForm {
    /// 16 octets (Juniper; draft-ietf-idr-linklocal-capability).
    Once,
    /// 32 octets, the address twice, as FRR sends it.
    #[default]
    Twice,
}

impl UpdateCodec {
    /// Reads the body of an UPDATE.
    ///
    /// # Errors
    /// The NOTIFICATION, where RFC 7606 leaves nothing but a reset.
    pub fn decode(&self, body: Bytes) -> Result<Update, Notification> {
        decode::decode(self, &body)
    }

    /// Appends as many whole messages as it takes, none longer than `max_length`.
    ///
    /// Prefixes that cannot be said to this peer are left out, and counted in [`Encoded::unsent`]: their
    /// attributes are too large for one message, their family was not negotiated, or their next hop has no form
    /// that the peer takes (an IPv6 one for IPv4 without RFC 8950, an IPv4 one for IPv6,
    /// [`crate::NextHop::Itself`]). Those of a negotiated family are withdrawn instead, so that the peer does
    /// not keep what it was told before.
    pub fn encode<A: Borrow<Attributes>>(&self, outgoing: &Outgoing<A>, out: &mut BytesMut) -> Encoded {
        match outgoing {
            Outgoing::Reach { attributes, prefixes } => {
                encode::reach(self, attributes.borrow(), prefixes, out)
            }
            Outgoing::Unreach { prefixes } => encode::unreach(self, prefixes, out),
            Outgoing::EndOfRib(family) => encode::end_of_rib(self, *family, out),
        }
    }
}

/// What [`UpdateCodec::encode`] appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Whole UPDATEs.
    pub messages: u64,
    /// Prefixes that could not be announced.
    pub unsent: usize,
}

#[cfg(test)]
mod rfc7606;
#[cfg(test)]
mod tests;
