//! What can happen to the link under a session: a second router, another router, a new interface.

use std::time::{Duration, Instant};

use lab::{Action, Frr, Netns, Port, Requirement, Scratch, cable, eventually};
use serde_json::Value;

use super::fixture::{
    Link, PATIENCE, UNNUMBERED, connect, find, forward, is_established, times_established, unnumbered_conf,
};

/// The hold time is 9 s, and what follows takes a second or two; the rest is for a loaded machine.
const REPLACED: Duration = Duration::from_secs(20);

/// A node and two ToRs on one switch, so that nobody's carrier depends on anybody else.
struct Switched {
    link: Link,
    second: Option<Frr>,
    second_tor: Netns,
    _switch: Netns,
    directories: Scratch,
}

impl Switched {
    /// The agent runs on the node, and nothing on the ToRs yet.
    fn lay(test: &str) -> Option<Self> {
        let link = Link::lay(test, Requirement::Frr)?;
        let mut directories = Scratch::create(&format!("{test}x-{}", std::process::id())).unwrap();
        let switch = directories.netns("switch").unwrap();
        let second_tor = directories.netns("tor2").unwrap();
        forward(&second_tor);
        for address in ["5.5.5.5", "fd00::5"] {
            let address: std::net::IpAddr = address.parse().unwrap();
            second_tor.add_address("lo", address, bgp::Prefix::host(address).length()).unwrap();
        }
        link.node.delete_link("tor1").unwrap();
        let plugs = [(&link.node, "tor1", "p0"), (&link.tor, "c1", "p1"), (&second_tor, "c1", "p2")];
        for (netns, name, port) in plugs {
            cable(Port { netns, name }, Port { netns: &switch, name: port }).unwrap();
        }
        // Its own multicast snooping would keep solicitations from routers that have not spoken yet.
        switch.add_bridge("br0", &["p0", "p1", "p2"]).unwrap();
        for (netns, name, _) in plugs {
            netns.set_up(name).unwrap();
            netns.await_link_local(name, PATIENCE).unwrap();
        }
        Some(Self { link, second: None, second_tor, _switch: switch, directories })
    }

    fn start_second(&mut self) {
        let directory = self.directories.directory("tor2").unwrap();
        let conf = unnumbered_conf().replace("65004", "65005").replace("4.4.4.4", "5.5.5.5");
        let conf = conf.replace("fd00::4", "fd00::5");
        self.second = Some(Frr::start_with(&self.second_tor, &directory, "hostname tor2\n", &conf).unwrap());
    }

    fn alarms(&self) -> Vec<String> {
        let interfaces = self.link.agent().bgpctl_json(&["show", "interfaces"]).unwrap();
        let all = interfaces.pointer("/interfaces").and_then(serde_json::Value::as_array).unwrap();
        let uplink =
            all.iter().find(|interface| interface.pointer("/name").is_some_and(|name| name == "tor1"));
        let alarms = uplink.unwrap().pointer("/alarms").unwrap().as_array().unwrap();
        alarms.iter().map(|alarm| alarm.as_str().unwrap().to_owned()).collect()
    }
}

fn via(link: &Link, prefix: &str) -> Vec<std::net::IpAddr> {
    let Action::Forward(hops) = link.await_route(prefix).action else { panic!("{prefix}") };
    hops.iter().filter_map(|hop| hop.via).collect()
}

#[test]
fn a_second_router_on_the_link_is_ignored_and_said() {
    let Some(mut rack) = Switched::lay("second") else { return };
    rack.link.start_frr(&unnumbered_conf());
    rack.link.start_agent(UNNUMBERED);
    rack.link.await_established("tor1");
    rack.link.await_route("4.4.4.4/32");
    assert_eq!(rack.alarms(), Vec::<String>::new());
    rack.start_second();
    let first = rack.link.tor_link_local();
    let second = rack.second_tor.await_link_local("c1", PATIENCE).unwrap();
    let alarm = eventually("an alarm", PATIENCE, || Ok(rack.alarms().pop())).unwrap();
    assert_eq!(alarm, format!("two routers on this link: {first} is kept, {second} is ignored"));
    let text = rack.link.agent().bgpctl(&["show", "interfaces"]).unwrap();
    assert!(text.contains(&alarm), "{text}");
    assert_eq!(times_established(&rack.link.neighbor("tor1")), 1);
    assert_eq!(via(&rack.link, "4.4.4.4/32"), [std::net::IpAddr::V6(first)]);
}

#[test]
fn a_tor_that_is_replaced_by_another_one_is_found_again() {
    let Some(mut rack) = Switched::lay("swap") else { return };
    rack.link.start_frr(&unnumbered_conf());
    rack.link.start_agent(UNNUMBERED);
    rack.link.await_established("tor1");
    rack.link.await_route("4.4.4.4/32");
    // The first one falls silent behind the switch: no carrier is lost and no TCP connection closed.
    rack.link.tor.set_down("c1").unwrap();
    let silent = Instant::now();
    rack.start_second();
    rack.link.await_route("5.5.5.5/32");
    let took = silent.elapsed();
    println!("a replaced ToR is in use after {took:?}");
    assert!(took < REPLACED, "{took:?}");
    let second = rack.second_tor.await_link_local("c1", PATIENCE).unwrap();
    assert_eq!(via(&rack.link, "5.5.5.5/32"), [std::net::IpAddr::V6(second)]);
    assert_eq!(rack.alarms(), Vec::<String>::new(), "there is one router now");
}

#[test]
fn a_tor_with_another_mac_is_found_again() {
    let Some(link) = Link::up("mac", &unnumbered_conf(), UNNUMBERED) else { return };
    let before = link.tor_link_local();
    // As a replaced line card does it: the link goes down and comes up with another address.
    link.tor.set_down("c1").unwrap();
    link.await_no_route("4.4.4.4/32");
    // A line card takes longer to replace than FRR to see its link go.
    eventually("FRR has no session either", PATIENCE, || {
        let state = link.frr_neighbor("c1");
        Ok(state.get("bgpState").is_some_and(|state| state != "Established").then_some(()))
    })
    .unwrap();
    link.tor.set_mac("c1", [2, 0, 0, 0, 0, 77]).unwrap();
    link.tor.set_up("c1").unwrap();
    let up = Instant::now();
    let after = link.tor_link_local();
    assert_ne!(after, before);
    // For as long as the old session has not ended, the route may lead to the old address once more.
    let wanted = "4.4.4.4/32".parse().unwrap();
    link.await_routes("a route to the new address", |routes| {
        let hops = find(routes, wanted).map(|route| &route.action);
        matches!(hops, Some(Action::Forward(hops)) if hops.iter().all(|hop| hop.via == Some(after.into())))
    });
    println!("a ToR with another MAC is in use after {:?}", up.elapsed());
}

#[test]
fn a_link_local_address_of_ours_that_goes_is_replaced_by_the_next_one() {
    let Some(link) = Link::up("ownll", &unnumbered_conf(), UNNUMBERED) else { return };
    let first = link.node_link_local();
    let second: std::net::IpAddr = "fe80::77".parse().unwrap();
    link.node.add_address("tor1", second, 64).unwrap();
    let first = format!("{first}/64");
    let deleted =
        link.node.command("ip").args(["address", "delete", &first, "dev", "tor1"]).status().unwrap();
    assert!(deleted.success());
    let neighbor = link.await_neighbor("tor1", "a session from fe80::77", |neighbor| {
        neighbor.pointer("/local_address").is_some_and(|local| local == "fe80::77")
    });
    assert_eq!(times_established(&neighbor), 2);
    link.await_route("4.4.4.4/32");
    link.await_at_frr(&super::fixture::BLOCKS);
}

#[test]
fn an_uplink_that_comes_late_is_found_by_its_glob() {
    let Some(mut link) = Link::lay("late", Requirement::Frr) else { return };
    link.node.delete_link("tor1").unwrap();
    link.start_frr(&unnumbered_conf());
    link.start_agent("[[neighbor]]\ninterface = \"tor*\"\n");
    let none = link.agent().bgpctl_json(&["show", "neighbor"]).unwrap();
    assert_eq!(none.pointer("/neighbors"), Some(&serde_json::json!([])), "{none}");
    connect(&link.node, "tor1", &link.tor, "c1");
    link.await_route("4.4.4.4/32");
    // And once more, with another index and another address of the ToR.
    let index = link.node.index("tor1").unwrap();
    link.node.delete_link("tor1").unwrap();
    link.await_no_route("4.4.4.4/32");
    connect(&link.node, "tor1", &link.tor, "c1");
    assert_ne!(link.node.index("tor1").unwrap(), index);
    link.await_route("4.4.4.4/32");
    link.await_route("fd00::4/128");
    link.await_at_frr(&super::fixture::BLOCKS);
}

#[test]
fn an_uplink_by_name_is_waited_for_and_said() {
    let Some(mut link) = Link::lay("named", Requirement::Frr) else { return };
    link.node.delete_link("tor1").unwrap();
    link.start_frr(&unnumbered_conf());
    link.start_agent(UNNUMBERED);
    let neighbor = link.neighbor("tor1");
    assert_eq!(neighbor.pointer("/waiting_for"), Some(&"interface tor1, which does not exist".into()));
    connect(&link.node, "tor1", &link.tor, "c1");
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
}

/// A session that a lost link ends has not lasted; one that our own operator ends says nothing of the link.
#[test]
fn sessions_that_a_link_takes_with_it_are_counted() {
    let Some(link) = Link::up("linkflaps", &unnumbered_conf(), UNNUMBERED) else { return };
    let flaps = |link: &Link| link.neighbor("tor1").pointer("/flaps/count").and_then(Value::as_u64).unwrap();
    assert_eq!(flaps(&link), 0);
    for (end, name, expected) in [(&link.tor, "c1", 1), (&link.tor, "c1", 2), (&link.node, "tor1", 2)] {
        end.set_down(name).unwrap();
        link.await_neighbor("tor1", "no session", |neighbor| !is_established(neighbor));
        end.set_up(name).unwrap();
        link.await_established("tor1");
        assert_eq!(flaps(&link), expected, "{}", link.agent().log());
    }
    link.frr().vtysh("clear bgp *").unwrap();
    link.await_neighbor("tor1", "the next session", |neighbor| {
        is_established(neighbor) && times_established(neighbor) == 5
    });
    assert_eq!(flaps(&link), 3, "its operator's doing is shown as well");
}
