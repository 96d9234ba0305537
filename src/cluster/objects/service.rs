//! Services and their endpoints.

use std::net::IpAddr;

use bgp::Family;
use serde::Deserialize;

use super::{Object, Raw, Unreadable, part, section};

/// Of an EndpointSlice: the service that it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service of `v1`, with every address that others may use it by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Service {
    pub(crate) addresses: Vec<(AddressKind, IpAddr)>,
    pub(crate) external_traffic: TrafficPolicy,
    pub(crate) internal_traffic: TrafficPolicy,
}

/// Where a service has an address from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressKind {
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    External,
    /// `spec.clusterIPs`.
    Cluster,
}

/// `externalTrafficPolicy` and `internalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// Any node will do.
    #[default]
    Cluster,
    /// Only a node that has an endpoint.
    Local,
}

impl Object for Service {
    const KIND: &'static str = "Service";

    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Spec {
            r#type: String,
            #[serde(rename = "clusterIPs")]
            cluster_ips: Vec<String>,
            #[serde(rename = "clusterIP")]
            cluster_ip: Option<String>,
            #[serde(rename = "externalIPs")]
            external_ips: Vec<String>,
            external_traffic_policy: Option<String>,
            internal_traffic_policy: Option<String>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Status {
            load_balancer: LoadBalancer,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct LoadBalancer {
            ingress: Vec<Ingress>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Ingress {
            ip: Option<String>,
            ip_mode: Option<String>,
        }
        let mut spec: Spec = section(raw.fields, "spec")?;
        let status: Status = section(raw.fields, "status")?;
        // An alias of a name elsewhere has no address of its own.
        if spec.r#type == "ExternalName" {
            return Ok(Self::default());
        }
        if spec.cluster_ips.is_empty() {
            spec.cluster_ips.extend(spec.cluster_ip);
        }
        // A headless one: kube-proxy serves none of its addresses, whatever else it asks for.
        if spec.cluster_ips.first().is_some_and(|ip| ip == "None") {
            return Ok(Self::default());
        }
        let mut addresses = Vec::new();
        if spec.r#type == "LoadBalancer" {
            // With `ipMode: Proxy` the nodes do not answer for the address (KEP-1860).
            let ours = status.load_balancer.ingress.iter();
            let ours = ours.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
            addresses
                .extend(ours.filter_map(|ingress| Some((AddressKind::LoadBalancer, ingress.ip.as_deref()?))));
        }
        addresses.extend(spec.external_ips.iter().map(|ip| (AddressKind::External, ip.as_str())));
        let cluster = spec.cluster_ips.iter().filter(|ip| !ip.is_empty());
        addresses.extend(cluster.map(|ip| (AddressKind::Cluster, ip.as_str())));
        let address = |(kind, text): (AddressKind, &str)| match text.parse() {
            Ok(address) => Ok((kind, address)),
            Err(_) => Err(Unreadable::Network {
                field: match kind {
                    AddressKind::LoadBalancer => "status.loadBalancer.ingress",
                    AddressKind::External => "spec.externalIPs",
                    AddressKind::Cluster => "spec.clusterIPs",
                },
                text: text.to_owned(),
                why: "is not an address".to_owned(),
            }),
        };
        Ok(Self {
            addresses: addresses.into_iter().map(address).collect::<Result<_, _>>()?,
            external_traffic: policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?,
            internal_traffic: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?,
        })
    }
}

fn policy(field: &'static str, word: Option<&str>) -> Result<TrafficPolicy, Unreadable> {
    match word {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(word) => Err(Unreadable::Word { field, word: word.to_owned() }),
    }
}

/// Endpoints of a service: EndpointSlice of `discovery.k8s.io/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The name of the service, which is in the slice's own namespace.
    pub(crate) service: Option<String>,
    /// `None` for names.
    pub(crate) family: Option<Family>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One of them, as far as it can take load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node: Option<String>,
    pub(crate) health: Health,
}

/// What an endpoint can do for new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Nothing.
    Out,
    /// It still serves, and is about to end (KEP-1669).
    Terminating,
    Ready,
}

impl Object for Slice {
    const KIND: &'static str = "EndpointSlice";

    fn read(raw: Raw<'_>) -> Result<Self, Unreadable> {
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct EndpointInJson {
            node_name: Option<String>,
            conditions: Option<Conditions>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Conditions {
            ready: Option<bool>,
            serving: Option<bool>,
            terminating: Option<bool>,
        }
        let address_type: String = part(raw.fields, "addressType")?;
        let endpoints: Vec<EndpointInJson> = part(raw.fields, "endpoints")?;
        let family = match address_type.as_str() {
            "IPv4" => Some(Family::Ipv4Unicast),
            "IPv6" => Some(Family::Ipv6Unicast),
            _ => None,
        };
        let endpoints = endpoints.into_iter().map(|endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            // What is not known counts as ready (`EndpointConditions` of `discovery.k8s.io/v1`).
            let is_ready = conditions.ready.unwrap_or(true);
            let is_serving = conditions.serving.unwrap_or(is_ready);
            let health = match (is_ready, is_serving, conditions.terminating.unwrap_or(false)) {
                (true, _, _) => Health::Ready,
                (false, true, true) => Health::Terminating,
                (false, true, false) | (false, false, _) => Health::Out,
            };
            Endpoint { node: endpoint.node_name, health }
        });
        let service = raw.labels.get(SERVICE_NAME).cloned();
        Ok(Self { service, family, endpoints: endpoints.collect() })
    }
}
