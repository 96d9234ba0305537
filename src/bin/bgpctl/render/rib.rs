//! Routes: the whole RIB with a line for each path, one destination in full, and what went to and fro.

use bgp::rib::Originator;
use selvedge::control::api::{
    AdvertisedRoute, Destination, Path, PathAttributes, PathOrigin, PathSource, PathStatus, ReceivedRoute,
};

use super::policy::trace;
use super::{Position, left, or_dash, peer, right, table};
use crate::output::printable;

const LEGEND: &str = "\
Status: * valid, S stale, > best, = multipath, x refused, e echo of an own route
Origin: i - IGP, e - EGP, ? - incomplete

";

/// Least widths that hold most IPv4 prefixes and link-local addresses.
const PREFIX_WIDTH: u16 = 18;
const NEXT_HOP_WIDTH: u16 = 25;

/// `show rib`
pub(crate) fn rib(destinations: &[Destination], position: Position) -> String {
    let columns = [
        left("", 2),
        left("Network", PREFIX_WIDTH),
        left("Next hop", NEXT_HOP_WIDTH),
        left("Interface", 0),
        left("From", 12),
        right("Metric"),
        right("LocPrf"),
        left("Path", 0),
    ];
    let rows = destinations.iter().flat_map(|destination| {
        destination.paths.iter().enumerate().map(|(index, path)| {
            let network = if index == 0 { destination.prefix.to_string() } else { String::new() };
            [
                (if path.stale { stale_marker } else { marker })(&path.status).to_owned(),
                network,
                printable(&path.attributes.next_hop),
                or_dash(path.interface.as_deref().map(printable)),
                source(&path.from),
                or_dash(path.attributes.med),
                or_dash(path.attributes.local_pref),
                as_path(&path.attributes),
            ]
        })
    });
    headed(position, destinations.is_empty(), table(columns, rows.collect(), position))
}

/// `show neighbor X received`
pub(crate) fn received(routes: &[ReceivedRoute], position: Position) -> String {
    let columns = [
        left("", 2),
        left("Network", PREFIX_WIDTH),
        left("Next hop", NEXT_HOP_WIDTH),
        right("Metric"),
        right("LocPrf"),
        left("Path", 20),
        left("Why not", 0),
        left("Policy", 0),
    ];
    let rows = routes.iter().map(|route| {
        let why = match &route.status {
            PathStatus::Best | PathStatus::Multipath => String::new(),
            PathStatus::NotSelected { reason } | PathStatus::Refused { reason } => printable(reason),
            PathStatus::Echo => "originated here".to_owned(),
        };
        [
            (if route.stale { stale_marker } else { marker })(&route.status).to_owned(),
            route.prefix.to_string(),
            printable(&route.attributes.next_hop),
            or_dash(route.attributes.med),
            or_dash(route.attributes.local_pref),
            as_path(&route.attributes),
            why,
            route.policy.as_ref().map(trace).unwrap_or_default(),
        ]
    });
    headed(position, routes.is_empty(), table(columns, rows.collect(), position))
}

/// `show neighbor X advertised`
pub(crate) fn advertised(routes: &[AdvertisedRoute], position: Position) -> String {
    if routes.is_empty() && position == Position::First {
        return "No routes.\n".to_owned();
    }
    let columns = [
        left("Network", PREFIX_WIDTH),
        left("Next hop", NEXT_HOP_WIDTH),
        right("Metric"),
        left("Path", 20),
        left("Communities", 0),
    ];
    let rows = routes.iter().map(|route| {
        [
            route.prefix.to_string(),
            printable(&route.attributes.next_hop),
            or_dash(route.attributes.med),
            as_path(&route.attributes),
            communities(&route.attributes),
        ]
    });
    table(columns, rows.collect(), position)
}

/// `show rib PREFIX`: every path with its fate.
pub(crate) fn destinations(destinations: &[Destination]) -> String {
    destinations
        .iter()
        .map(|destination| {
            let count = match destination.paths.len() {
                1 => "1 path".to_owned(),
                count => format!("{count} paths"),
            };
            let paths = destination.paths.iter().map(path).collect::<String>();
            format!("{}, {count}\n{paths}", destination.prefix)
        })
        .collect()
}

fn headed(position: Position, empty: bool, table: String) -> String {
    match position {
        Position::First if empty => "No routes.\n".to_owned(),
        Position::First => LEGEND.to_owned() + &table,
        Position::Later => table,
    }
}

/// How a path stands, in the column before it.
fn marker(status: &PathStatus) -> &'static str {
    match status {
        PathStatus::Best => "*>",
        PathStatus::Multipath => "*=",
        PathStatus::NotSelected { .. } => "*",
        PathStatus::Refused { .. } => "x",
        PathStatus::Echo => "e",
    }
}

/// The same of a stale one, as FRR has it.
fn stale_marker(status: &PathStatus) -> &'static str {
    match status {
        PathStatus::Best => "S>",
        PathStatus::Multipath => "S=",
        PathStatus::NotSelected { .. } => "S",
        PathStatus::Refused { .. } => "Sx",
        PathStatus::Echo => "Se",
    }
}

fn fate(status: &PathStatus) -> String {
    match status {
        PathStatus::Best => "best".to_owned(),
        PathStatus::Multipath => "multipath".to_owned(),
        PathStatus::NotSelected { reason } => format!("not selected: {}", printable(reason)),
        PathStatus::Refused { reason } => format!("refused: {}", printable(reason)),
        PathStatus::Echo => "echo: originated here, and accepted by the peer".to_owned(),
    }
}

fn source(from: &PathSource) -> String {
    match from {
        PathSource::Neighbor { name, hostname, .. } => peer(hostname.as_deref(), name),
        PathSource::Originated(Originator::Loopback) => "loopback".to_owned(),
        PathSource::Originated(Originator::StaticBlock) => "static block".to_owned(),
        PathSource::Originated(Originator::NodeBlock) => "node's block".to_owned(),
        PathSource::Originated(Originator::CalicoBlock) => "Calico's block".to_owned(),
        PathSource::Originated(Originator::BorrowedAddress) => "borrowed address".to_owned(),
        PathSource::Originated(Originator::Service) => "service".to_owned(),
    }
}

/// As FRR ends its lines: the path, then one letter for ORIGIN.
fn as_path(attributes: &PathAttributes) -> String {
    let origin = match attributes.origin {
        PathOrigin::Igp => "i",
        PathOrigin::Egp => "e",
        PathOrigin::Incomplete => "?",
    };
    if attributes.as_path.is_empty() {
        origin.to_owned()
    } else {
        format!("{} {origin}", printable(&attributes.as_path))
    }
}

/// Of every kind: standard ones have two parts or a word, large ones three, extended ones are one long number.
fn communities(attributes: &PathAttributes) -> String {
    let PathAttributes { communities, large_communities, extended_communities, .. } = attributes;
    words(communities.iter().chain(large_communities).chain(extended_communities))
}

fn words<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    words.into_iter().map(|word| printable(word)).collect::<Vec<_>>().join(" ")
}

fn path(path: &Path) -> String {
    let attributes = &path.attributes;
    let mut text = format!(
        "  {} from {}",
        (if path.stale { stale_marker } else { marker })(&path.status),
        source(&path.from)
    );
    if let PathSource::Neighbor { address: Some(address), .. } = path.from {
        text += &format!(", {address}");
    }
    let stale = if path.stale { ", stale: the neighbor restarts" } else { "" };
    text += &format!("\n     {}{stale}", fate(&path.status));
    text += &format!("\n     next hop {}", printable(&attributes.next_hop));
    if let Some(interface) = &path.interface {
        text += &format!(" dev {}", printable(interface));
    }
    let origin = match attributes.origin {
        PathOrigin::Igp => "IGP",
        PathOrigin::Egp => "EGP",
        PathOrigin::Incomplete => "incomplete",
    };
    let as_path = if attributes.as_path.is_empty() { "empty" } else { &attributes.as_path };
    text += &format!("\n     AS path {}, origin {origin}", printable(as_path));
    text += &attributes.med.map(|med| format!(", MED {med}")).unwrap_or_default();
    text += &attributes
        .local_pref
        .map(|preference| format!(", local preference {preference}"))
        .unwrap_or_default();
    text.push('\n');
    text + &rare(attributes)
}

/// Attributes that most paths do not have, a line each.
fn rare(attributes: &PathAttributes) -> String {
    let cluster_list = attributes.cluster_list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let lines = [
        ("communities", words(&attributes.communities)),
        ("large communities", words(&attributes.large_communities)),
        ("extended communities", words(&attributes.extended_communities)),
        ("aggregator", attributes.aggregator.as_deref().map(printable).unwrap_or_default()),
        ("originator", attributes.originator_id.map(|id| id.to_string()).unwrap_or_default()),
        ("cluster list", cluster_list),
        ("unknown attributes", words(&attributes.unknown)),
    ];
    let mut text: String = lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("     {name} {value}\n"))
        .collect();
    if attributes.atomic_aggregate {
        text += "     atomic aggregate\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(next_hop: &str, as_path: &str) -> PathAttributes {
        PathAttributes {
            origin: PathOrigin::Incomplete,
            as_path: as_path.to_owned(),
            next_hop: next_hop.to_owned(),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            extended_communities: Vec::new(),
            large_communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn learned(host: &str, interface: &str, status: PathStatus, attributes: PathAttributes) -> Path {
        Path {
            from: PathSource::Neighbor {
                name: interface.to_owned(),
                hostname: Some(host.to_owned()),
                address: attributes.next_hop.parse().ok(),
            },
            status,
            stale: false,
            interface: Some(interface.to_owned()),
            attributes,
        }
    }

    fn block() -> Destination {
        let not_selected = PathStatus::NotSelected { reason: "longer AS path (3 > 2)".to_owned() };
        Destination {
            prefix: "10.1.71.192/26".parse().unwrap(),
            paths: vec![
                learned("tor1", "eth0", PathStatus::Best, attributes("fe80::a", "65004 65002")),
                learned("tor2", "eth1", PathStatus::Multipath, attributes("fe80::b", "65005 65002")),
                learned("tor3", "eth2", not_selected, attributes("fe80::c", "65006 65004 65002")),
            ],
        }
    }

    fn loopback() -> Destination {
        Destination {
            prefix: "1.1.1.1/32".parse().unwrap(),
            paths: vec![
                Path {
                    from: PathSource::Originated(Originator::Loopback),
                    status: PathStatus::Best,
                    stale: false,
                    interface: None,
                    attributes: PathAttributes { origin: PathOrigin::Igp, ..attributes("self", "") },
                },
                learned("tor1", "eth0", PathStatus::Echo, attributes("fe80::a", "65004 65001")),
            ],
        }
    }

    #[test]
    fn the_rib_is_a_line_for_each_path() {
        let expected = "\
Status: * valid, S stale, > best, = multipath, x refused, e echo of an own route
Origin: i - IGP, e - EGP, ? - incomplete

    Network             Next hop                   Interface  From          Metric  LocPrf  Path
*>  1.1.1.1/32          self                       -          loopback           -       -  i
e                       fe80::a                    eth0       tor1(eth0)         -       -  65004 65001 ?
*>  10.1.71.192/26      fe80::a                    eth0       tor1(eth0)         -       -  65004 65002 ?
*=                      fe80::b                    eth1       tor2(eth1)         -       -  65005 65002 ?
*                       fe80::c                    eth2       tor3(eth2)         -       -  65006 65004 65002 ?
";
        assert_eq!(rib(&[loopback(), block()], Position::First), expected);
        assert_eq!(rib(&[], Position::First), "No routes.\n");
    }

    #[test]
    fn later_pages_continue_the_table() {
        let first = rib(&[block()], Position::First);
        let later = rib(&[block()], Position::Later);
        assert_eq!(later.lines().count(), 3);
        let row = |text: &str| text.lines().find(|line| line.starts_with("*>")).map(|line| line.find("fe80"));
        assert_eq!(row(&first), row(&later));
        assert_eq!(rib(&[], Position::Later), "");
    }

    #[test]
    fn a_destination_says_why_each_path_was_not_chosen() {
        let mut destination = block();
        let refused = PathStatus::Refused { reason: "own AS in the path".to_owned() };
        destination.paths.push(learned("tor4", "eth3", refused, attributes("fe80::d", "65007")));
        destination.paths[0].attributes.med = Some(5);
        destination.paths[0].attributes.communities = vec!["65004:7".to_owned(), "no-export".to_owned()];
        destination.paths[0].attributes.atomic_aggregate = true;
        let expected = "\
10.1.71.192/26, 4 paths
  *> from tor1(eth0), fe80::a
     best
     next hop fe80::a dev eth0
     AS path 65004 65002, origin incomplete, MED 5
     communities 65004:7 no-export
     atomic aggregate
  *= from tor2(eth1), fe80::b
     multipath
     next hop fe80::b dev eth1
     AS path 65005 65002, origin incomplete
  * from tor3(eth2), fe80::c
     not selected: longer AS path (3 > 2)
     next hop fe80::c dev eth2
     AS path 65006 65004 65002, origin incomplete
  x from tor4(eth3), fe80::d
     refused: own AS in the path
     next hop fe80::d dev eth3
     AS path 65007, origin incomplete
";
        assert_eq!(destinations(&[destination]), expected);
    }

    #[test]
    fn a_stale_path_is_marked_and_keeps_its_standing() {
        let mut destination = block();
        for path in &mut destination.paths {
            path.stale = true;
        }
        let text = destinations(&[destination.clone()]);
        assert!(
            text.contains("  S> from tor1(eth0), fe80::a\n     best, stale: the neighbor restarts\n"),
            "{text}"
        );
        let text = rib(&[destination], Position::Later);
        let markers: Vec<_> = text.lines().map(|line| &line[..2]).collect();
        assert_eq!(markers, ["S>", "S=", "S "]);
    }

    #[test]
    fn received_routes_say_why_they_are_not_used() {
        let route = |prefix: &str, status| ReceivedRoute {
            prefix: prefix.parse().unwrap(),
            status,
            stale: false,
            policy: None,
            attributes: attributes("fe80::a", "65004 65002"),
        };
        let refused = PathStatus::Refused { reason: "martian".to_owned() };
        let routes = [route("10.0.0.0/8", PathStatus::Best), route("127.0.0.0/8", refused)];
        let expected = "\
Status: * valid, S stale, > best, = multipath, x refused, e echo of an own route
Origin: i - IGP, e - EGP, ? - incomplete

    Network             Next hop                   Metric  LocPrf  Path                  Why not  Policy
*>  10.0.0.0/8          fe80::a                         -       -  65004 65002 ?
x   127.0.0.0/8         fe80::a                         -       -  65004 65002 ?         martian
";
        assert_eq!(received(&routes, Position::First), expected);
    }

    #[test]
    fn advertised_routes_have_what_was_sent() {
        let route = |prefix: &str| AdvertisedRoute {
            prefix: prefix.parse().unwrap(),
            attributes: attributes("fe80::1", "65001"),
        };
        let mut marked = route("10.1.8.192/26");
        marked.attributes.communities = vec!["graceful-shutdown".to_owned(), "65001:7".to_owned()];
        marked.attributes.large_communities = vec!["65001:2:3".to_owned()];
        marked.attributes.extended_communities = vec!["0002fde900000064".to_owned()];
        let expected = "\
Network             Next hop                   Metric  Path                  Communities
1.1.1.1/32          fe80::1                         -  65001 ?
10.1.8.192/26       fe80::1                         -  65001 ?               graceful-shutdown 65001:7 65001:2:3 0002fde900000064
";
        assert_eq!(advertised(&[route("1.1.1.1/32"), marked], Position::First), expected);
        assert_eq!(advertised(&[], Position::First), "No routes.\n");
    }
}
