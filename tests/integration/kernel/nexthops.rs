//! Nexthop objects: one for all routes that go the same way.

use super::fixture::{MANY, group_of_many, has_legs, many, routes_on};
use super::*;

#[test]
fn both_families_share_objects_and_a_route_shows_its_next_hops() {
    in_namespace_with(NexthopObjects::On, || async {
        let fib = Fib::start().await;
        fib.want([route("10.1.71.192/26", &ECMP), route("fd00:71::/64", &ECMP), route("2.2.2.2/32", &ECMP)])
            .await;
        fib.installed(3).await;
        let objects = ip_raw("nexthop show");
        let lines: Vec<&str> = objects.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 3, "{objects}");
        assert!(
            lines.iter().all(|line| line.starts_with("id 18600000") && line.ends_with("proto bgp")),
            "{objects}"
        );
        let shown = ip_raw("route show 10.1.71.192/26");
        assert!(shown.starts_with("10.1.71.192/26 nhid 18600000"), "{shown}");
        assert!(
            shown.contains("via inet6 fe80::1 dev ens3") && shown.contains("via inet6 fe80::2 dev ens4"),
            "{shown}"
        );
        assert_eq!(fib.counters().await.next_hops, NextHops::Objects { groups: 1, members: 2 });
        fib.stop().await;
    });
}

#[test]
fn failover_leaves_every_route_on_its_group_whether_link_or_session() {
    in_namespace_with(NexthopObjects::On, || async {
        let fib = Fib::start().await;
        fib.want(many(&ECMP)).await;
        fib.installed(MANY).await;
        let group = group_of_many();
        let stay = || routes_on(&group) == MANY;
        fib.dead(&ECMP[1..]);
        shows("route show proto bgp", has_legs(MANY)).await;
        // The RIB says the same, prefix by prefix; and then that the neighbor is back.
        fib.want(many(&ECMP[..1])).await;
        fib.installed(MANY).await;
        assert!(stay(), "a session was lost");
        fib.dead(&[]);
        fib.want(many(&ECMP)).await;
        shows("route show proto bgp", has_legs(2 * MANY)).await;
        assert!(stay(), "a session came back");
        // BFD says so, for whom a session is lost a little later, and is back a little later.
        fib.failed(&ECMP[1..]);
        shows("route show proto bgp", has_legs(MANY)).await;
        fib.dead(&ECMP[1..]);
        fib.failed(&[]);
        fib.want(many(&ECMP[..1])).await;
        fib.installed(MANY).await;
        shows("route show proto bgp", has_legs(MANY)).await;
        fib.dead(&[]);
        fib.want(many(&ECMP)).await;
        shows("route show proto bgp", has_legs(2 * MANY)).await;
        assert!(stay(), "BFD");
        ip("link set ens41 down");
        shows("route show proto bgp", has_legs(MANY)).await;
        fib.want(many(&ECMP[..1])).await;
        fib.installed(MANY).await;
        assert!(stay(), "a link was lost");
        fib.stop().await;
    });
}

#[test]
fn with_the_last_next_hop_routes_go_and_come_back_with_it() {
    in_namespace_with(NexthopObjects::On, || async {
        let fib = Fib::start().await;
        let both = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(both.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        fib.dead(&ECMP);
        fib.until("gone", |c| c.installed == 0 && c.pending == 2).await;
        assert_eq!(ip("route show proto bgp") + &ip("-6 route show proto bgp"), "");
        fib.dead(&ECMP[..1]);
        fib.installed(2).await;
        shows("route show proto bgp", |text| text.contains("via inet6 fe80::2 dev ens4")).await;
        fib.dead(&[]);
        shows("-6 route show proto bgp", |text| text.matches("via ").count() == 2).await;
        fib.stop().await;
    });
}

#[test]
fn who_keeps_flushing_objects_gets_next_hops_in_the_routes() {
    in_namespace_with(NexthopObjects::Auto, || async {
        let fib = Fib::start().await;
        let both = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(both.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        let deadline = Instant::now() + PATIENCE;
        while fib.counters().await.next_hops != NextHops::InLine(Some(NoObjects::Fought)) {
            assert!(Instant::now() < deadline, "{:?}", fib.counters().await);
            ip("nexthop flush protocol 186");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fib.installed(2).await;
        assert!(!ip_raw("route show proto bgp").contains("nhid"));
        assert_eq!(ip("route show proto bgp").matches("via inet6").count(), 2);
        fib.stop().await;
    });
}

#[test]
fn an_object_that_somebody_deletes_is_back() {
    in_namespace_with(NexthopObjects::Auto, || async {
        let fib = Fib::start().await;
        let both = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(both.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        let table = || (ip("route show proto bgp"), ip("-6 route show proto bgp"));
        let before = table();
        let id = |what: &str| {
            let all = ip_raw("nexthop show");
            let line = all.lines().find(|line| line.contains(what)).unwrap();
            line.split(' ').nth(1).unwrap().to_owned()
        };
        for what in ["via fe80::2", "group"] {
            ip(&format!("nexthop del id {}", id(what)));
            let deadline = Instant::now() + PATIENCE;
            while table() != before {
                assert!(Instant::now() < deadline, "{what}: {:?}", table());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(matches!(fib.counters().await.next_hops, NextHops::Objects { .. }));
        fib.stop().await;
    });
}
