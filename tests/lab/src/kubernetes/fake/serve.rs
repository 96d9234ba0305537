//! What the server says to its clients.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Asked, Fault, Kind, Shared, Told, Verb, event, patch, status};

type Parameters = Query<BTreeMap<String, String>>;

pub(super) async fn serve(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    Query(parameters): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::PATCH {
        return serve_patch(&shared, uri.path(), &body).await;
    }
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
            mended(&shared).await;
            answer(&shared, verb, (group, plural), &parameters, None)
        }
        fault => answer(&shared, verb, (group, plural), &parameters, fault),
    };
    // There may be a watch now.
    shared.change(|_| ());
    response
}

/// `/api/v1/nodes/NAME`, or its `status`: of nothing else there are patches.
async fn serve_patch(shared: &Shared, path: &str, body: &Bytes) -> Response {
    let words: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
    let (what, plural, name) = match words.as_slice() {
        [plural, name] => ((*plural).to_owned(), *plural, *name),
        [plural, name, part] => (format!("{plural}/{part}"), *plural, *name),
        _ => return refuse(404),
    };
    let fault = shared.change(|world| {
        let of_this = |(verb, of, _): &&(Verb, String, Fault)| *verb == Verb::Patch && *of == what;
        let fault = world.faults.iter().find(of_this).map(|(_, _, fault)| *fault);
        world.asked.push(Asked { verb: Verb::Patch, what: what.clone(), at: Instant::now(), fault });
        fault
    });
    match fault {
        Some(Fault::Refuse(code)) => return refuse(code),
        Some(Fault::Garbage) => return "<html>no JSON</html>".into_response(),
        Some(Fault::Hang) => return std::future::pending::<Infallible>().await.into_response(),
        Some(Fault::Hold) => mended(shared).await,
        Some(_) | None => {}
    }
    shared.change(|world| {
        let Some(object) = world.kinds.get(plural).and_then(|kind| kind.objects.get(name)) else {
            return refuse(404);
        };
        let mut object = object.clone();
        match patch::apply(&mut object, &serde_json::from_slice(body).unwrap()) {
            Ok(()) => {
                world.put(plural, object.clone(), |line| line);
                axum::Json(object).into_response()
            }
            Err(patch::TestFailed) => refuse(422),
        }
    })
}

async fn mended(shared: &Shared) {
    let mut happened = shared.happened.subscribe();
    let world = shared.world.clone();
    let _ = happened.wait_for(|_| world.lock().unwrap().faults.is_empty()).await;
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
