//! RFC 7606 row by row: what is wrong, and what it costs. Every row stands in a message that also announces
//! 10.0.0.0/8 and withdraws 11.0.0.0/8.

use super::tests::{body, codec, prefix};
use super::*;

/// The consequence of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Costs {
    Nothing,
    Discard(u8),
    Withdraw(u8),
    /// Subcode of UPDATE Message Error.
    Reset(u8),
}

use Costs::{Discard, Nothing, Reset, Withdraw};

const ORIGIN: &str = "40 01 01 00";
const AS_PATH: &str = "40 02 06 02 01 0000fde9";
const NEXT_HOP: &str = "40 03 04 c0000201";

fn external() -> UpdateCodec {
    codec()
}

fn internal() -> UpdateCodec {
    UpdateCodec { peer_kind: PeerKind::Internal, ..codec() }
}

fn two_octets() -> UpdateCodec {
    UpdateCodec { as_width: AsWidth::Two, ..codec() }
}

/// The mandatory attributes but those that the row itself brings, then the row.
fn list(codec: &UpdateCodec, row: &str) -> String {
    let as_path = match codec.as_width {
        AsWidth::Two => "40 02 04 02 01 fde9",
        AsWidth::Four => AS_PATH,
    };
    let brings = |code: &str| row.split('|').any(|attribute| attribute.trim().get(3..5) == Some(code));
    let mandatory = [("01", ORIGIN), ("02", as_path), ("03", NEXT_HOP)];
    let missing = mandatory.into_iter().filter(|(code, _)| !brings(code)).map(|(_, attribute)| attribute);
    missing.chain([row]).collect()
}

fn check(codec: &UpdateCodec, row: &str, expected: Costs) {
    let result = codec.decode(body("08 0b", &list(codec, row), "08 0a"));
    let costs = match &result {
        Err(error) => {
            assert_eq!(error.code, 3, "{row}");
            Reset(error.subcode)
        }
        Ok(update) => match update.faults.as_slice() {
            [] => Nothing,
            faults => {
                let worst = faults.iter().max_by_key(|fault| fault.action).unwrap();
                match worst.action {
                    FaultAction::Discard => Discard(worst.code),
                    FaultAction::TreatAsWithdraw => Withdraw(worst.code),
                }
            }
        },
    };
    assert_eq!(costs, expected, "{row}: {result:?}");
    let Ok(update) = result else { return };
    let (announced, withdrawn) = (prefix("10.0.0.0/8"), prefix("11.0.0.0/8"));
    match costs {
        Withdraw(_) => {
            assert!(update.reach.is_empty(), "{row}");
            assert_eq!(update.withdrawn, [withdrawn, announced], "{row}");
        }
        Nothing | Discard(_) | Reset(_) => {
            assert_eq!(update.reach[0].prefixes, [announced], "{row}");
            assert_eq!(update.withdrawn, [withdrawn], "{row}");
        }
    }
}

#[test]
fn each_attribute_costs_what_its_row_says() {
    let rows: &[(&str, Costs)] = &[
        // 1 ORIGIN
        ("40 01 01 02", Nothing),
        ("40 01 01 03", Withdraw(1)),
        ("40 01 00", Withdraw(1)),
        ("40 01 02 0000", Withdraw(1)),
        ("c0 01 01 00", Withdraw(1)),
        // 2 AS_PATH
        ("40 02 00", Nothing),
        ("40 02 06 05 01 0000fde9", Withdraw(2)),
        ("40 02 06 00 01 0000fde9", Withdraw(2)),
        ("40 02 02 02 00", Withdraw(2)),
        ("40 02 08 02 01 0000fde9 02 00", Withdraw(2)),
        ("40 02 06 02 02 0000fde9", Withdraw(2)),
        ("40 02 07 02 01 0000fde9 02", Withdraw(2)),
        ("40 02 05 02 01 0000fd", Withdraw(2)),
        ("40 02 06 02 01 00000000", Withdraw(2)),
        ("40 02 0a 02 02 0000fde9 00000000", Withdraw(2)),
        ("40 02 0c 02 01 0000fde9 01 01 00000001", Withdraw(2)),
        ("40 02 06 03 01 0000fde9", Withdraw(2)),
        ("40 02 06 04 01 0000fde9", Withdraw(2)),
        ("80 02 00", Withdraw(2)),
        // 3 NEXT_HOP
        ("40 03 03 c00002", Withdraw(3)),
        ("40 03 05 c000020100", Withdraw(3)),
        ("40 03 00", Withdraw(3)),
        ("40 03 04 00000000", Withdraw(3)),
        ("40 03 04 7f000001", Withdraw(3)),
        ("40 03 04 e0000001", Withdraw(3)),
        ("40 03 04 ffffffff", Withdraw(3)),
        ("c0 03 04 c0000201", Withdraw(3)),
        // 4 MED
        ("80 04 04 00000001", Nothing),
        ("80 04 03 000001", Withdraw(4)),
        ("c0 04 04 00000001", Withdraw(4)),
        // 5 LOCAL_PREF
        ("40 05 04 00000001", Discard(5)),
        ("40 05 01 00", Discard(5)),
        ("c0 05 04 00000001", Discard(5)),
        // 6 ATOMIC_AGGREGATE
        ("40 06 00", Nothing),
        ("40 06 01 00", Discard(6)),
        ("c0 06 00", Withdraw(6)),
        // 7 AGGREGATOR
        ("c0 07 08 0000fde9 01010101", Nothing),
        ("c0 07 06 fde9 01010101", Discard(7)),
        ("c0 07 08 00000000 01010101", Discard(7)),
        ("40 07 08 0000fde9 01010101", Withdraw(7)),
        // 8 COMMUNITIES
        ("c0 08 04 fde90001", Nothing),
        ("c0 08 00", Withdraw(8)),
        ("c0 08 05 fde9000100", Withdraw(8)),
        ("80 08 04 fde90001", Withdraw(8)),
        // 9 ORIGINATOR_ID, 10 CLUSTER_LIST
        ("80 09 04 01010101", Discard(9)),
        ("80 09 01 01", Discard(9)),
        ("80 0a 04 01010101", Discard(10)),
        ("80 0a 00", Discard(10)),
        // 14 MP_REACH_NLRI
        ("80 0e 04 0002 01 00", Reset(9)),
        ("80 0e 02 0002", Reset(9)),
        ("80 0e 00", Reset(9)),
        ("80 0e 05 0002 01 10 00", Reset(9)),
        ("80 0e 14 0002 01 10 20010db800000000 0000000000000001", Reset(9)),
        ("80 0e 09 0002 01 04 c0000201 00", Reset(9)),
        ("80 0e 16 0002 01 10 20010db800000000 0000000000000001 00 81", Reset(9)),
        ("80 0e 16 0002 01 10 20010db800000000 0000000000000001 00 08", Reset(9)),
        ("40 0e 17 0002 01 10 20010db800000000 0000000000000001 00 08 fd", Reset(4)),
        // 15 MP_UNREACH_NLRI
        ("80 0f 02 0002", Reset(9)),
        ("80 0f 00", Reset(9)),
        ("80 0f 04 0002 01 81", Reset(9)),
        ("80 0f 05 0002 01 10 fd", Reset(9)),
        ("c0 0f 03 0002 01", Reset(4)),
        // 16 EXTENDED COMMUNITIES, 25 for IPv6
        ("c0 10 08 0002fde900000001", Nothing),
        ("c0 10 00", Withdraw(16)),
        ("c0 10 07 0002fde9000000", Withdraw(16)),
        ("80 10 08 0002fde900000001", Withdraw(16)),
        ("c0 19 14 0000000000000000000000000000000000000000", Nothing),
        ("c0 19 00", Withdraw(25)),
        ("c0 19 08 0000000000000000", Withdraw(25)),
        // 17 AS4_PATH, 18 AS4_AGGREGATOR from a four-octet speaker
        ("c0 11 06 02 01 0000fde9", Discard(17)),
        ("c0 11 06 01 00 0000fde9", Discard(17)),
        ("c0 12 08 0000fde9 01010101", Discard(18)),
        ("c0 12 01 00", Discard(18)),
        // 32 LARGE COMMUNITIES
        ("c0 20 0c 000000010000000200000003", Nothing),
        ("c0 20 00", Withdraw(32)),
        ("c0 20 0d 00000001000000020000000300", Withdraw(32)),
        ("80 20 0c 000000010000000200000003", Withdraw(32)),
        // 35 ONLY_TO_CUSTOMER
        ("c0 23 04 0000fde9", Nothing),
        ("c0 23 03 00fde9", Withdraw(35)),
        ("80 23 04 0000fde9", Withdraw(35)),
        // Not recognized: optional ones are left alone whatever is in them, others end the session.
        ("c0 16 01 00", Nothing),
        ("c0 17 00", Nothing),
        ("80 1a 02 0000", Nothing),
        ("c0 28 03 000000", Nothing),
        ("c0 ff 00", Nothing),
        ("80 ff 01 00", Nothing),
        ("40 63 00", Reset(2)),
        ("00 63 00", Reset(2)),
        ("40 00 00", Reset(2)),
    ];
    for (row, costs) in rows {
        check(&external(), row, *costs);
    }
}

#[test]
fn internal_sessions_and_two_octet_sessions_have_rows_of_their_own() {
    for (row, costs) in [
        ("40 05 04 00000001", Nothing),
        ("40 05 03 000001", Withdraw(5)),
        ("80 05 04 00000001", Withdraw(5)),
        ("80 09 04 01010101", Nothing),
        ("80 09 03 010101", Withdraw(9)),
        ("80 09 04 00000000", Withdraw(9)),
        ("80 0a 08 01010101 02020202", Nothing),
        ("80 0a 00", Withdraw(10)),
        ("80 0a 06 010101010202", Withdraw(10)),
        ("c0 0a 04 01010101", Withdraw(10)),
    ] {
        check(&internal(), row, costs);
    }
    for (row, costs) in [
        ("c0 07 06 fde9 01010101", Nothing),
        ("c0 07 08 0000fde9 01010101", Discard(7)),
        ("c0 07 06 0000 01010101", Discard(7)),
        ("c0 11 06 02 01 0000fde9", Nothing),
        ("c0 11 06 05 01 0000fde9", Discard(17)),
        ("c0 11 06 02 02 0000fde9", Discard(17)),
        ("c0 11 02 02 00", Discard(17)),
        ("c0 11 05 02 01 0000fd", Discard(17)),
        // RFC 7607 section 2, RFC 9774 section 3
        ("c0 11 06 02 01 00000000", Withdraw(17)),
        ("c0 11 06 01 01 0000fde9", Withdraw(17)),
        ("c0 11 06 04 01 0000fde9", Withdraw(17)),
        ("80 11 06 02 01 0000fde9", Withdraw(17)),
        ("c0 12 08 0000fde9 01010101", Nothing),
        ("c0 12 07 00fde9 01010101", Discard(18)),
        ("c0 12 08 00000000 01010101", Discard(18)),
    ] {
        check(&two_octets(), row, costs);
    }
}

/// RFC 7606 section 3 g.
#[test]
fn the_first_of_two_counts() {
    check(&external(), "80 04 04 00000001 | 80 04 04 00000002", Discard(4));
    check(&external(), "80 04 04 00000001 | 80 04 01 00", Discard(4));
    check(&external(), "c0 63 00 | c0 63 01 00", Discard(99));
    check(&external(), "80 0f 03 0002 01 | 80 0f 03 0001 01", Reset(1));
    let mp_reach = "80 0e 17 0002 01 10 20010db800000000 0000000000000001 00 08 fd";
    check(&external(), &format!("{mp_reach} | {mp_reach}"), Reset(1));
    let twice =
        codec().decode(body("08 0b", &list(&external(), "80 04 04 00000001 80 04 04 00000002"), "08 0a"));
    assert_eq!(twice.unwrap().reach[0].attributes.med, Some(1));
}

/// RFC 7606 section 3 h.
#[test]
fn the_strongest_action_wins_in_any_order() {
    check(&external(), "40 06 01 00 | c0 08 00", Withdraw(8));
    check(&external(), "c0 08 00 | 40 06 01 00", Withdraw(8));
    check(&external(), "c0 08 00 | 40 63 00", Reset(2));
    check(&external(), "40 06 01 00 | c0 08 00 | 80 0f 00", Reset(9));
    let both = codec().decode(body("08 0b", &list(&external(), "40 06 01 00 | c0 08 00"), "08 0a")).unwrap();
    assert_eq!(both.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [6, 8]);
}

/// RFC 7606 section 3 c: only Optional and Transitive are compared; the low four bits are nobody's.
#[test]
fn other_flag_bits_are_ignored() {
    for row in [
        "6f 01 01 00".replace("6f", "4f"),
        "60 01 01 00".into(),
        "50 01 0001 00".into(),
        "e0 08 04 fde90001".into(),
    ] {
        check(&external(), &row, Nothing);
    }
}

/// RFC 7606 section 3 d.
#[test]
fn a_missing_mandatory_attribute_withdraws() {
    for (list, code) in [
        ([AS_PATH, NEXT_HOP], 1),
        ([ORIGIN, NEXT_HOP], 2),
        ([ORIGIN, AS_PATH], 3),
        // CVE-2023-46752: an unknown attribute instead of the mandatory ones.
        (["c0 63 00", ""], 1),
    ] {
        let update = codec().decode(body("", &list.concat(), "08 0a")).unwrap();
        assert_eq!(update.withdrawn, [prefix("10.0.0.0/8")]);
        assert!(update.reach.is_empty());
        assert_eq!((update.faults[0].code, update.faults[0].action), (code, FaultAction::TreatAsWithdraw));
    }
    let update = codec().decode(body("", "", "08 0a")).unwrap();
    assert_eq!(update.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [1, 2, 3]);
    // MP_REACH_NLRI brings its next hop, and needs the other two.
    let mp = "80 0e 17 0002 01 10 20010db800000000 0000000000000001 00 08 fd";
    let update = codec().decode(body("", mp, "")).unwrap();
    assert_eq!(update.withdrawn, [prefix("fd00::/8")]);
    assert_eq!(update.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [1, 2]);
}

/// RFC 7606 section 5.2: without reachable prefixes there is nothing to withdraw, and no trust in the rest.
#[test]
fn a_fault_without_reachable_prefixes_is_a_reset() {
    for (row, subcode, data) in [
        ("40 01 01 03", 6, "40010103"),
        ("c0 01 01 00", 4, "c0010100"),
        ("40 01 00", 5, "400100"),
        ("40 02 02 02 00", 11, "40020202 00"),
        ("c0 08 00", 5, "c00800"),
        ("40 01 01", 1, ""),
        ("40", 1, ""),
    ] {
        let error = codec().decode(body("08 0b", row, "")).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, subcode), "{row}");
        assert_eq!(error.data, super::super::tests::hex(data), "{row}");
    }
    // A discarded attribute costs nothing, nor does a missing one.
    let update = codec().decode(body("08 0b", "40 06 01 00", "")).unwrap();
    assert_eq!((update.withdrawn.len(), update.faults.len()), (1, 1));
    // Prefixes of a family that we do not read are reachable prefixes all the same.
    let foreign = "80 0e 06 0001 85 00 00 ff | c0 08 00";
    assert!(codec().decode(body("08 0b", foreign, "")).is_ok());
}

/// RFC 7606 section 4: the prefixes are where Total Path Attribute Length says.
#[test]
fn an_overrun_withdraws_what_is_behind_the_list() {
    for row in
        ["80", "80 04", "80 04 04 000000", "80 04 ff 00000001", "90 04 00", "90 04 0004 00", "c0 63 05 00"]
    {
        let code = if row == "80" { 0 } else { u8::from_str_radix(&row[3..5], 16).unwrap() };
        check(&external(), row, Withdraw(code));
    }
    // Section 3 j: what ran over was to say which prefixes.
    check(&external(), "80 0e 17 0002 01", Reset(1));
    check(&external(), "80 0f ff 0002 01", Reset(1));
}

/// RFC 7606 sections 3 b and 5.3.
#[test]
fn fields_that_do_not_fit_the_message_are_a_reset() {
    let hex = super::super::tests::hex;
    for text in
        ["", "00", "0000", "000000", "0001 0000", "0000 0001", "0005 08 0a 0000", "ffff 0000", "0000 ffff"]
    {
        let error = codec().decode(hex(text)).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 1), "{text}");
    }
    for (withdrawn, nlri) in
        [("21 0a00000000", ""), ("08", ""), ("20 0a0000", ""), ("", "21 0a00000000"), ("", "08"), ("", "ff")]
    {
        let error = codec().decode(body(withdrawn, &list(&external(), ""), nlri)).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 10), "{withdrawn} {nlri}");
    }
}

/// Inputs that took other speakers down (years and products: RFC 7606 itself, public advisories).
#[test]
fn inputs_of_past_incidents_do_no_harm() {
    // 2010, IOS XR: an unknown optional transitive attribute of 3000 octets is kept as it came.
    let large = format!("d0 63 0bb8 {}", "ab".repeat(3000));
    let update = codec().decode(body("", &list(&external(), &large), "08 0a")).unwrap();
    let [unknown] = &update.reach[0].attributes.unknown[..] else { panic!("{update:?}") };
    assert_eq!((unknown.flags, unknown.code, unknown.value.len()), (0xc0, 99, 3000));
    // 2009: a path of more than 255 numbers is several segments.
    let path = format!("50 02 0408 02 ff {} 02 02 {}", "0000fde9".repeat(255), "0000fdea".repeat(2));
    let update = codec().decode(body("", &list(&external(), &path), "08 0a")).unwrap();
    assert_eq!(update.reach[0].attributes.as_path.length(), 257);
    // CVE-2026-49943: more than 2048 numbers, in an extended message.
    let segment = format!("02 ff {}", "0000fde9".repeat(255));
    let path = format!("50 02 {:04x} {}", 1022 * 16, segment.repeat(16));
    let update = codec().decode(body("", &list(&external(), &path), "08 0a")).unwrap();
    assert_eq!(update.reach[0].attributes.as_path.length(), 4080);
    for row in [
        // 2023: attribute 28 with another length inside, 23 with a TLV that does not fit. 2025: 40 all zero.
        "e0 1c 05 0102030405",
        "c0 17 04 ffff00ff",
        "c0 28 40 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        // 2019, CVE-2019-5892: code 255 is a code as any other.
        "c0 ff 01 00",
    ] {
        check(&external(), row, Nothing);
    }
    // CVE-2026-30405 (NEXT_HOP too short), CVE-2026-37461 (extended community too short).
    check(&external(), "40 03 02 c000", Withdraw(3));
    check(&external(), "c0 10 04 00020000", Withdraw(16));
}
