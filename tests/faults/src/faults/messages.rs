//! What a neighbor may say: every truncation of real messages, malformed ones with known consequences, and mutations by
//! the thousand.
//!
//! The neighbor is a [`Stranger`] on a link of its own. What the RFCs name as the answer to each is predicted here and
//! compared; the pings, the routes and the sessions with the ToRs are the frame's to watch.

mod malformed;
mod mutations;
mod truncations;

use std::time::Duration;

use lab::Result;

use crate::fault::{Fault, Length, Number};
use crate::site::Site;
use crate::stranger::{Outcome, Stranger};
use crate::wire;

/// With every check.
const A_FEW: u32 = 3_000;
/// By name.
const MANY: u32 = 100_000;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(26),
        name: "every truncation of a real OPEN and of two real UPDATEs",
        expected: "the NOTIFICATION of RFC 4271 section 6, or treat-as-withdraw (RFC 7606); other sessions stay",
        make: |site| undisturbed(site, |site, stranger| truncations::all(site, stranger, 2)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(26),
        name: "every truncation of a real OPEN and of seven real UPDATEs",
        expected: "the NOTIFICATION of RFC 4271 section 6, or treat-as-withdraw (RFC 7606); other sessions stay",
        length: Length::Long,
        limit: Duration::from_secs(120),
        make: |site| undisturbed(site, |site, stranger| truncations::all(site, stranger, 7)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(26),
        name: "malformed attributes, each with its consequence by RFC 7606",
        expected: "withdrawn, discarded or reset as the table of RFC 7606 has it; other sessions stay",
        make: |site| undisturbed(site, malformed::all),
        ..Fault::USUAL
    },
    Fault {
        number: Number(26),
        name: "3,000 mutations of real messages",
        expected: "no panic, no hang; header faults end the session with the NOTIFICATION of RFC 4271 section 6.1",
        limit: Duration::from_secs(60),
        make: |site| undisturbed(site, |site, stranger| mutations::some(site, stranger, A_FEW)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(26),
        name: "100,000 mutations of real messages",
        expected: "no panic, no hang; header faults end the session with the NOTIFICATION of RFC 4271 section 6.1",
        length: Length::Long,
        limit: Duration::from_secs(1200),
        make: |site| undisturbed(site, |site, stranger| mutations::some(site, stranger, MANY)),
        ..Fault::USUAL
    },
];

/// Does something with a stranger, and demands that the sessions with the ToRs are the same ones afterwards.
pub(super) fn undisturbed(
    site: &mut Site,
    make: impl FnOnce(&mut Site, &Stranger) -> Result<()>,
) -> Result<()> {
    let mark = site.mark_log()?;
    let stranger = Stranger::lay(site, "")?;
    let outcome = make(site, &stranger);
    stranger.remove(site)?;
    outcome?;
    let log = site.logged_since(mark)?;
    let lost = log.lines().filter(|line| line.contains("session down") && line.contains("name=tor")).count();
    site.demand(lost == 0, || format!("{lost} sessions with ToRs were lost"));
    Ok(())
}

/// Real UPDATEs as they stand in the corpus of the fuzzers, of the stranger's AS and with its next hop.
pub(super) fn updates() -> Vec<(&'static str, Vec<u8>)> {
    const CORPUS: [(&str, &[u8]); 7] = [
        ("frr", include_bytes!("../../../../bgp/fuzz/corpus/update/frr")),
        ("classic", include_bytes!("../../../../bgp/fuzz/corpus/update/classic")),
        ("communities", include_bytes!("../../../../bgp/fuzz/corpus/update/communities")),
        ("ipv6", include_bytes!("../../../../bgp/fuzz/corpus/update/ipv6")),
        ("both families", include_bytes!("../../../../bgp/fuzz/corpus/update/both_families")),
        ("many prefixes", include_bytes!("../../../../bgp/fuzz/corpus/update/many_prefixes")),
        ("long path", include_bytes!("../../../../bgp/fuzz/corpus/update/long_path")),
    ];
    let message = |(name, file): (&'static str, &[u8])| {
        // The first two octets of a file choose a decoder.
        let body = file.get(2..).unwrap_or_default();
        (name, wire::message(wire::UPDATE, &as_the_strangers(body)))
    };
    CORPUS.into_iter().map(message).collect()
}

/// AS 65001 becomes that of the stranger, 192.0.2.1 its IPv4 address.
fn as_the_strangers(body: &[u8]) -> Vec<u8> {
    let replaced = body.to_vec();
    [([0, 0, 0xfd, 0xe9], [0, 0, 0xfe, 0x4b]), ([192, 0, 2, 1], [172, 31, 255, 1])].into_iter().fold(
        replaced,
        |mut octets, (from, to)| {
            let places: Vec<_> =
                octets.windows(4).enumerate().filter(|(_, four)| **four == from).map(|(at, _)| at).collect();
            for at in places {
                if let Some(place) = octets.get_mut(at..at + 4) {
                    place.copy_from_slice(&to);
                }
            }
            octets
        },
    )
}

/// Says what was seen and what was expected, where they differ.
fn compare(site: &mut Site, what: impl FnOnce() -> String, seen: Outcome, expected: Outcome) {
    site.demand(seen == expected, || format!("{}: {seen:?}, expected {expected:?}", what()));
}
