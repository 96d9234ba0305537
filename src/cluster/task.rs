//! The task: watches what the configuration asks for, and publishes what follows from it.
//!
//! It owns the objects, the last decision and the file that outlives it. In: settings, as a snapshot that a reload replaces,
//! and what the watches say. Out: a [`Snapshot`]. The watches are tasks of their own, which end with this one.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::{mpsc, watch as channel};
use tracing::{debug, info, warn};

use super::collection::Collection;
use super::desired::{self, Desired, Inherited, Objects, Sources, Watched};
use super::kept::KeptDesired;
use super::objects::{Node, Object};
use super::pods::LocalPods;
use super::server::{Backoff, Checksum, Files, MOST_PAUSE, Notice, Reach};
use super::tell::Duty;
use super::watch::{Outcome, with_sources};
use super::watches::{Event, Watches};
use super::{Refusal, Resource, Settings, Snapshot, Trouble, UnreadableObject};
use crate::config::{Borrowed, Calico};
use crate::readiness::Told as ToldReadiness;

/// What watches may have said before the task looks at it; a list of 10,000 services waits here for its reader.
const QUEUE: usize = 256;
/// Of what was said, looked at in one go: what comes together is decided together.
const MOST_AT_ONCE: usize = 4096;

/// How long to wait after a decision, in times of what it took: three leave a core to others for three quarters.
const REST: u32 = 3;
/// Not worth a timer below, nor what anybody should wait for above.
const LEAST_REST: Duration = Duration::from_millis(1);
const MOST_REST: Duration = Duration::from_millis(100);

/// From a list that has less than before to the question whether that is so: longer than a server takes to come back from a
/// copy, and no longer than a block that was released may go on to be announced. A part is drawn by lot, since a thousand
/// nodes see the same list.
const HOLD_DOWN: Duration = Duration::from_secs(3);
const MOST_HOLD_DOWN: Duration = Duration::from_secs(5);

/// What the task is given.
#[derive(Debug)]
pub struct Inputs {
    /// What to do; `None`: nothing comes from Kubernetes.
    pub settings: channel::Receiver<Option<Settings>>,
    /// What it is to be told of this node, where the settings say so.
    pub told: channel::Receiver<ToldReadiness>,
    /// Where the outcome goes.
    pub snapshot: channel::Sender<Arc<Snapshot>>,
}

/// Ends with the sender of its settings.
pub async fn run(mut inputs: Inputs) {
    // What was in force under the settings before; better than the file, which may not have been writable.
    let mut before: Option<(String, Desired)> = None;
    let mut duty = Duty::Nothing;
    loop {
        let settings = inputs.settings.borrow_and_update().clone();
        let changed = match settings {
            Some(settings) => {
                let is_other_node = before.as_ref().is_some_and(|(node, _)| *node != settings.node);
                duty = if is_other_node { Duty::Nothing } else { duty }.under(settings.tainting);
                let pods = LocalPods::follow(&settings).await;
                let (mut cluster, kept) = Cluster::new(settings, pods, duty, before.take(), &inputs).await;
                let keeping = kept.follow(inputs.snapshot.subscribe());
                let changed = tokio::select! {
                    changed = inputs.settings.changed() => changed,
                    never = cluster.follow() => match never {},
                    () = keeping => return,
                };
                duty = cluster.duty;
                before = Some((cluster.sources.node, cluster.desired));
                changed
            }
            None => {
                inputs.snapshot.send_if_modified(|now| {
                    let is_empty = **now == Snapshot::default();
                    *now = Arc::default();
                    !is_empty
                });
                inputs.settings.changed().await
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Nothing: what has no end.
enum Never {}

/// How the number of borrowed addresses is to the limit of the file.
#[derive(Debug, Clone, Copy)]
enum Borrowing {
    WithinLimit,
    OverLimit,
}

struct Cluster {
    settings: Settings,
    duty: Duty,
    sources: Sources,
    pods: LocalPods,
    objects: Objects,
    desired: Desired,
    /// As the log has it.
    borrowing: Borrowing,
    reach: Reach,
    /// Kinds that the server refuses.
    refused: BTreeMap<&'static str, Refusal>,
    /// When to ask about what is missing.
    hold_down: Option<tokio::time::Instant>,
    /// Kinds of which objects are missing, as the log has it.
    missing: BTreeSet<&'static str>,
    /// Kinds of which objects make no sense, as the log has it.
    unreadable: BTreeSet<&'static str>,
    told: channel::Receiver<ToldReadiness>,
    snapshot: channel::Sender<Arc<Snapshot>>,
}

impl Cluster {
    /// What was kept is published before anybody is asked.
    async fn new(
        settings: Settings,
        mut pods: LocalPods,
        duty: Duty,
        before: Option<(String, Desired)>,
        inputs: &Inputs,
    ) -> (Self, KeptDesired) {
        let sources = Sources {
            node: settings.node.clone(),
            pods: settings.pods.clone(),
            services: settings.services.clone(),
            on_cordon: settings.on_cordon,
        };
        let (kept, from_file) = KeptDesired::read(&settings.kubernetes.state, &sources).await;
        let in_force = before.filter(|(node, _)| *node == sources.node);
        let desired = in_force.map_or(from_file, |(_, desired)| desired);
        let inherited = Inherited::of(&desired);
        let objects = Objects { local_pods: pods.now(), inherited, ..Objects::default() };
        let mut cluster = Self {
            settings,
            duty,
            sources,
            pods,
            objects,
            desired,
            borrowing: Borrowing::WithinLimit,
            reach: Reach::Untried,
            refused: BTreeMap::new(),
            hold_down: None,
            missing: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            told: inputs.told.clone(),
            snapshot: inputs.snapshot.clone(),
        };
        cluster.decide();
        (cluster, kept)
    }

    async fn follow(&mut self) -> Never {
        let (mut backoff, files) = (Backoff::default(), Files::default());
        info!(node = self.settings.node, "following the API server");
        loop {
            let began = Instant::now();
            let access = self.settings.kubernetes.access.clone();
            match self.wait_for(files.connect(&access)).await {
                Ok((client, read)) => {
                    self.follow_with(client, &files, read).await;
                    debug!("who we are to the API server is read anew");
                }
                Err(error) => {
                    let notice = self.reach.failed(with_sources(&error), Instant::now());
                    self.log(notice);
                    self.publish();
                }
            }
            if began.elapsed() >= MOST_PAUSE {
                backoff.reset();
            }
            self.wait_for(tokio::time::sleep(backoff.next_pause())).await;
        }
    }

    /// Waits for something; pods come and go meanwhile, whether or not there is a server.
    async fn wait_for<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return done,
                () = self.pods.changed() => {
                    self.objects.local_pods = self.pods.now();
                    self.decide();
                }
            }
        }
    }

    /// Until the server does not know us any more, or is to be found elsewhere.
    async fn follow_with(&mut self, client: Client, files: &Files, read: Option<Checksum>) {
        let access = self.settings.kubernetes.access.clone();
        let mut looked = Instant::now();
        let (events, mut told) = mpsc::channel(QUEUE);
        let mut watches = Watches::new(client, events);
        watches.start(&self.sources);
        let node = channel::Sender::new(None);
        watches.tell(&self.sources.node, self.duty, self.told.clone(), node.subscribe());
        let mut batch = Vec::new();
        loop {
            let hold_down = self.hold_down;
            let received = async {
                tokio::select! {
                    received = told.recv_many(&mut batch, MOST_AT_ONCE) => received > 0,
                    () = until(hold_down) => true,
                }
            };
            if !self.wait_for(received).await {
                return;
            }
            for event in batch.drain(..) {
                match self.handle(event, &mut watches) {
                    Next::GoOn => {}
                    Next::Reconnect => {
                        self.publish();
                        return;
                    }
                }
            }
            // Perhaps the server has another address by now, or other certificates.
            if watches.all_fail() && looked.elapsed() >= MOST_PAUSE {
                if self.wait_for(files.have_changed(&access, read)).await {
                    self.publish();
                    return;
                }
                looked = Instant::now();
            }
            let began = Instant::now();
            self.decide();
            self.question_missing(&watches);
            self.show_node(&node);
            // In a large cluster a decision takes milliseconds, and something changes all the time: what comes meanwhile is
            // decided together.
            let pause = began.elapsed().saturating_mul(REST).min(MOST_REST);
            let asked = desired::asked_blocks(&self.sources, &self.objects, &self.desired);
            watches.ask_for_blocks(&asked, &mut self.objects.blocks);
            if pause >= LEAST_REST {
                self.wait_for(tokio::time::sleep(pause)).await;
            }
        }
    }

    fn handle(&mut self, event: Event, watches: &mut Watches) -> Next {
        match event {
            Event::Node(told) => {
                for watched in self.objects.handle_node(&self.sources, told) {
                    watches.list_anew(watched);
                }
            }
            Event::Affinity(told) => self.objects.affinities.handle(told),
            // One that is not asked for any more may have had something on the way.
            Event::Block(prefix, told) => self.objects.handle_block(prefix, told),
            Event::Pool(told) => self.objects.pools.handle(told),
            Event::Service(told) => self.objects.services.handle(told),
            Event::Slice(told) => self.objects.slices.handle(told),
            Event::Calico(version) => watches.start_calico(version),
            Event::AllTold => self.duty = Duty::Nothing,
            Event::Outcome { asker, resource, outcome } => {
                return self.handle_outcome(asker, resource, outcome, watches);
            }
        }
        Next::GoOn
    }

    fn handle_outcome(
        &mut self,
        asker: Watched,
        resource: Option<Resource>,
        outcome: Outcome,
        watches: &mut Watches,
    ) -> Next {
        if asker.block.is_some_and(|prefix| !watches.blocks.contains_key(&prefix)) {
            return Next::GoOn;
        }
        let kind = asker.kind;
        match outcome {
            Outcome::Answered => {
                if self.refused.remove(kind).is_some() {
                    info!(kind, "the API server refuses no more");
                }
                self.heard(asker, watches);
            }
            Outcome::Refused { code, message } => {
                self.heard(asker, watches);
                let refusal = Refusal { code, message: message.clone(), resource };
                if self.refused.insert(kind, refusal).is_none() {
                    warn!(kind, code, message, "the API server refuses");
                }
                // A token may have been replaced in the file.
                if code == 401 {
                    return Next::Reconnect;
                }
            }
            Outcome::Unreachable(why) => {
                watches.failing.insert(asker);
                let notice = self.reach.failed(format!("{kind}: {why}"), Instant::now());
                self.log(notice);
            }
        }
        Next::GoOn
    }

    fn heard(&mut self, asker: Watched, watches: &mut Watches) {
        watches.failing.remove(&asker);
        if watches.failing.is_empty() {
            let notice = self.reach.answered(Instant::now());
            self.log(notice);
        }
    }

    fn log(&self, notice: Option<Notice>) {
        match (notice, &self.reach) {
            (Some(Notice::Away), Reach::Away { why, .. }) => {
                warn!(error = why, "the API server is away; what it said last stays in force");
            }
            (Some(Notice::Back { away_for }), _) => warn!(?away_for, "the API server is back"),
            (Some(Notice::First), _) => info!("the API server answers"),
            (Some(Notice::Away) | None, _) => {}
        }
    }

    /// Decides anew, and publishes what has changed.
    fn decide(&mut self) {
        self.objects.settle_harmless(&self.sources, &self.desired);
        self.desired = desired::desired(&self.sources, &self.objects, &self.desired);
        self.watch_limit();
        self.log_missing();
        self.log_unreadable(&self.trouble().unreadable);
        self.publish();
    }

    /// Asks about what is missing, when it is time.
    fn question_missing(&mut self, watches: &Watches) {
        if !self.objects.is_hold_down_needed(&self.sources) {
            self.hold_down = None;
            return;
        }
        let now = tokio::time::Instant::now();
        let lot = (MOST_HOLD_DOWN - HOLD_DOWN).mul_f64(fastrand::f64());
        let over = *self.hold_down.get_or_insert(now + HOLD_DOWN + lot);
        if now >= over {
            self.hold_down = None;
            self.objects.end_hold_down();
            watches.list_anew(Watched::all_of::<Node>());
        }
    }

    fn log_missing(&mut self) {
        let missing: BTreeMap<_, _> = self.objects.missing(&self.sources).collect();
        for (kind, missing) in missing.iter().filter(|(kind, _)| !self.missing.contains(*kind)) {
            warn!(
                kind,
                missing,
                "the API server lists less than before: what is missing counts until it says so again"
            );
        }
        for kind in self.missing.iter().filter(|kind| !missing.contains_key(*kind)) {
            info!(kind, "nothing is missing any more, or it has gone for certain");
        }
        self.missing = missing.into_keys().collect();
    }

    /// One of each kind by its name: what is wrong is most often wrong with all of them.
    fn log_unreadable(&mut self, unreadable: &[UnreadableObject]) {
        let kinds: BTreeSet<&'static str> = unreadable.iter().map(|object| object.kind).collect();
        for &kind in kinds.difference(&self.unreadable) {
            let mut of_kind = unreadable.iter().filter(|object| object.kind == kind);
            if let Some(UnreadableObject { name, why, .. }) = of_kind.next() {
                let others = of_kind.count();
                warn!(kind, name, why, others, "an object makes no sense, and counts as it was before");
            }
        }
        for kind in self.unreadable.difference(&kinds) {
            info!(kind, "all objects make sense again");
        }
        self.unreadable = kinds;
    }

    /// This node, to whoever writes to it.
    fn show_node(&self, shown: &channel::Sender<Option<Node>>) {
        let node = self.objects.node(&self.sources.node);
        shown.send_if_modified(|now| {
            let has_changed = now.as_ref() != node;
            if has_changed {
                *now = node.cloned();
            }
            has_changed
        });
    }

    /// Each borrowed address is a route of its own in the whole fabric.
    fn watch_limit(&mut self) {
        let Some(Calico { borrowed: Borrowed::Advertise { limit, .. }, .. }) = self.sources.pods.calico
        else {
            return;
        };
        let borrowed = self.desired.borrowed.values().filter(|standing| standing.is_announced()).count();
        let is_over = u32::try_from(borrowed).map_or(true, |borrowed| borrowed > limit);
        let borrowing = if is_over { Borrowing::OverLimit } else { Borrowing::WithinLimit };
        match (self.borrowing, borrowing) {
            (Borrowing::WithinLimit, Borrowing::OverLimit) => {
                warn!(borrowed, limit, "more borrowed addresses than pods.calico.borrowed-limit");
            }
            (Borrowing::OverLimit, Borrowing::WithinLimit) => {
                warn!(borrowed, limit, "borrowed addresses are within pods.calico.borrowed-limit again");
            }
            (Borrowing::WithinLimit, Borrowing::WithinLimit)
            | (Borrowing::OverLimit, Borrowing::OverLimit) => {}
        }
        self.borrowing = borrowing;
    }

    fn publish(&self) {
        let snapshot = Snapshot {
            desired: self.desired.clone(),
            pods: self.objects.local_pods.clone(),
            server: Some(self.reach.clone()),
            trouble: self.trouble(),
        };
        self.snapshot.send_if_modified(|now| {
            let has_changed = **now != snapshot;
            if has_changed {
                *now = Arc::new(snapshot);
            }
            has_changed
        });
    }

    fn trouble(&self) -> Trouble {
        let Objects { nodes, affinities, blocks, pools, services, slices, .. } = &self.objects;
        let mut unreadable = Vec::new();
        name_unreadable(nodes, &mut unreadable);
        name_unreadable(affinities, &mut unreadable);
        blocks.values().for_each(|blocks| name_unreadable(blocks, &mut unreadable));
        name_unreadable(pools, &mut unreadable);
        name_unreadable(services, &mut unreadable);
        name_unreadable(slices, &mut unreadable);
        // The watch is for this one alone.
        let is_absent =
            nodes.is_known() && nodes.values().next().is_none() && nodes.unreadable().next().is_none();
        let absent_node = is_absent.then(|| self.sources.node.clone());
        let missing = self.objects.missing(&self.sources).collect();
        let awaited = self.objects.awaited(&self.sources).collect();
        Trouble { absent_node, refused: self.refused.clone(), unreadable, missing, awaited }
    }
}

/// Never, if there is nothing to wait for.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What becomes of the present client.
enum Next {
    GoOn,
    Reconnect,
}

fn name_unreadable<T: Object>(collection: &Collection<T>, to: &mut Vec<UnreadableObject>) {
    to.extend(collection.unreadable().map(|(name, why)| UnreadableObject {
        kind: T::KIND,
        name: name.to_string(),
        why: why.to_string(),
    }));
}
