//! The agent as a process of the lab, with its control socket and its operator's tool.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, output_of};

/// From start to an open control socket; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Which programs to run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon, or something that takes its place.
    pub daemon: PathBuf,
    /// What stands before `--config FILE` on its command line.
    pub arguments: Vec<OsString>,
    /// The operator's tool.
    pub bgpctl: PathBuf,
}

/// An agent in a namespace. The daemon is killed when this is dropped.
#[derive(Debug)]
pub struct Agent {
    name: String,
    programs: Programs,
    directory: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Writes the configuration, with the control socket moved into `directory`, and starts the daemon; returns when it
    /// takes connections there.
    ///
    /// # Errors
    /// The text is not TOML, or the daemon does not start.
    pub fn start(
        netns: &Netns,
        directory: &Path,
        name: &str,
        config: &str,
        programs: &Programs,
    ) -> Result<Self> {
        let mut agent = Self {
            name: name.to_owned(),
            programs: programs.clone(),
            directory: directory.to_owned(),
            process: None,
        };
        agent.write_config(config)?;
        agent.start_again(netns)?;
        Ok(agent)
    }

    /// Writes another configuration; it counts after [`Agent::signal`] with SIGHUP, or the next start.
    ///
    /// # Errors
    /// The text is not TOML, or the file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        let path = self.config_path();
        let text = with_control_socket(&self.name, config, &self.socket())?;
        fs::write(&path, text).doing(|| format!("write {}", path.display()))
    }

    /// Starts the daemon after [`Agent::kill`] or [`Agent::terminate`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self, netns: &Netns) -> Result<()> {
        self.kill()?;
        let socket = self.socket();
        let mut command = netns.command_on(&self.name, &self.programs.daemon);
        command.args(&self.programs.arguments).arg("--config").arg(self.config_path());
        let mut process = Process::start(&self.name, command, &self.directory.join("log"))?;
        process.await_ready(START_LIMIT, || Ok(UnixStream::connect(&socket).is_ok()))?;
        self.process = Some(process);
        Ok(())
    }

    /// When the daemon was started last; `None` while it is stopped.
    #[must_use]
    pub fn started(&self) -> Option<Instant> {
        self.process.as_ref().map(Process::started)
    }

    /// Ends the daemon as a crash does. Nothing where it is stopped already.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Asks the daemon to end and waits for that.
    ///
    /// # Errors
    /// It is not running, or does not end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.take().ok_or_else(|| self.not_running())?.terminate()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().ok_or_else(|| self.not_running())?.signal(signal)
    }

    /// Tells the daemon to read its file again, as `systemctl reload` does.
    ///
    /// # Errors
    /// It is not running.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Whether the daemon still runs.
    ///
    /// # Errors
    /// [`Error::DaemonEnded`] with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => Err(self.not_running()),
        }
    }

    /// All that the daemon logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Asks it something with the operator's tool and gives what that prints.
    ///
    /// # Errors
    /// The tool fails.
    pub fn bgpctl(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.programs.bgpctl);
        command.arg("--socket").arg(self.socket()).args(words);
        output_of(command)
    }

    /// The same with `--json`.
    ///
    /// # Errors
    /// The tool fails.
    pub fn bgpctl_json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let text = self.bgpctl(&[&["--json"], words].concat())?;
        serde_json::from_str(&text)
            .map_err(|source| Error::Json { command: format!("bgpctl {}", words.join(" ")), source })
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    fn config_path(&self) -> PathBuf {
        self.directory.join("selvedge.toml")
    }

    fn not_running(&self) -> Error {
        Error::Missing(format!("{} is not running", self.name))
    }
}

fn with_control_socket(name: &str, config: &str, socket: &Path) -> Result<String> {
    let mut table: toml::Table = config
        .parse()
        .map_err(|source| Error::Toml { file: format!("the configuration of {name}"), source })?;
    let control = table.entry("control").or_insert_with(|| toml::Table::new().into());
    if let Some(control) = control.as_table_mut() {
        control.insert("socket".to_owned(), socket.display().to_string().into());
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_socket_changes() {
        let path = Path::new("/run/x");
        for config in ["[bgp]\nlocal-as = 1\n", "[control]\nsocket = \"/y\"\n[bgp]\nlocal-as = 1\n"] {
            let text = with_control_socket("c1", config, path).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let expected = "[bgp]\nlocal-as = 1\n[control]\nsocket = \"/run/x\"\n".parse().unwrap();
            assert_eq!(table, expected);
        }
        assert!(matches!(with_control_socket("c1", "[", path), Err(Error::Toml { .. })));
    }
}
