//! The API server of the victim's cluster, and the victim as one of its nodes: its blocks are Calico's.
//!
//! It is the one of `lab` that fails on demand, in the victim's own namespace, where no fault of the fabric reaches it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bgp::Prefix;
use lab::kubernetes::fake::FakeServer;
use lab::{Error, Host, Result, build, eventually};
use serde_json::{Value, json};

/// For what a healthy agent does within a second.
const SETTLED: Duration = Duration::from_secs(20);

pub(crate) const AFFINITIES: &str = "blockaffinities";
pub(crate) const BLOCKS: &str = "ipamblocks";
pub(crate) const POOLS: &str = "ippools";
pub(crate) const NODES: &str = "nodes";
/// All that the agent lists.
pub(crate) const KINDS: [&str; 4] = [NODES, AFFINITIES, BLOCKS, POOLS];

/// Starts it, and has the victim take its blocks from there instead of from its file. No block is withdrawn on the way.
///
/// # Errors
/// The agent does not take them.
pub(crate) fn start(victim: &Host) -> Result<FakeServer> {
    let agent = victim.agent()?;
    let server = FakeServer::start_in(&victim.netns);
    server.define("/api/v1", NODES);
    for kind in [AFFINITIES, BLOCKS, POOLS] {
        server.define("/apis/crd.projectcalico.org/v1", kind);
    }
    fill(&server, victim);
    let socket = agent.socket();
    let none = || Error::Missing("the agent's directory".to_owned());
    let directory = socket.parent().ok_or_else(none)?;
    let kubeconfig = directory.join("kubeconfig");
    fs::write(&kubeconfig, access(&server).to_string())
        .map_err(|source| Error::Io { doing: format!("write {}", kubeconfig.display()), source })?;
    let lab = build::node_configs()?.into_iter().next().ok_or_else(none)?;
    let with_both = lab + &sections(&kubeconfig, directory);
    // The blocks of the file go when those of the server are there.
    for config in [with_both.clone(), without_static(&with_both)] {
        agent.write_config(&config)?;
        agent.bgpctl(&["reload"])?;
        eventually("the blocks are Calico's", SETTLED, || {
            let pods = agent.bgpctl_json(&["show", "pods"])?;
            let is_calicos = victim.router.blocks.iter().all(|block| is_announced(&pods, *block));
            Ok(is_calicos.then_some(()))
        })?;
    }
    Ok(server)
}

/// Whether Calico's block of this network is announced.
pub(crate) fn is_announced(pods: &Value, prefix: Prefix) -> bool {
    let blocks = pods.get("blocks").and_then(Value::as_array);
    blocks.is_some_and(|blocks| {
        blocks.iter().any(|block| {
            block.get("prefix").is_some_and(|shown| *shown == prefix.to_string())
                && block.get("source").is_some_and(|source| source == "calico")
                && block.pointer("/status/is").is_some_and(|status| status == "announced")
        })
    })
}

/// All objects of the victim, again.
pub(crate) fn fill(server: &FakeServer, victim: &Host) {
    let name = victim.router.name;
    server.put(NODES, json!({ "metadata": { "name": name }, "spec": {} }));
    for block in &victim.router.blocks {
        let object = block.to_string().replace(['.', ':', '/'], "-");
        let pool = json!({ "metadata": { "name": object }, "spec": { "cidr": block.to_string() } });
        server.put(POOLS, pool);
        let owner = json!({ "cidr": block.to_string(), "affinity": format!("host:{name}") });
        server.put(BLOCKS, json!({ "metadata": { "name": object }, "spec": owner }));
        let claim =
            json!({ "cidr": block.to_string(), "node": name, "state": "confirmed", "deleted": "false" });
        server.put(AFFINITIES, json!({ "metadata": { "name": format!("{name}-{object}") }, "spec": claim }));
    }
}

fn access(server: &FakeServer) -> Value {
    let address: IpAddr = server.address.ip();
    let url = format!("http://{address}:{}", server.address.port());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "it", "cluster": { "server": url } }],
        "users": [{ "name": "we", "user": { "token": "ours" } }],
        "contexts": [{ "name": "we", "context": { "cluster": "it", "user": "we" } }],
        "current-context": "we",
    })
}

fn sections(kubeconfig: &Path, directory: &Path) -> String {
    let (kubeconfig, state) = (kubeconfig.display(), directory.join("cluster.json"));
    let state = state.display();
    format!(
        "\n[kubernetes]\nkubeconfig = \"{kubeconfig}\"\nnode-name = \"c1\"\nstate = \"{state}\"\n\n[pods.calico]\n"
    )
}

/// Less its `[pods.static]`, which has one line.
fn without_static(config: &str) -> String {
    config.lines().filter(|line| !line.starts_with("blocks = ")).map(|line| format!("{line}\n")).collect()
}
