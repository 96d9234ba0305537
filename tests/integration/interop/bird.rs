//! BIRD 2 as ToR over link-local addresses.

use std::time::Duration;

use lab::{Journal, Ping, Requirement, eventually};
use serde_json::Value;

use super::fixture::{BLOCKS, Link, PATIENCE, UNNUMBERED, is_established, times_established, watch_routes};

/// A ToR without unnumbered neighbors: BIRD 2.0 has to be told the address. It advertises itself as a router.
fn config(node: std::net::Ipv6Addr) -> String {
    format!(
        "log stderr all;
router id 4.4.4.4;
protocol device {{ scan time 1; }}
protocol kernel {{ graceful restart; ipv4 {{ export all; }}; }}
protocol kernel {{ graceful restart; ipv6 {{ export all; }}; }}
protocol static {{ ipv4; route 4.4.4.4/32 blackhole; }}
protocol static {{ ipv6; route fd00::4/128 blackhole; }}
protocol radv {{ interface \"c1\" {{ max ra interval 4; default lifetime 30; }}; }}
protocol bgp c1 {{
    local as 65004;
    neighbor {node}%c1 as 65001;
    connect retry time 1;
    error wait time 1, 2;
    graceful restart on;
    ipv4 {{ import all; export all; extended next hop on; }};
    ipv6 {{ import all; export all; }};
}}
"
    )
}

pub(super) fn bird_up(test: &str) -> Option<Link> {
    let mut link = Link::lay(test, Requirement::Bird)?;
    link.start_bird(&config(link.node_link_local()));
    link.start_agent(UNNUMBERED);
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.await_route("fd00::4/128");
    Some(link)
}

/// Waits until the kernel of the ToR leads to the node's blocks over the cable.
fn await_blocks_at_tor(link: &Link) {
    link.tor
        .await_routes("the node's blocks at BIRD", PATIENCE, |routes| {
            BLOCKS.iter().all(|block| lab::rack::leads_over(routes, block.parse().unwrap(), &["c1"]))
        })
        .unwrap();
}

#[test]
fn bird_and_the_agent_exchange_both_families_over_link_local_addresses() {
    let Some(link) = bird_up("bird") else { return };
    await_blocks_at_tor(&link);
    let tor = link.tor_link_local();
    for prefix in ["4.4.4.4/32", "fd00::4/128"] {
        let route = link.await_route(prefix);
        let lab::Action::Forward(hops) = &route.action else { panic!("{route}") };
        assert_eq!(hops.len(), 1, "{route}");
        assert_eq!((hops[0].via, hops[0].device.as_str()), (Some(tor.into()), "tor1"), "{route}");
    }
}

#[test]
fn bird_keeps_the_routes_of_an_agent_that_restarts() {
    let Some(mut link) = bird_up("birdgr") else { return };
    await_blocks_at_tor(&link);
    let watch = watch_routes(&link.tor, &link.scratch);
    link.restart_agent();
    link.await_established("tor1");
    // BIRD sweeps what was not announced again when End-of-RIB comes; the agent's is the last that it sends.
    link.await_neighbor("tor1", "all four routes sent", |neighbor| {
        neighbor.pointer("/prefixes/sent") == Some(&4.into())
    });
    let events = watch.stop(&link.tor);
    let touched: Vec<_> =
        events.lines().filter(|line| BLOCKS.iter().any(|block| line.contains(block))).collect();
    assert_eq!(touched, Vec::<&str>::new(), "nothing was lost meanwhile");
    await_blocks_at_tor(&link);
    let (bird, _) = link.bird();
    let state = bird.birdc("show protocols all c1").unwrap();
    assert!(state.contains("Established"), "{state}");
}

#[test]
fn a_bird_that_restarts_gracefully_costs_no_packet_and_no_write() {
    let Some(mut link) = bird_up("birdrec") else { return };
    await_blocks_at_tor(&link);
    let journal = Journal::open(&link.node).unwrap();
    let trains = ["4.4.4.4", "fd00::4"].map(|to| {
        let to: std::net::IpAddr = to.parse().unwrap();
        Ping::new(to).start(&link.node, Duration::from_millis(10)).unwrap()
    });
    let (bird, _) = link.bird();
    bird.kill().unwrap();
    let stale = |neighbor: &Value| neighbor.pointer("/stale").and_then(Value::as_u64);
    link.await_neighbor("tor1", "stale routes", |neighbor| stale(neighbor) > Some(0));
    let received = link.agent().bgpctl(&["show", "neighbor", "tor1", "received"]).unwrap();
    assert!(received.contains("\nS>  4.4.4.4/32 "), "{received}");
    let (bird, netns) = link.bird();
    bird.recover(netns).unwrap();
    link.await_neighbor("tor1", "a BIRD that has told everything again", |neighbor| {
        is_established(neighbor) && stale(neighbor) == Some(0)
    });
    for train in trains {
        let train = train.stop().unwrap();
        println!("BIRD restarted: {} of {} pings lost", train.lost.len(), train.sent);
        assert!(train.sent > 10 && train.lost.is_empty(), "{train:?}");
    }
    assert_eq!(journal.changes().unwrap(), [], "{}", link.agent().log());
}

/// It says in its OPEN that it has preserved nothing, since it was not told to recover.
#[test]
fn a_bird_that_has_lost_its_routes_is_not_believed_to_forward() {
    let Some(mut link) = bird_up("birdlost") else { return };
    let (bird, _) = link.bird();
    bird.kill().unwrap();
    let stale = |neighbor: &Value| neighbor.pointer("/stale").and_then(Value::as_u64);
    link.await_neighbor("tor1", "stale routes", |neighbor| stale(neighbor) > Some(0));
    let journal = Journal::open(&link.node).unwrap();
    let (bird, netns) = link.bird();
    bird.start_again(netns).unwrap();
    link.await_neighbor("tor1", "a BIRD that has told everything", |neighbor| {
        is_established(neighbor) && stale(neighbor) == Some(0)
    });
    link.await_route("4.4.4.4/32");
    assert_ne!(journal.changes().unwrap(), [], "its routes were taken out, and came again");
}

#[test]
fn a_bird_that_restarts_is_found_again() {
    let Some(mut link) = bird_up("birdkill") else { return };
    await_blocks_at_tor(&link);
    let (bird, netns) = link.bird();
    bird.kill().unwrap();
    bird.start_again(netns).unwrap();
    eventually("a second session", PATIENCE, || {
        Ok((times_established(&link.neighbor("tor1")) == 2).then_some(()))
    })
    .unwrap();
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    link.await_route("fd00::4/128");
    await_blocks_at_tor(&link);
}
