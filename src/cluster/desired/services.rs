//! Which addresses of services this node announces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::{Family, Prefix};

use super::{Desired, Objects, Sources};
use crate::cluster::OnCordon;
use crate::cluster::objects::{
    AddressKind, Health, Node, ObjectName, Scheduling, Service, ServicesHere, TrafficPolicy,
};
use crate::config;

/// An address of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The service, as `namespace/name`.
    pub service: String,
    /// Where it has the address from.
    pub kind: AddressKind,
    /// The address itself.
    pub address: IpAddr,
    /// Which nodes can serve it.
    pub policy: TrafficPolicy,
    /// What it is announced as, or why it is not.
    pub announced: Result<Prefix, Withheld>,
}

/// Why an address is not announced by this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It is in none of the ranges that addresses of its kind may be from.
    OutOfRange,
    /// No endpoint here can serve it.
    NoEndpointHere,
    /// The node is labelled to be left out.
    NodeExcluded,
    /// The node takes no new pods, and has its services withdrawn meanwhile.
    NodeCordoned,
}

type Announced = BTreeMap<Prefix, BTreeSet<AddressKind>>;

pub(super) fn services(
    sources: &Sources,
    objects: &Objects,
    before: &Desired,
) -> (Announced, Vec<ServiceAddress>) {
    let Some(settings) = &sources.services else { return Default::default() };
    let (Some(node), true, true) =
        (objects.node(&sources.node), objects.services.is_known(), objects.slices.is_known())
    else {
        return (before.services.clone(), before.service_addresses.clone());
    };
    let withheld = withheld(sources.on_cordon, node);
    let serving = Serving::of(objects, &sources.node);
    let mut addresses = Vec::new();
    for (name, service) in objects.services.iter() {
        let shown = name.to_string();
        for &(kind, address) in &service.addresses {
            if ranges(settings, kind).is_empty() {
                continue;
            }
            let policy = policy(service, kind);
            let announced = match (withheld, range(settings, kind, address), policy) {
                (_, None, _) => Err(Withheld::OutOfRange),
                (Some(withheld), Some(_), _) => Err(withheld),
                (None, Some(range), TrafficPolicy::Cluster) if settings.aggregate => Ok(range),
                (None, Some(_), TrafficPolicy::Cluster) => Ok(Prefix::host(address)),
                (None, Some(_), TrafficPolicy::Local) if serving.is_here(name, address) => {
                    Ok(Prefix::host(address))
                }
                (None, Some(_), TrafficPolicy::Local) => Err(Withheld::NoEndpointHere),
            };
            addresses.push(ServiceAddress { service: shown.clone(), kind, address, policy, announced });
        }
    }
    let mut announced = Announced::new();
    for address in &addresses {
        if let Ok(prefix) = address.announced {
            announced.entry(prefix).or_default().insert(address.kind);
        }
    }
    // A label on the node is a word, and not the want of one.
    if withheld.is_none() {
        for (&prefix, kinds) in
            before.services.iter().filter(|(prefix, _)| objects.is_inherited_service(**prefix))
        {
            announced.entry(prefix).or_insert_with(|| kinds.clone());
        }
    }
    (announced, addresses)
}

/// Why a node announces no service at all.
fn withheld(on_cordon: OnCordon, node: &Node) -> Option<Withheld> {
    match (node.services, node.scheduling, on_cordon) {
        (ServicesHere::Excluded, _, _) => Some(Withheld::NodeExcluded),
        (ServicesHere::Announced, Scheduling::Cordoned, OnCordon::WithdrawServices) => {
            Some(Withheld::NodeCordoned)
        }
        (ServicesHere::Announced, Scheduling::Cordoned, OnCordon::KeepServices)
        | (ServicesHere::Announced, Scheduling::Open, _) => None,
    }
}

fn ranges(settings: &config::Services, kind: AddressKind) -> &[Prefix] {
    match kind {
        AddressKind::LoadBalancer => &settings.load_balancer,
        AddressKind::External => &settings.external,
        AddressKind::Cluster => &settings.cluster,
    }
}

fn range(settings: &config::Services, kind: AddressKind, address: IpAddr) -> Option<Prefix> {
    let host = Prefix::host(address);
    ranges(settings, kind).iter().find(|range| range.covers(host)).copied()
}

/// To kube-proxy, what comes to a cluster address is internal traffic wherever it comes from. Where the service asks for
/// `Local` outside the cluster, a node with an endpoint saves a hop.
fn policy(service: &Service, kind: AddressKind) -> TrafficPolicy {
    match (kind, service.external_traffic, service.internal_traffic) {
        (AddressKind::LoadBalancer | AddressKind::External, policy, _) => policy,
        (AddressKind::Cluster, TrafficPolicy::Cluster, TrafficPolicy::Cluster) => TrafficPolicy::Cluster,
        (AddressKind::Cluster, _, _) => TrafficPolicy::Local,
    }
}

/// Namespace and name of a service, and the family of an address of it.
type ServiceKey<'a> = (Option<&'a str>, &'a str, Family);

/// How well each service is served, here and anywhere.
struct Serving<'a>(BTreeMap<ServiceKey<'a>, Best>);

#[derive(Clone, Copy)]
struct Best {
    here: Health,
    anywhere: Health,
}

impl<'a> Serving<'a> {
    fn of(objects: &'a Objects, node: &str) -> Self {
        let mut serving = BTreeMap::new();
        for (name, slice) in objects.slices.iter() {
            let (Some(service), Some(family)) = (&slice.service, slice.family) else { continue };
            let best = serving
                .entry((name.namespace.as_deref(), service.as_str(), family))
                .or_insert(Best { here: Health::Out, anywhere: Health::Out });
            for endpoint in &slice.endpoints {
                best.anywhere = best.anywhere.max(endpoint.health);
                if endpoint.node.as_deref() == Some(node) {
                    best.here = best.here.max(endpoint.health);
                }
            }
        }
        Self(serving)
    }

    /// Whether this node is to have the traffic of a service that only nodes with endpoints serve. As kube-proxy does it,
    /// endpoints that are about to end serve when no other does (KEP-1669).
    fn is_here(&self, service: &ObjectName, address: IpAddr) -> bool {
        let family = if address.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
        match self.0.get(&(service.namespace.as_deref(), service.name.as_str(), family)) {
            Some(Best { here: Health::Ready, .. }) => true,
            Some(Best { here: Health::Terminating, anywhere }) => *anywhere == Health::Terminating,
            Some(Best { here: Health::Out, .. }) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordon_counts_where_it_is_to_and_the_label_always() {
        use OnCordon::{KeepServices, WithdrawServices};
        for (services, scheduling, on_cordon, expected) in [
            (ServicesHere::Announced, Scheduling::Open, WithdrawServices, None),
            (ServicesHere::Announced, Scheduling::Cordoned, KeepServices, None),
            (ServicesHere::Announced, Scheduling::Cordoned, WithdrawServices, Some(Withheld::NodeCordoned)),
            (ServicesHere::Excluded, Scheduling::Cordoned, WithdrawServices, Some(Withheld::NodeExcluded)),
            (ServicesHere::Excluded, Scheduling::Open, KeepServices, Some(Withheld::NodeExcluded)),
        ] {
            let node = Node { services, scheduling, ..Node::default() };
            assert_eq!(withheld(on_cordon, &node), expected, "{node:?}, {on_cordon:?}");
        }
    }
}
