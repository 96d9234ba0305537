//! Which neighbors there are, and where, for given snapshots.

use super::*;
use crate::config::parse;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn config(neighbors: &str) -> Config {
    parse(&format!("[bgp]\nlocal-as = 65001\nrouter-id = \"1.1.1.1\"\n{neighbors}"), "test.toml").unwrap()
}

/// A link that is up and has its link-local address.
pub(in crate::agent) fn link(index: u32, name: &str, addresses: &[&str]) -> Interface {
    Interface {
        index: InterfaceIndex(index),
        name: name.to_owned(),
        admin_up: true,
        carrier: true,
        carrier_changes: 1,
        loopback: false,
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        link_local: Some("fe80::ffff".parse().unwrap()),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn interfaces(links: impl IntoIterator<Item = Interface>) -> Interfaces {
    Interfaces { by_index: links.into_iter().map(|link| (link.index, link)).collect() }
}

fn names(config: &Config, interfaces: &Interfaces) -> Vec<String> {
    wanted(config, interfaces).keys().map(ToString::to_string).collect()
}

/// The target of the only neighbor of a configuration.
fn target_of(config: &Config, interfaces: &Interfaces, routers: &Routers) -> Option<Target> {
    let wanted = wanted(config, interfaces);
    let (name, neighbor) = wanted.first_key_value().unwrap();
    target(name, neighbor, config, interfaces, routers).ok()
}

#[test]
fn a_named_interface_is_a_neighbor_even_before_it_exists_and_a_glob_one_for_each_match() {
    let config = config(
        "[[neighbor]]\ninterface = \"ens*\"\n[[neighbor]]\ninterface = \"bond0\"\n[[neighbor]]\naddress = \"192.0.2.1\"\n",
    );
    assert_eq!(names(&config, &Interfaces::default()), ["bond0", "192.0.2.1"]);
    let lo = Interface { loopback: true, ..link(1, "lo", &[]) };
    let present = interfaces([lo, link(2, "ens3", &[]), link(3, "ens4", &[]), link(4, "cali1", &[])]);
    assert_eq!(names(&config, &present), ["bond0", "ens3", "ens4", "192.0.2.1"]);
}

#[test]
fn a_neighbor_without_a_link_is_named() {
    let config = config(
        "[[neighbor]]\ninterface = \"ens*\"\n[[neighbor]]\ninterface = \"bond0\"\n[[neighbor]]\ninterface = \"l?\"\n[[neighbor]]\naddress = \"192.0.2.1\"\n",
    );
    let lo = Interface { loopback: true, ..link(1, "lo", &[]) };
    let lines = [
        "neighbor ens*: matches no link at present",
        "neighbor bond0: there is no such link at present",
        "neighbor l?: matches no link at present",
    ];
    assert_eq!(without_link(&config, &interfaces([lo.clone()])), lines);
    assert_eq!(without_link(&config, &interfaces([lo.clone(), link(2, "ens3", &[])])), lines[1..]);
    let present = interfaces([lo, link(2, "ens3", &[]), link(3, "bond0", &[]), link(4, "l1", &[])]);
    assert!(without_link(&config, &present).is_empty());
}

#[test]
fn the_door_is_open_to_links_that_are_there_and_to_addresses() {
    let config = config(
        "[[neighbor]]\ninterface = \"ens*\"\n[[neighbor]]\ninterface = \"bond0\"\n[[neighbor]]\naddress = \"192.0.2.1\"\n",
    );
    let mut links = vec![link(2, "ens3", &[]), link(4, "cali1", &[])];
    let callers = |links: &[Interface]| {
        let interfaces = interfaces(links.iter().cloned());
        admission(&wanted(&config, &interfaces), &interfaces).callers.into_iter().collect::<Vec<_>>()
    };
    let address = Caller::Address("192.0.2.1".parse().unwrap());
    assert_eq!(callers(&links), [Caller::Link(InterfaceIndex(2)), address]);
    links.push(link(7, "bond0", &[]));
    assert_eq!(callers(&links), [Caller::Link(InterfaceIndex(2)), Caller::Link(InterfaceIndex(7)), address]);
}

#[test]
fn the_settings_of_an_exact_name_go_before_those_of_a_glob() {
    let config = config(
        "[[neighbor]]\ninterface = \"ens*\"\nmax-prefixes = 1\n[[neighbor]]\ninterface = \"ens3\"\nmax-prefixes = 2\n",
    );
    let wanted = wanted(&config, &interfaces([link(2, "ens3", &[]), link(3, "ens4", &[])]));
    let limits: Vec<u32> = wanted.values().map(|neighbor| neighbor.max_prefixes).collect();
    assert_eq!(limits, [2, 1]);
}

#[test]
fn only_unnumbered_neighbors_that_exist_are_uplinks() {
    let config = config(
        "[[neighbor]]\ninterface = \"ens3\"\n[[neighbor]]\ninterface = \"ens4\"\n[[neighbor]]\naddress = \"192.0.2.1\"\n",
    );
    let down = Interface { carrier: false, ..link(2, "ens3", &[]) };
    let present = interfaces([down, link(9, "eth0", &["192.0.2.2/24"])]);
    let uplinks = uplinks(&wanted(&config, &present), &present);
    let seen: Vec<_> =
        uplinks.iter().map(|(index, uplink)| (index.0, &*uplink.name, uplink.running)).collect();
    assert_eq!(seen, [(2, "ens3", false)]);
}

#[test]
fn an_unnumbered_neighbor_is_where_its_router_was_seen() {
    let config = config("[[neighbor]]\ninterface = \"ens3\"\n");
    let routers = Routers::from([(InterfaceIndex(2), ROUTER)]);
    let target = target_of(&config, &interfaces([link(2, "ens3", &["2001:db8::2/64"])]), &routers).unwrap();
    assert_eq!(target.remote, SocketAddr::V6(SocketAddrV6::new(ROUTER, BGP_PORT, 0, 2)));
    assert_eq!(target.interface, Some(BoundInterface { name: "ens3".to_owned(), index: InterfaceIndex(2) }));
    assert_eq!(target.global_address, Some("2001:db8::2".parse().unwrap()));
    assert_eq!(target.hop_limit, HopLimit::Link);
}

#[test]
fn an_unnumbered_neighbor_is_nowhere_while_something_is_missing() {
    let config = config("[[neighbor]]\ninterface = \"ens3\"\n");
    let routers = Routers::from([(InterfaceIndex(2), ROUTER)]);
    let ens3 = || link(2, "ens3", &[]);
    let rows = [
        ("nothing", interfaces([ens3()]), true),
        ("the interface", Interfaces::default(), false),
        ("an administrator", interfaces([Interface { admin_up: false, ..ens3() }]), false),
        ("carrier", interfaces([Interface { carrier: false, ..ens3() }]), false),
        ("a link-local address", interfaces([Interface { link_local: None, ..ens3() }]), false),
        ("its name", interfaces([Interface { name: "ens9".to_owned(), ..ens3() }]), false),
        // Deleted and made again: what was learnt by the old index is not about this link.
        ("the old link", interfaces([Interface { index: InterfaceIndex(7), ..ens3() }]), false),
    ];
    for (missing, interfaces, found) in rows {
        assert_eq!(target_of(&config, &interfaces, &routers).is_some(), found, "missing: {missing}");
    }
    assert_eq!(target_of(&config, &interfaces([ens3()]), &Routers::new()), None, "missing: a router");
}

#[test]
fn a_numbered_neighbor_is_where_the_file_says_unless_its_own_link_is_down() {
    let config = config("[[neighbor]]\naddress = \"172.17.0.1\"\n");
    let up = link(2, "ens3", &["172.17.0.2/30"]);
    let down = Interface { carrier: false, ..up.clone() };
    // Covers the address too, and has no carrier while no container runs.
    let bridge = |index| Interface { carrier: false, ..link(index, "docker0", &["172.17.0.254/16"]) };
    let found = |links: &[Interface]| {
        target_of(&config, &interfaces(links.iter().cloned()), &Routers::new()).map(|target| target.remote)
    };
    let remote = Some("172.17.0.1:179".parse().unwrap());
    assert_eq!(found(&[]), remote, "behind a router");
    assert_eq!(found(std::slice::from_ref(&up)), remote);
    assert_eq!(found(std::slice::from_ref(&down)), None);
    for index in [1, 3] {
        assert_eq!(found(&[up.clone(), bridge(index)]), remote, "the smaller network decides");
        assert_eq!(found(&[down.clone(), bridge(index)]), None);
    }
}

#[test]
fn the_hop_limit_follows_from_the_kind_of_session() {
    let rows = [
        ("", HopLimit::Link),
        ("remote-as = 65002", HopLimit::Link),
        ("remote-as = 65001", HopLimit::System),
        ("remote-as = \"internal\"", HopLimit::System),
        ("ttl-security = true", HopLimit::Gtsm),
        ("remote-as = \"internal\"\nttl-security = true", HopLimit::Gtsm),
    ];
    for (text, expected) in rows {
        let config = config(&format!("[[neighbor]]\naddress = \"192.0.2.1\"\n{text}\n"));
        let target = target_of(&config, &Interfaces::default(), &Routers::new()).unwrap();
        assert_eq!(target.hop_limit, expected, "{text}");
    }
}

#[test]
fn ipv6_next_hops_for_ipv4_routes_are_offered_over_ipv6_only() {
    for (peer, offered) in [
        ("interface = \"ens3\"", true),
        ("address = \"2001:db8::1\"", true),
        ("address = \"192.0.2.1\"", false),
    ] {
        let config = config(&format!("[[neighbor]]\n{peer}\n"));
        let wanted = wanted(&config, &Interfaces::default());
        let (name, neighbor) = wanted.first_key_value().unwrap();
        let router_id = RouterId(std::net::Ipv4Addr::new(1, 1, 1, 1));
        let session = session_config(name, neighbor, &config, router_id, Families::ALL);
        assert_eq!(session.extended_next_hop.contains(Family::Ipv4Unicast), offered, "{peer}");
        assert_eq!(session.inherited, Families::ALL);
    }
}

/// One who announces nothing keeps nothing either.
#[test]
fn graceful_restart_is_switched_off_in_both_roles() {
    for (keys, stale_time_s) in [("", 120), ("stale-time = \"7s\"", 7), ("graceful-restart = \"0s\"", 0)] {
        let text = format!("[bgp]\nlocal-as = 65001\n{keys}\n[[neighbor]]\ninterface = \"ens3\"\n");
        let config = config::parse(&text, "test.toml").unwrap();
        let wanted = wanted(&config, &Interfaces::default());
        let (name, neighbor) = wanted.first_key_value().unwrap();
        let router_id = RouterId(std::net::Ipv4Addr::new(1, 1, 1, 1));
        let session = session_config(name, neighbor, &config, router_id, Families::NONE);
        assert_eq!(session.stale_time.as_secs(), stale_time_s, "{keys}");
    }
}

#[test]
fn a_new_address_on_the_link_does_not_move_a_numbered_neighbor() {
    let config = config("[[neighbor]]\naddress = \"192.0.2.1\"\n");
    let at = |addresses: &[&str]| {
        target_of(&config, &interfaces([link(2, "ens3", addresses)]), &Routers::new()).unwrap()
    };
    // As when duplicate address detection ends while the session is up.
    assert_eq!(at(&["192.0.2.2/24"]), at(&["192.0.2.2/24", "2001:db8::2/64"]));
}

#[test]
fn what_is_in_the_way_of_a_neighbor_is_named() {
    let config = config("[[neighbor]]\ninterface = \"ens3\"\n");
    let wanted = wanted(&config, &Interfaces::default());
    let (name, neighbor) = wanted.first_key_value().unwrap();
    let up = || link(2, "ens3", &[]);
    let rows = [
        (vec![], "there is no interface ens3"),
        (vec![Interface { admin_up: false, carrier: false, ..up() }], "interface ens3 is down"),
        (vec![Interface { carrier: false, ..up() }], "no carrier on ens3"),
        (vec![Interface { link_local: None, ..up() }], "no link-local address on ens3"),
        (vec![up()], "no router was heard on ens3"),
    ];
    for (links, reason) in rows {
        let obstacle = target(name, neighbor, &config, &interfaces(links), &Routers::new()).unwrap_err();
        assert_eq!(obstacle.to_string(), reason);
    }
}

#[test]
fn a_glob_and_a_full_name_with_the_same_settings_are_as_good() {
    let settings = |text: &str| config(text).neighbors.remove(0);
    let glob = settings("[[neighbor]]\ninterface = \"tor*\"\n");
    let full = settings("[[neighbor]]\ninterface = \"tor1\"\n");
    let other = settings("[[neighbor]]\ninterface = \"tor1\"\nttl-security = true\n");
    assert!(are_as_good(&glob, &full));
    assert!(!are_as_good(&full, &other));
}

#[test]
fn a_link_is_lost_that_does_not_run_any_more_or_did_not_in_between() {
    let tor1 = || link(1, "tor1", &[]);
    let tor2 = || link(2, "tor2", &["192.0.2.7/24", "2001:db8::7/64"]);
    let before = interfaces([tor1(), tor2()]);
    let lost = |now: [Option<Interface>; 2]| -> Vec<u32> {
        let lost = lost_links(&before, &interfaces(now.into_iter().flatten()));
        lost.into_iter().map(|link| link.interface.0).collect()
    };
    let renamed = Interface { name: "up1".to_owned(), mtu: 9000, ..tor1() };
    assert_eq!(lost([Some(renamed), Some(link(2, "tor2", &[]))]), [0; 0]);
    assert_eq!(lost([Some(Interface { carrier: false, ..tor1() }), Some(tor2())]), [1]);
    assert_eq!(lost([Some(Interface { admin_up: false, ..tor1() }), None]), [1, 2]);
    assert_eq!(lost([Some(tor1()), Some(Interface { carrier_changes: 3, ..tor2() })]), [2]);
    let was_down = interfaces([Interface { carrier: false, ..tor1() }]);
    assert_eq!(lost_links(&was_down, &interfaces([])), []);
    let networks = ["192.0.2.0/24", "2001:db8::/64"].map(|text| text.parse().unwrap()).to_vec();
    assert_eq!(
        lost_links(&before, &interfaces([tor1()])),
        [LostLink { interface: InterfaceIndex(2), networks }]
    );
}
