//! The command line of `selvedge`, and how it logs.

use std::env::{self, VarError};
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use selvedge::privileges::Account;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::log::Log;

/// Names the environment variable with the log filter.
const LOG_VARIABLE: &str = "SELVEDGE_LOG";

/// What is logged without it. The client of Kubernetes has lines of its own for each request that fails, with all of the
/// answer; what matters of them, and when it is new, is said by `selvedge::cluster`.
const USUAL_FILTER: &str = "info,kube_client=off";

/// Makes this host a router of its IP fabric: peers with its ToRs, originates its pods' networks.
#[derive(Debug, Parser)]
#[command(
    name = "selvedge",
    version,
    after_help = "Environment:\n  SELVEDGE_LOG  log filter, such as debug or info,bgp::session=trace [default: info,kube_client=off]"
)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/selvedge/selvedge.toml")]
    pub(crate) config: PathBuf,
    /// Only check the configuration: say that it is ok, or what is wrong with it.
    #[arg(long)]
    pub(crate) check: bool,
    /// Go on as this user, after a start by root: a name, or UID:GID.
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<Account>,
    /// How the log on standard error is written.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for log collectors.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The variable is no filter.
    #[error("SELVEDGE_LOG={value:?} is not a log filter: {source}")]
    Filter {
        /// What is in the variable.
        value: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The variable is not UTF-8.
    #[error("SELVEDGE_LOG is not a log filter: it is not UTF-8")]
    NotUtf8,
    /// There is one already.
    #[error("cannot start the log: {0}")]
    Started(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends what the process logs to standard error.
pub(crate) fn start_log(format: LogFormat) -> Result<(), LogError> {
    // The subscriber would tell of a line that cannot be written with `eprintln!`, which panics where that cannot be
    // written either.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter()?).with_writer(Log).log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(LogError::Started)
}

fn filter() -> Result<EnvFilter, LogError> {
    match env::var(LOG_VARIABLE) {
        Ok(value) if !value.is_empty() => {
            EnvFilter::try_new(&value).map_err(|source| LogError::Filter { value, source })
        }
        Ok(_) | Err(VarError::NotPresent) => Ok(EnvFilter::new(USUAL_FILTER)),
        Err(VarError::NotUnicode(_)) => Err(LogError::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_options_the_daemon_runs_from_its_usual_file() {
        let cli = Cli::try_parse_from(["selvedge"]).unwrap();
        assert_eq!(cli.config, PathBuf::from("/etc/selvedge/selvedge.toml"));
        assert!(!cli.check);
        assert_eq!(cli.log_format, LogFormat::Text);
    }
}
