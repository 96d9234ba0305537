//! A node whose API server is away: what the server said to an earlier run is told to the ToR, and what is missing is shown.

use lab::{Account, Requirement, eventually};
use serde_json::Value;

use super::fixture::{BLOCKS, Link, PATIENCE, UNNUMBERED, config, unnumbered_conf};

/// Nobody listens there.
const KUBECONFIG: &str = r#"apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: agent, user: {token: none}}]
contexts: [{name: lab, context: {cluster: lab, user: agent}}]
current-context: lab
"#;

/// One block that is this node's, one that another node has, and a range of services.
const KEPT: &str = r#"{"node":"c1","desired":{"blocks":[["10.1.9.0/26",{"source":"calico","standing":"announced","rivals":["c3"]}],["10.1.9.64/26",{"source":"calico","standing":{"owned-by":"c2"},"rivals":[]}]],"services":[["192.0.2.0/24",["external"]]]}}"#;

/// As the daemon writes it.
fn state() -> String {
    format!("selvedge-cluster-1 crc32={:08x}\n{KEPT}\n", crc32fast::hash(KEPT.as_bytes()))
}

fn texts<'a>(items: &'a Value, pointer: &str) -> Vec<&'a str> {
    let items = items.as_array().into_iter().flatten();
    items.filter_map(|item| item.pointer(pointer)?.as_str()).collect()
}

#[test]
fn what_was_kept_is_announced_while_the_api_server_is_away() {
    let Some(mut link) = Link::lay("kubeaway", Requirement::Frr) else { return };
    link.start_frr(&unnumbered_conf());
    let kubeconfig = link.secret("kubeconfig", KUBECONFIG);
    let state = link.secret("cluster.json", &state());
    link.start_agent_with(&format!(
        "{}[kubernetes]\nkubeconfig = {kubeconfig:?}\nnode-name = \"c1\"\nstate = {state:?}\n[pods.calico]\n\
         [services]\nexternal = [\"192.0.2.0/24\"]\naggregate = true\n[readiness]\n",
        config(UNNUMBERED, &BLOCKS)
    ));
    link.await_established("tor1");
    link.await_at_frr(&[BLOCKS[0], BLOCKS[1], "10.1.9.0/26", "192.0.2.0/24"]);
    assert_eq!(link.frr().best_path("10.1.9.64/26".parse().unwrap()).unwrap(), None);

    let pods = eventually("the API server is away", PATIENCE, || {
        let pods = link.agent().bgpctl_json(&["show", "pods"])?;
        let is_away = pods.pointer("/kubernetes/server/is").is_some_and(|is| is == "away");
        Ok(is_away.then_some(pods))
    })
    .unwrap_or_else(|error| panic!("{error}\nlog of the agent:\n{}", link.agent().log()));
    let reason = pods.pointer("/kubernetes/server/reason").and_then(Value::as_str).unwrap();
    assert!(reason.contains("refused"), "{reason}");
    let blocks = pods.get("blocks").unwrap();
    assert_eq!(texts(blocks, "/prefix"), [BLOCKS[0], "10.1.9.0/26", "10.1.9.64/26", BLOCKS[1]]);
    assert_eq!(texts(blocks, "/source"), ["file", "calico", "calico", "file"]);
    assert_eq!(texts(blocks, "/status/is"), ["announced", "announced", "owned-by", "announced"]);
    let text = link.agent().bgpctl(&["show", "pods"]).unwrap();
    assert!(text.contains("error: c3 claims 10.1.9.0/26 as well; this node announces it\n"), "{text}");

    let services = link.agent().bgpctl_json(&["show", "services"]).unwrap();
    assert_eq!(texts(&services, "/prefix"), ["192.0.2.0/24"]);
    assert_eq!(texts(&services, "/kept/0"), ["external"]);
    let text = link.agent().bgpctl(&["show", "summary"]).unwrap();
    let away = text.lines().find(|line| line.starts_with("Kubernetes: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(away.starts_with("Kubernetes: API server away for 00:0"), "{away}");
    assert!(
        away.ends_with("; 1 block and 1 prefix of services announced; 1 problem: see `bgpctl show pods`"),
        "{away}"
    );
    // Nobody would be left to take back what the server was told.
    link.agent().write_config(&config(UNNUMBERED, &BLOCKS)).unwrap();
    let text = link.agent().bgpctl(&["reload", "--dry-run"]).unwrap();
    assert!(text.contains("take out [readiness] first"), "{text}");
}

/// A disk that hangs, played by a pipe: whoever opens it waits for the other end.
#[test]
fn a_disk_that_hangs_costs_what_was_kept_and_holds_up_neither_start_nor_end() {
    let Some(mut link) = Link::lay("kubehung", Requirement::Frr) else { return };
    link.start_frr(&unnumbered_conf());
    let kubeconfig = link.secret("kubeconfig", KUBECONFIG);
    let state = link.secret("cluster.json", "");
    std::fs::remove_file(&state).unwrap();
    nix::unistd::mkfifo(&state, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    Account::OF_AGENTS.own(&state).unwrap();
    link.start_agent_with(&format!(
        "{}[kubernetes]\nkubeconfig = {kubeconfig:?}\nnode-name = \"c1\"\nstate = {state:?}\n[pods.calico]\n",
        config(UNNUMBERED, &BLOCKS)
    ));
    link.await_established("tor1");
    link.await_at_frr(&BLOCKS);
    assert!(link.agent().log().contains("the disk does not answer within 5s"), "{}", link.agent().log());
    // The thread that reads is still there.
    assert!(link.agent_mut().terminate().unwrap().success());
}
