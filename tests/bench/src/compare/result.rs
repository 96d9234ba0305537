//! What was measured: figures, samples of many runs, medians and ratios, and the table that shows them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::daemon::Candidate;

/// Something that is measured. Less is better for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Figure {
    /// Seconds from the first octet of the first UPDATE to the first route in the kernel.
    FirstRoute,
    /// Seconds from the same to the last route in the kernel with all its next hops.
    AllRoutes,
    /// Seconds of processor time of all daemons from there until they are idle again.
    Cpu,
    /// Mebibytes that are resident with the sessions up and no routes.
    IdleMemory,
    /// Mebibytes, the most that was resident.
    PeakMemory,
    /// Mebibytes: [`Figure::PeakMemory`] less [`Figure::IdleMemory`].
    MemoryGrowth,
    /// Milliseconds from the loss of a link to no route over it.
    DeadClear,
    /// Seconds from the loss of a link to the last change of a route; zero where none was changed.
    FibQuiet,
    /// Seconds of processor time after the loss of a link.
    FailoverCpu,
    /// Kernel messages about routes.
    FibMessages,
    /// Seconds from process start to sessions with both ToRs.
    Established,
    /// Echo requests that were not answered.
    PingsLost,
    /// Seconds from process start to the agent's first route at a ToR.
    RouteAtTor,
}

impl Figure {
    /// What it is, with its unit.
    fn label(self) -> &'static str {
        match self {
            Self::FirstRoute => "first route in the kernel, s",
            Self::AllRoutes => "all routes in the kernel, s",
            Self::Cpu => "CPU, s",
            Self::IdleMemory => "memory without routes, MiB",
            Self::PeakMemory => "peak memory, MiB",
            Self::MemoryGrowth => "memory for the routes, MiB",
            Self::DeadClear => "no route over the dead link, ms",
            Self::FibQuiet => "until the FIB is quiet, s",
            Self::FailoverCpu => "CPU for it, s",
            Self::FibMessages => "FIB messages",
            Self::Established => "sessions established, s",
            Self::PingsLost => "pings lost",
            Self::RouteAtTor => "first route at a ToR, s",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::FibMessages | Self::PingsLost => 0,
            Self::DeadClear | Self::PeakMemory | Self::IdleMemory | Self::MemoryGrowth => 1,
            Self::FirstRoute
            | Self::AllRoutes
            | Self::Cpu
            | Self::FibQuiet
            | Self::FailoverCpu
            | Self::Established
            | Self::RouteAtTor => 3,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// What one run gave.
pub(super) type Sample = BTreeMap<Figure, f64>;

/// What all runs of one scenario gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Results(BTreeMap<Candidate, Vec<Sample>>);

impl Results {
    /// Adds a run.
    pub(super) fn add(&mut self, candidate: Candidate, sample: Sample) {
        self.0.entry(candidate).or_default().push(sample);
    }

    /// The middle of what the runs of a candidate gave for a figure; `None` where it was not measured.
    pub(super) fn median(&self, candidate: Candidate, figure: Figure) -> Option<f64> {
        median(self.0.get(&candidate)?.iter().filter_map(|sample| sample.get(&figure).copied()).collect())
    }

    /// A Markdown table: a row for each figure, a column for each candidate; medians, and behind those of the others how
    /// many times Selvedge's they are.
    pub(super) fn table(&self, title: &str) -> String {
        let mut header = vec![title.to_owned()];
        header.extend(self.0.keys().map(Candidate::to_string));
        let mut rows = vec![header];
        for figure in self.figures() {
            let mut row = vec![figure.to_string()];
            row.extend(self.0.keys().map(|candidate| self.cell(*candidate, figure)));
            rows.push(row);
        }
        aligned(&rows)
    }

    fn cell(&self, candidate: Candidate, figure: Figure) -> String {
        let Some(value) = self.median(candidate, figure) else { return "-".to_owned() };
        let text = format!("{value:.*}", figure.decimals());
        match self.median(Candidate::Selvedge, figure) {
            Some(own) if candidate != Candidate::Selvedge => format!("{text} ({})", ratio(value, own)),
            Some(_) | None => text,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<_> =
            self.0.values().flatten().flat_map(|sample| sample.keys().copied()).collect();
        figures.sort_unstable();
        figures.dedup();
        figures
    }
}

/// The mean of the two in the middle, where their number is even.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// How many times `own` the value is. Nothing is so many times nothing.
fn ratio(value: f64, own: f64) -> String {
    match (own > 0.0, value > 0.0) {
        (true, _) if value / own >= 10.0 => format!("{:.0}x", value / own),
        (true, _) if value < own => format!("{:.2}x", value / own),
        (true, _) => format!("{:.1}x", value / own),
        (false, true) => "more".to_owned(),
        (false, false) => "same".to_owned(),
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        // Writing into a String cannot fail.
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            });
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(runs: &[(Candidate, &[f64])]) -> Results {
        let mut results = Results::default();
        for (candidate, values) in runs {
            for value in *values {
                results.add(*candidate, Sample::from([(Figure::Cpu, *value)]));
            }
        }
        results
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_to_selvedge() {
        for (value, own, expected) in [
            (0.4, 0.1, "4.0x"),
            (0.05, 0.1, "0.50x"),
            (2.5, 0.1, "25x"),
            (5.0, 0.0, "more"),
            (0.0, 0.0, "same"),
        ] {
            assert_eq!(ratio(value, own), expected, "{value} to {own}");
        }
    }

    #[test]
    fn the_table_has_a_column_for_each_candidate() {
        let results =
            results(&[(Candidate::Bird, &[0.3, 0.5, 0.4]), (Candidate::Selvedge, &[0.1, 0.1, 7.0])]);
        let expected = "| load   | Selvedge | BIRD         |\n\
                        |--------|----------|--------------|\n\
                        | CPU, s | 0.100    | 0.400 (4.0x) |\n";
        assert_eq!(results.table("load"), expected);
    }

    #[test]
    fn what_was_not_measured_is_left_blank() {
        let mut results = results(&[(Candidate::Selvedge, &[0.1])]);
        results.add(Candidate::Bird, Sample::from([(Figure::PingsLost, 0.0)]));
        assert_eq!(results.median(Candidate::Bird, Figure::Cpu), None);
        assert_eq!(results.median(Candidate::Frr, Figure::Cpu), None);
        let table = results.table("restart");
        assert!(table.contains("| CPU, s     | 0.100    | -    |"), "{table}");
        assert!(table.contains("| pings lost | -        | 0    |"), "{table}");
    }
}
