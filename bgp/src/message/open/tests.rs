//! OPEN both ways: a real one of FRR, every error of RFC 4271 section 6.2, every form of the parameters.

use std::time::Duration;

use super::super::capability::ForwardingState;
use super::super::tests::{body_of, hex};
use super::super::{GracefulRestart, Message};
use super::*;
use crate::{AfiSafi, Family};

/// FRR 8.4.4 as a ToR with `frr defaults datacenter`, captured.
const FRR: &str = "04 fde9 0009 0aff0001 4c 0206 01040001 0001 0208 0506 0001 0001 0002 02028000 02020200 02024600 \
                   0206 41040000fde9 02020600 0206 45040001 0101 0207 4905 03746f7200 0204 4002 c078 \
                   0209 4707 00010180000000";

fn unknown(code: u8, value: &str) -> Capability {
    Capability::Unknown { code, value: hex(value) }
}

fn open(capabilities: Vec<Capability>) -> Open {
    Open {
        asn: Asn(65001),
        hold_time: HoldTime::from_secs(9).unwrap(),
        router_id: RouterId::new([10, 255, 0, 1].into()).unwrap(),
        capabilities,
    }
}

fn frr() -> Open {
    open(vec![
        Capability::multiprotocol(Family::Ipv4Unicast),
        Capability::ExtendedNextHop(vec![(AfiSafi { afi: 1, safi: 1 }, 2)]),
        unknown(128, ""),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAs(Asn(65001)),
        Capability::ExtendedMessage,
        unknown(69, "00010101"),
        Capability::Fqdn { hostname: "tor".into(), domain: String::new() },
        Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            notification: true,
            restart_time: Duration::from_secs(120),
            families: vec![],
        }),
        unknown(71, "00010180000000"),
    ])
}

fn encoded(open: &Open) -> Bytes {
    let mut out = BytesMut::new();
    open.encode(&mut out);
    assert!(out.len() <= MAX_LENGTH);
    body_of(out)
}

/// The fixed part of a good OPEN before its parameters.
fn with_parameters(text: &str) -> Result<Open, Notification> {
    Open::decode([hex("04 fde9 0009 0aff0001"), hex(text)].concat().into())
}

#[test]
fn the_open_of_frr_goes_both_ways() {
    assert_eq!(Open::decode(hex(FRR)), Ok(frr()));
    assert_eq!(Open::decode(encoded(&frr())), Ok(frr()));
}

#[test]
fn ours_is_one_parameter() {
    let open = open(vec![
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::FourOctetAs(Asn(65001)),
        Capability::GracefulRestart(GracefulRestart {
            restart_time: Duration::from_secs(30),
            families: vec![
                (AfiSafi { afi: 1, safi: 1 }, ForwardingState::Preserved),
                (AfiSafi { afi: 2, safi: 1 }, ForwardingState::Lost),
            ],
            ..GracefulRestart::default()
        }),
        Capability::SoftwareVersion("x/1".into()),
    ]);
    let wire = hex("04 fde9 0009 0aff0001 20 021e | 0104 0002 0001 | 4104 0000fde9 | 400a 001e 0001 01 80 0002 01 00 | 4b04 03 782f31");
    assert_eq!(encoded(&open), wire);
    assert_eq!(Open::decode(wire), Ok(open));
}

#[test]
fn a_large_as_is_as_trans_in_two_octets() {
    let large = Open { asn: Asn(4_200_000_000), ..open(vec![Capability::FourOctetAs(Asn(4_200_000_000))]) };
    let wire = encoded(&large);
    assert_eq!(wire.get(1..3), Some([0x5b, 0xa0].as_slice()));
    assert_eq!(Open::decode(wire), Ok(large));
}

#[test]
fn errors_have_their_subcode_and_data() {
    for (text, subcode, data) in [
        ("03 fde9 0009 0aff0001 00", 1, "0004"),
        ("05 fde9 0009 0aff0001 00", 1, "0004"),
        ("04 0000 0009 0aff0001 00", 2, ""),
        ("04 fde9 0009 0aff0001 08 0206 4104 00000000", 2, ""),
        ("04 fde9 0009 00000000 00", 3, ""),
        ("04 fde9 0001 0aff0001 00", 6, ""),
        ("04 fde9 0002 0aff0001 00", 6, ""),
        // Authentication, deprecated; and one that nobody knows.
        ("04 fde9 0009 0aff0001 03 0101 00", 4, ""),
        ("04 fde9 0009 0aff0001 02 6300", 4, ""),
        // Lengths that do not add up.
        ("04 fde9 0009 0aff0001 00 00", 0, ""),
        ("04 fde9 0009 0aff0001 05", 0, ""),
        ("04 fde9 0009 0aff0001 01 02", 0, ""),
        ("04 fde9 0009 0aff0001 02 0201", 0, ""),
        ("04 fde9 0009 0aff0001 03 0201 01", 0, ""),
        ("04 fde9 0009 0aff0001 04 0202 0104", 0, ""),
    ] {
        let expected = Notification { code: 2, subcode, data: hex(data) };
        assert_eq!(Open::decode(hex(text)), Err(expected), "{text}");
    }
    let short = Open::decode(hex("04 fde9 0009 0aff0001")).unwrap_err();
    assert_eq!(short, Notification { code: 1, subcode: 2, data: hex("001c") });
}

#[test]
fn capabilities_may_come_in_any_arrangement() {
    let expected = Ok(open(vec![Capability::RouteRefresh, Capability::ExtendedMessage, Capability::RouteRefresh]));
    for text in [
        "08 0206 0200 0600 0200",
        "0c 0202 0200 0202 0600 0202 0200",
        "0c 0204 0200 0600 0200 0202 0200",
        // RFC 9072, with the length octets that it asks for and with others that it allows.
        "ff ff 0009 02 0006 0200 0600 0200",
        "01 ff 0009 02 0006 0200 0600 0200",
        "ff ff 000f 02 0002 0200 02 0002 0600 02 0002 0200",
    ] {
        assert_eq!(with_parameters(text), expected, "{text}");
    }
    assert_eq!(with_parameters("00"), Ok(open(vec![])));
    assert_eq!(with_parameters("02 0200"), Ok(open(vec![])));
}

/// CVE-2022-40302, CVE-2022-40318 and CVE-2022-43681 were read past the end here.
#[test]
fn the_long_form_is_measured_before_it_is_read() {
    for text in ["ff ff", "ff ff 00", "ff ff 0001", "ff ff 0000 02", "ff ff 0002 0200", "ff ff 0003 02 0001", "01 ff"] {
        assert_eq!(with_parameters(text).unwrap_err().subcode, 0, "{text}");
    }
    // A parameter type of 255 means nothing inside it.
    assert_eq!(with_parameters("ff ff 0003 ff 0000").unwrap_err().subcode, 4);
    // No parameters at all: what follows is not a type.
    assert_eq!(with_parameters("00 ff 0000").unwrap_err().subcode, 0);
}

#[test]
fn the_long_form_is_written_only_when_needed() {
    let name = |length| Capability::Unknown { code: 200, value: vec![b'x'; length].into() };
    let short = open(vec![name(251)]);
    assert_eq!(encoded(&short).get(9..11), Some([255, 2].as_slice()));
    assert_eq!(Open::decode(encoded(&short)), Ok(short));
    let long = open(vec![name(252)]);
    assert_eq!(encoded(&long).get(9..13), Some([255, 255, 1, 1].as_slice()));
    assert_eq!(Open::decode(encoded(&long)), Ok(long));
    // More than any OPEN holds: what does not fit stays out.
    let huge = Open::decode(encoded(&open(vec![name(255); 20]))).unwrap();
    assert_eq!(huge, open(vec![name(255); 15]));
}

#[test]
fn a_malformed_known_capability_is_kept_as_unknown() {
    for (code, value) in [
        (1, "000100"),
        (1, "0001000100"),
        (2, "00"),
        (5, "0001000100"),
        (5, "000101010002"),
        (6, "01"),
        (64, "00"),
        (64, "0078 000101"),
        (65, "fde9"),
        (65, "0000fde900"),
        (70, "00"),
        (73, ""),
        (73, "05 746f72 00"),
        (73, "03 746f72"),
        (73, "03 746f72 00 00"),
        (73, "01 ff 00"),
        (75, ""),
        (75, "02 61"),
        (75, "01 6162"),
    ] {
        assert_eq!(Capability::decode(code, &hex(value)), unknown(code, value), "{code}: {value}");
    }
}

#[test]
fn texts_are_cut_between_characters() {
    let wide = "é".repeat(300);
    let open = open(vec![
        Capability::Fqdn { hostname: wide.clone(), domain: wide.clone() },
        Capability::SoftwareVersion(wide),
    ]);
    let again = Open::decode(encoded(&open)).unwrap();
    assert_eq!(
        again.capabilities,
        [
            Capability::Fqdn { hostname: "é".repeat(126), domain: String::new() },
            Capability::SoftwareVersion("é".repeat(127)),
        ]
    );
}

#[test]
fn no_truncation_panics() {
    let whole = hex(FRR);
    for length in 0..whole.len() {
        assert!(Open::decode(whole.slice(..length)).is_err(), "{length}");
    }
    assert!(matches!(Open::decode(whole).map(Message::Open), Ok(Message::Open(_))));
}
