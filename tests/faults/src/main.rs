//! `faults`: breaks what surrounds an agent, in every way that somebody has lived to regret, while pods ping each other.
//!
//! A rack in network namespaces, as `lab` builds it: two ToRs, with FRR where a fault does not want
//! another daemon, three nodes with the agent, pods. Each fault is a
//! [`fault::Fault`]; [`run`] makes it and judges it with one [`checker`] for all; [`report`] writes the table.

mod api;
mod cgroup;
mod checker;
mod fault;
mod faults;
mod foreign;
mod pings;
mod report;
mod run;
mod site;
mod stranger;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lab::{Error, NexthopObjects, Programs, Requirement, Result, build, interrupt_on_signals, tor};

use crate::fault::{Fault, Length};
use crate::report::{Machine, Table};
use crate::run::Report;
use crate::site::{Chance, Site};

/// The fault suite: what breaks, what must hold meanwhile, and what was seen.
#[derive(Debug, Parser)]
#[command(name = "faults", args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    /// `short`, `long`, `all`, numbers such as F5, or words of a name
    #[arg(default_value = "short")]
    which: Vec<String>,
    /// Put the results into tests/faults/RESULTS.md, in the place of older ones of the same faults
    #[arg(long)]
    record: bool,
    /// Where the nemesis begins; it says which seed each round has [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
    /// For how long the nemesis goes on; a round takes some ten seconds
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// List them and end
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Be a ToR: what a rack runs in a ToR's namespace where Selvedge plays the ToRs
    #[command(hide = true)]
    Tor {
        /// Configuration, as the agent's
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Subcommands::Tor { config }) => tor::run(config).map(|()| true),
        None => run_all(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all of it held.
fn run_all(arguments: &Arguments) -> Result<bool> {
    let chosen = chosen(&arguments.which)?;
    if arguments.list {
        chosen.iter().for_each(|fault| println!("{:<4} {}: {}", fault.number, fault.name, fault.expected));
        return Ok(true);
    }
    let daemons = chosen.iter().filter_map(|fault| fault.setting.requirement());
    for requirement in [Requirement::Root].into_iter().chain(daemons) {
        if !requirement.is_met() {
            return Err(Error::Missing(format!("the fault suite needs {requirement:?}")));
        }
    }
    interrupt_on_signals(|| {});
    let programs = build::programs("faults", NexthopObjects::of_environment()?)?;
    let chance = Chance {
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        duration: Duration::from_secs(60 * arguments.minutes),
    };
    let mut reports = Vec::new();
    let mut site = None;
    for fault in chosen {
        let report = one(fault, &programs, chance, &mut site)?;
        println!("{}", report::line(&report));
        reports.push(report);
    }
    drop(site);
    let held = reports.iter().all(Report::held);
    let table = Table::of(&reports, &Machine::look());
    if arguments.record {
        table.record()?;
    }
    println!("\n{table}");
    Ok(held)
}

/// Makes one fault, on the rack of those before it where nothing has failed there.
fn one(
    fault: &'static Fault,
    programs: &Programs,
    chance: Chance,
    kept: &mut Option<Site>,
) -> Result<Report> {
    let mut site = match kept.take() {
        Some(site) if site.setting == fault.setting => site,
        other => {
            // Its namespaces have the names of the next one's.
            drop(other);
            Site::up(programs, fault.setting, chance)?
        }
    };
    let report = run::run(fault, &mut site)?;
    if report.held() {
        *kept = Some(site);
    } else {
        report::show_state(&site);
    }
    Ok(report)
}

/// The faults that the words on the command line mean.
fn chosen(which: &[String]) -> Result<Vec<&'static Fault>> {
    let mut chosen: Vec<&Fault> = Vec::new();
    for word in which {
        let means = |fault: &&Fault| match word.as_str() {
            "all" => true,
            "short" => fault.length == Length::Short,
            "long" => fault.length == Length::Long,
            word if word.eq_ignore_ascii_case(&fault.number.to_string()) => true,
            word => word.len() > 3 && fault.name.contains(word),
        };
        let found: Vec<_> = faults::all().into_iter().filter(means).collect();
        if found.is_empty() {
            return Err(Error::Missing(format!("no fault is meant by {word:?}; --list all lists them")));
        }
        let is_new = |fault: &&Fault| chosen.iter().all(|other| other.name != fault.name);
        let new: Vec<_> = found.into_iter().filter(is_new).collect();
        chosen.extend(new);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        chosen(&words).unwrap().iter().map(|fault| fault.name).collect()
    }

    #[test]
    fn words_mean_faults_and_none_twice() {
        assert_eq!(names(&["all"]).len(), faults::all().len());
        let long = faults::all().iter().filter(|fault| fault.length == Length::Long).count();
        assert_eq!(names(&["short"]).len() + long, faults::all().len());
        assert_eq!(names(&["f1", "F1", "SIGKILL"]), names(&["F1"]));
        assert!(chosen(&["nothing of the kind".to_owned()]).is_err());
    }
}
