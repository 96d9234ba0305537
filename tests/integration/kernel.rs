//! `selvedge::kernel` against the real kernel. Root is needed: every test runs in an anonymous network namespace
//! of its own, on a thread of its own, which is gone with the thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, and helpers of tests")]

mod fixture;
mod nexthops;
mod pods;
mod restart;

use std::time::{Duration, Instant};

use bgp::Family;
use bgp::rib::FibChange;
use fixture::{
    Fib, OURS, PATIENCE, flush, gateways, in_namespace, in_namespace_with, index, ip, ip_raw, objects,
    prefix, route, settings, shows, uplink,
};
use selvedge::kernel::fib::{NextHops, NexthopObjects, NoObjects, Ownership, RouteState, Settings};
use selvedge::kernel::interfaces;

const ECMP: [(&str, &str); 2] = [("fe80::1", "ens3"), ("fe80::2", "ens4")];

#[test]
fn ipv4_over_two_ipv6_next_hops_with_a_preferred_source() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        fib.want([route("10.1.71.192/26", &ECMP)]).await;
        fib.installed(1).await;
        assert_eq!(
            ip("route show 10.1.71.192/26"),
            "10.1.71.192/26 proto bgp src 1.1.1.1 metric 20 \
             nexthop via inet6 fe80::1 dev ens3 weight 1 nexthop via inet6 fe80::2 dev ens4 weight 1"
        );
        fib.want([route("10.1.71.192/26", &ECMP[1..])]).await;
        fib.installed(1).await;
        let one = "10.1.71.192/26 via inet6 fe80::2 dev ens4 proto bgp src 1.1.1.1 metric 20";
        assert_eq!(ip("route show proto bgp"), one.replace("proto bgp ", ""));
        fib.want([route("10.1.71.192/26", &[])]).await;
        fib.installed(0).await;
        assert_eq!(ip("route show proto bgp"), "");
        fib.stop().await;
    });
}

#[test]
fn ipv6_over_two_next_hops_with_a_preferred_source() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let shown = |text: &str| text.replace(" pref medium", "");
        fib.want([route("fd00:71::/64", &ECMP)]).await;
        fib.installed(1).await;
        let two = "fd00:71::/64 src fd00::1 metric 20 \
                   nexthop via fe80::1 dev ens3 weight 1 nexthop via fe80::2 dev ens4 weight 1";
        assert_eq!(shown(&ip("-6 route show proto bgp")), two);
        for leg in &ECMP {
            fib.want([route("fd00:71::/64", &[*leg])]).await;
            fib.installed(1).await;
            let one = match objects() {
                NexthopObjects::Off => {
                    format!("fd00:71::/64 via {} dev {} src fd00::1 metric 20", leg.0, leg.1)
                }
                // A group of one is shown as a group.
                NexthopObjects::Auto | NexthopObjects::On => {
                    format!("fd00:71::/64 src fd00::1 metric 20 nexthop via {} dev {} weight 1", leg.0, leg.1)
                }
            };
            assert_eq!(shown(&ip("-6 route show proto bgp")), one);
        }
        fib.want([route("fd00:71::/64", &[("fe80::3", "ens3"), ("fe80::4", "ens4")])]).await;
        fib.installed(1).await;
        assert_eq!(
            shown(&ip("-6 route show proto bgp")),
            two.replace("::1 dev", "::3 dev").replace("::2 dev", "::4 dev")
        );
        fib.want([route("fd00:71::/64", &[])]).await;
        fib.installed(0).await;
        assert_eq!(ip("-6 route show proto bgp"), "");
        fib.stop().await;
    });
}

#[test]
fn a_block_is_a_blackhole_and_wins_over_what_is_learned() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        fib.blackholes(&["10.1.8.192/26", "fd00:8::/64", "10.1.9.1/32"]);
        fib.installed(2).await;
        fib.want([route("10.1.8.192/26", &ECMP), route("fd00:8::/64", &ECMP)]).await;
        fib.installed(2).await;
        assert_eq!(ip("route show proto bgp"), "blackhole 10.1.8.192/26 metric 20");
        assert_eq!(ip("-6 route show proto bgp"), "blackhole fd00:8::/64 dev lo metric 20 pref medium");
        fib.blackholes(&[]);
        shows("route show proto bgp", |text| text.starts_with("10.1.8.192/26 src 1.1.1.1 metric 20 nexthop"))
            .await;
        shows("-6 route show proto bgp", |text| text.starts_with("fd00:8::/64 src fd00::1 metric 20")).await;
        fib.stop().await;
    });
}

#[test]
fn a_foreign_route_is_never_touched_and_blocks_only_its_own_metric() {
    for (family, to) in [("-4", "10.1.71.192/26"), ("-6", "fd00:71::/64")] {
        in_namespace(move || async move {
            let v = |command: &str| ip(&format!("{family} route {command}"));
            let via = if family == "-4" { "via inet6 fe80::9" } else { "via fe80::9" };
            v(&format!("add {to} proto static metric 20 {via} dev ens3"));
            v(&format!("add {to} proto static metric 10 {via} dev ens3"));
            let foreign = v("show proto static");
            assert_eq!(foreign.lines().count(), 2);
            let fib = Fib::start().await;
            fib.want([route(to, &ECMP)]).await;
            fib.until("blocked", |counters| counters.blocked == 1).await;
            assert_eq!(fib.state(to).await, Some(RouteState::Blocked { protocol: 4 }));
            fib.want([route(to, &[])]).await;
            fib.until("idle", |counters| counters.pending == 0).await;
            fib.converged().await;
            assert_eq!(v("show proto static"), foreign);
            // The way is free as soon as it goes, and the other one stays.
            fib.want([route(to, &ECMP)]).await;
            fib.until("blocked", |counters| counters.blocked == 1).await;
            v(&format!("del {to} proto static metric 20"));
            fib.installed(1).await;
            assert_eq!(v("show proto static").lines().count(), 1);
            fib.stop().await;
        });
    }
}

#[test]
fn a_route_that_somebody_deletes_or_changes_is_back() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let all = [route("10.1.71.192/26", &ECMP), route("fd00:71::/64", &ECMP), route("2.2.2.2/32", &ECMP)];
        fib.want(all).await;
        fib.blackholes(&["10.1.8.192/26"]);
        fib.installed(4).await;
        let table = || (ip("route show proto bgp"), ip("-6 route show proto bgp"));
        let before = table();
        let disturbances = [
            "route del 10.1.71.192/26 proto bgp",
            "route del blackhole 10.1.8.192/26",
            "-6 route del fd00:71::/64 proto bgp",
            "-6 route del fd00:71::/64 via fe80::2 dev ens4 proto bgp metric 20",
            "route replace 2.2.2.2/32 proto bgp metric 20 via inet6 fe80::7 dev ens3",
            "-6 route replace fd00:71::/64 proto bgp metric 20 via fe80::7 dev ens3",
            "-6 route append fd00:71::/64 proto bgp metric 20 via fe80::7 dev ens3",
            "route append 2.2.2.2/32 proto bgp metric 20 via inet6 fe80::7 dev ens3",
        ];
        // The kernel makes it a next hop of ours, whoever wrote it, unless an object has ours.
        let in_line = "-6 route append fd00:71::/64 proto static metric 20 via fe80::7 dev ens3";
        let in_line = (objects() == NexthopObjects::Off).then_some(in_line);
        for disturbance in disturbances.into_iter().chain(in_line) {
            let repairs = fib.counters().await.repairs;
            ip(disturbance);
            fib.until(disturbance, |c| c.repairs > repairs && c.installed == 4 && c.pending == 0).await;
            assert_eq!(table(), before, "{disturbance}");
        }
        fib.stop().await;
    });
}

#[test]
fn a_flush_of_all_routes_is_undone() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let to = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256);
        fib.want((0..500).map(|n| route(&to(n), &ECMP)).chain([route("fd00:71::/64", &ECMP)])).await;
        fib.installed(501).await;
        flush("-4");
        flush("-6");
        // `ip` flushes again what is repaired meanwhile: a number of repairs says nothing of how many are to follow.
        shows("route show proto bgp", |text| text.lines().count() == 500).await;
        shows("-6 route show proto bgp", |text| text.lines().count() == 1).await;
        fib.until("repaired", |c| c.repairs >= 501 && c.installed == 501 && c.pending == 0).await;
        fib.stop().await;
    });
}

#[test]
fn a_link_that_goes_and_comes_back_with_another_index_just_works() {
    in_namespace(|| async {
        let mut fib = Fib::start().await;
        let wanted = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(wanted.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        let old = index("ens3");
        ip("link del ens3");
        // The other uplink carries on before the RIB has said anything.
        shows("route show proto bgp", |text| {
            text.ends_with("via inet6 fe80::2 dev ens4 src 1.1.1.1 metric 20")
        })
        .await;
        shows("-6 route show proto bgp", |text| {
            text.contains("via fe80::2 dev ens4")
                && !text.contains("fe80::1 ")
                && text.contains("src fd00::1")
        })
        .await;
        // Takes an index, so that the new link cannot have the old one.
        uplink("ens5");
        uplink("ens3");
        let is_new = |link: &interfaces::Interface| link.is_running() && link.index.0 != old;
        fib.interfaces.wait_for(|links| links.by_name("ens3").is_some_and(is_new)).await.unwrap();
        fib.want(wanted.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        for family in ["-4", "-6"] {
            let text = ip(&format!("{family} route show proto bgp"));
            assert!(text.contains("dev ens3 weight 1") && text.contains("dev ens4 weight 1"), "{text}");
        }
        fib.stop().await;
    });
}

#[test]
fn a_link_that_flaps_unseen_leaves_every_route_installed() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let both = [route("10.1.71.192/26", &ECMP), route("fd00:71::/64", &ECMP)];
        let one = [route("2.2.2.2/32", &ECMP[..1]), route("fd00:2::2/128", &ECMP[..1])];
        fib.want(both.into_iter().chain(one)).await;
        fib.installed(4).await;
        let table = || (ip("route show proto bgp"), ip("-6 route show proto bgp"));
        let before = table();
        for command in ["link set ens3", "link set ens31", "link set ens3"] {
            // No await between the two: nobody sees the link down, but the kernel takes routes with it.
            ip(&format!("{command} down"));
            ip(&format!("{command} up"));
            let deadline = Instant::now() + PATIENCE;
            while table() != before {
                assert!(Instant::now() < deadline, "{:?}, and before {before:?}", table());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        fib.stop().await;
    });
}

#[test]
fn routes_outlive_the_last_ipv4_address_of_their_link() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let shown = || ip("route show proto bgp");
        ip("address add 192.0.2.2/24 dev ens3");
        fib.want([route("2.2.2.2/32", &ECMP[..1])]).await;
        fib.installed(1).await;
        let over_ipv6 = shown();
        ip("address del 192.0.2.2/24 dev ens3");
        shows("route show proto bgp", |text| text == over_ipv6).await;
        ip("address add 192.0.2.2/24 dev ens3");
        fib.want([route("3.3.3.3/32", &[("192.0.2.7", "ens3")])]).await;
        fib.installed(2).await;
        let both = shown();
        // The address is there again before anybody knows that it was gone.
        ip("address del 192.0.2.2/24 dev ens3");
        ip("address add 192.0.2.2/24 dev ens3");
        shows("route show proto bgp", |text| text == both).await;
        fib.stop().await;
    });
}

#[test]
fn without_its_address_the_preferred_source_is_left_out() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        fib.want([route("10.1.71.192/26", &ECMP), route("fd00:71::/64", &ECMP)]).await;
        fib.installed(2).await;
        for (family, address) in [("-4", "1.1.1.1/32"), ("-6", "fd00::1/128")] {
            let show = format!("{family} route show proto bgp");
            ip(&format!("address del {address} dev lo"));
            shows(&show, |text| !text.is_empty() && !text.contains(" src ")).await;
            ip(&format!("address add {address} dev lo"));
            shows(&show, |text| text.contains(" src ")).await;
        }
        fib.stop().await;
    });
}

#[test]
fn a_restart_inherits_and_sweeps_only_after_convergence() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let to = ["10.1.71.192/26", "10.1.240.0/26", "fd00:71::/64", "fd00:240::/64"];
        fib.want(to.map(|to| route(to, &ECMP))).await;
        fib.installed(4).await;
        fib.stop().await;
        let table = || (ip("route show proto bgp"), ip("-6 route show proto bgp"));
        let before = table();
        assert_eq!(before.0.lines().count() + before.1.lines().count(), 4);
        // An earlier run had another metric.
        ip("route add 10.1.240.0/26 proto bgp metric 30 via inet6 fe80::1 dev ens3");

        let fib = Fib::start().await;
        fib.until("inherited", |c| c.stale == 5).await;
        // The same routes again cost nothing; what is not asked for stays for the time being.
        fib.want(to[..1].iter().chain(&to[2..3]).map(|to| route(to, &ECMP))).await;
        fib.until("taken over", |c| c.installed == 2 && c.stale == 3 && c.pending == 0).await;
        assert_eq!(ip("route show proto bgp metric 20"), before.0.replace(" metric 20", ""));
        fib.converged().await;
        fib.until("swept", |c| c.installed == 2 && c.stale == 0 && c.pending == 0).await;
        assert_eq!(ip("route show proto bgp").lines().count(), 1);
        assert_eq!(ip("-6 route show proto bgp").lines().count(), 1);
        fib.stop().await;
    });
}

#[test]
fn without_convergence_the_sweep_has_a_deadline() {
    in_namespace(|| async {
        ip("route add 10.1.240.0/26 proto bgp metric 20 via inet6 fe80::1 dev ens3");
        let sweep_after = Duration::from_millis(300);
        let mut fib = Fib::start_with(Settings { sweep_after, ..settings() }).await;
        let inherited = (&mut fib.inherited).await.unwrap();
        assert!(inherited.contains(Family::Ipv4Unicast), "{inherited:?}");
        shows("route show proto bgp", str::is_empty).await;
        fib.until("swept", |c| c.stale == 0 && c.pending == 0).await;
        fib.stop().await;
    });
}

#[test]
fn ten_thousand_routes() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let to = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256);
        let started = Instant::now();
        for chunk in (0..10_000).collect::<Vec<_>>().chunks(1000) {
            let ecmp = gateways(&ECMP);
            let change = |n: &u32| FibChange { prefix: prefix(&to(*n)), gateways: Some(ecmp.clone()) };
            fib.want(chunk.iter().map(change)).await;
        }
        fib.installed(10_000).await;
        println!("10,000 routes of two next hops in {:?}", started.elapsed());
        assert_eq!(ip("route show proto bgp").lines().count(), 10_000);
        assert_eq!(fib.routes().await.len(), 10_000);
        assert_eq!(fib.counters().await.overruns, 0);
        fib.stop().await;
    });
}

#[test]
fn lost_events_lead_to_the_same_table() {
    in_namespace(|| async {
        let settings = Settings { event_buffer: 1, ..settings() };
        let fib = Fib::start_with(settings).await;
        let to = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256);
        fib.want((0..200).map(|n| route(&to(n), &ECMP))).await;
        fib.installed(200).await;
        // The smallest buffer there is cannot hold that, unless the reader is quick.
        let deadline = Instant::now() + PATIENCE;
        while fib.counters().await.overruns == 0 {
            assert!(Instant::now() < deadline, "no overrun");
            flush("-4");
            fib.until("written again", |c| c.installed == 200 && c.pending == 0).await;
        }
        fib.installed(200).await;
        shows("route show proto bgp", |text| text.lines().count() == 200).await;
        fib.stop().await;
    });
}

#[test]
fn a_refused_route_says_why_and_is_tried_again() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        // The kernel resolves an IPv4 next hop itself, and there is no way to this one.
        fib.want([route("10.1.71.192/26", &[("192.0.2.1", "")])]).await;
        // Between two attempts, that is.
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            assert!(Instant::now() < deadline, "not refused: {:?}", fib.routes().await);
            if let Some(RouteState::Failed(error)) = fib.state("10.1.71.192/26").await {
                break error;
            }
        };
        assert_eq!(error.errno, libc::ENETUNREACH);
        assert_eq!(error.message.as_deref(), Some("Nexthop has invalid gateway"));
        ip("address add 192.0.2.2/30 dev ens3");
        fib.installed(1).await;
        let expected = "10.1.71.192/26 via 192.0.2.1 dev ens3 src 1.1.1.1 metric 20";
        assert_eq!(ip("route show proto bgp"), expected);
        fib.stop().await;
    });
}

#[test]
fn links_and_addresses_are_followed() {
    in_namespace(|| async {
        let (monitor, mut links) = interfaces::start().await.unwrap();
        let task = tokio::task::spawn_local(monitor.run());
        {
            let now = links.borrow();
            let lo = now.by_name("lo").unwrap();
            assert!(lo.loopback && lo.is_running());
            assert_eq!(
                lo.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                ["1.1.1.1/32", "fd00::1/128"]
            );
        }
        // Not before duplicate address detection is over.
        links
            .wait_for(|links| links.by_name("ens3").is_some_and(|link| link.link_local.is_some()))
            .await
            .unwrap();
        let before = links.borrow().by_name("ens3").unwrap().clone();
        assert!(
            ip("-6 address show dev ens3 scope link -tentative")
                .contains(&before.link_local.unwrap().to_string())
        );
        assert!(before.mac.is_some() && before.mtu == 1500);
        ip("link set ens31 down");
        links
            .wait_for(|links| links.by_name("ens3").is_some_and(|link| !link.carrier && link.admin_up))
            .await
            .unwrap();
        ip("link set ens31 up");
        links.wait_for(|links| links.by_name("ens3").is_some_and(|link| link.is_running())).await.unwrap();
        ip("link set ens3 down");
        ip("link set ens3 name up0");
        links.wait_for(|links| links.by_name("up0").is_some_and(|link| !link.admin_up)).await.unwrap();
        assert_eq!(links.borrow().by_name("up0").unwrap().index, before.index);
        ip("link del up0");
        links.wait_for(|links| links.by_name("up0").is_none()).await.unwrap();
        ip("link add name ens3 type veth peer name ens31");
        links
            .wait_for(|links| links.by_name("ens3").is_some_and(|link| link.index != before.index))
            .await
            .unwrap();
        drop(links);
        task.await.unwrap();
    });
}

#[test]
fn a_table_that_is_not_there_yet_and_other_tables_stay_apart() {
    in_namespace(|| async {
        ip("route add 10.1.71.192/26 proto bgp metric 20 via inet6 fe80::9 dev ens3");
        let ownership = Ownership { table: 1000, ..OURS };
        let settings = Settings { ownership, ..settings() };
        let fib = Fib::start_with(settings).await;
        fib.converged().await;
        fib.want([route("10.1.71.192/26", &ECMP), route("fd00:71::/64", &ECMP)]).await;
        fib.installed(2).await;
        assert_eq!(ip("route show table 1000").lines().count(), 1);
        assert!(ip("-6 route show table 1000").starts_with("fd00:71::/64 proto bgp src fd00::1 metric 20"));
        assert_eq!(ip("route show proto bgp"), "10.1.71.192/26 via inet6 fe80::9 dev ens3 metric 20");
        fib.stop().await;
    });
}

/// Its batches may still be open then.
#[test]
fn the_thread_ends_with_the_future_that_waits_for_it() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        fib.counters().await;
        fib.task.abort();
        tokio::time::timeout(PATIENCE, fib.requests.closed()).await.unwrap();
        assert!(fib.batches.is_closed());
    });
}

#[test]
fn a_foreign_route_that_takes_our_place_is_left_alone() {
    in_namespace(|| async {
        let fib = Fib::start().await;
        let both = ["10.1.71.192/26", "fd00:71::/64"];
        fib.want(both.map(|to| route(to, &ECMP))).await;
        fib.installed(2).await;
        ip("route replace 10.1.71.192/26 proto static metric 20 via inet6 fe80::9 dev ens3");
        ip("-6 route replace fd00:71::/64 proto static metric 20 via fe80::9 dev ens3");
        fib.until("blocked", |c| c.blocked == 2).await;
        assert_eq!(ip("route show proto static"), "10.1.71.192/26 via inet6 fe80::9 dev ens3 metric 20");
        assert!(ip("-6 route show proto static").starts_with("fd00:71::/64 via fe80::9 dev ens3 metric 20"));
        ip("route del 10.1.71.192/26 proto static");
        ip("-6 route del fd00:71::/64 proto static");
        fib.installed(2).await;
        fib.stop().await;
    });
}
