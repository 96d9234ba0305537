//! The daemon `selvedge`: reads its command line and its configuration, and hands over to the agent.

mod cli;
mod log;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use selvedge::agent;
use selvedge::config::{self, Config, Paint};
use selvedge::{memory, privileges};
use tokio::runtime::{Builder, Runtime};

use crate::cli::Cli;

/// The configuration or the machine does not allow it.
const FAILED: u8 = 1;

/// The command line or the environment is wrong; clap uses the same.
const USAGE: u8 = 2;

/// Threads, at most: the RIB, the FIB and two neighbors may work at a time. On a host with a hundred cores there would
/// be a hundred otherwise, most of them there only to have a stack and to look for work.
const WORKERS: usize = 4;
/// For what is being written down when the daemon ends.
const DISK_DEADLINE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before the file is read: what this user may not read, it could not read again either.
    if let Err(error) = privileges::give_up(cli.user.as_ref()) {
        return complain(&format!("error: {error}"), FAILED);
    }
    let config = match config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => return complain(&error.render(paint()), FAILED),
    };
    if cli.check {
        return match writeln!(io::stdout(), "{}: ok", cli.config.display()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("error: standard output: {error}"), FAILED),
        };
    }
    if let Err(error) = cli::start_log(cli.log_format) {
        return complain(&format!("error: {error}"), USAGE);
    }
    run(&cli, config)
}

fn run(cli: &Cli, config: Config) -> ExitCode {
    memory::use_one_arena();
    match runtime() {
        Ok(runtime) => {
            let outcome = runtime.block_on(agent::run(&cli.config, config));
            // Else it would wait for ever for a disk that hangs.
            runtime.shutdown_timeout(DISK_DEADLINE);
            match outcome {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot go on");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            tracing::error!(%error, "cannot start the threads of the agent");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    let workers = std::thread::available_parallelism().map_or(WORKERS, |cores| cores.get().min(WORKERS));
    Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// A message to standard error, before there is a log. Nobody is left to hear that it cannot be written.
fn complain(message: &str, status: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "{message}");
    status.into()
}

/// Colour is for people who look on and have not asked to be spared (<https://no-color.org>).
fn paint() -> Paint {
    let spared = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !spared { Paint::Terminal } else { Paint::Plain }
}
