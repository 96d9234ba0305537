//! What Kubernetes says of this node, in the words of the control API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bgp::Prefix;

use super::{View, words};
use crate::cluster::{
    AddressKind, Block, BlockSource, BorrowedStanding, Reach, Refusal, ServiceAddress, Snapshot, Standing,
    TrafficPolicy, Withheld,
};
use crate::config::Services;
use crate::control::{PageQuery, ServiceSelector, ServicesQuery, api};

/// Kinds of objects that services depend on.
const OF_SERVICES: [&str; 3] = ["Node", "Service", "EndpointSlice"];

impl View {
    pub(super) fn pods(&self) -> api::Pods {
        let kubernetes = self.kubernetes(|_| true);
        api::Pods { kubernetes, blocks: blocks(&self.config.pods.static_blocks, &self.known) }
    }

    pub(super) fn services(&self, query: &ServicesQuery) -> api::Services {
        let kubernetes = self.kubernetes(|kind| OF_SERVICES.contains(&kind));
        services(kubernetes, self.config.services.as_ref(), &self.known, query)
    }

    fn kubernetes(&self, is_meant: impl Fn(&str) -> bool) -> Option<api::Kubernetes> {
        kubernetes(self.node.as_deref()?, &self.known, is_meant, Instant::now())
    }
}

/// For `show summary`.
pub(super) fn summary(known: &Snapshot, now: Instant) -> Option<api::KubernetesSummary> {
    let trouble = &known.trouble;
    let absent = trouble.absent_node.iter().count();
    let contested = known.desired.blocks.values().filter(|block| !block.rivals.is_empty()).count();
    Some(api::KubernetesSummary {
        server: server(known.server.as_ref()?, now),
        blocks: words::count(known.desired.blocks.values().filter(|block| block.is_announced()).count()),
        service_prefixes: words::count(known.desired.services.len()),
        problems: words::count(
            trouble.refused.len() + trouble.unreadable.len() + trouble.missing.len() + absent + contested,
        ),
    })
}

fn kubernetes(
    node: &str,
    known: &Snapshot,
    is_meant: impl Fn(&str) -> bool,
    now: Instant,
) -> Option<api::Kubernetes> {
    let trouble = &known.trouble;
    let refused = trouble.refused.iter().filter(|(kind, _)| is_meant(kind));
    let unreadable = || trouble.unreadable.iter().filter(|object| is_meant(object.kind));
    Some(api::Kubernetes {
        node: node.to_owned(),
        node_absent: trouble.absent_node.is_some(),
        server: server(known.server.as_ref()?, now),
        refused: refused.map(|(kind, refusal)| refused_kind(kind, refusal)).collect(),
        unreadable: unreadable()
            .take(api::UNREADABLE_MAX)
            .map(|object| api::UnreadableObject {
                kind: object.kind.to_owned(),
                name: object.name.clone(),
                reason: object.why.clone(),
            })
            .collect(),
        unreadable_count: words::count(unreadable().count()),
        missing: counts(trouble.missing.iter().filter(|(kind, _)| is_meant(kind))),
        awaited: trouble
            .awaited
            .iter()
            .filter(|kind| is_meant(kind))
            .map(|kind| (*kind).to_owned())
            .collect(),
    })
}

fn counts<'a>(missing: impl Iterator<Item = (&'a &'static str, &'a usize)>) -> BTreeMap<String, u64> {
    missing.map(|(kind, missing)| ((*kind).to_owned(), words::count(*missing))).collect()
}

fn server(reach: &Reach, now: Instant) -> api::ApiServer {
    match reach {
        Reach::Untried => api::ApiServer::Untried,
        Reach::Answers => api::ApiServer::Answers,
        Reach::Away { since, why } => api::ApiServer::Away {
            since_s: now.saturating_duration_since(*since).as_secs(),
            reason: why.clone(),
        },
    }
}

fn refused_kind(kind: &str, refusal: &Refusal) -> api::RefusedKind {
    const FORBIDDEN: u16 = 403;
    let resource = refusal.resource.as_ref().filter(|_| refusal.code == FORBIDDEN);
    api::RefusedKind {
        kind: kind.to_owned(),
        code: refusal.code,
        reason: refusal.message.clone(),
        rule: resource.map(|resource| api::RoleRule {
            api_group: resource.group.clone(),
            resource: resource.plural.clone(),
            verbs: resource.verbs.iter().copied().map(str::to_owned).collect(),
        }),
    }
}

/// Those of the file before those of Kubernetes where both have one.
fn blocks(of_file: &[Prefix], known: &Snapshot) -> Vec<api::PodBlock> {
    let of_file: BTreeSet<Prefix> = of_file.iter().copied().collect();
    let in_file = of_file.iter().map(|&prefix| api::PodBlock {
        prefix,
        source: api::BlockSource::File,
        status: api::BlockStatus::Announced,
        blackhole: true,
        rivals: Vec::new(),
    });
    let in_kubernetes = known.desired.blocks.iter().map(|(&prefix, block)| api::PodBlock {
        prefix,
        source: match block.source {
            BlockSource::Node => api::BlockSource::Node,
            BlockSource::Calico => api::BlockSource::Calico,
        },
        status: block_status(block),
        // The one of the file is enough.
        blackhole: block.has_blackhole(prefix) || of_file.contains(&prefix),
        rivals: block.rivals.iter().cloned().collect(),
    });
    let borrowed = known.desired.borrowed.iter().map(|(&address, standing)| api::PodBlock {
        prefix: Prefix::host(address),
        source: api::BlockSource::Borrowed,
        status: borrowed_status(*standing),
        blackhole: false,
        rivals: Vec::new(),
    });
    let mut blocks: Vec<_> = in_file.chain(in_kubernetes).chain(borrowed).collect();
    blocks.sort_by_key(|block| block.prefix);
    blocks
}

fn block_status(block: &Block) -> api::BlockStatus {
    match &block.standing {
        Standing::Announced => api::BlockStatus::Announced,
        Standing::Pending => api::BlockStatus::Pending,
        Standing::PendingDeletion => api::BlockStatus::PendingDeletion,
        Standing::OwnerUnknown => api::BlockStatus::OwnerUnknown,
        Standing::PoolsUnknown => api::BlockStatus::PoolsUnknown,
        Standing::Unclaimed => api::BlockStatus::Unclaimed,
        Standing::OwnedBy(node) => api::BlockStatus::OwnedBy { node: node.clone() },
        Standing::NotExported => api::BlockStatus::NotExported,
        Standing::Ipip => api::BlockStatus::Ipip,
        Standing::Vxlan => api::BlockStatus::Vxlan,
    }
}

fn borrowed_status(standing: BorrowedStanding) -> api::BlockStatus {
    match standing {
        BorrowedStanding::Announced => api::BlockStatus::Announced,
        BorrowedStanding::RouteUnknown => api::BlockStatus::RouteUnknown,
        BorrowedStanding::NoPool => api::BlockStatus::NoPool,
        BorrowedStanding::NotExported => api::BlockStatus::NotExported,
        BorrowedStanding::Ipip => api::BlockStatus::Ipip,
        BorrowedStanding::Vxlan => api::BlockStatus::Vxlan,
    }
}

fn services(
    kubernetes: Option<api::Kubernetes>,
    settings: Option<&Services>,
    known: &Snapshot,
    query: &ServicesQuery,
) -> api::Services {
    let asked = Asked::of(known, &query.selector);
    let announced: Vec<Prefix> =
        asked.addresses.iter().filter_map(|address| address.announced.as_ref().ok().copied()).collect();
    let kept = asked.kept.iter().map(|(prefix, _)| *prefix);
    let prefixes: BTreeSet<Prefix> = announced.iter().copied().chain(kept).collect();
    api::Services {
        kubernetes,
        totals: api::ServiceTotals {
            kinds: settings.map(kinds).unwrap_or_default(),
            addresses: words::count(asked.addresses.len()),
            announced: words::count(announced.len()),
            prefixes: words::count(prefixes.len()),
        },
        page: asked.page(&query.page),
    }
}

/// What was asked for.
struct Asked<'a> {
    addresses: Vec<&'a ServiceAddress>,
    /// A file that was kept has what is announced, and not what for.
    kept: Vec<(Prefix, &'a BTreeSet<AddressKind>)>,
}

impl<'a> Asked<'a> {
    fn of(known: &'a Snapshot, selector: &ServiceSelector) -> Self {
        let is_meant = |address: &&ServiceAddress| match selector {
            ServiceSelector::All => true,
            ServiceSelector::Service(name) => address.service == *name,
            ServiceSelector::Address(meant) => address.address == *meant,
            ServiceSelector::Within(range) => range.covers(Prefix::host(address.address)),
        };
        let has_what_is_meant = |prefix: Prefix| match selector {
            ServiceSelector::All => true,
            ServiceSelector::Service(_) => false,
            ServiceSelector::Address(meant) => prefix.covers(Prefix::host(*meant)),
            ServiceSelector::Within(range) => range.covers(prefix),
        };
        let addresses: Vec<_> = known.desired.service_addresses.iter().filter(is_meant).collect();
        let kept = known.desired.services.iter().filter(|_| known.desired.service_addresses.is_empty());
        let kept = kept.filter(|(prefix, _)| has_what_is_meant(**prefix));
        Self { addresses, kept: kept.map(|(&prefix, kinds)| (prefix, kinds)).collect() }
    }

    /// An address has one entry, whatever the number of services that have it, so that a cursor cannot fall between them.
    fn page(&self, query: &PageQuery) -> api::Page<api::ServiceAddress> {
        let mut entries = Entries { query, entries: BTreeMap::new() };
        for address in &self.addresses {
            if let Some(entry) = entries.entry(Prefix::host(address.address)) {
                entry.services.push(service_use(address));
            }
        }
        for (prefix, kinds) in &self.kept {
            if let Some(entry) = entries.entry(*prefix) {
                entry.kept.extend(kinds.iter().copied().map(kind));
            }
        }
        entries.page()
    }
}

fn kinds(settings: &Services) -> Vec<api::ServiceKind> {
    let all = [
        (api::ServiceKind::LoadBalancer, &settings.load_balancer),
        (api::ServiceKind::External, &settings.external),
        (api::ServiceKind::Cluster, &settings.cluster),
    ];
    all.into_iter().filter(|(_, ranges)| !ranges.is_empty()).map(|(kind, _)| kind).collect()
}

/// The first entries behind a cursor: as many as are wanted, and the next one.
struct Entries<'a> {
    query: &'a PageQuery,
    entries: BTreeMap<Prefix, api::ServiceAddress>,
}

impl Entries<'_> {
    /// `None` for what is not on the page. What was on it and no longer is does not come back: the last entry only ever
    /// moves to the front.
    fn entry(&mut self, prefix: Prefix) -> Option<&mut api::ServiceAddress> {
        if self.query.after.is_some_and(|after| prefix <= after) {
            return None;
        }
        if self.entries.len() > self.query.limit && !self.entries.contains_key(&prefix) {
            let (last, _) = self.entries.last_key_value()?;
            if prefix > *last {
                return None;
            }
            self.entries.pop_last();
        }
        let empty = || api::ServiceAddress { prefix, services: Vec::new(), kept: Vec::new() };
        Some(self.entries.entry(prefix).or_insert_with(empty))
    }

    fn page(mut self) -> api::Page<api::ServiceAddress> {
        let more = self.entries.len() > self.query.limit;
        if more {
            self.entries.pop_last();
        }
        let items: Vec<_> = self.entries.into_values().collect();
        let next = items.last().filter(|_| more).map(|entry| entry.prefix);
        api::Page { items, next }
    }
}

fn service_use(address: &ServiceAddress) -> api::ServiceUse {
    api::ServiceUse {
        service: address.service.clone(),
        kind: kind(address.kind),
        policy: match address.policy {
            TrafficPolicy::Cluster => api::ServicePolicy::Cluster,
            TrafficPolicy::Local => api::ServicePolicy::Local,
        },
        status: match address.announced {
            Ok(prefix) => api::ServiceStatus::Announced { prefix },
            Err(Withheld::OutOfRange) => api::ServiceStatus::OutOfRange,
            Err(Withheld::NoEndpointHere) => api::ServiceStatus::NoEndpointHere,
            Err(Withheld::NodeExcluded) => api::ServiceStatus::NodeExcluded,
            Err(Withheld::NodeCordoned) => api::ServiceStatus::NodeCordoned,
        },
    }
}

fn kind(kind: AddressKind) -> api::ServiceKind {
    match kind {
        AddressKind::LoadBalancer => api::ServiceKind::LoadBalancer,
        AddressKind::External => api::ServiceKind::External,
        AddressKind::Cluster => api::ServiceKind::Cluster,
    }
}

#[cfg(test)]
mod tests;
