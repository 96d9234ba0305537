//! The task around [`Delta`]: waits for one thing, feeds it in, writes what follows.

use std::io;
use std::time::{Duration, Instant};

use bgp::{Families, InterfaceIndex};
use ipnetwork::IpNetwork;
use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::oneshot;

use super::delta::{Cause, Delta, Event};
use super::dump;
use super::nexthop::{self, Nexthop};
use super::objects::Fate;
use super::snapshots::Seen;
use super::writer::{WriteError, Writer};
use super::{Batch, Inputs, Notice, Request, Settings};
use crate::kernel::netlink::{
    self, DumpError, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE, GROUP_LINK,
    GROUP_NEXTHOP, Message, Received, Socket,
};

/// Links and addresses come on the same socket as routes because the kernel takes IPv4 routes and nexthop objects
/// with them without an event of its own, and here they are in order with the rest.
const GROUPS: [u32; 5] =
    [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE];
/// Objects that are looked after in one go; a change may make others possible.
const ROUNDS: usize = 4;
/// Operations between two looks at the inputs: about 20 KiB and 2 ms of the kernel's time.
pub(super) const OPERATIONS: usize = 256;
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

/// Owns the reconciler and the sockets.
pub(super) struct Task {
    settings: Settings,
    delta: Delta,
    events: Socket,
    writer: Writer,
    sweep_at: Option<Instant>,
    resync_pause: Duration,
    overruns: u64,
    progress: Progress,
    /// Who is to hear where an earlier run has left routes, until that is known.
    inherited: Option<oneshot::Sender<Families>>,
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

/// What the loop waited for.
enum Input {
    Batch(Option<Batch>),
    Request(Option<Request>),
    Snapshot,
    Events(io::Result<Received>),
    Due,
}

impl Task {
    /// Opens the sockets in the network namespace of this thread.
    pub(super) fn start(settings: Settings) -> io::Result<Self> {
        let mut delta = Delta::new(&settings);
        let now = Instant::now();
        delta.resync_after(Duration::ZERO, now);
        let writer = Writer::open(settings.ownership)?;
        Ok(Self {
            delta,
            events: open_events(&settings, &writer)?,
            writer,
            sweep_at: Some(now + settings.sweep_after),
            resync_pause: RESYNC_FIRST,
            overruns: 0,
            progress: Progress::default(),
            inherited: None,
            settings,
        })
    }

    /// Until `inputs.batches` is closed, or somebody asks for a stop.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        self.inherited = inputs.inherited.take();
        self.look_for_inherited().await;
        let mut seen = Seen::default();
        self.take_snapshots(&mut inputs, &mut seen).await;
        let (mut requests_open, mut local_open, mut interfaces_open) = (true, true, true);
        let (mut dead_open, mut failed_open) = (true, true);
        loop {
            let due = until(self.deadline());
            // Every branch is cancel safe: channels, watches and a socket that reads whole datagrams.
            let input = tokio::select! {
                batch = inputs.batches.recv(), if self.delta.backlog() < BACKLOG => Input::Batch(batch),
                request = inputs.requests.recv(), if requests_open => Input::Request(request),
                changed = inputs.local.changed(), if local_open => {
                    local_open = changed.is_ok();
                    Input::Snapshot
                }
                changed = inputs.interfaces.changed(), if interfaces_open => {
                    interfaces_open = changed.is_ok();
                    Input::Snapshot
                }
                changed = inputs.dead.changed(), if dead_open => {
                    dead_open = changed.is_ok();
                    Input::Snapshot
                }
                changed = inputs.failed.changed(), if failed_open => {
                    failed_open = changed.is_ok();
                    Input::Snapshot
                }
                received = self.events.receive() => Input::Events(received),
                () = due => Input::Due,
            };
            self.take_snapshots(&mut inputs, &mut seen).await;
            match input {
                Input::Batch(None) => return,
                Input::Batch(Some(batch)) => self.take_batch(batch),
                Input::Request(None) => requests_open = false,
                Input::Request(Some(Request::Stop { reply })) => {
                    let _ = reply.send(());
                    return;
                }
                Input::Request(Some(request)) => self.answer(request),
                Input::Snapshot => {}
                Input::Events(received) => self.take_events(received),
                Input::Due => self.work().await,
            }
            log(self.delta.take_notices());
            self.report_progress();
        }
    }

    /// Links and sessions as they are by now, before anything that somebody says who may know of them already.
    async fn take_snapshots(&mut self, inputs: &mut Inputs, seen: &mut Seen) {
        if let Some(local) = seen.local(inputs) {
            self.delta.set_local(&local);
        }
        if let Some(interfaces) = seen.interfaces(inputs) {
            self.delta.set_interfaces(interfaces);
        }
        if let Some(unusable) = seen.unusable(inputs) {
            self.delta.set_dead(unusable);
            // Packets are lost meanwhile: before anything else that is due.
            self.write_objects().await;
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
        let stale = self.delta.counters().stale;
        if stale > 0 {
            tracing::warn!(
                routes = stale,
                "sweeping routes of an earlier run that no neighbor announces any more"
            );
        }
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
            Request::Memory { reply } => {
                let _ = reply.send(self.delta.memory());
            }
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
        if self.delta.objects_resync_at().is_some_and(|at| at <= now) && !self.resync_objects().await {
            return;
        }
        // What others did meanwhile: NLM_F_REPLACE is for routes that are still ours.
        self.drain_events();
        self.write_objects().await;
        self.write_routes().await;
    }

    async fn write_routes(&mut self) {
        let operations = self.delta.poll_operations(Instant::now(), OPERATIONS);
        if operations.is_empty() {
            return;
        }
        match self.writer.write(&operations, self.delta.sets()).await {
            Ok(refusals) => {
                self.progress.operations += operations.len();
                let now = Instant::now();
                let mut refusals = refusals.into_iter().peekable();
                for (place, operation) in operations.into_iter().enumerate() {
                    let refusal = refusals.next_if(|(refused, _)| *refused == place);
                    self.delta.completed(operation, refusal.map_or(Ok(()), |(_, error)| Err(error)), now);
                }
                self.drain_events();
            }
            Err(error) => {
                self.delta.lost(&operations, Instant::now());
                self.writer_failed(&error);
            }
        }
    }

    /// Objects before the routes that name them.
    async fn write_objects(&mut self) {
        for _ in 0..ROUNDS {
            let operations = self.delta.poll_objects(Instant::now());
            if operations.is_empty() {
                return;
            }
            tracing::debug!(?operations, "nexthop objects");
            match self.writer.write_objects(&operations).await {
                Ok(refusals) => {
                    let now = Instant::now();
                    let mut refusals = refusals.into_iter().peekable();
                    for (place, operation) in operations.iter().enumerate() {
                        let refusal = refusals.next_if(|(refused, _)| *refused == place);
                        let result = refusal.map_or(Ok(()), |(_, error)| Err(error));
                        self.delta.object_completed(operation, result, now);
                    }
                }
                Err(error) => {
                    self.delta.lost(&[], Instant::now());
                    return self.writer_failed(&error);
                }
            }
        }
    }

    fn writer_failed(&mut self, error: &WriteError) {
        tracing::warn!(%error, "lost track of route changes; reading the table again");
        let opened = Writer::open(self.settings.ownership)
            .and_then(|writer| self.events.ignore(writer.port()).map(|()| writer));
        match opened {
            Ok(writer) => self.writer = writer,
            // The old one fails again, and this is tried again after the next dump.
            Err(error) => {
                tracing::error!(%error, "cannot open a netlink socket");
                self.delta.resync_after(RESYNC_LAST, Instant::now());
            }
        }
    }

    fn take_events(&mut self, received: io::Result<Received>) {
        match received {
            Ok(Received::Datagram) => self.take_datagram(),
            Ok(Received::Overrun) => self.overrun(),
            Err(error) => {
                tracing::warn!(%error, "the netlink event socket failed; opening another");
                match open_events(&self.settings, &self.writer) {
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
                None => return self.delta.drained(),
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
            // The filter has let none of them through, but for those from before it was there.
            if message.port == writer.port() {
                continue;
            }
            if let Some((nexthop, fate)) = object_event(&message) {
                delta.observe_object(&nexthop, fate, now);
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
                Some(RouteNetlinkMessage::NewLink(link)) => {
                    delta.link_changed(InterfaceIndex(link.header.index), now);
                    if !link.header.flags.contains(LinkFlags::Up) {
                        link_down(delta, &link, now);
                    }
                }
                Some(RouteNetlinkMessage::DelLink(link)) => {
                    delta.link_changed(InterfaceIndex(link.header.index), now);
                    link_down(delta, &link, now);
                }
                Some(RouteNetlinkMessage::DelAddress(address)) => address_gone(delta, &address, now),
                _ => {}
            }
        }
    }

    /// Reads the whole table; what is then different from what we believed is put right.
    async fn resync(&mut self) {
        // Events that are older than the dump must not be taken for newer.
        self.drain_events();
        if !self.resync_objects().await {
            return;
        }
        match dump::routes(&self.settings).await {
            Ok(reading) => {
                self.resync_pause = RESYNC_FIRST;
                // For want of an earlier answer.
                self.know_inherited(reading.families());
                self.delta.resync(reading, Instant::now());
                self.drain_events();
            }
            Err(error) => self.dump_failed(&error),
        }
    }

    /// Before the whole table is read, which takes more than a second where it is large: sessions wait for the answer.
    async fn look_for_inherited(&mut self) {
        match dump::inherited(&self.settings).await {
            Ok(families) => self.know_inherited(families),
            Err(error) => tracing::warn!(%error, "cannot look for routes of earlier runs"),
        }
    }

    fn know_inherited(&mut self, families: Families) {
        if let Some(inherited) = self.inherited.take() {
            // Whoever waited may have given up.
            let _ = inherited.send(families);
        }
    }

    /// Reads the objects; false when they could not be read, and nothing may be concluded.
    async fn resync_objects(&mut self) -> bool {
        match dump::objects().await {
            Ok(objects) => self.delta.resync_objects(&objects),
            // Before Linux 5.3 there were none.
            Err(DumpError::Kernel(error)) if [libc::EOPNOTSUPP, libc::EINVAL].contains(&error.errno) => {
                self.delta.objects_unknown(&error);
            }
            Err(error) => {
                self.dump_failed(&error);
                return false;
            }
        }
        true
    }

    fn dump_failed(&mut self, error: &DumpError) {
        tracing::warn!(%error, pause = ?self.resync_pause, "cannot read the routes; trying again");
        self.delta.resync_after(self.resync_pause, Instant::now());
        self.resync_pause = (self.resync_pause * 2).min(RESYNC_LAST);
    }

    /// Once for each time that everything asked for is done.
    fn report_progress(&mut self) {
        let Some(first_batch) = self.progress.first_batch else { return };
        if !self.delta.is_at_rest() || std::mem::replace(&mut self.progress.settled, true) {
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

fn address_gone(delta: &mut Delta, message: &AddressMessage, now: Instant) {
    let addresses = message.attributes.iter().filter_map(|attribute| match attribute {
        // On a point-to-point link IFA_ADDRESS is the other end.
        AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    for address in addresses.filter_map(|ip| IpNetwork::new(ip, message.header.prefix_len).ok()) {
        delta.address_gone(InterfaceIndex(message.header.index), address, now);
    }
}

/// Hears everything but what we write ourselves.
fn open_events(settings: &Settings, writer: &Writer) -> io::Result<Socket> {
    let events = Socket::open(&GROUPS, settings.event_buffer)?;
    // Before Linux 5.3 there is no such group, and nothing to hear.
    if let Err(error) = events.join(GROUP_NEXTHOP) {
        tracing::debug!(%error, "no events of nexthop objects");
    }
    events.ignore(writer.port())?;
    Ok(events)
}

fn object_event(message: &Message<'_>) -> Option<(Nexthop, Fate)> {
    let fate = match message.kind {
        nexthop::NEW => Fate::Changed,
        nexthop::DELETE => Fate::Gone,
        _ => return None,
    };
    Some((nexthop::parse(message.payload)?, fate))
}

fn log(notices: Vec<Notice>) {
    let more = notices.len().saturating_sub(NOTICES);
    for notice in notices.into_iter().take(NOTICES) {
        match notice {
            Notice::Unblocked { .. } | Notice::RestoredDrifted { .. } => tracing::info!("{notice}"),
            Notice::RestoredDeleted { .. }
            | Notice::RestoredChanged { .. }
            | Notice::Removed { .. }
            | Notice::Fight { .. }
            | Notice::Blocked { .. }
            | Notice::NoObjects { .. }
            | Notice::Failed { .. } => tracing::warn!("{notice}"),
        }
    }
    if more > 0 {
        tracing::warn!(routes = more, "and more routes likewise");
    }
}
