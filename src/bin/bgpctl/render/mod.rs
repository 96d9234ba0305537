//! Answers as text. Pure: an answer in, lines out.
//!
//! Text of peers goes into a line or a cell through [`printable`], so that it cannot break the layout.

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};
use selvedge::control::api;

use crate::output::printable;

mod bfd;
mod drain;
mod fib;
mod interfaces;
mod kubernetes;
mod memory;
mod neighbor;
mod pods;
mod policy;
mod rib;
mod services;
mod summary;

pub(crate) use bfd::bfd;
pub(crate) use drain::{drain, drain_step};
pub(crate) use fib::{fib, fib_counters};
pub(crate) use interfaces::interfaces;
pub(crate) use memory::memory;
pub(crate) use neighbor::{neighbor, neighbors};
pub(crate) use pods::pods;
pub(crate) use policy::policies;
pub(crate) use rib::{advertised, destinations, received, rib};
pub(crate) use services::{services, services_totals};
pub(crate) use summary::summary;

/// Where in a table of many pages these rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// With heading.
    First,
    /// Below what was printed already.
    Later,
}

/// What an action did.
pub(crate) fn done(done: &api::Done) -> String {
    let details = done.details.iter().map(|detail| format!("  {}\n", printable(detail)));
    format!("{}\n{}", printable(&done.message), details.collect::<String>())
}

/// One sentence of the daemon.
pub(crate) fn line(text: &str) -> String {
    format!("{}\n", printable(text))
}

/// The file as it would have to be written.
pub(crate) fn config(config: &api::Config) -> String {
    format!("# {}\n{}", printable(&config.path), config.toml)
}

/// One column: its heading, its side, and its least width (what keeps the pages of a long table aligned).
struct Column {
    heading: &'static str,
    alignment: CellAlignment,
    width: u16,
}

fn left(heading: &'static str, width: u16) -> Column {
    Column { heading, alignment: CellAlignment::Left, width }
}

fn right(heading: &'static str) -> Column {
    Column { heading, alignment: CellAlignment::Right, width: 0 }
}

/// Aligned lines without any rule, two blanks apart.
fn table<const N: usize>(columns: [Column; N], rows: Vec<[String; N]>, position: Position) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    match position {
        Position::First => {
            table.set_header(columns.iter().map(|column| column.heading));
        }
        Position::Later if rows.is_empty() => return String::new(),
        Position::Later => {}
    }
    table.add_rows(rows.into_iter().map(Vec::from));
    for (column, shape) in table.column_iter_mut().zip(&columns) {
        column.set_padding((0, 2));
        column.set_cell_alignment(shape.alignment);
        // The width counts the padding.
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(shape.width + 2)));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// A time span as FRR prints it: `00:01:23`, `1d02h03m`, `03w4d05h`.
fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    let (hours, minutes) = (seconds % DAY / HOUR, seconds % HOUR / MINUTE);
    if seconds < DAY {
        format!("{hours:02}:{minutes:02}:{:02}", seconds % MINUTE)
    } else if seconds < WEEK {
        format!("{}d{hours:02}h{minutes:02}m", seconds / DAY)
    } else {
        format!("{:02}w{}d{hours:02}h", seconds / WEEK, seconds % WEEK / DAY)
    }
}

/// Longest host name of a peer that a table shows.
const HOSTNAME_MAX: usize = 32;

/// `tor1(eth0)` where the peer said what it is called, as FRR writes it.
fn peer(hostname: Option<&str>, name: &str) -> String {
    match hostname.filter(|hostname| !hostname.is_empty()) {
        Some(hostname) => {
            let mut shown: String = hostname.chars().take(HOSTNAME_MAX).collect();
            if shown.len() < hostname.len() {
                shown.push_str("...");
            }
            format!("{}({})", printable(&shown), printable(name))
        }
        None => printable(name),
    }
}

/// Many things in a line, `none` for nothing.
fn listed(items: impl IntoIterator<Item = String>) -> String {
    let text = items.into_iter().collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}

/// `1 block`, `2 blocks`.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What is not known, as a word.
fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_frr_does() {
        for (seconds, text) in [
            (0, "00:00:00"),
            (83, "00:01:23"),
            (86_399, "23:59:59"),
            (86_400, "1d00h00m"),
            (93_780, "1d02h03m"),
            (604_799, "6d23h59m"),
            (604_800, "01w0d00h"),
            (2_178_000, "03w4d05h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_host_name_cannot_break_a_table() {
        assert_eq!(peer(Some("tor1"), "eth0"), "tor1(eth0)");
        assert_eq!(peer(Some("a\nb\u{1b}[31m"), "eth0"), "a\\nb\\u{1b}[31m(eth0)");
        assert_eq!(peer(Some(&"x".repeat(300)), "eth0"), format!("{}...(eth0)", "x".repeat(32)));
        assert_eq!(peer(Some(""), "192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn actions_and_configuration_are_lines() {
        let answer =
            api::Done { message: "Reloaded.".to_owned(), details: vec!["neighbor eth1 added".to_owned()] };
        assert_eq!(done(&answer), "Reloaded.\n  neighbor eth1 added\n");
        let answer = api::Config { path: "/etc/x.toml".to_owned(), toml: "[bgp]\nlocal-as = 1\n".to_owned() };
        assert_eq!(config(&answer), "# /etc/x.toml\n[bgp]\nlocal-as = 1\n");
    }
}
