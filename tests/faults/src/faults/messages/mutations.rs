//! Real messages with seeded changes, one after the other at a daemon that works.
//!
//! A header that is wrong has its answer in RFC 4271 section 6.1, and that is what has to come. Of a wrong body it is
//! known which codes an answer may have. A session that stays is used on; one that ends is followed by the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use lab::{Error, Result, check_interrupt};

use super::updates;
use crate::site::Site;
use crate::stranger::{Outcome, Speaker, Stranger, open};
use crate::wire::{self, KEEPALIVE, Lengths, NOTIFICATION, OPEN, ROUTE_REFRESH, Reading, completed, mutated};

/// Gives the seed; without it there is one of the clock.
const SEED: &str = "SELVEDGE_SEED";
/// Between two questions to the control socket, in mutations.
const ASKED_EVERY: u32 = 500;
/// What the agent may take to answer a question meanwhile.
const ANSWER: Duration = Duration::from_secs(2);
/// That many surprises are enough to look into.
const MOST_WORDS: u32 = 20;

/// What may come of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Expected {
    /// Codes of messages that may be wrong, in ways that are not looked into.
    codes: Vec<u8>,
    /// What comes if none of those is.
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    /// The session goes on.
    #[default]
    Stays,
    /// This NOTIFICATION.
    Notified { code: u8, subcode: u8 },
    /// Nothing is answered to the peer's own end.
    Closed,
}

impl Expected {
    fn allows(&self, outcome: Outcome) -> bool {
        match (self.end, outcome) {
            (End::Stays, Outcome::Stays) | (End::Closed, Outcome::Closed) => true,
            (End::Notified { code, subcode }, Outcome::Notified { code: seen, subcode: sub })
                if (code, subcode) == (seen, sub) =>
            {
                true
            }
            (_, Outcome::Notified { code, .. }) => self.codes.contains(&code),
            (_, Outcome::Stays | Outcome::Closed | Outcome::Silence) => false,
        }
    }
}

pub(super) fn some(site: &mut Site, stranger: &Stranger, count: u32) -> Result<()> {
    let seed = match std::env::var(SEED) {
        Ok(text) => {
            text.parse().map_err(|_| Error::Missing(format!("{SEED} is {text:?}: a number is meant")))?
        }
        Err(_) => fastrand::u64(..),
    };
    println!("{SEED}={seed}");
    let mut random = Rng::with_seed(seed);
    let mut messages: Vec<Vec<u8>> = updates().into_iter().map(|(_, message)| message).collect();
    messages.extend([
        wire::message(KEEPALIVE, &[]),
        wire::refresh(0),
        // Cease, Administrative Shutdown, with a text (RFC 9003).
        wire::message(NOTIFICATION, &[6, 2, 3, b'b', b'y', b'e']),
    ]);
    let mut speaker: Option<Speaker> = None;
    let mut tally: BTreeMap<Outcome, u32> = BTreeMap::new();
    let (mut surprises, mut slowest) = (0, Duration::ZERO);
    for number in 0..count {
        check_interrupt()?;
        let (outcome, expected, stream) = if random.u8(..5) == 0 {
            speaker.take().map_or(Ok(()), Speaker::end)?;
            first_message(stranger, &mut random)?
        } else {
            let mut established = speaker.take().map_or_else(|| stranger.establish(), Ok)?;
            let original = random.choice(&messages).cloned().unwrap_or_default();
            let seen = in_session(&mut established, &mutated(&original, &mut random))?;
            match seen.0 {
                Outcome::Stays if asks_for_routes(&seen.2) => established.end()?,
                Outcome::Stays => speaker = Some(established),
                Outcome::Notified { .. } | Outcome::Closed | Outcome::Silence => {}
            }
            seen
        };
        *tally.entry(outcome).or_default() += 1;
        if !expected.allows(outcome) {
            surprises += 1;
            if surprises <= MOST_WORDS {
                let hex: String = stream.iter().map(|octet| format!("{octet:02x}")).collect();
                site.demand(false, || {
                    format!("{SEED}={seed} number {number}: {outcome:?}, expected {expected:?}: {hex}")
                });
            }
        }
        if number % ASKED_EVERY == 0 {
            let asked = Instant::now();
            site.agent()?.bgpctl(&["show", "summary"])?;
            slowest = slowest.max(asked.elapsed());
        }
    }
    site.demand(surprises <= MOST_WORDS, || format!("{surprises} surprises in all"));
    site.demand(slowest <= ANSWER, || format!("the agent took {slowest:?} to answer a question"));
    let kept = tally.get(&Outcome::Stays).copied().unwrap_or_default();
    site.note(format!(
        "seed {seed}: {kept} kept the session, {} ended it, in {} different ways; a question answered in {} ms at most",
        count - kept,
        tally.len().saturating_sub(1),
        slowest.as_millis(),
    ));
    Ok(())
}

/// A mutated OPEN on a connection of its own.
fn first_message(stranger: &Stranger, random: &mut Rng) -> Result<(Outcome, Expected, Vec<u8>)> {
    let (stream, reading) = completed(mutated(&open(), random), Lengths::Classic);
    let mut speaker = stranger.connect()?;
    speaker.send(&stream)?;
    let expected = match reading {
        // What comes behind an OPEN that is taken is of no interest: the answer is out by then.
        Reading::Messages(messages) | Reading::Refused { before: messages, .. } if !messages.is_empty() => {
            match messages.first() {
                // A NOTIFICATION is never answered (RFC 4271 section 6.4).
                Some((NOTIFICATION, _)) => Expected { end: End::Closed, ..Expected::default() },
                Some((OPEN, _)) => Expected { codes: vec![2], end: End::Stays },
                // RFC 6608: unexpected in OpenSent.
                Some(_) | None => {
                    Expected { end: End::Notified { code: 5, subcode: 1 }, ..Expected::default() }
                }
            }
        }
        Reading::Refused { code, subcode, .. } => {
            Expected { end: End::Notified { code, subcode }, ..Expected::default() }
        }
        // The mutation has left no octet.
        Reading::Messages(_) | Reading::Wants(_) => return Ok((Outcome::Stays, Expected::default(), stream)),
    };
    let outcome = speaker.outcome_of_open()?;
    Ok((outcome, expected, stream))
}

/// A mutated message in a session.
fn in_session(speaker: &mut Speaker, message: &[u8]) -> Result<(Outcome, Expected, Vec<u8>)> {
    let (stream, reading) = completed(message.to_vec(), Lengths::Extended);
    speaker.send(&stream)?;
    let outcome = speaker.outcome()?;
    let (messages, refused) = match reading {
        Reading::Messages(messages) => (messages, None),
        Reading::Refused { before, code, subcode } => (before, Some((code, subcode))),
        Reading::Wants(_) => (Vec::new(), None),
    };
    Ok((outcome, expected_of(&messages, refused), stream))
}

/// Whether it has an answer of its own, which would pass for that to the next question.
fn asks_for_routes(stream: &[u8]) -> bool {
    match wire::read(stream, Lengths::Extended) {
        Reading::Messages(messages) => messages.contains(&(ROUTE_REFRESH, vec![0, 1, 0, 1])),
        Reading::Refused { .. } | Reading::Wants(_) => false,
    }
}

/// The first message that has to end the session decides, if none does before that may.
fn expected_of(messages: &[(u8, Vec<u8>)], refused: Option<(u8, u8)>) -> Expected {
    let mut codes = Vec::new();
    for (kind, body) in messages {
        match (*kind, body.len()) {
            (KEEPALIVE, _) | (ROUTE_REFRESH, 4) => {}
            // RFC 7313 section 5, which asks for it in a BoRR or EoRR.
            (ROUTE_REFRESH, _) => codes.push(7),
            (NOTIFICATION, _) => return Expected { codes, end: End::Closed },
            // RFC 6608: unexpected in Established.
            (OPEN, _) => return Expected { codes, end: End::Notified { code: 5, subcode: 3 } },
            _ => codes.push(3),
        }
    }
    let end = refused.map_or(End::Stays, |(code, subcode)| End::Notified { code, subcode });
    Expected { codes, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_come_is_told_from_what_may() {
        let update = || (wire::UPDATE, Vec::new());
        let expected = expected_of(&[(KEEPALIVE, Vec::new())], None);
        assert!(expected.allows(Outcome::Stays));
        assert!(!expected.allows(Outcome::Notified { code: 3, subcode: 1 }));
        let expected = expected_of(&[update()], Some((1, 3)));
        assert!(expected.allows(Outcome::Notified { code: 1, subcode: 3 }));
        assert!(expected.allows(Outcome::Notified { code: 3, subcode: 9 }));
        assert!(!expected.allows(Outcome::Notified { code: 1, subcode: 1 }));
        assert!(!expected.allows(Outcome::Stays));
        let expected = expected_of(&[(NOTIFICATION, Vec::new()), update()], None);
        assert!(expected.allows(Outcome::Closed) && !expected.allows(Outcome::Stays));
        assert!(!expected.allows(Outcome::Silence));
    }
}
