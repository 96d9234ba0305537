//! An API server that fails on demand, and knows what it was asked: what a real one does not do when a test wants it.
//!
//! It has the objects that it is given, serves lists in pages and watches from a version on, takes the patches of nodes, and
//! speaks plain HTTP on a loopback address, from threads of its own: a test may stop its own clock. Everything that a test
//! waits for is an event here: a request that came, a watch that is open. This is what tests and faults do to it; `serve` is
//! what it says to clients.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "its clients are the agents of tests: where one asks nonsense, the test has to fail"
)]

mod patch;
mod serve;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::netns::{Entrance, Netns};

/// For whatever has to come; far more than the longest pause of a client.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The first page of a list.
    List,
    /// A further page.
    Page,
    /// What changes after a version.
    Watch,
    /// A patch: of the kind, or of `KIND/status`.
    Patch,
    /// The kinds of a group and version.
    Discover,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code of HTTP.
    Refuse(u16),
    /// The answer is no JSON.
    Garbage,
    /// Another place is named.
    Redirect,
    /// There is no answer, ever.
    Hang,
    /// There is no answer until the fault has been mended.
    Hold,
    /// The connection is cut after so many octets of a list.
    CutAfter(usize),
    /// A list has nothing in it.
    Empty,
    /// A list has no version.
    Versionless,
    /// A page goes on where it began.
    Circle,
    /// A watch begins, and is never heard of again.
    Silence,
    /// A watch ends as soon as it has begun.
    EndAtOnce,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What for.
    pub verb: Verb,
    /// The kind, as paths have it; else the group and version.
    pub what: String,
    /// When it came.
    pub at: Instant,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct FakeServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The namespace of that address, where it is not the caller's.
    place: Option<Entrance>,
    shared: Shared,
    running: Option<Runtime>,
}

#[derive(Debug, Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    /// Counts what happened.
    happened: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct World {
    revision: u64,
    /// By their plural.
    kinds: BTreeMap<String, Kind>,
    faults: Vec<(Verb, String, Fault)>,
    asked: Vec<Asked>,
    /// The only one who may ask, if any.
    token: Option<String>,
    /// Objects in one page, at most.
    page: usize,
}

#[derive(Debug, Default)]
struct Kind {
    /// `/api/v1`, or `/apis/GROUP/VERSION`.
    group: String,
    objects: BTreeMap<String, Value>,
    told: Vec<Told>,
    /// Watches from before this version have missed something.
    forgotten_to: u64,
    watched: usize,
}

/// What watches are told.
#[derive(Debug, Clone)]
enum Told {
    /// A change, which later watches are told as well.
    Change { revision: u64, line: String },
    /// Once, to those that are there.
    Line(String),
    /// They end, as they do from time to time.
    End,
    /// Their connection is cut after this.
    Cut(String),
}

impl FakeServer {
    /// Here, without a kind or an object.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(None)
    }

    /// The same in a namespace of the lab.
    #[must_use]
    pub fn start_in(netns: &Netns) -> Self {
        Self::start_at(Some(netns.entrance()))
    }

    fn start_at(place: Option<Entrance>) -> Self {
        let world = World { revision: 100, page: usize::MAX, ..World::default() };
        let shared = Shared { world: Arc::new(Mutex::new(world)), happened: watch::Sender::new(0) };
        let mut server = Self { address: (Ipv4Addr::LOCALHOST, 0).into(), place, shared, running: None };
        server.up();
        server
    }

    /// Again at the same address, with everything that it had.
    pub fn up(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = match &self.place {
            None => std::net::TcpListener::bind(self.address),
            Some(place) => place.listen(self.address),
        };
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve::serve).with_state(self.shared.clone());
        runtime.spawn(async move {
            axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        self.running = Some(runtime);
    }

    /// All connections are lost, and new ones refused.
    pub fn down(&mut self) {
        let Some(runtime) = self.running.take() else { return };
        // Not in the thread of the test, whose own runtime would not have it.
        std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join().unwrap();
    }

    /// It has this kind, by its plural, without an object; `group` as paths have it: `/api/v1`, or `/apis/GROUP/VERSION`.
    pub fn define(&self, group: &str, plural: &str) {
        let kind = Kind { group: group.to_owned(), ..Kind::default() };
        self.change(|world| world.kinds.insert(plural.to_owned(), kind));
    }

    /// As if it never had this kind; its watches end.
    pub fn undefine(&self, plural: &str) {
        self.change(|world| world.kinds.remove(plural));
    }

    /// Adds an object, or replaces it. Returns the line that watches are told.
    pub fn put(&self, plural: &str, object: Value) -> String {
        self.put_told_as(plural, object, |line| line)
    }

    /// Adds an object, or replaces it, and makes another line of the one that watches are told.
    pub fn put_told_as(&self, plural: &str, object: Value, told: impl FnOnce(String) -> String) -> String {
        self.change(|world| world.put(plural, object, told))
    }

    /// Deletes an object, as its watches are told. A name is `NAMESPACE/NAME` where there is a namespace.
    pub fn delete(&self, plural: &str, name: &str) {
        self.change(|world| {
            world.revision += 1;
            let kind = world.kinds.get_mut(plural).unwrap();
            let mut object = kind.objects.remove(name).unwrap();
            object["metadata"]["resourceVersion"] = world.revision.to_string().into();
            kind.told.push(Told::Change { revision: world.revision, line: event("DELETED", &object) });
        });
    }

    /// A line for the watches that are there, true or not.
    pub fn tell(&self, plural: &str, line: &str) {
        self.to_watches(plural, Told::Line(format!("{line}\n")));
    }

    /// The watches that are there end, as they do from time to time.
    pub fn end_watches(&self, plural: &str) {
        self.to_watches(plural, Told::End);
    }

    /// The watches that are there are cut in the middle of this text.
    pub fn cut_watches(&self, plural: &str, text: &str) {
        self.to_watches(plural, Told::Cut(text.to_owned()));
    }

    fn to_watches(&self, plural: &str, told: Told) {
        self.change(|world| world.kinds.get_mut(plural).unwrap().told.push(told));
    }

    /// Forgets what changed up to now: watches from an older version are refused.
    pub fn forget(&self, plural: &str) {
        self.change(|world| {
            // Something else has changed meanwhile.
            world.revision += 1;
            world.kinds.get_mut(plural).unwrap().forgotten_to = world.revision;
        });
    }

    /// As if the objects for which `is_lost` holds had never been: no watch is told, and one that begins later has to list
    /// anew.
    pub fn lose(&self, plural: &str, is_lost: impl Fn(&str) -> bool) {
        self.change(|world| {
            world.revision += 1;
            let kind = world.kinds.get_mut(plural).unwrap();
            kind.objects.retain(|name, _| !is_lost(name));
            kind.forgotten_to = world.revision;
        });
    }

    /// An object as it is now; null, where it is not there.
    #[must_use]
    pub fn object(&self, plural: &str, name: &str) -> Value {
        let world = self.world();
        let object = world.kinds.get(plural).and_then(|kind| kind.objects.get(name));
        object.cloned().unwrap_or_default()
    }

    /// All of a kind, as they are now.
    #[must_use]
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let world = self.world();
        world.kinds.get(plural).map(|kind| kind.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// From an older copy, with versions that begin again from there: watches are told nothing of it.
    pub fn go_back(&self, revision: u64, plural: &str, objects: Vec<Value>) {
        self.change(|world| {
            world.revision = revision;
            // What it forgot later than that, it has not forgotten yet.
            world.kinds.values_mut().for_each(|kind| kind.forgotten_to = 0);
            let kind = world.kinds.get_mut(plural).unwrap();
            for told in &mut kind.told {
                if let Told::Change { revision, .. } = told {
                    // No watch is to be told of it again.
                    *revision = 0;
                }
            }
            kind.told.push(Told::End);
            kind.objects = objects.into_iter().map(|object| (name(&object), object)).collect();
        });
    }

    /// Tells the watches that are there the present version.
    pub fn bookmark(&self, plural: &str) {
        let revision = self.world().revision.to_string();
        let object = json!({ "kind": "", "apiVersion": "", "metadata": { "resourceVersion": revision } });
        self.tell(plural, event("BOOKMARK", &object).trim_end());
    }

    /// Whoever has not this token is not known any more.
    pub fn expect_token(&self, token: &str) {
        self.change(|world| world.token = Some(token.to_owned()));
    }

    /// Objects in one page, at most.
    pub fn set_page(&self, page: usize) {
        self.change(|world| world.page = page);
    }

    /// Requests of this kind meet with it until it is mended.
    pub fn fault(&self, verb: Verb, what: &str, fault: Fault) {
        self.change(|world| world.faults.push((verb, what.to_owned(), fault)));
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.change(|world| world.faults.clear());
    }

    /// All such requests until now.
    #[must_use]
    pub fn asked(&self, verb: Verb, what: &str) -> Vec<Asked> {
        let world = self.world();
        world.asked.iter().filter(|asked| asked.verb == verb && asked.what == what).cloned().collect()
    }

    /// How many there were in all.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.world().asked.len()
    }

    /// So many requests in all have met with a fault.
    ///
    /// # Panics
    /// It does not come to it.
    pub async fn await_faults(&self, verb: Verb, what: &str, count: usize) {
        let met = |asked: &[Asked]| asked.iter().filter(|asked| asked.fault.is_some()).count();
        let is_so = || met(&self.asked(verb, what)) >= count;
        self.until(&format!("{count} faults of {verb:?} {what}"), is_so).await;
    }

    /// There were so many requests in all.
    ///
    /// # Panics
    /// It does not come to it.
    pub async fn await_asked(&self, verb: Verb, what: &str, count: usize) {
        self.until(&format!("{count} times {verb:?} {what}"), || self.asked(verb, what).len() >= count).await;
    }

    /// This kind has a watch, which is told what happens from now on.
    ///
    /// # Panics
    /// It does not come to it.
    pub async fn await_watch(&self, plural: &str) {
        let is_watched = || self.world().kinds.get(plural).is_some_and(|kind| kind.watched > 0);
        self.until(&format!("a watch of {plural}"), is_watched).await;
    }

    /// It is so at present.
    ///
    /// # Panics
    /// It does not come to it.
    pub async fn await_so(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.until(what, || is_so(self)).await;
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut happened = self.shared.happened.subscribe();
        let waited = timeout(PATIENCE, happened.wait_for(|_| is_so())).await;
        assert!(waited.is_ok(), "{what}: {:#?}", self.world().asked);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        self.shared.change(change)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.down();
    }
}

impl World {
    fn put(&mut self, plural: &str, mut object: Value, told: impl FnOnce(String) -> String) -> String {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let kind = self.kinds.get_mut(plural).unwrap();
        let old = kind.objects.insert(name(&object), object.clone());
        let line = told(event(if old.is_some() { "MODIFIED" } else { "ADDED" }, &object));
        kind.told.push(Told::Change { revision: self.revision, line: line.clone() });
        line
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let changed = change(&mut self.world.lock().unwrap());
        self.happened.send_modify(|count| *count += 1);
        changed
    }
}

fn name(object: &Value) -> String {
    let part = |key: &str| object["metadata"][key].as_str();
    let name = part("name").unwrap_or_default();
    part("namespace").map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

/// What the server says where it does not do what was asked.
#[must_use]
pub fn status(code: u16) -> Value {
    let message = format!("the test wants {code}");
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code })
}
