//! Which routes of the kernel are to pods, as it says itself: of some of its changes it does not tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use selvedge::kernel::fib::NexthopObjects;
use selvedge::kernel::pods::{self, PodAddresses};
use tokio::sync::watch;

use super::PATIENCE;
use super::fixture::{batch, in_namespace_with, ip_raw, uplink};

struct Followed(watch::Receiver<Option<PodAddresses>>);

impl Followed {
    fn start() -> Self {
        let (found, addresses) = watch::channel(None);
        tokio::task::spawn_local(pods::run(found));
        Self(addresses)
    }

    /// As soon as exactly these are known.
    async fn has(&mut self, addresses: &[&str]) {
        let wanted: BTreeSet<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let is_so = |now: &Option<PodAddresses>| now.as_deref() == Some(&wanted);
        let result = tokio::time::timeout(PATIENCE, self.0.wait_for(is_so)).await;
        assert!(result.is_ok(), "{addresses:?} awaited");
    }
}

fn pod(name: &str) {
    ip_raw(&format!("link add name {name} type veth peer name p{name}"));
    ip_raw(&format!("link set {name} up"));
    ip_raw(&format!("link set p{name} up"));
}

#[test]
fn pods_are_known_by_their_routes_from_the_start_and_as_they_come_and_go() {
    in_namespace_with(NexthopObjects::Off, || async {
        pod("cali1");
        pod("cali2");
        uplink("eth9");
        ip_raw("route add 10.1.9.1/32 dev cali1 scope link");
        ip_raw("-6 route add fd00:9::1/128 dev cali1");
        let mut followed = Followed::start();
        followed.has(&["10.1.9.1", "fd00:9::1"]).await;

        ip_raw("route add 10.1.9.2/32 dev cali2 scope link metric 1024");
        followed.has(&["10.1.9.1", "10.1.9.2", "fd00:9::1"]).await;
        // Over other links, to networks, over routers, in other tables: none is a pod.
        ip_raw("route add 10.1.9.3/32 dev eth9 scope link");
        ip_raw("route add 10.1.10.0/24 dev cali2 scope link");
        ip_raw("route add 10.1.9.4/32 dev cali2 scope link table 100");
        ip_raw("-6 route add fd00:9::4/128 via fe80::1 dev cali2");
        ip_raw("route add blackhole 10.1.9.5/32");
        ip_raw("route del 10.1.9.2/32");
        followed.has(&["10.1.9.1", "fd00:9::1"]).await;

        // Live migration between two links of one host.
        ip_raw("route replace 10.1.9.1/32 dev cali2 scope link");
        ip_raw("link del cali1");
        followed.has(&["10.1.9.1"]).await;
        // The kernel does not say that it takes an IPv4 route with its link.
        ip_raw("link set cali2 down");
        followed.has(&[]).await;
        ip_raw("link set cali2 up");
        ip_raw("route add 10.1.9.6/32 dev cali2 scope link");
        followed.has(&["10.1.9.6"]).await;
        ip_raw("route replace 10.1.9.6/32 dev eth9 scope link");
        followed.has(&[]).await;
    });
}

/// What the kernel says of these routes while nobody reads is more than a socket holds.
#[test]
fn pods_are_known_beside_a_table_of_other_routes() {
    in_namespace_with(NexthopObjects::Off, || async {
        pod("cali1");
        let networks = |verb: &str| -> String {
            (0..20_000)
                .map(|n| format!("route {verb} 11.{}.{}.0/24 dev ens3 proto static\n", n / 256, n % 256))
                .collect()
        };
        batch(&networks("add"));
        ip_raw("route add 10.1.9.1/32 dev cali1 scope link");
        let mut followed = Followed::start();
        followed.has(&["10.1.9.1"]).await;
        batch(&networks("del"));
        ip_raw("route add 10.1.9.2/32 dev cali1 scope link");
        followed.has(&["10.1.9.1", "10.1.9.2"]).await;
    });
}
