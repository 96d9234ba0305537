//! The agent: which tasks there are and what flows between them.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;

/// Runs the agent until it is told to stop. `config_path` is read again at a reload.
pub async fn run(config_path: &Path, config: Config) -> ExitCode {
    tracing::error!(
        config = %config_path.display(),
        local_as = %config.bgp.local_as,
        "this build only checks configurations (`--check`)"
    );
    ExitCode::FAILURE
}
