//! Kinds of neighbors: numbered, with a key, with GTSM, internal, and of another AS than expected.

use std::net::IpAddr;

use lab::{Action, Requirement, eventually};
use serde_json::Value;

use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, is_established, last_error, received, refuse_dials_to,
    times_established, tor_conf, unnumbered_conf,
};

const TOR_V4: &str = "192.0.2.1";
const NODE_V4: &str = "192.0.2.2";
const TOR_V6: &str = "2001:db8::1";
const NODE_V6: &str = "2001:db8::2";

/// Who opened the connection.
#[derive(Debug, Clone, Copy)]
enum Dialler {
    Agent,
    Tor,
}

impl Dialler {
    /// Lets only this side open connections.
    fn alone(self, link: &Link) {
        refuse_dials_to(match self {
            Self::Agent => &link.node,
            Self::Tor => &link.tor,
        });
    }

    /// That the session of FRR was opened by this side.
    fn assert_dialled(self, link: &Link, neighbor: &str) {
        let neighbor = link.frr_neighbor(neighbor);
        let port = |name: &str| neighbor.get(name).and_then(Value::as_u64).unwrap();
        match self {
            Self::Agent => assert_eq!(port("portLocal"), 179),
            Self::Tor => assert_eq!(port("portForeign"), 179),
        }
    }
}

fn number(link: &Link) {
    let ends = [(&link.node, "tor1", NODE_V4, NODE_V6), (&link.tor, "c1", TOR_V4, TOR_V6)];
    for (netns, interface, v4, v6) in ends {
        netns.add_address(interface, v4.parse().unwrap(), 24).unwrap();
        netns.add_address(interface, v6.parse().unwrap(), 64).unwrap();
    }
}

fn numbered_conf(node: &str, more: &str) -> String {
    tor_conf(node, &format!(" neighbor {node} remote-as 65001\n neighbor {node} timers connect 1\n {more}"))
}

fn gateways(action: &Action) -> Vec<IpAddr> {
    let Action::Forward(hops) = action else { panic!("{action:?}") };
    hops.iter().filter_map(|hop| hop.via).collect()
}

#[test]
fn a_numbered_ipv4_peer_carries_ipv4_and_no_ipv6() {
    let Some(mut link) = Link::lay("n4", Requirement::Frr) else { return };
    number(&link);
    link.start_frr(&numbered_conf(NODE_V4, ""));
    link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V4}\"\n"));
    link.await_established(TOR_V4);
    let route = link.await_route("4.4.4.4/32");
    assert_eq!(gateways(&route.action), [TOR_V4.parse::<IpAddr>().unwrap()]);
    assert_eq!(link.await_at_frr(&["10.1.8.192/26", "1.1.1.1/32"]), "65001");
    // There is no next hop to announce for IPv6 on an IPv4 session, so nothing is.
    let sent = link.neighbor(TOR_V4).pointer("/prefixes_by_family/ipv6-unicast/sent").cloned();
    assert_eq!(sent, Some(0.into()), "{}", link.neighbor(TOR_V4));
    let ipv6 = link.frr().best_path("fd00:10:1:8::/64".parse().unwrap()).unwrap();
    assert_eq!(ipv6, None);
    // FRR announces its own with a link-local next hop, of which nobody says on which link it is.
    let why = eventually("the IPv6 route of FRR", PATIENCE, || {
        Ok(received(&link, TOR_V4).into_iter().find(|(prefix, _)| prefix == "fd00::4/128"))
    });
    assert_eq!(why.unwrap().1, "the next hop is link-local, but the session has no link");
    assert_eq!(
        times_established(&link.neighbor(TOR_V4)),
        1,
        "the IPv6 address, still tentative at first, moved nothing"
    );
}

#[test]
fn a_numbered_ipv6_peer_carries_both_families() {
    let Some(mut link) = Link::lay("n6", Requirement::Frr) else { return };
    number(&link);
    link.start_frr(&numbered_conf(NODE_V6, &format!("neighbor {NODE_V6} capability extended-nexthop")));
    link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V6}\"\n"));
    link.await_established(TOR_V6);
    for prefix in ["4.4.4.4/32", "fd00::4/128"] {
        let route = link.await_route(prefix);
        assert!(gateways(&route.action).iter().all(IpAddr::is_ipv6), "{route}");
    }
    assert_eq!(link.await_at_frr(&BLOCKS), "65001");
    let routes = link.tor.await_routes("the node's block at the ToR", PATIENCE, |routes| {
        let block = routes.iter().find(|route| route.prefix == BLOCKS[0].parse().unwrap());
        block.is_some_and(|route| gateways(&route.action).iter().all(IpAddr::is_ipv6))
    });
    routes.unwrap();
}

#[test]
fn a_session_with_a_key_comes_up_whoever_dials() {
    for (test, dialler) in [("md5a", Dialler::Agent), ("md5t", Dialler::Tor)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        number(&link);
        dialler.alone(&link);
        let file = link.secret("key", "correct-horse\n");
        link.start_frr(&numbered_conf(NODE_V4, &format!("neighbor {NODE_V4} password correct-horse")));
        link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V4}\"\npassword-file = {file:?}\n"));
        link.await_established(TOR_V4);
        dialler.assert_dialled(&link, NODE_V4);
        link.await_route("4.4.4.4/32");
    }
}

#[test]
fn a_session_over_ipv6_with_a_key_comes_up_whoever_dials() {
    for (test, dialler) in [("md5a6", Dialler::Agent), ("md5t6", Dialler::Tor)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        number(&link);
        dialler.alone(&link);
        let file = link.secret("key", "correct-horse");
        link.start_frr(&numbered_conf(NODE_V6, &format!("neighbor {NODE_V6} password correct-horse")));
        link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V6}\"\npassword-file = {file:?}\n"));
        link.await_established(TOR_V6);
        dialler.assert_dialled(&link, NODE_V6);
    }
}

#[test]
fn with_another_key_there_is_no_session_and_the_key_is_suspected() {
    let Some(mut link) = Link::lay("md5w", Requirement::Frr) else { return };
    number(&link);
    let file = link.secret("key", "wrong\n");
    link.start_frr(&numbered_conf(NODE_V4, &format!("neighbor {NODE_V4} password right")));
    link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V4}\"\npassword-file = {file:?}\n"));
    let neighbor =
        link.await_neighbor(TOR_V4, "an error that names the key", |n| last_error(n).contains("key"));
    assert!(!is_established(&neighbor), "{neighbor}");
    assert_eq!(neighbor.get("times_established"), Some(&0.into()));
    assert!(!neighbor.to_string().contains("wrong"), "a secret is shown: {neighbor}");
    // The right key in the same file, and the session comes up: the file is read again with the rest.
    std::fs::write(&file, "right\n").unwrap();
    link.agent().bgpctl(&["reload"]).unwrap();
    link.await_established(TOR_V4);
}

#[test]
fn a_session_with_gtsm_comes_up_whoever_dials() {
    for (test, dialler) in [("gtsma", Dialler::Agent), ("gtsmt", Dialler::Tor)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        dialler.alone(&link);
        link.start_frr(&tor_conf(
            "c1",
            " neighbor c1 interface remote-as external\n neighbor c1 timers connect 1\n neighbor c1 ttl-security hops 1",
        ));
        link.start_agent(&format!("{UNNUMBERED}ttl-security = true\n"));
        link.await_established("tor1");
        dialler.assert_dialled(&link, "c1");
        link.await_route("4.4.4.4/32");
        link.await_at_frr(&BLOCKS);
    }
}

#[test]
fn a_numbered_session_with_gtsm_comes_up_whoever_dials() {
    for (test, dialler) in [("gtsm4a", Dialler::Agent), ("gtsm4t", Dialler::Tor)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        number(&link);
        dialler.alone(&link);
        link.start_frr(&numbered_conf(NODE_V4, &format!("neighbor {NODE_V4} ttl-security hops 1")));
        link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V4}\"\nttl-security = true\n"));
        link.await_established(TOR_V4);
        dialler.assert_dialled(&link, NODE_V4);
        link.await_route("4.4.4.4/32");
    }
}

#[test]
fn an_ipv6_peer_without_extended_next_hops_is_told_ipv6_alone() {
    let Some(mut link) = Link::lay("n6no", Requirement::Frr) else { return };
    number(&link);
    link.start_frr(&numbered_conf(NODE_V6, ""));
    link.start_agent(&format!("[[neighbor]]\naddress = \"{TOR_V6}\"\n"));
    link.await_established(TOR_V6);
    link.await_route("fd00::4/128");
    link.await_at_frr(&["fd00:10:1:8::/64"]);
    let neighbor = link.neighbor(TOR_V6);
    assert_eq!(neighbor.pointer("/prefixes_by_family/ipv4-unicast/sent"), Some(&0.into()), "{neighbor}");
    // FRR announces its own with the IPv4 address of the link for a next hop, which is a usable one.
    let route = link.await_route("4.4.4.4/32");
    assert_eq!(gateways(&route.action), [TOR_V4.parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_peer_that_sends_with_hop_limit_1_gets_no_session_with_gtsm() {
    for (test, dialler) in [("ttla", Dialler::Agent), ("ttlt", Dialler::Tor)] {
        let Some(mut link) = Link::lay(test, Requirement::Frr) else { return };
        dialler.alone(&link);
        link.start_frr(&unnumbered_conf());
        link.start_agent(&format!("{UNNUMBERED}ttl-security = true\n"));
        eventually("packets of the ToR are dropped", PATIENCE, || {
            Ok((dropped_for_hop_limit(&link) >= 5).then_some(()))
        })
        .unwrap();
        let neighbor = link.neighbor("tor1");
        assert_eq!(neighbor.get("times_established"), Some(&0.into()), "{neighbor}");
        assert_eq!(neighbor.pointer("/messages/received/keepalive"), Some(&0.into()), "{neighbor}");
        match dialler {
            Dialler::Agent => {
                let waiting = neighbor.get("waiting_for").and_then(Value::as_str).unwrap_or_default();
                assert!(waiting.contains("OPEN") && waiting.contains("ttl-security"), "{neighbor}");
            }
            // FRR's OPEN may slip in before the accepted socket has its option; nothing after it does.
            Dialler::Tor => {}
        }
    }
}

/// `TCPMinTTLDrop` of the node's kernel.
fn dropped_for_hop_limit(link: &Link) -> u64 {
    let text = link.node.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).unwrap().unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let [names, values] = [(); 2].map(|()| lines.next().unwrap().split_ascii_whitespace());
    names.zip(values).find(|(name, _)| *name == "TCPMinTTLDrop").unwrap().1.parse().unwrap()
}

#[test]
fn an_internal_peer_carries_routes_both_ways() {
    let Some(mut link) = Link::lay("ibgp", Requirement::Frr) else { return };
    let conf = tor_conf("c1", " neighbor c1 interface remote-as internal\n neighbor c1 timers connect 1");
    link.start_frr(&conf.replace("router bgp 65004", "router bgp 65001"));
    link.start_agent(&format!("{UNNUMBERED}remote-as = \"internal\"\n"));
    let neighbor = link.await_established("tor1");
    assert_eq!(neighbor.get("kind"), Some(&"internal".into()), "{neighbor}");
    for prefix in ["4.4.4.4/32", "fd00::4/128"] {
        link.await_route(prefix);
    }
    assert_eq!(link.await_at_frr(&BLOCKS), "Local", "no AS was added");
    for block in BLOCKS {
        let block = block.parse().unwrap();
        let what = format!("{block} in the ToR's kernel");
        let has = |routes: &[lab::Route]| routes.iter().any(|route| route.prefix == block);
        link.tor.await_routes(&what, PATIENCE, has).unwrap();
    }
}

#[test]
fn a_peer_of_another_as_is_told_so_and_so_is_the_operator() {
    let Some(mut link) = Link::lay("badas", Requirement::Frr) else { return };
    link.start_frr(&unnumbered_conf());
    link.start_agent(&format!("{UNNUMBERED}remote-as = 65099\n"));
    let neighbor =
        link.await_neighbor("tor1", "an error that names the AS", |n| last_error(n).contains("peer AS"));
    assert_eq!(last_error(&neighbor), "peer AS is 65004, but remote-as is 65099");
    let text = link.agent().bgpctl(&["show", "neighbor", "tor1"]).unwrap();
    assert!(text.contains("peer AS is 65004, but remote-as is 65099"), "{text}");
    eventually("FRR was told Bad Peer AS", PATIENCE, || {
        let reason = link.frr_neighbor("c1").get("lastNotificationReason").cloned();
        Ok(reason.filter(|reason| reason.as_str().is_some_and(|text| text.contains("Bad Peer AS"))))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", link.frr_neighbor("c1")));
}

#[test]
fn a_peer_that_expects_another_as_is_quoted() {
    let Some(mut link) = Link::lay("ouras", Requirement::Frr) else { return };
    link.start_frr(&tor_conf("c1", " neighbor c1 interface remote-as 65099\n neighbor c1 timers connect 1"));
    link.start_agent(UNNUMBERED);
    let neighbor =
        link.await_neighbor("tor1", "an error that quotes FRR", |n| last_error(n).contains("Bad Peer AS"));
    assert_eq!(neighbor.pointer("/last_notification/code"), Some(&2.into()), "{neighbor}");
    assert_eq!(neighbor.pointer("/last_notification/subcode"), Some(&2.into()), "{neighbor}");
}
