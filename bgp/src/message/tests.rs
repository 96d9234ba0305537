//! Framing, KEEPALIVE and ROUTE-REFRESH, and what the tests of the other messages share.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::AfiSafi;

/// Octets from hexadecimal digits; spaces and `|` are for the reader.
pub(in crate::message) fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit.try_into().unwrap()).collect();
    let (pairs, odd) = digits.as_chunks::<2>();
    assert!(odd.is_empty(), "an odd number of digits: {text}");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

/// A message of any type and length around a body.
pub(in crate::message) fn message(code: u8, length: u16, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(&[0xff; 16]);
    out.put_u16(length);
    out.put_u8(code);
    out.put_slice(body);
    out
}

/// The body of the only message in the buffer.
pub(in crate::message) fn body_of(mut out: BytesMut) -> Bytes {
    let frame = frame(&mut out, MAX_EXTENDED_LENGTH).unwrap().unwrap();
    assert!(out.is_empty());
    frame.body
}

#[test]
fn keepalive_is_nineteen_octets() {
    let mut out = BytesMut::new();
    encode_keepalive(&mut out);
    assert_eq!(out, hex("ffffffffffffffffffffffffffffffff 0013 04"));
    let frame = frame(&mut out, MAX_LENGTH).unwrap().unwrap();
    assert_eq!(frame, Frame { kind: MessageKind::Keepalive, body: Bytes::new() });
    assert!(out.is_empty());
}

#[test]
fn a_stream_in_any_cut_gives_the_same_frames() {
    let mut stream = BytesMut::new();
    encode_keepalive(&mut stream);
    stream.extend_from_slice(&message(2, 23, &[0, 0, 0, 0]));
    encode_keepalive(&mut stream);
    for cut in 1..stream.len() {
        let mut buffer = BytesMut::new();
        let mut kinds = Vec::new();
        for part in stream.chunks(cut) {
            buffer.extend_from_slice(part);
            while let Some(frame) = frame(&mut buffer, MAX_LENGTH).unwrap() {
                kinds.push(frame.kind);
            }
        }
        assert_eq!(kinds, [MessageKind::Keepalive, MessageKind::Update, MessageKind::Keepalive]);
        assert!(buffer.is_empty());
    }
}

/// RFC 4271 section 6.1, RFC 8654 section 4: type, length, longest message, and what is to be said of it.
#[test]
fn header_errors_have_their_subcode_and_data() {
    let bad_length = |length: u16| Some((2, length.to_be_bytes().to_vec()));
    let rows: [(u8, u16, usize, Option<(u8, Vec<u8>)>); 25] = [
        (1, 28, MAX_LENGTH, bad_length(28)),
        (1, 29, MAX_LENGTH, None),
        (1, 4096, MAX_EXTENDED_LENGTH, None),
        (1, 4097, MAX_EXTENDED_LENGTH, bad_length(4097)),
        (2, 22, MAX_LENGTH, bad_length(22)),
        (2, 23, MAX_LENGTH, None),
        (2, 4096, MAX_LENGTH, None),
        (2, 4097, MAX_LENGTH, bad_length(4097)),
        (2, 65535, MAX_EXTENDED_LENGTH, None),
        (3, 20, MAX_LENGTH, bad_length(20)),
        (3, 21, MAX_LENGTH, None),
        (3, 4097, MAX_EXTENDED_LENGTH, None),
        (4, 18, MAX_LENGTH, bad_length(18)),
        (4, 0, MAX_LENGTH, bad_length(0)),
        (4, 19, MAX_LENGTH, None),
        (4, 20, MAX_LENGTH, bad_length(20)),
        (4, 20, MAX_EXTENDED_LENGTH, bad_length(20)),
        (5, 19, MAX_LENGTH, None),
        (5, 23, MAX_LENGTH, None),
        (5, 4097, MAX_LENGTH, bad_length(4097)),
        (0, 19, MAX_LENGTH, Some((3, vec![0]))),
        (6, 19, MAX_LENGTH, Some((3, vec![6]))),
        (255, 19, MAX_LENGTH, Some((3, vec![255]))),
        // The length is looked at before the type.
        (255, 18, MAX_LENGTH, bad_length(18)),
        (255, 65535, MAX_LENGTH, bad_length(65535)),
    ];
    for (code, length, max_length, expected) in rows {
        let body = vec![0; usize::from(length).saturating_sub(HEADER_LENGTH)];
        let result = frame(&mut message(code, length, &body), max_length);
        match expected {
            None => assert_eq!(result.unwrap().unwrap().body, body, "type {code} length {length}"),
            Some((subcode, data)) => {
                let expected = Notification { code: 1, subcode, data: data.into() };
                assert_eq!(result, Err(expected), "type {code} length {length}");
            }
        }
    }
}

#[test]
fn every_octet_of_the_marker_counts() {
    for position in 0..16 {
        let mut buffer = message(4, 19, &[]);
        buffer[position] = 0xfe;
        assert_eq!(frame(&mut buffer, MAX_LENGTH), Err(Notification { code: 1, subcode: 1, data: Bytes::new() }));
    }
}

#[test]
fn an_error_does_not_wait_for_the_body() {
    assert!(frame(&mut message(2, 5000, &[]), MAX_LENGTH).is_err());
    assert_eq!(frame(&mut message(2, 4096, &[0; 100]), MAX_LENGTH), Ok(None));
}

#[test]
fn route_refresh_goes_both_ways() {
    for (kind, text) in [
        (RefreshKind::Request, "0001 00 01"),
        (RefreshKind::Begin, "0001 01 01"),
        (RefreshKind::End, "0001 02 01"),
        (RefreshKind::Unknown(9), "0001 09 01"),
    ] {
        let refresh = RouteRefresh { family: AfiSafi { afi: 1, safi: 1 }, kind };
        let mut out = BytesMut::new();
        refresh.encode(&mut out);
        assert_eq!(body_of(out), hex(text));
        assert_eq!(RouteRefresh::decode(&hex(text)), Ok(refresh));
    }
}

#[test]
fn a_route_refresh_of_another_length_is_answered_with_itself() {
    for body in ["", "000100", "0001000100"].map(hex) {
        let error = RouteRefresh::decode(&body).unwrap_err();
        let length = u16::try_from(HEADER_LENGTH + body.len()).unwrap();
        assert_eq!((error.code, error.subcode), (7, 1));
        assert_eq!(error.data, message(5, length, &body));
    }
}
