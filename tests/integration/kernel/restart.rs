//! What a run does with the nexthop objects of an earlier one.

use bgp::{Families, Family};
use selvedge::kernel::fib::{NextHops, NexthopObjects};

use super::ECMP;
use super::fixture::{
    Fib, MANY, batch, group_of_many, has_legs, in_namespace_with, ip_raw, many, route, routes_on, shows,
};

/// A foreign table, ours of another table, and ours that somebody flushed are no sign of an earlier run.
#[test]
fn an_earlier_run_is_known_by_its_routes_in_each_family() {
    in_namespace_with(NexthopObjects::Off, || async {
        let inherited = || async {
            let mut fib = Fib::start().await;
            let found = (&mut fib.inherited).await.unwrap();
            fib.stop().await;
            found
        };
        assert_eq!(inherited().await, Families::NONE);
        let foreign: String = (0..5000)
            .map(|n| format!("route add 11.{}.{}.0/24 dev ens3 proto static\n", n / 256, n % 256))
            .collect();
        batch(&foreign);
        ip_raw("route add 10.0.0.0/24 dev ens3 proto bgp table 100");
        assert_eq!(inherited().await, Families::NONE);
        ip_raw("-6 route add blackhole fd00:8::/64 proto bgp");
        assert_eq!(inherited().await, Families::from_iter([Family::Ipv6Unicast]));
        ip_raw("route add 20.0.0.0/8 dev ens3 proto bgp");
        assert_eq!(inherited().await, Families::ALL);
        ip_raw("-6 route flush proto bgp");
        assert_eq!(inherited().await, Families::from_iter([Family::Ipv4Unicast]));
    });
}

#[test]
fn a_restart_inherits_objects_and_writes_nothing() {
    in_namespace_with(NexthopObjects::On, || async {
        let fib = Fib::start().await;
        let both = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(both.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        fib.stop().await;
        let table =
            || (ip_raw("route show proto bgp"), ip_raw("-6 route show proto bgp"), ip_raw("nexthop show"));
        let before = table();
        let fib = Fib::start().await;
        fib.until("inherited", |c| c.stale == 2).await;
        for legs in [&ECMP[..1], &ECMP] {
            fib.want(both.map(|to| route(to, legs))).await;
            fib.until("taken over", |c| c.installed == 2 && c.pending == 0).await;
            assert_eq!(table(), before);
        }
        fib.converged().await;
        fib.until("taken over", |c| c.installed == 2 && c.pending == 0).await;
        assert_eq!(table(), before);
        fib.stop().await;
    });
}

#[test]
fn a_group_that_a_run_left_without_a_member_grows_under_its_routes() {
    in_namespace_with(NexthopObjects::On, || async {
        let fib = Fib::start().await;
        fib.want(many(&ECMP)).await;
        fib.installed(MANY).await;
        let group = group_of_many();
        let stay = || routes_on(&group) == MANY;
        fib.dead(&ECMP[1..]);
        shows("route show proto bgp", has_legs(MANY)).await;
        fib.stop().await;

        let before = ip_raw("nexthop show");
        let fib = Fib::start().await;
        fib.until("inherited", |c| c.stale == MANY).await;
        fib.want(many(&ECMP[..1])).await;
        fib.converged().await;
        fib.installed(MANY).await;
        assert!(stay(), "the group serves");
        assert_eq!(ip_raw("nexthop show"), before);
        fib.want(many(&ECMP)).await;
        shows("route show proto bgp", has_legs(2 * MANY)).await;
        assert!(stay(), "the group grew");
        assert_eq!(fib.counters().await.next_hops, NextHops::Objects { groups: 1, members: 2 });
        fib.stop().await;
    });
}
