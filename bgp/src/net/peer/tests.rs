//! The task of a neighbor against a peer that a test plays over loopback TCP, and a RIB that it plays as well.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;

use super::*;
use crate::message::capability::ForwardingState;
use crate::message::update::LinkLocalForm;
use crate::message::{
    self, Attributes, Capability, CeaseSubcode, Frame, GracefulRestart, MAX_EXTENDED_LENGTH, MessageKind,
    Open, Outgoing,
};
use crate::net::connection::LINGER;
use crate::net::rib::{Epoch, PeerBatch, ToRib};
use crate::net::{HopLimit, Md5Key};
use crate::rib::ToPeer;
use crate::session::RemoteAs;
use crate::{Asn, Families, Family, HoldTime, NextHop, Prefix, RouterId};

const PEER: PeerId = PeerId(7);
const THEIRS: Asn = Asn(65004);
/// Nothing here takes nearly as long on any machine.
const SOON: Duration = Duration::from_secs(20);
/// A session without graceful restart.
const UP: PeerChange = PeerChange::Up { keeps: Families::NONE };

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap()
}

fn session_config() -> SessionConfig {
    SessionConfig {
        local_as: Asn(65001),
        router_id: RouterId(Ipv4Addr::new(10, 0, 0, 1)),
        remote_as: RemoteAs::External,
        hold_time: HoldTime::from_secs(90).unwrap(),
        keepalive: Duration::from_secs(30),
        families: Families::from_iter([Family::Ipv4Unicast]),
        extended_next_hop: Families::NONE,
        graceful_restart: None,
        inherited: Families::NONE,
        stale_time: Duration::from_secs(120),
        hostname: String::new(),
        software_version: String::new(),
        link_local_form: LinkLocalForm::Twice,
        passive: false,
        seed: 1,
    }
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::new();
    encode(&mut bytes);
    bytes.freeze()
}

fn keepalive() -> Bytes {
    encoded(message::encode_keepalive)
}

/// Withdraws 800 prefixes: an UPDATE of nearly the classic length.
fn long_update() -> Bytes {
    let withdrawn: Vec<u8> =
        (0..800_u16).flat_map(|n| [32, 20, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]).collect();
    let length = u16::try_from(withdrawn.len()).unwrap();
    let mut bytes = vec![0xff; 16];
    bytes.extend((19 + 4 + length).to_be_bytes());
    bytes.push(2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(withdrawn);
    bytes.extend([0, 0]);
    bytes.into()
}

/// The test's end of one connection.
struct Script {
    stream: TcpStream,
    input: BytesMut,
}

impl Script {
    fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// The next message; `None` at an orderly end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = message::frame(&mut self.input, MAX_EXTENDED_LENGTH).unwrap() {
                return Some(frame);
            }
            if soon(self.stream.read_buf(&mut self.input)).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn next_of(&mut self, kind: MessageKind) -> Frame {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == kind {
                return frame;
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    async fn establish(&mut self) {
        self.establish_with(None).await;
    }

    /// With one capability more.
    async fn establish_with(&mut self, more: Option<Capability>) {
        let open = Open {
            asn: THEIRS,
            hold_time: HoldTime::from_secs(90).unwrap(),
            router_id: RouterId(Ipv4Addr::new(10, 0, 0, 4)),
            capabilities: [
                Capability::multiprotocol(Family::Ipv4Unicast),
                Capability::FourOctetAs(THEIRS),
                Capability::ExtendedMessage,
            ]
            .into_iter()
            .chain(more)
            .collect(),
        };
        self.send(&encoded(|out| open.encode(out))).await;
        self.send(&keepalive()).await;
        self.next_of(MessageKind::Open).await;
        self.next_of(MessageKind::Keepalive).await;
    }

    /// Reads to the end, and says with which NOTIFICATION it came.
    async fn end(&mut self) -> Option<Notification> {
        let mut last = None;
        while let Some(frame) = self.next().await {
            if frame.kind == MessageKind::Notification {
                last = Notification::decode(&frame.body);
            }
        }
        last
    }
}

/// A neighbor under test, its RIB and its agent.
struct Stage {
    peer: Peer,
    rib: mpsc::Receiver<ToRib>,
    events: mpsc::Receiver<PeerEvent>,
    listener: TcpListener,
    batches: mpsc::Sender<PeerBatch>,
}

impl Stage {
    /// A neighbor that is told where the test listens.
    async fn new(inbox: usize) -> Self {
        let (sender, mut rib) = mpsc::channel(inbox);
        let (events, agent) = mpsc::channel(64);
        let settings = PeerSettings {
            name: "test".to_owned(),
            id: PEER,
            session: session_config(),
            rib: PeerConfig::limited_to(10),
            events,
        };
        let peer = Peer::spawn(settings, RibHandle::played(sender));
        let Some(ToRib::Configure { batches, .. }) = soon(rib.recv()).await else { panic!("not configured") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stage = Self { peer, rib, events: agent, listener, batches };
        stage.retarget(&stage.listener).await;
        stage
    }

    async fn retarget(&self, listener: &TcpListener) {
        self.peer.send(PeerCommand::Target(Some(target(listener)))).await;
    }

    async fn accept(&self) -> Script {
        Script::new(soon(self.listener.accept()).await.unwrap().0)
    }

    async fn established(&mut self) -> Script {
        let mut script = self.accept().await;
        script.establish().await;
        self.up().await;
        script
    }

    /// The RIB hears of a session.
    async fn up(&mut self) -> Epoch {
        loop {
            if let ToRib::Up { epoch, .. } = soon(self.rib.recv()).await.unwrap() {
                return epoch;
            }
        }
    }

    async fn ready(&mut self) -> Epoch {
        loop {
            if let ToRib::Ready { epoch, .. } = soon(self.rib.recv()).await.unwrap() {
                return epoch;
            }
        }
    }

    async fn event(&mut self) -> PeerChange {
        soon(self.events.recv()).await.unwrap().change
    }

    async fn status(&self) -> PeerStatus {
        let (reply, answer) = oneshot::channel();
        self.peer.send(PeerCommand::Status(reply)).await;
        soon(answer).await.unwrap()
    }

    async fn give(&self, epoch: Epoch, items: Vec<ToPeer>) {
        soon(self.batches.send(PeerBatch { epoch, items })).await.unwrap();
    }
}

fn target(listener: &TcpListener) -> Target {
    Target {
        remote: listener.local_addr().unwrap(),
        interface: None,
        link_local: None,
        global_address: None,
        hop_limit: HopLimit::Link,
        md5: None,
    }
}

fn end_of_rib() -> ToPeer {
    ToPeer::Update(Outgoing::EndOfRib(Family::Ipv4Unicast))
}

/// Many announcements; the number only makes them differ.
fn announcements(prefixes: u32) -> ToPeer {
    let attributes = Attributes { next_hop: NextHop::Ipv4(Ipv4Addr::LOCALHOST), ..Attributes::originated() };
    let host = |number: u32| Prefix::host(Ipv4Addr::from(0x1400_0000 + number).into());
    ToPeer::Update(Outgoing::Reach {
        attributes: Arc::new(attributes),
        prefixes: (0..prefixes).map(host).collect(),
    })
}

/// Sends KEEPALIVEs for as long as somebody takes them.
async fn chatter(mut to: OwnedWriteHalf) {
    let many: Vec<u8> = keepalive().repeat(1000);
    while to.write_all(&many).await.is_ok() {}
}

#[tokio::test]
async fn a_notification_reaches_a_peer_that_never_stops_talking() {
    let mut stage = Stage::new(64).await;
    let Script { stream, mut input } = stage.established().await;
    // More than the peer's socket takes while it does not read: the NOTIFICATION waits in ours, where a RST, the
    // answer to unread input, would reach it.
    let epoch = stage.ready().await;
    stage.give(epoch, vec![announcements(200_000)]).await;
    stage.ready().await;
    let (mut from, to) = stream.into_split();
    let chatter = tokio::spawn(chatter(to));
    let cease = Notification::cease(CeaseSubcode::PeerDeconfigured);
    let Stage { peer, mut rib, .. } = stage;
    let goodbye = tokio::spawn(peer.shutdown(Stop::Notify(cease.clone())));
    let seen = loop {
        match message::frame(&mut input, MAX_EXTENDED_LENGTH).unwrap() {
            Some(frame) if frame.kind == MessageKind::Notification => {
                break Notification::decode(&frame.body);
            }
            Some(_) => {}
            None => assert!(soon(from.read_buf(&mut input)).await.unwrap() > 0, "the end came first"),
        }
    };
    assert_eq!(seen, Some(cease));
    soon(goodbye).await.unwrap();
    soon(chatter).await.unwrap();
    let mut forgotten = false;
    while let Some(message) = soon(rib.recv()).await {
        forgotten |= matches!(message, ToRib::Remove { peer: PEER });
    }
    assert!(forgotten);
}

/// The agent is to go on sending packets there, and Discovery not to look for another router.
#[tokio::test]
async fn a_peer_that_restarts_refuses_dials_and_is_kept_until_its_link_goes() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.accept().await;
    let restart = GracefulRestart {
        restart_time: Duration::from_secs(60),
        families: vec![(Family::Ipv4Unicast.into(), ForwardingState::Lost)],
        ..GracefulRestart::default()
    };
    script.establish_with(Some(Capability::GracefulRestart(restart))).await;
    stage.up().await;
    let ipv4 = Families::from_iter([Family::Ipv4Unicast]);
    assert_eq!(stage.event().await, PeerChange::Up { keeps: ipv4 });
    let Stage { peer, mut rib, mut events, listener, batches: _batches } = stage;
    drop(listener);
    drop(script);
    assert_eq!(soon(events.recv()).await.unwrap().change, PeerChange::Restarting);
    let kept = loop {
        if let ToRib::Down { kept, .. } = soon(rib.recv()).await.unwrap() {
            break kept;
        }
    };
    assert_eq!(kept, ipv4);
    let is_refused = |status: &PeerStatus| {
        matches!(status.last_error, Some((_, SessionError::ConnectFailed(_))))
            && status.timers.iter().any(|(name, _)| *name == "RestartTimer")
    };
    loop {
        let (reply, answer) = oneshot::channel();
        peer.send(PeerCommand::Status(reply)).await;
        if is_refused(&soon(answer).await.unwrap()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    peer.send(PeerCommand::Target(None)).await;
    assert!(matches!(soon(rib.recv()).await, Some(ToRib::Forget { peer: PEER })));
    assert_eq!(soon(events.recv()).await.unwrap().change, PeerChange::Left, "and not that it is unreachable");
}

#[tokio::test]
async fn a_stop_does_not_wait_long_for_a_peer_that_neither_reads_nor_closes() {
    let mut stage = Stage::new(64).await;
    let _script = stage.established().await;
    let started = tokio::time::Instant::now();
    // The RIB takes what the task has left for it.
    let Stage { peer, mut rib, .. } = stage;
    soon(peer.shutdown(Stop::Silent)).await;
    assert!(started.elapsed() < LINGER * 2, "{:?}", started.elapsed());
    let mut last = None;
    while let Some(message) = soon(rib.recv()).await {
        last = Some(message);
    }
    assert!(
        matches!(last, Some(ToRib::Down { peer: PEER, kept: Families::NONE })),
        "its routes are not to be forgotten, only not used"
    );
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_given_no_more_than_its_socket_takes() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.established().await;
    let mut epoch = stage.ready().await;
    let mut given = 0;
    // About a megabyte each; no socket buffer of Linux is longer than some megabytes.
    loop {
        stage.give(epoch, vec![announcements(200_000)]).await;
        given += 1;
        assert!(given < 64, "bytes pile up");
        match tokio::time::timeout(Duration::from_secs(1), stage.ready()).await {
            Ok(again) => epoch = again,
            Err(_) => break,
        }
    }
    assert_eq!(stage.status().await.state, State::Established);
    // It reads again, and is asked for again.
    let resumed = loop {
        tokio::select! {
            _ = script.next() => {}
            epoch = stage.ready() => break epoch,
        }
    };
    assert_eq!(resumed, epoch);
}

#[tokio::test]
async fn reading_pauses_while_the_rib_takes_nothing_and_loses_nothing() {
    // More than the buffers of both sockets hold.
    const UPDATES: usize = 6000;
    let mut stage = Stage::new(1).await;
    let mut script = stage.established().await;
    let writer = tokio::spawn(async move {
        script.send(&long_update().repeat(UPDATES)).await;
        script
    });
    assert_eq!(stage.event().await, UP);
    let mut taken = 0;
    loop {
        // The task itself goes on meanwhile, and answers.
        let now = stage.status().await.received.update;
        if now > 0 && now == taken {
            break;
        }
        taken = now;
        // No event comes: it is only a while.
        tokio::time::timeout(Duration::from_millis(200), stage.events.recv()).await.ok();
    }
    assert!(taken < u64::try_from(UPDATES).unwrap(), "the task took everything while the RIB took nothing");
    let mut heard = 0;
    while heard < UPDATES {
        if let ToRib::Updates { updates, .. } = soon(stage.rib.recv()).await.unwrap() {
            heard += updates.len();
        }
    }
    assert_eq!(heard, UPDATES);
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn a_batch_of_an_ended_session_is_dropped_and_the_present_one_asks_again() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.established().await;
    let epoch = stage.ready().await;
    stage.give(Epoch::default(), vec![announcements(1)]).await;
    assert_eq!(stage.ready().await, epoch, "the stale batch may have been in the way of the answer");
    stage.give(epoch, vec![end_of_rib()]).await;
    let update = script.next_of(MessageKind::Update).await;
    assert_eq!(&update.body[..], [0, 0, 0, 0], "End-of-RIB comes first");
}

#[tokio::test]
async fn connections_beyond_the_session_are_told_so_and_the_session_stays() {
    let mut stage = Stage::new(64).await;
    let _script = stage.established().await;
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(TcpStream::connect(door.local_addr().unwrap()).await.unwrap());
        let (accepted, _) = soon(door.accept()).await.unwrap();
        stage.peer.send(PeerCommand::Accepted(accepted)).await;
    }
    // None of them is closed by the peer, and still the last one is heard.
    let mut last = Script::new(flood.pop().unwrap());
    assert_eq!(last.end().await, Some(Notification::cease(CeaseSubcode::ConnectionCollision)));
    assert_eq!(stage.status().await.state, State::Established);
}

#[tokio::test]
async fn another_target_ends_the_session_and_dials_there() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.established().await;
    assert_eq!(stage.event().await, UP);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.retarget(&elsewhere).await;
    assert_eq!(script.end().await, None, "silently, for a peer with graceful restart");
    let mut other = Script::new(soon(elsewhere.accept()).await.unwrap().0);
    other.establish().await;
    // Nobody is told that the new router is dead because the old one is left.
    assert_eq!(stage.event().await, PeerChange::Left);
    assert_eq!(stage.event().await, UP);
    assert_eq!(stage.status().await.established, 2);
}

#[tokio::test]
async fn a_neighbor_that_is_held_gets_no_session_before_it_is_released() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.established().await;
    let down = Notification::cease(CeaseSubcode::BfdDown);
    stage.peer.send(PeerCommand::Hold(down.clone())).await;
    assert_eq!(script.end().await, Some(down));
    // Not where it is found again either.
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.retarget(&elsewhere).await;
    assert_eq!(stage.status().await.state, State::Idle);
    stage.peer.send(PeerCommand::Release).await;
    let mut other = Script::new(soon(elsewhere.accept()).await.unwrap().0);
    other.establish().await;
    stage.up().await;
    assert_eq!(stage.status().await.established, 2);
}

#[tokio::test]
async fn the_same_target_with_another_address_of_ours_changes_nothing() {
    let mut stage = Stage::new(64).await;
    let _script = stage.established().await;
    let global_address = Some("2001:db8::1".parse().unwrap());
    let target = Target { global_address, ..target(&stage.listener) };
    stage.peer.send(PeerCommand::Target(Some(target.clone()))).await;
    let status = stage.status().await;
    assert_eq!((status.state, status.established), (State::Established, 1));
    assert_eq!(status.target, Some(target));
}

#[tokio::test]
async fn a_target_with_another_key_or_address_of_ours_is_another_session() {
    let stage = Stage::new(64).await;
    let same = target(&stage.listener);
    let key = Some(Md5Key::new(b"secret".to_vec()).unwrap());
    assert!(same.reaches_as(&same.clone()));
    assert!(!same.reaches_as(&Target { md5: key, ..same.clone() }));
    assert!(!same.reaches_as(&Target { link_local: Some("fe80::2".parse().unwrap()), ..same.clone() }));
    assert!(!same.reaches_as(&Target { hop_limit: HopLimit::Gtsm, ..same.clone() }));
}

#[tokio::test]
async fn a_refused_dial_is_told_with_its_reason() {
    let mut stage = Stage::new(64).await;
    drop(stage.accept().await);
    // Bound and not listening: the port refuses, and nobody else can get it meanwhile.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let remote = nobody.local_addr().unwrap().as_socket().unwrap();
    let mut target = Target { remote, ..target(&stage.listener) };
    stage.peer.send(PeerCommand::Target(Some(target.clone()))).await;
    assert_eq!(stage.event().await, PeerChange::Unreachable { remote: target.remote.ip() });
    let (failed, error) = stage.status().await.last_error.unwrap();
    assert_eq!(error.to_string(), "cannot connect to the peer: connection refused");
    target.remote = stage.listener.local_addr().unwrap();
    stage.peer.send(PeerCommand::Target(Some(target))).await;
    stage.established().await;
    // People ask afterwards why it took so long.
    assert_eq!(stage.status().await.last_error, Some((failed, error)));
}

#[tokio::test]
async fn a_dial_that_nobody_answers_is_told_as_well() {
    let mut stage = Stage::new(64).await;
    // A listener that accepts nobody: once its queue is full, the kernel drops every SYN.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    deaf.listen(0).unwrap();
    let remote = deaf.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(remote).await.unwrap();
    let target = Target { remote, ..target(&stage.listener) };
    stage.peer.send(PeerCommand::Target(Some(target))).await;
    assert_eq!(stage.event().await, PeerChange::Unreachable { remote: remote.ip() });
    assert!(matches!(stage.status().await.last_error, Some((_, SessionError::ConnectTimeout(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_costs_its_routes_and_is_told_after_a_pause() {
    let (sender, mut rib) = mpsc::channel(1);
    let (events, mut agent) = mpsc::channel(1);
    let started = tokio::time::Instant::now();
    supervise(PEER, async { panic!("a bug") }, RibHandle::played(sender), events).await;
    assert!(matches!(rib.recv().await, Some(ToRib::Remove { peer: PEER })));
    assert_eq!(agent.recv().await, Some(PeerEvent { peer: PEER, change: PeerChange::Failed }));
    assert!(started.elapsed() >= FAILURE_PAUSE);
}

#[tokio::test]
async fn a_disabled_neighbor_stays_down_through_every_new_target_until_it_is_enabled() {
    let mut stage = Stage::new(64).await;
    let mut script = stage.established().await;
    let cease = Notification::shutdown(CeaseSubcode::AdministrativeShutdown, "drained");
    stage.peer.send(PeerCommand::Disable(cease.clone())).await;
    assert_eq!(script.end().await, Some(cease));
    drop(script);

    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.retarget(&elsewhere).await;
    assert_eq!(stage.status().await.state, State::Idle);
    let clear = Notification::cease(CeaseSubcode::AdministrativeReset);
    stage.peer.send(PeerCommand::Clear(clear)).await;
    assert_eq!(stage.status().await.state, State::Idle);

    stage.listener = elsewhere;
    stage.peer.send(PeerCommand::Enable).await;
    stage.established().await;
}
