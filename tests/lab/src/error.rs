//! What can go wrong while a rack is built or used. Each error says what was being done.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Any failure of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it was refused.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {doing}: {source}")]
    Netlink {
        /// What was being done.
        doing: String,
        /// Why it was refused.
        source: rtnetlink::Error,
    },
    /// There is no interface of that name in the namespace.
    #[error("no interface {interface} in namespace {netns}")]
    NoInterface {
        /// The name looked for.
        interface: String,
        /// Where.
        netns: String,
    },
    /// Code that ran inside a namespace panicked.
    #[error("a thread in namespace {netns} panicked")]
    Panicked {
        /// Where.
        netns: String,
    },
    /// A daemon ended while it was wanted.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    DaemonEnded {
        /// Which one.
        name: String,
        /// How.
        status: ExitStatus,
        /// The last lines that it wrote.
        log: String,
    },
    /// A tool ran and failed.
    #[error("{command} failed ({status}): {output}")]
    ToolFailed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard output and standard error.
        output: String,
    },
    /// Something that was waited for did not happen.
    #[error("{what}: not within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The person at the terminal, or the service manager, wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// Another rack of the same name is running.
    #[error("another lab of this name is running: {} is locked", .lock.display())]
    Running {
        /// Its lock file.
        lock: PathBuf,
    },
    /// A configuration that is not TOML.
    #[error("{file} is not TOML: {source}")]
    Toml {
        /// Which one.
        file: String,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A tool printed something that is not JSON.
    #[error("{command} printed no JSON: {source}")]
    Json {
        /// The command.
        command: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something outside of the lab is missing.
    #[error("{0}")]
    Missing(String),
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    /// Turns the error into an [`Error`]; `doing` completes "cannot ...".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { doing: doing(), source: errno.into() })
    }
}

impl<T> Doing<T> for std::result::Result<T, rtnetlink::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Netlink { doing: doing(), source })
    }
}
