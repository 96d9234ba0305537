//! An API server of the tests, which fails on demand, and knows what it was asked.
//!
//! It has the objects that it is given, serves lists in pages and watches from a version on, and speaks plain HTTP on the
//! loopback address, from threads of its own: a test may stop its own clock. Everything that a test waits for is an event
//! here: a request that came, a watch that is open.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

/// For whatever has to come; far more than the longest pause of a client.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// The first page of a list.
    List,
    /// A further page.
    Page,
    Watch,
    /// The kinds of a group and version.
    Discover,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
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
pub(super) struct Asked {
    pub(super) verb: Verb,
    /// The kind, as paths have it; else the group and version.
    pub(super) what: String,
    pub(super) at: Instant,
    /// What went wrong with it.
    pub(super) fault: Option<Fault>,
}

pub(super) struct FakeServer {
    pub(super) address: SocketAddr,
    shared: Shared,
    running: Option<Runtime>,
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    /// Counts what happened.
    happened: watch::Sender<u64>,
}

#[derive(Default)]
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

#[derive(Default)]
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
#[derive(Clone)]
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
    pub(super) fn start() -> Self {
        let world = World { revision: 100, page: usize::MAX, ..World::default() };
        let shared = Shared { world: Arc::new(Mutex::new(world)), happened: watch::Sender::new(0) };
        let mut server = Self { address: (Ipv4Addr::LOCALHOST, 0).into(), shared, running: None };
        server.up();
        server
    }

    /// Again at the same address, with everything that it had.
    pub(super) fn up(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(self.shared.clone());
        runtime.spawn(async move {
            axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        self.running = Some(runtime);
    }

    /// All connections are lost, and new ones refused.
    pub(super) fn down(&mut self) {
        let Some(runtime) = self.running.take() else { return };
        // Not in the thread of the test, whose own runtime would not have it.
        std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join().unwrap();
    }

    pub(super) fn define(&self, group: &str, plural: &str) {
        let kind = Kind { group: group.to_owned(), ..Kind::default() };
        self.change(|world| world.kinds.insert(plural.to_owned(), kind));
    }

    /// As if it never had this kind; its watches end.
    pub(super) fn undefine(&self, plural: &str) {
        self.change(|world| world.kinds.remove(plural));
    }

    /// Adds an object, or replaces it. Returns the line that watches are told.
    pub(super) fn put(&self, plural: &str, object: Value) -> String {
        self.put_told_as(plural, object, |line| line)
    }

    /// Adds an object, or replaces it, and makes another line of the one that watches are told.
    pub(super) fn put_told_as(
        &self,
        plural: &str,
        mut object: Value,
        told: impl FnOnce(String) -> String,
    ) -> String {
        self.change(|world| {
            world.revision += 1;
            object["metadata"]["resourceVersion"] = world.revision.to_string().into();
            let kind = world.kinds.get_mut(plural).unwrap();
            let old = kind.objects.insert(name(&object), object.clone());
            let line = told(event(if old.is_some() { "MODIFIED" } else { "ADDED" }, &object));
            kind.told.push(Told::Change { revision: world.revision, line: line.clone() });
            line
        })
    }

    pub(super) fn delete(&self, plural: &str, name: &str) {
        self.change(|world| {
            world.revision += 1;
            let kind = world.kinds.get_mut(plural).unwrap();
            let mut object = kind.objects.remove(name).unwrap();
            object["metadata"]["resourceVersion"] = world.revision.to_string().into();
            kind.told.push(Told::Change { revision: world.revision, line: event("DELETED", &object) });
        });
    }

    /// A line for the watches that are there, true or not.
    pub(super) fn tell(&self, plural: &str, line: &str) {
        self.to_watches(plural, Told::Line(format!("{line}\n")));
    }

    pub(super) fn end_watches(&self, plural: &str) {
        self.to_watches(plural, Told::End);
    }

    /// In the middle of this text.
    pub(super) fn cut_watches(&self, plural: &str, text: &str) {
        self.to_watches(plural, Told::Cut(text.to_owned()));
    }

    fn to_watches(&self, plural: &str, told: Told) {
        self.change(|world| world.kinds.get_mut(plural).unwrap().told.push(told));
    }

    /// Forgets what changed up to now: watches from an older version are refused.
    pub(super) fn forget(&self, plural: &str) {
        self.change(|world| {
            // Something else has changed meanwhile.
            world.revision += 1;
            world.kinds.get_mut(plural).unwrap().forgotten_to = world.revision;
        });
    }

    /// From an older copy, with versions that begin again from there: watches are told nothing of it.
    pub(super) fn go_back(&self, revision: u64, plural: &str, objects: Vec<Value>) {
        self.change(|world| {
            world.revision = revision;
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

    pub(super) fn bookmark(&self, plural: &str) {
        let revision = self.world().revision.to_string();
        let object = json!({ "kind": "", "apiVersion": "", "metadata": { "resourceVersion": revision } });
        self.tell(plural, event("BOOKMARK", &object).trim_end());
    }

    /// Whoever has not this token is not known any more.
    pub(super) fn expect_token(&self, token: &str) {
        self.change(|world| world.token = Some(token.to_owned()));
    }

    pub(super) fn set_page(&self, page: usize) {
        self.change(|world| world.page = page);
    }

    /// Until it is mended.
    pub(super) fn fault(&self, verb: Verb, what: &str, fault: Fault) {
        self.change(|world| world.faults.push((verb, what.to_owned(), fault)));
    }

    pub(super) fn mend(&self) {
        self.change(|world| world.faults.clear());
    }

    pub(super) fn asked(&self, verb: Verb, what: &str) -> Vec<Asked> {
        let world = self.world();
        world.asked.iter().filter(|asked| asked.verb == verb && asked.what == what).cloned().collect()
    }

    pub(super) fn requests(&self) -> usize {
        self.world().asked.len()
    }

    /// So many requests in all have met with a fault.
    pub(super) async fn await_faults(&self, verb: Verb, what: &str, count: usize) {
        let met = |asked: &[Asked]| asked.iter().filter(|asked| asked.fault.is_some()).count();
        let is_so = || met(&self.asked(verb, what)) >= count;
        self.until(&format!("{count} faults of {verb:?} {what}"), is_so).await;
    }

    pub(super) async fn await_asked(&self, verb: Verb, what: &str, count: usize) {
        self.until(&format!("{count} times {verb:?} {what}"), || self.asked(verb, what).len() >= count).await;
    }

    /// This kind has a watch, which is told what happens from now on.
    pub(super) async fn await_watch(&self, plural: &str) {
        let is_watched = || self.world().kinds.get(plural).is_some_and(|kind| kind.watched > 0);
        self.until(&format!("a watch of {plural}"), is_watched).await;
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
pub(super) fn status(code: u16) -> Value {
    let message = format!("the test wants {code}");
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code })
}

type Parameters = Query<BTreeMap<String, String>>;

async fn serve(
    State(shared): State<Shared>,
    uri: Uri,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let (group, plural) = uri.path().rsplit_once('/').unwrap_or_default();
    let is_discovery = uri.path().starts_with("/apis/") && uri.path().matches('/').count() == 3;
    let verb = match (is_discovery, parameters.contains_key("watch"), parameters.contains_key("continue")) {
        (true, _, _) => Verb::Discover,
        (false, true, _) => Verb::Watch,
        (false, false, true) => Verb::Page,
        (false, false, false) => Verb::List,
    };
    let what = if is_discovery { uri.path() } else { plural };
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let fault = shared.change(|world| {
        let stranger = world.token.as_deref().is_some_and(|known| token != Some(known));
        let of_this = |(of_verb, of, _): &&(Verb, String, Fault)| *of_verb == verb && of == what;
        let fault = world.faults.iter().find(of_this).map(|(_, _, fault)| *fault);
        let fault = if stranger { Some(Fault::Refuse(401)) } else { fault };
        world.asked.push(Asked { verb, what: what.to_owned(), at: Instant::now(), fault });
        fault
    });
    let response = match fault {
        Some(Fault::Refuse(code)) => refuse(code),
        Some(Fault::Garbage) => "<html>no JSON</html>".into_response(),
        Some(Fault::Redirect) => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Some(Fault::Hang) => std::future::pending::<Infallible>().await.into_response(),
        Some(Fault::Hold) => {
            let mut happened = shared.happened.subscribe();
            let world = shared.world.clone();
            let _ = happened.wait_for(|_| world.lock().unwrap().faults.is_empty()).await;
            answer(&shared, verb, (group, plural), &parameters, None)
        }
        fault => answer(&shared, verb, (group, plural), &parameters, fault),
    };
    // There may be a watch now.
    shared.change(|_| ());
    response
}

fn refuse(code: u16) -> Response {
    (StatusCode::from_u16(code).unwrap(), axum::Json(status(code))).into_response()
}

fn answer(
    shared: &Shared,
    verb: Verb,
    (group, plural): (&str, &str),
    parameters: &BTreeMap<String, String>,
    fault: Option<Fault>,
) -> Response {
    let mut world = shared.world.lock().unwrap();
    if verb == Verb::Discover {
        let path = format!("{group}/{plural}");
        let kinds = world.kinds.iter().filter(|(_, kind)| kind.group == path);
        let resources: Vec<_> = kinds.map(|(plural, _)| resource(plural)).collect();
        let list = json!({ "kind": "APIResourceList", "groupVersion": path, "resources": resources });
        return if resources.is_empty() { refuse(404) } else { axum::Json(list).into_response() };
    }
    let (revision, page) = (world.revision, world.page);
    let Some(kind) = world.kinds.get_mut(plural).filter(|kind| kind.group == group) else {
        return refuse(404);
    };
    let wanted = parameters.get("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name="));
    if verb == Verb::Watch {
        let since = parameters["resourceVersion"].parse().unwrap();
        return watch(shared, kind, (plural, since), wanted, fault);
    }
    let begin: usize = parameters.get("continue").map_or(0, |token| token.parse().unwrap());
    let limit = parameters.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap()).min(page);
    let is_wanted = |object: &&Value| wanted.is_none_or(|name| object["metadata"]["name"] == name);
    let objects: Vec<_> = kind.objects.values().filter(is_wanted).collect();
    let items: Vec<_> = objects.iter().skip(begin).take(limit).collect();
    let end = begin + items.len();
    let mut list = json!({ "metadata": { "resourceVersion": revision.to_string() }, "items": items });
    if end < objects.len() {
        list["metadata"]["continue"] = end.to_string().into();
    }
    match fault {
        Some(Fault::Empty) => list["items"] = json!([]),
        Some(Fault::Versionless) => list["metadata"] = json!({}),
        Some(Fault::Circle) => list["metadata"]["continue"] = begin.to_string().into(),
        Some(_) | None => {}
    }
    let text = list.to_string();
    let Some(Fault::CutAfter(length)) = fault else { return json_body(text.into()) };
    let parts = [Ok(Bytes::from(text).slice(..length)), Err(io::Error::other("cut"))];
    json_body(Body::from_stream(stream::iter(parts)))
}

fn resource(plural: &str) -> Value {
    json!({ "name": plural, "singularName": "", "namespaced": false, "kind": "", "verbs": ["list", "watch"] })
}

fn json_body(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn watch(
    shared: &Shared,
    kind: &mut Kind,
    (plural, since): (&str, u64),
    wanted: Option<&str>,
    fault: Option<Fault>,
) -> Response {
    match fault {
        Some(Fault::EndAtOnce) => return json_body(Body::empty()),
        Some(Fault::Silence) => return json_body(Body::from_stream(stream::pending::<io::Result<Bytes>>())),
        Some(_) | None => {}
    }
    if since < kind.forgotten_to {
        return json_body(event("ERROR", &status(410)).into());
    }
    kind.watched += 1;
    let is_later = |told: &&Told| matches!(told, Told::Change { .. });
    let missed: Vec<_> = kind.told.iter().filter(is_later).cloned().collect();
    let watch = OpenWatch {
        shared: shared.clone(),
        happened: shared.happened.subscribe(),
        plural: plural.to_owned(),
        name: wanted.map(str::to_owned),
        since,
        waiting: missed.into(),
        heard: kind.told.len(),
    };
    json_body(Body::from_stream(stream::unfold(Some(watch), next)))
}

struct OpenWatch {
    shared: Shared,
    happened: watch::Receiver<u64>,
    plural: String,
    name: Option<String>,
    since: u64,
    waiting: std::collections::VecDeque<Told>,
    /// Of what there is to tell.
    heard: usize,
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        let plural = &self.plural;
        self.shared.change(|world| {
            world.kinds.get_mut(plural).map(|kind| kind.watched = kind.watched.saturating_sub(1))
        });
    }
}

async fn next(watch: Option<OpenWatch>) -> Option<(io::Result<Bytes>, Option<OpenWatch>)> {
    let mut watch = watch?;
    loop {
        match watch.waiting.pop_front() {
            Some(Told::Change { revision, line }) => {
                let of = |name: &String| line.contains(&format!(r#""name":"{name}""#));
                if revision > watch.since && watch.name.as_ref().is_none_or(of) {
                    return Some((Ok(line.into()), Some(watch)));
                }
            }
            Some(Told::Line(line)) => return Some((Ok(line.into()), Some(watch))),
            Some(Told::End) => return None,
            Some(Told::Cut(text)) => {
                watch.waiting = [Told::Cut(String::new())].into();
                let part = if text.is_empty() { Err(io::Error::other("cut")) } else { Ok(text.into()) };
                return Some((part, Some(watch)));
            }
            None => {
                watch.happened.mark_unchanged();
                let plural = &watch.plural;
                {
                    let world = watch.shared.world.lock().unwrap();
                    let kind = world.kinds.get(plural)?;
                    // It may have forgotten what it told.
                    let new = kind.told.iter().skip(watch.heard);
                    watch.waiting.extend(new.cloned());
                    watch.heard = kind.told.len();
                }
                if watch.waiting.is_empty() {
                    watch.happened.changed().await.ok()?;
                }
            }
        }
    }
}
