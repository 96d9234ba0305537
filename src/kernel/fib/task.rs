//! The task around [`Delta`]: waits for one thing, feeds it in, writes what follows.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::InterfaceIndex;
use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::oneshot;

use super::delta::{Cause, Delta, Event};
use super::route::Observation;
use super::writer::{WriteError, Writer};
use super::{Batch, Inputs, Notice, Request, Settings};
use crate::kernel::netlink::{
    self, DumpError, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE, GROUP_LINK,
    Message, RECEIVE_BUFFER, Received, Socket,
};

/// Links and addresses come on the same socket as routes because the kernel takes IPv4 routes with them
/// without an event of its own, and here they are in order with the rest.
const GROUPS: [u32; 5] =
    [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE];
/// Operations between two looks at the inputs: about 20 KiB and 2 ms of the kernel's time.
const OPERATIONS: usize = 256;
/// Keys that may wait here; what is more waits in the RIB, where it can be superseded.
const BACKLOG: usize = 4096;
/// Datagrams of events read in one go, so that a flood of them does not keep us from writing.
const DATAGRAMS: usize = 4096;
/// Notices logged one by one at a time; a flush of the whole table is one line more.
const NOTICES: usize = 8;
/// A dump is interrupted when the table changes meanwhile, which is over soon.
const RESYNC_FIRST: Duration = Duration::from_millis(20);
/// The table is large or never at rest.
const RESYNC_LAST: Duration = Duration::from_secs(5);

/// Netlink is unusable.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a netlink socket for routes")]
pub struct StartError(#[from] io::Error);

/// Keeps the kernel's routes as they are wanted, in the network namespace of this thread, until
/// `inputs.batches` is closed. The routes stay.
///
/// # Errors
/// When netlink cannot be used at all.
pub async fn run(settings: Settings, inputs: Inputs) -> Result<(), StartError> {
    Task::start(settings)?.run(inputs).await;
    Ok(())
}

struct Task {
    settings: Settings,
    delta: Delta,
    events: Socket,
    writer: Writer,
    /// Sequence number of the last acknowledged write.
    last_write: u32,
    sweep_at: Option<Instant>,
    resync_pause: Duration,
    overruns: u64,
    progress: Progress,
    first_dump: FirstDump,
}

/// What the first convergence took.
#[derive(Debug, Default)]
struct Progress {
    first_batch: Option<Instant>,
    operations: usize,
    settled: bool,
    converged: bool,
    reported: bool,
}

/// What an earlier run has left, and who asked before it was known.
#[derive(Debug)]
enum FirstDump {
    Awaited(Vec<oneshot::Sender<usize>>),
    Inherited(usize),
}

/// What the loop waited for.
enum Input {
    Batch(Option<Batch>),
    Request(Option<Request>),
    Local,
    Interfaces,
    Events(io::Result<Received>),
    Due,
}

impl Task {
    fn start(settings: Settings) -> io::Result<Self> {
        let mut delta = Delta::new(settings.ownership);
        let now = Instant::now();
        delta.resync_after(Duration::ZERO, now);
        Ok(Self {
            delta,
            events: Socket::open(&GROUPS, settings.event_buffer)?,
            writer: Writer::open(settings.ownership)?,
            last_write: 0,
            sweep_at: Some(now + settings.sweep_after),
            resync_pause: RESYNC_FIRST,
            overruns: 0,
            progress: Progress::default(),
            first_dump: FirstDump::Awaited(Vec::new()),
            settings,
        })
    }

    async fn run(mut self, mut inputs: Inputs) {
        self.delta.set_local(&inputs.local.borrow_and_update().clone());
        self.delta.set_interfaces(inputs.interfaces.borrow_and_update().clone());
        let (mut requests_open, mut local_open, mut interfaces_open) = (true, true, true);
        loop {
            let due = until(self.deadline());
            // Every branch is cancel safe: channels, watches and a socket that reads whole datagrams.
            let input = tokio::select! {
                batch = inputs.batches.recv(), if self.delta.backlog() < BACKLOG => Input::Batch(batch),
                request = inputs.requests.recv(), if requests_open => Input::Request(request),
                changed = inputs.local.changed(), if local_open => {
                    local_open = changed.is_ok();
                    Input::Local
                }
                changed = inputs.interfaces.changed(), if interfaces_open => {
                    interfaces_open = changed.is_ok();
                    Input::Interfaces
                }
                received = self.events.receive() => Input::Events(received),
                () = due => Input::Due,
            };
            match input {
                Input::Batch(None) => return,
                Input::Batch(Some(batch)) => self.take_batch(batch),
                Input::Request(None) => requests_open = false,
                Input::Request(Some(Request::Stop { reply })) => {
                    let _ = reply.send(());
                    return;
                }
                Input::Request(Some(request)) => self.answer(request),
                Input::Local => self.delta.set_local(&inputs.local.borrow_and_update().clone()),
                Input::Interfaces => self.delta.set_interfaces(inputs.interfaces.borrow_and_update().clone()),
                Input::Events(received) => self.take_events(received),
                Input::Due => self.work().await,
            }
            log(self.delta.take_notices());
            self.report_progress();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.delta.deadline(Instant::now()), self.sweep_at].into_iter().flatten().min()
    }

    fn take_batch(&mut self, batch: Batch) {
        self.progress.first_batch.get_or_insert_with(Instant::now);
        self.progress.settled = false;
        batch.changes.into_iter().for_each(|change| self.delta.want(change));
        if batch.converged {
            self.converged();
        }
    }

    fn converged(&mut self) {
        self.progress.converged = true;
        self.sweep_at = None;
        self.delta.set_converged();
    }

    fn answer(&mut self, request: Request) {
        // Whoever does not wait for the answer any more does not need it.
        match request {
            Request::Routes { after, limit, reply } => {
                let _ = reply.send(self.delta.routes(after, limit.min(Request::PAGE)));
            }
            Request::Route { prefix, reply } => {
                let _ = reply.send(self.delta.route(prefix));
            }
            // The loop has taken it already.
            Request::Stop { .. } => {}
            Request::Inherited { reply } => match &mut self.first_dump {
                FirstDump::Awaited(waiting) => waiting.push(reply),
                FirstDump::Inherited(number) => {
                    let _ = reply.send(*number);
                }
            },
            Request::Counters { reply } => {
                let _ = reply.send(super::Counters { overruns: self.overruns, ..self.delta.counters() });
            }
        }
    }

    /// One portion of what is due.
    async fn work(&mut self) {
        let now = Instant::now();
        if self.sweep_at.is_some_and(|at| at <= now) {
            tracing::info!(
                "no convergence so far; sweeping the routes of earlier runs that nobody asked for"
            );
            self.converged();
        }
        if self.delta.resync_at().is_some_and(|at| at <= now) {
            return self.resync().await;
        }
        // What others did meanwhile: NLM_F_REPLACE is for routes that are still ours.
        self.drain_events();
        let operations = self.delta.poll_operations(now, OPERATIONS);
        if operations.is_empty() {
            return;
        }
        match self.writer.write(&operations).await {
            Ok(outcomes) => {
                self.progress.operations += outcomes.len();
                let now = Instant::now();
                self.last_write = outcomes.last().map_or(self.last_write, |outcome| outcome.sequence);
                for outcome in outcomes {
                    self.delta.completed(outcome.operation, outcome.sequence, outcome.result, now);
                }
                self.drain_events();
            }
            Err(error) => self.writer_failed(&error, &operations),
        }
    }

    fn writer_failed(&mut self, error: &WriteError, operations: &[super::delta::Operation]) {
        tracing::warn!(%error, "lost track of route changes; reading the table again");
        let now = Instant::now();
        operations.iter().for_each(|operation| self.delta.lost(operation, now));
        match Writer::open(self.settings.ownership) {
            // A new socket counts its messages from the beginning.
            Ok(writer) => {
                self.writer = writer;
                self.last_write = 0;
            }
            // The old one fails again, and this is tried again after the next dump.
            Err(error) => {
                tracing::error!(%error, "cannot open a netlink socket");
                self.delta.resync_after(RESYNC_LAST, now);
            }
        }
    }

    fn take_events(&mut self, received: io::Result<Received>) {
        match received {
            Ok(Received::Datagram) => self.take_datagram(),
            Ok(Received::Overrun) => self.overrun(),
            Err(error) => {
                tracing::warn!(%error, "the netlink event socket failed; opening another");
                match Socket::open(&GROUPS, self.settings.event_buffer) {
                    Ok(events) => self.events = events,
                    Err(error) => tracing::error!(%error, "cannot open a netlink socket"),
                }
                self.overrun();
            }
        }
    }

    fn drain_events(&mut self) {
        for _ in 0..DATAGRAMS {
            match self.events.try_receive().transpose() {
                Some(received) => self.take_events(received),
                None => return self.delta.drained(self.last_write),
            }
        }
    }

    fn overrun(&mut self) {
        self.overruns += 1;
        tracing::warn!("route events were lost; reading the table again");
        self.delta.overrun(Instant::now());
    }

    fn take_datagram(&mut self) {
        let now = Instant::now();
        let Self { events, delta, writer, settings, .. } = self;
        for message in netlink::messages(events.datagram()) {
            if message.port == writer.port() {
                delta.confirmed(message.sequence);
                continue;
            }
            match message.decode() {
                Some(RouteNetlinkMessage::NewRoute(route)) => {
                    let event =
                        if message.flags & NLM_F_REPLACE != 0 { Event::Replaced } else { Event::Added };
                    observe(delta, settings, event, &message, &route, now);
                }
                Some(RouteNetlinkMessage::DelRoute(route)) => {
                    observe(delta, settings, Event::Deleted, &message, &route, now);
                }
                Some(RouteNetlinkMessage::NewLink(link)) if !link.header.flags.contains(LinkFlags::Up) => {
                    link_down(delta, &link, now);
                }
                Some(RouteNetlinkMessage::DelLink(link)) => link_down(delta, &link, now),
                Some(RouteNetlinkMessage::DelAddress(address)) => {
                    address
                        .attributes
                        .iter()
                        .filter_map(|attribute| match attribute {
                            AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(*ip),
                            _ => None,
                        })
                        .for_each(|ip: IpAddr| delta.address_gone(ip, now));
                }
                _ => {}
            }
        }
    }

    /// Reads the whole table; what is then different from what we believed is put right.
    async fn resync(&mut self) {
        // Events that are older than the dump must not be taken for newer.
        self.drain_events();
        match dump(&self.settings).await {
            Ok(routes) => {
                self.resync_pause = RESYNC_FIRST;
                self.delta.resync(routes, Instant::now());
                if let FirstDump::Awaited(waiting) = &mut self.first_dump {
                    let inherited = self.delta.counters().stale;
                    for reply in waiting.drain(..) {
                        let _ = reply.send(inherited);
                    }
                    self.first_dump = FirstDump::Inherited(inherited);
                }
                self.drain_events();
            }
            Err(error) => {
                tracing::warn!(%error, pause = ?self.resync_pause, "cannot read the routes; trying again");
                self.delta.resync_after(self.resync_pause, Instant::now());
                self.resync_pause = (self.resync_pause * 2).min(RESYNC_LAST);
            }
        }
    }

    /// Once for each time that everything asked for is done.
    fn report_progress(&mut self) {
        let Some(first_batch) = self.progress.first_batch else { return };
        let busy = self.delta.backlog() > 0 || self.delta.resync_at().is_some();
        if busy || std::mem::replace(&mut self.progress.settled, true) {
            return;
        }
        let elapsed = first_batch.elapsed();
        let operations = self.progress.operations;
        if self.progress.converged && !std::mem::replace(&mut self.progress.reported, true) {
            let counters = self.delta.counters();
            tracing::info!(
                routes = counters.installed,
                failed = counters.failed,
                operations,
                ?elapsed,
                "fib converged"
            );
        } else {
            tracing::debug!(operations, ?elapsed, "fib at rest");
        }
    }
}

/// Ready at once when the time has come; the timer wheel would round it up to the next millisecond.
async fn until(deadline: Option<Instant>) {
    match deadline {
        None => std::future::pending().await,
        Some(at) if at <= Instant::now() => {}
        Some(at) => tokio::time::sleep_until(at.into()).await,
    }
}

fn observe(
    delta: &mut Delta,
    settings: &Settings,
    event: Event,
    message: &Message<'_>,
    route: &RouteMessage,
    now: Instant,
) {
    let Some(observation) = settings.ownership.observe(route) else { return };
    let cause = if message.port == 0 { Cause::Kernel } else { Cause::Program };
    tracing::trace!(?event, ?cause, ?observation, "route event");
    delta.observe(event, cause, observation, now);
}

/// A port that leaves a bridge is told of in the bridge's family; its link stays.
fn link_down(delta: &mut Delta, link: &LinkMessage, now: Instant) {
    if link.header.interface_family == AddressFamily::Unspec {
        delta.link_down(InterfaceIndex(link.header.index), now);
    }
}

/// All routes of our table that could be ours or in our way, both families.
async fn dump(settings: &Settings) -> Result<Vec<Observation>, DumpError> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        // A new socket each time: nothing of a dump that failed can be taken for the next one's.
        let mut socket = Socket::open(&[], RECEIVE_BUFFER)?;
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.attributes.push(RouteAttribute::Table(settings.ownership.table));
        let result = socket
            .dump(RouteNetlinkMessage::GetRoute(request), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    routes.extend(settings.ownership.observe(&route));
                }
            })
            .await;
        match result {
            // The kernel makes a table when the first route enters it.
            Err(DumpError::Kernel(error)) if error.errno == libc::ENOENT => {}
            result => result?,
        }
    }
    Ok(routes)
}

fn log(notices: Vec<Notice>) {
    let more = notices.len().saturating_sub(NOTICES);
    for notice in notices.into_iter().take(NOTICES) {
        match notice {
            Notice::Unblocked { .. } | Notice::RestoredDrifted { .. } => tracing::info!("{notice}"),
            Notice::RestoredDeleted { .. }
            | Notice::RestoredChanged { .. }
            | Notice::Fight { .. }
            | Notice::Blocked { .. }
            | Notice::Failed { .. } => tracing::warn!("{notice}"),
        }
    }
    if more > 0 {
        tracing::warn!(routes = more, "and more routes likewise");
    }
}
