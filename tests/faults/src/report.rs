//! What the suite says: a line for each fault while it runs, and the table that goes into the repository.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use lab::{Error, Result, build};

use crate::fault::{Loss, Number};
use crate::run::Report;
use crate::site::Site;

/// How much of an agent's log is shown where a fault did not hold.
const LOG_LINES: usize = 40;
const HEADER: &str = "| # | fault | expected | seen | lost of sent | longest gap | verdict | when, commit |\n\
                      |---|---|---|---|---|---|---|---|";

impl Report {
    /// Whether all of it was as it has to be.
    pub(crate) fn held(&self) -> bool {
        self.broken.is_empty()
    }
}

/// For the terminal.
pub(crate) fn line(report: &Report) -> String {
    let mark = if report.held() { "held  " } else { "FAILED" };
    let fault = report.fault;
    let mut text = format!(
        "{mark} {:<4} {}: {} of {} pings lost, longest gap {} ms, {:.1} s",
        fault.number,
        fault.name,
        report.pings.lost,
        report.pings.sent,
        report.pings.longest_gap.as_millis(),
        report.took.as_secs_f64(),
    );
    for seen in &report.seen {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n            {seen}");
    }
    for broken in &report.broken {
        let _ = write!(text, "\n     FAILED {broken}");
    }
    text
}

/// The kernels' routes and the ends of the agents' logs, which go with the rack.
pub(crate) fn show_state(site: &Site) {
    for host in site.rack.nodes.iter().chain(&site.rack.tors) {
        eprintln!("--- the routes of {}:", host.router.name);
        match host.netns.routes() {
            Ok(routes) => routes.iter().for_each(|route| eprintln!("{route}")),
            Err(error) => eprintln!("{error}"),
        }
    }
    for node in site.rack.nodes.iter().chain(&site.rack.tors) {
        let Ok(agent) = node.agent() else { continue };
        let log = agent.log();
        let skip = log.lines().count().saturating_sub(LOG_LINES);
        eprintln!("--- the end of the log of {}:", node.router.name);
        log.lines().skip(skip).for_each(|line| eprintln!("{line}"));
    }
}

/// Where the results were seen.
#[derive(Debug)]
pub(crate) struct Machine {
    description: String,
    when: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn look() -> Self {
        let first_of = |path: &str, field: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(field)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let processor = first_of("/proc/cpuinfo", "model name");
        let memory = first_of("/proc/meminfo", "MemTotal");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let frr = said(Command::new("/usr/lib/frr/bgpd").arg("--version"));
        let profile = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
        let description = format!(
            "{cores} cores of {processor}, {memory} of memory, Linux {}, {}; {profile} of the agent.",
            kernel.trim(),
            frr.lines().next().unwrap_or("FRR unknown"),
        );
        let commit = said(Command::new("git").args(["-C", build::WORKSPACE, "rev-parse", "--short", "HEAD"]));
        let now = jiff::Timestamp::now().to_string();
        let day = now.split('T').next().unwrap_or_default();
        Self { description, when: format!("{day}, {}", commit.trim()) }
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// The table of this run.
#[derive(Debug)]
pub(crate) struct Table {
    machine: String,
    rows: Vec<Row>,
}

/// One line of it; what stands in the file is as good as what was just seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    number: Number,
    name: String,
    rest: String,
}

impl Table {
    /// Of these reports.
    pub(crate) fn of(reports: &[Report], machine: &Machine) -> Self {
        let rows = reports.iter().map(|report| Row::of(report, &machine.when)).collect();
        Self { machine: machine.description.clone(), rows }
    }

    /// Puts it into the file. Rows of other faults stay, unless another machine has written them, or their faults exist
    /// no longer.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn record(&self) -> Result<()> {
        let path = PathBuf::from(build::WORKSPACE).join("tests/faults/RESULTS.md");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, self.merged_into(&before).to_string())
            .map_err(|source| Error::Io { doing: format!("write {}", path.display()), source })
    }

    fn merged_into(&self, before: &str) -> Self {
        let all = crate::faults::all();
        let place = |name: &str| all.iter().position(|fault| fault.name == name);
        let mut rows = self.rows.clone();
        if before.contains(&self.machine) {
            let old = before.lines().filter_map(Row::parse);
            let kept = old.filter(|row| self.rows.iter().all(|new| new.name != row.name));
            rows.extend(kept.filter(|row| place(&row.name).is_some()));
        }
        rows.sort_by_key(|row| (row.number, place(&row.name)));
        Self { machine: self.machine.clone(), rows }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# What became of the faults\n")?;
        writeln!(
            f,
            "Written by `cargo run --release -p faults -- all --record`, not by hand. Four trains of pings, 10 ms"
        )?;
        writeln!(
            f,
            "apart, between pods of two nodes; the gap is the longest time between two answers to one train.\n"
        )?;
        writeln!(f, "{}\n\n{HEADER}", self.machine)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} | {} |{}", row.number, row.name, row.rest))
    }
}

impl Row {
    fn of(report: &Report, when: &str) -> Self {
        let fault = report.fault;
        let pings = report.pings;
        let seen = if report.held() { &report.seen } else { &report.broken };
        let seen: Vec<_> = seen.iter().map(|words| cell(words)).collect();
        let allowed = match fault.loss {
            Loss::None => "none may be lost".to_owned(),
            Loss::Row(most) => format!("at most {} ms of pings in a row may be lost", most.as_millis()),
            Loss::Any => "packets may be lost".to_owned(),
        };
        let cells = [
            format!("{}; {allowed}", fault.expected),
            seen.join("; "),
            format!("{} of {}", pings.lost, pings.sent),
            format!("{} ms", pings.longest_gap.as_millis()),
            if report.held() { "held" } else { "**FAILED**" }.to_owned(),
            when.to_owned(),
        ];
        let rest = cells.iter().map(|cell| format!(" {cell} |")).collect();
        Self { number: fault.number, name: fault.name.to_owned(), rest }
    }

    /// A line of the file; `None` where it is no row.
    fn parse(line: &str) -> Option<Self> {
        let (number, rest) = line.strip_prefix("| F")?.split_once(" | ")?;
        let (name, rest) = rest.split_once(" |")?;
        Some(Self { number: Number(number.parse().ok()?), name: name.to_owned(), rest: rest.to_owned() })
    }
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace(['\n', '\t'], " ").replace('|', "/")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pings::Tally;

    fn reports() -> Vec<Report> {
        let report = |fault| Report {
            fault,
            seen: vec!["a|b\nc".to_owned()],
            broken: Vec::new(),
            pings: Tally::default(),
            took: Duration::ZERO,
        };
        crate::faults::all().into_iter().map(report).collect()
    }

    fn table(reports: &[Report], when: &str) -> Table {
        Table::of(reports, &Machine { description: "a machine".to_owned(), when: when.to_owned() })
    }

    #[test]
    fn rows_are_replaced_by_newer_ones_and_others_stay() {
        let reports = reports();
        let old = table(&reports, "old").merged_into("").to_string();
        let new = table(reports.get(..1).unwrap(), "2001-02-03").merged_into(&old);
        assert_eq!(new.rows.len(), reports.len());
        assert_eq!(new.rows.iter().filter(|row| row.rest.contains("2001-02-03")).count(), 1);
        assert_eq!(
            table(&reports, "old").merged_into(&new.to_string()).to_string(),
            old,
            "in the same order"
        );
        let elsewhere = old.replace("a machine", "another machine");
        assert_eq!(table(reports.get(..1).unwrap(), "new").merged_into(&elsewhere).rows.len(), 1);
    }

    #[test]
    fn no_text_breaks_the_table() {
        for row in table(&reports(), "now").to_string().lines().filter(|line| line.starts_with("| F")) {
            assert_eq!(
                row.matches(" |").count(),
                HEADER.lines().next().unwrap().matches(" |").count(),
                "{row}"
            );
        }
    }
}
