//! A ToR that announces what nobody may announce.

use super::fixture::{BLOCKS, Link, UNNUMBERED, received, tor_conf_with};

const OURS: &str = "it is in a prefix that originates here";
const MARTIAN: &str = "nobody may announce this prefix";

/// What the ToR announces, and why it is refused. FRR does not let its operator announce fe80::/10: the unit tests of
/// the policy have that one.
const REFUSED: [(&str, &str); 12] = [
    ("10.1.8.192/26", OURS),
    ("10.1.8.192/27", OURS),
    ("10.1.8.200/32", OURS),
    ("1.1.1.1/32", OURS),
    ("fd00:10:1:8::/64", OURS),
    ("fd00:10:1:8::/80", OURS),
    ("127.0.0.0/8", MARTIAN),
    ("127.0.0.53/32", MARTIAN),
    ("169.254.0.0/16", MARTIAN),
    ("224.0.0.0/4", MARTIAN),
    ("240.0.0.0/4", MARTIAN),
    ("ff00::/8", MARTIAN),
];

/// What it may well announce: also a network that contains the node's block.
const TAKEN: [&str; 4] = ["0.0.0.0/0", "10.1.0.0/16", "::/0", "fd00:10:1::/48"];

#[test]
fn a_tor_cannot_take_over_the_node() {
    let networks: Vec<_> = REFUSED.iter().map(|(prefix, _)| *prefix).chain(TAKEN).collect();
    let conf = tor_conf_with("c1", " neighbor c1 interface remote-as external", &networks);
    let Some(mut link) = Link::lay("hostile", lab::Requirement::Frr) else { return };
    link.start_frr(&conf);
    link.start_agent(UNNUMBERED);
    link.await_established("tor1");
    for prefix in TAKEN {
        link.await_route(prefix);
    }
    // The last of each family has come when its End-of-RIB has: all were sent by then.
    let neighbor = link.await_neighbor("tor1", "everything that was announced", |neighbor| {
        neighbor.pointer("/prefixes/received").and_then(serde_json::Value::as_u64)
            >= u64::try_from(networks.len()).ok()
    });
    let received = received(&link, "tor1");
    for (prefix, why) in REFUSED {
        let row = received.iter().find(|(found, _)| found == prefix);
        assert_eq!(row.map(|(_, why)| why.as_str()), Some(why), "{prefix} of {received:?}");
    }
    for prefix in TAKEN {
        let row = received.iter().find(|(found, _)| found == prefix);
        assert_eq!(row.map(|(_, why)| why.as_str()), Some("best"), "{prefix} of {received:?}");
    }
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1", "received"]).unwrap();
    assert!(text.contains(OURS) && text.contains(MARTIAN), "{text}");
    assert!(neighbor.pointer("/refused").is_some(), "{neighbor}");
    // In the kernel there is of all that only what is ours.
    for route in link.node.routes().unwrap() {
        let prefix = route.prefix.to_string();
        if REFUSED.iter().any(|(refused, _)| *refused == prefix) && BLOCKS.contains(&prefix.as_str()) {
            assert_eq!(route.action, lab::Action::Blackhole, "{route}");
        } else {
            assert!(!REFUSED.iter().any(|(refused, _)| *refused == prefix), "{route}");
        }
    }
}
