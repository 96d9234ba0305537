//! Objects with anything in any of their fields: never a panic, never a network that no pod can have.

use proptest::prelude::*;

use super::*;

/// Everything that is looked at is there.
fn whole() -> Vec<Value> {
    vec![
        json!({"spec": {"podCIDRs": ["10.42.1.0/24"], "podCIDR": "10.42.1.0/24"}}),
        json!({"spec": {"cidr": "10.1.8.192/26", "deleted": "false", "node": "c1", "state": "confirmed", "type": "host"}}),
        json!({"spec": {"cidr": "10.1.8.192/26", "deleted": false, "affinity": "host:c1"}}),
        json!({"spec": {"cidr": "10.1.0.0/16", "ipipMode": "Never", "vxlanMode": "Never", "disableBGPExport": true}}),
        json!({
            "spec": {
                "type": "LoadBalancer",
                "clusterIPs": ["10.96.0.7"],
                "clusterIP": "10.96.0.7",
                "externalIPs": ["192.0.2.7"],
                "externalTrafficPolicy": "Local",
                "internalTrafficPolicy": "Cluster",
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7", "ipMode": "VIP"}]}},
        }),
        json!({
            "addressType": "IPv4",
            "endpoints": [{
                "nodeName": "c1",
                "conditions": {"ready": true, "serving": true, "terminating": false},
            }],
        }),
    ]
}

/// Reads it as every kind, its own among them; the networks of those that make sense.
fn networks(object: &Value) -> Vec<Prefix> {
    let node = read::<Node>(object).map(|node| node.pod_cidrs).unwrap_or_default();
    let affinity = read::<Affinity>(object).map(|affinity| affinity.block);
    let block = read::<Block>(object).map(|block| block.cidr);
    let pool = read::<Pool>(object).map(|pool| pool.cidr);
    // They have none.
    let _ = (read::<Service>(object), read::<Slice>(object));
    node.into_iter().chain([affinity, block, pool].into_iter().flatten()).collect()
}

/// JSON pointers to all that is in it.
fn places(value: &Value) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (escaped(key), value)).collect(),
        Value::Array(values) => {
            values.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return vec![String::new()],
    };
    let below = below
        .into_iter()
        .flat_map(|(key, value)| places(value).into_iter().map(move |place| format!("/{key}{place}")));
    below.chain([String::new()]).collect()
}

/// RFC 6901 section 3.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(/[0-9]{1,3})?",
        "[0-9a-f:]{2,20}(/[0-9]{1,3})?",
        "(None|Local|Cluster|confirmed|host:|virtual|true|IPv6|ExternalName|)",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any_text(), inner, 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Of each field that is looked at, every type of JSON but its own.
#[test]
fn a_field_of_another_type_refuses_the_object() {
    fn check<T: Object + std::fmt::Debug>(whole: &Value) {
        let others = [json!(true), json!(7), json!(-1.5), json!("word"), json!([[]]), json!({"key": 1})];
        assert!(read::<T>(whole).is_ok(), "{whole}");
        for place in places(whole).into_iter().filter(|place| !place.is_empty()) {
            let field = whole.pointer(&place).unwrap();
            let is_of_its_type = |other: &Value| {
                std::mem::discriminant(other) == std::mem::discriminant(field)
                    // Calico itself has two types for this one.
                    || (place == "/spec/deleted" && T::KIND == Affinity::KIND && (other.is_boolean() || other.is_string()))
                    // Deeper inside, serde takes a list as the fields in their order.
                    || (field.is_object() && other.is_array() && place.matches('/').count() > 1)
            };
            for other in others.iter().filter(|other| !is_of_its_type(other)) {
                let mut object = whole.clone();
                *object.pointer_mut(&place).unwrap() = other.clone();
                let refused = read::<T>(&object);
                assert!(matches!(refused, Err(Unreadable::Json(_))), "{} {object}: {refused:?}", T::KIND);
            }
        }
    }
    let [node, affinity, block, pool, service, slice] = <[Value; 6]>::try_from(whole()).unwrap();
    check::<Node>(&node);
    check::<Affinity>(&affinity);
    check::<Block>(&block);
    check::<Pool>(&pool);
    check::<Service>(&service);
    check::<Slice>(&slice);
}

proptest! {
    #[test]
    fn whatever_stands_in_a_field_is_read_or_refused(
        object in proptest::sample::select(whole()),
        garbage in proptest::collection::vec((any::<proptest::sample::Index>(), any_value()), 1..4),
    ) {
        let mut object = object;
        for (place, value) in garbage {
            let places = places(&object);
            let place: &String = place.get(&places);
            *object.pointer_mut(place).unwrap() = value;
        }
        for network in networks(&object) {
            prop_assert_eq!(config::reserved(network), None);
        }
    }
}
