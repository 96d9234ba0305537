//! `show bfd`: a line for each session, and what was discarded.

use selvedge::control::api::{Bfd, BfdDiscards, BfdSession, BfdState, NeighborBfd};

use super::{Position, left, or_dash, right, span, table};
use crate::output::printable;

pub(crate) fn bfd(bfd: &Bfd) -> String {
    let sessions = if bfd.sessions.is_empty() {
        "No BFD sessions.\n".to_owned()
    } else {
        let columns = [
            left("Neighbor", 0),
            left("Address", 0),
            left("State", 0),
            left("Remote", 0),
            right("Up/Down"),
            right("Tx ms"),
            right("Detect ms"),
            right("Up"),
            right("Failed"),
            left("Diagnostic", 0),
        ];
        table(columns, bfd.sessions.iter().map(row).collect(), Position::First)
    };
    sessions + &discards(&bfd.discards)
}

fn row(session: &BfdSession) -> [String; 10] {
    [
        printable(&session.neighbor),
        session.address.to_string(),
        session.state.to_string(),
        or_dash(session.remote.as_ref().map(|remote| remote.state)),
        span(session.since_s),
        or_dash(session.transmit_interval_us.map(milliseconds)),
        or_dash(session.detection_time_us.map(milliseconds)),
        session.times_up.to_string(),
        session.failures.to_string(),
        printable(&session.diagnostic),
    ]
}

/// Only where there is something to look into.
fn discards(discards: &BfdDiscards) -> String {
    let BfdDiscards { hop_limit, malformed, authenticated, no_session } = *discards;
    if *discards == BfdDiscards::default() {
        return String::new();
    }
    format!(
        "\nDiscarded: {hop_limit} with a TTL below 255, {malformed} malformed, {authenticated} authenticated, \
         {no_session} of strangers\n"
    )
}

/// The line of `show neighbor`.
pub(super) fn of_neighbor(bfd: Option<&NeighborBfd>) -> String {
    let Some(bfd) = bfd else { return "off".to_owned() };
    let configured = format!("configured: {} x {} ms", bfd.multiplier, bfd.interval_ms);
    let Some(session) = &bfd.session else { return format!("no session ({configured})") };
    let span = span(session.since_s);
    match (session.state, session.detection_time_us) {
        (BfdState::Up, Some(detection)) => {
            format!("Up for {span}, detection in {} ms ({configured})", milliseconds(detection))
        }
        (state, _) => format!("{state} for {span}, {} ({configured})", printable(&session.diagnostic)),
    }
}

/// Microseconds as milliseconds: `50`, `37.5`.
fn milliseconds(us: u64) -> String {
    let text = format!("{}.{:03}", us / 1000, us % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use selvedge::control::api::{BfdHealth, BfdRemote};

    use super::*;

    pub(in crate::render) fn up() -> BfdSession {
        BfdSession {
            neighbor: "eth0".to_owned(),
            address: "fe80::a".parse().unwrap(),
            interface: Some("eth0".to_owned()),
            state: BfdState::Up,
            diagnostic: "no diagnostic".to_owned(),
            since_s: 83,
            health: BfdHealth::Alive,
            times_up: 2,
            failures: 1,
            discriminator: 7,
            interval_ms: 50,
            multiplier: 3,
            transmit_interval_us: Some(50_000),
            detection_time_us: Some(150_000),
            remote: Some(BfdRemote {
                state: BfdState::Up,
                diagnostic: "no diagnostic".to_owned(),
                discriminator: 8,
                desired_min_tx_us: 50_000,
                required_min_rx_us: 50_000,
                multiplier: 3,
                control_plane_independent: false,
            }),
            packets_received: 100,
            packets_sent: 101,
        }
    }

    fn down() -> BfdSession {
        BfdSession {
            neighbor: "192.0.2.1".to_owned(),
            address: "192.0.2.1".parse().unwrap(),
            interface: None,
            state: BfdState::Down,
            diagnostic: "control detection time expired".to_owned(),
            health: BfdHealth::Failed,
            transmit_interval_us: Some(1_000_000),
            detection_time_us: None,
            remote: None,
            ..up()
        }
    }

    #[test]
    fn sessions_are_a_line_each_and_discards_follow() {
        let discards = BfdDiscards { hop_limit: 1, malformed: 2, authenticated: 0, no_session: 3 };
        let answer = Bfd { sessions: vec![up(), down()], discards };
        let expected = "\
Neighbor   Address    State  Remote   Up/Down  Tx ms  Detect ms  Up  Failed  Diagnostic
eth0       fe80::a    Up     Up      00:01:23     50        150   2       1  no diagnostic
192.0.2.1  192.0.2.1  Down   -       00:01:23   1000          -   2       1  control detection time expired

Discarded: 1 with a TTL below 255, 2 malformed, 0 authenticated, 3 of strangers
";
        assert_eq!(bfd(&answer), expected);
        let none = Bfd { sessions: Vec::new(), discards: BfdDiscards::default() };
        assert_eq!(bfd(&none), "No BFD sessions.\n");
    }

    #[test]
    fn a_neighbor_says_whether_it_is_watched() {
        let of = |session| Some(NeighborBfd { interval_ms: 50, multiplier: 3, session });
        for (bfd, expected) in [
            (None, "off"),
            (of(None), "no session (configured: 3 x 50 ms)"),
            (of(Some(up())), "Up for 00:01:23, detection in 150 ms (configured: 3 x 50 ms)"),
            (of(Some(down())), "Down for 00:01:23, control detection time expired (configured: 3 x 50 ms)"),
        ] {
            assert_eq!(of_neighbor(bfd.as_ref()), expected);
        }
    }

    #[test]
    fn microseconds_are_written_as_milliseconds() {
        assert_eq!([0, 50_000, 37_500, 1_000_000].map(milliseconds), ["0", "50", "37.5", "1000"]);
    }
}
