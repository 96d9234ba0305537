//! The task around the RIB: what it hands out when, with its peers and its FIB played by the test.

use super::*;
use crate::Families;
use crate::message::Update;
use crate::policy::{Action, Changes, Conditions, Policy, Role, Rule};
use crate::rib::fixtures::{config, external, from_peer, gateways, prefix, reach, rib as fixture, withdraw};
use crate::rib::{Originator, PeerConfig};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);
const DEADLINE: Duration = Duration::from_secs(30);

struct Played {
    rib: RibHandle,
    fib: mpsc::Receiver<FibBatch>,
}

impl Played {
    fn new() -> Self {
        let (batches, fib) = mpsc::channel(1);
        let settings = RibSettings { config: config(Role::Host), convergence_deadline: DEADLINE };
        let (rib, _task) = RibHandle::spawn(settings, batches);
        Self { rib, fib }
    }

    async fn send(&self, message: ToRib) {
        self.rib.reserve().await.unwrap().send(message);
    }

    /// A neighbor whose session is up.
    async fn up(&self, peer: PeerId) -> mpsc::Receiver<PeerBatch> {
        let (sender, batches) = mpsc::channel(1);
        let config = PeerConfig::limited_to(1000);
        self.send(ToRib::Configure { peer, name: "eth0".to_owned(), config, batches: sender }).await;
        let session = Box::new(external(peer.0));
        self.send(ToRib::Up { peer, epoch: Epoch::default(), session }).await;
        batches
    }

    async fn update(&self, peer: PeerId, update: Update) {
        self.send(ToRib::Updates { peer, updates: vec![update] }).await;
    }

    async fn end_of_rib(&self, peer: PeerId) {
        for family in Family::ALL {
            self.update(peer, Update { end_of_rib: Some(family), ..Update::default() }).await;
        }
    }

    /// Everything sent so far was taken in, and nothing is left to decide.
    async fn settled(&self) {
        while self.rib.ask(Rib::is_dirty).await.unwrap() {}
    }
}

fn originated(number: u32) -> BTreeMap<Prefix, Originator> {
    let host = |number: u32| Prefix::host(std::net::Ipv4Addr::from(0x1400_0000 + number).into());
    (0..number).map(|number| (host(number), Originator::StaticBlock)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_end_of_rib_completes_the_convergence_with_the_last_change() {
    let mut played = Played::new();
    let started = Instant::now();
    let _batches = (played.up(ONE).await, played.up(TWO).await);
    played.rib.expect([ONE, TWO].into()).await.unwrap();
    played.end_of_rib(ONE).await;
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    let first = played.fib.recv().await.unwrap();
    assert!(!first.converged, "the second neighbor has said nothing");
    played.update(TWO, reach(&from_peer(2, &[]), &["20.0.0.0/8"])).await;
    played.end_of_rib(TWO).await;
    let mut last = played.fib.recv().await.unwrap();
    let changes = last.changes.clone();
    while !last.converged {
        last = played.fib.recv().await.unwrap();
    }
    assert_eq!(changes, [FibChange { prefix: prefix("20.0.0.0/8"), gateways: gateways(&[1, 2]) }]);
    assert!(started.elapsed() < DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_neighbor_that_is_never_heard_delays_the_convergence_to_the_deadline() {
    let mut played = Played::new();
    let started = Instant::now();
    let _batches = played.up(ONE).await;
    played.rib.expect([ONE, TWO].into()).await.unwrap();
    played.end_of_rib(ONE).await;
    let batch = played.fib.recv().await.unwrap();
    assert!(batch.converged && batch.changes.is_empty());
    assert!(started.elapsed() >= DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn without_neighbors_only_the_deadline_counts() {
    let mut played = Played::new();
    let started = Instant::now();
    played.rib.expect(BTreeSet::new()).await.unwrap();
    assert!(played.fib.recv().await.unwrap().converged);
    assert!(started.elapsed() >= DEADLINE);
}

#[tokio::test]
async fn what_is_superseded_while_the_fib_is_busy_is_never_given() {
    let mut played = Played::new();
    let _batches = played.up(ONE).await;
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    played.settled().await;
    // The queue of the FIB is full now; what follows waits as a set.
    played.update(ONE, reach(&from_peer(1, &[]), &["21.0.0.0/8", "22.0.0.0/8"])).await;
    played.settled().await;
    played.update(ONE, withdraw(&["21.0.0.0/8"])).await;
    played.settled().await;
    let first = played.fib.recv().await.unwrap();
    assert_eq!(first.changes, [FibChange { prefix: prefix("20.0.0.0/8"), gateways: gateways(&[1]) }]);
    let second = played.fib.recv().await.unwrap();
    assert_eq!(second.changes, [FibChange { prefix: prefix("22.0.0.0/8"), gateways: gateways(&[1]) }]);
}

#[tokio::test]
async fn the_fib_is_served_while_messages_never_cease() {
    let mut played = Played::new();
    let _batches = played.up(ONE).await;
    played.send(ToRib::Question(echo(played.rib.clone()))).await;
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    let batch = tokio::time::timeout(Duration::from_secs(10), played.fib.recv()).await;
    assert_eq!(batch.unwrap().unwrap().changes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_of_one_neighbor_alone_does_not_wait_for_ever_behind_changes_of_both() {
    let mut played = Played::new();
    // Neither ever sends End-of-RIB.
    let _batches = (played.up(ONE).await, played.up(TWO).await);
    played.update(ONE, reach(&from_peer(1, &[]), &["30.0.0.0/8"])).await;
    played.update(TWO, reach(&from_peer(2, &[]), &["30.0.0.0/8"])).await;
    played.settled().await;
    // The queue of the FIB is full now, and another change of that route waits whenever it takes something.
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    let started = Instant::now();
    for round in 0..1000 {
        let is_gone = round % 2 == 0;
        let update =
            if is_gone { withdraw(&["30.0.0.0/8"]) } else { reach(&from_peer(2, &[]), &["30.0.0.0/8"]) };
        played.update(TWO, update).await;
        played.settled().await;
        assert!(played.rib.ask(|rib| rib.has_fib_changes(Ripeness::Settled)).await.unwrap());
        let batch = played.fib.recv().await.unwrap();
        if batch.changes.iter().any(|change| change.prefix == prefix("20.0.0.0/8")) {
            break;
        }
        played.settled().await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let waited = started.elapsed();
    assert!(waited >= FIB_LIMIT && waited <= FIB_LIMIT + 2 * FIB_PATIENCE, "{waited:?}");
}

/// A message that leaves another one like it, so that the inbox is never empty.
fn echo(rib: RibHandle) -> Question {
    Box::new(move |_| {
        let next = echo(rib.clone());
        // Full: then it is not empty either.
        let _ = rib.inbox.try_send(ToRib::Question(next));
    })
}

#[tokio::test]
async fn a_question_is_answered_while_there_is_work() {
    let played = Played::new();
    played.rib.originate(originated(100_000)).await.unwrap();
    assert!(played.rib.ask(Rib::is_dirty).await.unwrap());
}

#[tokio::test]
async fn a_peer_gets_a_batch_only_when_it_asked_and_only_of_its_present_session() {
    let played = Played::new();
    played.rib.originate(originated(1)).await.unwrap();
    let mut batches = played.up(ONE).await;
    played.settled().await;
    assert!(batches.try_recv().is_err(), "it has not asked");
    let present = Epoch::default().next();
    played.send(ToRib::Ready { peer: ONE, epoch: present }).await;
    played.settled().await;
    assert!(batches.try_recv().is_err(), "that session is not up yet");
    played.send(ToRib::Up { peer: ONE, epoch: present, session: Box::new(external(1)) }).await;
    played.send(ToRib::Ready { peer: ONE, epoch: present }).await;
    let batch = batches.recv().await.unwrap();
    assert_eq!(batch.epoch, present);
    assert!(!batch.items.is_empty());
}

#[tokio::test]
async fn a_neighbor_that_failed_is_forgotten_with_its_routes() {
    let mut played = Played::new();
    let _batches = played.up(ONE).await;
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    assert_eq!(played.fib.recv().await.unwrap().changes.len(), 1);
    played.rib.forget(ONE).await;
    let batch = played.fib.recv().await.unwrap();
    assert_eq!(batch.changes, [FibChange { prefix: prefix("20.0.0.0/8"), gateways: None }]);
}

/// A route comes and goes at the limit, over and over.
#[test]
fn a_peer_at_its_limit_is_asked_again_at_once_and_then_not_for_a_while() {
    let mut rib = fixture(Role::Host, 1);
    rib.configure_peer(ONE, PeerConfig::limited_to(1));
    let (batches, _) = mpsc::channel(1);
    let name = "eth0".to_owned();
    let mut link =
        PeerLink { name, batches, ready: None, epoch: None, next_refresh: None, marks: BTreeMap::new() };
    let flap = |rib: &mut Rib| {
        rib.receive(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8", "21.0.0.0/8"]));
        rib.receive(ONE, withdraw(&["20.0.0.0/8"]));
    };
    let start = Instant::now();
    let mut requests = |rib: &mut Rib, after| refresh_requests(rib, ONE, &mut link, start + after).len();

    assert_eq!(requests(&mut rib, Duration::ZERO), 0, "nothing was refused");
    flap(&mut rib);
    assert_eq!(requests(&mut rib, Duration::ZERO), 1);
    rib.receive(ONE, withdraw(&["21.0.0.0/8"]));
    flap(&mut rib);
    assert_eq!(requests(&mut rib, REFRESH_INTERVAL / 2), 0, "too early");
    assert_eq!(requests(&mut rib, REFRESH_INTERVAL), 1, "put off, not forgotten");
    assert_eq!(requests(&mut rib, 2 * REFRESH_INTERVAL), 0);
}

#[tokio::test(start_paused = true)]
async fn a_neighbor_that_restarts_costs_the_fib_nothing_until_it_is_given_up() {
    let mut played = Played::new();
    let _batches = played.up(ONE).await;
    played.update(ONE, reach(&from_peer(1, &[]), &["20.0.0.0/8"])).await;
    played.end_of_rib(ONE).await;
    assert_eq!(played.fib.recv().await.unwrap().changes.len(), 1);
    played.send(ToRib::Down { peer: ONE, kept: Families::ALL }).await;
    played.settled().await;
    let session = Box::new(external(1));
    played.send(ToRib::Up { peer: ONE, epoch: Epoch::default().next(), session }).await;
    played.settled().await;
    assert!(played.fib.try_recv().is_err());
    played.send(ToRib::Forget { peer: ONE }).await;
    let gone = FibChange { prefix: prefix("20.0.0.0/8"), gateways: None };
    assert_eq!(played.fib.recv().await.unwrap().changes, [gone]);
}

#[tokio::test]
async fn an_update_that_goes_by_a_long_policy_is_heard_in_slices_and_before_what_follows_it() {
    const ROUTES: u32 = 4000;
    let (sender, inbox) = mpsc::channel(INBOX);
    let (fib, _batches) = mpsc::channel(1);
    let mut task = Task {
        rib: Rib::new(config(Role::Host)),
        inbox,
        fib,
        peers: BTreeMap::new(),
        unsettled_since: None,
        last_full_turn: None,
        convergence: Convergence::Told,
        kept_defaults: BTreeMap::new(),
        unheard: None,
    };
    let rule = Rule {
        conditions: Conditions { origin_as: vec![crate::Asn(65009)], ..Conditions::default() },
        changes: Changes::default(),
        action: Some(Action::Reject),
    };
    let rules = Policy { name: "long".to_owned(), rules: vec![rule; 32], default: Action::Accept };
    let looks = 1 + rules.size() / 16;
    assert!(looks > 1);
    let import = Some(std::sync::Arc::new(rules));
    task.rib.configure_peer(ONE, PeerConfig { import, ..PeerConfig::limited_to(ROUTES) });
    task.rib.session_up(ONE, external(1));
    let hosts: Vec<Prefix> = originated(ROUTES).into_keys().collect();
    let reach = vec![crate::message::Reach { attributes: from_peer(1, &[]), prefixes: hosts.clone() }];
    let announced = Update { reach, ..Update::default() };
    sender.try_send(ToRib::Updates { peer: ONE, updates: vec![announced] }).unwrap();
    let withdrawn = Update { withdrawn: hosts, ..Update::default() };
    sender.try_send(ToRib::Updates { peer: ONE, updates: vec![withdrawn] }).unwrap();
    let (slice, mut turns, mut before) = (INTAKE_BUDGET / looks, 0, 0);
    loop {
        let Wake::Message(Some(message)) = task.wait().await else { continue };
        task.take_in(message);
        let now = task.rib.counts(ONE, Family::Ipv4Unicast).unwrap().received;
        if now < before {
            break;
        }
        let heard = usize::try_from(now - before).unwrap();
        assert!(heard <= slice, "{heard} in a turn");
        (turns, before) = (turns + 1, now);
    }
    // The last slice left room for the withdrawal.
    assert_eq!(turns, usize::try_from(ROUTES).unwrap() / slice);
    assert_eq!(task.rib.counts(ONE, Family::Ipv4Unicast).unwrap().received, 0);
}
