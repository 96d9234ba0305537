//! `lab`: the rack on this machine, from one command.
//!
//! Builds the agent, builds the rack, starts it, shows what it did and whether it is healthy, and waits for Ctrl-C.

mod show;
mod tor;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use lab::{
    Error, Frr, NexthopObjects, NodeDaemon, Programs, Rack, RackOptions, Requirement, Result, Scratch,
    TorDaemon, bench, build, check,
};

/// From the start of the daemons to all routes on all nodes. FRR alone takes two seconds of it.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(60);

/// A rack in network namespaces of this machine: two ToRs, three nodes with Selvedge, two pods on each.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// End when everything was shown; the exit status is 0 only if all of it held
    #[arg(long)]
    once: bool,
    /// What plays the ToRs [default: frr where it is installed, else selvedge]
    #[arg(long, value_enum)]
    tor: Option<TorKind>,
    /// Whether the agents' routes name nexthop objects [default: SELVEDGE_NEXTHOP_OBJECTS, else as configured]
    #[arg(long, value_enum)]
    nexthop_objects: Option<NexthopObjects>,
    /// What routes on the nodes
    #[arg(long, value_enum, default_value_t = NodeKind::Agent, hide = true)]
    node: NodeKind,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Measure how fast a node is from the start of the agent to working routes; ToRs are FRR
    Bench {
        /// How many times, each with a rack of its own
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Exit with status 1 if a median misses its target
        #[arg(long)]
        strict: bool,
    },
    /// Remove what a lab that was killed left behind; the next lab does the same
    Clean,
    /// Be a ToR: what the lab runs in a ToR's namespace for `--tor selvedge`
    #[command(hide = true)]
    Tor {
        /// Configuration, as the agent's
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TorKind {
    /// FRRouting, as Cumulus Linux ships it
    Frr,
    /// Selvedge's own library
    Selvedge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NodeKind {
    Agent,
    Frr,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Subcommands::Tor { config }) => tor::run(config).map(|()| true),
        Some(Subcommands::Bench { runs, strict }) => measure(&arguments, *runs).map(|held| held || !strict),
        Some(Subcommands::Clean) => require_root().and_then(|()| Scratch::clear_abandoned()).map(|()| true),
        None => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all of it held.
fn run(arguments: &Arguments) -> Result<bool> {
    let interrupted = prepare()?;
    let options = options(arguments, arguments.tor.unwrap_or_else(default_tor))?;
    let progress = Progress::start();
    let rack = bring_up(options, &progress)?;
    show::rack(&rack)?;

    let verdicts = check::all(&rack)?;
    println!();
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    let held = verdicts.iter().all(check::Verdict::held);
    progress.say(if held { "all of it held" } else { "NOT all of it held" });
    if !arguments.once {
        show::sockets(&rack);
        println!("The rack stays up: `ip netns` lists its namespaces. Ctrl-C ends it.");
        // Both a signal and the loss of the thread that waits for one mean the end.
        let _ = interrupted.recv();
    }
    Ok(held)
}

fn bring_up(options: RackOptions, progress: &Progress) -> Result<Rack> {
    progress.say("building namespaces and cables");
    let mut rack = Rack::build(options)?;
    progress.say("uplinks have their link-local addresses");
    for index in 0..rack.tors.len() {
        rack.start_tor(index)?;
        progress.say(&format!("{} started", name(&rack.tors, index)));
    }
    for index in 0..rack.nodes.len() {
        rack.start_node(index)?;
        progress.say(&format!("{} started", name(&rack.nodes, index)));
    }
    // One thread a node, so that each is reported when it is ready.
    thread::scope(|scope| {
        let rack = &rack;
        let waits: Vec<_> = rack
            .nodes
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    rack.await_node_converged(node, CONVERGENCE_LIMIT)?;
                    progress.say(&format!("{} has all routes", node.router.name));
                    Ok::<_, Error>(())
                })
            })
            .collect();
        let lost = || Err(Error::Missing("a thread of the lab panicked".to_owned()));
        waits.into_iter().try_for_each(|wait| wait.join().unwrap_or_else(|_panic| lost()))
    })?;
    Ok(rack)
}

/// Whether every median held its target.
fn measure(arguments: &Arguments, runs: u32) -> Result<bool> {
    prepare()?;
    let options = options(arguments, TorKind::Frr)?;
    let mut all = Vec::new();
    for run in 1..=runs.max(1) {
        let times = bench::run(options.clone())?;
        let [update, route, kernel] =
            bench::TARGETS.map(|target| (target.time)(&times).as_secs_f64() * 1000.0);
        println!("run {run}: {update:.1} ms, {route:.1} ms, {kernel:.1} ms");
        all.push(times);
    }
    let mut held = true;
    for target in bench::TARGETS {
        let mut sorted: Vec<_> = all.iter().map(target.time).collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let is_held = median < target.limit;
        held &= is_held;
        let mark = if is_held { "held  " } else { "FAILED" };
        let (median_ms, limit_ms) = (median.as_secs_f64() * 1000.0, target.limit.as_millis());
        println!("{mark}  {}: median {median_ms:.1} ms (below {limit_ms} ms)", target.what);
    }
    Ok(held)
}

/// Checks for root and begins to listen for signals. Each makes every wait of the lab fail, so that the rack is dropped
/// and nothing stays.
fn prepare() -> Result<Receiver<()>> {
    require_root()?;
    let (sender, receiver) = mpsc::channel();
    lab::interrupt_on_signals(move || {
        // The main thread may have ended its wait already.
        let _ = sender.send(());
    });
    Ok(receiver)
}

fn require_root() -> Result<()> {
    if Requirement::Root.is_met() {
        return Ok(());
    }
    let why = "namespaces, routes and raw sockets need root: run it with sudo \
               (sudo -E env PATH=\"$PATH\" cargo run ...)";
    Err(Error::Missing(why.to_owned()))
}

fn options(arguments: &Arguments, tor: TorKind) -> Result<RackOptions> {
    if tor == TorKind::Frr && !Frr::is_installed() {
        return Err(Error::Missing(
            "FRR is not installed: apt-get install frr, or --tor selvedge".to_owned(),
        ));
    }
    let nexthop_objects = match arguments.nexthop_objects {
        Some(told) => Some(told),
        None => NexthopObjects::of_environment()?,
    };
    let programs = match (arguments.node, tor) {
        (NodeKind::Frr, TorKind::Frr) => None,
        (NodeKind::Agent, _) | (NodeKind::Frr, TorKind::Selvedge) => {
            Some(build::programs("lab", nexthop_objects)?)
        }
    };
    let agent = || programs.clone().ok_or_else(|| Error::Missing("the agent was not built".to_owned()));
    let nodes = match arguments.node {
        NodeKind::Frr => NodeDaemon::Frr,
        NodeKind::Agent => NodeDaemon::Agent { programs: agent()?, configs: build::node_configs()? },
    };
    let tors = match tor {
        TorKind::Frr => TorDaemon::Frr,
        TorKind::Selvedge => {
            let programs = Programs {
                daemon: build::own_path()?,
                arguments: vec!["tor".into()],
                account: None,
                ..agent()?
            };
            TorDaemon::Selvedge { programs }
        }
    };
    Ok(RackOptions { name: "lab".to_owned(), nodes, tors })
}

fn default_tor() -> TorKind {
    if Frr::is_installed() { TorKind::Frr } else { TorKind::Selvedge }
}

fn name(hosts: &[lab::Host], index: usize) -> &str {
    hosts.get(index).map_or("?", |host| host.router.name)
}

/// Lines with the time since the rack was begun.
struct Progress {
    begun: Instant,
}

impl Progress {
    fn start() -> Self {
        Self { begun: Instant::now() }
    }

    fn say(&self, what: &str) {
        println!("[{:>6} ms] {what}", self.begun.elapsed().as_millis());
    }
}
