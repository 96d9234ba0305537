//! Building what a rack runs, so that one command is enough: the agent and its tool, by cargo, beside the program that
//! calls and in its profile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::{Account, NexthopObjects, Programs};
use crate::error::{Error, Result};
use crate::topology;
use crate::wait::check_interrupt;

/// The workspace, as it was when the lab was built.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Builds the agent into the directory that the calling program was built into. `package` is the caller's: built
/// together, both agree on the features of what they share, and nothing is built twice.
///
/// # Errors
/// It does not compile, or the caller was not built by cargo.
pub fn programs(package: &str, nexthop_objects: Option<NexthopObjects>) -> Result<Programs> {
    let own = own_path()?;
    let lost = || Error::Missing("the program is not in a build directory".to_owned());
    let directory = own.parent().ok_or_else(lost)?;
    let target = directory.parent().ok_or_else(lost)?;
    let mut build = cargo();
    build.args(["build", "--package", "selvedge", "--package", package, "--bins"]);
    // The only other profile that cargo gives a directory of its own by default is called after it.
    if directory.file_name() != Some(OsStr::new("debug")) {
        build.arg("--release");
    }
    build.arg("--manifest-path").arg(Path::new(WORKSPACE).join("Cargo.toml"));
    build.arg("--target-dir").arg(target);
    println!("building the agent");
    let doing = || "build the agent with cargo".to_owned();
    let status = build.status().map_err(|source| Error::Io { doing: doing(), source })?;
    // Ctrl-C at the terminal ends cargo too; that is no fault of the build.
    check_interrupt()?;
    if !status.success() {
        let output = "see above".to_owned();
        return Err(Error::ToolFailed { command: format!("{build:?}"), status, output });
    }
    Ok(Programs {
        daemon: directory.join("selvedge"),
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        bgpctl: directory.join("bgpctl"),
        nexthop_objects,
    })
}

/// Cargo, as it was called for the calling program. What it then said of that program's package is not for others: build
/// scripts that look at it would run again, and all that depends on them would be built again.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_of_a_package = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// What runs a ToR of [`crate::TorDaemon::Selvedge`] beside these programs: the calling one, which has to hand
/// `tor --config FILE` to [`crate::tor::run`].
///
/// # Errors
/// The system does not say which program calls.
pub fn tor_programs(agent: &Programs) -> Result<Programs> {
    Ok(Programs { daemon: own_path()?, arguments: vec!["tor".into()], account: None, ..agent.clone() })
}

/// `conf/lab/NODE.toml` of each node.
///
/// # Errors
/// A file cannot be read.
pub fn node_configs() -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = Path::new(WORKSPACE).join("conf/lab").join(format!("{name}.toml"));
        std::fs::read_to_string(&path)
            .map_err(|source| Error::Io { doing: format!("read {}", path.display()), source })
    };
    topology::nodes().iter().map(|node| read(node.name)).collect()
}

/// The file of the calling program.
///
/// # Errors
/// The system does not say.
pub fn own_path() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|source| Error::Io { doing: "find the program's own file".to_owned(), source })
}
