//! What a ToR can inject, row by row: what of it the kernel of the node gets, and what is said of the rest.
//!
//! A million prefixes are a fault of the fault suite, as are attributes that are no attributes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use lab::route::PROTOCOL_BGP;
use lab::{Action, Netns, Port, Requirement, cable, eventually, output_of};
use serde_json::Value;

use super::fixture::{BLOCKS, Link, PATIENCE, config, received, times_established};
use super::speaker::{ASN, NO_HURRY, Speaker, advertise, as_path, attribute};

const OURS: &str = "it is in a prefix that originates here";
const CONNECTED: &str = "it is in a network that a link of this node is in";
const MARTIAN: &str = "nobody may announce this prefix";
const LONG: &str = "the AS path is too long";
const HOP_OURS: &str = "the next hop is this node";
const HOP_STRANGE: &str = "the next hop is not the neighbor";
const BEST: &str = "best";

/// With the ToR's own address as the next hop.
const BY_PREFIX: [(&str, &str); 28] = [
    // A default route is what a host has its ToR for; so are the halves of it, which are no more than that.
    ("0.0.0.0/0", BEST),
    ("::/0", BEST),
    ("0.0.0.0/1", BEST),
    ("128.0.0.0/1", BEST),
    ("10.1.8.192/26", OURS),
    ("10.1.8.193/32", OURS),
    ("fd00:10:1:8::/65", OURS),
    ("1.1.1.1/32", OURS),
    ("fd00::1/128", OURS),
    ("10.1.8.0/24", BEST),
    ("127.0.0.0/8", MARTIAN),
    ("127.0.0.53/32", MARTIAN),
    ("169.254.0.0/16", MARTIAN),
    ("169.254.169.254/32", MARTIAN),
    ("fe80::/10", MARTIAN),
    ("fe80::/64", MARTIAN),
    ("224.0.0.0/4", MARTIAN),
    ("ff00::/8", MARTIAN),
    // The network of a numbered uplink and that of a pod bridge, parts of them, and a network around them.
    ("192.0.2.0/24", CONNECTED),
    ("192.0.2.128/25", CONNECTED),
    ("192.0.2.2/32", CONNECTED),
    ("2001:db8:5::/64", CONNECTED),
    ("10.88.0.0/16", CONNECTED),
    ("10.88.0.7/32", CONNECTED),
    ("fd00:88::/64", CONNECTED),
    ("192.0.0.0/22", BEST),
    ("10.88.0.0/15", BEST),
    // Becomes a network of a link later on.
    ("10.99.7.0/24", BEST),
];

fn ip(netns: &Netns, words: &str) {
    let mut command = netns.command("ip");
    command.args(words.split(' '));
    output_of(command).unwrap();
}

/// The agent's own routes, blackholes left out.
fn learned(link: &Link) -> Vec<String> {
    let routes = link.node.routes().unwrap().into_iter();
    let learned = routes.filter(|route| route.protocol == PROTOCOL_BGP && route.action != Action::Blackhole);
    learned.map(|route| route.prefix.to_string()).collect()
}

fn await_learned(link: &Link, prefix: &str, is_there: bool) {
    let what = format!("{prefix} of the agent in the kernel: {is_there}");
    eventually(&what, PATIENCE, || {
        Ok((learned(link).iter().any(|found| found == prefix) == is_there).then_some(()))
    })
    .unwrap_or_else(|error| {
        let shown = [&["show", "neighbor", "tor1", "received"][..], &["show", "rib", prefix]]
            .map(|words| link.agent().bgpctl(words).unwrap_or_default());
        panic!("{error}\n{}\n{:?}\n{}", shown.join("\n"), link.node.routes(), link.agent().log())
    });
}

/// A node with a numbered uplink and a pod bridge, the agent on it, and a ToR that a test speaks for.
fn up(test: &str) -> Option<(Link, Speaker)> {
    let mut link = Link::lay(test, Requirement::Root)?;
    cable(Port { netns: &link.node, name: "pods" }, Port { netns: &link.tor, name: "pods" }).unwrap();
    link.node.set_up("pods").unwrap();
    for (interface, address, length) in [
        ("tor1", "192.0.2.2", 24),
        ("tor1", "2001:db8:5::2", 64),
        ("pods", "10.88.0.1", 16),
        ("pods", "fd00:88::1", 64),
    ] {
        link.node.set_sysctl(&format!("ipv6/conf/{interface}/accept_dad"), 0).unwrap();
        link.node.add_address(interface, address.parse().unwrap(), length).unwrap();
    }
    link.start_agent_with(&config(&format!("{NO_HURRY}[[neighbor]]\ninterface = \"tor1\"\n"), &BLOCKS));
    let speaker = Speaker::establish(&link);
    link.await_established("tor1");
    Some((link, speaker))
}

/// Waits until so many prefixes were received.
fn await_received(link: &Link, count: usize) -> Value {
    link.await_neighbor("tor1", &format!("{count} prefixes"), |neighbor| {
        neighbor.pointer("/prefixes/received").and_then(Value::as_u64) == u64::try_from(count).ok()
    })
}

/// What is shown of each prefix, what is counted, and what the kernel has, against the table.
fn assert_judged(link: &Link, rows: &[(&str, &str)]) {
    let neighbor = await_received(link, rows.len());
    let received = received(link, "tor1");
    let mut counts = BTreeMap::<&str, u64>::new();
    for (prefix, expected) in rows {
        let row = received.iter().find(|(found, _)| found == prefix);
        assert_eq!(row.map(|(_, why)| why.as_str()), Some(*expected), "{prefix} of {received:?}");
        await_learned(link, prefix, *expected == BEST);
        if *expected != BEST {
            *counts.entry(expected).or_default() += 1;
        }
    }
    let shown = link.agent().bgpctl_json(&["show", "policy", "tor1"]).unwrap();
    let guard = shown.pointer("/neighbors/0/import/guard").and_then(Value::as_array).unwrap();
    for (reason, count) in counts {
        assert_eq!(
            neighbor.pointer("/refused").and_then(|all| all.get(reason)?.as_u64()),
            Some(count),
            "{neighbor}"
        );
        let rule = guard.iter().find(|rule| rule.get("reason").and_then(Value::as_str) == Some(reason));
        let hits = rule.and_then(|rule| rule.get("hits")?.as_u64());
        assert!(hits >= Some(count), "{reason}: {hits:?} of {count}");
    }
    assert_eq!(times_established(&neighbor), 1);
}

#[test]
fn prefixes_are_judged_by_what_this_node_is_and_has() {
    let Some((link, mut tor)) = up("injectp") else { return };
    let all: Vec<_> = BY_PREFIX.iter().map(|(prefix, _)| *prefix).collect();
    tor.announce(&all, &[link.tor_link_local()], &[]);
    assert_judged(&link, &BY_PREFIX);
    let text = link.agent().bgpctl(&["show", "policy"]).unwrap();
    assert!(text.contains(CONNECTED), "{text}");

    // The networks follow the addresses.
    ip(&link.node, "address add 10.99.0.1/16 dev pods");
    await_learned(&link, "10.99.7.0/24", false);
    ip(&link.node, "address del 10.99.0.1/16 dev pods");
    await_learned(&link, "10.99.7.0/24", true);
    ip(&link.node, "link delete pods");
    await_learned(&link, "10.88.0.7/32", true);
    assert_eq!(times_established(&link.neighbor("tor1")), 1);
}

#[test]
fn next_hops_are_the_neighbors_own() {
    let Some((link, mut tor)) = up("injectn") else { return };
    let (own, ours) = (link.tor_link_local(), link.node_link_local());
    let v6 = |text: &str| -> Ipv6Addr { text.parse().unwrap() };
    let other = v6("fe80::dead:beef");
    let rows: [(&str, &[Ipv6Addr], &str); 11] = [
        ("20.0.0.0/24", &[own], BEST),
        ("2001:db8:20::/48", &[v6("2001:db8:9::1"), own], BEST),
        ("20.0.1.0/24", &[ours], HOP_OURS),
        ("2001:db8:21::/48", &[v6("fd00::1"), own], HOP_OURS),
        ("2001:db8:22::/48", &[v6("fd00::1")], HOP_OURS),
        ("20.0.2.0/24", &[other], HOP_STRANGE),
        ("2001:db8:23::/48", &[v6("2001:db8:9::1"), other], HOP_STRANGE),
        // Another node, and a pod of this one.
        ("2001:db8:24::/48", &[v6("fd00::2")], HOP_STRANGE),
        ("2001:db8:25::/48", &[v6("fd00:10:1:8::1")], HOP_STRANGE),
        // On the numbered link.
        ("2001:db8:26::/48", &[v6("2001:db8:5::7")], BEST),
        ("20.0.3.0/24", &[v6("2001:db8:5::7")], BEST),
    ];
    for (prefix, next_hop, _) in rows {
        tor.announce(&[prefix], next_hop, &[]);
    }
    let classic = [
        ("20.1.0.0/24", [1, 1, 1, 1], HOP_OURS),
        ("20.1.1.0/24", [2, 2, 2, 2], HOP_STRANGE),
        ("20.1.2.0/24", [10, 1, 8, 193], HOP_STRANGE),
        ("20.1.3.0/24", [192, 0, 2, 7], BEST),
    ];
    for (prefix, next_hop, _) in classic {
        tor.announce_ipv4(&[prefix], next_hop);
    }
    let rows = rows.map(|(prefix, _, expected)| (prefix, expected));
    let classic = classic.map(|(prefix, _, expected)| (prefix, expected));
    assert_judged(&link, &[&rows[..], &classic[..]].concat());

    // A next hop is judged anew when its network goes, wherever its prefix is.
    ip(&link.node, "address del 192.0.2.2/24 dev tor1");
    await_learned(&link, "20.1.3.0/24", false);
    // The kernel has taken this one, too, as its link has no IPv4 address left.
    await_learned(&link, "20.0.3.0/24", true);
    ip(&link.node, "address add 192.0.2.2/24 dev tor1");
    await_learned(&link, "20.1.3.0/24", true);
}

#[test]
fn long_lists_and_a_storm_of_refreshes_are_borne() {
    const ASKED: usize = 20_000;
    let Some((link, mut tor)) = up("injects") else { return };
    let own = [link.tor_link_local()];
    // As much as a message of 4096 octets holds.
    let path: Vec<[u8; 4]> = std::iter::once(ASN).chain(std::iter::repeat_n([0, 0, 0xfe, 1], 980)).collect();
    tor.announce(&["20.0.0.0/24"], &own, &as_path(&path));
    let communities: Vec<u8> =
        (0..980_u16).flat_map(|number| [&ASN[2..], &number.to_be_bytes()].concat()).collect();
    tor.announce(&["20.0.1.0/24"], &own, &attribute(0xc0, 8, &communities));
    let rows = [("20.0.0.0/24", LONG), ("20.0.1.0/24", BEST)];
    assert_judged(&link, &rows);

    let answers = tor.refresh(ASKED);
    assert!((1..=ASKED).contains(&answers), "{answers}");
    println!("{ASKED} requests for a refresh had {answers} answers");
    let memory = link.agent().bgpctl_json(&["show", "memory"]).unwrap();
    let parts = memory.get("parts").and_then(Value::as_array).into_iter().flatten();
    for part in parts
        .filter(|part| part.get("user").and_then(Value::as_str).is_some_and(|user| user.contains("buffers")))
    {
        assert!(part.get("octets").and_then(Value::as_u64) < Some(1 << 20), "{part}");
    }
    tor.announce(&["20.0.2.0/24"], &own, &[]);
    assert_judged(&link, &[&rows[..], &[("20.0.2.0/24", BEST)]].concat());
}

/// The kernel takes nothing from the advertisements by which the agent finds its neighbor.
#[test]
fn advertisements_configure_nothing() {
    const PREFIX: &str = "2001:db8:bad:";
    let Some((link, _tor)) = up("injectra") else { return };
    // MTU 1280; a prefix for autonomous addresses, on the link; a route to everything of high preference (RFC 4191).
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0).octets();
    let times = [0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0];
    let options =
        [&[5, 1, 0, 0, 0, 0, 5, 0][..], &[3, 4, 64, 0xc0], &times, &prefix, &[24, 1, 0, 8, 0, 0, 7, 8]]
            .concat();
    let heard = || {
        let interfaces = link.agent().bgpctl_json(&["show", "interfaces"]).unwrap();
        let all = interfaces.pointer("/interfaces").and_then(Value::as_array).unwrap().clone();
        let uplink = all.into_iter().find(|one| one.get("name").is_some_and(|name| name == "tor1")).unwrap();
        uplink.pointer("/discovery/advertisements_received").and_then(Value::as_u64).unwrap()
    };
    let taken = || {
        let mut command = link.node.command("ip");
        command.args(["-6", "address", "show", "dev", "tor1"]);
        let addresses = output_of(command).unwrap();
        let mut command = link.node.command("ip");
        command.args(["-6", "route", "show", "proto", "ra"]);
        let routes = output_of(command).unwrap();
        let mtu = link.node.sysctl("ipv6/conf/tor1/mtu").unwrap();
        (addresses.contains(PREFIX), !routes.trim().is_empty(), mtu)
    };
    let from = link.tor_link_local();
    let before = heard();
    advertise(&link.tor, "c1", from, &options);
    // The kernel has looked at it before the agent has.
    eventually("the agent hears it", PATIENCE, || Ok((heard() > before).then_some(()))).unwrap();
    assert_eq!(taken(), (false, false, "1500".to_owned()));
    assert_eq!(times_established(&link.neighbor("tor1")), 1);

    // A node that is not looked after takes all of it.
    link.node.set_sysctl("ipv6/conf/tor1/accept_ra", 2).unwrap();
    advertise(&link.tor, "c1", from, &options);
    eventually("the kernel takes it", Duration::from_secs(20), || {
        Ok((taken() == (true, true, "1280".to_owned())).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", taken()));
}
