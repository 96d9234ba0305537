//! Selvedge's library in the role of a ToR, which no configuration of the agent reaches.

use std::error::Error as _;
use std::path::Path;

use bgp::policy::Role;
use selvedge::{agent, config};

use crate::error::{Error, Result};

/// Runs until it is ended by a signal; logs to standard error. A program that has racks with such ToRs calls it for
/// `tor --config FILE` ([`crate::build::tor_programs`]).
///
/// # Errors
/// The configuration is not one, or the agent cannot go on.
pub fn run(path: &Path) -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let config = config::load(path).map_err(|error| Error::Missing(error.render(config::Paint::Plain)))?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|source| Error::Io { doing: "start a tokio runtime".to_owned(), source })?;
    runtime.block_on(agent::run_with_role(path, config, Role::Transit)).map_err(|error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Error::Missing(format!("{error}{source}"))
    })
}
