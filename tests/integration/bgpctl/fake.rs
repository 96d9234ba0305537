//! A daemon without an agent: the real control server, and a task that answers with fixed data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use bgp::rib::Originator;
use bgp::{Asn, Family, PeerKind, Prefix, RouterId};
use selvedge::control::api::{self, Error, ErrorCode, Page};
use selvedge::control::{
    PageQuery, REQUEST_QUEUE, ReloadOrder, Reply, Request, Selector, Server, ServiceSelector, ServicesQuery,
    TableQuery,
};
use tokio::sync::{mpsc, oneshot};

/// Routes in every table: two full pages and a half.
pub(super) const ROUTES: usize = 2500;

/// What the one neighbor calls itself: an attempt on the operator's terminal.
pub(super) const HOSTNAME: &str = "tor1\u{1b}]0;owned\u{7}\u{9b}2J\n\u{202e}";

/// Runs in a thread of its own until it is dropped.
pub(super) struct FakeDaemon {
    directory: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    pub(super) fn start(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("selvedge-bgpctl-{test}-{}", std::process::id()));
        let server = Server::bind(&directory.join("control.sock")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (sender, requests) = mpsc::channel(REQUEST_QUEUE);
                tokio::spawn(answer_all(requests));
                let stop = async {
                    let _ = stopped.await;
                };
                server.serve(sender, stop).await.unwrap();
            });
        });
        Self { directory, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn answer_all(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        answer(request);
    }
}

fn answer(request: Request) {
    match request {
        Request::Summary(reply) => send(reply, Ok(summary())),
        Request::Neighbors(reply) => send(reply, Ok(api::Neighbors { neighbors: vec![neighbor()] })),
        Request::Neighbor { neighbor: name, reply } => send(reply, known(&name).map(|()| neighbor())),
        Request::Rib { query, reply } => send(reply, Ok(page(&query, destination))),
        Request::Received { neighbor, query, reply } => {
            send(reply, known(&neighbor).map(|()| page(&all(query), received)));
        }
        Request::Advertised { neighbor, query, reply } => {
            send(reply, known(&neighbor).map(|()| page(&all(query), advertised)));
        }
        Request::Fib { query, reply } => {
            let counters = api::FibCounters { installed: ROUTES as u64, ..api::FibCounters::default() };
            let next_hops = api::FibNextHops::Objects { groups: 1, members: 2 };
            send(reply, Ok(api::Fib { counters, next_hops, page: page(&query, fib_route) }));
        }
        Request::Interfaces(reply) => {
            send(reply, Ok(api::Interfaces { interfaces: vec![interface()], sysctls: Vec::new() }));
        }
        Request::Bfd(reply) => {
            let discards = api::BfdDiscards::default();
            send(reply, Ok(api::Bfd { sessions: Vec::new(), discards }));
        }
        Request::Policies { neighbor: name, reply } => {
            let known = name.map_or(Ok(()), |name| known(&name));
            send(reply, known.map(|()| policies()));
        }
        Request::Readiness(reply) => send(reply, Ok(readiness())),
        Request::Pods(reply) => send(reply, Ok(pods())),
        Request::Services { query, reply } => {
            let (kinds, routes) = (vec![api::ServiceKind::External], ROUTES as u64);
            let totals =
                api::ServiceTotals { kinds, addresses: 2 * routes, announced: routes, prefixes: routes };
            let page = page(&of_services(query), service_address);
            send(reply, Ok(api::Services { kubernetes: Some(kubernetes()), totals, page }));
        }
        Request::Memory(reply) => send(reply, Ok(memory())),
        Request::Config(reply) => {
            let toml = "[bgp]\nlocal-as = 65001\n".to_owned();
            send(reply, Ok(api::Config { path: "/etc/selvedge/selvedge.toml".to_owned(), toml }));
        }
        Request::Clear { neighbor, reply } => send(reply, known(&neighbor).map(|()| done("cleared"))),
        Request::Refresh { neighbor, reply } => send(reply, known(&neighbor).map(|()| done("refreshed"))),
        Request::Drains(reply) => send(reply, Ok(drains())),
        Request::Drain { order, reply } => {
            let neighbor = order.neighbor.clone().unwrap_or_default();
            let message = format!("{neighbor} {:?} {:?} {:?}", order.wait, order.then, order.message);
            let begun = api::DrainBegun { neighbor: order.neighbor, message };
            send(reply, if neighbor.is_empty() { Ok(begun) } else { known(&neighbor).map(|()| begun) });
        }
        Request::Undrain { neighbor, reply } => {
            send(reply, known(neighbor.as_deref().unwrap_or("eth0")).map(|()| done("undrained")));
        }
        Request::Reload { order: ReloadOrder::OnTrial(time), reply } => {
            send(reply, Ok(done(&format!("on trial for {time:?}"))));
        }
        Request::Reload { order: ReloadOrder::InWords, reply } => send(reply, Ok(done("nothing was done"))),
        Request::Confirm(reply) => send(reply, Ok(done("confirmed"))),
        Request::Reload { order: ReloadOrder::AtOnce, reply } => send(
            reply,
            Err(Error::new(
                ErrorCode::Refused,
                "selvedge.toml:3: unknown key \u{1b}[31m`local-sa`\n  help: `local-as`",
            )),
        ),
    }
}

/// The client may be gone.
fn send<T>(reply: Reply<T>, answer: Result<T, Error>) {
    let _ = reply.send(answer);
}

fn known(neighbor: &str) -> Result<(), Error> {
    match neighbor {
        "eth0" | "fe80::a%eth0" => Ok(()),
        _ => Err(Error::new(ErrorCode::NotFound, format!("no neighbor {neighbor:?}; there is: eth0"))),
    }
}

fn done(what: &str) -> api::Done {
    api::Done { message: format!("eth0 {what}"), details: Vec::new() }
}

/// A node that has left, and never was on its way.
fn drains() -> api::Drain {
    let steps = vec![api::DrainStep { state: api::DrainState::Drained, ago_ms: 10 }];
    let progress = api::DrainProgress {
        state: api::DrainState::Drained,
        since_ms: 10,
        time_left_ms: None,
        stops: false,
        message: "maintenance".to_owned(),
        steps,
    };
    let neighbor = api::NeighborDrain {
        name: "eth0".to_owned(),
        hostname: Some(HOSTNAME.to_owned()),
        session: Some(api::SessionState::Idle),
        drain: None,
        received_packets_per_s: Some(7),
    };
    api::Drain { node: Some(progress), neighbors: vec![neighbor] }
}

/// Nobody has a service `default/none`; every other one has all addresses.
fn of_services(query: ServicesQuery) -> TableQuery {
    let selector = match query.selector {
        ServiceSelector::Service(name) if name == "default/none" => Selector::Prefix(prefix(ROUTES)),
        ServiceSelector::All | ServiceSelector::Service(_) => Selector::All,
        ServiceSelector::Address(address) => Selector::Address(address),
        ServiceSelector::Within(range) => Selector::Prefix(range),
    };
    TableQuery { selector, page: query.page }
}

fn all(page: PageQuery) -> TableQuery {
    TableQuery { selector: Selector::All, page }
}

/// The prefix of each route, in order: 10.0.0.0/24, 10.0.1.0/24 ...
pub(super) fn prefix(index: usize) -> Prefix {
    let number = u32::try_from(index).unwrap() << 8 | 10 << 24;
    Prefix::masked(std::net::Ipv4Addr::from(number).into(), 24).unwrap()
}

fn page<T>(query: &TableQuery, entry: impl Fn(Prefix) -> T) -> Page<T> {
    let selected = |prefix: &Prefix| match query.selector {
        Selector::All => true,
        Selector::Prefix(wanted) => *prefix == wanted,
        Selector::Address(address) => prefix.contains(address),
    };
    let mut prefixes: Vec<Prefix> = (0..ROUTES)
        .map(prefix)
        .filter(|prefix| query.page.after.is_none_or(|after| *prefix > after))
        .filter(selected)
        .collect();
    let more = prefixes.len() > query.page.limit;
    prefixes.truncate(query.page.limit);
    let next = prefixes.last().copied().filter(|_| more);
    Page { items: prefixes.into_iter().map(entry).collect(), next }
}

fn attributes() -> api::PathAttributes {
    api::PathAttributes {
        origin: api::PathOrigin::Igp,
        as_path: "65004 65002".to_owned(),
        next_hop: "fe80::a".to_owned(),
        med: None,
        local_pref: None,
        atomic_aggregate: false,
        aggregator: None,
        communities: vec!["65004:7".to_owned()],
        extended_communities: Vec::new(),
        large_communities: Vec::new(),
        originator_id: None,
        cluster_list: Vec::new(),
        unknown: Vec::new(),
    }
}

fn destination(prefix: Prefix) -> api::Destination {
    let from = api::PathSource::Neighbor {
        name: "eth0".to_owned(),
        hostname: Some(HOSTNAME.to_owned()),
        address: "fe80::a".parse().ok(),
    };
    let learned = api::Path {
        from,
        status: api::PathStatus::Best,
        stale: false,
        interface: Some("eth0".to_owned()),
        attributes: attributes(),
    };
    let originated = api::Path {
        from: api::PathSource::Originated(Originator::StaticBlock),
        status: api::PathStatus::NotSelected { reason: "for the test".to_owned() },
        stale: false,
        interface: None,
        attributes: attributes(),
    };
    api::Destination { prefix, paths: vec![learned, originated] }
}

fn received(prefix: Prefix) -> api::ReceivedRoute {
    let status = api::PathStatus::Refused { reason: "martian".to_owned() };
    api::ReceivedRoute { prefix, status, stale: false, policy: None, attributes: attributes() }
}

fn advertised(prefix: Prefix) -> api::AdvertisedRoute {
    api::AdvertisedRoute { prefix, attributes: attributes() }
}

fn fib_route(prefix: Prefix) -> api::FibRoute {
    api::FibRoute {
        prefix,
        kind: api::RouteKind::Unicast,
        gateways: vec![api::FibGateway {
            address: "fe80::a".parse().unwrap(),
            interface: Some("eth0".to_owned()),
        }],
        preferred_source: "1.1.1.1".parse().ok(),
        status: api::FibState::Installed,
    }
}

fn kubernetes() -> api::Kubernetes {
    let refused = api::RefusedKind {
        kind: "Service".to_owned(),
        code: 403,
        reason: HOSTNAME.to_owned(),
        rule: Some(api::RoleRule {
            api_group: String::new(),
            resource: "services".to_owned(),
            verbs: vec!["list".to_owned(), "watch".to_owned()],
        }),
    };
    api::Kubernetes {
        node: "c1".to_owned(),
        node_absent: false,
        server: api::ApiServer::Away { since_s: 83, reason: HOSTNAME.to_owned() },
        refused: vec![refused],
        unreadable: vec![api::UnreadableObject {
            kind: "Service".to_owned(),
            name: HOSTNAME.to_owned(),
            reason: HOSTNAME.to_owned(),
        }],
        unreadable_count: 1,
        missing: [(HOSTNAME.to_owned(), 3)].into(),
        awaited: vec![HOSTNAME.to_owned()],
    }
}

fn pods() -> api::Pods {
    let block = api::PodBlock {
        prefix: prefix(0),
        source: api::BlockSource::Calico,
        status: api::BlockStatus::OwnedBy { node: HOSTNAME.to_owned() },
        blackhole: false,
        rivals: vec![HOSTNAME.to_owned()],
    };
    api::Pods { kubernetes: Some(kubernetes()), blocks: vec![block] }
}

/// Two services have each address.
fn service_address(prefix: Prefix) -> api::ServiceAddress {
    let used = |service: &str, status| api::ServiceUse {
        service: service.to_owned(),
        kind: api::ServiceKind::External,
        policy: api::ServicePolicy::Cluster,
        status,
    };
    let services = vec![
        used("default/web", api::ServiceStatus::Announced { prefix }),
        used(HOSTNAME, api::ServiceStatus::OutOfRange),
    ];
    api::ServiceAddress { prefix, services, kept: Vec::new() }
}

fn policies() -> api::Policies {
    let chain = || api::PolicyChain {
        guard: vec![api::GuardRule { reason: "martian".to_owned(), hits: 3 }],
        policy: None,
    };
    let (import, export) = (chain(), chain());
    let neighbor = "eth0".to_owned();
    api::Policies {
        neighbors: vec![api::NeighborPolicies {
            neighbor,
            import,
            export,
            allow_transit: false,
            allowas_in: 0,
        }],
        at_rest: true,
    }
}

fn readiness() -> api::Readiness {
    let message = "no session with a ToR is established: eth0 is down since 2026-01-02T03:04:05Z".to_owned();
    let stage = api::ReadinessStage::Isolated;
    api::Readiness { ready: false, stage, reason: "NoUplink".to_owned(), message }
}

fn memory() -> api::Memory {
    let part = |user| api::MemoryPart { user, count: ROUTES as u64, octets: Some(2048) };
    let parts: Vec<api::MemoryPart> = api::MemoryUser::ALL.into_iter().map(part).collect();
    api::Memory {
        accounted_octets: 2048 * parts.len() as u64,
        parts,
        allocator: Some(api::AllocatorMemory { in_use_octets: 2 << 20, free_octets: 1 << 20 }),
        process: api::ProcessMemory {
            resident_octets: 8 << 20,
            peak_octets: 9 << 20,
            anonymous_octets: 3 << 20,
            file_octets: 5 << 20,
        },
    }
}

fn summary() -> api::Summary {
    api::Summary {
        router_id: RouterId::new([1, 1, 1, 1].into()),
        local_as: Asn(65001),
        hostname: "c1".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_s: 83,
        rib: api::RibTotals { destinations: ROUTES as u64, paths: 2 * ROUTES as u64 },
        fib_routes: ROUTES as u64,
        trial: None,
        kubernetes: None,
        listen_error: None,
        neighbors: vec![neighbor().summary],
    }
}

fn neighbor() -> api::Neighbor {
    let prefixes = api::PrefixCounts { received: 2500, accepted: 2500, sent: 2 };
    api::Neighbor {
        summary: api::NeighborSummary {
            name: "eth0".to_owned(),
            hostname: Some(HOSTNAME.to_owned()),
            address: "fe80::a".parse().ok(),
            remote_as: Some(Asn(65004)),
            state: api::SessionState::Established,
            up_down_s: Some(83),
            messages_received: 31,
            messages_sent: 29,
            prefixes,
            prefixes_by_family: BTreeMap::from([(Family::Ipv4Unicast, prefixes)]),
            bfd_state: None,
            last_error: Some(HOSTNAME.to_owned()),
        },
        interface: Some("eth0".to_owned()),
        configured_remote_as: "external".to_owned(),
        kind: Some(PeerKind::External),
        remote_router_id: RouterId::new([4, 4, 4, 4].into()),
        local_address: "fe80::1".parse().ok(),
        discovered_router: "fe80::a".parse().ok(),
        waiting_for: None,
        configured_hold_time_s: 9,
        configured_keepalive_ms: 3000,
        negotiated: None,
        bfd: None,
        timers: Vec::new(),
        families: vec![Family::Ipv4Unicast],
        capabilities: api::Capabilities::default(),
        messages: api::Messages::default(),
        refused: BTreeMap::new(),
        stale: 0,
        echoes: 0,
        max_prefixes: 100_000,
        times_established: 1,
        flaps: api::Flaps::default(),
        last_failure: None,
        last_notification: None,
    }
}

fn interface() -> api::Interface {
    api::Interface {
        name: "eth0".to_owned(),
        index: 2,
        admin_up: true,
        carrier: true,
        uplink: true,
        mtu: 1500,
        mac: None,
        link_local: "fe80::1".parse().ok(),
        addresses: Vec::new(),
        router: Some(api::LinkRouter { address: "fe80::a".parse().unwrap(), heard_s: 3 }),
        discovery: Some(api::DiscoveryCounters::default()),
        alarms: Vec::new(),
    }
}
