//! Selvedge beside FRR and BIRD, in one run on one machine: the same routes, the same kernel, turn by turn.
//!
//! In: scenarios and how often. Out: a table of medians with their ratios to Selvedge; or a verdict. A time alone says
//! as much of the machine and of what else it does as of the agent, so only ratios of one run are worth keeping.
//!
//! [`result`] and [`mod@gate`] are about numbers, [`fib`] and [`routes`] about routes; [`netlink`], [`usage`] and
//! [`advertise`] talk to the kernel; [`site`], [`tor`], [`daemon`] and [`watch`] are the parties; [`scenario`] makes them
//! meet.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use lab::{Error, Requirement, Result};

mod advertise;
mod daemon;
mod fib;
mod gate;
mod netlink;
mod result;
mod routes;
mod scenario;
mod site;
mod tor;
mod usage;
mod watch;

use daemon::Candidate;
use result::Results;
use scenario::Run;
pub(crate) use scenario::Scenario;

/// What the gate runs with: small enough for every check, large enough to tell.
const GATE_ROUTES: u32 = 10_000;
/// And what it compares the memory with: the difference is seven megabytes and more, where a run differs from the next by
/// half of one.
const GATE_MORE_ROUTES: u32 = 100_000;
/// The two halves of the table must not meet, nor leave the address space; BGP tables are no larger.
const MAX_ROUTES: i64 = 4_000_000;

/// How to compare.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Routes that each ToR announces
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=MAX_ROUTES))]
    routes: u32,
    /// Runs of each agent, turn by turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Selvedge's daemon [default: built from this checkout]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

/// How to judge.
#[derive(Debug, Args)]
pub(crate) struct GateOptions {
    /// Runs of each agent, turn by turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Selvedge's daemon [default: built from this checkout]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

/// Runs the scenarios with every agent that is installed, and prints a table for each.
///
/// # Errors
/// A run did not come to its end; its numbers are not made up.
pub(crate) fn run(scenarios: &[Scenario], options: &Options) -> Result<()> {
    let program = prepare(options.agent.as_deref())?;
    let (installed, missing): (Vec<_>, Vec<_>) =
        Candidate::ALL.into_iter().partition(|candidate| candidate.is_installed());
    for candidate in missing {
        eprintln!("{candidate} is not installed and left out");
    }
    for scenario in scenarios {
        let results = turns(*scenario, &installed, &program, options.routes, options.runs)?;
        let title = match scenario {
            Scenario::Start => scenario.to_string(),
            Scenario::Load | Scenario::Failover | Scenario::Restart => {
                format!("{scenario}, {} routes", options.routes)
            }
        };
        println!("{}", results.table(&title));
    }
    Ok(())
}

/// Compares with BIRD alone and judges. Whether Selvedge is not behind in anything.
///
/// # Errors
/// BIRD is not installed, or a run did not come to its end.
pub(crate) fn gate(options: &GateOptions) -> Result<bool> {
    let program = prepare(options.agent.as_deref())?;
    let candidates = [Candidate::Selvedge, Candidate::Bird];
    if !Candidate::Bird.is_installed() {
        return Err(Error::Missing("there is no BIRD to compare with: apt-get install bird2".to_owned()));
    }
    let measure = |routes| {
        let results = turns(Scenario::Load, &candidates, &program, routes, options.runs)?;
        println!("{}", results.table(&format!("load, {routes} routes")));
        Ok(results)
    };
    let (small, large) = (measure(GATE_ROUTES)?, measure(GATE_MORE_ROUTES)?);
    let verdicts = gate::judge(
        gate::Size { routes: GATE_ROUTES, results: &small },
        gate::Size { routes: GATE_MORE_ROUTES, results: &large },
    );
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    Ok(verdicts.iter().all(gate::Verdict::holds))
}

/// A B C A B C, not A A A B B B: what else the machine does meets all of them alike.
fn turns(
    scenario: Scenario,
    candidates: &[Candidate],
    program: &Path,
    routes: u32,
    runs: u32,
) -> Result<Results> {
    let mut results = Results::default();
    for turn in 0..runs {
        for candidate in candidates.iter().copied() {
            let run = Run { candidate, program, routes, turn: (turn, runs) };
            let sample =
                run.measure(scenario).inspect_err(|_| eprintln!("{scenario} of {candidate} failed"))?;
            let numbers: Vec<_> =
                sample.iter().map(|(figure, value)| format!("{figure} {value:.3}")).collect();
            eprintln!("{scenario} {}/{runs} {candidate:8} {}", turn + 1, numbers.join("; "));
            results.add(candidate, sample);
        }
    }
    Ok(results)
}

/// Checks for root, listens for signals, finds the agent.
fn prepare(agent: Option<&Path>) -> Result<PathBuf> {
    if !Requirement::Root.is_met() {
        let why = "namespaces, routes and raw sockets need root: run it with sudo \
                   (sudo -E env PATH=\"$PATH\" cargo run ...)";
        return Err(Error::Missing(why.to_owned()));
    }
    lab::interrupt_on_signals(|| ());
    agent.map_or_else(build_agent, |agent| Ok(agent.to_owned()))
}

/// Builds the agent that the checkout is, beside the bench itself: an old one would be measured in silence.
pub(crate) fn build_agent() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(refused("find the bench's own file"))?;
    let release = own.parent().map(Path::to_path_buf).unwrap_or_default();
    let target = release.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut build = lab::build::cargo();
    // With the bench itself, so that both builds agree on the features of what they share: it is not built twice.
    build.args(["build", "--release", "--quiet", "--package", "selvedge", "--package", "bench", "--bins"]);
    build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    let status = build.status().map_err(refused("build the agent with cargo"))?;
    // Ctrl-C at the terminal ends cargo too; that is no fault of the build.
    lab::check_interrupt()?;
    if !status.success() {
        let output = "see above".to_owned();
        return Err(Error::ToolFailed { command: format!("{build:?}"), status, output });
    }
    Ok(release.join("selvedge"))
}

/// Says what was being done when the system refused.
fn refused(doing: &str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing: doing.to_owned(), source }
}
