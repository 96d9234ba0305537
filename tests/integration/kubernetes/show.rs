//! What the operator of a node sees of a real API server: what it has, what it does not let the agent read, that it is away.

use lab::kubernetes::CALICO_V1;
use lab::{Account, Agent, Controllers, NexthopObjects, Programs, eventually};
use serde_json::{Value, json};

use super::fixture::{Bench, PATIENCE};

/// A node; an account that may read all that matters but the pools.
const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: c1}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [''], resources: [nodes, services], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
- {apiGroups: [crd.projectcalico.org], resources: [blockaffinities, ipamblocks], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent}
subjects:
- {kind: ServiceAccount, name: agent, namespace: default}
";

/// A block that two nodes claim and c1 has, and an affinity that makes no sense.
const BLOCKS: &str = "
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: c1-10-1-8-192-26}
spec: {cidr: 10.1.8.192/26, node: c1, state: confirmed, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: c2-10-1-8-192-26}
spec: {cidr: 10.1.8.192/26, node: c2, state: confirmed, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: odd}
spec: {cidr: 10.1.9.0/26, node: c1, state: undecided, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-1-8-192-26}
spec: {cidr: 10.1.8.192/26, affinity: 'host:c1', allocations: [], unallocated: [], attributes: []}
";

/// An address that may be announced, one that nothing here serves, and one that nobody allowed.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, externalIPs: [203.0.113.9], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec: {externalIPs: [198.51.100.1], ports: [{port: 53}]}
";

fn start_agent(bench: &Bench) -> Agent {
    let directory = bench.scratch.directory("c1").unwrap();
    let kubeconfig = directory.join("kubeconfig");
    let token = bench.cluster.token("default", "agent").unwrap();
    bench.cluster.write_kubeconfig(&kubeconfig, &token).unwrap();
    let config = format!(
        "[bgp]\nlocal-as = 65001\nrouter-id = \"1.1.1.1\"\n[kubernetes]\nkubeconfig = {kubeconfig:?}\n\
         node-name = \"c1\"\nstate = {:?}\n[pods.calico]\n[services]\nload-balancer = [\"192.0.2.64/26\"]\n\
         external = [\"198.51.100.0/24\"]\n",
        directory.join("cluster.json")
    );
    let programs = Programs {
        daemon: env!("CARGO_BIN_EXE_selvedge").into(),
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
        nexthop_objects: NexthopObjects::of_environment().unwrap(),
    };
    Agent::start(&bench.node, &directory, "c1", &config, &programs).unwrap()
}

/// Waits until `bgpctl show pods` says what is wanted, and gives it as text.
fn await_pods(agent: &Agent, what: &str, wanted: impl Fn(&Value) -> bool) -> String {
    let seen = eventually(what, PATIENCE, || {
        let pods = agent.bgpctl_json(&["show", "pods"])?;
        Ok(wanted(&pods).then_some(()))
    });
    let text = agent.bgpctl(&["show", "pods"]).unwrap();
    seen.unwrap_or_else(|error| panic!("{error}\n{text}\nlog of the agent:\n{}", agent.log()));
    text
}

fn server_is(pods: &Value, word: &str) -> bool {
    pods.pointer("/kubernetes/server/is").is_some_and(|is| is == word)
}

fn block_is(pods: &Value, word: &str) -> bool {
    pods.pointer("/blocks/0/status/is").is_some_and(|is| is == word)
}

#[test]
fn the_operator_sees_what_the_api_server_has_refuses_and_that_it_is_away() {
    let Some(mut bench) = Bench::up("kubeshow", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    cluster.define(CALICO_V1).unwrap();
    for objects in [OBJECTS, BLOCKS, SERVICES] {
        cluster.apply(objects).unwrap();
    }
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.80" }] } });
    cluster.patch_status("/api/v1/namespaces/default/services/web", &ingress).unwrap();
    let agent = start_agent(&bench);

    let text = await_pods(&agent, "a refusal, and a block that waits for the pools", |pods| {
        pods.pointer("/kubernetes/refused/0/rule/resource").is_some_and(|resource| resource == "ippools")
            && pods.pointer("/kubernetes/unreadable/0/name").is_some_and(|name| name == "odd")
            && block_is(pods, "pools-unknown")
    });
    let expected = [
        "Kubernetes: this is node c1; API server answers\n",
        "error: c2 claims 10.1.8.192/26 as well; this node does not announce it\n",
        "error: the API server does not let us read IPPool: ",
        "  its role (RBAC) lacks a rule with the verbs list, watch for ippools of the API group crd.projectcalico.org\n",
        "error: BlockAffinity odd makes no sense, and counts as it was before: spec.state \"undecided\" is unknown\n",
    ];
    for line in expected {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(agent.log().contains("an object makes no sense"), "{}", agent.log());

    // The rule, as it was said.
    let rule = json!([{ "op": "add", "path": "/rules/-", "value":
        { "apiGroups": ["crd.projectcalico.org"], "resources": ["ippools"], "verbs": ["list", "watch"] } }]);
    cluster.kubectl(&["patch", "clusterrole", "agent", "--type=json", "--patch", &rule.to_string()]).unwrap();
    let text = await_pods(&agent, "a block that is announced", |pods| {
        block_is(pods, "announced") && pods.pointer("/kubernetes/refused") == Some(&json!([]))
    });
    assert!(text.contains("10.1.8.192/26  Calico  yes        yes\n"), "{text}");
    assert!(text.contains("error: c2 claims 10.1.8.192/26 as well; this node announces it\n"), "{text}");

    eventually("three addresses of services", PATIENCE, || {
        let services = agent.bgpctl_json(&["show", "services"])?;
        Ok((services.as_array().map(Vec::len) == Some(3)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\nlog of the agent:\n{}", agent.log()));
    let text = agent.bgpctl(&["show", "services"]).unwrap();
    let expected = "\
Address          Service                   Kind           Policy   Announced as
192.0.2.80       default/web               load-balancer  Local    no: no endpoint here
198.51.100.1     default/dns               external       Cluster  198.51.100.1/32
203.0.113.9      default/web               external       Local    no: out of the ranges of [services] external

Addresses: 3, announced: 1; 1 prefix for all of them
Kinds that [services] has ranges for: load-balancer, external
Kubernetes: this is node c1; API server answers
";
    assert_eq!(text, expected);

    bench.cluster.kill_apiserver().unwrap();
    let text = await_pods(&agent, "a server that is away", |pods| server_is(pods, "away"));
    assert!(text.contains("API server away for 00:00:"), "{text}");
    assert!(text.contains("10.1.8.192/26  Calico  yes        yes\n"), "{text}");
    let text = agent.bgpctl(&["show", "summary"]).unwrap();
    assert!(text.contains("); 1 block and 1 prefix of services announced; 2 problems: "), "{text}");
    bench.cluster.start_apiserver().unwrap();
    await_pods(&agent, "a server that is back", |pods| {
        server_is(pods, "answers") && block_is(pods, "announced")
    });
}

#[test]
fn a_node_that_the_api_server_does_not_know_is_an_error() {
    let Some(bench) = Bench::up("kubestranger", Controllers::Absent) else { return };
    bench.cluster.define(CALICO_V1).unwrap();
    bench.cluster.apply(&OBJECTS.replace("name: c1}", "name: c7}")).unwrap();
    let agent = start_agent(&bench);
    let text = await_pods(&agent, "that there is no node", |pods| {
        pods.pointer("/kubernetes/node_absent") == Some(&Value::Bool(true))
    });
    assert!(text.contains("error: the API server has no node c1: is that the name "), "{text}");
}
