//! Measurements behind the choices of the project, repeatable: `cargo run --release -p bench -- --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use compare::{GateOptions, Options, Scenario};
use lab::flaps::FlapOptions;

mod compare;
mod counting;
mod flaps;
mod layout;
mod policy;
mod rib;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Measurements behind the choices of the project
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Compare Selvedge with FRR and BIRD, where they are installed; needs root
    Compare {
        /// What to measure [default: all]
        #[arg(value_enum)]
        scenarios: Vec<Scenario>,
        #[command(flatten)]
        options: Options,
    },
    /// Compare in everything
    All(Options),
    /// Compare how fast routes come into the kernel, and what that costs
    Load(Options),
    /// Compare what the loss of a link costs
    Failover(Options),
    /// Compare what a crash and a restart cost
    Restart(Options),
    /// Compare how fast an agent is heard of after its start
    Start(Options),
    /// Fail if Selvedge falls behind BIRD in time, processor time or memory; needs root
    Gate(GateOptions),
    /// Compare layouts for the table of all paths, by octets and nanoseconds
    Layout {
        /// Sizes of the table
        prefixes: Vec<usize>,
    },
    /// Measure the daemon's memory while all its routes come and go; needs root
    Flaps {
        /// How many routes
        #[arg(default_value_t = 1_000_000)]
        routes: u32,
        /// How often they come and go
        #[arg(default_value_t = 10)]
        rounds: u32,
    },
    /// Measure the RIB's turns when a file of a thousand lines changes the policy of a full table
    Policy {
        /// Sizes of the table
        prefixes: Vec<usize>,
    },
    /// Measure the whole RIB, from UPDATE to FIB change
    Rib {
        /// Sizes of the table
        prefixes: Vec<usize>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Commands::Compare { scenarios, options } if scenarios.is_empty() => all(&options),
        Commands::Compare { scenarios, options } => compare::run(&scenarios, &options).map(|()| true),
        Commands::All(options) => all(&options),
        Commands::Load(options) => compare::run(&[Scenario::Load], &options).map(|()| true),
        Commands::Failover(options) => compare::run(&[Scenario::Failover], &options).map(|()| true),
        Commands::Restart(options) => compare::run(&[Scenario::Restart], &options).map(|()| true),
        Commands::Start(options) => compare::run(&[Scenario::Start], &options).map(|()| true),
        Commands::Gate(options) => compare::gate(&options),
        Commands::Layout { prefixes } => {
            layout::run(&prefixes);
            Ok(true)
        }
        Commands::Policy { prefixes } => {
            policy::run(&prefixes);
            Ok(true)
        }
        Commands::Rib { prefixes } => {
            rib::run(&prefixes);
            Ok(true)
        }
        Commands::Flaps { routes, rounds } => flaps::run(FlapOptions { routes, rounds }).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all(options: &Options) -> lab::Result<bool> {
    compare::run(Scenario::value_variants(), options).map(|()| true)
}
