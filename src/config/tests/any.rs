//! Any configuration reads back as it is shown, and no text makes the reader panic.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::config::policies::tests::any::any_policies;

fn any_duration(seconds: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    seconds.prop_map(Duration::from_secs)
}

prop_compose! {
    fn any_bgp()(
        local_as in 1_u32..23456,
        router_id in proptest::option::of(1_u32..),
        keepalive in 1000_u64..3000,
        hold_time in prop_oneof![Just(0_u16), 3_u16..],
        graceful_restart in proptest::option::of(any_duration(1..4096)),
        stale_time in any_duration(0..4096),
    ) -> Bgp {
        Bgp {
            local_as: Asn(local_as),
            router_id: router_id.map(Ipv4Addr::from),
            keepalive: Duration::from_millis(keepalive),
            hold_time: HoldTime::from_secs(hold_time).unwrap(),
            graceful_restart,
            stale_time,
        }
    }
}

fn any_remote_as() -> impl Strategy<Value = RemoteAs> {
    prop_oneof![
        Just(RemoteAs::External),
        Just(RemoteAs::Internal),
        (65536_u32..u32::MAX).prop_map(|number| RemoteAs::Number(Asn(number))),
    ]
}

prop_compose! {
    fn any_neighbor()(
        interface in proptest::option::of("[a-z*?\"'\\\\#]{1,8}"),
        remote_as in any_remote_as(),
        max_prefixes in 1_u32..,
        key in proptest::option::of("/[a-z\"'\\\\ \u{e9}]{1,20}k"),
        ttl_security: bool,
        link_local_form in prop_oneof![Just(LinkLocalForm::Once), Just(LinkLocalForm::Twice)],
        router_lifetime in any_duration(0..9001),
        damping in any_duration(0..3601),
        bfd in proptest::option::of((10_u64..60_001, 1_u8..)),
        allowed_own_as in 0_u8..11,
    ) -> (Option<String>, Neighbor) {
        let peer = NeighborPeer::Interface(String::new());
        let password_file = key.filter(|_| interface.is_none()).map(PathBuf::from);
        let neighbor = Neighbor {
            peer, remote_as, max_prefixes, password_file, password: None, ttl_security, link_local_form,
            router_lifetime, damping,
            bfd: bfd.map(|(interval_ms, multiplier)| bfd::Parameters {
                interval: Duration::from_millis(interval_ms),
                multiplier: NonZeroU8::new(multiplier).unwrap(),
            }),
            import: None, export: None, transit: Transit::Never, allowed_own_as,
        };
        (interface, neighbor)
    }
}

fn distinct(neighbors: Vec<(Option<String>, Neighbor)>) -> Vec<Neighbor> {
    let numbered = neighbors.into_iter().zip(1_u32..);
    numbered
        .map(|((interface, neighbor), number)| {
            let peer = match interface {
                Some(name) => NeighborPeer::Interface(format!("{name}{number}")),
                None if number % 2 == 0 => NeighborPeer::Address(Ipv4Addr::from(0x0a00_0000 + number).into()),
                None => NeighborPeer::Address(IpAddr::from([
                    0x2001,
                    0xdb8,
                    0,
                    0,
                    0,
                    0,
                    0,
                    u16::try_from(number).unwrap(),
                ])),
            };
            Neighbor { peer, ..neighbor }
        })
        .collect()
}

/// Which policies a neighbor names, and whether it may be told of learned routes.
type PolicyChoice = (u8, u8, bool);

fn with_policies(
    neighbors: Vec<((Option<String>, Neighbor), PolicyChoice)>,
    policies: &[Arc<Policy>],
) -> Vec<Neighbor> {
    let (neighbors, choices): (Vec<_>, Vec<_>) = neighbors.into_iter().unzip();
    let chosen = |number: u8| policies.get(usize::from(number) % 3).cloned();
    let named =
        distinct(neighbors).into_iter().zip(choices).map(|(neighbor, (import, export, is_transit))| {
            let export = chosen(export);
            let transit = if is_transit && export.is_some() { Transit::Allowed } else { Transit::Never };
            Neighbor { import: chosen(import), export, transit, ..neighbor }
        });
    named.collect()
}

prop_compose! {
    fn any_config()(
        bgp in any_bgp(),
        advertise: bool,
        neighbors in proptest::collection::vec((any_neighbor(), any::<PolicyChoice>()), 0..5),
        (prefix_lists, policies) in any_policies(),
        kubernetes in proptest::option::of(any_kubernetes()),
        blocks in proptest::collection::btree_set(any::<u8>(), 0..5),
        has_node_cidrs: bool,
        calico in proptest::option::of(any_calico()),
        services in proptest::option::of(any_services()),
        readiness in proptest::option::of(any_readiness()),
        on_cordon: bool,
        conflist in proptest::option::of("/[a-z\"'\\\\ ]{1,20}\\.conflist"),
        metric in 1_u32..,
        table in 1_u32..255,
        protocol in 193_u8..,
        max_paths in 1_usize..257,
        nexthop_objects in proptest::sample::select(vec![
            NexthopObjects::Auto, NexthopObjects::On, NexthopObjects::Off,
        ]),
        first_id in 1..u32::MAX - 255,
        manage: bool,
        socket in "/[a-z\"'\\\\ \u{1}\u{e9}]{1,20}k",
    ) -> Config {
        let block = |octet: u8| Prefix::masked(Ipv4Addr::new(10, 1, octet, 0).into(), 26).unwrap();
        let calico = calico.filter(|_| kubernetes.is_some());
        let has_calico = calico.is_some();
        Config {
            bgp,
            loopback: Loopback { interface: "dummy0".to_owned(), advertise },
            neighbors: with_policies(neighbors, &policies),
            prefix_lists,
            policies,
            pods: Pods {
                static_blocks: blocks.into_iter().map(block).collect(),
                node_cidrs: (kubernetes.is_some() && has_node_cidrs).then_some(NodeCidrs {}),
                calico,
            },
            services: services.filter(|_| kubernetes.is_some()),
            readiness,
            drain: Drain { on_cordon: on_cordon && kubernetes.is_some() },
            kubernetes,
            cni: conflist.filter(|_| !has_calico).map(|file| Cni { file: file.into() }),
            fib: Fib {
                protocol,
                metric,
                table,
                max_paths,
                nexthop_objects,
                nexthop_ids: first_id..=first_id + 255,
            },
            sysctl: Sysctl { manage },
            control: Control { socket: socket.into() },
        }
    }
}

prop_compose! {
    fn any_kubernetes()(
        kubeconfig in proptest::option::of("/[a-z\"'\\\\ \u{1}\u{e9}]{1,20}k"),
        node_name in proptest::option::of("[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\\.[a-z]{1,5})?"),
        state in "/[a-z\"'\\\\ ]{1,20}j",
    ) -> Kubernetes {
        let access = kubeconfig.map_or(Access::ServiceAccount, |path| Access::Kubeconfig(path.into()));
        Kubernetes { access, node_name, state: state.into() }
    }
}

prop_compose! {
    fn any_calico()(
        api in proptest::sample::select(vec![CalicoApi::Any, CalicoApi::CrdV1, CalicoApi::V3]),
        borrowed in any_borrowed(),
    ) -> Calico {
        Calico { api, borrowed }
    }
}

fn any_borrowed() -> impl Strategy<Value = Borrowed> {
    let texts = vec!["65001:100", "no-export", "4200000000:1:2"];
    let community = proptest::sample::select(texts).prop_map(|text| text.parse().unwrap());
    prop_oneof![
        Just(Borrowed::Refuse),
        (proptest::option::of(community), 1..=u32::MAX)
            .prop_map(|(community, limit)| Borrowed::Advertise { community, limit }),
    ]
}

prop_compose! {
    fn any_services()(
        [load_balancer, external, cluster] in
            [(); 3].map(|()| proptest::collection::btree_set(any::<u8>(), 0..4)),
        aggregate: bool,
    ) -> Services {
        let ranges = |octets: BTreeSet<u8>| {
            let range = |octet: u8| Prefix::masked(Ipv4Addr::new(192, 0, octet, 0).into(), 24).unwrap();
            octets.into_iter().map(range).collect()
        };
        Services {
            load_balancer: ranges(load_balancer),
            external: ranges(external),
            cluster: ranges(cluster),
            aggregate,
        }
    }
}

prop_compose! {
    fn any_readiness()(
        uplinks in 1_u16..65,
        routes in proptest::option::of(proptest::collection::btree_set(0_u8..33, 0..4)),
        echo: bool,
        isolated_for_s in 1_u64..3601,
        taint: bool,
    ) -> Readiness {
        let routes = routes.map_or(RequiredRoutes::Any, |lengths| {
            let route = |length: u8| Prefix::masked(Ipv4Addr::new(10, 1, 8, 192).into(), length).unwrap();
            RequiredRoutes::Each(lengths.into_iter().map(route).collect())
        });
        Readiness { uplinks, routes, echo, isolated_for: Duration::from_secs(isolated_for_s), taint }
    }
}

/// Text that is nearly a configuration: pieces of one in any order, with odd characters between them.
fn nearly_toml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            "[bgp]\n", "local-as", "65001", " = ", "\n", "[[neighbor]]\n", "interface", "\"ens*\"", "[pods.static]\n",
            "blocks", "[", "]", "\"10.0.0.0/8\"", ",", "{", "}", "'", "\"\"\"", "\"", "#", "hold-time", "\"9s\"",
            "password", "address", "\\u", "true", ".", "\r", "\u{feff}", "keepalive = 1\n", "[fib]\n", "1e9",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same_configuration(config in any_config()) {
        let shown = config.to_toml();
        prop_assert_eq!(parse(&shown, "shown").map_err(|error| error.to_string()), Ok(config), "{}", shown);
    }

    #[test]
    fn no_text_makes_reading_or_rendering_panic(text in nearly_toml()) {
        if let Err(error) = parse(&text, "test.toml") {
            prop_assert!(error.render(Paint::Plain).starts_with("error: "));
            prop_assert!(!error.render(Paint::Terminal).is_empty());
        }
    }
}
