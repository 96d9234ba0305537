//! Calico's objects, in both of the shapes that it keeps them in.

use super::*;

const BLOCK: &str = "10.1.8.192/26";

fn crd_affinity(state: &str, deleted: &str) -> Value {
    json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "BlockAffinity",
        "metadata": {"name": "c1-10-1-8-192-26", "resourceVersion": "4711"},
        "spec": {"cidr": BLOCK, "deleted": deleted, "node": "c1", "state": state, "type": "host"},
    })
}

fn v3_affinity(state: &str, deleted: bool) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "BlockAffinity",
        "metadata": {"name": "c1-10-1-8-192-26", "resourceVersion": "4711"},
        "spec": {"cidr": BLOCK, "deleted": deleted, "node": "c1", "state": state, "type": "host"},
    })
}

/// With these instead, or `null`: without.
fn with(mut object: Value, fields: &[(&str, Value)]) -> Value {
    let spec = object["spec"].as_object_mut().unwrap();
    for (key, value) in fields {
        match value {
            Value::Null => drop(spec.remove(*key)),
            value => drop(spec.insert((*key).to_owned(), value.clone())),
        }
    }
    object
}

#[test]
fn an_affinity_is_the_same_in_both_shapes() {
    let rows = [
        ("confirmed", AffinityState::Confirmed),
        ("pending", AffinityState::Pending),
        ("", AffinityState::Pending),
        ("pendingDeletion", AffinityState::PendingDeletion),
    ];
    for (word, state) in rows {
        let [expected, gone] = [state, AffinityState::Gone]
            .map(|state| Ok(Affinity { node: "c1".to_owned(), block: BLOCK.parse().unwrap(), state }));
        for text in ["false", ""] {
            assert_eq!(read(&crd_affinity(word, text)), expected, "{word} {text:?}");
        }
        assert_eq!(read(&v3_affinity(word, false)), expected, "{word}");
        assert_eq!(read(&with(v3_affinity(word, false), &[("deleted", Value::Null)])), expected, "{word}");
        assert_eq!(read(&crd_affinity(word, "true")), gone, "{word}");
        assert_eq!(read(&v3_affinity(word, true)), gone, "{word}");
    }
}

#[test]
fn what_is_not_for_a_node_is_as_good_as_gone() {
    let rows = [
        (json!("host"), AffinityState::Confirmed),
        // Before there were types there were none but of nodes.
        (json!(""), AffinityState::Confirmed),
        (Value::Null, AffinityState::Confirmed),
        (json!("virtual"), AffinityState::Gone),
    ];
    for (word, state) in rows {
        let object = with(v3_affinity("confirmed", false), &[("type", word.clone())]);
        assert_eq!(read::<Affinity>(&object).unwrap().state, state, "{word}");
    }
}

#[test]
fn words_that_stand_for_nothing_refuse_an_affinity() {
    for (field, key) in [("spec.state", "state"), ("spec.type", "type")] {
        for word in ["Confirmed", "deleted", "host "] {
            let object = with(v3_affinity("confirmed", false), &[(key, json!(word))]);
            let expected = Unreadable::Word { field, word: word.to_owned() };
            assert_eq!(read::<Affinity>(&object), Err(expected));
            // On its way out it makes no difference any more.
            let object = with(object, &[("deleted", json!(true))]);
            assert_eq!(read::<Affinity>(&object).unwrap().state, AffinityState::Gone);
        }
    }
}

fn block(fields: &[(&str, Value)]) -> Value {
    let object = json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPAMBlock",
        "metadata": {"name": "10-1-8-192-26"},
        "spec": {
            "affinity": "host:c1",
            "allocations": [0, null, null],
            "attributes": [{"handle_id": "k8s-pod-network.1", "secondary": {"node": "c1", "pod": "web-0"}}],
            "cidr": BLOCK,
            "deleted": false,
            "sequenceNumber": 1_776_000_000_000_000_000_u64,
            "sequenceNumberForAllocation": {"0": 1_776_000_000_000_000_000_u64},
            "strictAffinity": false,
            "unallocated": [1, 2],
        },
    });
    with(object, fields)
}

#[test]
fn a_block_is_the_nodes_that_it_names() {
    let node = |name: &str| Owner::Node(name.to_owned());
    let mut released = block(&[]);
    released["spec"]["affinity"] = Value::Null;
    let rows = [
        (block(&[]), node("c1")),
        (block(&[("affinity", json!("host:c2.example.org"))]), node("c2.example.org")),
        (block(&[("deleted", Value::Null)]), node("c1")),
        (block(&[("affinity", Value::Null)]), Owner::Nobody),
        (released, Owner::Nobody),
        (block(&[("deleted", json!(true))]), Owner::Nobody),
        (block(&[("affinity", json!("virtual:load-balancer"))]), Owner::Nobody),
        (block(&[("affinity", json!("c1"))]), Owner::Nobody),
        (block(&[("affinity", json!(""))]), Owner::Nobody),
    ];
    for (object, owner) in rows {
        assert_eq!(read(&object), Ok(Block { cidr: BLOCK.parse().unwrap(), owner }), "{object}");
    }
}

fn pool(fields: &[(&str, Value)]) -> Value {
    let object = json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": "default-ipv4-ippool"},
        "spec": {
            "allowedUses": ["Workload", "Tunnel"],
            "blockSize": 26,
            "cidr": "10.1.0.0/16",
            "ipipMode": "Never",
            "natOutgoing": true,
            "nodeSelector": "all()",
            "vxlanMode": "Never",
        },
    });
    with(object, fields)
}

#[test]
fn a_pool_says_how_its_pods_are_reached() {
    let way = |ipip: &str, vxlan: &str, no_export: bool| match (ipip, vxlan, no_export) {
        ("Always" | "CrossSubnet", _, _) => PoolWay::Ipip,
        (_, "Always" | "CrossSubnet", _) => PoolWay::Vxlan,
        (_, _, true) => PoolWay::NotExported,
        (_, _, false) => PoolWay::Announced,
    };
    let modes = ["", "Never", "Always", "CrossSubnet"];
    for (ipip, vxlan) in modes.iter().flat_map(|ipip| modes.map(|vxlan| (*ipip, vxlan))) {
        for (no_export, disabled) in [(false, false), (true, false), (false, true), (true, true)] {
            let object = pool(&[
                ("ipipMode", json!(ipip)),
                ("vxlanMode", json!(vxlan)),
                ("disableBGPExport", json!(no_export)),
                // It gives out no more addresses; those that it gave out are still there.
                ("disabled", json!(disabled)),
            ]);
            let expected = Pool { cidr: "10.1.0.0/16".parse().unwrap(), way: way(ipip, vxlan, no_export) };
            assert_eq!(read(&object), Ok(expected), "{object}");
        }
    }
    let left_out = pool(&[("ipipMode", Value::Null), ("vxlanMode", Value::Null)]);
    assert_eq!(read::<Pool>(&left_out).unwrap().way, PoolWay::Announced);
}

/// Something that is neither `Never` nor known encapsulates, as far as anybody can say.
#[test]
fn an_unknown_mode_of_a_pool_is_not_announced() {
    assert_eq!(read::<Pool>(&pool(&[("ipipMode", json!("never"))])).unwrap().way, PoolWay::Ipip);
    assert_eq!(read::<Pool>(&pool(&[("vxlanMode", json!("Geneve"))])).unwrap().way, PoolWay::Vxlan);
}

#[test]
fn what_is_no_network_for_pods_refuses_the_object() {
    for text in NO_NETWORKS.into_iter().chain([""]) {
        let with_it = |object| with(object, &[("cidr", json!(text))]);
        let refusals = [
            read::<Affinity>(&with_it(v3_affinity("confirmed", false))).map(drop),
            // Even one that has gone: whose it was cannot be told.
            read::<Affinity>(&with_it(crd_affinity("confirmed", "true"))).map(drop),
            read::<Block>(&with_it(block(&[]))).map(drop),
            read::<Pool>(&with_it(pool(&[]))).map(drop),
        ];
        for refused in refusals {
            assert!(
                matches!(&refused, Err(Unreadable::Network { field: "spec.cidr", text: of, .. }) if of == text),
                "{text}: {refused:?}"
            );
        }
    }
}
