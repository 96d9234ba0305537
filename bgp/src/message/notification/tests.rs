//! NOTIFICATION both ways, and as people see it.

use super::super::tests::{body_of, hex};
use super::*;

fn encoded(notification: &Notification) -> Bytes {
    let mut out = BytesMut::new();
    notification.encode(&mut out);
    assert!(out.len() <= MAX_LENGTH);
    body_of(out)
}

#[test]
fn bytes_go_both_ways() {
    let hold = Notification::hold_timer_expired();
    assert_eq!(encoded(&hold), hex("04 00"));
    let rejected = Notification::header(HeaderSubcode::BadMessageLength, hex("ffff"));
    assert_eq!(encoded(&rejected), hex("01 02 ffff"));
    for notification in [
        hold,
        rejected,
        Notification::cease(CeaseSubcode::ConnectionCollision),
        Notification::fsm(FsmSubcode::OpenSent, MessageKind::Update),
        Notification::send_hold_timer_expired(),
        Notification { code: 200, subcode: 201, data: hex("00ff") },
    ] {
        assert_eq!(Notification::decode(&encoded(&notification)), Some(notification));
    }
}

#[test]
fn too_short_is_nothing() {
    assert_eq!(Notification::decode(&hex("")), None);
    assert_eq!(Notification::decode(&hex("06")), None);
}

#[test]
fn data_is_cut_to_what_any_peer_reads() {
    let long = Notification { code: 3, subcode: 5, data: vec![7; 60_000].into() };
    assert_eq!(encoded(&long).len(), MAX_LENGTH - HEADER_LENGTH);
}

#[test]
fn shutdown_text_is_shown_bounded_and_escaped() {
    let notification = Notification::shutdown(CeaseSubcode::AdministrativeShutdown, "back at \"noon\"\n\u{202e}");
    assert_eq!(
        notification.to_string(),
        r#"6/2 Cease, Administrative Shutdown: "back at \"noon\"\n\u{202e}""#
    );
    assert_eq!(notification.data[0], 18);

    // 200 characters of two octets: the cut is between characters.
    let long = Notification::shutdown(CeaseSubcode::AdministrativeReset, &"é".repeat(200));
    assert_eq!(long.data.len(), 255);
    assert_eq!(long.shutdown_text(), Some("é".repeat(127).as_str()));
    assert_eq!(Notification::shutdown(CeaseSubcode::HardReset, "text").data, Bytes::new());
    assert_eq!(Notification::shutdown(CeaseSubcode::AdministrativeReset, "").data, Bytes::new());
}

/// RFC 9003 section 2 and section 6; CVE-2019-16159 was a length that was believed.
#[test]
fn a_malformed_shutdown_text_is_no_text() {
    for data in ["", "00", "05 61", "01 6161", "ff 61", "02 c328", "01 ff"] {
        for subcode in [2, 4] {
            let notification = Notification { code: 6, subcode, data: hex(data) };
            assert_eq!(notification.shutdown_text(), None, "{data}");
            assert!(!notification.to_string().contains('"'), "{data}");
        }
    }
    let other = Notification { code: 6, subcode: 3, data: hex("01 61") };
    assert_eq!(other.shutdown_text(), None);
}

#[test]
fn names_are_those_of_the_registry() {
    let shown = |code, subcode, data| Notification { code, subcode, data: hex(data) }.to_string();
    assert_eq!(shown(2, 2, "fde9"), "2/2 OPEN Message Error, Bad Peer AS");
    assert_eq!(shown(4, 0, ""), "4/0 Hold Timer Expired");
    assert_eq!(shown(6, 77, ""), "6/77 Cease");
    assert_eq!(shown(99, 1, ""), "99/1 Unknown Error");
    assert_eq!(
        shown(6, 9, "0604 0361 6263"),
        "6/9 Cease, Hard Reset (6/4 Cease, Administrative Reset: \"abc\")"
    );
    // No recursion by a peer's choice.
    assert_eq!(shown(6, 9, &"0609".repeat(1000)), "6/9 Cease, Hard Reset (6/9 Cease, Hard Reset)");
}
