//! Services: kind, policy, where their endpoints are, and which ranges their addresses may be from.

use super::*;

use std::net::IpAddr;

use bgp::Family;

use crate::cluster::objects::{AddressKind, Endpoint, Health, TrafficPolicy};
use AddressKind::{Cluster, External, LoadBalancer};

const KINDS: [AddressKind; 3] = [LoadBalancer, External, Cluster];

fn ranges(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| prefix(text)).collect()
}

/// A range of each family for each kind.
fn with_services() -> Sources {
    let services = config::Services {
        load_balancer: ranges(&["198.51.100.0/24", "2001:db8:1::/64"]),
        external: ranges(&["192.0.2.0/24", "2001:db8:2::/64"]),
        cluster: ranges(&["10.96.0.0/16", "fd00:96::/112"]),
        aggregate: false,
    };
    Sources { services: Some(services), ..sources() }
}

fn aggregating() -> Sources {
    let mut sources = with_services();
    sources.services.as_mut().unwrap().aggregate = true;
    sources
}

/// One in the range of its kind.
fn address(kind: AddressKind, family: Family) -> IpAddr {
    let text = match (kind, family) {
        (LoadBalancer, Family::Ipv4Unicast) => "198.51.100.7",
        (LoadBalancer, Family::Ipv6Unicast) => "2001:db8:1::7",
        (External, Family::Ipv4Unicast) => "192.0.2.7",
        (External, Family::Ipv6Unicast) => "2001:db8:2::7",
        (Cluster, Family::Ipv4Unicast) => "10.96.0.7",
        (Cluster, Family::Ipv6Unicast) => "fd00:96::7",
    };
    text.parse().unwrap()
}

fn shop(name: &str) -> ObjectName {
    ObjectName { namespace: Some("shop".to_owned()), name: name.to_owned() }
}

fn service(kind: AddressKind, address: IpAddr, external: TrafficPolicy, internal: TrafficPolicy) -> Service {
    Service { addresses: vec![(kind, address)], external_traffic: external, internal_traffic: internal }
}

fn slice(service: &str, family: Option<Family>, endpoints: &[(&str, Health)]) -> Slice {
    let endpoints =
        endpoints.iter().map(|&(node, health)| Endpoint { node: Some(node.to_owned()), health }).collect();
    Slice { service: Some(service.to_owned()), family, endpoints }
}

fn in_shop<T, const N: usize>(objects: [(&str, T); N]) -> Collection<T> {
    known(objects.map(|(name, object)| (shop(name), object)))
}

fn objects(services: Collection<Service>, slices: Collection<Slice>) -> Objects {
    Objects { services, slices, ..cluster([], []) }
}

/// What becomes of the only address.
fn outcome(sources: &Sources, objects: &Objects) -> Result<Prefix, Withheld> {
    let desired = desired(sources, objects, &Desired::default());
    let [only] = desired.service_addresses.as_slice() else { panic!("{desired:?}") };
    let kinds: BTreeMap<_, _> =
        only.announced.iter().map(|prefix| (*prefix, BTreeSet::from([only.kind]))).collect();
    assert_eq!(desired.services, kinds);
    only.announced
}

/// Kind, both policies, family, the health of an endpoint here and of one elsewhere.
#[test]
fn a_local_service_is_announced_where_an_endpoint_serves_it() {
    use Health::{Out, Ready, Terminating};
    use TrafficPolicy::{Cluster as Anywhere, Local};
    let healths = [None, Some(Out), Some(Terminating), Some(Ready)];
    for kind in KINDS {
        for (external, internal) in
            [(Anywhere, Anywhere), (Local, Anywhere), (Anywhere, Local), (Local, Local)]
        {
            for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
                for (here, elsewhere) in
                    healths.iter().flat_map(|here| healths.iter().map(move |elsewhere| (*here, *elsewhere)))
                {
                    let address = address(kind, family);
                    let endpoints: Vec<_> = here
                        .map(|health| (HERE, health))
                        .into_iter()
                        .chain(elsewhere.map(|health| (THERE, health)))
                        .collect();
                    let objects = objects(
                        in_shop([("web", service(kind, address, external, internal))]),
                        in_shop([("web-1", slice("web", Some(family), &endpoints))]),
                    );
                    let is_local = match kind {
                        LoadBalancer | External => external == Local,
                        Cluster => external == Local || internal == Local,
                    };
                    let serves = match (here, elsewhere) {
                        (Some(Ready), _) => true,
                        (Some(Terminating), Some(Ready)) => false,
                        (Some(Terminating), _) => true,
                        (None | Some(Out), _) => false,
                    };
                    let expected = if !is_local || serves {
                        Ok(Prefix::host(address))
                    } else {
                        Err(Withheld::NoEndpointHere)
                    };
                    let found = outcome(&with_services(), &objects);
                    assert_eq!(found, expected, "{kind:?} {external:?} {internal:?} {here:?} {elsewhere:?}");
                }
            }
        }
    }
}

/// The best of all endpoints counts, in whichever of the slices it is.
#[test]
fn the_endpoints_of_all_slices_count() {
    use Health::{Out, Ready, Terminating};
    let address = address(LoadBalancer, Family::Ipv4Unicast);
    let web = || service(LoadBalancer, address, TrafficPolicy::Local, TrafficPolicy::Cluster);
    let v4 = Some(Family::Ipv4Unicast);
    let here = Ok(Prefix::host(address));
    let not_here = Err(Withheld::NoEndpointHere);
    let rows = [
        (vec![slice("web", v4, &[(HERE, Out), (HERE, Ready), (HERE, Terminating)])], here),
        (vec![slice("web", v4, &[(HERE, Out)]), slice("web", v4, &[(HERE, Ready)])], here),
        (vec![slice("web", v4, &[(HERE, Terminating)]), slice("web", v4, &[(THERE, Ready)])], not_here),
        // Endpoints of the other family, of names, of another service, of no service.
        (vec![slice("web", Some(Family::Ipv6Unicast), &[(HERE, Ready)])], not_here),
        (vec![slice("web", None, &[(HERE, Ready)])], not_here),
        (vec![slice("db", v4, &[(HERE, Ready)])], not_here),
        (vec![Slice { service: None, ..slice("web", v4, &[(HERE, Ready)]) }], not_here),
        // An endpoint of no node: anywhere, and not here.
        (
            vec![Slice { endpoints: vec![Endpoint { node: None, health: Ready }], ..slice("web", v4, &[]) }],
            not_here,
        ),
        (vec![], not_here),
    ];
    for (slices, expected) in rows {
        let all = slices.iter().cloned().enumerate();
        let slices_known = known(all.map(|(number, slice)| (shop(&format!("web-{number}")), slice)));
        let objects = objects(in_shop([("web", web())]), slices_known);
        assert_eq!(outcome(&with_services(), &objects), expected, "{slices:?}");
    }
    // A service of the same name, in another namespace.
    let elsewhere = ObjectName { namespace: Some("test".to_owned()), name: "web-1".to_owned() };
    let slices = known([(elsewhere, slice("web", v4, &[(HERE, Ready)]))]);
    assert_eq!(outcome(&with_services(), &objects(in_shop([("web", web())]), slices)), not_here);
}

#[test]
fn where_any_node_will_do_the_range_is_announced_if_it_is_to_be() {
    let v4 = Family::Ipv4Unicast;
    let ready = || in_shop([("web-1", slice("web", Some(v4), &[(HERE, Health::Ready)]))]);
    for (kind, range) in
        [(LoadBalancer, "198.51.100.0/24"), (External, "192.0.2.0/24"), (Cluster, "10.96.0.0/16")]
    {
        let of = |policy| in_shop([("web", service(kind, address(kind, v4), policy, policy))]);
        let cluster = objects(of(TrafficPolicy::Cluster), known([]));
        assert_eq!(outcome(&aggregating(), &cluster), Ok(prefix(range)));
        // One of a few nodes does not speak for the range.
        let local = objects(of(TrafficPolicy::Local), ready());
        assert_eq!(outcome(&aggregating(), &local), Ok(Prefix::host(address(kind, v4))));
        let local = objects(of(TrafficPolicy::Local), known([]));
        assert_eq!(outcome(&aggregating(), &local), Err(Withheld::NoEndpointHere));
    }
    // Nobody has an address of it yet.
    let nobody = objects(known([]), known([]));
    assert_eq!(desired(&aggregating(), &nobody, &Desired::default()).services, BTreeMap::new());
}

/// CVE-2020-8554: anybody may write external addresses.
#[test]
fn an_address_that_is_in_no_range_of_its_kind_is_refused() {
    for sources in [with_services(), aggregating()] {
        for kind in KINDS {
            let others = KINDS.into_iter().filter(|other| *other != kind);
            let in_others = others.map(|other| address(other, Family::Ipv4Unicast).to_string());
            let nowhere =
                ["8.8.8.8", "1.1.1.1", "198.51.101.0", "2001:db8::1", "::1", "127.0.0.1", "0.0.0.0"];
            for text in nowhere.map(str::to_owned).into_iter().chain(in_others) {
                let policy = TrafficPolicy::Cluster;
                let web = service(kind, text.parse().unwrap(), policy, policy);
                let objects = objects(in_shop([("web", web)]), known([]));
                assert_eq!(outcome(&sources, &objects), Err(Withheld::OutOfRange), "{kind:?} {text}");
            }
        }
    }
}

#[test]
fn a_kind_without_ranges_is_off() {
    let addresses: Vec<_> = KINDS.map(|kind| (kind, address(kind, Family::Ipv4Unicast))).into();
    let objects = objects(in_shop([("web", Service { addresses, ..Service::default() })]), known([]));
    let mut sources = with_services();
    let shown = |sources: &Sources| {
        let desired = desired(sources, &objects, &Desired::default());
        let kinds: Vec<_> = desired.service_addresses.iter().map(|address| address.kind).collect();
        assert_eq!(kinds.len(), desired.services.len());
        kinds
    };
    assert_eq!(shown(&sources), KINDS);
    sources.services.as_mut().unwrap().external.clear();
    assert_eq!(shown(&sources), [LoadBalancer, Cluster]);
    sources.services = None;
    assert_eq!(shown(&sources), []);
}

#[test]
fn a_node_that_is_left_out_announces_no_service() {
    let v4 = Family::Ipv4Unicast;
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        for kind in KINDS {
            let mut objects = objects(
                in_shop([("web", service(kind, address(kind, v4), policy, policy))]),
                in_shop([("web-1", slice("web", Some(v4), &[(HERE, Health::Ready)]))]),
            );
            let node = Node { services: ServicesHere::Excluded, ..Node::default() };
            objects.nodes = known([(named(HERE), node)]);
            for sources in [with_services(), aggregating()] {
                assert_eq!(outcome(&sources, &objects), Err(Withheld::NodeExcluded));
            }
        }
    }
}

#[test]
fn an_address_of_two_services_is_announced_as_long_as_one_of_them_is_served_here() {
    let v4 = Family::Ipv4Unicast;
    let shared: IpAddr = "198.51.100.7".parse().unwrap();
    let mut sources = with_services();
    sources.services.as_mut().unwrap().external = ranges(&["198.51.100.0/24"]);
    let local = |kind| service(kind, shared, TrafficPolicy::Local, TrafficPolicy::Cluster);
    let services = in_shop([("dns", local(LoadBalancer)), ("web", local(External))]);
    let announced = |endpoints: &[&str]| {
        let slices = endpoints
            .iter()
            .map(|service| (shop(service), slice(service, Some(v4), &[(HERE, Health::Ready)])));
        let objects = objects(services.clone(), known(slices));
        let desired = desired(&sources, &objects, &Desired::default());
        assert_eq!(desired.service_addresses.len(), 2);
        desired.services
    };
    let host = Prefix::host(shared);
    assert_eq!(announced(&["dns", "web"]), BTreeMap::from([(host, [LoadBalancer, External].into())]));
    assert_eq!(announced(&["dns"]), BTreeMap::from([(host, [LoadBalancer].into())]));
    assert_eq!(announced(&["web"]), BTreeMap::from([(host, [External].into())]));
    assert_eq!(announced(&[]), BTreeMap::new());
}

#[test]
fn a_service_without_addresses_is_skipped() {
    let objects = objects(in_shop([("headless", Service::default())]), known([]));
    let desired = desired(&with_services(), &objects, &Desired::default());
    assert_eq!((desired.services.len(), desired.service_addresses.len()), (0, 0));
}

/// Each kind that a decision needs, by itself.
#[test]
fn what_was_announced_stays_until_the_server_has_said_everything() {
    let address = address(LoadBalancer, Family::Ipv4Unicast);
    let was = Desired {
        services: [(Prefix::host(address), [LoadBalancer].into())].into(),
        service_addresses: vec![ServiceAddress {
            service: "shop/web".to_owned(),
            kind: LoadBalancer,
            address,
            policy: TrafficPolicy::Cluster,
            announced: Ok(Prefix::host(address)),
        }],
        ..Desired::default()
    };
    let complete = cluster([], []);
    let rows = [
        (Objects::default(), true),
        (Objects { nodes: Collection::default(), ..complete.clone() }, true),
        (Objects { nodes: known([]), ..complete.clone() }, true),
        (Objects { services: Collection::default(), ..complete.clone() }, true),
        (Objects { slices: Collection::default(), ..complete.clone() }, true),
        // Of the others they do not depend.
        (
            Objects { affinities: Collection::default(), pools: Collection::default(), ..complete.clone() },
            false,
        ),
        (complete, false),
    ];
    for (objects, stays) in rows {
        let now = desired(&with_services(), &objects, &was);
        let expected = if stays { was.clone() } else { Desired::default() };
        let services = |of: Desired| (of.services, of.service_addresses);
        assert_eq!(services(now), services(expected), "{objects:?}");
    }
    let off = desired(&sources(), &Objects::default(), &was);
    assert_eq!((off.services.len(), off.service_addresses.len()), (0, 0));
}
