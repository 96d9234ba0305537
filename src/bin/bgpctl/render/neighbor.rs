//! `show neighbor`: everything about one session.

use std::fmt::Display;

use bgp::PeerKind;
use selvedge::control::api::{Capability, Direction, Flaps, Neighbor, Neighbors, PrefixCounts, SessionState};

use super::{Position, bfd, left, listed, or_dash, peer, right, span, table};
use crate::output::printable;

pub(crate) fn neighbors(neighbors: &Neighbors) -> String {
    if neighbors.neighbors.is_empty() {
        return "No neighbors.\n".to_owned();
    }
    neighbors.neighbors.iter().map(neighbor).collect::<Vec<_>>().join("\n")
}

pub(crate) fn neighbor(neighbor: &Neighbor) -> String {
    [
        identity(neighbor),
        timers(neighbor),
        prefixes(neighbor),
        messages(neighbor),
        capabilities(neighbor),
        last(neighbor),
    ]
    .concat()
}

/// One property, in a column of its own.
fn line(name: &str, value: impl Display) -> String {
    format!("  {name:<20}{value}\n")
}

fn identity(neighbor: &Neighbor) -> String {
    let summary = &neighbor.summary;
    let kind = match neighbor.kind {
        Some(PeerKind::Internal) => ", internal",
        Some(PeerKind::External) => ", external",
        None => "",
    };
    let since = match (summary.state, summary.up_down_s) {
        (SessionState::Established, Some(seconds)) => format!(", up for {}", span(seconds)),
        (_, Some(seconds)) => format!(", down for {}", span(seconds)),
        (_, None) => ", never up".to_owned(),
    };
    let mut text = format!("{}\n", peer(summary.hostname.as_deref(), &summary.name));
    text += &line("State", format_args!("{}{since}", summary.state));
    if let Some(waiting_for) = &neighbor.waiting_for {
        text += &line("Waiting for", printable(waiting_for));
    }
    text += &line(
        "Remote AS",
        format_args!(
            "{}{kind} (configured: {})",
            or_dash(summary.remote_as),
            printable(&neighbor.configured_remote_as)
        ),
    );
    text += &line("Remote router ID", or_dash(neighbor.remote_router_id));
    text += &line("Remote address", or_dash(summary.address));
    text += &line("Local address", or_dash(neighbor.local_address));
    if let Some(interface) = &neighbor.interface {
        text += &line("Interface", printable(interface));
        text += &line("Router discovered", or_dash(neighbor.discovered_router));
    }
    text += &line("Families", listed(neighbor.families.iter().map(ToString::to_string)));
    text += &line("Times established", neighbor.times_established);
    text + &line("Flaps", flaps(neighbor.flaps))
}

/// Sessions that did not last.
fn flaps(flaps: Flaps) -> String {
    match flaps.held_back_for_ms {
        Some(ms) => format!("{}, held back for another {} s", flaps.count, seconds(ms)),
        None => flaps.count.to_string(),
    }
}

fn timers(neighbor: &Neighbor) -> String {
    let configured = format!(
        "hold {} s, keepalive {} s",
        neighbor.configured_hold_time_s,
        seconds(neighbor.configured_keepalive_ms)
    );
    let negotiated = neighbor.negotiated.map_or_else(
        || "-".to_owned(),
        |negotiated| match negotiated.keepalive_ms {
            Some(keepalive) => {
                format!("hold {} s, keepalive {} s", negotiated.hold_time_s, seconds(keepalive))
            }
            None => "off".to_owned(),
        },
    );
    let running = neighbor
        .timers
        .iter()
        .map(|timer| format!("{} in {} s", printable(&timer.name), seconds(timer.remaining_ms)));
    line("Times configured", configured)
        + &line("Times negotiated", negotiated)
        + &line("Timers", listed(running))
        + &line("BFD", bfd::of_neighbor(neighbor.bfd.as_ref()))
}

/// Milliseconds as seconds: `3`, `2.5`, `0.125`.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn prefixes(neighbor: &Neighbor) -> String {
    let row = |name: String, counts: &PrefixCounts| {
        [name, counts.received.to_string(), counts.accepted.to_string(), counts.sent.to_string()]
    };
    let summary = &neighbor.summary;
    let mut rows: Vec<_> = summary
        .prefixes_by_family
        .iter()
        .map(|(family, counts)| row(format!("  {family}"), counts))
        .collect();
    rows.push(row("  total".to_owned(), &summary.prefixes));
    let columns = [left("  Prefixes", 0), right("received"), right("accepted"), right("sent")];
    let mut text = table(columns, rows, Position::First);
    if neighbor.stale > 0 {
        text += &line("Stale", format_args!("{} (kept while the neighbor restarts)", neighbor.stale));
    }
    text += &line("Max prefixes", max_prefixes(neighbor));
    let refused = neighbor.refused.iter().map(|(reason, count)| format!("{count} {}", printable(reason)));
    text += &line("Refused", listed(refused));
    text + &line("Echoes", format_args!("{} (own prefixes that the peer has accepted)", neighbor.echoes))
}

/// The limit, and how much of it each family uses.
fn max_prefixes(neighbor: &Neighbor) -> String {
    let limit = u64::from(neighbor.max_prefixes);
    let used = neighbor.summary.prefixes_by_family.iter().map(|(family, counts)| {
        let percent = (counts.received * 100).checked_div(limit).unwrap_or_default();
        format!("{} of {limit} {family} ({percent} %)", counts.received)
    });
    listed(used)
}

fn messages(neighbor: &Neighbor) -> String {
    let (received, sent) = (neighbor.messages.received, neighbor.messages.sent);
    let rows = [
        ("OPEN", received.open, sent.open),
        ("UPDATE", received.update, sent.update),
        ("NOTIFICATION", received.notification, sent.notification),
        ("KEEPALIVE", received.keepalive, sent.keepalive),
        ("ROUTE-REFRESH", received.route_refresh, sent.route_refresh),
        ("total", neighbor.summary.messages_received, neighbor.summary.messages_sent),
    ];
    let rows =
        rows.map(|(name, received, sent)| [format!("  {name}"), received.to_string(), sent.to_string()]);
    table([left("  Messages", 0), right("received"), right("sent")], rows.into(), Position::First)
}

fn capabilities(neighbor: &Neighbor) -> String {
    let side = |name: &str, capabilities: &[Capability]| {
        let lines = capabilities.iter().map(|capability| format!("    {}\n", self::capability(capability)));
        format!(
            "  Capabilities {name}{}\n{}",
            if capabilities.is_empty() { ": none" } else { "" },
            lines.collect::<String>()
        )
    };
    side("sent", &neighbor.capabilities.sent) + &side("received", &neighbor.capabilities.received)
}

fn capability(capability: &Capability) -> String {
    let name = capability.name.as_deref().map_or_else(|| "unknown".to_owned(), printable);
    let value = printable(&capability.value);
    let separator = if value.is_empty() { "" } else { ": " };
    format!("{:>3} {name}{separator}{value}", capability.code)
}

fn last(neighbor: &Neighbor) -> String {
    let notification = neighbor.last_notification.as_ref().map_or_else(
        || "none".to_owned(),
        |notification| {
            let direction = match notification.direction {
                Direction::Sent => "sent",
                Direction::Received => "received",
            };
            format!(
                "{direction} {} ago: {}/{} {}",
                span(notification.ago_s),
                notification.code,
                notification.subcode,
                printable(&notification.text)
            )
        },
    );
    let error = neighbor.last_failure.as_ref().map_or_else(
        || "none".to_owned(),
        |failure| format!("{} ago: {}", span(failure.ago_s), printable(&failure.reason)),
    );
    line("Last error", error) + &line("Last notification", notification)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bgp::{Family, RouterId};
    use selvedge::control::api::{
        Capabilities, FailureReport, MessageCounts, Messages, NegotiatedTimers, NeighborBfd,
        NotificationReport, Timer,
    };

    use super::super::summary::tests::established;
    use super::*;

    fn known(code: u8, name: &str, value: &str) -> Capability {
        Capability { code, name: Some(name.to_owned()), value: value.to_owned() }
    }

    fn full() -> Neighbor {
        Neighbor {
            summary: established(),
            interface: Some("eth0".to_owned()),
            configured_remote_as: "external".to_owned(),
            kind: Some(PeerKind::External),
            remote_router_id: RouterId::new([4, 4, 4, 4].into()),
            local_address: "fe80::1".parse().ok(),
            discovered_router: "fe80::a".parse().ok(),
            waiting_for: None,
            configured_hold_time_s: 9,
            configured_keepalive_ms: 3000,
            negotiated: Some(NegotiatedTimers { hold_time_s: 9, keepalive_ms: Some(2500) }),
            bfd: Some(NeighborBfd {
                interval_ms: 50,
                multiplier: 3,
                session: Some(super::super::bfd::tests::up()),
            }),
            timers: vec![Timer { name: "hold".to_owned(), remaining_ms: 8125 }],
            families: Family::ALL.to_vec(),
            capabilities: Capabilities {
                sent: vec![known(2, "route refresh", "")],
                received: vec![
                    known(73, "FQDN", "tor1\u{1b}[2J"),
                    Capability { code: 128, name: None, value: "0001".to_owned() },
                ],
            },
            messages: Messages {
                received: MessageCounts { open: 1, update: 5, keepalive: 25, ..MessageCounts::default() },
                sent: MessageCounts { open: 1, update: 3, keepalive: 25, ..MessageCounts::default() },
            },
            refused: BTreeMap::from([("default route".to_owned(), 1)]),
            stale: 0,
            echoes: 2,
            max_prefixes: 5,
            times_established: 2,
            flaps: Flaps { count: 4, held_back_for_ms: Some(2_300) },
            last_failure: Some(FailureReport { reason: "hold timer\u{7} expired".to_owned(), ago_s: 83 }),
            last_notification: Some(NotificationReport {
                direction: Direction::Received,
                code: 6,
                subcode: 2,
                text: "Cease / Administrative Shutdown: bye\nnow".to_owned(),
                ago_s: 100,
            }),
        }
    }

    #[test]
    fn a_neighbor_in_full() {
        let expected = "\
tor1(eth0)
  State               Established, up for 00:01:23
  Remote AS           65004, external (configured: external)
  Remote router ID    4.4.4.4
  Remote address      fe80::a
  Local address       fe80::1
  Interface           eth0
  Router discovered   fe80::a
  Families            IPv4 unicast, IPv6 unicast
  Times established   2
  Flaps               4, held back for another 2.3 s
  Times configured    hold 9 s, keepalive 3 s
  Times negotiated    hold 9 s, keepalive 2.5 s
  Timers              hold in 8.125 s
  BFD                 Up for 00:01:23, detection in 150 ms (configured: 3 x 50 ms)
  Prefixes      received  accepted  sent
  IPv4 unicast         4         3     2
  total                4         3     2
  Max prefixes        4 of 5 IPv4 unicast (80 %)
  Refused             1 default route
  Echoes              2 (own prefixes that the peer has accepted)
  Messages       received  sent
  OPEN                  1     1
  UPDATE                5     3
  NOTIFICATION          0     0
  KEEPALIVE            25    25
  ROUTE-REFRESH         0     0
  total                31    29
  Capabilities sent
      2 route refresh
  Capabilities received
     73 FQDN: tor1\\u{1b}[2J
    128 unknown: 0001
  Last error          00:01:23 ago: hold timer\\u{7} expired
  Last notification   received 00:01:40 ago: 6/2 Cease / Administrative Shutdown: bye\\nnow
";
        assert_eq!(neighbor(&full()), expected);
    }

    #[test]
    fn a_neighbor_that_never_was_up_says_what_it_waits_for() {
        let mut waiting = full();
        waiting.summary.state = SessionState::Idle;
        waiting.summary.up_down_s = None;
        waiting.waiting_for = Some("carrier on eth0".to_owned());
        let text = neighbor(&waiting);
        assert!(text.contains("  State               Idle, never up\n"), "{text}");
        assert!(text.contains("  Waiting for         carrier on eth0\n"), "{text}");
    }

    #[test]
    fn a_neighbor_that_restarts_says_what_is_kept() {
        let mut restarting = full();
        restarting.stale = 7;
        let text = neighbor(&restarting);
        assert!(text.contains("  Stale               7 (kept while the neighbor restarts)\n"), "{text}");
    }

    #[test]
    fn milliseconds_are_written_as_seconds() {
        assert_eq!([0, 3000, 2500, 125, 60_000].map(seconds), ["0", "3", "2.5", "0.125", "60"]);
    }
}
