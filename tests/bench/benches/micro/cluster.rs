//! Services of a large cluster: 10,000 with 50,000 endpoints, from JSON to what is announced.

use divan::Bencher;
use divan::counter::ItemsCount;
use selvedge::cluster::bench::{Followed, Follower};
use selvedge::config::Services;
use serde_json::{Value, json};

const SERVICES: usize = 10_000;
const ENDPOINTS_EACH: usize = 5;
const NODES: usize = 500;

/// What an API server says of such a cluster.
struct Cluster {
    nodes: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
}

fn cluster() -> Cluster {
    Cluster {
        nodes: vec![json!({"metadata": {"name": node(0)}, "spec": {"podCIDRs": ["10.42.0.0/24"]}})],
        services: (0..SERVICES).map(service).collect(),
        slices: (0..SERVICES).map(|number| slice(number, true)).collect(),
    }
}

fn followed() -> Followed {
    let range = |text: &str| vec![text.parse().unwrap()];
    Followed::services(
        &node(0),
        Services {
            load_balancer: range("198.18.0.0/16"),
            external: Vec::new(),
            cluster: range("10.96.0.0/16"),
            aggregate: false,
        },
    )
}

fn node(number: usize) -> String {
    format!("rack-{}-c{}.example.org", number / 40, number % 40)
}

fn host(first: &str, number: usize) -> String {
    format!("{first}.{}.{}", number / 250, number % 250 + 1)
}

/// Half of them `Local`.
fn service(number: usize) -> Value {
    let (cluster, balanced) = (host("10.96", number), host("198.18", number));
    let policy = if number.is_multiple_of(2) { "Local" } else { "Cluster" };
    json!({
        "metadata": {"name": format!("web-{number}"), "namespace": format!("team-{}", number % 100)},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": cluster,
            "clusterIPs": [cluster],
            "externalTrafficPolicy": policy,
            "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": balanced, "ipMode": "VIP"}]}},
    })
}

fn slice(number: usize, ready: bool) -> Value {
    let endpoints: Vec<Value> = (0..ENDPOINTS_EACH)
        .map(|endpoint| {
            json!({
                "addresses": [host("10.42", number)],
                "nodeName": node((number * ENDPOINTS_EACH + endpoint * 7) % NODES),
                "conditions": {"ready": ready, "serving": true, "terminating": false},
            })
        })
        .collect();
    json!({
        "metadata": {
            "name": format!("web-{number}-x7k2p"),
            "namespace": format!("team-{}", number % 100),
            "labels": {"kubernetes.io/service-name": format!("web-{number}")},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
    })
}

/// Octets that malloc has given out.
fn in_use() -> usize {
    // SAFETY: the function reads what malloc knows of itself, and takes no argument.
    unsafe { libc::mallinfo2() }.uordblks
}

fn started(cluster: &Cluster, followed: &Followed) -> Follower {
    let mut follower = Follower::default();
    follower.list(&cluster.nodes, &cluster.services, &cluster.slices);
    assert!(follower.decide(followed) > SERVICES);
    follower
}

/// From the parsed JSON of three whole lists to the first decision. Says how much memory stays.
#[divan::bench]
fn start(bencher: Bencher<'_, '_>) {
    let (cluster, followed) = (cluster(), followed());
    let before = in_use();
    let follower = started(&cluster, &followed);
    let megabytes = in_use().saturating_sub(before) / 100_000;
    eprintln!("{SERVICES} services: {}.{} MB", megabytes / 10, megabytes % 10);
    drop(follower);
    bencher.counter(ItemsCount::new(SERVICES)).bench_local(|| started(&cluster, &followed));
}

/// One endpoint has changed: everything is decided anew.
#[divan::bench]
fn decide_after_one_change(bencher: Bencher<'_, '_>) {
    let (cluster, followed) = (cluster(), followed());
    let mut follower = started(&cluster, &followed);
    let changes = [false, true].map(|ready| slice(0, ready));
    let mut changes = changes.iter().cycle();
    bencher.bench_local(|| {
        changes.next().into_iter().for_each(|slice| follower.change_slice(slice));
        follower.decide(&followed)
    });
}
