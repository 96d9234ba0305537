//! One attribute wrong at a time, in an UPDATE for a prefix that is there already: what becomes of the prefix, or of the
//! session.

use lab::Result;

use super::compare;
use crate::site::Site;
use crate::stranger::{Outcome, PATIENCE, Speaker, Stranger, await_received};
use crate::wire::{self, octets};

const ORIGIN: &str = "40 01 01 00";
const AS_PATH: &str = "40 02 06 02 01 0000fe4b";
const NEXT_HOP: &str = "40 03 04 ac1fff01";
/// 100.99.0.0/16, which nobody else has.
const PREFIX: &str = "10 6463";

/// What an attribute does to the prefix and to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// The prefix is taken; the attribute counts, or is discarded.
    Nothing,
    /// Treat-as-withdraw.
    Withdraw,
    /// NOTIFICATION 3 with this subcode.
    Reset(u8),
}

use Does::{Nothing, Reset, Withdraw};

/// Attributes of a kind that is there already take its place; others come behind. RFC 7606 section 7, in the order of
/// the types, and the RFCs that came after it.
const ROWS: &[(&str, Does)] = &[
    ("80 04 04 00000001", Nothing),
    ("c0 08 04 fe4b0001", Nothing),
    ("40 01 01 03", Withdraw),
    ("40 01 02 0000", Withdraw),
    ("80 01 01 00", Withdraw),
    ("40 02 06 05 01 0000fe4b", Withdraw),
    ("40 02 02 02 00", Withdraw),
    ("40 02 06 02 02 0000fe4b", Withdraw),
    ("40 02 06 02 01 00000000", Withdraw),
    ("40 02 06 03 01 0000fe4b", Withdraw),
    ("40 02 0c 02 01 0000fe4b 01 01 00000001", Withdraw),
    ("40 03 03 ac1fff", Withdraw),
    ("40 03 05 ac1fff0100", Withdraw),
    ("c0 03 04 ac1fff01", Withdraw),
    ("80 04 03 000001", Withdraw),
    ("40 05 04 00000001", Nothing),
    ("40 05 01 00", Nothing),
    ("40 06 01 00", Nothing),
    ("c0 06 00", Withdraw),
    ("c0 07 06 fe4b 01010101", Nothing),
    ("c0 07 08 00000000 01010101", Nothing),
    ("c0 08 00", Withdraw),
    ("c0 08 05 fe4b000100", Withdraw),
    ("80 09 01 01", Nothing),
    ("80 0a 00", Nothing),
    ("80 0e 04 0002 01 00", Reset(9)),
    ("80 0e 14 0002 01 10 20010db8000000000000000000000001", Reset(9)),
    ("80 0f 02 0002", Reset(9)),
    ("80 0f 04 0002 01 81", Reset(9)),
    ("c0 10 07 0002fde9000000", Withdraw),
    ("c0 11 06 02 01 0000fe4b", Nothing),
    ("c0 12 01 00", Nothing),
    ("e0 1c 05 0102030405", Nothing),
    ("c0 17 04 ffff00ff", Nothing),
    ("c0 20 0d 00000001000000020000000300", Withdraw),
    ("c0 23 03 00fde9", Withdraw),
    ("c0 28 03 000000", Nothing),
    ("c0 63 00", Nothing),
    ("40 63 00", Reset(2)),
    ("c0 ff 01 00", Nothing),
    // The list ends within an attribute.
    ("80 04 04 0000", Withdraw),
    ("c0", Withdraw),
];

pub(super) fn all(site: &mut Site, stranger: &Stranger) -> Result<()> {
    let mut speaker = stranger.establish()?;
    let good = wire::update(&[], &octets(&[ORIGIN, AS_PATH, NEXT_HOP].concat()), &octets(PREFIX));
    for (row, does) in ROWS {
        speaker.send(&good)?;
        compare(site, || "a good UPDATE".to_owned(), speaker.outcome()?, Outcome::Stays);
        await_received(site, 1, PATIENCE)?;
        speaker.send(&wire::update(&[], &octets(&with(row)), &octets(PREFIX)))?;
        let (expected, left) = match does {
            Nothing => (Outcome::Stays, 1),
            Withdraw => (Outcome::Stays, 0),
            Reset(subcode) => (Outcome::Notified { code: 3, subcode: *subcode }, 0),
        };
        let seen = speaker.outcome()?;
        compare(site, || format!("attribute {row}"), seen, expected);
        if let Err(error) = await_received(site, left, PATIENCE) {
            site.demand(false, || format!("attribute {row} is to do {does:?}: {error}"));
        }
        if seen != Outcome::Stays {
            speaker = stranger.establish()?;
        }
    }
    let others = without_attributes(site, &mut speaker)?;
    site.note(format!("{} of {} as predicted", ROWS.len() + others, ROWS.len() + others));
    Ok(())
}

/// The list with one more, or with another one of its kind.
fn with(row: &str) -> String {
    let kind = octets(row).get(1).copied();
    let kept = [ORIGIN, AS_PATH, NEXT_HOP].into_iter().filter(|good| octets(good).get(1).copied() != kind);
    kept.chain([row]).collect::<Vec<_>>().join(" ")
}

/// RFC 7606 section 3 d: a mandatory attribute is missing.
fn without_attributes(site: &mut Site, speaker: &mut Speaker) -> Result<usize> {
    let missing = [[AS_PATH, NEXT_HOP], [ORIGIN, NEXT_HOP], [ORIGIN, AS_PATH]];
    for list in missing {
        let good = wire::update(&[], &octets(&[ORIGIN, AS_PATH, NEXT_HOP].concat()), &octets(PREFIX));
        speaker.send(&good)?;
        await_received(site, 1, PATIENCE)?;
        speaker.send(&wire::update(&[], &octets(&list.concat()), &octets(PREFIX)))?;
        compare(site, || format!("only {list:?}"), speaker.outcome()?, Outcome::Stays);
        await_received(site, 0, PATIENCE)?;
    }
    Ok(missing.len())
}
