//! Watches: what the API server says of one kind of object, for as long as anybody listens.
//!
//! A watch goes on for ever: a list, page by page, and what changes since. Whatever fails, it says so and tries again after a
//! pause; what it says is meant for a [`Collection`](super::collection::Collection), which makes sense of lists that are begun
//! twice. It goes on from where it was if only the connection was lost, and lists anew whenever something may have been
//! missed. Every object is read on its own, so that one that makes no sense costs no other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;

use futures_util::StreamExt;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams, Request, Resource, WatchEvent, WatchParams};
use kube::core::ListMeta;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::collection::Told;
use super::objects::{Object, ObjectName, Raw, Unreadable};
use super::server::{ANSWER_TIMEOUT, Backoff, MOST_PAUSE, WATCH_SILENCE, WATCH_TIMEOUT_S};

/// Objects in one answer to a list: what is held in memory as JSON at a time.
const PAGE: u32 = 500;

/// What became of the requests of a watch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The server answered.
    Answered,
    /// It cannot be reached, or does not answer.
    Unreachable(String),
    /// It refuses: the code of HTTP, and its words.
    Refused {
        /// 401: who we are is not, or no longer, known. 403: we may not. 404: it has no such kind.
        code: u16,
        /// For people.
        message: String,
    },
}

/// What to watch.
pub(super) struct Subject {
    pub(super) resource: ApiResource,
    /// The one object that matters, by name; else all of them.
    pub(super) name: Option<String>,
    /// Marked as changed, it asks for another list.
    pub(super) relist: channel::Receiver<()>,
}

/// Ends with its receiver, or with the task.
pub(super) async fn watch<T: Object, E>(
    client: Client,
    subject: Subject,
    events: mpsc::Sender<E>,
    told: impl Fn(Told<T>) -> E + Send + Sync + 'static,
    outcome: impl Fn(Outcome) -> E + Send + Sync + 'static,
) {
    let request = Request::new(DynamicObject::url_path(&subject.resource, None));
    let fields = subject.name.as_ref().map(|name| format!("metadata.name={name}"));
    let (told, outcome) = (Box::new(told), Box::new(outcome));
    let relist = subject.relist;
    Watch { client, request, fields, relist, events, told, outcome }.follow().await;
}

struct Watch<T, E> {
    client: Client,
    request: Request,
    fields: Option<String>,
    relist: channel::Receiver<()>,
    events: mpsc::Sender<E>,
    told: Box<dyn Fn(Told<T>) -> E + Send + Sync>,
    outcome: Box<dyn Fn(Outcome) -> E + Send + Sync>,
}

/// `metadata.resourceVersion`, up to which everything was told.
///
/// It is a number that only grows, as Kubernetes has it since 1.35 (KEP-5504) and had it before; where it is none, nothing
/// can be said about its order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version(String);

impl Version {
    fn is_before(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(this), Ok(other)) => this < other,
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

/// Why nothing more is said for now.
enum Stop {
    /// Nobody listens.
    Unheard,
    /// The server ended the watch, as it does from time to time.
    Ended,
    /// What is missing since, or is to be confirmed, is only to be had from a list, for a reason that is nobody's fault.
    Missed,
    /// A request failed.
    Failed(Outcome),
}

/// A list, with objects that may be anything.
#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    items: Vec<Value>,
}

impl<T: Object, E> Watch<T, E> {
    async fn follow(mut self) {
        let mut backoff = Backoff::default();
        let mut known_to: Option<Version> = None;
        loop {
            // Whoever asks for a list has ended with this watch if there is nobody to ask any more.
            let is_asked_for = self.relist.has_changed().unwrap_or(false);
            let version = match known_to.take().filter(|_| !is_asked_for) {
                Some(version) => Ok(version),
                None => self.list().await,
            };
            let began = Instant::now();
            let (stop, version) = match version {
                Ok(version) => self.changes(version).await,
                Err(stop) => (stop, None),
            };
            known_to = version;
            let said = match stop {
                Stop::Unheard => return,
                Stop::Ended | Stop::Missed => Ok(()),
                Stop::Failed(what) => self.say((self.outcome)(what)).await,
            };
            if said.is_err() {
                return;
            }
            // A server that ends each watch at once is asked as seldom as one that is not there.
            if began.elapsed() >= MOST_PAUSE {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// Tells of all objects, and up to which version they are.
    async fn list(&mut self) -> Result<Version, Stop> {
        self.relist.mark_unchanged();
        self.tell(Told::ListBegins).await?;
        let mut params =
            ListParams { field_selector: self.fields.clone(), limit: Some(PAGE), ..ListParams::default() };
        loop {
            let request = self.request.list(&params).map_err(unsendable)?;
            let page: Page = answer(self.client.request(request)).await.map_err(stopped)?;
            for object in page.items {
                self.tell(read(&object)).await?;
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                None => {
                    let version = version_in(page.metadata.resource_version)
                        .map_err(|_| failed("a list without resourceVersion"))?;
                    self.tell(Told::ListEnds).await?;
                    return Ok(version);
                }
                // Else it would never end.
                Some(token) if params.continue_token.as_ref() == Some(&token) => {
                    return Err(failed("a list goes on where it was"));
                }
                token @ Some(_) => params.continue_token = token,
            }
        }
    }

    /// Tells of what changes after this version, and gives the version to go on from, unless only a list can help.
    async fn changes(&mut self, mut version: Version) -> (Stop, Option<Version>) {
        let stop = match self.changes_since(&mut version).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        };
        let is_resumed = match &stop {
            Stop::Ended | Stop::Failed(Outcome::Unreachable(_)) => true,
            Stop::Unheard
            | Stop::Missed
            // It would refuse again, if the version is what it does not like.
            | Stop::Failed(Outcome::Refused { .. } | Outcome::Answered) => false,
        };
        (stop, is_resumed.then_some(version))
    }

    async fn changes_since(&mut self, version: &mut Version) -> Result<Infallible, Stop> {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_TIMEOUT_S),
            ..WatchParams::default()
        };
        let request = self.request.watch(&params, &version.0).map_err(unsendable)?;
        let changes = answer(self.client.request_events::<Value>(request)).await.map_err(stopped)?;
        self.say((self.outcome)(Outcome::Answered)).await?;
        let mut changes = pin!(changes);
        loop {
            let change = tokio::select! {
                change = timeout(WATCH_SILENCE, changes.next()) => change,
                Ok(()) = self.relist.changed() => return Err(Stop::Missed),
            };
            let change = match change {
                Ok(Some(Ok(change))) => change,
                Ok(None) | Err(_) => return Err(Stop::Ended),
                // Whatever it was to tell.
                Ok(Some(Err(error @ (kube::Error::SerdeError(_) | kube::Error::Api(_))))) => {
                    debug!(kind = T::KIND, error = with_sources(&error), "a change that makes no sense");
                    return Err(Stop::Missed);
                }
                // The next request will show whether the server is there: some things in between cut what is silent.
                Ok(Some(Err(error))) => {
                    debug!(kind = T::KIND, error = with_sources(&error), "a watch was cut off");
                    return Err(Stop::Ended);
                }
            };
            let (now, told) = match change {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    (version_of(&object)?, Some(read(&object)))
                }
                WatchEvent::Deleted(object) => (version_of(&object)?, Some(Told::Gone(name(&object)))),
                WatchEvent::Bookmark(bookmark) => {
                    (version_in(Some(bookmark.metadata.resource_version))?, None)
                }
                // Most often 410: it has forgotten what came after this version. Else the list fails as well, and says why.
                WatchEvent::Error(status) => {
                    debug!(kind = T::KIND, status.code, status.message, "the API server gives up a watch");
                    return Err(Stop::Missed);
                }
            };
            // It was brought back from an older copy, and what it has is not what we were told.
            if now.is_before(version) {
                return Err(Stop::Missed);
            }
            if let Some(told) = told {
                self.tell(told).await?;
            }
            *version = now;
        }
    }

    async fn tell(&self, told: Told<T>) -> Result<(), Stop> {
        self.say((self.told)(told)).await
    }

    async fn say(&self, event: E) -> Result<(), Stop> {
        self.events.send(event).await.map_err(|_| Stop::Unheard)
    }
}

fn failed(why: &str) -> Stop {
    Stop::Failed(Outcome::Unreachable(why.to_owned()))
}

fn unsendable(error: kube::core::request::Error) -> Stop {
    failed(&with_sources(&error))
}

fn stopped(outcome: Outcome) -> Stop {
    match outcome {
        // It fell behind what the server remembers: nothing is wrong.
        Outcome::Refused { code: 410, .. } => Stop::Missed,
        outcome => Stop::Failed(outcome),
    }
}

fn version_of(object: &Value) -> Result<Version, Stop> {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version_in(version.map(str::to_owned))
}

/// A watch that goes on from no version in particular would leave out what it has missed.
fn version_in(text: Option<String>) -> Result<Version, Stop> {
    text.filter(|text| !text.is_empty()).map(Version).ok_or(Stop::Missed)
}

fn read<T: Object>(object: &Value) -> Told<T> {
    Told::There(name(object), read_object(object))
}

fn name(object: &Value) -> ObjectName {
    let text = |key| object.get("metadata")?.get(key)?.as_str();
    ObjectName {
        namespace: text("namespace").map(str::to_owned),
        name: text("name").unwrap_or_default().to_owned(),
    }
}

fn read_object<T: Object>(object: &Value) -> Result<T, Unreadable> {
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    if name(object).name.is_empty() {
        return Err(Unreadable::Json("metadata.name is missing".to_owned()));
    }
    let labels: Option<BTreeMap<String, String>> = match object.pointer("/metadata/labels") {
        None | Some(Value::Null) => None,
        Some(labels) => Some(
            Deserialize::deserialize(labels)
                .map_err(|error: serde_json::Error| Unreadable::Json(format!("metadata.labels: {error}")))?,
        ),
    };
    T::read(Raw { labels: labels.as_ref().unwrap_or(&NO_LABELS), fields: object })
}

/// The answer to a request, or what else became of it.
pub(super) async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Outcome> {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| outcome_of_request(&error)),
        Err(_) => Err(Outcome::Unreachable(format!("no answer for {ANSWER_TIMEOUT:?}"))),
    }
}

fn outcome_of_request(error: &kube::Error) -> Outcome {
    match error {
        // A server that is overloaded or about to end is as good as away.
        kube::Error::Api(status) if status.code < 500 && status.code != 429 => {
            Outcome::Refused { code: status.code, message: status.message.clone() }
        }
        error => Outcome::Unreachable(with_sources(error)),
    }
}

/// An error with everything behind it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some say what is behind them by themselves.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
