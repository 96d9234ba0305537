//! The BFD Control packet (RFC 5880 section 4.1): octets to a valid packet and back.
//!
//! In: the payload of a UDP datagram. Out: a [`ControlPacket`], or the rule of RFC 5880 section 6.8.6 that discards
//! it. What can be decided from the packet alone is decided here; which session it is for, and where it came from, is
//! for others.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

/// Octets of a packet without authentication, which is all that we send.
pub const LENGTH: usize = 24;
/// The same, as the packet says it.
const LENGTH_OCTET: u8 = 24;
/// Octets of the shortest packet with authentication.
const LENGTH_AUTHENTICATED: u8 = 26;
const VERSION: u8 = 1;

/// Bits of the second octet, below the state.
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// One end's number for a session, unique there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(pub NonZeroU32);

impl Discriminator {
    /// `None` for 0, which stands for "not known".
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }
}

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a session (RFC 5880 section 4.1, `Sta`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Held down by an administrator: says nothing of the path.
    AdminDown,
    /// No word from the other end, or it does not hear us.
    Down,
    /// The other end speaks, and is Down.
    Init,
    /// Both ends hear each other.
    Up,
}

impl fmt::Display for State {
    /// As RFC 5880 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

impl State {
    fn from_bits(octet: u8) -> Self {
        match octet >> 6 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    fn bits(self) -> u8 {
        let number = match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        };
        number << 6
    }
}

/// Why a session last changed its state (RFC 5880 section 4.1, `Diag`): a number of 5 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the Detection Time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The other end said so.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// An administrator of ours wants it.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// A packet that passed every check that needs no session.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                       My Discriminator                        |
/// |                      Your Discriminator                       |
/// |                Desired Min TX Interval (microseconds)         |
/// |               Required Min RX Interval (microseconds)         |
/// |             Required Min Echo RX Interval (microseconds)      |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender's session is as it is.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: the sender wants an answer at once.
    pub poll: bool,
    /// F: this is that answer.
    pub answers_poll: bool,
    /// C: the sender's BFD goes on where its control plane fails.
    pub control_plane_independent: bool,
    /// D: the sender wants us to be silent while both are Up.
    pub demand: bool,
    /// Intervals of silence that are a failure.
    pub multiplier: NonZeroU8,
    /// The sender's number for the session.
    pub my_discriminator: Discriminator,
    /// Ours, where the sender has heard it.
    pub your_discriminator: Option<Discriminator>,
    /// The least interval that the sender wants to send at.
    pub desired_min_tx: Duration,
    /// The least interval that the sender can receive at; zero: it wants no packets.
    pub required_min_rx: Duration,
}

/// The rule of RFC 5880 section 6.8.6 that a packet breaks. Each discards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Less than the fixed part, or less than the packet says.
    #[error("{octets} octets are not the whole packet")]
    Truncated {
        /// What there is.
        octets: usize,
    },
    /// Only version 1 is known.
    #[error("version {0}")]
    Version(u8),
    /// Length is below the least of its kind.
    #[error("length {0} is too short")]
    Length(u8),
    /// Detect Mult is 0.
    #[error("detection multiplier 0")]
    Multiplier,
    /// The M bit is reserved.
    #[error("multipoint bit")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("my discriminator 0")]
    MyDiscriminator,
    /// Your Discriminator is 0 in a state that only an end reaches that has heard us.
    #[error("your discriminator 0 in state {0}")]
    YourDiscriminator(State),
    /// The A bit is set; authentication is not in use.
    #[error("authenticated")]
    Authenticated,
}

/// Reads the payload of a datagram. What follows the packet's own length is ignored.
///
/// # Errors
/// [`DecodeError`], for a packet that has to be discarded.
pub fn decode(payload: &[u8]) -> Result<ControlPacket, DecodeError> {
    let truncated = DecodeError::Truncated { octets: payload.len() };
    let (&[first, second, multiplier, length], rest) = payload.split_first_chunk().ok_or(truncated)?;
    // In the order of RFC 5880 section 6.8.6.
    if first >> 5 != VERSION {
        return Err(DecodeError::Version(first >> 5));
    }
    let is_authenticated = second & AUTHENTICATION != 0;
    if length < if is_authenticated { LENGTH_AUTHENTICATED } else { LENGTH_OCTET } {
        return Err(DecodeError::Length(length));
    }
    if usize::from(length) > payload.len() {
        return Err(truncated);
    }
    let multiplier = NonZeroU8::new(multiplier).ok_or(DecodeError::Multiplier)?;
    if second & MULTIPOINT != 0 {
        return Err(DecodeError::Multipoint);
    }
    let (words, _) = rest.as_chunks::<4>();
    let &[mine, yours, desired_min_tx, required_min_rx, _echo, ..] = words else { return Err(truncated) };
    let my_discriminator =
        Discriminator::new(u32::from_be_bytes(mine)).ok_or(DecodeError::MyDiscriminator)?;
    let your_discriminator = Discriminator::new(u32::from_be_bytes(yours));
    let state = State::from_bits(second);
    match (your_discriminator, state) {
        (Some(_), _) | (None, State::Down | State::AdminDown) => {}
        (None, State::Init | State::Up) => return Err(DecodeError::YourDiscriminator(state)),
    }
    if is_authenticated {
        return Err(DecodeError::Authenticated);
    }
    Ok(ControlPacket {
        diagnostic: Diagnostic(first & 0x1f),
        state,
        poll: second & POLL != 0,
        answers_poll: second & FINAL != 0,
        control_plane_independent: second & CONTROL_PLANE_INDEPENDENT != 0,
        demand: second & DEMAND != 0,
        multiplier,
        my_discriminator,
        your_discriminator,
        desired_min_tx: microseconds(desired_min_tx),
        required_min_rx: microseconds(required_min_rx),
    })
}

impl ControlPacket {
    /// The packet as it is sent. Intervals beyond [`u32::MAX`] microseconds become that.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let second = self.state.bits()
            | flag(self.poll, POLL)
            | flag(self.answers_poll, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        let words = [
            u32::from_be_bytes([
                VERSION << 5 | self.diagnostic.0,
                second,
                self.multiplier.get(),
                LENGTH_OCTET,
            ]),
            self.my_discriminator.0.get(),
            self.your_discriminator.map_or(0, |discriminator| discriminator.0.get()),
            as_microseconds(self.desired_min_tx),
            as_microseconds(self.required_min_rx),
            // RFC 5880 section 6.8.7: we loop no echo packets.
            0,
        ];
        let mut octets = [0; LENGTH];
        for (place, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        octets
    }
}

fn microseconds(word: [u8; 4]) -> Duration {
    Duration::from_micros(u32::from_be_bytes(word).into())
}

fn as_microseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Up, P, multiplier 3, 50 ms both ways, as FRR's bfdd sends it but for the echo interval.
    const OCTETS: [u8; LENGTH] = [
        0x20, 0xe0, 3, 24, 0, 0, 0, 7, 0xa1, 0xb2, 0xc3, 0xd4, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0, 0,
    ];

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: true,
            answers_poll: false,
            control_plane_independent: false,
            demand: false,
            multiplier: NonZeroU8::new(3).unwrap(),
            my_discriminator: Discriminator::new(7).unwrap(),
            your_discriminator: Discriminator::new(0xa1b2_c3d4),
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(50),
        }
    }

    fn with(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut octets = OCTETS.to_vec();
        changes.iter().for_each(|&(at, value)| octets[at] = value);
        octets
    }

    #[test]
    fn a_packet_is_these_octets() {
        assert_eq!(packet().encode(), OCTETS);
        assert_eq!(decode(&OCTETS), Ok(packet()));
    }

    #[test]
    fn each_rule_discards() {
        let cases: [(&str, Vec<u8>, DecodeError); 12] = [
            ("version 0", with(&[(0, 0x00)]), DecodeError::Version(0)),
            ("version 2", with(&[(0, 0x40)]), DecodeError::Version(2)),
            ("a length below 24", with(&[(3, 23)]), DecodeError::Length(23)),
            ("with A, a length below 26", with(&[(1, 0xe4), (3, 25)]), DecodeError::Length(25)),
            ("a length over the payload", with(&[(3, 25)]), DecodeError::Truncated { octets: 24 }),
            ("nothing", Vec::new(), DecodeError::Truncated { octets: 0 }),
            ("multiplier 0", with(&[(2, 0)]), DecodeError::Multiplier),
            ("M", with(&[(1, 0xe1)]), DecodeError::Multipoint),
            ("my discriminator 0", with(&[(7, 0)]), DecodeError::MyDiscriminator),
            (
                "your discriminator 0, Up",
                with(&[(8, 0), (9, 0), (10, 0), (11, 0)]),
                DecodeError::YourDiscriminator(State::Up),
            ),
            (
                "your discriminator 0, Init",
                with(&[(1, 0x80), (8, 0), (9, 0), (10, 0), (11, 0)]),
                DecodeError::YourDiscriminator(State::Init),
            ),
            (
                "authentication",
                [with(&[(1, 0xe4), (3, 26)]), vec![1, 2]].concat(),
                DecodeError::Authenticated,
            ),
        ];
        for (what, octets, error) in cases {
            assert_eq!(decode(&octets), Err(error), "{what}");
        }
    }

    #[test]
    fn an_unheard_end_is_down_or_held_down() {
        for (octet, state) in [(0x40, State::Down), (0x00, State::AdminDown)] {
            let decoded = decode(&with(&[(1, octet), (8, 0), (9, 0), (10, 0), (11, 0)])).unwrap();
            assert_eq!((decoded.state, decoded.your_discriminator), (state, None));
        }
    }

    #[test]
    fn what_follows_the_packet_is_ignored() {
        assert_eq!(decode(&[OCTETS.as_slice(), &[0xff; 40]].concat()), Ok(packet()));
    }

    #[test]
    fn an_interval_too_long_for_the_packet_is_the_longest_there_is() {
        let long = ControlPacket { desired_min_tx: Duration::from_secs(10_000), ..packet() };
        assert_eq!(decode(&long.encode()).unwrap().desired_min_tx, Duration::from_micros(u32::MAX.into()));
    }

    /// Any packet that there can be, valid or not by what only a session can tell.
    pub(in crate::bfd) fn any_packet() -> impl Strategy<Value = ControlPacket> {
        let state =
            prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
        let interval = || {
            prop_oneof![Just(0), 1_u32..2_000_000, any::<u32>()]
                .prop_map(|us| Duration::from_micros(us.into()))
        };
        let head = (0_u8..32, state, any::<[bool; 4]>(), 1_u8..);
        let rest = (1_u32.., any::<u32>(), interval(), interval());
        (head, rest).prop_map(|((diagnostic, state, [poll, answers_poll, c, demand], multiplier), rest)| {
            let (mine, yours, desired_min_tx, required_min_rx) = rest;
            let yours = match state {
                State::AdminDown | State::Down => yours,
                State::Init | State::Up => yours.max(1),
            };
            ControlPacket {
                diagnostic: Diagnostic(diagnostic),
                state,
                poll,
                answers_poll,
                control_plane_independent: c,
                demand,
                multiplier: NonZeroU8::new(multiplier).unwrap(),
                my_discriminator: Discriminator::new(mine).unwrap(),
                your_discriminator: Discriminator::new(yours),
                desired_min_tx,
                required_min_rx,
            }
        })
    }

    proptest! {
        #[test]
        fn a_packet_is_read_as_it_was_written(packet in any_packet(), rest in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&packet.encode()), Ok(packet));
            prop_assert_eq!(decode(&[packet.encode().as_slice(), &rest].concat()), Ok(packet));
        }

        /// Any octets are read without a panic, and what is accepted is encoded and read back the same.
        #[test]
        fn any_octets_end(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = decode(&octets) {
                prop_assert_eq!(decode(&packet.encode()), Ok(packet));
            }
        }

        /// The same near the valid ones, where most of random octets are not.
        #[test]
        fn mutations_of_a_packet_end(
            changes in proptest::collection::vec((0..LENGTH, any::<u8>()), 0..4),
            cut in 0..=LENGTH,
        ) {
            let octets = with(&changes);
            if let Ok(packet) = decode(&octets) {
                prop_assert_eq!(decode(&packet.encode()), Ok(packet));
            }
            if cut < LENGTH {
                prop_assert!(decode(&octets[..cut]).is_err());
            }
        }
    }
}
