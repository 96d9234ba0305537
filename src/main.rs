//! The daemon `selvedge`: reads its command line and its configuration, and hands over to the agent.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use selvedge::agent;
use selvedge::config::{self, Config, Paint};
use tokio::runtime::Runtime;

use crate::cli::Cli;

/// The command line or the environment is wrong; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", error.render(paint()));
            return ExitCode::FAILURE;
        }
    };
    if cli.check {
        println!("{}: ok", cli.config.display());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = cli::start_log(cli.log_format) {
        eprintln!("error: {error}");
        return USAGE.into();
    }
    run(&cli, config)
}

fn run(cli: &Cli, config: Config) -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => runtime.block_on(agent::run(&cli.config, config)),
        Err(error) => {
            tracing::error!(%error, "cannot start the threads of the agent");
            ExitCode::FAILURE
        }
    }
}

/// Colour is for people who look on and have not asked to be spared (<https://no-color.org>).
fn paint() -> Paint {
    let spared = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stderr().is_terminal() && !spared { Paint::Terminal } else { Paint::Plain }
}
