//! The task of Router Discovery: waits for one thing, feeds the machine, drains it.
//!
//! In: snapshots of the uplinks, commands, messages from the socket, the clock. Out: messages to the socket,
//! events to the agent. Nothing here waits for the agent to take an event, so the agent may wait for this task.

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Instant;

use bgp::InterfaceIndex;
use tokio::sync::{mpsc, oneshot, watch};

use super::discovery::{Discovery, Event, Received, Status, Uplinks};
use super::socket::{MAX_MESSAGE, Socket};

/// What does not change while the task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Makes the jitter of all timers; nodes that start together should differ in it.
    pub jitter_seed: u64,
}

impl Default for Settings {
    /// A random seed.
    fn default() -> Self {
        Self { jitter_seed: fastrand::u64(..) }
    }
}

/// What the agent asks of the task.
#[derive(Debug)]
pub enum Command {
    /// The BGP session with a learned router is over: [`Discovery::forget`].
    Forget {
        /// The uplink.
        interface: InterfaceIndex,
        /// The address it was learned by.
        router: Ipv6Addr,
    },
    /// Tells what is known of each uplink.
    Show(oneshot::Sender<Status>),
    /// Says goodbye where we were a default router, and ends the task: [`Discovery::handle_leave`]. A restart
    /// drops the channel instead, and the neighbors notice nothing.
    Leave,
}

/// Why the task ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The socket could not be opened or set up.
    #[error("cannot open the ICMPv6 socket for Router Discovery (it needs CAP_NET_RAW): {0}")]
    Open(#[source] io::Error),
    /// The socket failed in a way that does not pass.
    #[error("cannot receive Router Advertisements: {0}")]
    Receive(#[source] io::Error),
}

/// Runs Router Discovery until [`Command::Leave`], or until one of the channels is closed at its other end.
/// The socket is opened in the network namespace of the thread that polls this first, and before anything is
/// awaited.
///
/// Dropping the future is a silent stop.
///
/// # Errors
/// [`RunError`]; what goes wrong on one uplink is counted there and ends nothing.
pub async fn run(
    settings: Settings,
    mut uplinks: watch::Receiver<Arc<Uplinks>>,
    events: mpsc::Sender<Event>,
    mut commands: mpsc::Receiver<Command>,
) -> Result<(), RunError> {
    let mut socket = Socket::open().map_err(RunError::Open)?;
    let mut machine = Discovery::new(settings.jitter_seed);
    let mut buffer = [0; MAX_MESSAGE];
    // Before anything else is answered, so that nobody is told of a node without uplinks.
    take_snapshot(&mut uplinks, &mut socket, &mut machine);
    loop {
        send_all(&mut machine, &socket);
        let deadline = machine.poll_timeout();
        // Every branch is cancel-safe: what one takes from its source, it returns in the same poll.
        tokio::select! {
            changed = uplinks.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                take_snapshot(&mut uplinks, &mut socket, &mut machine);
            }
            received = socket.receive(&mut buffer) => match received {
                Ok(received) => {
                    trace_received(&received);
                    machine.handle_received(Instant::now(), received);
                }
                Err(error) if passes(&error) => tracing::debug!(%error, "cannot receive"),
                Err(error) => return Err(RunError::Receive(error)),
            },
            permit = events.reserve(), if machine.has_event() => {
                let Ok(permit) = permit else { return Ok(()) };
                if let Some(event) = machine.poll_event() {
                    permit.send(event);
                }
            }
            command = commands.recv() => match command {
                Some(Command::Forget { interface, router }) => {
                    machine.forget(Instant::now(), interface, router);
                }
                Some(Command::Show(answer)) => {
                    // Who asked may have gone.
                    let _ = answer.send(machine.status(Instant::now()));
                }
                Some(Command::Leave) => {
                    machine.handle_leave();
                    send_all(&mut machine, &socket);
                    return Ok(());
                }
                None => return Ok(()),
            },
            () = sleep_until(deadline) => {
                // A group that could not be joined, since the interface was not ready, is tried again with the
                // next solicitation.
                let snapshot = Arc::clone(&uplinks.borrow());
                socket.set_memberships(snapshot.keys().copied());
                machine.handle_timeout(Instant::now());
            }
        }
    }
}

fn take_snapshot(uplinks: &mut watch::Receiver<Arc<Uplinks>>, socket: &mut Socket, machine: &mut Discovery) {
    let snapshot = Arc::clone(&uplinks.borrow_and_update());
    // First the groups, so that no answer to what the machine then sends is missed.
    socket.set_memberships(snapshot.keys().copied());
    machine.handle_uplinks(Instant::now(), &snapshot);
}

/// A message that cannot be sent (ENETDOWN, ENODEV, EADDRNOTAVAIL: the link changed and the snapshot that says
/// so is on its way) is counted; the machine's timers send the next one.
fn send_all(machine: &mut Discovery, socket: &Socket) {
    while let Some(transmit) = machine.poll_transmit() {
        let interface = transmit.interface;
        match socket.send(&transmit) {
            Ok(()) => tracing::trace!(
                interface = interface.0,
                destination = %transmit.destination,
                kind = transmit.octets.first(),
                "sent"
            ),
            Err(error) => {
                tracing::debug!(interface = interface.0, source = %transmit.source, %error, "cannot send");
                machine.handle_send_failure(interface);
            }
        }
    }
}

fn trace_received(received: &Received<'_>) {
    tracing::trace!(
        interface = received.interface.0,
        source = %received.source,
        hop_limit = received.hop_limit,
        kind = received.octets.first(),
        "received"
    );
}

/// Whether an error of `recvmsg` is about one link or one moment. The kernel reports it once.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETDOWN | libc::ENETUNREACH | libc::ENODEV | libc::ENOBUFS | libc::ENOMEM | libc::EINTR)
    )
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
