//! What Kubernetes is told of a node whose uplinks come and go, and what becomes of services on a node that is cordoned.

use lab::Error;
use serde_json::Value;

use super::*;

/// `isolated-for` of the tests: longer than FRR takes from a link that is up to its routes.
const ISOLATED_FOR: Duration = Duration::from_secs(15);
/// Beyond that: the look once a second, and two writes.
const NOTICED: Duration = Duration::from_secs(10);

const TAINT: &str = "selvedge.dev/uplinks-not-ready";

const SECTIONS: &str = "[readiness]\nuplinks = 2\necho = true\nisolated-for = '15s'\n";

/// c1 as a kubelet registers it: with the taint to start with, and one of somebody else's.
const C1: &str = "
apiVersion: v1
kind: Node
metadata: {name: c1}
spec:
  taints:
  - {key: example.com/gpu, value: 'yes', effect: NoSchedule}
  - {key: selvedge.dev/uplinks-not-ready, effect: NoSchedule}
";

fn condition<'v>(node: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn network<'v>(node: &'v Value, field: &str) -> &'v str {
    condition(node, "NetworkUnavailable").and_then(|condition| condition[field].as_str()).unwrap_or_default()
}

fn has_taint(node: &Value, key: &str) -> bool {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    taints.into_iter().flatten().any(|taint| taint["key"] == key)
}

/// What others say of the node is as it was.
fn assert_others_untouched(node: &Value) {
    let kubelets = condition(node, "Ready").unwrap_or_else(|| panic!("{node}"));
    assert_eq!(kubelets["reason"], "KubeletReady", "{node}");
    assert!(has_taint(node, "example.com/gpu"), "{node}");
}

/// What the API server has of a node; it changes with every write.
fn version(cluster: &Cluster, node: &str) -> Value {
    cluster.json(&["get", "node", node]).unwrap()["metadata"]["resourceVersion"].clone()
}

impl Bench {
    /// The server comes up, with a role of the agents that lets them write, and a kubelet that has said something of c1.
    fn cluster_to_write_to(&self) -> Cluster {
        let cluster = self.cluster(C1);
        let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/rbac/readiness");
        cluster.kubectl(&["apply", "--kustomize", role.to_str().unwrap()]).unwrap();
        let kubelets = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "" });
        cluster.patch_status("/api/v1/nodes/c1", &json!({ "conditions": [kubelets] })).unwrap();
        cluster
    }

    /// A cable between c1 and the host of the API server, and a better way over it than that of the fabric.
    fn lay_management_link(&self) {
        let [c1, _, c3] = &self.rack.nodes[..] else { panic!("three nodes") };
        cable(Port { netns: &c1.netns, name: "mgmt" }, Port { netns: &c3.netns, name: "mgmt" }).unwrap();
        for (node, address) in [(c1, [192, 0, 2, 1]), (c3, [192, 0, 2, 2])] {
            node.netns.add_address("mgmt", address.into(), 30).unwrap();
            node.netns.set_up("mgmt").unwrap();
        }
        let mut command = c1.netns.command("ip");
        let server = c3.router.loopbacks()[0].to_string();
        lab::output_of({
            command.args(["route", "add", &server, "via", "192.0.2.2", "metric", "5"]);
            command
        })
        .unwrap();
    }

    fn cut(&self, node: &str, tors: &[usize]) {
        tors.iter().for_each(|&tor| self.rack.tors[tor].netns.set_down(node).unwrap());
    }

    fn mend(&self, node: &str, tors: &[usize]) {
        tors.iter().for_each(|&tor| self.rack.tors[tor].netns.set_up(node).unwrap());
    }

    fn await_c1(
        &self,
        cluster: &Cluster,
        what: &str,
        limit: Duration,
        wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let node = cluster.await_object(what, &["node", "c1"], limit, wanted);
        node.unwrap_or_else(|error| panic!("{error}\n{}", self.log_of(0)))
    }

    fn await_ready(&self, cluster: &Cluster, limit: Duration) -> Value {
        let node = self.await_c1(cluster, "c1 to be ready", limit, |node| {
            network(node, "reason") == "UplinksReady" && !has_taint(node, TAINT)
        });
        assert_eq!(network(&node, "status"), "False", "{node}");
        assert_others_untouched(&node);
        node
    }

    /// What `bgpctl ready` prints, and whether its exit code says that the node is.
    fn asked(&self) -> (bool, String) {
        match self.rack.nodes[0].agent().unwrap().bgpctl(&["ready"]) {
            Ok(text) => (true, text),
            Err(Error::ToolFailed { status, output, .. }) if status.code() == Some(1) => (false, output),
            Err(error) => panic!("{error}"),
        }
    }

    fn await_stage(&self, stage: &str) {
        let agent = self.rack.nodes[0].agent().unwrap();
        eventually(stage, CONVERGENCE, || {
            // It fails where the node is not ready.
            let shown = agent.bgpctl_json(&["ready"]).ok();
            Ok(shown.is_some_and(|shown| shown["stage"] == stage).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log_of(0)));
    }
}

#[test]
fn a_node_is_ready_while_its_uplinks_are_and_flaps_are_not_told_of() {
    let Some(mut bench) = Bench::up("kubeready", SECTIONS) else { return };
    let cluster = bench.cluster_to_write_to();
    let ready = bench.await_ready(&cluster, FOUND);
    let (is_ready, text) = bench.asked();
    assert!(is_ready && text.starts_with("ready: UplinksReady: at least 2 sessions"), "{text}");
    let described = cluster.kubectl(&["describe", "node", "c1"]).unwrap();
    assert!(
        described.contains(
            "at least 2 sessions with ToRs are established, and routes are learned; what this node"
        ),
        "{described}"
    );

    // Neither a flap nor a restart of the daemon is worth a word.
    bench.cut("c1", &[1]);
    bench.await_stage("doubtful");
    bench.mend("c1", &[1]);
    bench.await_stage("ready");
    let (agent, netns) = bench.rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    agent.start_again(netns).unwrap();
    bench.await_stage("ready");
    assert_eq!(version(&cluster, "c1"), ready["metadata"]["resourceVersion"]);

    let cut = Instant::now();
    // Beside c1, which has a taint of somebody else's, a node without any.
    ["c1", "c2"].iter().for_each(|node| bench.cut(node, &[1]));
    let isolated = bench.await_c1(&cluster, "c1 to be isolated", ISOLATED_FOR + NOTICED, |node| {
        network(node, "status") == "True" && has_taint(node, TAINT)
    });
    assert!(cut.elapsed() >= ISOLATED_FOR, "{:?}", cut.elapsed());
    assert_others_untouched(&isolated);
    assert_eq!(network(&isolated, "reason"), "TooFewUplinks", "{isolated}");
    assert!(network(&isolated, "lastTransitionTime") > network(&ready, "lastTransitionTime"), "{isolated}");
    let (is_ready, text) = bench.asked();
    assert!(!is_ready && text.contains("not ready: TooFewUplinks: 1 of 2 required sessions"), "{text}");
    let described = cluster.kubectl(&["describe", "node", "c1"]).unwrap();
    let words = "1 of 2 required sessions with ToRs is established: tor2 is down since 2";
    assert!(described.contains("TooFewUplinks") && described.contains(words), "{described}");

    cluster
        .await_object("c2 to be isolated", &["node", "c2"], NOTICED, |node| {
            network(node, "status") == "True" && has_taint(node, TAINT)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(1)));

    // Somebody who knows better is corrected, and only in this.
    let mut conditions = isolated["status"]["conditions"].as_array().unwrap().clone();
    let ours = conditions.iter_mut().find(|condition| condition["type"] == "NetworkUnavailable").unwrap();
    (ours["status"], ours["reason"]) = ("False".into(), "RouteCreated".into());
    cluster.patch_status("/api/v1/nodes/c1", &json!({ "conditions": conditions })).unwrap();
    let corrected =
        bench.await_c1(&cluster, "c1 to be corrected", NOTICED, |node| network(node, "status") == "True");
    assert_others_untouched(&corrected);

    ["c1", "c2"].iter().for_each(|node| bench.mend(node, &[1]));
    bench.await_ready(&cluster, CONVERGENCE + NOTICED);
    cluster
        .await_object("c2 to be ready", &["node", "c2"], CONVERGENCE + NOTICED, |node| {
            network(node, "status") == "False" && !has_taint(node, TAINT)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(1)));
}

/// A node that is cut off altogether, whose API server is reached by another way; and one whose API server is cut off with it.
#[test]
fn a_node_without_any_uplink_says_so_where_it_can_and_takes_it_back() {
    let sections = "[readiness]\nisolated-for = '15s'\n";
    let Some(mut bench) = Bench::up("kubealone", sections) else { return };
    bench.lay_management_link();
    let cluster = bench.cluster_to_write_to();
    let ready = bench.await_ready(&cluster, FOUND);
    let is_ready = |node: &Value| network(node, "reason") == "UplinksReady";
    cluster.await_object("c2 to be ready", &["node", "c2"], FOUND, is_ready).unwrap();

    bench.cut("c1", &[0, 1]);
    bench.await_stage("doubtful");
    bench.mend("c1", &[0, 1]);
    bench.await_stage("ready");
    assert_eq!(version(&cluster, "c1"), ready["metadata"]["resourceVersion"], "a flap");

    let c2 = version(&cluster, "c2");
    bench.cut("c2", &[0, 1]);
    let cut = Instant::now();
    bench.cut("c1", &[0, 1]);
    let isolated = bench.await_c1(&cluster, "c1 to be isolated", ISOLATED_FOR + NOTICED, |node| {
        network(node, "status") == "True" && has_taint(node, TAINT)
    });
    assert!(cut.elapsed() >= ISOLATED_FOR, "{:?}", cut.elapsed());
    assert_others_untouched(&isolated);
    let described = cluster.kubectl(&["describe", "node", "c1"]).unwrap();
    let taint = "selvedge.dev/uplinks-not-ready:NoSchedule";
    for words in ["NoUplink", "no session with a ToR is established: tor1 is down since 2", taint] {
        assert!(described.contains(words), "{words}: {described}");
    }
    // As isolated as c1, c2 has no way to say so; when it can speak again it is true no more.
    eventually("c2 knows", NOTICED, || {
        Ok(bench.log_of(1).contains("this node is not ready for pods").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(1)));
    assert_eq!(version(&cluster, "c2"), c2);
    bench.mend("c2", &[0, 1]);
    eventually("c2 is ready", CONVERGENCE, || {
        let shown = bench.rack.nodes[1].agent()?.bgpctl_json(&["ready"]).ok();
        Ok(shown.is_some_and(|shown| shown["stage"] == "ready").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(1)));
    cluster
        .await_object("c2 to be ready again", &["node", "c2"], FOUND, |node| {
            is_ready(node) && network(node, "status") == "False" && !has_taint(node, TAINT)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(1)));

    // An end takes nothing back: a successor may be on its way. A file that does not ask for it any more does.
    let before = version(&cluster, "c1");
    let (agent, netns) = bench.rack.nodes[0].agent_mut().unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_eq!(version(&cluster, "c1"), before, "an end");
    agent.start_again(netns).unwrap();
    let file = bench.kubeconfigs[0].with_file_name("selvedge.toml");
    let with_table = std::fs::read_to_string(&file).unwrap();
    let without = with_table.replace("[readiness]\nisolated-for = \"15s\"\n", "");
    assert_ne!(without, with_table);
    let agent = bench.rack.nodes[0].agent().unwrap();
    agent.write_config(&without).unwrap();
    agent.bgpctl(&["reload"]).unwrap();
    let clean = bench.await_c1(&cluster, "c1 to be left clean", NOTICED, |node| {
        network(node, "reason") == "UplinksNotWatched" && !has_taint(node, TAINT)
    });
    assert_eq!(network(&clean, "status"), "False", "{clean}");
    assert_others_untouched(&clean);

    // And back: c1 is isolated still.
    agent.write_config(&with_table).unwrap();
    agent.bgpctl(&["reload"]).unwrap();
    bench.await_c1(&cluster, "c1 to be isolated again", ISOLATED_FOR + NOTICED, |node| {
        network(node, "status") == "True" && has_taint(node, TAINT)
    });
    bench.mend("c1", &[0, 1]);
    bench.await_ready(&cluster, CONVERGENCE + NOTICED);
}

const CORDONED: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: ClusterIP
  externalIPs: [192.0.2.80]
  ports: [{port: 80}]
";

#[test]
fn a_cordon_withdraws_services_and_leaves_blocks() {
    let sections = "[services]\nexternal = ['192.0.2.0/24']\n[drain]\non-cordon = true\n[readiness]\n";
    let Some(bench) = Bench::up("kubecordon", sections) else { return };
    let cluster = bench.cluster(CORDONED);
    let service = prefix("192.0.2.80/32");
    bench.await_on_tor(service, &["c1", "c2"]);
    cluster.kubectl(&["cordon", "c1"]).unwrap();
    let cordoned = Instant::now();
    assert_soon("a service of a node that is cordoned", cordoned, bench.await_on_tor(service, &["c2"]));
    assert!(leads_over(&bench.rack.tors[0].netns.routes().unwrap(), block_of_c1(), &["c1"]));
    let shown = bench.rack.nodes[0].agent().unwrap().bgpctl(&["show", "services"]).unwrap();
    assert!(shown.contains("no: the node is cordoned"), "{shown}");
    // Its role lets it read, which is all that it takes; that it cannot write is said.
    let agent = bench.rack.nodes[0].agent().unwrap();
    eventually("a refusal", NOTICED, || {
        let shown = agent.bgpctl(&["show", "pods"])?;
        Ok(shown.contains("does not let us write to nodes/status: ").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", bench.log_of(0)));
    cluster.kubectl(&["uncordon", "c1"]).unwrap();
    let uncordoned = Instant::now();
    assert_soon("a service that is back", uncordoned, bench.await_on_tor(service, &["c1", "c2"]));
}
