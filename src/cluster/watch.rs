//! Watches: what the API server says of one kind of object, for as long as anybody listens.
//!
//! A watch goes on for ever. Whatever fails, it says so and tries again after a pause; what it says is meant for a
//! [`Collection`](super::collection::Collection), which makes sense of lists that are begun twice.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch as channel};

use super::collection::Told;
use super::objects::{Object, ObjectName, Raw, Unreadable};
use super::server::{Backoff, WATCH_TIMEOUT_S};

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
}

/// Ends with its receiver, or with the task. `retry` changes where there is reason to believe that the server answers again.
pub(super) async fn watch<T: Object, E>(
    client: Client,
    subject: Subject,
    mut retry: channel::Receiver<()>,
    events: mpsc::Sender<E>,
    told: impl Fn(Told<T>) -> E,
    outcome: impl Fn(Outcome) -> E,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &subject.resource);
    let mut config = watcher::Config::default().timeout(WATCH_TIMEOUT_S);
    if let Some(name) = &subject.name {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut stream = std::pin::pin!(watcher(api, config));
    let mut backoff = Backoff::default();
    loop {
        // What changes while the server is asked counts for this time, too.
        retry.mark_unchanged();
        let Some(event) = stream.next().await else { return };
        let sent = match event {
            Ok(event) => {
                // A list begins before anything was asked.
                let is_answer = !matches!(event, watcher::Event::Init);
                if is_answer {
                    backoff.reset();
                }
                let is_whole = matches!(event, watcher::Event::InitDone);
                let sent = events.send(told(read(event))).await;
                if is_whole && sent.is_ok() { events.send(outcome(Outcome::Answered)).await } else { sent }
            }
            Err(error) => {
                let what = outcome_of(&error);
                // It fell behind what the server remembers, and begins anew: nothing is wrong.
                let is_expired = matches!(what, Outcome::Refused { code: 410, .. });
                let sent = if is_expired { Ok(()) } else { events.send(outcome(what)).await };
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_pause()) => {}
                    _ = retry.changed() => {}
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read<T: Object>(event: watcher::Event<DynamicObject>) -> Told<T> {
    match event {
        watcher::Event::Init => Told::ListBegins,
        watcher::Event::InitDone => Told::ListEnds,
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            Told::There(name(&object), read_object(&object))
        }
        watcher::Event::Delete(object) => Told::Gone(name(&object)),
    }
}

fn name(object: &DynamicObject) -> ObjectName {
    ObjectName { namespace: object.namespace(), name: object.name_any() }
}

fn read_object<T: Object>(object: &DynamicObject) -> Result<T, Unreadable> {
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    let labels = object.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    T::read(Raw { labels, fields: &object.data })
}

fn outcome_of(error: &watcher::Error) -> Outcome {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => outcome_of_request(error),
        watcher::Error::WatchError(status) => {
            Outcome::Refused { code: status.code, message: status.message.clone() }
        }
        watcher::Error::NoResourceVersion => Outcome::Unreachable(error.to_string()),
    }
}

/// What a failed request says of the server.
pub(super) fn outcome_of_request(error: &kube::Error) -> Outcome {
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
