//! A ToR: one BGP session as a source of routes that can be told when to begin, in a namespace of its own.
//!
//! It listens and never dials, takes whoever comes, and answers as FRR on a ToR does: IPv4 over an IPv6 next hop
//! (RFC 8950), a hold time of 9 s. The table is encoded beforehand, so announcing costs one copy into the socket. In:
//! [`Tor::announce`]. Out: [`Event`]s with the time at which they happened.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV6, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bgp::message::capability::ForwardingState;
use bgp::message::{
    Capability, Frame, GracefulRestart, MAX_LENGTH, MessageKind, Open, encode_keepalive, frame,
};
use bgp::{Family, HoldTime, RouterId};
use bytes::{Bytes, BytesMut};
use lab::{Error, Netns, Result};
use socket2::{Domain, SockRef, Socket, Type};

use super::advertise::Advertiser;
use super::refused;
use super::routes;
use super::site::{TOR_PORT, Uplink};

const BGP_PORT: u16 = 179;
const HOLD_TIME_S: u16 = 9;
/// A third of the hold time (RFC 4271 section 10).
const KEEPALIVE: Duration = Duration::from_secs(3);
/// From TCP to Established.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a thread looks whether it should end.
const STOP_SLICE: Duration = Duration::from_millis(100);
/// AFI of IPv6 next hops (RFC 8950 section 4).
const IPV6: u16 = 2;

/// How a ToR is to behave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Prefixes in its table.
    pub(super) routes: u32,
    /// When it sends them.
    pub(super) announcing: Announcing,
    /// The restart time that it offers (RFC 4724); none where it does not know graceful restart.
    pub(super) graceful_restart: Option<Duration>,
    /// Between two Router Advertisements.
    pub(super) advertisement_interval: Duration,
}

/// When a ToR sends its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announcing {
    /// When told.
    WhenTold,
    /// As soon as the session is up, each time.
    AtOnce,
}

/// Something that happened at a ToR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// When.
    pub(super) at: Instant,
    /// At which, from 0.
    pub(super) tor: usize,
    /// What.
    pub(super) what: What,
}

/// What can happen at a ToR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The session is up.
    Established,
    /// The first octet of the first UPDATE is about to be written.
    Announcing,
    /// The first prefix of the session has come from the agent.
    Learned,
    /// The session is down, or did not come up, for this reason.
    Closed(String),
}

/// A ToR. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Tor {
    commands: Sender<Command>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<()>>>,
}

#[derive(Debug)]
enum Command {
    Announce,
    /// From the reader of the session with this number.
    Closed(u64, String),
    Stop,
}

impl Tor {
    /// Listens and begins to advertise itself. Events go to `events`.
    pub(super) fn start(
        netns: &Netns,
        number: usize,
        uplink: &Uplink,
        manner: Manner,
        events: Sender<Event>,
    ) -> Result<Self> {
        let interface = netns.index(TOR_PORT)?;
        let address = SocketAddrV6::new(uplink.tor, BGP_PORT, 0, interface);
        let listener = netns.run(|| listen(address))?.map_err(refused(&format!("listen on {address}")))?;
        let advertiser = netns.run(|| Advertiser::open(interface))??;
        let (commands, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let speaker = Speaker {
            number,
            open: open(uplink, manner),
            table: routes::table(uplink.tor_asn, uplink.tor, manner.routes).freeze(),
            announcing: manner.announcing,
            events,
            own: commands.clone(),
            stop: Arc::clone(&stop),
        };
        let stop_advertising = Arc::clone(&stop);
        let threads = vec![
            netns.spawn(move || advertiser.run(manner.advertisement_interval, &stop_advertising))?,
            netns.spawn(move || speaker.run(&listener, &receiver))?,
        ];
        Ok(Self { commands, stop, threads })
    }

    /// Sends the table and End-of-RIB on the session that is up.
    pub(super) fn announce(&self) -> Result<()> {
        self.commands.send(Command::Announce).map_err(|_gone| Error::Missing("a ToR has ended".to_owned()))
    }
}

impl Drop for Tor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.commands.send(Command::Stop);
        for thread in self.threads.drain(..) {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// The waits for connections end now and then, to see whether to stop.
fn listen(address: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(8)?;
    socket.set_read_timeout(Some(STOP_SLICE))?;
    Ok(socket.into())
}

fn open(uplink: &Uplink, manner: Manner) -> Bytes {
    let ipv4 = Family::Ipv4Unicast;
    let mut capabilities = vec![
        Capability::multiprotocol(ipv4),
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![(ipv4.into(), IPV6)]),
        Capability::FourOctetAs(uplink.tor_asn),
    ];
    capabilities.extend(manner.graceful_restart.map(|restart_time| {
        let families = vec![(ipv4.into(), ForwardingState::Preserved)];
        let restart = GracefulRestart { restart_time, families, ..GracefulRestart::default() };
        Capability::GracefulRestart(restart)
    }));
    let open = Open {
        asn: uplink.tor_asn,
        hold_time: HoldTime::from_secs(HOLD_TIME_S).unwrap_or(HoldTime::OFF),
        router_id: RouterId(uplink.tor_router_id),
        capabilities,
    };
    let mut out = BytesMut::new();
    open.encode(&mut out);
    out.freeze()
}

/// What the session's thread has.
struct Speaker {
    number: usize,
    open: Bytes,
    table: Bytes,
    announcing: Announcing,
    events: Sender<Event>,
    own: Sender<Command>,
    stop: Arc<AtomicBool>,
}

impl Speaker {
    fn run(&self, listener: &TcpListener, commands: &Receiver<Command>) {
        for session in 0.. {
            let Some(stream) = self.accept(listener) else { return };
            let ended = self.session(session, &stream, commands);
            // Also wakes the reader.
            let _ = stream.shutdown(Shutdown::Both);
            match ended {
                Ok(End::Stop) => return,
                Ok(End::Closed(why)) => self.tell(What::Closed(why)),
                Err(error) => self.tell(What::Closed(error.to_string())),
            }
        }
    }

    /// `None` when it is time to end.
    fn accept(&self, listener: &TcpListener) -> Option<TcpStream> {
        while !self.stop.load(Ordering::Relaxed) {
            // A timeout is an error too, and so is a connection that was gone before it was taken.
            if let Ok((stream, _)) = listener.accept() {
                return Some(stream);
            }
        }
        None
    }

    fn session(&self, number: u64, stream: &TcpStream, commands: &Receiver<Command>) -> io::Result<End> {
        stream.set_nodelay(true)?;
        let mut writer = stream;
        let mut reader = Messages { stream: stream.try_clone()?, buffer: BytesMut::new() };
        SockRef::from(stream).set_read_timeout(Some(HANDSHAKE))?;
        writer.write_all(&self.open)?;
        reader.expect(MessageKind::Open)?;
        let mut keepalive = BytesMut::new();
        encode_keepalive(&mut keepalive);
        writer.write_all(&keepalive)?;
        reader.expect(MessageKind::Keepalive)?;
        stream.set_read_timeout(None)?;
        self.tell(What::Established);

        let (own, events, tor) = (self.own.clone(), self.events.clone(), self.number);
        thread::Builder::new().name(format!("tor{tor} reads")).spawn(move || {
            let why = reader.read(&events, tor);
            // Whoever has gone by now does not want to know.
            let _ = own.send(Command::Closed(number, why.to_string()));
        })?;
        if self.announcing == Announcing::AtOnce {
            self.announce(writer)?;
        }
        loop {
            match commands.recv_timeout(KEEPALIVE) {
                Ok(Command::Announce) => self.announce(writer)?,
                Ok(Command::Closed(of, why)) if of == number => return Ok(End::Closed(why)),
                Ok(Command::Closed(..)) => {}
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Stop),
                Err(RecvTimeoutError::Timeout) => writer.write_all(&keepalive)?,
            }
        }
    }

    fn announce(&self, mut writer: &TcpStream) -> io::Result<()> {
        self.tell(What::Announcing);
        writer.write_all(&self.table)
    }

    fn tell(&self, what: What) {
        // Whoever has gone by now does not want to know.
        let _ = self.events.send(Event { at: Instant::now(), tor: self.number, what });
    }
}

enum End {
    Closed(String),
    Stop,
}

/// The agent's messages.
struct Messages {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Messages {
    /// Reads until the session ends, and says why it did.
    fn read(mut self, events: &Sender<Event>, tor: usize) -> io::Error {
        let codec = routes::codec();
        let mut has_learned = false;
        loop {
            let frame = match self.next() {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            if has_learned || frame.kind != MessageKind::Update {
                continue;
            }
            has_learned = codec.decode(frame.body).is_ok_and(|update| !update.reach.is_empty());
            if has_learned {
                let _ = events.send(Event { at: Instant::now(), tor, what: What::Learned });
            }
        }
    }

    fn expect(&mut self, kind: MessageKind) -> io::Result<()> {
        let frame = self.next()?;
        if frame.kind == kind {
            return Ok(());
        }
        Err(io::Error::other(format!("{:?} in place of {kind:?}: {:?}", frame.kind, frame.body)))
    }

    fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = frame(&mut self.buffer, MAX_LENGTH)
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
            match frame {
                Some(Frame { kind: MessageKind::Notification, body }) => {
                    return Err(io::Error::other(format!("NOTIFICATION {body:?}")));
                }
                Some(frame) => return Ok(frame),
                None => {}
            }
            let mut octets = [0; 16 << 10];
            match self.stream.read(&mut octets)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.buffer.extend_from_slice(octets.get(..length).unwrap_or_default()),
            }
        }
    }
}
