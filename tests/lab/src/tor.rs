//! Selvedge's library in the role of a ToR, which no configuration of the agent reaches.

use std::path::Path;

use lab::{Error, Result};

/// Runs until it is ended by a signal.
pub(crate) fn run(config: &Path) -> Result<()> {
    Err(Error::Missing(format!("{}: this build of the lab has no ToR role", config.display())))
}
