//! The session in virtual time: what each event does in each state, every timer, collisions between two speakers,
//! and arbitrary sequences of events.

mod collisions;
mod lifetime;
mod opens;
mod properties;
mod restart;
mod table;
mod timers;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::BufMut;

use super::*;
use crate::message::{self, Capability, CeaseSubcode, GracefulRestart, Open};
use crate::{AfiSafi, Family};

const OURS: Asn = Asn(65001);
const THEIRS: Asn = Asn(65004);

/// Where virtual time begins.
#[expect(clippy::disallowed_methods, reason = "tests count from the time they start")]
fn epoch() -> Instant {
    Instant::now()
}

fn router_id(last: u8) -> RouterId {
    RouterId(Ipv4Addr::new(10, 0, 0, last))
}

/// Ours: router id 10.0.0.1, hold time 9 s, both families.
fn config() -> SessionConfig {
    SessionConfig {
        local_as: OURS,
        router_id: router_id(1),
        remote_as: RemoteAs::External,
        hold_time: HoldTime::from_secs(9).unwrap(),
        keepalive: Duration::from_secs(3),
        families: Families::ALL,
        extended_next_hop: Families::from_iter([Family::Ipv4Unicast]),
        graceful_restart: Some(Duration::from_secs(30)),
        inherited: Families::NONE,
        stale_time: Duration::from_secs(120),
        hostname: "c1".into(),
        software_version: "selvedge/test".into(),
        link_local_form: LinkLocalForm::Twice,
        passive: false,
        seed: 1,
    }
}

/// The peer's OPEN: AS 65004, router id 10.0.0.4, no graceful restart.
fn their_open() -> Open {
    Open {
        asn: THEIRS,
        hold_time: HoldTime::from_secs(9).unwrap(),
        router_id: router_id(4),
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(THEIRS),
        ],
    }
}

/// The same of another AS.
fn open_of(asn: Asn) -> Open {
    let mut open = Open { asn, ..their_open() };
    open.capabilities.retain(|capability| !matches!(capability, Capability::FourOctetAs(_)));
    open.capabilities.push(Capability::FourOctetAs(asn));
    open
}

fn graceful() -> Capability {
    Capability::GracefulRestart(GracefulRestart {
        restart_time: Duration::from_secs(120),
        ..GracefulRestart::default()
    })
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::new();
    encode(&mut bytes);
    bytes.freeze()
}

fn open_bytes(open: &Open) -> Bytes {
    encoded(|out| open.encode(out))
}

fn keepalive() -> Bytes {
    encoded(message::encode_keepalive)
}

fn notification(code: u8, subcode: u8) -> Notification {
    Notification { code, subcode, data: Bytes::new() }
}

/// How most dials fail.
const REFUSED: std::io::ErrorKind = std::io::ErrorKind::ConnectionRefused;

fn notification_bytes(notification: &Notification) -> Bytes {
    encoded(|out| notification.encode(out))
}

fn refresh(family: AfiSafi, kind: RefreshKind) -> Bytes {
    encoded(|out| RouteRefresh { family, kind }.encode(out))
}

/// A message of any type, so that nothing but the header has to be right.
fn raw_message(kind: u8, body: &[u8]) -> Bytes {
    encoded(|out| {
        out.put_bytes(0xff, 16);
        out.put_u16(u16::try_from(message::HEADER_LENGTH + body.len()).unwrap());
        out.put_u8(kind);
        out.put_slice(body);
    })
}

/// End-of-RIB of IPv4 unicast: the smallest UPDATE.
fn update() -> Bytes {
    raw_message(2, &[0, 0, 0, 0])
}

/// A session and a driver that knows the rules of the API and breaks the test when the session breaks them.
struct Driven {
    session: Session,
    now: Instant,
    /// Connections that the session may act on.
    alive: BTreeSet<ConnectionId>,
    dialled: Option<ConnectionId>,
    up: bool,
    ups: usize,
    /// Families whose routes the last `Down` said to keep, until `Forget`.
    kept: Families,
}

impl Driven {
    fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            session: Session::new(config),
            now,
            alive: BTreeSet::new(),
            dialled: None,
            up: false,
            ups: 0,
            kept: Families::NONE,
        }
    }

    /// Feeds one event, drains the session and checks the invariants of every step.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        match &event {
            Event::Accepted(id) => {
                self.alive.insert(*id);
            }
            Event::ConnectFailed(id, _) | Event::Closed(id) => {
                self.alive.remove(id);
            }
            _ => {}
        }
        self.session.handle(event, self.now);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Action> {
        let actions: Vec<_> = std::iter::from_fn(|| self.session.poll_action()).collect();
        for action in &actions {
            match action {
                Action::Connect(id) => {
                    assert!(self.alive.insert(*id), "{id:?} was used before");
                    self.dialled = Some(*id);
                }
                Action::Transmit(id, bytes) => {
                    assert!(self.alive.contains(id), "transmits on {id:?}, which is closed");
                    assert!(!bytes.is_empty());
                }
                Action::Close(id) => assert!(self.alive.remove(id), "closes {id:?} twice"),
                Action::Up(..) => {
                    assert!(!std::mem::replace(&mut self.up, true), "Up twice");
                    self.ups += 1;
                }
                Action::Down { kept, .. } => {
                    assert!(std::mem::replace(&mut self.up, false), "Down without Up");
                    self.kept = *kept;
                }
                Action::Forget => {
                    assert!(!self.kept.is_empty(), "nothing is kept");
                    self.kept = Families::NONE;
                }
                Action::Update(_) | Action::Refresh(_) => assert!(self.up, "routes without a session"),
            }
        }
        assert_eq!(self.up, self.session.state() == State::Established);
        assert_eq!(self.up, self.session.negotiated().is_some());
        assert!(self.session.connections.len() <= 2);
        assert!(
            self.session
                .connections
                .iter()
                .all(|connection| connection.buffered() < message::MAX_EXTENDED_LENGTH)
        );
        actions
    }

    /// Goes to the next deadline, which has to be there, and says so.
    fn next_deadline(&mut self) -> Vec<Action> {
        self.now = self.session.poll_deadline().expect("a deadline").max(self.now);
        let actions = self.handle(Event::Deadline { input_pending: false });
        assert!(
            self.session.poll_deadline().is_none_or(|deadline| deadline > self.now),
            "a deadline that was served is still due"
        );
        actions
    }

    /// Lets time pass, serving deadlines on the way.
    fn advance(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while self.session.poll_deadline().is_some_and(|deadline| deadline <= end) {
            actions.extend(self.next_deadline());
        }
        self.now = end;
        actions
    }

    /// The connection that leads.
    fn id(&self) -> ConnectionId {
        let leading = self.session.connections.iter().max_by_key(|connection| connection.state());
        leading.map(|connection| connection.id).or(self.dialled).unwrap_or(ConnectionId(1000))
    }

    fn receive(&mut self, bytes: Bytes) -> Vec<Action> {
        self.handle(Event::Received(self.id(), bytes))
    }

    fn accept(&mut self) -> ConnectionId {
        let id = self.session.next_connection();
        self.handle(Event::Accepted(id));
        id
    }

    /// Dials and gets through to OpenSent.
    fn dial(&mut self) -> ConnectionId {
        self.handle(Event::Start);
        let id = self.dialled.expect("a dial");
        self.handle(Event::Connected(id));
        id
    }

    /// From Idle to Established over a dialled connection.
    fn establish(&mut self, theirs: &Open) -> ConnectionId {
        let id = self.dial();
        self.handle(Event::Received(id, open_bytes(theirs)));
        self.handle(Event::Received(id, keepalive()));
        assert_eq!(self.session.state(), State::Established);
        id
    }

    /// The socket took everything that was to be transmitted.
    fn flush(&mut self) {
        self.handle(Event::Written(self.id(), usize::MAX));
    }
}

/// A session of `config()` after `Start`, `Connected` and both OPENs, that is, Established.
fn established(config: SessionConfig, theirs: &Open) -> Driven {
    let mut driven = Driven::new(config, epoch());
    driven.establish(theirs);
    driven.flush();
    driven
}

/// Actions in short: `open`, `notify 5/1`, `up` and so on.
fn words(actions: &[Action]) -> String {
    let words: Vec<_> = actions.iter().map(word).collect();
    words.join(", ")
}

fn word(action: &Action) -> String {
    match action {
        Action::Connect(_) => "connect".into(),
        Action::Transmit(_, bytes) => message_word(bytes),
        Action::Close(_) => "close".into(),
        Action::Up(..) => "up".into(),
        Action::Update(_) => "update".into(),
        Action::Refresh(_) => "refresh".into(),
        Action::Down { reason, kept } => {
            let keeping = if kept.is_empty() { "" } else { ", keeping" };
            match reason {
                DownReason::Sent(sent) => format!("down sent {}/{}{keeping}", sent.code, sent.subcode),
                DownReason::Received(got) => format!("down received {}/{}{keeping}", got.code, got.subcode),
                reason => format!("down {reason:?}{keeping}"),
            }
        }
        Action::Forget => "forget".into(),
    }
}

fn message_word(bytes: &[u8]) -> String {
    match bytes[18] {
        1 => "open".into(),
        2 => "send update".into(),
        3 => format!("notify {}/{}", bytes[19], bytes[20]),
        4 => "keepalive".into(),
        5 => "send refresh".into(),
        kind => format!("message of type {kind}"),
    }
}

/// The NOTIFICATION among the actions.
fn notified(actions: &[Action]) -> Option<Notification> {
    actions.iter().find_map(|action| match action {
        Action::Transmit(_, bytes) if bytes[18] == 3 => Notification::decode(&bytes.slice(19..)),
        _ => None,
    })
}

fn cease(subcode: CeaseSubcode) -> Notification {
    Notification::cease(subcode)
}
