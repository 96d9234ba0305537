//! `show services`: a line for each address of each service.

use selvedge::control::api::{
    Kubernetes, ServiceAddress, ServiceKind, ServicePolicy, ServiceStatus, ServiceTotals, ServiceUse,
};

use super::{Position, counted, kubernetes, left, listed, table};
use crate::output::printable;

/// The rows of a page.
pub(crate) fn services(addresses: &[ServiceAddress], position: Position) -> String {
    if addresses.is_empty() && position == Position::First {
        return "No addresses of services.\n".to_owned();
    }
    let columns = [
        left("Address", 15),
        left("Service", 24),
        left("Kind", 13),
        left("Policy", 7),
        left("Announced as", 0),
    ];
    table(columns, addresses.iter().flat_map(rows).collect(), position)
}

fn rows(address: &ServiceAddress) -> impl Iterator<Item = [String; 5]> {
    let used = address.services.iter().map(|used| {
        [
            address.prefix.address().to_string(),
            printable(&used.service),
            key(used.kind).to_owned(),
            match used.policy {
                ServicePolicy::Cluster => "Cluster",
                ServicePolicy::Local => "Local",
            }
            .to_owned(),
            announced(used),
        ]
    });
    let kept = address.kept.iter().map(|kind| {
        let prefix = address.prefix;
        let shown = prefix.address().to_string();
        [shown, "not known yet".to_owned(), key(*kind).to_owned(), "-".to_owned(), prefix.to_string()]
    });
    used.chain(kept)
}

/// As what, or why not.
fn announced(used: &ServiceUse) -> String {
    match used.status {
        ServiceStatus::Announced { prefix } => prefix.to_string(),
        ServiceStatus::OutOfRange => format!("no: out of the ranges of [services] {}", key(used.kind)),
        ServiceStatus::NoEndpointHere => "no: no endpoint here".to_owned(),
        ServiceStatus::NodeExcluded => {
            "no: the node is labelled exclude-from-external-load-balancers".to_owned()
        }
        ServiceStatus::NodeCordoned => "no: the node is cordoned".to_owned(),
    }
}

/// The key of `[services]`.
fn key(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::LoadBalancer => "load-balancer",
        ServiceKind::External => "external",
        ServiceKind::Cluster => "cluster",
    }
}

/// What stands below all pages.
pub(crate) fn services_totals(totals: &ServiceTotals, kubernetes: Option<&Kubernetes>) -> String {
    let ServiceTotals { kinds, addresses, announced, prefixes } = totals;
    let prefixes = counted(*prefixes, "prefix", "prefixes");
    let kinds = listed(kinds.iter().map(|kind| key(*kind).to_owned()));
    let (head, errors) =
        (kubernetes::head(kubernetes), kubernetes.map(kubernetes::errors).unwrap_or_default());
    let count = match addresses {
        // A start without the server has what is announced, and not what for.
        0 if totals.prefixes > 0 => format!("Announced: {prefixes}, of which services is not known yet"),
        _ => format!("Addresses: {addresses}, announced: {announced}; {prefixes} for all of them"),
    };
    format!(
        "\n{count}\n\
         Kinds that [services] has ranges for: {kinds}\n{head}{errors}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::kubernetes::tests::answering;
    use super::*;

    fn used(service: &str, kind: ServiceKind, policy: ServicePolicy, status: ServiceStatus) -> ServiceUse {
        ServiceUse { service: service.to_owned(), kind, policy, status }
    }

    #[test]
    fn addresses_are_a_line_for_each_service_that_has_them() {
        use ServiceKind::{Cluster, External, LoadBalancer};
        let prefix = |text: &str| text.parse().unwrap();
        let address = |text, services| ServiceAddress { prefix: prefix(text), services, kept: Vec::new() };
        let announced = |text| ServiceStatus::Announced { prefix: prefix(text) };
        let addresses = [
            address(
                "192.0.2.1/32",
                vec![
                    used("default/web", LoadBalancer, ServicePolicy::Cluster, announced("192.0.2.0/24")),
                    used("evil\u{1b}/web", External, ServicePolicy::Cluster, ServiceStatus::OutOfRange),
                ],
            ),
            address(
                "192.0.2.2/32",
                vec![used("default/dns", LoadBalancer, ServicePolicy::Local, ServiceStatus::NoEndpointHere)],
            ),
            ServiceAddress { prefix: prefix("198.51.100.0/24"), services: Vec::new(), kept: vec![Cluster] },
            address(
                "2001:db8::1/128",
                vec![used("default/dns", Cluster, ServicePolicy::Cluster, ServiceStatus::NodeExcluded)],
            ),
            address(
                "2001:db8::2/128",
                vec![used("default/dns", Cluster, ServicePolicy::Cluster, ServiceStatus::NodeCordoned)],
            ),
        ];
        let expected = "\
Address          Service                   Kind           Policy   Announced as
192.0.2.1        default/web               load-balancer  Cluster  192.0.2.0/24
192.0.2.1        evil\\u{1b}/web            external       Cluster  no: out of the ranges of [services] external
192.0.2.2        default/dns               load-balancer  Local    no: no endpoint here
198.51.100.0     not known yet             cluster        -        198.51.100.0/24
2001:db8::1      default/dns               cluster        Cluster  no: the node is labelled exclude-from-external-load-balancers
2001:db8::2      default/dns               cluster        Cluster  no: the node is cordoned
";
        assert_eq!(services(&addresses, Position::First), expected);
        assert_eq!(services(&[], Position::First), "No addresses of services.\n");
        assert_eq!(services(&[], Position::Later), "");
    }

    #[test]
    fn totals_stand_below() {
        let kinds = vec![ServiceKind::LoadBalancer, ServiceKind::External];
        let totals = ServiceTotals { kinds, addresses: 5, announced: 3, prefixes: 1 };
        let expected = "
Addresses: 5, announced: 3; 1 prefix for all of them
Kinds that [services] has ranges for: load-balancer, external
Kubernetes: this is node c1; API server answers
";
        assert_eq!(services_totals(&totals, Some(&answering())), expected);
        let kept = ServiceTotals { kinds: Vec::new(), addresses: 0, announced: 0, prefixes: 5 };
        assert!(
            services_totals(&kept, None).starts_with("\nAnnounced: 5 prefixes, of which services is not")
        );
        let nothing = ServiceTotals { kinds: Vec::new(), addresses: 0, announced: 0, prefixes: 0 };
        assert!(services_totals(&nothing, None).contains("has ranges for: none\nKubernetes: not asked"));
    }
}
