//! What a cluster of the lab can be used for: the same objects, permissions and faults as one in a data centre.

mod deploy;
mod faults;
mod fixture;
mod life;
mod show;

use std::time::Duration;

use lab::kubernetes::{CALICO_V1, CALICO_V3};
use lab::{Controllers, Error};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use fixture::{Bench, PATIENCE};

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: c1}
spec: {podCIDRs: [10.42.1.0/26, 'fd00:10:42:1::/64'], podCIDR: 10.42.1.0/26}
";

/// A service account that may list nodes and nothing else, and one that may not even do that.
const ACCOUNTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: node-reader}
rules:
- {apiGroups: [''], resources: [nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: node-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: node-reader}
subjects:
- {kind: ServiceAccount, name: reader, namespace: default}
";

fn affinity(version: &str, deleted: &Value) -> String {
    json!({
        "apiVersion": version,
        "kind": "BlockAffinity",
        "metadata": { "name": "c1-10-1-8-192-26" },
        "spec": { "cidr": "10.1.8.192/26", "node": "c1", "state": "confirmed", "deleted": deleted },
    })
    .to_string()
}

/// What the server says of a command that it refuses.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::ToolFailed { output, .. }) => output,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn objects_are_written_and_read_back() {
    let Some(bench) = Bench::up("kubeobjects", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    cluster.apply(NODE).unwrap();
    let node = cluster.json(&["get", "node", "c1"]).unwrap();
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.42.1.0/26", "fd00:10:42:1::/64"]), "both families");
    let misspelt = refusal(cluster.apply(&NODE.replace("podCIDR:", "podCidr:")));
    assert!(misspelt.contains(r#"unknown field "podCidr""#), "{misspelt}");
    let never = cluster.await_object("never", &["node", "c1"], Duration::from_millis(300), |_| false);
    assert!(matches!(never, Err(Error::Timeout { .. })), "{never:?}");
    let missing = cluster.await_object("missing", &["node", "c9"], PATIENCE, |_| true);
    assert!(refusal(missing).contains("(NotFound)"));

    cluster.define(CALICO_V1).unwrap();
    cluster.define(CALICO_V3).unwrap();
    let (v1, v3) = ("crd.projectcalico.org/v1", "projectcalico.org/v3");
    cluster.apply(&affinity(v1, &json!("false"))).unwrap();
    cluster.apply(&affinity(v3, &json!(false))).unwrap();
    for group in ["crd.projectcalico.org", "projectcalico.org"] {
        let kind = format!("blockaffinities.{group}");
        let read = cluster.json(&["get", &kind, "c1-10-1-8-192-26"]).unwrap();
        assert_eq!(read["spec"]["state"], "confirmed", "{read}");
    }
    // By the server, or already by kubectl if the server has told it of the schema by now.
    for (version, deleted) in [(v1, json!(true)), (v3, json!("true"))] {
        let refused = refusal(cluster.apply(&affinity(version, &deleted)));
        assert!(refused.contains("spec.deleted"), "{refused}");
    }
    cluster
        .patch(
            &["blockaffinity.crd.projectcalico.org", "c1-10-1-8-192-26"],
            &json!({"spec": {"deleted": "true"}}),
        )
        .unwrap();
    cluster.delete(&["blockaffinity.crd.projectcalico.org", "c1-10-1-8-192-26"]).unwrap();
    let left = cluster.json(&["get", "blockaffinities.crd.projectcalico.org"]).unwrap();
    assert_eq!(left["items"], json!([]));

    cluster
        .apply(
            "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.8.193], nodeName: c1, conditions: {ready: true, serving: true, terminating: false}}
ports:
- {port: 80, protocol: TCP}
",
        )
        .unwrap();
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.80" }] } });
    cluster.patch_status("/api/v1/namespaces/default/services/web", &ingress).unwrap();
    let service = cluster.json(&["get", "service", "web"]).unwrap();
    assert_eq!(service["status"], ingress);
    let slices = cluster.json(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"]).unwrap();
    assert_eq!(slices["items"][0]["apiVersion"], "discovery.k8s.io/v1");
    assert_eq!(slices["items"][0]["endpoints"][0]["conditions"]["terminating"], false);

    let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
    cluster.label(&["node", "c1"], &format!("{excluded}=")).unwrap();
    cluster.annotate(&["node", "c1"], "projectcalico.org/ASNumber=65001").unwrap();
    let metadata = cluster.json(&["get", "node", "c1"]).unwrap()["metadata"].clone();
    assert_eq!(metadata["labels"][excluded], "");
    assert_eq!(metadata["annotations"]["projectcalico.org/ASNumber"], "65001");
    cluster.label(&["node", "c1"], &format!("{excluded}-")).unwrap();
    let labels = cluster.json(&["get", "node", "c1"]).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels.get(excluded), None);
}

#[test]
fn an_account_may_do_what_its_role_says_and_no_more() {
    let Some(bench) = Bench::up("kuberbac", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    cluster.apply(ACCOUNTS).unwrap();
    let [reader, stranger] = ["reader", "stranger"].map(|name| cluster.token("default", name).unwrap());
    cluster.kubectl_as(&reader, &["get", "nodes"]).unwrap();
    assert!(refusal(cluster.kubectl_as(&reader, &["get", "services"])).contains("(Forbidden)"));
    let refused = refusal(cluster.kubectl_as(&stranger, &["get", "nodes"]));
    assert!(refused.contains(r#"User "system:serviceaccount:default:stranger" cannot list"#), "{refused}");
    assert!(refusal(cluster.kubectl_as("nobody", &["get", "nodes"])).contains("Unauthorized"));

    // From elsewhere there is one way: the fabric. The file is all that is needed, and the certificate fits.
    let file = bench.scratch.directory("c1").unwrap().join("kubeconfig");
    cluster.write_kubeconfig(&file, &reader).unwrap();
    cluster.kubectl_from(&bench.node, &file, &["get", "nodes"]).unwrap();
    bench.node.set_down("tor1").unwrap();
    let silence = ["get", "nodes", "--request-timeout=1s"];
    assert!(cluster.kubectl_from(&bench.node, &file, &silence).is_err());
}

#[test]
fn a_killed_api_server_comes_back_with_its_objects() {
    let Some(mut bench) = Bench::up("kubekilled", Controllers::Absent) else { return };
    let cluster = &mut bench.cluster;
    cluster.apply(NODE).unwrap();
    cluster.apply(ACCOUNTS).unwrap();
    let token = cluster.token("default", "reader").unwrap();
    let authority = std::fs::read(cluster.authority()).unwrap();
    let uid = |node: Value| node["metadata"]["uid"].clone();
    let before = uid(cluster.json(&["get", "node", "c1"]).unwrap());

    cluster.kill_apiserver().unwrap();
    assert!(refusal(cluster.kubectl(&["get", "node", "c1"])).contains("refused"));
    cluster.start_apiserver().unwrap();
    assert_eq!(uid(cluster.json(&["get", "node", "c1"]).unwrap()), before);
    assert_eq!(std::fs::read(cluster.authority()).unwrap(), authority);
    cluster.kubectl_as(&token, &["get", "node", "c1"]).unwrap();

    // One that hangs says nothing for as long as it does.
    cluster.signal_apiserver(Signal::SIGSTOP).unwrap();
    assert!(cluster.kubectl(&["get", "node", "c1", "--request-timeout=1s"]).is_err());
    cluster.signal_apiserver(Signal::SIGCONT).unwrap();
    cluster.kubectl(&["get", "node", "c1"]).unwrap();
}

#[test]
fn the_controller_manager_gives_blocks_and_taints_who_has_no_network() {
    let Some(bench) = Bench::up("kubecontrol", Controllers::Present) else { return };
    let cluster = &bench.cluster;
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: c2}\n").unwrap();
    let await_node = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        let node = cluster.await_object(what, &["node", "c2"], PATIENCE, wanted);
        node.unwrap_or_else(|error| panic!("{error}\n{}", cluster.log()))
    };
    let node = await_node("blocks of both families", &|node| node["spec"]["podCIDRs"][1].is_string());
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.42.0.0/26", "fd00:10:42::/64"]));
    let condition = |status: &str| {
        json!({ "conditions": [{
            "type": "NetworkUnavailable", "status": status, "reason": "Test", "message": "of the bench",
        }] })
    };
    let taint = "node.kubernetes.io/network-unavailable";
    let is_tainted = |node: &Value| {
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        taints.into_iter().any(|each| each["key"] == taint)
    };
    cluster.patch_status("/api/v1/nodes/c2", &condition("True")).unwrap();
    await_node("a taint", &is_tainted);
    cluster.patch_status("/api/v1/nodes/c2", &condition("False")).unwrap();
    await_node("no taint", &|node| !is_tainted(node));
}
