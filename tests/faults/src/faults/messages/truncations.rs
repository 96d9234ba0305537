//! Real messages, cut at every octet: with the length of the header as it was, with one that fits, and with the lengths
//! inside made to fit as well.

use lab::Result;

use super::{compare, updates};
use crate::site::Site;
use crate::stranger::{Outcome, Speaker, Stranger, open};
use crate::wire::{self, HEADER_LENGTH, OPEN, UPDATE};

/// Octets of an OPEN before its optional parameters (RFC 4271 section 4.2).
const OPEN_FIXED: usize = 10;
/// Types of MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760).
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;

/// Of the OPEN, and of so many UPDATEs.
pub(super) fn all(site: &mut Site, stranger: &Stranger, most: usize) -> Result<()> {
    let opens = opens(site, stranger)?;
    let mut count = 0;
    let updates: Vec<_> = updates().into_iter().take(most).collect();
    for (name, message) in &updates {
        count += cuts_of(site, stranger, name, message)?;
    }
    site.note(format!(
        "{opens} cuts of an OPEN and {count} of {} UPDATEs answered as predicted",
        updates.len()
    ));
    Ok(())
}

fn opens(site: &mut Site, stranger: &Stranger) -> Result<usize> {
    let whole = open();
    let mut count = 0;
    for length in 0..whole.len() {
        // The length says more than comes: the connection ends within a message, and nothing is to be said about it.
        let mut speaker = stranger.connect()?;
        speaker.send(whole.get(..length).unwrap_or_default())?;
        speaker.finish();
        compare(site, || format!("{length} octets of an OPEN"), speaker.outcome_of_open()?, Outcome::Closed);
        count += 1;
    }
    let body = whole.get(HEADER_LENGTH..).unwrap_or_default();
    for length in 0..body.len() {
        let cut = body.get(..length).unwrap_or_default().to_vec();
        let expected = if length < OPEN_FIXED {
            Outcome::Notified { code: 1, subcode: 2 }
        } else {
            // The parameters are as long as ever, and are not there.
            Outcome::Notified { code: 2, subcode: 0 }
        };
        let what = || format!("an OPEN with a body of {length} octets");
        compare(site, what, answer_to_open(stranger, &cut)?, expected);
        count += 1;

        let mut fitting = cut;
        let Some(field) = fitting.get_mut(OPEN_FIXED - 1) else { continue };
        *field = u8::try_from(length - OPEN_FIXED).unwrap_or(u8::MAX);
        let expected = if ends_between(fitting.get(OPEN_FIXED..).unwrap_or_default(), 1) {
            Outcome::Stays
        } else {
            Outcome::Notified { code: 2, subcode: 0 }
        };
        let what = || format!("an OPEN with {} octets of parameters", length - OPEN_FIXED);
        compare(site, what, answer_to_open(stranger, &fitting)?, expected);
        count += 1;
    }
    Ok(count)
}

fn answer_to_open(stranger: &Stranger, body: &[u8]) -> Result<Outcome> {
    let mut speaker = stranger.connect()?;
    speaker.send(&wire::message(OPEN, body))?;
    speaker.outcome_of_open()
}

/// Whether a list of a type, a length and as many octets ends after one of its members; `type_octets` is the number of
/// octets before the length.
fn ends_between(mut list: &[u8], type_octets: usize) -> bool {
    while !list.is_empty() {
        let Some(length) = list.get(type_octets) else { return false };
        match list.get(type_octets + 1 + usize::from(*length)..) {
            Some(rest) => list = rest,
            None => return false,
        }
    }
    true
}

fn cuts_of(site: &mut Site, stranger: &Stranger, name: &str, message: &[u8]) -> Result<usize> {
    let mut session = Session { stranger, speaker: None };
    let body = message.get(HEADER_LENGTH..).unwrap_or_default();
    let fields = Fields::of(body);
    let mut count = 0;
    for length in 0..body.len() {
        let cut = body.get(..length).unwrap_or_default().to_vec();
        let what = || format!("{name} with a body of {length} octets");
        compare(site, what, session.outcome_of(&cut)?, fields.outcome_of_cut(body, length));
        count += 1;
        // Within the attributes, with their length corrected.
        if let Some(attributes) = length.checked_sub(fields.attributes).filter(|_| length < fields.nlri) {
            let mut fitting = cut;
            let size = u16::try_from(attributes).unwrap_or(u16::MAX).to_be_bytes();
            if let Some(field) = fitting.get_mut(fields.attributes - 2..fields.attributes) {
                field.copy_from_slice(&size);
            }
            let attributes = fitting.get(fields.attributes..).unwrap_or_default();
            let expected = outcome_of_attributes(attributes);
            let what = || format!("{name} with {} octets of attributes", attributes.len());
            compare(site, what, session.outcome_of(&fitting)?, expected);
            count += 1;
        }
    }
    // And some in the middle of which the connection ends: each is a session.
    for length in (0..message.len()).step_by(8) {
        let mut speaker = session.take()?;
        speaker.send(message.get(..length).unwrap_or_default())?;
        speaker.finish();
        let seen = loop {
            match speaker.outcome_of_open()? {
                // That is one of its KEEPALIVEs.
                Outcome::Stays => {}
                other => break other,
            }
        };
        compare(site, || format!("{length} octets of {name}"), seen, Outcome::Closed);
        count += 1;
    }
    Ok(count)
}

/// A session for as long as it lasts, and then the next one.
struct Session<'a> {
    stranger: &'a Stranger,
    speaker: Option<Speaker>,
}

impl Session<'_> {
    fn take(&mut self) -> Result<Speaker> {
        self.speaker.take().map_or_else(|| self.stranger.establish(), Ok)
    }

    /// What becomes of an UPDATE with this body.
    fn outcome_of(&mut self, body: &[u8]) -> Result<Outcome> {
        let mut speaker = self.take()?;
        speaker.send(&wire::message(UPDATE, body))?;
        let outcome = speaker.outcome()?;
        if outcome == Outcome::Stays {
            self.speaker = Some(speaker);
        }
        Ok(outcome)
    }
}

/// Where the fields of an UPDATE begin (RFC 4271 section 4.3).
struct Fields {
    attributes: usize,
    nlri: usize,
}

impl Fields {
    fn of(body: &[u8]) -> Self {
        let length_at = |at: usize| match body.get(at..at + 2) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let attributes = 2 + length_at(0) + 2;
        Self { attributes, nlri: attributes + length_at(attributes - 2) }
    }

    /// Of a body of which this much is left, with the lengths inside as they were.
    fn outcome_of_cut(&self, body: &[u8], length: usize) -> Outcome {
        match length {
            // RFC 4271 section 6.1: shorter than any UPDATE.
            0..4 => Outcome::Notified { code: 1, subcode: 2 },
            // Section 6.3, and RFC 7606 section 4: the lengths do not fit the message.
            _ if length < self.nlri => Outcome::Notified { code: 3, subcode: 1 },
            _ if prefixes_are_whole(body.get(self.nlri..length).unwrap_or_default()) => Outcome::Stays,
            _ => Outcome::Notified { code: 3, subcode: 10 },
        }
    }
}

fn prefixes_are_whole(mut nlri: &[u8]) -> bool {
    while let Some(bits) = nlri.first() {
        match nlri.get(1 + usize::from(*bits).div_ceil(8)..) {
            Some(rest) => nlri = rest,
            None => return false,
        }
    }
    true
}

/// Of an UPDATE that ends with these attributes, of which the last may be cut.
fn outcome_of_attributes(mut list: &[u8]) -> Outcome {
    /// Of RFC 4271 section 4.3: the length has two octets.
    const EXTENDED: u8 = 0x10;
    let mut has_reachable = false;
    while !list.is_empty() {
        let next = match list {
            [flags, code, high, low, rest @ ..] if flags & EXTENDED != 0 => {
                rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).map(|rest| (*code, rest))
            }
            [flags, code, length, rest @ ..] if flags & EXTENDED == 0 => {
                rest.get(usize::from(*length)..).map(|rest| (*code, rest))
            }
            _ => None,
        };
        match next {
            Some((code, rest)) => {
                has_reachable |= code == MP_REACH;
                list = rest;
            }
            // RFC 7606 section 3 j: what ran over was to say which prefixes; section 5.2: or there are none.
            None if !has_reachable || matches!(list.get(1), Some(&(MP_REACH | MP_UNREACH))) => {
                return Outcome::Notified { code: 3, subcode: 1 };
            }
            // Section 4: treat-as-withdraw.
            None => return Outcome::Stays,
        }
    }
    Outcome::Stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_updates_are_predicted_to_stay() {
        for (name, message) in updates() {
            let body = message.get(HEADER_LENGTH..).unwrap();
            let fields = Fields::of(body);
            assert!(fields.nlri <= body.len(), "{name}");
            assert_eq!(fields.outcome_of_cut(body, body.len()), Outcome::Stays, "{name}");
            assert_eq!(
                outcome_of_attributes(body.get(fields.attributes..fields.nlri).unwrap()),
                Outcome::Stays,
                "{name}"
            );
        }
        let open = open();
        assert!(ends_between(open.get(HEADER_LENGTH + OPEN_FIXED..).unwrap(), 1));
        assert!(!ends_between(&[2, 3, 0, 0], 1));
    }

    #[test]
    fn cuts_have_the_answers_of_the_rfc() {
        let reset = |subcode| Outcome::Notified { code: 3, subcode };
        let mp = wire::octets("80 0e 17 0002 01 10 20010db8000000000000000000000001 00 08 fd");
        assert_eq!(outcome_of_attributes(&wire::octets("40 01")), reset(1));
        assert_eq!(outcome_of_attributes(&[&mp[..], &[0x40, 1]].concat()), Outcome::Stays);
        assert_eq!(outcome_of_attributes(mp.get(..9).unwrap()), reset(1));
        assert!(prefixes_are_whole(&[8, 10, 0, 16, 172, 16]));
        assert!(!prefixes_are_whole(&[8, 10, 16, 172]));
    }
}
