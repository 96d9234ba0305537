//! A third neighbor of the victim, on a cable of its own: a speaker of octets, which says what it is told to say.
//!
//! [`Stranger::lay`] lays the cable and has the agent read a file with one neighbor more; [`Stranger::remove`] undoes
//! both. The sessions with the ToRs have nothing to do with it, and must not notice.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Error, Netns, Port, Result, Scratch, build, cable, eventually};
use socket2::{Domain, Socket, Type};

use crate::site::Site;
use crate::wire::{self, HEADER_LENGTH, KEEPALIVE, NOTIFICATION, OPEN, ROUTE_REFRESH};

/// The victim's end of the cable, and what the node's end is called.
pub(crate) const NODE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xbad, 0, 0, 0, 0, 0, 0);
pub(crate) const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xbad, 0, 0, 0, 0, 0, 1);
const LINK_LENGTH_V6: u8 = 127;
/// IPv4 for next hops.
const NODE_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 0);
pub(crate) const STRANGER_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 1);
const LINK_LENGTH_V4: u8 = 31;
const INTERFACE: &str = "stranger";
/// Its AS number, also in the captured messages.
pub(crate) const ASN: u32 = 65099;
/// What is awaited of the agent comes within milliseconds; the rest is for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// For a machine that does something else as well.
const MINUTES: Duration = Duration::from_secs(180);
const BGP_PORT: u16 = 179;

/// The body of an OPEN of FRR 8.4.4 as a ToR with `frr defaults datacenter`, captured. Of AS 65099, with IPv6, and
/// without the capability of graceful restart, so that nothing of the stranger outlives its connection.
const FRR_OPEN: &str = "04 fe4b 0009 0aff0001 4e 0206 01040001 0001 0206 01040002 0001 0208 0506 0001 0001 0002 \
                        0202 8000 0202 0200 0202 4600 0206 41040000fe4b 0202 0600 0206 4504 0001 0101 \
                        0207 4905 0374 6f72 00 0209 4707 00010180000000";

/// The neighbor and its cable.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) netns: Netns,
    config: String,
    control: PathBuf,
    /// Sessions that there were.
    sessions: Cell<u64>,
    _scratch: Scratch,
}

impl Stranger {
    /// Lays the cable and configures the neighbor; `settings` are more lines of TOML for it.
    ///
    /// # Errors
    /// Anything.
    pub(crate) fn lay(site: &Site, settings: &str) -> Result<Self> {
        let mut scratch = Scratch::create(&format!("stranger-{}", std::process::id()))?;
        let netns = scratch.netns("s")?;
        let node = &site.victim()?.netns;
        cable(Port { netns: node, name: INTERFACE }, Port { netns: &netns, name: "c1" })?;
        let ends = [(node, INTERFACE, NODE, NODE_V4), (&netns, "c1", STRANGER, STRANGER_V4)];
        for (netns, interface, v6, v4) in ends {
            netns.set_sysctl(&format!("ipv6/conf/{interface}/accept_dad"), 0)?;
            netns.add_address(interface, IpAddr::V6(v6), LINK_LENGTH_V6)?;
            netns.add_address(interface, IpAddr::V4(v4), LINK_LENGTH_V4)?;
            netns.set_up(interface)?;
        }
        // Until the kernel has seen the carrier, what is sent to the node would come from ::1.
        for (netns, interface, ..) in ends {
            netns.await_link_local(interface, PATIENCE)?;
        }
        let lab = build::node_configs()?.into_iter().next().unwrap_or_default();
        let config = site.setting.applied_to(lab);
        let control = site.agent()?.socket();
        let stranger = Self { netns, config, control, sessions: Cell::new(0), _scratch: scratch };
        stranger.configure(site, settings)?;
        Ok(stranger)
    }

    /// Configures the neighbor anew.
    ///
    /// # Errors
    /// The agent refuses.
    pub(crate) fn configure(&self, site: &Site, settings: &str) -> Result<()> {
        let neighbor = format!(
            "[[neighbor]]\naddress = \"{STRANGER}\"\nremote-as = {ASN}\ndamping = \"0s\"\n{settings}\n"
        );
        self.reload(site, &format!("{}\n{neighbor}", self.config))
    }

    fn reload(&self, site: &Site, config: &str) -> Result<()> {
        site.agent()?.write_config(config)?;
        site.agent()?.bgpctl(&["reload"]).map(drop)
    }

    /// Takes the neighbor out of the file, for the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn take_out_of_the_file(&self, site: &Site) -> Result<()> {
        site.agent()?.write_config(&self.config)
    }

    /// Takes the neighbor out of the file, and the cable away.
    ///
    /// # Errors
    /// The agent refuses.
    pub(crate) fn remove(self, site: &Site) -> Result<()> {
        self.reload(site, &self.config)?;
        site.victim()?.netns.delete_link(INTERFACE)
    }

    /// Opens a connection on which the agent has said who it is, and nothing was said to it.
    ///
    /// # Errors
    /// The agent does not take it.
    pub(crate) fn connect(&self) -> Result<Speaker> {
        self.connect_with(Room::Usual)
    }

    fn connect_with(&self, room: Room) -> Result<Speaker> {
        self.await_over()?;
        let mut speaker = self.connect_unheard(room)?;
        match speaker.hear()? {
            Heard::Message(OPEN, _) => Ok(speaker),
            other => Err(Error::Missing(format!("an OPEN of the agent: {other:?}"))),
        }
    }

    /// Waits until the agent knows that the last session is over: to one that still seems to be there, the next one is a
    /// collision.
    fn await_over(&self) -> Result<()> {
        let sessions = self.sessions.get();
        eventually("the agent knows that the last session is over", PATIENCE, || {
            let neighbor = self.ask()?;
            // Each lasts less than a minute, and counts.
            let flaps = neighbor.pointer("/flaps/count").and_then(serde_json::Value::as_u64);
            Ok((flaps >= Some(sessions)).then_some(()))
        })
    }

    /// Opens a connection, and hears nothing of the agent yet.
    ///
    /// # Errors
    /// The agent does not take it.
    pub(crate) fn connect_unheard(&self, room: Room) -> Result<Speaker> {
        let stream = self.netns.run(|| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            match room {
                Room::Usual => {}
                // Later would be too late: a window that is promised has to stay. With less the kernel has no room for
                // acknowledgements either, and what it says is not heard any more.
                Room::Little => socket.set_recv_buffer_size(65_536)?,
            }
            let agent = SocketAddr::new(IpAddr::V6(NODE), BGP_PORT);
            socket.connect_timeout(&agent.into(), PATIENCE)?;
            Ok(TcpStream::from(socket))
        })?;
        let stream = stream.map_err(connecting)?;
        stream.set_nodelay(true).map_err(connecting)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(connecting)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(connecting)?;
        Ok(Speaker { stream, input: Vec::new() })
    }

    /// What `bgpctl show neighbor` asks, a hundred times as often as a process could be started for it.
    fn ask(&self) -> Result<serde_json::Value> {
        let asking = |source| Error::Io { doing: "ask the agent".to_owned(), source };
        let mut control = UnixStream::connect(&self.control).map_err(asking)?;
        let request =
            format!("GET /v1/neighbors/{STRANGER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        control.write_all(request.as_bytes()).map_err(asking)?;
        let mut answer = String::new();
        control.read_to_string(&mut answer).map_err(asking)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(Error::Missing(format!("an answer of the agent: {answer}")));
        }
        serde_json::from_str(body)
            .map_err(|source| Error::Json { command: "GET neighbor".to_owned(), source })
    }

    /// The same, and makes a session of it.
    ///
    /// # Errors
    /// The agent does not take it.
    pub(crate) fn establish(&self) -> Result<Speaker> {
        self.establish_with(Room::Usual)
    }

    /// The same, with as much room for what the agent sends.
    ///
    /// # Errors
    /// As [`Stranger::establish`].
    pub(crate) fn establish_with(&self, room: Room) -> Result<Speaker> {
        let mut speaker = self.connect_with(room)?;
        speaker.send(&open())?;
        speaker.send(&wire::message(KEEPALIVE, &[]))?;
        speaker.await_kind(KEEPALIVE)?;
        self.sessions.set(self.sessions.get() + 1);
        Ok(speaker)
    }
}

/// What the kernel keeps of what was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Usual,
    /// The window is soon shut.
    Little,
}

/// The OPEN as FRR sends it.
pub(crate) fn open() -> Vec<u8> {
    wire::message(OPEN, &wire::octets(FRR_OPEN))
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message of this type.
    Message(u8, Vec<u8>),
    /// It has closed.
    End,
    /// Nothing, for long.
    Silence,
}

/// One connection to the agent.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

impl Speaker {
    /// Says it. An agent that has closed is none that cannot be told: what it says is still to be heard.
    ///
    /// # Errors
    /// It takes nothing for long.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        match self.stream.write_all(octets) {
            Err(error) if is_end(error.kind()) => Ok(()),
            outcome => outcome.map_err(|source| Error::Io { doing: "write to the agent".to_owned(), source }),
        }
    }

    /// Says much, and waits for as long as the agent needs to take it.
    ///
    /// # Errors
    /// As [`Speaker::send`], after minutes.
    pub(crate) fn send_patiently(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.set_write_timeout(Some(MINUTES)).map_err(connecting)?;
        let outcome = self.send(octets);
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(connecting)?;
        outcome
    }

    /// Says that nothing more will be said.
    pub(crate) fn finish(&self) {
        // Fails where the agent has closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Ends the connection and waits until the agent knows: to a session that still seems to be there, the next one is a
    /// collision (RFC 4271 section 6.8).
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn end(mut self) -> Result<()> {
        self.finish();
        while !matches!(self.hear()?, Heard::End | Heard::Silence) {}
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn hear(&mut self) -> Result<Heard> {
        let mut buffer = [0; 65536];
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Heard::End),
                Ok(length) => self.input.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(error.kind()) => return Ok(Heard::End),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(Heard::Silence);
                }
                Err(source) => return Err(Error::Io { doing: "read from the agent".to_owned(), source }),
            }
        }
    }

    fn take(&mut self) -> Option<Heard> {
        let &[high, low, kind] = self.input.get(16..HEADER_LENGTH)? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low])).max(HEADER_LENGTH);
        let body = self.input.get(HEADER_LENGTH..length)?.to_vec();
        self.input.drain(..length);
        Some(Heard::Message(kind, body))
    }

    /// Waits for a message of this type; others are of no interest.
    ///
    /// # Errors
    /// The agent closes before, or sends a NOTIFICATION.
    pub(crate) fn await_kind(&mut self, kind: u8) -> Result<Vec<u8>> {
        loop {
            match self.hear()? {
                Heard::Message(found, body) if found == kind => return Ok(body),
                Heard::Message(NOTIFICATION, body) => {
                    return Err(Error::Missing(format!("a message of type {kind}: NOTIFICATION {body:?}")));
                }
                Heard::Message(..) => {}
                other => return Err(Error::Missing(format!("a message of type {kind}: {other:?}"))),
            }
        }
    }

    /// What became of all that was said until now: asks for the agent's routes, whose end (RFC 7313) comes when the rest
    /// has been read.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn outcome(&mut self) -> Result<Outcome> {
        self.send(&wire::refresh(0))?;
        loop {
            match self.hear()? {
                Heard::Message(ROUTE_REFRESH, body) if body == [0, 1, 2, 1] => return Ok(Outcome::Stays),
                Heard::Message(NOTIFICATION, body) => return Ok(Outcome::notification(&body)),
                Heard::Message(..) => {}
                Heard::End => return Ok(Outcome::Closed),
                Heard::Silence => return Ok(Outcome::Silence),
            }
        }
    }

    /// What is said to an OPEN.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn outcome_of_open(&mut self) -> Result<Outcome> {
        loop {
            match self.hear()? {
                Heard::Message(KEEPALIVE, _) => return Ok(Outcome::Stays),
                Heard::Message(NOTIFICATION, body) => return Ok(Outcome::notification(&body)),
                Heard::Message(..) => {}
                Heard::End => return Ok(Outcome::Closed),
                Heard::Silence => return Ok(Outcome::Silence),
            }
        }
    }
}

/// What the agent makes of what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The session goes on.
    Stays,
    /// It ended with this NOTIFICATION.
    Notified { code: u8, subcode: u8 },
    /// It ended without a word.
    Closed,
    /// Nothing: it hangs.
    Silence,
}

impl Outcome {
    fn notification(body: &[u8]) -> Self {
        match body {
            [code, subcode, ..] => Self::Notified { code: *code, subcode: *subcode },
            _ => Self::Closed,
        }
    }
}

/// Waits until the agent has routes of the stranger, as many as that.
///
/// # Errors
/// It does not come to it.
pub(crate) fn await_received(site: &Site, wanted: u64, limit: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let address = STRANGER.to_string();
    eventually(&format!("{wanted} routes received of the stranger"), limit, || {
        let neighbor = site.agent()?.bgpctl_json(&["show", "neighbor", &address])?;
        let received = neighbor.pointer("/prefixes/received").and_then(serde_json::Value::as_u64);
        Ok((received == Some(wanted)).then(|| begun.elapsed()))
    })
}

fn connecting(source: std::io::Error) -> Error {
    Error::Io { doing: "connect to the agent".to_owned(), source }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Lengths, Reading, read};

    #[test]
    fn the_open_is_a_whole_one() {
        let Reading::Messages(messages) = read(&open(), Lengths::Classic) else { panic!() };
        let [(OPEN, body)] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!(body.get(9).copied().map(usize::from), body.len().checked_sub(10), "optional parameters");
    }
}
