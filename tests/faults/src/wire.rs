//! BGP messages as octets, and what RFC 4271 section 6.1 says of their headers: written anew here, so that the agent is
//! judged by something else than its own decoder.

/// RFC 4271 section 4.1.
pub(crate) const HEADER_LENGTH: usize = 19;
/// RFC 4271 section 4.1, and RFC 8654 section 4 for what is not an OPEN or KEEPALIVE once both sides said so.
const MAX_LENGTH: usize = 4096;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// A message of this type with its right length.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_LENGTH + body.len()).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An UPDATE of its three fields (RFC 4271 section 4.3).
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes();
    let body = [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nlri].concat();
    message(UPDATE, &body)
}

/// ROUTE-REFRESH for IPv4 unicast (RFC 2918), with the subtype of RFC 7313.
pub(crate) fn refresh(subtype: u8) -> Vec<u8> {
    message(ROUTE_REFRESH, &[0, 1, subtype, 1])
}

/// The octets of a text such as `40 01 01 00`.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(16)).collect();
    let octet = |pair: &[u32]| {
        pair.iter()
            .try_fold(0_u8, |octet, digit| octet.checked_mul(16)?.checked_add(u8::try_from(*digit).ok()?))
    };
    digits.chunks(2).filter_map(octet).collect()
}

/// What the receiver of a stream is to make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Whole messages, of these types, with these bodies.
    Messages(Vec<(u8, Vec<u8>)>),
    /// As many whole messages, and then a header that ends the session with this NOTIFICATION.
    Refused { before: Vec<(u8, Vec<u8>)>, code: u8, subcode: u8 },
    /// As many octets more are awaited before anything can be said of the last message.
    Wants(usize),
}

/// Whether the connection has extended messages (RFC 8654).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    Classic,
    Extended,
}

/// Reads a stream by the rules for headers.
pub(crate) fn read(mut stream: &[u8], lengths: Lengths) -> Reading {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let Some((header, rest)) = stream.split_at_checked(HEADER_LENGTH) else {
            return Reading::Wants(HEADER_LENGTH - stream.len());
        };
        let &[.., high, low, kind] = header else { break };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let refused = |subcode| Reading::Refused { before: messages.clone(), code: 1, subcode };
        if !header.iter().take(16).all(|octet| *octet == 0xff) {
            return refused(1);
        }
        let most = match lengths {
            Lengths::Classic => MAX_LENGTH,
            Lengths::Extended => usize::from(u16::MAX),
        };
        let right = match kind {
            OPEN => 29..=MAX_LENGTH,
            UPDATE => 23..=most,
            NOTIFICATION => 21..=most,
            KEEPALIVE => HEADER_LENGTH..=HEADER_LENGTH,
            // RFC 7313 section 5: a wrong length is an error of its own, 7/1.
            ROUTE_REFRESH => HEADER_LENGTH..=most,
            // A type that nobody knows has any length that a message may have.
            _ if (HEADER_LENGTH..=most).contains(&length) => return refused(3),
            _ => return refused(2),
        };
        if !right.contains(&length) {
            return refused(2);
        }
        let Some((body, next)) = rest.split_at_checked(length - HEADER_LENGTH) else {
            return Reading::Wants(length - HEADER_LENGTH - rest.len());
        };
        messages.push((kind, body.to_vec()));
        stream = next;
    }
    Reading::Messages(messages)
}

/// Fills up the last message, so that the receiver has no reason to wait.
pub(crate) fn completed(mut stream: Vec<u8>, lengths: Lengths) -> (Vec<u8>, Reading) {
    loop {
        match read(&stream, lengths) {
            Reading::Wants(more) => stream.resize(stream.len() + more, 0xff),
            reading => return (stream, reading),
        }
    }
}

/// One to four changes of the kinds that find faults in length fields.
pub(crate) fn mutated(message: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut octets = message.to_vec();
    for _ in 0..random.usize(1..=4) {
        // Most behind the header, about which there is little to be got wrong.
        let first = if random.u8(..8) == 0 { 0 } else { HEADER_LENGTH.min(octets.len()) };
        let at = random.usize(first..=octets.len());
        let end = (at + random.usize(..=8)).min(octets.len());
        let Some(range) = octets.get_mut(at..end) else { continue };
        match random.u8(..6) {
            0 => range.fill_with(|| random.u8(..)),
            1 => range.iter_mut().for_each(|octet| *octet ^= 1 << random.u8(..8)),
            2 => range.fill(random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap_or_default()),
            3 => drop(octets.drain(at..end)),
            4 => drop(octets.splice(at..at, (0..random.u8(..9)).collect::<Vec<_>>())),
            _ => octets.truncate(end),
        }
    }
    // In three of four the length is right again, so that it is the body that is wrong.
    let length = u16::try_from(octets.len());
    if let (Ok(length), Some(field), true) = (length, octets.get_mut(16..18), random.u8(..4) != 0) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_judged_by_the_rfc() {
        let keepalive = message(KEEPALIVE, &[]);
        assert_eq!(read(&keepalive, Lengths::Classic), Reading::Messages(vec![(KEEPALIVE, vec![])]));
        let with = |at: usize, octet: u8| {
            let mut message = keepalive.clone();
            *message.get_mut(at).unwrap() = octet;
            message
        };
        for (stream, subcode) in [
            (with(0, 0xfe), 1),
            (with(15, 0), 1),
            (with(17, 18), 2),
            (with(17, 20), 2),
            (with(16, 0x10), 2),
            (with(18, 6), 3),
            (with(18, 0), 3),
            (with(18, OPEN), 2),
            (with(18, UPDATE), 2),
            (with(18, NOTIFICATION), 2),
        ] {
            let refused = Reading::Refused { before: vec![], code: 1, subcode };
            assert_eq!(read(&stream, Lengths::Classic), refused, "{stream:?}");
        }
    }

    #[test]
    fn what_is_incomplete_is_filled_up() {
        let whole = [message(KEEPALIVE, &[]), update(&[], &[], &[8, 10])].concat();
        for length in 0..whole.len() {
            let (stream, reading) = completed(whole.get(..length).unwrap().to_vec(), Lengths::Classic);
            assert!(stream.len() >= length);
            assert!(!matches!(reading, Reading::Wants(_)), "{length}");
        }
        let (_, reading) = completed(whole.get(..40).unwrap().to_vec(), Lengths::Classic);
        let Reading::Messages(messages) = reading else { panic!("{reading:?}") };
        assert_eq!(messages.get(1), Some(&(UPDATE, vec![0, 0, 0xff, 0xff, 0xff, 0xff])));
    }

    #[test]
    fn texts_become_octets() {
        assert_eq!(octets("40 01 0100"), [0x40, 1, 1, 0]);
        assert_eq!(refresh(0), octets("ffffffffffffffffffffffffffffffff 0017 05 0001 00 01"));
    }
}
