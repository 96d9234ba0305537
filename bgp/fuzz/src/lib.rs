//! What the fuzzer calls: one function per decoder, from any bytes to a check of what must hold for all of them.
//!
//! The same file is a module of `tests/fuzz_replay.rs`, so that the corpus is replayed on stable compilers too.
//! A new target is a function here, a line in [`TARGETS`], five lines in `fuzz_targets/` and in `Cargo.toml`, and
//! a folder of the same name in `corpus/`.
//!
//! None may panic but by an assertion of its own. What each asserts beyond that: whatever a decoder took, the
//! encoder can say, and the decoder reads the same from it.

use bgp::message::update::{AsWidth, LinkLocalForm};
use bgp::message::{
    FaultAction, MAX_EXTENDED_LENGTH, MAX_LENGTH, MessageKind, Notification, Open, Outgoing, Reach, RouteRefresh,
    UpdateCodec, frame as cut_frame,
};
use bgp::{Families, Family, PeerKind, Prefix};
use bytes::{Bytes, BytesMut};

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, fn(&[u8])); 5] = [
    ("frame", frame),
    ("open", open),
    ("update", update),
    ("notification", notification),
    ("route_refresh", route_refresh),
];

/// A stream of any bytes. The first one says whether extended messages were negotiated.
pub fn frame(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else {
        return;
    };
    let max_length = if choice & 1 == 0 { MAX_LENGTH } else { MAX_EXTENDED_LENGTH };
    let mut buffer = BytesMut::from(stream);
    loop {
        let before = buffer.len();
        match cut_frame(&mut buffer, max_length) {
            Ok(Some(frame)) => {
                assert!(buffer.len() + frame.body.len() < before, "a frame takes its header off the buffer");
                decode_body(frame.kind, frame.body);
            }
            Ok(None) => break,
            Err(error) => {
                check_notification(&error);
                break;
            }
        }
    }
}

fn decode_body(kind: MessageKind, body: Bytes) {
    match kind {
        MessageKind::Open => open(&body),
        MessageKind::Update => update_with(&codec(0), body),
        MessageKind::Notification => notification(&body),
        MessageKind::Keepalive => {}
        MessageKind::RouteRefresh => route_refresh(&body),
    }
}

/// The body of an OPEN.
pub fn open(data: &[u8]) {
    match Open::decode(Bytes::copy_from_slice(data)) {
        Ok(open) => {
            let mut out = BytesMut::new();
            open.encode(&mut out);
            // A body longer than an OPEN can be has more capabilities than can be written again.
            if data.len() <= MAX_LENGTH - 32 {
                assert_eq!(Open::decode(body_of(out)), Ok(open));
            }
        }
        Err(error) => check_notification(&error),
    }
}

/// Two octets that choose the [`UpdateCodec`], then the body of an UPDATE.
pub fn update(data: &[u8]) {
    if let Some((choice, body)) = data.split_first_chunk() {
        update_with(&codec(u16::from_be_bytes(*choice)), Bytes::copy_from_slice(body));
    }
}

fn update_with(codec: &UpdateCodec, body: Bytes) {
    let length = body.len();
    let update = match codec.decode(body) {
        Ok(update) => update,
        Err(error) => return check_notification(&error),
    };
    let reached: usize = update.reach.iter().map(|reach| reach.prefixes.len()).sum();
    assert!(reached + update.withdrawn.len() <= length, "a prefix takes at least one octet");
    if update.faults.iter().any(|fault| fault.action == FaultAction::TreatAsWithdraw) {
        assert!(update.reach.is_empty(), "withdrawn routes are not announced");
    }
    for reach in update.reach {
        check_reach(codec, reach);
    }
}

/// What was decoded can be said to a peer of the same kind, and means the same to it.
fn check_reach(codec: &UpdateCodec, mut reach: Reach) {
    assert!(!reach.prefixes.is_empty());
    let family = reach.prefixes.first().map(|prefix| prefix.family());
    assert!(reach.prefixes.iter().all(|prefix| Some(prefix.family()) == family));
    if codec.peer_kind == PeerKind::Internal {
        reach.attributes.local_pref.get_or_insert(100);
    }
    let outgoing = Outgoing::Reach { attributes: &reach.attributes, prefixes: reach.prefixes.clone() };
    let mut out = BytesMut::new();
    if codec.encode(&outgoing, &mut out).unsent != 0 {
        return;
    }
    let mut prefixes: Vec<Prefix> = Vec::new();
    while let Some(frame) = cut_frame(&mut out, codec.max_length).expect("our own framing") {
        let update = codec.decode(frame.body).expect("our own UPDATE");
        assert!(update.faults.is_empty() && update.withdrawn.is_empty(), "{update:?}");
        for again in update.reach {
            assert_eq!(again.attributes, reach.attributes);
            prefixes.extend(again.prefixes);
        }
    }
    assert_eq!(prefixes, reach.prefixes);
}

fn codec(choice: u16) -> UpdateCodec {
    let bit = |number: u16| choice >> number & 1 == 1;
    let families = |first: u16| {
        let absent = Family::ALL.into_iter().enumerate().filter(|(n, _)| !bit(first + u16::from(*n != 0)));
        absent.map(|(_, family)| family).collect::<Families>()
    };
    UpdateCodec {
        families: families(0),
        extended_next_hop: families(2),
        as_width: if bit(4) { AsWidth::Two } else { AsWidth::Four },
        max_length: if bit(5) { MAX_EXTENDED_LENGTH } else { MAX_LENGTH },
        peer_kind: if bit(6) { PeerKind::Internal } else { PeerKind::External },
        link_local_form: if bit(7) { LinkLocalForm::Once } else { LinkLocalForm::Twice },
    }
}

/// The body of a NOTIFICATION.
pub fn notification(data: &[u8]) {
    if let Some(notification) = Notification::decode(&Bytes::copy_from_slice(data)) {
        check_notification(&notification);
    }
}

/// It fits one message, and what is shown of it is short and printable.
fn check_notification(notification: &Notification) {
    let mut out = BytesMut::new();
    notification.encode(&mut out);
    assert!(out.len() <= MAX_LENGTH);
    let again = Notification::decode(&body_of(out)).expect("our own NOTIFICATION");
    assert!(notification.data.starts_with(&again.data));
    let shown = notification.to_string();
    assert!(shown.len() < 8192 && !shown.contains(char::is_control), "{shown:?}");
}

/// The body of a ROUTE-REFRESH.
pub fn route_refresh(data: &[u8]) {
    match RouteRefresh::decode(&Bytes::copy_from_slice(data)) {
        Ok(refresh) => {
            let mut out = BytesMut::new();
            refresh.encode(&mut out);
            assert_eq!(body_of(out), data);
        }
        Err(error) => check_notification(&error),
    }
}

fn body_of(mut message: BytesMut) -> Bytes {
    cut_frame(&mut message, MAX_LENGTH).expect("our own framing").expect("a whole message").body
}
