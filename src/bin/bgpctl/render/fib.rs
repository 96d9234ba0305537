//! `show fib`: the daemon's routes in the kernel.

use selvedge::control::api::{FibCounters, FibNextHops, FibRoute, FibState, RouteKind};

use super::{Position, left, or_dash, table};
use crate::output::printable;

pub(crate) fn fib(routes: &[FibRoute], position: Position) -> String {
    if routes.is_empty() && position == Position::First {
        return "No routes.\n".to_owned();
    }
    let columns = [
        left("Prefix", 18),
        left("Kind", 9),
        left("Next hop", 25),
        left("Interface", 0),
        left("Source", 10),
        left("State", 0),
    ];
    table(columns, routes.iter().flat_map(rows).collect(), position)
}

/// A line for each next hop; what belongs to the route stands in the first.
fn rows(route: &FibRoute) -> Vec<[String; 6]> {
    let kind = match route.kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Blackhole => "blackhole",
        RouteKind::Other => "other",
    };
    let (first, others) = match route.gateways.split_first() {
        Some((first, others)) => (Some(first), others),
        None => (None, [].as_slice()),
    };
    let interface = |name: &Option<String>| or_dash(name.as_deref().map(printable));
    let mut rows = vec![[
        route.prefix.to_string(),
        kind.to_owned(),
        or_dash(first.map(|gateway| gateway.address)),
        first.map_or_else(|| "-".to_owned(), |gateway| interface(&gateway.interface)),
        or_dash(route.preferred_source),
        state(&route.status),
    ]];
    rows.extend(others.iter().map(|gateway| {
        let nothing = String::new;
        [
            nothing(),
            nothing(),
            gateway.address.to_string(),
            interface(&gateway.interface),
            nothing(),
            nothing(),
        ]
    }));
    rows
}

fn state(state: &FibState) -> String {
    match state {
        FibState::Installed => "installed".to_owned(),
        FibState::Kept => "kept".to_owned(),
        FibState::Pending => "pending".to_owned(),
        FibState::Failed { reason } => format!("failed: {}", printable(reason)),
        FibState::Blocked { by } => format!("blocked by {}", printable(by)),
        FibState::Stale => "stale".to_owned(),
    }
}

pub(crate) fn fib_counters(counters: &FibCounters, next_hops: &FibNextHops) -> String {
    format!(
        "\nRoutes: {} installed, {} pending, {} failed, {} blocked, {} stale\n\
         Next hops: {}\n\
         Since start: {} repaired after a change by others, {} overruns of the kernel's events\n",
        counters.installed,
        counters.pending,
        counters.failed,
        counters.blocked,
        counters.stale,
        in_words(next_hops),
        counters.repaired,
        counters.overruns,
    )
}

fn in_words(next_hops: &FibNextHops) -> String {
    match next_hops {
        FibNextHops::Objects { groups, members } => {
            format!("nexthop objects, {members} in {groups} groups")
        }
        FibNextHops::InLine { reason: None } => "in each route".to_owned(),
        FibNextHops::InLine { reason: Some(reason) } => format!("in each route: {}", printable(reason)),
    }
}

#[cfg(test)]
mod tests {
    use selvedge::control::api::FibGateway;

    use super::*;

    #[test]
    fn the_fib_is_a_line_for_each_next_hop() {
        let gateway = |address: &str, interface: &str| FibGateway {
            address: address.parse().unwrap(),
            interface: Some(interface.to_owned()),
        };
        let routes = [
            FibRoute {
                prefix: "10.1.8.192/26".parse().unwrap(),
                kind: RouteKind::Blackhole,
                gateways: Vec::new(),
                preferred_source: None,
                status: FibState::Installed,
            },
            FibRoute {
                prefix: "10.1.71.192/26".parse().unwrap(),
                kind: RouteKind::Unicast,
                gateways: vec![gateway("fe80::a", "eth0"), gateway("fe80::b", "eth1")],
                preferred_source: "1.1.1.1".parse().ok(),
                status: FibState::Blocked { by: "proto static".to_owned() },
            },
        ];
        let expected = "\
Prefix              Kind       Next hop                   Interface  Source      State
10.1.8.192/26       blackhole  -                          -          -           installed
10.1.71.192/26      unicast    fe80::a                    eth0       1.1.1.1     blocked by proto static
                               fe80::b                    eth1
";
        assert_eq!(fib(&routes, Position::First), expected);
        assert_eq!(fib(&[], Position::First), "No routes.\n");
    }

    #[test]
    fn counters_are_three_lines() {
        let counters =
            FibCounters { installed: 5, blocked: 1, repaired: 2, overruns: 3, ..FibCounters::default() };
        let expected = "
Routes: 5 installed, 0 pending, 0 failed, 1 blocked, 0 stale
Next hops: nexthop objects, 2 in 3 groups
Since start: 2 repaired after a change by others, 3 overruns of the kernel's events
";
        let objects = FibNextHops::Objects { groups: 3, members: 2 };
        assert_eq!(fib_counters(&counters, &objects), expected);
        let refused = FibNextHops::InLine { reason: Some("no \u{1b}[31mobjects".to_owned()) };
        let text = fib_counters(&counters, &refused);
        assert!(text.contains("Next hops: in each route: no ") && !text.contains('\u{1b}'), "{text}");
    }
}
