//! Router Solicitations and Router Advertisements on the wire (RFC 4861 sections 4.1, 4.2 and 4.6).
//!
//! In: the octets of an ICMPv6 message with the source and hop limit of the packet that carried it. Out: a
//! [`Message`] that passed every check of RFC 4861 sections 6.1.1 and 6.1.2, or the reason to discard it.
//! The ICMPv6 checksum is not looked at: the kernel verifies and fills it for every ICMPv6 raw socket
//! (RFC 3542 section 3.1).
//!
//! Only what tells two routers of each other is kept. Timers, flags, prefixes, MTU and whatever else a router
//! advises to hosts is skipped: this node is a router, and it takes its routes from BGP alone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::Ipv6Addr;
use std::time::Duration;

/// Every node on the link (RFC 4291 section 2.7.1): where advertisements go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every router on the link: where solicitations go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The hop limit of every Neighbor Discovery packet. A router that forwards one makes it 254, so 255 proves
/// that the sender is on the link (RFC 4861 section 3.1, RFC 5082).
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 type of a Router Solicitation (RFC 4861 section 4.1).
pub(super) const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a Router Advertisement (RFC 4861 section 4.2).
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;

/// Type, code, checksum and four octets that are reserved.
const SOLICITATION_HEADER: usize = 8;
/// Up to and including Retrans Timer.
const ADVERTISEMENT_HEADER: usize = 16;
/// The unit in which an option states its length.
const OPTION_UNIT: usize = 8;
/// Option type of the Source Link-Layer Address (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// A valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Asks the routers on the link to advertise themselves.
    Solicitation(Solicitation),
    /// Says that the sender is a router.
    Advertisement(Advertisement),
}

/// A Router Solicitation (RFC 4861 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// The sender's Ethernet address, so that it can be answered without resolving it.
    pub source_link_layer: Option<MacAddress>,
}

/// What is kept of a Router Advertisement (RFC 4861 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// For how long hosts may use the sender as default router. Nothing here depends on it: a router that is
    /// nobody's default router is a BGP neighbor all the same.
    pub router_lifetime: RouterLifetime,
    /// The sender's Ethernet address.
    pub source_link_layer: Option<MacAddress>,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

/// A Router Lifetime in whole seconds: zero (not a default router) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RouterLifetime(u16);

impl RouterLifetime {
    /// Nobody's default router.
    pub const ZERO: Self = Self(0);

    /// The most that RFC 4861 section 6.2.1 lets a router announce: AdvDefaultLifetime of 9000 s.
    pub const MAX_ANNOUNCED: Self = Self(9000);

    /// Whole seconds of `lifetime`, cut to [`Self::MAX_ANNOUNCED`]. The configuration has refused anything
    /// that would be cut.
    #[must_use]
    pub fn announced(lifetime: Duration) -> Self {
        u16::try_from(lifetime.as_secs()).map_or(Self::MAX_ANNOUNCED, Self).min(Self::MAX_ANNOUNCED)
    }

    /// As it stands in an advertisement.
    #[must_use]
    pub fn as_secs(self) -> u16 {
        self.0
    }
}

/// Why a message is not valid. RFC 4861 sections 6.1.1 and 6.1.2: it is discarded in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// Somebody who is not on the link sent it.
    #[error("hop limit {hop_limit}, not 255")]
    HopLimit {
        /// As received.
        hop_limit: u8,
    },
    /// Shorter than its fixed part.
    #[error("{length} octets are too short")]
    TooShort {
        /// Octets of the ICMPv6 message.
        length: usize,
    },
    /// Neither a Router Solicitation nor a Router Advertisement.
    #[error("ICMPv6 type {0}")]
    Type(u8),
    /// A code other than zero.
    #[error("ICMPv6 code {0}, not 0")]
    Code(u8),
    /// An advertisement must come from a link-local address.
    #[error("source {0} is not link-local")]
    SourceNotLinkLocal(Ipv6Addr),
    /// An option states a length of zero: a reader that skips by it never ends.
    #[error("an option of length zero")]
    OptionLengthZero,
    /// An option ends behind the message.
    #[error("an option is cut off")]
    OptionCutOff,
    /// A solicitation from the unspecified address says what the sender's link-layer address is.
    #[error("a source link-layer address option from the unspecified address")]
    LinkLayerOfUnspecified,
}

impl Message {
    /// Reads one message and holds it against RFC 4861 sections 6.1.1 and 6.1.2.
    ///
    /// # Errors
    /// [`Discard`] names the first check that failed.
    pub fn parse(source: Ipv6Addr, hop_limit: u8, octets: &[u8]) -> Result<Self, Discard> {
        if hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit { hop_limit });
        }
        let too_short = Discard::TooShort { length: octets.len() };
        let &[kind, code, ..] = octets else { return Err(too_short) };
        match kind {
            ROUTER_SOLICITATION => {
                let (_, options) = octets.split_first_chunk::<SOLICITATION_HEADER>().ok_or(too_short)?;
                check_code(code)?;
                Solicitation::from_options(source, options).map(Self::Solicitation)
            }
            ROUTER_ADVERTISEMENT => {
                let (header, options) =
                    octets.split_first_chunk::<ADVERTISEMENT_HEADER>().ok_or(too_short)?;
                check_code(code)?;
                Advertisement::from_parts(source, header, options).map(Self::Advertisement)
            }
            other => Err(Discard::Type(other)),
        }
    }
}

impl Solicitation {
    /// ```text
    ///  0                   1                   2                   3
    ///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    /// +---------------+---------------+-------------------------------+
    /// |   Type 133    |    Code 0     |           Checksum            |
    /// +---------------+---------------+-------------------------------+
    /// |                           Reserved                            |
    /// +---------------------------------------------------------------+
    /// |   Options ...
    /// ```
    fn from_options(source: Ipv6Addr, options: &[u8]) -> Result<Self, Discard> {
        let source_link_layer = source_link_layer(options)?;
        // RFC 4861 section 6.1.1, last rule. It holds for an address of any length, so the option's presence
        // counts, not whether we understood it.
        if source.is_unspecified() && source_link_layer != LinkLayer::Absent {
            return Err(Discard::LinkLayerOfUnspecified);
        }
        Ok(Self { source_link_layer: source_link_layer.ethernet() })
    }

    /// The octets of the message, with a checksum of zero for the kernel to fill in.
    #[must_use]
    pub fn to_octets(self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(SOLICITATION_HEADER + OPTION_UNIT);
        octets.extend([ROUTER_SOLICITATION, 0, 0, 0]);
        octets.extend([0; 4]);
        push_source_link_layer(&mut octets, self.source_link_layer);
        octets
    }
}

impl Advertisement {
    /// ```text
    ///  0                   1                   2                   3
    ///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    /// +---------------+---------------+-------------------------------+
    /// |   Type 134    |    Code 0     |           Checksum            |
    /// +---------------+-+-+-----------+-------------------------------+
    /// | Cur Hop Limit |M|O|  Reserved |        Router Lifetime        |
    /// +---------------+-+-+-----------+-------------------------------+
    /// |                         Reachable Time                        |
    /// +---------------------------------------------------------------+
    /// |                          Retrans Timer                        |
    /// +---------------------------------------------------------------+
    /// |   Options ...
    /// ```
    fn from_parts(
        source: Ipv6Addr,
        header: &[u8; ADVERTISEMENT_HEADER],
        options: &[u8],
    ) -> Result<Self, Discard> {
        if !source.is_unicast_link_local() {
            return Err(Discard::SourceNotLinkLocal(source));
        }
        let &[_, _, _, _, _, _, lifetime_high, lifetime_low, ..] = header;
        Ok(Self {
            router_lifetime: RouterLifetime(u16::from_be_bytes([lifetime_high, lifetime_low])),
            source_link_layer: source_link_layer(options)?.ethernet(),
        })
    }

    /// The octets of the message, with a checksum of zero for the kernel to fill in.
    ///
    /// Cur Hop Limit, Reachable Time and Retrans Timer are zero, "unspecified by this router" (RFC 4861 section
    /// 4.2): FRR warns of a value that differs from its own, but not of zero.
    #[must_use]
    pub fn to_octets(self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(ADVERTISEMENT_HEADER + OPTION_UNIT);
        octets.extend([ROUTER_ADVERTISEMENT, 0, 0, 0]);
        octets.extend([0, 0]);
        octets.extend(self.router_lifetime.0.to_be_bytes());
        octets.extend([0; 8]);
        push_source_link_layer(&mut octets, self.source_link_layer);
        octets
    }
}

fn check_code(code: u8) -> Result<(), Discard> {
    if code == 0 { Ok(()) } else { Err(Discard::Code(code)) }
}

/// What the options say of the sender's link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkLayer {
    Absent,
    Ethernet(MacAddress),
    /// An address of another link type.
    Other,
}

impl LinkLayer {
    fn ethernet(self) -> Option<MacAddress> {
        match self {
            Self::Ethernet(address) => Some(address),
            Self::Absent | Self::Other => None,
        }
    }
}

/// Walks all options, since one that is malformed makes the whole message invalid. The first source link-layer
/// address counts; options that we do not know are skipped (RFC 4861 section 4.6).
///
/// ```text
/// +---------------+---------------+----------------------- ...
/// |     Type      |    Length     |   (Length * 8 - 2 octets)
/// +---------------+---------------+----------------------- ...
/// ```
fn source_link_layer(mut options: &[u8]) -> Result<LinkLayer, Discard> {
    let mut found = LinkLayer::Absent;
    while let Some((&kind, rest)) = options.split_first() {
        let &units = rest.first().ok_or(Discard::OptionCutOff)?;
        if units == 0 {
            return Err(Discard::OptionLengthZero);
        }
        let (option, behind) =
            options.split_at_checked(usize::from(units) * OPTION_UNIT).ok_or(Discard::OptionCutOff)?;
        if kind == SOURCE_LINK_LAYER_ADDRESS && found == LinkLayer::Absent {
            found = match option {
                &[_, _, a, b, c, d, e, f] => LinkLayer::Ethernet(MacAddress([a, b, c, d, e, f])),
                _ => LinkLayer::Other,
            };
        }
        options = behind;
    }
    Ok(found)
}

fn push_source_link_layer(octets: &mut Vec<u8>, address: Option<MacAddress>) {
    if let Some(MacAddress(address)) = address {
        octets.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        octets.extend(address);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 1);
    const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 1]);
    const SLLA: [u8; 8] = [1, 1, 0x52, 0x54, 0, 0, 0, 1];
    /// A 16-octet link-layer address option, as InfiniBand has.
    const LONG_SLLA: [u8; 24] = [1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    /// MTU 1500 (RFC 4861 section 4.6.4).
    const MTU: [u8; 8] = [5, 1, 0, 0, 0, 0, 5, 0xdc];
    const UNKNOWN: [u8; 16] = [200, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];

    fn advertisement(options: &[&[u8]]) -> Vec<u8> {
        // As FRR 8.4.4 sends it: hop limit 64, lifetime 30 s.
        let mut octets = vec![134, 0, 0x12, 0x34, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];
        octets.extend(options.concat());
        octets
    }

    fn solicitation(options: &[&[u8]]) -> Vec<u8> {
        let mut octets = vec![133, 0, 0x12, 0x34, 0, 0, 0, 0];
        octets.extend(options.concat());
        octets
    }

    fn with(mut octets: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
        octets[at] = value;
        octets
    }

    fn valid_advertisement(source_link_layer: Option<MacAddress>) -> Result<Message, Discard> {
        Ok(Message::Advertisement(Advertisement { router_lifetime: RouterLifetime(30), source_link_layer }))
    }

    fn valid_solicitation(source_link_layer: Option<MacAddress>) -> Result<Message, Discard> {
        Ok(Message::Solicitation(Solicitation { source_link_layer }))
    }

    #[test]
    fn advertisement_validity_rfc_4861_section_6_1_2() {
        let plain = advertisement(&[]);
        let table = [
            ("plain", ROUTER, 255, plain.clone(), valid_advertisement(None)),
            (
                "reserved bits and flags are not looked at",
                ROUTER,
                255,
                with(plain.clone(), 5, 0xff),
                valid_advertisement(None),
            ),
            ("address", ROUTER, 255, advertisement(&[&SLLA]), valid_advertisement(Some(MAC))),
            (
                "unknown before address",
                ROUTER,
                255,
                advertisement(&[&MTU, &UNKNOWN, &SLLA]),
                valid_advertisement(Some(MAC)),
            ),
            (
                "first address counts",
                ROUTER,
                255,
                advertisement(&[&SLLA, &[1, 1, 9, 9, 9, 9, 9, 9]]),
                valid_advertisement(Some(MAC)),
            ),
            (
                "address of another link type",
                ROUTER,
                255,
                advertisement(&[&LONG_SLLA]),
                valid_advertisement(None),
            ),
            (
                "last address of fe80::/10",
                Ipv6Addr::new(0xfebf, 0, 0, 0, 0, 0, 0, 1),
                255,
                plain.clone(),
                valid_advertisement(None),
            ),
            ("global source", GLOBAL, 255, plain.clone(), Err(Discard::SourceNotLinkLocal(GLOBAL))),
            (
                "no source",
                Ipv6Addr::UNSPECIFIED,
                255,
                plain.clone(),
                Err(Discard::SourceNotLinkLocal(Ipv6Addr::UNSPECIFIED)),
            ),
            (
                "first address behind fe80::/10",
                Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
                255,
                plain.clone(),
                Err(Discard::SourceNotLinkLocal(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1))),
            ),
            ("forwarded once", ROUTER, 254, plain.clone(), Err(Discard::HopLimit { hop_limit: 254 })),
            ("default hop limit", ROUTER, 64, plain.clone(), Err(Discard::HopLimit { hop_limit: 64 })),
            ("code", ROUTER, 255, with(plain.clone(), 1, 1), Err(Discard::Code(1))),
            ("15 octets", ROUTER, 255, plain[..15].to_vec(), Err(Discard::TooShort { length: 15 })),
            ("one octet", ROUTER, 255, plain[..1].to_vec(), Err(Discard::TooShort { length: 1 })),
            ("nothing", ROUTER, 255, vec![], Err(Discard::TooShort { length: 0 })),
            (
                "option of length zero",
                ROUTER,
                255,
                advertisement(&[&[1, 0, 0, 0, 0, 0, 0, 0]]),
                Err(Discard::OptionLengthZero),
            ),
            (
                "length zero behind a good option",
                ROUTER,
                255,
                advertisement(&[&SLLA, &[5, 0]]),
                Err(Discard::OptionLengthZero),
            ),
            ("option cut off", ROUTER, 255, advertisement(&[&SLLA[..7]]), Err(Discard::OptionCutOff)),
            ("option without length", ROUTER, 255, advertisement(&[&SLLA, &[1]]), Err(Discard::OptionCutOff)),
            (
                "option longer than the message",
                ROUTER,
                255,
                advertisement(&[&[200, 255, 0, 0, 0, 0, 0, 0]]),
                Err(Discard::OptionCutOff),
            ),
            ("another type", ROUTER, 255, with(plain, 0, 135), Err(Discard::Type(135))),
        ];
        for (name, source, hop_limit, octets, expected) in table {
            assert_eq!(Message::parse(source, hop_limit, &octets), expected, "{name}");
        }
    }

    #[test]
    fn solicitation_validity_rfc_4861_section_6_1_1() {
        let plain = solicitation(&[]);
        let nobody = Ipv6Addr::UNSPECIFIED;
        let table = [
            ("plain", ROUTER, 255, plain.clone(), valid_solicitation(None)),
            ("address", ROUTER, 255, solicitation(&[&SLLA]), valid_solicitation(Some(MAC))),
            ("from a global address", GLOBAL, 255, plain.clone(), valid_solicitation(None)),
            ("from no address", nobody, 255, plain.clone(), valid_solicitation(None)),
            (
                "from no address with another option",
                nobody,
                255,
                solicitation(&[&MTU]),
                valid_solicitation(None),
            ),
            (
                "from no address with its address",
                nobody,
                255,
                solicitation(&[&SLLA]),
                Err(Discard::LinkLayerOfUnspecified),
            ),
            (
                "the same of another link type",
                nobody,
                255,
                solicitation(&[&LONG_SLLA]),
                Err(Discard::LinkLayerOfUnspecified),
            ),
            ("hop limit", ROUTER, 1, plain.clone(), Err(Discard::HopLimit { hop_limit: 1 })),
            ("code", ROUTER, 255, with(plain.clone(), 1, 7), Err(Discard::Code(7))),
            ("7 octets", ROUTER, 255, plain[..7].to_vec(), Err(Discard::TooShort { length: 7 })),
            (
                "option of length zero",
                ROUTER,
                255,
                solicitation(&[&[200, 0]]),
                Err(Discard::OptionLengthZero),
            ),
            ("option cut off", ROUTER, 255, solicitation(&[&UNKNOWN[..15]]), Err(Discard::OptionCutOff)),
        ];
        for (name, source, hop_limit, octets, expected) in table {
            assert_eq!(Message::parse(source, hop_limit, &octets), expected, "{name}");
        }
    }

    #[test]
    fn octets_on_the_wire() {
        let advertisement =
            Advertisement { router_lifetime: RouterLifetime(30), source_link_layer: Some(MAC) };
        let expected = [134, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];
        assert_eq!(advertisement.to_octets(), expected);
        let solicitation = Solicitation { source_link_layer: None };
        assert_eq!(solicitation.to_octets(), [133, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn announced_lifetime_is_whole_seconds_up_to_9000() {
        assert_eq!(RouterLifetime::announced(Duration::ZERO), RouterLifetime::ZERO);
        assert_eq!(RouterLifetime::announced(Duration::from_millis(1999)), RouterLifetime(1));
        assert_eq!(RouterLifetime::announced(Duration::from_secs(9001)), RouterLifetime::MAX_ANNOUNCED);
        assert_eq!(RouterLifetime::announced(Duration::MAX), RouterLifetime::MAX_ANNOUNCED);
    }

    /// Every message with up to three octets replaced and its tail cut: no panic, and what is still accepted
    /// keeps the rules that the rest of the module leans on.
    #[test]
    fn mutations_do_not_panic() {
        let mut random = fastrand::Rng::with_seed(4861);
        let seeds = [advertisement(&[&SLLA, &MTU, &UNKNOWN]), solicitation(&[&UNKNOWN, &SLLA])];
        let mut accepted = 0_u32;
        for round in 0..200_000_usize {
            let mut octets = seeds[round % 2].clone();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..octets.len());
                octets[at] = random.u8(..);
            }
            if random.u8(..4) == 0 {
                octets.truncate(random.usize(..=octets.len()));
            }
            if let Ok(message) = Message::parse(ROUTER, HOP_LIMIT, &octets) {
                accepted += 1;
                assert_eq!(octets[1], 0);
                assert_eq!(octets.len() % 8, 0);
                assert_eq!(matches!(message, Message::Advertisement(_)), octets[0] == 134);
            }
        }
        assert!(accepted > 10_000, "the mutations reach behind the checks: {accepted}");
    }

    fn mac() -> impl Strategy<Value = Option<MacAddress>> {
        proptest::option::of(any::<[u8; 6]>().prop_map(MacAddress))
    }

    proptest! {
        #[test]
        fn any_octets_do_not_panic(source: u128, hop_limit: u8, octets: Vec<u8>) {
            let _ = Message::parse(source.into(), hop_limit, &octets);
        }

        #[test]
        fn any_options_do_not_panic(options: Vec<u8>) {
            let _ = Message::parse(ROUTER, HOP_LIMIT, &advertisement(&[&options]));
            let _ = Message::parse(ROUTER, HOP_LIMIT, &solicitation(&[&options]));
        }

        #[test]
        fn what_is_built_is_read_back(lifetime: u16, source_link_layer in mac()) {
            let sent = Advertisement { router_lifetime: RouterLifetime(lifetime), source_link_layer };
            prop_assert_eq!(Message::parse(ROUTER, HOP_LIMIT, &sent.to_octets()), Ok(Message::Advertisement(sent)));
            let sent = Solicitation { source_link_layer };
            prop_assert_eq!(Message::parse(ROUTER, HOP_LIMIT, &sent.to_octets()), Ok(Message::Solicitation(sent)));
        }
    }
}
