//! Nodes.

use super::*;

/// As a cluster of version 1.33 has it, less what is as long as it is uninteresting.
fn node(spec: Value, labels: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "c1", "uid": "4e2e3c61-1c7b-4b6c-93f6-9e3f3c1e4b5a", "labels": labels},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}, {"type": "Hostname", "address": "c1"}],
            "capacity": {"cpu": "8", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    })
}

#[test]
fn its_cidrs_are_those_of_both_families_or_the_only_one() {
    let both = ["10.42.1.0/24", "fd00:10:42:1::/64"];
    let rows: [(Value, &[&str]); 8] = [
        (json!({"podCIDR": both[0], "podCIDRs": both}), &both),
        (json!({"podCIDR": both[0], "podCIDRs": [both[0]]}), &both[..1]),
        (json!({"podCIDRs": [both[1]]}), &both[1..]),
        (json!({"podCIDR": both[0]}), &both[..1]),
        (json!({"podCIDR": both[0], "podCIDRs": []}), &both[..1]),
        (json!({"podCIDR": ""}), &[]),
        (json!({"podCIDR": null, "providerID": "metal://c1", "unschedulable": true}), &[]),
        (json!({}), &[]),
    ];
    for (spec, cidrs) in rows {
        let read: Node = read(&node(spec.clone(), json!({}))).unwrap();
        assert_eq!((read.pod_cidrs, read.services), (prefixes(cidrs), ServicesHere::Announced), "{spec}");
    }
    let bare: Node = read(&json!({"metadata": {"name": "c1"}})).unwrap();
    assert_eq!(bare, Node::default());
}

/// KEP-1143: the label alone counts, whatever its value.
#[test]
fn the_label_excludes_it_whatever_its_value() {
    let rows = [
        (json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}), ServicesHere::Excluded),
        (json!({"node.kubernetes.io/exclude-from-external-load-balancers": "true"}), ServicesHere::Excluded),
        (json!({"node.kubernetes.io/exclude-from-external-load-balancers": "false"}), ServicesHere::Excluded),
        // What it was called before, which no server asks any more.
        (json!({"alpha.service-controller.kubernetes.io/exclude-balancer": ""}), ServicesHere::Announced),
        (json!({"kubernetes.io/hostname": "c1"}), ServicesHere::Announced),
    ];
    for (labels, services) in rows {
        let read: Node = read(&node(json!({"podCIDR": "10.42.1.0/24"}), labels.clone())).unwrap();
        assert_eq!(read.services, services, "{labels}");
    }
}

#[test]
fn one_cidr_that_is_none_refuses_the_node() {
    for text in NO_NETWORKS {
        let spec = json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", text]});
        let refused = read::<Node>(&node(spec, json!({})));
        assert!(
            matches!(&refused, Err(Unreadable::Network { field: "spec.podCIDRs", text: of, .. }) if of == text),
            "{text}: {refused:?}"
        );
    }
}

#[test]
fn what_others_say_of_it_is_kept_as_it_stands() {
    let taints =
        json!([{"key": "example.com/gpu", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]);
    let mut object = node(json!({"unschedulable": true, "taints": taints}), json!({}));
    object["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated", "message": "by the cloud",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let read: Node = read(&object).unwrap();
    assert_eq!(read.scheduling, Scheduling::Cordoned);
    assert_eq!(Value::from(read.taints), taints);
    let condition = read.network.unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "RouteCreated"));
    assert_eq!(condition.message, "by the cloud");
}
