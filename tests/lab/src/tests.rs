//! The lab's own parts, against the real kernel and the real FRR.

use std::net::IpAddr;
use std::time::Duration;

use bgp::{Asn, Prefix};

use super::*;
use crate::route::PROTOCOL_STATIC;

const LIMIT: Duration = Duration::from_secs(20);

fn scratch(test: &str) -> Scratch {
    Scratch::create(&format!("{test}-{}", std::process::id())).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Two namespaces with a cable `x` to `y` that is up.
fn pair(scratch: &mut Scratch) -> (Netns, Netns) {
    let (a, b) = (scratch.netns("a").unwrap(), scratch.netns("b").unwrap());
    cable(Port { netns: &a, name: "x" }, Port { netns: &b, name: "y" }).unwrap();
    a.set_up("x").unwrap();
    b.set_up("y").unwrap();
    (a, b)
}

#[test]
fn a_cable_carries_pings_of_both_families_until_it_is_cut() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let mut scratch = scratch("cable");
    let (a, b) = pair(&mut scratch);
    for (v4, v6, netns, interface) in [("10.0.0.1", "fd00::1", &a, "x"), ("10.0.0.2", "fd00::2", &b, "y")] {
        netns.set_sysctl(&format!("ipv6/conf/{interface}/accept_dad"), 0).unwrap();
        netns.add_address(interface, ip(v4), 24).unwrap();
        netns.add_address(interface, ip(v6), 64).unwrap();
        netns.await_link_local(interface, LIMIT).unwrap();
    }
    for to in [ip("10.0.0.2"), ip("fd00::2")] {
        let outcome = Ping::new(to).once(&a, LIMIT).unwrap();
        assert!(matches!(outcome, Outcome::Reply(_)), "{to}: {outcome:?}");
        let whole = Ping::new(to).whole_packet(1500).once(&a, LIMIT).unwrap();
        assert!(matches!(whole, Outcome::Reply(_)), "{to}: {whole:?}");
        assert_eq!(Ping::new(to).whole_packet(1501).once(&a, LIMIT).unwrap(), Outcome::TooBig, "{to}");
    }
    assert_eq!(Ping::new(ip("10.9.9.9")).once(&a, LIMIT).unwrap(), Outcome::Unreachable, "no route");

    let train = Ping::new(ip("10.0.0.2")).start(&a, Duration::from_millis(5)).unwrap();
    b.set_down("y").unwrap();
    // Time on the wire is what is measured here, and nothing announces the end of an outage that is not over.
    std::thread::sleep(Duration::from_millis(200));
    let train = train.stop().unwrap();
    assert!(!train.lost.is_empty(), "{train:?}");
}

#[test]
fn a_hop_limit_that_runs_out_is_seen() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let mut scratch = scratch("loop");
    let (a, b) = pair(&mut scratch);
    a.add_address("x", ip("10.0.0.1"), 24).unwrap();
    b.add_address("y", ip("10.0.0.2"), 24).unwrap();
    a.set_sysctl("ipv4/ip_forward", 1).unwrap();
    b.set_sysctl("ipv4/ip_forward", 1).unwrap();
    a.add_default_route(ip("10.0.0.2"), "x").unwrap();
    b.add_default_route(ip("10.0.0.1"), "y").unwrap();
    // From a third namespace: a kernel drops what comes back to it with its own source address.
    let sender = scratch.netns("sender").unwrap();
    cable(Port { netns: &sender, name: "out" }, Port { netns: &a, name: "in" }).unwrap();
    for (netns, interface, address) in [(&sender, "out", "10.0.9.2"), (&a, "in", "10.0.9.1")] {
        netns.set_up(interface).unwrap();
        netns.add_address(interface, ip(address), 24).unwrap();
    }
    sender.add_default_route(ip("10.0.9.1"), "out").unwrap();
    let outcome = Ping::new(ip("192.0.2.1")).once(&sender, LIMIT).unwrap();
    assert_eq!(outcome, Outcome::TimeExceeded);
}

#[test]
fn routes_read_as_ip_route_prints_them_and_changes_are_seen() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let mut scratch = scratch("routes");
    let (a, _b) = pair(&mut scratch);
    a.add_blackhole(prefix("10.1.8.192/26")).unwrap();
    a.add_blackhole(prefix("fd00:10:1:8::/64")).unwrap();
    a.add_host_route(ip("10.1.8.193"), "x").unwrap();
    let text: Vec<_> = a.routes().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "blackhole 10.1.8.192/26 proto static",
        "10.1.8.193 proto static metric 1024 dev x",
        "blackhole fd00:10:1:8::/64 proto static metric 1024",
    ];
    assert_eq!(text, expected);

    std::thread::scope(|scope| {
        let gone = scope.spawn(|| a.await_routes("gone", LIMIT, |now| now.len() == 2));
        a.delete_route(prefix("10.1.8.192/26")).unwrap();
        gone.join().unwrap().unwrap();
    });
}

#[test]
fn a_journal_has_every_change_of_a_route_once() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let mut scratch = scratch("journal");
    let (netns, _) = pair(&mut scratch);
    let journal = Journal::open(&netns).unwrap();
    assert_eq!(journal.changes().unwrap(), []);
    netns.add_blackhole(prefix("192.0.2.0/24")).unwrap();
    let change = Change { subject: Subject::Route, protocol: PROTOCOL_STATIC };
    assert_eq!(journal.changes().unwrap(), [change]);
    assert_eq!(journal.changes().unwrap(), []);
}

#[test]
fn what_a_killed_lab_left_is_cleared_by_the_next() {
    if !can_run(&[Requirement::Root]) {
        return;
    }
    let mut first = scratch("killed");
    let netns = first.netns("a").unwrap();
    let mut sleeper = netns.command("sleep");
    let mut sleeper = sleeper.arg("1000").spawn().unwrap();
    let path = std::path::Path::new("/run/netns").join(netns.name());

    // While the first lives, nobody touches it.
    let other = scratch("killed-other");
    assert!(path.exists() && sleeper.try_wait().unwrap().is_none());
    drop(other);

    // What a kill leaves: no destructor runs, and the kernel gives the lock free.
    std::mem::forget(netns);
    first.release_lock_as_if_killed();
    std::mem::forget(first);
    let _next = scratch("killed-next");
    assert!(!path.exists());
    assert!(!sleeper.wait().unwrap().success(), "what ran inside is killed");
}

#[test]
fn two_frrs_exchange_routes_over_an_unnumbered_link() {
    if !can_run(&[Requirement::Root, Requirement::Frr]) {
        return;
    }
    let mut scratch = scratch("frr");
    let (a, b) = pair(&mut scratch);
    let config = |name: &str, asn, interface: &str, id: &str| FrrConfig {
        hostname: name.to_owned(),
        asn: Asn(asn),
        router_id: id.parse().unwrap(),
        interfaces: vec![interface.to_owned()],
        networks: vec![prefix(id)],
        transit: Transit::Provided,
        source: None,
    };
    let left =
        Frr::start(&a, &scratch.directory("a").unwrap(), &config("left", 65001, "x", "1.1.1.1")).unwrap();
    let mut right =
        Frr::start(&b, &scratch.directory("b").unwrap(), &config("right", 65002, "y", "2.2.2.2")).unwrap();
    let learned = |wanted: Option<&str>| {
        eventually("a route at the left", LIMIT, || {
            let path = left.best_path(prefix("2.2.2.2/32"))?;
            Ok((path.as_deref() == wanted).then_some(()))
        })
    };
    learned(Some("65002")).unwrap();
    a.await_routes("the route", LIMIT, |now| now.iter().any(|r| r.prefix == prefix("2.2.2.2"))).unwrap();
    right.kill_bgpd().unwrap();
    learned(None).unwrap();
    right.start_bgpd(&b).unwrap();
    learned(Some("65002")).unwrap();
}

#[test]
fn a_rack_of_frrs_converges_and_carries_plain_packets_from_pod_to_pod() {
    if !can_run(&[Requirement::Root, Requirement::Frr]) {
        return;
    }
    let name = format!("rack-{}", std::process::id());
    let rack = Rack::up(RackOptions { name, nodes: NodeDaemon::Frr, tors: TorDaemon::Frr }).unwrap();
    let (from, to) = (rack.pod(0, 0).unwrap(), rack.pod(1, 1).unwrap());
    let captures = ["tor1", "tor2"].map(|uplink| Capture::start(&rack.nodes[0].netns, uplink).unwrap());
    for address in &to.addresses {
        let outcome = Ping::new(*address).whole_packet(1500).once(&from.netns, LIMIT).unwrap();
        assert!(matches!(outcome, Outcome::Reply(_)), "{address}: {outcome:?}");
    }
    let frames: Vec<_> = captures.into_iter().flat_map(Capture::stop).collect();
    for (source, destination) in from.addresses.iter().zip(&to.addresses) {
        let plain = frames
            .iter()
            .filter_map(|frame| frame.ip)
            .any(|ip| ip.source == *source && ip.destination == *destination && ip.length == 1500);
        assert!(plain, "no plain packet of 1500 octets from {source} to {destination}");
    }
    // An address of a block that no pod has: the blackhole of its node swallows it.
    for absent in rack.nodes[1].router.pod_addresses(10) {
        let outcome = Ping::new(absent).once(&from.netns, Duration::from_millis(300)).unwrap();
        assert!(matches!(outcome, Outcome::Timeout | Outcome::Unreachable), "{absent}: {outcome:?}");
    }
}
