//! `bgpctl`, the operator's tool: asks the daemon over its control socket and prints what it says.
//!
//! [`args`] is the grammar, [`client`] speaks HTTP over the socket, [`commands`] does what was asked, [`render`]
//! makes text of answers, [`output`] keeps control characters of peers away from the terminal.
//!
//! Exit codes: 0 done, 1 the daemon refused, has no such thing or is not ready, 2 usage, 3 daemon unreachable.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use client::ClientError;
use commands::Lookup;
use output::Output;

mod args;
mod client;
mod commands;
mod drain;
mod output;
mod render;

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The daemon could not be asked, or did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was looked up is not in the table.
    #[error("{0}")]
    NotFound(Lookup),
    /// The daemon is there, and the node is not fit for pods.
    #[error("{0}")]
    NotReady(String),
    /// Standard output does not take what is printed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// An answer cannot be written as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let mut output = Output::new(io::stdout().lock(), args.format());
    let done = runtime.block_on(commands::run(&args, &mut output));
    match done.and_then(|()| output.flush().map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let code = match failure {
        // `bgpctl ... | head`: the reader has what it wanted.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Client(ClientError::Refused(_))
        | Failure::NotFound(_)
        | Failure::NotReady(_)
        | Failure::Output(_)
        | Failure::Json(_) => 1,
        Failure::Client(ClientError::Unreachable { .. } | ClientError::NoAnswer { .. }) => 3,
    };
    let text = format!("bgpctl: {failure}");
    let message = match failure {
        // A wrong file is quoted in several lines.
        Failure::Client(ClientError::Refused(_)) => output::printable_lines(&text),
        Failure::Client(ClientError::Unreachable { .. } | ClientError::NoAnswer { .. })
        | Failure::NotFound(_)
        | Failure::NotReady(_)
        | Failure::Output(_)
        | Failure::Json(_) => output::printable(&text),
    };
    // Where standard error is closed too, the exit code has to do.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}
