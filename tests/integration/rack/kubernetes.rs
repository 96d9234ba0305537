//! The agent beside Kubernetes: an API server that nobody reaches but over the fabric, on the loopback address of c3.

mod borrowed;
mod pod;
mod readiness;

use lab::kubernetes::CALICO_V1;
use lab::{Cluster, ClusterOptions, Controllers, Journal};
use serde_json::json;

use super::*;

/// From what the server says to what the ToR knows.
const TOLD: Duration = Duration::from_secs(1);
/// The agent tries again at least this often while there is no server.
const FOUND: Duration = Duration::from_secs(30);

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: c1}
---
apiVersion: v1
kind: Node
metadata: {name: c2}
";

const POOL: &str = "
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.1.0.0/16, ipipMode: Never, vxlanMode: Never}
";

/// A rack whose nodes follow an API server that is not there yet.
struct Bench {
    rack: Rack,
    /// Where the daemons of c1 and c2 look for their kubeconfig.
    kubeconfigs: Vec<std::path::PathBuf>,
}

impl Bench {
    fn up(test: &str, sections: &str) -> Option<Self> {
        if !can_run(&[Requirement::Root, Requirement::Frr, Requirement::Kubernetes]) {
            return None;
        }
        let programs = programs(NexthopObjects::of_environment().unwrap())?;
        let mut options = options(test, programs);
        let NodeDaemon::Agent { configs, .. } = &mut options.nodes else { unreachable!() };
        let mut kubeconfigs = Vec::new();
        for (config, node) in configs.iter_mut().zip(["c1", "c2"]) {
            let folder = Path::new("/run/selvedge-lab").join(&options.name).join(node);
            let (kubeconfig, state) = (folder.join("kubeconfig"), folder.join("cluster.json"));
            *config += &format!(
                "[kubernetes]\nkubeconfig = '{}'\nstate = '{}'\n{sections}",
                kubeconfig.display(),
                state.display()
            );
            kubeconfigs.push(kubeconfig);
        }
        let rack = Rack::up(options).unwrap_or_else(|error| panic!("{error}"));
        Some(Self { rack, kubeconfigs })
    }

    /// The server comes up, and the nodes are given the way to it.
    fn cluster(&self, objects: &str) -> Cluster {
        let c3 = &self.rack.nodes[2];
        let directory = self.kubeconfigs[0].with_file_name("kube");
        std::fs::create_dir_all(&directory).unwrap();
        let address = c3.router.loopbacks()[0];
        let options = ClusterOptions { address, controllers: Controllers::Absent };
        let cluster =
            Cluster::start(&c3.netns, &directory, options).unwrap_or_else(|error| panic!("{error}"));
        cluster.define(CALICO_V1).unwrap();
        cluster.apply(OBJECTS).unwrap();
        // Agents may do what the manifests let them, and nothing else.
        let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/beside-calico");
        cluster.kubectl(&["apply", "--kustomize", overlay.to_str().unwrap()]).unwrap();
        cluster.apply(objects).unwrap();
        let token = cluster.token("kube-system", "selvedge").unwrap();
        for kubeconfig in &self.kubeconfigs {
            cluster.write_kubeconfig(kubeconfig, &token).unwrap();
        }
        cluster
    }

    fn log_of(&self, node: usize) -> String {
        self.rack.nodes[node].agent().unwrap().log()
    }

    fn await_log(&self, node: usize, text: &str) {
        eventually(text, FOUND, || Ok(self.log_of(node).contains(text).then_some(())))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log_of(node)));
    }

    /// The server goes, and then the agent of c1 as well, which comes back to what it knew: the fabric, as c2 sees it, notices
    /// nothing.
    fn lose_server_and_agent(&mut self, cluster: &mut Cluster) {
        let journal = Journal::open(&self.rack.nodes[1].netns).unwrap();
        let before = self.log_of(0).len();
        cluster.kill_apiserver().unwrap();
        eventually("c1 knows", FOUND, || {
            Ok(self.log_of(0)[before..].contains("the API server is away").then_some(()))
        })
        .unwrap();
        let (agent, netns) = self.rack.nodes[0].agent_mut().unwrap();
        agent.kill().unwrap();
        agent.start_again(netns).unwrap();
        self.await_log(0, "what the API server said last is in force");
        self.rack.await_converged(CONVERGENCE).unwrap();
        self.await_log(0, "fib converged");
        assert_eq!(journal.changes().unwrap(), [], "nothing is withdrawn");
    }

    /// The kernel of tor1 has a route there over exactly these links.
    fn await_on_tor(&self, prefix: Prefix, links: &[&str]) -> Instant {
        let what = format!("{prefix} over {links:?}");
        let is_so = |routes: &[Route]| match links {
            [] => !routes.iter().any(|route| route.prefix == prefix),
            links => leads_over(routes, prefix, links),
        };
        let tor = &self.rack.tors[0].netns;
        tor.await_routes(&what, CONVERGENCE, is_so)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.log_of(0), self.log_of(1)))
    }
}

fn assert_soon(what: &str, since: Instant, seen: Instant) {
    let took = seen.saturating_duration_since(since);
    println!("{what}: {took:?}");
    assert!(took < TOLD, "{what}: {took:?}");
}

fn affinity(node: &str, state: &str) -> String {
    affinity_of("10.1.9.0/26", node, state)
}

fn affinity_of(block: &str, node: &str, state: &str) -> String {
    json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "BlockAffinity",
        "metadata": { "name": format!("{node}-{}", dashes(block)) },
        "spec": { "cidr": block, "node": node, "state": state, "deleted": "false" },
    })
    .to_string()
}

fn block(node: &str) -> String {
    block_of("10.1.9.0/26", node)
}

/// As Calico names what belongs to a network.
fn dashes(network: &str) -> String {
    network.replace(['.', ':', '/'], "-")
}

fn block_of(network: &str, node: &str) -> String {
    json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPAMBlock",
        "metadata": { "name": dashes(network) },
        "spec": {
            "cidr": network, "affinity": format!("host:{node}"), "strictAffinity": false,
            "allocations": [], "unallocated": [], "attributes": [], "deleted": false,
        },
    })
    .to_string()
}

#[test]
fn blocks_come_and_go_with_their_affinity_and_stay_while_nobody_says_otherwise() {
    let Some(mut bench) = Bench::up("kubeblocks", "[pods.calico]\n") else { return };
    // Nodes boot, peer and reach each other while there is no server.
    assert_held(&check::pods_reach_pods(&bench.rack).unwrap());
    bench.await_log(0, "the API server is away");
    let mut cluster = bench.cluster(POOL);
    bench.await_log(0, "the API server is back");

    let ours = prefix("10.1.9.0/26");
    cluster.apply(&block("c1")).unwrap();
    cluster.apply(&affinity("c1", "pending")).unwrap();
    let c1 = &bench.rack.nodes[0].netns;
    c1.await_routes("a blackhole", FOUND, |routes| {
        routes.iter().any(|route| route.prefix == ours && route.action == Action::Blackhole)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(0)));
    assert_eq!(bench.rack.tors[0].netns.route(ours).unwrap(), None, "not before it is confirmed");
    cluster.apply(&affinity("c1", "confirmed")).unwrap();
    let confirmed = Instant::now();
    assert_soon("a block on the ToR after its affinity", confirmed, bench.await_on_tor(ours, &["c1"]));
    let c2 = &bench.rack.nodes[1].netns;
    c2.await_routes("over both ToRs", CONVERGENCE, |routes| leads_over(routes, ours, &BOTH)).unwrap();

    bench.lose_server_and_agent(&mut cluster);
    assert!(leads_over(&bench.rack.tors[0].netns.routes().unwrap(), ours, &["c1"]));

    // It is back, and what was kept is still true; then the block moves to c2, as Calico does it.
    cluster.start_apiserver().unwrap();
    bench.await_log(0, "the API server is back");
    cluster.delete(&["blockaffinity.crd.projectcalico.org", "c1-10-1-9-0-26"]).unwrap();
    let released = Instant::now();
    assert_soon("a block away from the ToR after its release", released, bench.await_on_tor(ours, &[]));
    bench.await_log(1, "the API server is back");
    cluster.apply(&block("c2")).unwrap();
    cluster.apply(&affinity("c2", "confirmed")).unwrap();
    let taken = Instant::now();
    assert_soon("a block that moved", taken, bench.await_on_tor(ours, &["c2"]));
}

fn endpoints(node: &str) -> String {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.1.8.193"], "nodeName": node, "conditions": { "ready": true } }],
        "ports": [],
    })
    .to_string()
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: ClusterIP
  externalIPs: [192.0.2.80, 203.0.113.80]
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ports: [{port: 80}]
";

#[test]
fn a_service_follows_its_only_ready_endpoint() {
    let services = "[services]\nload-balancer = ['198.51.100.0/24']\nexternal = ['192.0.2.0/24']\n";
    let Some(bench) = Bench::up("kubeservices", services) else { return };
    let cluster = bench.cluster(SERVICE);
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "198.51.100.7" }] } });
    cluster.patch_status("/api/v1/namespaces/default/services/db", &ingress).unwrap();
    let for_db = |node: &str| endpoints(node).replace("\"web", "\"db");

    // Any node serves this one.
    let anywhere = prefix("192.0.2.80/32");
    bench.await_on_tor(anywhere, &["c1", "c2"]);
    let local = prefix("198.51.100.7/32");
    assert_eq!(bench.rack.tors[0].netns.route(local).unwrap(), None, "nobody serves it yet");
    assert_eq!(bench.rack.tors[0].netns.route(prefix("203.0.113.80/32")).unwrap(), None, "out of range");

    cluster.apply(&for_db("c1")).unwrap();
    let ready = Instant::now();
    assert_soon("a service with its endpoint", ready, bench.await_on_tor(local, &["c1"]));
    cluster.apply(&for_db("c2")).unwrap();
    let moved = Instant::now();
    assert_soon("a service with an endpoint that moved", moved, bench.await_on_tor(local, &["c2"]));
    cluster.label(&["node", "c2"], "node.kubernetes.io/exclude-from-external-load-balancers=").unwrap();
    let excluded = Instant::now();
    assert_soon("a service of a node that is left out", excluded, bench.await_on_tor(local, &[]));
    bench.await_on_tor(anywhere, &["c1"]);
}
