//! Policies that come, change and go while the agent runs, beside FRR.

use lab::eventually;
use serde_json::Value;

use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, config, times_established, tor_conf_with, watch_routes,
};

const NETWORKS: [&str; 4] = ["100.64.0.0/24", "100.64.1.0/24", "100.64.2.0/24", "100.65.0.0/24"];

/// The first and the last of the networks stay out with either.
fn policies(accepted: &str) -> String {
    format!(
        "[[prefix-list]]\nname = \"fabric\"\nprefixes = [{accepted}]\n\
         [[policy]]\nname = \"in\"\n\
         [[policy.rule]]\nprefix = \"100.64.0.0/24\"\naction = \"reject\"\n\
         [[policy.rule]]\nprefix-list = \"fabric\"\norigin-as = 65004\nset-local-preference = 200\naction = \"accept\"\n\
         [[policy]]\nname = \"out\"\n\
         [[policy.rule]]\nprefix = \"{}\"\nadd-community = \"65001:7\"\nset-med = 5\nprepend = 1\naction = \"accept\"\n",
        BLOCKS[0]
    )
}

fn reload(link: &Link, policies: &str, keys: &str) {
    link.agent().write_config(&config(&format!("{policies}{UNNUMBERED}{keys}"), &BLOCKS)).unwrap();
    link.agent().bgpctl(&["reload"]).unwrap();
}

fn rule_hits(link: &Link, direction: &str) -> Vec<u64> {
    let shown = link.agent().bgpctl_json(&["show", "policy", "tor1"]).unwrap();
    let rules = shown.pointer(&format!("/neighbors/0/{direction}/policy/rules")).and_then(Value::as_array);
    rules.into_iter().flatten().filter_map(|rule| rule.get("hits")?.as_u64()).collect()
}

#[test]
fn policies_change_without_a_reset_and_without_touching_routes_that_stay() {
    let networks: Vec<&str> = NETWORKS.into_iter().chain(["4.4.4.4/32", "fd00::4/128"]).collect();
    let conf = tor_conf_with("c1", " neighbor c1 interface remote-as external", &networks);
    let Some(link) = Link::up("policy", &conf, UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    NETWORKS.iter().for_each(|network| drop(link.await_route(network)));

    let watch = watch_routes(&link.node, &link.scratch);
    reload(&link, &policies("\"100.64.0.0/22 le 24\""), "import = \"in\"\nexport = \"out\"\n");
    link.await_no_route(NETWORKS[0]);
    link.await_no_route(NETWORKS[3]);
    eventually("FRR has what is told from now on", PATIENCE, || {
        let shown = link.frr().vtysh_json(&format!("show bgp ipv4 unicast {} json", BLOCKS[0]))?;
        let path = shown.pointer("/paths/0").cloned().unwrap_or_default();
        let text = |pointer| path.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_changed = text("/community/string") == "65001:7"
            && text("/aspath/string") == "65001 65001"
            && path.get("metric").and_then(Value::as_u64) == Some(5);
        Ok(is_changed.then_some(()))
    })
    .unwrap();
    eventually("the other block is gone", PATIENCE, || {
        Ok(link.frr().best_path(BLOCKS[1].parse().unwrap())?.is_none().then_some(()))
    })
    .unwrap();
    assert!(rule_hits(&link, "import").iter().all(|hits| *hits > 0), "{:?}", rule_hits(&link, "import"));
    assert_eq!(rule_hits(&link, "export").len(), 1);

    let text = link.agent().bgpctl(&["show", "policy"]).unwrap();
    assert!(text.contains("Import, policy in\n") && text.contains("at the end: reject\n"), "{text}");
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1", "received"]).unwrap();
    let line =
        |network: &str| text.lines().find(|line| line.contains(network)).unwrap_or_default().to_owned();
    assert!(line(NETWORKS[0]).ends_with("import policy rejects it  in 1: action = \"reject\""), "{text}");
    assert!(line(NETWORKS[1]).ends_with("in 2: set-local-preference = 200, action = \"accept\""), "{text}");
    assert!(line(NETWORKS[3]).ends_with("import policy rejects it  in at the end: reject"), "{text}");

    // The list grows by what the end of the policy has rejected.
    reload(&link, &policies("\"100.64.0.0/15 le 24\""), "import = \"in\"\nexport = \"out\"\n");
    link.await_route(NETWORKS[3]);
    // All is taken back.
    reload(&link, "", "");
    link.await_route(NETWORKS[0]);
    link.await_at_frr(&BLOCKS);
    let seen = watch.stop(&link.node);
    for network in [NETWORKS[1], NETWORKS[2]] {
        assert!(!seen.contains(network), "{network} was touched:\n{seen}");
    }
    assert!(seen.contains(NETWORKS[0]) && seen.contains(NETWORKS[3]), "the watch is blind:\n{seen}");
    assert_eq!(times_established(&link.neighbor("tor1")), 1, "{}", link.agent().log());
}
