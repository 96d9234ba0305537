//! Routes in the words of the control API: RIB, Adj-RIBs and FIB, a page at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bgp::net::PeerStatus;
use bgp::rib::{DestinationView, Freshness, Gateway, PathSource, PathStatus, PathView, ReceivedView, Rib};
use bgp::{PeerId, Prefix};
use tokio::sync::oneshot;

use crate::control::{PageQuery, Selector, TableQuery, api};
use crate::kernel::fib;

use super::neighbors::peer_hostname;
use super::policies::trace;
use super::{View, stopping, words};

/// Prefixes that the longest match over FIB routes looks at: the lengths of IPv6, and the one more that an
/// address itself is.
const LENGTHS: u8 = 128;

impl View {
    pub(super) async fn rib(&self, query: TableQuery) -> Result<api::Page<api::Destination>, api::Error> {
        let PageQuery { after, limit } = query.page;
        let (views, next) = match query.selector {
            Selector::All => {
                let page = self.ask(move |rib| rib.destinations(after, limit)).await?;
                (page.items, page.next)
            }
            Selector::Prefix(prefix) => {
                (self.ask(move |rib| rib.destination(prefix)).await?.into_iter().collect(), None)
            }
            Selector::Address(address) => {
                (self.ask(move |rib| rib.lookup(address)).await?.into_iter().collect(), None)
            }
        };
        let sources = self.sources().await?;
        let items = views.into_iter().map(|view| self.destination(view, &sources)).collect();
        Ok(api::Page { items, next })
    }

    pub(super) async fn received(
        &self,
        selector: &str,
        query: PageQuery,
    ) -> Result<api::Page<api::ReceivedRoute>, api::Error> {
        let peer = self.find(selector).await?.id;
        let page = self.ask(move |rib| rib.received(peer, query.after, query.limit)).await?;
        let route = |ReceivedView { prefix, path, ruling }: ReceivedView| api::ReceivedRoute {
            prefix,
            status: status(path.status),
            stale: path.freshness == Freshness::Stale,
            policy: ruling.map(|(policy, ruling)| trace(&policy, &ruling)),
            attributes: path.received.as_ref().into(),
        };
        Ok(api::Page { items: page.items.into_iter().map(route).collect(), next: page.next })
    }

    pub(super) async fn advertised(
        &self,
        selector: &str,
        query: PageQuery,
    ) -> Result<api::Page<api::AdvertisedRoute>, api::Error> {
        let peer = self.find(selector).await?.id;
        let page = self.ask(move |rib| rib.advertised(peer, query.after, query.limit)).await?;
        let items = page.items.into_iter().map(|route| api::AdvertisedRoute {
            prefix: route.prefix,
            attributes: route.attributes.as_ref().into(),
        });
        Ok(api::Page { items: items.collect(), next: page.next })
    }

    pub(super) async fn fib(&self, query: TableQuery) -> Result<api::Fib, api::Error> {
        let counters = self.fib_counters().await?;
        let (routes, more) = match query.selector {
            Selector::All => {
                let routes = self.fib_routes(query.page.after, query.page.limit).await?;
                let more = routes.len() >= query.page.limit.min(fib::Request::PAGE);
                (routes, more)
            }
            Selector::Prefix(prefix) => (self.fib_route(prefix).await?, false),
            Selector::Address(address) => {
                let mut found = Vec::new();
                for length in (0..=LENGTHS).rev() {
                    let Ok(prefix) = Prefix::masked(address, length) else { continue };
                    found = self.fib_route(prefix).await?;
                    if !found.is_empty() {
                        break;
                    }
                }
                (found, false)
            }
        };
        let next = routes.last().filter(|_| more).map(|route| route.prefix);
        let kept = self.ask(Rib::kept_defaults).await?;
        let mut items: Vec<_> = routes.into_iter().map(|route| self.fib_entry(route)).collect();
        for route in &mut items {
            if route.status == api::FibState::Installed && kept.contains_key(&route.prefix) {
                route.status = api::FibState::Kept;
            }
        }
        Ok(api::Fib {
            counters: words::fib_counters(counters),
            next_hops: words::fib_next_hops(counters.next_hops),
            page: api::Page { items, next },
        })
    }

    async fn fib_route(&self, prefix: Prefix) -> Result<Vec<fib::RouteStatus>, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.fib.send(fib::Request::Route { prefix, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    async fn fib_routes(
        &self,
        after: Option<Prefix>,
        limit: usize,
    ) -> Result<Vec<fib::RouteStatus>, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.fib.send(fib::Request::Routes { after, limit, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    fn fib_entry(&self, route: fib::RouteStatus) -> api::FibRoute {
        let (kind, gateways) = match route.kind {
            Some(fib::Kind::Unicast(gateways)) => {
                (api::RouteKind::Unicast, gateways.iter().map(|gateway| self.fib_gateway(gateway)).collect())
            }
            Some(fib::Kind::Blackhole) => (api::RouteKind::Blackhole, Vec::new()),
            None => (api::RouteKind::Other, Vec::new()),
        };
        api::FibRoute {
            prefix: route.prefix,
            kind,
            gateways,
            preferred_source: route.source,
            status: words::fib_state(route.state),
        }
    }

    fn fib_gateway(&self, gateway: &Gateway) -> api::FibGateway {
        api::FibGateway {
            address: gateway.address,
            interface: gateway.interface.map(|index| self.interface_name(index)),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Rib) -> T + Send + 'static,
    ) -> Result<T, api::Error> {
        self.rib.ask(question).await.map_err(|_| stopping())
    }

    /// What each neighbor is called.
    async fn sources(&self) -> Result<BTreeMap<PeerId, api::PathSource>, api::Error> {
        let statuses = self.statuses().await?;
        let source = |status: &PeerStatus, name: String| api::PathSource::Neighbor {
            name,
            hostname: peer_hostname(status),
            address: status.target.as_ref().map(|target| target.remote.ip()),
        };
        let neighbors = self.neighbors.iter().zip(&statuses);
        Ok(neighbors.map(|(n, status)| (n.id, source(status, n.name.to_string()))).collect())
    }

    fn destination(
        &self,
        view: DestinationView,
        sources: &BTreeMap<PeerId, api::PathSource>,
    ) -> api::Destination {
        let mut paths: Vec<(u8, api::Path)> =
            view.paths.into_iter().map(|path| (rank(path.status), self.path(path, sources))).collect();
        paths.sort_by_key(|(rank, _)| *rank);
        api::Destination { prefix: view.prefix, paths: paths.into_iter().map(|(_, path)| path).collect() }
    }

    fn path(&self, path: PathView, sources: &BTreeMap<PeerId, api::PathSource>) -> api::Path {
        let attributes: &Arc<_> = path.imported.as_ref().unwrap_or(&path.received);
        api::Path {
            from: match path.source {
                PathSource::Originated(originator) => api::PathSource::Originated(originator),
                PathSource::Peer(peer) => sources.get(&peer).cloned().unwrap_or(api::PathSource::Neighbor {
                    // Removed between the two questions.
                    name: "?".to_owned(),
                    hostname: None,
                    address: None,
                }),
            },
            status: status(path.status),
            stale: path.freshness == Freshness::Stale,
            interface: path
                .gateway
                .and_then(|gateway| gateway.interface)
                .map(|index| self.interface_name(index)),
            attributes: attributes.as_ref().into(),
        }
    }
}

/// The best path first, refused ones last.
fn rank(status: PathStatus) -> u8 {
    match status {
        PathStatus::Best => 0,
        PathStatus::Multipath => 1,
        PathStatus::NotSelected(_) => 2,
        PathStatus::Refused(_) => 3,
        PathStatus::Echo => 4,
    }
}

fn status(status: PathStatus) -> api::PathStatus {
    match status {
        PathStatus::Best => api::PathStatus::Best,
        PathStatus::Multipath => api::PathStatus::Multipath,
        PathStatus::NotSelected(reason) => {
            api::PathStatus::NotSelected { reason: words::reason(reason).to_owned() }
        }
        PathStatus::Refused(refusal) => {
            api::PathStatus::Refused { reason: words::refusal(refusal).to_owned() }
        }
        PathStatus::Echo => api::PathStatus::Echo,
    }
}
