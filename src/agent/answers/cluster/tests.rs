use std::time::Duration;

use super::*;
use crate::cluster::{Desired, Resource, Trouble, UnreadableObject};

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn block(source: BlockSource, standing: Standing) -> Block {
    Block { source, standing, rivals: BTreeSet::new() }
}

fn address(service: &str, address: &str, announced: Result<&str, Withheld>) -> ServiceAddress {
    ServiceAddress {
        service: service.to_owned(),
        kind: AddressKind::External,
        address: address.parse().unwrap(),
        policy: TrafficPolicy::Cluster,
        announced: announced.map(prefix),
    }
}

fn with_services(
    services: impl IntoIterator<Item = (&'static str, AddressKind)>,
    service_addresses: Vec<ServiceAddress>,
) -> Snapshot {
    let services = services.into_iter().map(|(text, kind)| (prefix(text), [kind].into())).collect();
    let desired = Desired { services, service_addresses, ..Desired::default() };
    Snapshot { desired, server: Some(Reach::Answers), ..Snapshot::default() }
}

/// All pages of so many entries, one after the other.
fn pages(known: &Snapshot, limit: usize) -> Vec<Vec<api::ServiceAddress>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let api::Page { items, next } =
            Asked::of(known, &ServiceSelector::All).page(&PageQuery { after, limit });
        pages.push(items);
        match next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

#[test]
fn blocks_of_the_file_stand_beside_those_of_kubernetes() {
    let desired = Desired {
        blocks: [
            (prefix("10.1.8.0/26"), block(BlockSource::Calico, Standing::OwnedBy("c2".to_owned()))),
            (prefix("10.1.8.64/26"), block(BlockSource::Calico, Standing::OwnerUnknown)),
            (prefix("10.1.8.128/26"), block(BlockSource::Node, Standing::Announced)),
            (prefix("10.1.8.192/32"), block(BlockSource::Calico, Standing::Announced)),
        ]
        .into(),
        borrowed: [("10.1.8.70".parse().unwrap(), BorrowedStanding::Announced)].into(),
        ..Desired::default()
    };
    let known = Snapshot { desired, ..Snapshot::default() };
    let shown: Vec<_> = blocks(&[prefix("10.1.9.0/26"), prefix("10.1.8.0/26")], &known)
        .into_iter()
        .map(|block| (block.prefix.to_string(), block.source, block.blackhole))
        .collect();
    use api::BlockSource::{Borrowed, Calico, File, Node};
    let expected = [
        ("10.1.8.0/26", File, true),
        // Another node's gets no blackhole, but the file has its own.
        ("10.1.8.0/26", Calico, true),
        ("10.1.8.64/26", Calico, false),
        ("10.1.8.70/32", Borrowed, false),
        ("10.1.8.128/26", Node, true),
        ("10.1.8.192/32", Calico, false),
        ("10.1.9.0/26", File, true),
    ];
    assert_eq!(shown, expected.map(|(prefix, source, blackhole)| (prefix.to_owned(), source, blackhole)));
}

#[test]
fn a_cursor_never_falls_between_services_of_one_address() {
    let known = with_services(
        [("192.0.2.1/32", AddressKind::External), ("192.0.2.2/32", AddressKind::External)],
        vec![
            address("a/one", "192.0.2.2", Ok("192.0.2.2/32")),
            address("a/two", "2001:db8::1", Ok("192.0.2.1/32")),
            address("a/two", "192.0.2.1", Ok("192.0.2.1/32")),
            address("b/three", "2001:db8::1", Err(Withheld::OutOfRange)),
            address("b/three", "192.0.2.2", Err(Withheld::OutOfRange)),
            address("b/two", "192.0.2.1", Err(Withheld::NoEndpointHere)),
        ],
    );
    let expected = [
        ("192.0.2.1/32", vec!["a/two", "b/two"]),
        ("192.0.2.2/32", vec!["a/one", "b/three"]),
        ("2001:db8::1/128", vec!["a/two", "b/three"]),
    ];
    for limit in 1..=4 {
        let pages = pages(&known, limit);
        assert_eq!(pages.len(), expected.len().div_ceil(limit), "no page is empty");
        let all: Vec<_> = pages
            .iter()
            .flatten()
            .map(|entry| {
                let services = entry.services.iter().map(|used| used.service.as_str()).collect::<Vec<_>>();
                (entry.prefix, services)
            })
            .collect();
        assert_eq!(all, expected.clone().map(|(text, services)| (prefix(text), services)), "{limit}");
    }
}

#[test]
fn what_a_file_kept_is_shown_until_the_services_are_known() {
    let kept = [("192.0.2.0/24", AddressKind::External), ("198.51.100.1/32", AddressKind::Cluster)];
    let shown = |known: &Snapshot| {
        let entries = pages(known, 1).into_iter().flatten();
        entries.map(|entry| (entry.prefix.to_string(), entry.services.len(), entry.kept)).collect::<Vec<_>>()
    };
    let expected = [
        ("192.0.2.0/24".to_owned(), 0, vec![api::ServiceKind::External]),
        ("198.51.100.1/32".to_owned(), 0, vec![api::ServiceKind::Cluster]),
    ];
    assert_eq!(shown(&with_services(kept, Vec::new())), expected);
    let known = with_services(kept, vec![address("a/one", "192.0.2.7", Ok("192.0.2.0/24"))]);
    assert_eq!(shown(&known), [("192.0.2.7/32".to_owned(), 1, Vec::new())]);
}

#[test]
fn totals_count_what_all_pages_have() {
    let known = with_services(
        [("192.0.2.0/24", AddressKind::External)],
        vec![
            address("a/one", "192.0.2.1", Ok("192.0.2.0/24")),
            address("a/two", "192.0.2.2", Ok("192.0.2.0/24")),
            address("a/two", "203.0.113.1", Err(Withheld::OutOfRange)),
        ],
    );
    let settings = Services {
        load_balancer: Vec::new(),
        external: vec![prefix("192.0.2.0/24")],
        cluster: Vec::new(),
        aggregate: true,
    };
    let page = PageQuery { after: None, limit: 1 };
    let kinds = vec![api::ServiceKind::External];
    let totals = |addresses, announced, prefixes| api::ServiceTotals {
        kinds: kinds.clone(),
        addresses,
        announced,
        prefixes,
    };
    for (selector, expected) in [
        (ServiceSelector::All, totals(3, 2, 1)),
        (ServiceSelector::Service("a/two".to_owned()), totals(2, 1, 1)),
        (ServiceSelector::Address("203.0.113.1".parse().unwrap()), totals(1, 0, 0)),
        (ServiceSelector::Within(prefix("192.0.2.0/31")), totals(1, 1, 1)),
    ] {
        let query = ServicesQuery { selector, page: page.clone() };
        let answer = services(None, Some(&settings), &known, &query);
        assert_eq!((answer.totals, answer.page.items.len()), (expected, 1), "{query:?}");
    }
}

#[test]
fn a_service_an_address_or_a_range_can_be_asked_for() {
    let known = with_services(
        [("192.0.2.1/32", AddressKind::External)],
        vec![
            address("a/one", "192.0.2.1", Ok("192.0.2.1/32")),
            address("a/two", "192.0.2.1", Ok("192.0.2.1/32")),
            address("a/two", "2001:db8::1", Err(Withheld::OutOfRange)),
            address("b/two", "198.51.100.1", Err(Withheld::NoEndpointHere)),
        ],
    );
    let shown = |known: &Snapshot, selector: ServiceSelector| {
        let items = Asked::of(known, &selector).page(&PageQuery { after: None, limit: 9 }).items;
        let entry = |entry: api::ServiceAddress| {
            let services = entry.services.iter().map(|used| used.service.clone()).collect::<Vec<_>>();
            format!("{} {}", entry.prefix, services.join(" "))
        };
        items.into_iter().map(entry).collect::<Vec<_>>()
    };
    let service = |name: &str| ServiceSelector::Service(name.to_owned());
    let at = |text: &str| ServiceSelector::Address(text.parse().unwrap());
    let within = |text| ServiceSelector::Within(prefix(text));
    let none: [&str; 0] = [];
    assert_eq!(shown(&known, service("a/two")), ["192.0.2.1/32 a/two", "2001:db8::1/128 a/two"]);
    assert_eq!(shown(&known, service("two")), none);
    assert_eq!(shown(&known, at("192.0.2.1")), ["192.0.2.1/32 a/one a/two"]);
    assert_eq!(shown(&known, at("192.0.2.2")), none);
    assert_eq!(shown(&known, within("192.0.0.0/8")), ["192.0.2.1/32 a/one a/two"]);
    assert_eq!(shown(&known, within("::/0")), ["2001:db8::1/128 a/two"]);
    // Of what a file kept, the range is all that is known.
    let kept = with_services([("192.0.2.0/24", AddressKind::External)], Vec::new());
    assert_eq!(shown(&kept, at("192.0.2.7")), ["192.0.2.0/24 "]);
    assert_eq!(shown(&kept, within("192.0.2.0/23")), ["192.0.2.0/24 "]);
    assert_eq!(shown(&kept, within("192.0.2.0/25")), none);
    assert_eq!(shown(&kept, service("a/one")), none);
}

/// A server that is away, refuses this and that, and has objects that make no sense.
fn troubled(since: Instant) -> Snapshot {
    let refusal = |code, plural: &str| Refusal {
        code,
        message: "its words".to_owned(),
        resource: Some(Resource {
            group: "example.org".to_owned(),
            plural: plural.to_owned(),
            verbs: &["list", "watch"],
        }),
    };
    let unreadable = |kind| UnreadableObject { kind, name: "x".to_owned(), why: "y".to_owned() };
    let mut contested = block(BlockSource::Calico, Standing::Announced);
    contested.rivals.insert("c2".to_owned());
    Snapshot {
        desired: Desired {
            blocks: [
                (prefix("10.1.8.0/26"), contested),
                (prefix("10.1.8.64/26"), block(BlockSource::Calico, Standing::Pending)),
            ]
            .into(),
            ..Desired::default()
        },
        pods: None,
        server: Some(Reach::Away { since, why: "connection refused".to_owned() }),
        trouble: Trouble {
            absent_node: Some("c1".to_owned()),
            refused: [("EndpointSlice", refusal(404, "endpointslices")), ("IPPool", refusal(403, "ippools"))]
                .into(),
            unreadable: (0..api::UNREADABLE_MAX)
                .map(|_| unreadable("IPAMBlock"))
                .chain([unreadable("Service")])
                .collect(),
            missing: [("BlockAffinity", 3), ("Service", 1)].into(),
            awaited: vec!["EndpointSlice", "IPPool"],
        },
    }
}

#[test]
fn trouble_is_told_where_it_matters() {
    let since = Instant::now();
    let known = troubled(since);
    let now = since + Duration::from_secs(83);
    let all = kubernetes("c1", &known, |_| true, now).unwrap();
    let away = api::ApiServer::Away { since_s: 83, reason: "connection refused".to_owned() };
    assert_eq!((&all.server, all.node_absent), (&away, true));
    assert_eq!((all.unreadable.len(), all.unreadable_count), (api::UNREADABLE_MAX, 1001));
    let rules: Vec<_> = all.refused.iter().map(|refused| (refused.code, refused.rule.clone())).collect();
    let rule = api::RoleRule {
        api_group: "example.org".to_owned(),
        resource: "ippools".to_owned(),
        verbs: vec!["list".to_owned(), "watch".to_owned()],
    };
    // A rule does not bring a kind that is not there.
    assert_eq!(rules, [(404, None), (403, Some(rule))]);

    let of_services = kubernetes("c1", &known, |kind| OF_SERVICES.contains(&kind), now).unwrap();
    let kinds: Vec<_> = of_services.refused.iter().map(|refused| refused.kind.as_str()).collect();
    assert_eq!((kinds, of_services.unreadable_count), (vec!["EndpointSlice"], 1));
    let missing =
        |kinds: &[(&str, u64)]| kinds.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    assert_eq!(all.missing, missing(&[("BlockAffinity", 3), ("Service", 1)]));
    assert_eq!(of_services.missing, missing(&[("Service", 1)]));
    assert_eq!((all.awaited.len(), of_services.awaited), (2, vec!["EndpointSlice".to_owned()]));

    let expected = api::KubernetesSummary {
        server: away,
        blocks: 1,
        service_prefixes: 0,
        problems: 1 + 2 + 1001 + 2 + 1,
    };
    assert_eq!(summary(&known, now), Some(expected));
    assert_eq!(summary(&Snapshot::default(), now), None);
    assert_eq!(kubernetes("c1", &Snapshot::default(), |_| true, now), None);
}
