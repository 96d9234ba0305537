//! A life with everything that has to do with Kubernetes, traced: the unit of systemd leaves it enough system calls, and the
//! folders that it writes to.

use std::fs;
use std::path::PathBuf;

use lab::kubernetes::CALICO_V1;
use lab::{Account, Agent, Controllers, can_run, eventually};
use serde_json::{Value, json};

use super::deploy::apply;
use super::fixture::{Bench, PATIENCE};
use crate::trace::{REQUIREMENTS, Trace, Unit};

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: c1}
spec: {podCIDRs: [10.42.1.0/26, 'fd00:10:42:1::/64'], podCIDR: 10.42.1.0/26}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {externalIPs: [198.51.100.1], ports: [{port: 80}]}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.1.0.0/16, ipipMode: Never, vxlanMode: Never}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: c1-10-1-8-192-26}
spec: {cidr: 10.1.8.192/26, node: c1, state: confirmed, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-1-8-192-26}
spec: {cidr: 10.1.8.192/26, affinity: 'host:c1', allocations: [], unallocated: [], attributes: []}
";

/// The folders of a host, as the unit has them, in one of the lab.
struct Root(PathBuf);

impl Root {
    fn make(bench: &Bench) -> Self {
        let root = bench.scratch.directory("root").unwrap();
        // What systemd makes, what the guide says of /etc/cni/net.d, and what nobody but root writes to.
        for (folder, is_the_daemons) in [
            ("run/selvedge", true),
            ("var/lib/selvedge", true),
            ("etc/cni/net.d", true),
            ("etc/selvedge", false),
        ] {
            let folder = bench.scratch.directory(&format!("root/{folder}")).unwrap();
            if is_the_daemons {
                Account::OF_AGENTS.own(&folder).unwrap();
            }
        }
        Self(root)
    }

    fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn config(&self, sections: &str) -> String {
        format!(
            "[bgp]\nlocal-as = 65001\nrouter-id = '1.1.1.1'\n[[neighbor]]\ninterface = 'tor1'\n\
             [kubernetes]\nkubeconfig = {:?}\nnode-name = 'c1'\nstate = {:?}\n\
             [services]\nexternal = ['198.51.100.0/24']\n[drain]\non-cordon = true\n{sections}",
            self.join("etc/selvedge/kubeconfig"),
            self.join("var/lib/selvedge/cluster.json"),
        )
    }
}

/// As `kubeadm` writes it, with the token and the authority in files of their own.
fn write_kubeconfig(bench: &Bench, root: &Root, token: &str) {
    let folder = root.join("etc/selvedge");
    let (authority, token_file) = (folder.join("ca.crt"), folder.join("token"));
    fs::copy(bench.cluster.authority(), &authority).unwrap();
    fs::write(&token_file, token).unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": {
            "server": format!("https://{}", bench.cluster.address()), "certificate-authority": authority,
        }}],
        "users": [{ "name": "lab", "user": { "tokenFile": token_file } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
    });
    fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
}

fn await_pods(agent: &Agent, what: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(what, PATIENCE, || Ok(wanted(&agent.bgpctl_json(&["show", "pods"])?).then_some(())))
        .unwrap_or_else(|error| panic!("{error}\nlog of the agent:\n{}", agent.log()));
}

fn server_is(pods: &Value, word: &str) -> bool {
    pods.pointer("/kubernetes/server/is").is_some_and(|is| is == word)
}

fn announces(pods: &Value, block: &str) -> bool {
    let blocks = pods["blocks"].as_array().into_iter().flatten();
    blocks.into_iter().any(|shown| shown["prefix"] == block && shown["status"]["is"] == "announced")
}

fn reason_is(node: &Value, reason: &str) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["reason"] == reason)
}

#[test]
fn a_life_with_kubernetes_stays_within_what_the_unit_leaves() {
    if !can_run(&REQUIREMENTS) {
        return;
    }
    let Some(mut bench) = Bench::up("kubelife", Controllers::Absent) else { return };
    bench.cluster.define(CALICO_V1).unwrap();
    bench.cluster.apply(OBJECTS).unwrap();
    apply(&bench.cluster, "beside-calico");
    apply(&bench.cluster, "rbac/readiness");
    let token = bench.cluster.token("kube-system", "selvedge").unwrap();
    let root = Root::make(&bench);
    // Refused at first: who it is, is read again.
    write_kubeconfig(&bench, &root, "nobody's");

    let trace = Trace::new("kubelife");
    let beside_calico = root.config("[pods.calico]\n[readiness]\nisolated-for = '1s'\n");
    let run = root.join("run/selvedge");
    let mut agent = Agent::start(&bench.node, &run, "c1", &beside_calico, &trace.programs())
        .unwrap_or_else(|error| panic!("{error}"));
    await_pods(&agent, "a refusal", |pods| {
        pods.pointer("/kubernetes/refused/0/code").is_some_and(|code| *code == 401)
    });
    write_kubeconfig(&bench, &root, &token);
    await_pods(&agent, "a block", |pods| announces(pods, "10.1.8.192/26"));
    let is_isolated = |node: &Value| reason_is(node, "NoUplink");
    bench
        .cluster
        .await_object("a condition", &["node", "c1"], PATIENCE, is_isolated)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    agent.bgpctl(&["show", "services", "default/web"]).unwrap();
    bench.cluster.kubectl(&["cordon", "c1"]).unwrap();
    eventually("a cordon", PATIENCE, || {
        Ok(agent.bgpctl(&["show", "services"])?.contains("the node is cordoned").then_some(()))
    })
    .unwrap();

    // Its connections are reset, and it is found again; what is to be taken back waits for it.
    bench.cluster.kill_apiserver().unwrap();
    await_pods(&agent, "an absence", |pods| server_is(pods, "away"));
    let conflist = root.join("etc/cni/net.d/10-selvedge.conflist");
    let alone = root.config(&format!("[pods.node]\n[cni]\nfile = {conflist:?}\n"));
    agent.write_config(&alone).unwrap();
    agent.bgpctl(&["reload"]).unwrap();
    bench.cluster.start_apiserver().unwrap();
    await_pods(&agent, "a return", |pods| server_is(pods, "answers"));
    await_pods(&agent, "another block", |pods| announces(pods, "10.42.1.0/26"));
    eventually("a list of plugins", PATIENCE, || Ok(conflist.exists().then_some(())))
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    let is_unwatched = |node: &Value| reason_is(node, "UplinksNotWatched");
    bench
        .cluster
        .await_object("a farewell", &["node", "c1"], PATIENCE, is_unwatched)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    // And with what it kept.
    let state = root.join("var/lib/selvedge/cluster.json");
    let is_kept = || fs::read_to_string(&state).is_ok_and(|text| text.contains("10.42.1.0/26"));
    eventually("a state", PATIENCE, || Ok(is_kept().then_some(()))).unwrap();
    agent.kill().unwrap();
    agent.start_again(&bench.node).unwrap();
    await_pods(&agent, "its block after a crash", |pods| announces(pods, "10.42.1.0/26"));
    assert!(agent.terminate().unwrap().success());

    Unit::shipped().assert_allows(&trace.calls(), &[(root.0, "/")]);
}
