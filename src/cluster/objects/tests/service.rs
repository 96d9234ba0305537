//! Services and EndpointSlices.

use super::*;

use bgp::Family;

use crate::cluster::objects::service::Endpoint;
use AddressKind::{Cluster, External, LoadBalancer};

fn service(spec: Value, ingress: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": spec,
        "status": {"loadBalancer": ingress},
    })
}

fn addresses(of: &[(AddressKind, &str)]) -> Vec<(AddressKind, std::net::IpAddr)> {
    of.iter().map(|(kind, text)| (*kind, text.parse().unwrap())).collect()
}

#[test]
fn each_address_of_a_service_has_its_kind() {
    let ip = |text: &str| json!({"ingress": [{"ip": text}]});
    type Row = (Value, Value, &'static [(AddressKind, &'static str)]);
    let rows: [Row; 15] = [
        (
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"],
                "externalIPs": ["192.0.2.7"], "ipFamilies": ["IPv4", "IPv6"], "healthCheckNodePort": 31234}),
            json!({"ingress": [{"ip": "198.51.100.7", "ipMode": "VIP"}, {"ip": "2001:db8::7"}]}),
            &[
                (LoadBalancer, "198.51.100.7"),
                (LoadBalancer, "2001:db8::7"),
                (External, "192.0.2.7"),
                (Cluster, "10.96.0.7"),
                (Cluster, "fd00:96::7"),
            ],
        ),
        // A balancer elsewhere, with a name of its own.
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"]}),
            json!({"ingress": [{"hostname": "lb.example.org"}]}),
            &[(Cluster, "10.96.0.7")],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"]}),
            json!({"ingress": [{"ip": "198.51.100.7", "ipMode": "Proxy"}, {"ip": "198.51.100.8", "hostname": "lb"}]}),
            &[(LoadBalancer, "198.51.100.8"), (Cluster, "10.96.0.7")],
        ),
        // Not balanced yet, in each way of saying so.
        (json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"]}), json!({}), &[(Cluster, "10.96.0.7")]),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"]}),
            json!({"ingress": []}),
            &[(Cluster, "10.96.0.7")],
        ),
        // It was balanced once, and is not any more.
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.7"]}),
            ip("198.51.100.7"),
            &[(Cluster, "10.96.0.7")],
        ),
        (json!({"type": "NodePort", "clusterIPs": ["10.96.0.7"]}), json!({}), &[(Cluster, "10.96.0.7")]),
        // A server of before 1.20.
        (json!({"type": "ClusterIP", "clusterIP": "10.96.0.7"}), json!({}), &[(Cluster, "10.96.0.7")]),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.7"], "externalIPs": ["192.0.2.7", "2001:db8::7"]}),
            json!({}),
            &[(External, "192.0.2.7"), (External, "2001:db8::7"), (Cluster, "10.96.0.7")],
        ),
        // Headless: kube-proxy serves none of its addresses.
        (json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}), json!({}), &[]),
        (json!({"type": "ClusterIP", "clusterIP": "None"}), json!({}), &[]),
        (
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["192.0.2.7"]}),
            json!({}),
            &[],
        ),
        (
            json!({"type": "ExternalName", "externalName": "db.example.org", "externalIPs": ["192.0.2.7"]}),
            ip("198.51.100.7"),
            &[],
        ),
        (json!({"type": "ClusterIP", "clusterIP": ""}), json!({}), &[]),
        (json!({}), json!({}), &[]),
    ];
    for (spec, ingress, expected) in rows {
        let object = service(spec, ingress);
        let read: Service = read(&object).unwrap();
        assert_eq!(read.addresses, addresses(expected), "{object}");
    }
    assert_eq!(read::<Service>(&json!({})).unwrap(), Service::default());
}

#[test]
fn its_policies_are_cluster_unless_they_are_local() {
    let words = [
        (json!("Local"), TrafficPolicy::Local),
        (json!("Cluster"), TrafficPolicy::Cluster),
        (json!(""), TrafficPolicy::Cluster),
        (Value::Null, TrafficPolicy::Cluster),
    ];
    for ((external, one), (internal, other)) in
        words.iter().flat_map(|external| words.iter().map(move |internal| (external, internal)))
    {
        let spec = json!({"externalTrafficPolicy": external, "internalTrafficPolicy": internal});
        let read: Service = read(&service(spec, json!({}))).unwrap();
        assert_eq!((read.external_traffic, read.internal_traffic), (*one, *other), "{external} {internal}");
    }
    for (key, field) in [
        ("externalTrafficPolicy", "spec.externalTrafficPolicy"),
        ("internalTrafficPolicy", "spec.internalTrafficPolicy"),
    ] {
        let refused = read::<Service>(&service(json!({key: "local"}), json!({})));
        assert_eq!(refused, Err(Unreadable::Word { field, word: "local".to_owned() }));
    }
}

#[test]
fn an_address_that_is_none_is_named_with_its_field() {
    let rows = [
        (json!({"externalIPs": ["192.0.2.7", "192.0.2.07"]}), json!({}), "spec.externalIPs", "192.0.2.07"),
        (json!({"externalIPs": ["192.0.2.0/24"]}), json!({}), "spec.externalIPs", "192.0.2.0/24"),
        (json!({"clusterIPs": ["none"]}), json!({}), "spec.clusterIPs", "none"),
        (
            json!({"type": "LoadBalancer"}),
            json!({"ingress": [{"ip": ""}]}),
            "status.loadBalancer.ingress",
            "",
        ),
    ];
    for (spec, ingress, field, text) in rows {
        let refused = read::<Service>(&service(spec, ingress));
        let why = "is not an address".to_owned();
        assert_eq!(refused, Err(Unreadable::Network { field, text: text.to_owned(), why }));
    }
}

fn slice(endpoints: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-x7k2p",
            "namespace": "shop",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web",
            },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn health(conditions: &Value) -> Health {
    let endpoints = json!([{"addresses": ["10.1.8.193"], "conditions": conditions, "nodeName": "c1"}]);
    let read: Slice = read(&slice(endpoints)).unwrap();
    assert_eq!(read.endpoints.len(), 1);
    assert_eq!(read.endpoints[0].node.as_deref(), Some("c1"));
    read.endpoints[0].health
}

/// `EndpointConditions` of `discovery.k8s.io/v1`: what is not said counts as ready, as serving what is ready, as staying.
#[test]
fn an_endpoint_takes_load_as_its_conditions_say() {
    let values = [None, Some(false), Some(true)];
    for ready in values {
        for serving in values {
            for terminating in values {
                let expected = match (ready, serving, terminating) {
                    (None | Some(true), _, _) => Health::Ready,
                    (Some(false), Some(true), Some(true)) => Health::Terminating,
                    (Some(false), _, _) => Health::Out,
                };
                let as_null = json!({"ready": ready, "serving": serving, "terminating": terminating});
                let mut left_out = as_null.clone();
                left_out.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                for conditions in [as_null, left_out] {
                    assert_eq!(health(&conditions), expected, "{conditions}");
                }
            }
        }
    }
    assert_eq!(health(&Value::Null), Health::Ready);
}

#[test]
fn a_slice_belongs_to_the_service_of_its_label() {
    let endpoints = json!([
        {"addresses": ["10.1.8.193"], "nodeName": "c1", "zone": "rack-1", "targetRef": {"kind": "Pod", "name": "web-0"}},
        {"addresses": ["192.0.2.99"]},
    ]);
    let ready = |node: Option<&str>| Endpoint { node: node.map(str::to_owned), health: Health::Ready };
    let mut object = slice(endpoints);
    let mut expected = Slice {
        service: Some("web".to_owned()),
        family: Some(Family::Ipv4Unicast),
        endpoints: vec![ready(Some("c1")), ready(None)],
    };
    assert_eq!(read(&object), Ok(expected.clone()));
    for (word, family) in [("IPv6", Some(Family::Ipv6Unicast)), ("FQDN", None), ("IP", None)] {
        object["addressType"] = json!(word);
        expected.family = family;
        assert_eq!(read(&object), Ok(expected.clone()));
    }
    object["metadata"]["labels"] = json!({});
    assert_eq!(read(&object), Ok(Slice { service: None, ..expected }));
}

/// Go writes a list without elements in either way.
#[test]
fn a_slice_without_endpoints_is_empty() {
    for endpoints in [json!([]), Value::Null] {
        assert_eq!(read::<Slice>(&slice(endpoints)).unwrap().endpoints, []);
    }
}
