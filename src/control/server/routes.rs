//! Paths, parameters and the form of answers.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::client::{Admission, ClientInfo};
use crate::config;
use crate::control::api::{self, Entry, Error, ErrorCode, Page};
use crate::control::{
    DrainOrder, PageQuery, ReloadOrder, Reply, Request, Selector, ServiceSelector, ServicesQuery, TableQuery,
};
use crate::drain::Then;

// What `bgpctl` lets through and is refused here is said in the words of its command line; whatever it would not send is
// called by the name of the parameter.

/// No request needs a body; what a client sends anyway is read and forgotten up to this.
const REQUEST_BODY_MAX: usize = 4096;
/// Path and query. The longest we write ourselves is below 400.
const URI_MAX: usize = 2048;
/// A neighbor's name as typed: a host name has 255 octets at most.
const NEIGHBOR_NAME_MAX: usize = 255;
/// `NAMESPACE/NAME`: a label and a name of DNS, as Kubernetes limits them.
const SERVICE_NAME_MAX: usize = 63 + 1 + 253;
/// How long a drain waits for traffic where the order does not say.
const DRAIN_WAIT_MS: u64 = 30_000;
/// JSON of the entries of one page. A page that would be longer ends sooner and says where to go on.
const PAGE_BYTES: usize = 1 << 20;
/// JSON of an answer that has no pages.
const ANSWER_BYTES: usize = 8 << 20;

/// The way to the agent.
#[derive(Debug, Clone)]
struct Agent {
    requests: mpsc::Sender<Request>,
    deadline: Duration,
}

type Answer<T> = Result<Json<T>, Error>;
type Name = Result<Path<String>, PathRejection>;
type Params<T> = Result<Query<T>, QueryRejection>;

pub(super) fn router(requests: mpsc::Sender<Request>, deadline: Duration) -> Router {
    Router::new()
        .route("/v1/summary", get(summary))
        .route("/v1/neighbors", get(neighbors))
        .route("/v1/neighbors/{neighbor}", get(neighbor))
        .route("/v1/neighbors/{neighbor}/received", get(received))
        .route("/v1/neighbors/{neighbor}/advertised", get(advertised))
        .route("/v1/neighbors/{neighbor}/clear", post(clear))
        .route("/v1/neighbors/{neighbor}/refresh", post(refresh))
        .route("/v1/rib", get(rib))
        .route("/v1/policies", get(policies))
        .route("/v1/fib", get(fib))
        .route("/v1/interfaces", get(interfaces))
        .route("/v1/bfd", get(bfd))
        .route("/v1/pods", get(pods))
        .route("/v1/services", get(services))
        .route("/v1/readiness", get(readiness))
        .route("/readyz", get(readyz))
        .route("/v1/memory", get(memory))
        .route("/v1/config", get(config))
        .route("/v1/drain", get(drains).post(drain))
        .route("/v1/undrain", post(undrain))
        .route("/v1/reload", post(reload))
        .route("/v1/confirm", post(confirm))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(guard))
        .with_state(Agent { requests, deadline })
}

/// What holds for every request, before its path is looked at.
async fn guard(ConnectInfo(client): ConnectInfo<ClientInfo>, request: HttpRequest, next: Next) -> Response {
    match client.admission {
        Admission::Admitted => {}
        Admission::Refused => {
            let error = Error::new(ErrorCode::TooManyClients, "too many clients on the control socket");
            return ([(header::CONNECTION, HeaderValue::from_static("close"))], error).into_response();
        }
    }
    let (parts, body) = request.into_parts();
    let length = parts.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if length > URI_MAX {
        let message = format!("a path of {length} octets is over the limit of {URI_MAX}");
        return Error::new(ErrorCode::TooLarge, message).into_response();
    }
    if axum::body::to_bytes(body, REQUEST_BODY_MAX).await.is_err() {
        let message =
            format!("the request's body is cut off, or over the limit of {REQUEST_BODY_MAX} octets");
        return Error::new(ErrorCode::TooLarge, message).into_response();
    }
    if parts.method == axum::http::Method::POST {
        tracing::info!(path = parts.uri.path(), pid = client.pid, uid = client.uid, "control");
    }
    next.run(HttpRequest::from_parts(parts, axum::body::Body::empty())).await
}

async fn summary(State(agent): State<Agent>) -> Answer<api::Summary> {
    agent.ask(Request::Summary).await.map(Json)
}

async fn neighbors(State(agent): State<Agent>) -> Answer<api::Neighbors> {
    agent.ask(Request::Neighbors).await.map(Json)
}

async fn neighbor(State(agent): State<Agent>, name: Name) -> Answer<api::Neighbor> {
    let neighbor = neighbor_name(name)?;
    agent.ask(|reply| Request::Neighbor { neighbor, reply }).await.map(Json)
}

async fn received(
    State(agent): State<Agent>,
    name: Name,
    params: Params<PageParams>,
) -> Answer<Page<api::ReceivedRoute>> {
    let (neighbor, query) = (neighbor_name(name)?, read(params)?.page()?);
    let mut page = agent.ask(|reply| Request::Received { neighbor, query, reply }).await?;
    bound(&mut page)?;
    Ok(Json(page))
}

async fn advertised(
    State(agent): State<Agent>,
    name: Name,
    params: Params<PageParams>,
) -> Answer<Page<api::AdvertisedRoute>> {
    let (neighbor, query) = (neighbor_name(name)?, read(params)?.page()?);
    let mut page = agent.ask(|reply| Request::Advertised { neighbor, query, reply }).await?;
    bound(&mut page)?;
    Ok(Json(page))
}

async fn clear(State(agent): State<Agent>, name: Name) -> Answer<api::Done> {
    let neighbor = neighbor_name(name)?;
    agent.ask(|reply| Request::Clear { neighbor, reply }).await.map(Json)
}

async fn refresh(State(agent): State<Agent>, name: Name) -> Answer<api::Done> {
    let neighbor = neighbor_name(name)?;
    agent.ask(|reply| Request::Refresh { neighbor, reply }).await.map(Json)
}

async fn rib(State(agent): State<Agent>, params: Params<TableParams>) -> Answer<Page<api::Destination>> {
    let query = read(params)?.query()?;
    let mut page = agent.ask(|reply| Request::Rib { query, reply }).await?;
    bound(&mut page)?;
    Ok(Json(page))
}

async fn policies(State(agent): State<Agent>, params: Params<NeighborParams>) -> Answer<api::Policies> {
    let neighbor = read(params)?.neighbor.map(known_length).transpose()?;
    agent.ask(|reply| Request::Policies { neighbor, reply }).await.map(Json)
}

async fn fib(State(agent): State<Agent>, params: Params<TableParams>) -> Answer<api::Fib> {
    let query = read(params)?.query()?;
    let mut fib = agent.ask(|reply| Request::Fib { query, reply }).await?;
    bound(&mut fib.page)?;
    Ok(Json(fib))
}

async fn interfaces(State(agent): State<Agent>) -> Answer<api::Interfaces> {
    agent.ask(Request::Interfaces).await.map(Json)
}

async fn bfd(State(agent): State<Agent>) -> Answer<api::Bfd> {
    agent.ask(Request::Bfd).await.map(Json)
}

async fn pods(State(agent): State<Agent>) -> Answer<api::Pods> {
    agent.ask(Request::Pods).await.map(Json)
}

async fn services(State(agent): State<Agent>, params: Params<ServiceParams>) -> Answer<api::Services> {
    let query = read(params)?.query()?;
    let mut services = agent.ask(|reply| Request::Services { query, reply }).await?;
    bound(&mut services.page)?;
    Ok(Json(services))
}

async fn readiness(State(agent): State<Agent>) -> Answer<api::Readiness> {
    agent.ask(Request::Readiness).await.map(Json)
}

/// For probes, which look at the status; the text is for whoever looks at the probe.
async fn readyz(State(agent): State<Agent>) -> Result<(StatusCode, String), Error> {
    let readiness = agent.ask(Request::Readiness).await?;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, format!("{}\n", readiness.line())))
}

async fn memory(State(agent): State<Agent>) -> Answer<api::Memory> {
    agent.ask(Request::Memory).await.map(Json)
}

async fn config(State(agent): State<Agent>) -> Answer<api::Config> {
    agent.ask(Request::Config).await.map(Json)
}

async fn drains(State(agent): State<Agent>) -> Answer<api::Drain> {
    agent.ask(Request::Drains).await.map(Json)
}

async fn drain(State(agent): State<Agent>, params: Params<DrainParams>) -> Answer<api::DrainBegun> {
    let order = read(params)?.order()?;
    agent.ask(|reply| Request::Drain { order, reply }).await.map(Json)
}

async fn undrain(State(agent): State<Agent>, params: Params<NeighborParams>) -> Answer<api::Done> {
    let neighbor = read(params)?.neighbor.map(known_length).transpose()?;
    agent.ask(|reply| Request::Undrain { neighbor, reply }).await.map(Json)
}

async fn reload(State(agent): State<Agent>, params: Params<ReloadParams>) -> Answer<api::Done> {
    let order = read(params)?.order()?;
    agent.ask(|reply| Request::Reload { order, reply }).await.map(Json)
}

async fn confirm(State(agent): State<Agent>) -> Answer<api::Done> {
    agent.ask(Request::Confirm).await.map(Json)
}

async fn not_found(request: HttpRequest) -> Error {
    Error::new(ErrorCode::NotFound, format!("no such path: {}", request.uri().path()))
}

async fn method_not_allowed(request: HttpRequest) -> Error {
    let message = format!("{} is not allowed on {}", request.method(), request.uri().path());
    Error::new(ErrorCode::MethodNotAllowed, message)
}

impl Agent {
    /// Never waits for a place in the queue: a client that is told "busy" can decide for itself.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Error::new(ErrorCode::Stopping, "the daemon is stopping");
        match self.requests.try_send(request(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Error::new(ErrorCode::Busy, "the daemon is busy")),
            Err(TrySendError::Closed(_)) => return Err(stopping()),
        }
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => {
                let message = format!("the daemon is busy: no answer within {:?}", self.deadline);
                Err(Error::new(ErrorCode::Busy, message))
            }
        }
    }
}

/// Parameters of a table; texts, so that each can be refused by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableParams {
    prefix: Option<String>,
    address: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// Parameters of a table that is only read as a whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageParams {
    after: Option<String>,
    limit: Option<String>,
}

/// Parameters of the table of services' addresses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceParams {
    service: Option<String>,
    prefix: Option<String>,
    address: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// Parameters of an order to drain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainParams {
    neighbor: Option<String>,
    wait_ms: Option<String>,
    stop: Option<String>,
    message: Option<String>,
}

/// Parameters of a reload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadParams {
    dry_run: Option<String>,
    confirm_ms: Option<String>,
}

impl ReloadParams {
    fn order(self) -> Result<ReloadOrder, Error> {
        let in_words = self.dry_run.map_or(Ok(false), |dry_run| parameter("dry_run", &dry_run))?;
        match self.confirm_ms {
            Some(_) if in_words => Err(bad_request("dry_run and confirm_ms exclude each other")),
            Some(time) => {
                let time_ms: u64 = parameter("confirm_ms", &time)?;
                let limits = api::CONFIRM_MIN_MS..=api::CONFIRM_MAX_MS;
                if !limits.contains(&time_ms) {
                    let (least, most) = limits.into_inner();
                    let [time, least, most] = [time_ms, least, most].map(on_command_line);
                    return Err(bad_request(format!("--confirm {time}: a trial lasts {least} to {most}")));
                }
                Ok(ReloadOrder::OnTrial(Duration::from_millis(time_ms)))
            }
            None if in_words => Ok(ReloadOrder::InWords),
            None => Ok(ReloadOrder::AtOnce),
        }
    }
}

/// Parameters of what is about one neighbor, or all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NeighborParams {
    neighbor: Option<String>,
}

impl DrainParams {
    fn order(self) -> Result<DrainOrder, Error> {
        let neighbor = self.neighbor.map(known_length).transpose()?;
        let wait_ms = self.wait_ms.map_or(Ok(DRAIN_WAIT_MS), |wait| parameter("wait_ms", &wait))?;
        if wait_ms > api::DRAIN_WAIT_MAX_MS {
            let [wait, most] = [wait_ms, api::DRAIN_WAIT_MAX_MS].map(on_command_line);
            return Err(bad_request(format!("--wait {wait}: traffic is waited for {most} at most")));
        }
        let stops = self.stop.map_or(Ok(false), |stop| parameter("stop", &stop))?;
        if stops && neighbor.is_some() {
            return Err(bad_request("stop: the daemon does not end for one neighbor"));
        }
        let message = self.message.filter(|message| !message.is_empty());
        if let Some(length) = message.as_ref().map(String::len).filter(|len| *len > api::DRAIN_MESSAGE_MAX) {
            let most = api::DRAIN_MESSAGE_MAX;
            let error = format!("--message: {length} octets are over the limit of {most} (RFC 9003)");
            return Err(bad_request(error));
        }
        let then = if stops { Then::Stop } else { Then::StayDown };
        Ok(DrainOrder { neighbor, wait: Duration::from_millis(wait_ms), then, message })
    }
}

impl TableParams {
    fn query(self) -> Result<TableQuery, Error> {
        let selector = match (self.prefix, self.address) {
            (None, None) => Selector::All,
            (Some(prefix), None) => Selector::Prefix(parameter("prefix", &prefix)?),
            (None, Some(address)) => Selector::Address(parameter("address", &address)?),
            (Some(_), Some(_)) => return Err(bad_request("prefix and address exclude each other")),
        };
        let page = PageParams { after: self.after, limit: self.limit }.page()?;
        Ok(TableQuery { selector, page })
    }
}

impl ServiceParams {
    fn query(self) -> Result<ServicesQuery, Error> {
        let selector = match (self.service, self.prefix, self.address) {
            (None, None, None) => ServiceSelector::All,
            (Some(service), None, None) if service.len() > SERVICE_NAME_MAX => {
                return Err(bad_request(format!("a service's name has {SERVICE_NAME_MAX} octets at most")));
            }
            (Some(service), None, None) => ServiceSelector::Service(service),
            (None, Some(prefix), None) => ServiceSelector::Within(parameter("prefix", &prefix)?),
            (None, None, Some(address)) => ServiceSelector::Address(parameter("address", &address)?),
            (..) => return Err(bad_request("service, prefix and address exclude each other")),
        };
        let page = PageParams { after: self.after, limit: self.limit }.page()?;
        Ok(ServicesQuery { selector, page })
    }
}

impl PageParams {
    fn page(self) -> Result<PageQuery, Error> {
        let after = self.after.map(|after| parameter("after", &after)).transpose()?;
        let limit = self.limit.map_or(Ok(api::PAGE_LIMIT), |limit| parameter("limit", &limit))?;
        if !(1..=api::PAGE_LIMIT).contains(&limit) {
            return Err(bad_request(format!("limit: {limit} is not in 1 to {}", api::PAGE_LIMIT)));
        }
        Ok(PageQuery { after, limit })
    }
}

fn read<T>(params: Params<T>) -> Result<T, Error> {
    params.map(|Query(params)| params).map_err(|rejection| bad_request(rejection.body_text()))
}

fn parameter<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| bad_request(format!("{name}: {text:?}: {error}")))
}

/// A duration as it is written on the command line.
fn on_command_line(milliseconds: u64) -> String {
    config::show_duration(Duration::from_millis(milliseconds))
}

fn neighbor_name(name: Name) -> Result<String, Error> {
    let Path(name) = name.map_err(|rejection| bad_request(rejection.body_text()))?;
    known_length(name)
}

fn known_length(name: String) -> Result<String, Error> {
    if name.is_empty() || name.len() > NEIGHBOR_NAME_MAX {
        return Err(bad_request(format!("a neighbor's name has 1 to {NEIGHBOR_NAME_MAX} octets")));
    }
    Ok(name)
}

fn bad_request(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::BadRequest, message)
}

/// Ends a page where its JSON would go over [`PAGE_BYTES`]; one entry is always kept, so that paging ends.
fn bound<T: Entry + Serialize>(page: &mut Page<T>) -> Result<(), Error> {
    let mut bytes = 0;
    for (kept, item) in page.items.iter().enumerate() {
        bytes += serde_json::to_vec(item).map_err(unserializable)?.len();
        if bytes > PAGE_BYTES && kept > 0 {
            page.items.truncate(kept);
            page.next = page.items.last().map(Entry::prefix);
            break;
        }
    }
    Ok(())
}

fn unserializable(error: serde_json::Error) -> Error {
    Error::new(ErrorCode::Internal, format!("the answer cannot be written as JSON: {error}"))
}

/// An answer of bounded size.
struct Json<T>(T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) if body.len() <= ANSWER_BYTES => json(StatusCode::OK, body),
            Ok(body) => {
                let message =
                    format!("an answer of {} octets is over the limit of {ANSWER_BYTES}", body.len());
                Error::new(ErrorCode::TooLarge, message).into_response()
            }
            Err(error) => unserializable(error).into_response(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self.code {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Refused => StatusCode::CONFLICT,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Busy | ErrorCode::TooManyClients | ErrorCode::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Two strings and an enum: this cannot fail; an empty body still has its status.
        json(status, serde_json::to_vec(&self).unwrap_or_default())
    }
}

fn json(status: StatusCode, mut body: Vec<u8>) -> Response {
    body.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(third_octet: u8, reason: String) -> api::FibRoute {
        api::FibRoute {
            prefix: bgp::Prefix::host([10, 0, third_octet, 1].into()),
            kind: api::RouteKind::Blackhole,
            gateways: Vec::new(),
            preferred_source: None,
            status: api::FibState::Failed { reason },
        }
    }

    #[test]
    fn a_page_ends_at_its_size_and_says_where_to_go_on() {
        let third = "x".repeat(PAGE_BYTES / 3);
        let items = (0..5).map(|octet| route(octet, third.clone())).collect();
        let mut page = Page { items, next: None };
        bound(&mut page).unwrap();
        assert_eq!(page.items.len(), 2);
        assert_eq!(page.next, Some(page.items[1].prefix));
    }

    #[test]
    fn a_page_of_one_giant_is_kept() {
        let items = vec![route(0, "x".repeat(2 * PAGE_BYTES)), route(1, String::new())];
        let mut page = Page { items, next: None };
        bound(&mut page).unwrap();
        assert_eq!((page.items.len(), page.next), (1, Some(page.items[0].prefix)));
    }

    #[test]
    fn a_small_page_keeps_its_cursor() {
        let next = Some(bgp::Prefix::host([10, 0, 0, 1].into()));
        let mut page = Page { items: vec![route(0, String::new())], next };
        bound(&mut page).unwrap();
        assert_eq!((page.items.len(), page.next), (1, next));
    }
}
