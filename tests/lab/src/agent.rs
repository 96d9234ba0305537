//! The agent as a process of the lab, with its control socket and its operator's tool.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::Signal;

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, output_of};

/// From start to an open control socket; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The environment that the daemon is shipped with (`README.md`, Running it): no free memory in caches of threads.
const ENVIRONMENT: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Which programs to run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon, or something that takes its place.
    pub daemon: PathBuf,
    /// What stands before `--config FILE` on its command line.
    pub arguments: Vec<OsString>,
    /// The operator's tool.
    pub bgpctl: PathBuf,
    /// Whom the daemon goes on as; `None`: as root.
    pub account: Option<Account>,
    /// How the daemon gets at its next hops, whatever its configuration says; `None`: as that says.
    pub nexthop_objects: Option<NexthopObjects>,
}

/// A user that need not be in any list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its one group.
    pub gid: u32,
}

impl Account {
    /// The agents'. Nobody else's: from 60578 to 61183 nothing is given to anybody (<https://systemd.io/UIDS-GIDS>).
    pub const OF_AGENTS: Self = Self { uid: 60_700, gid: 60_700 };

    /// Gives it a file or a directory.
    ///
    /// # Errors
    /// There is no such file, or it is on a file system that knows no owners.
    pub fn own(self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .doing(|| format!("change the owner of {}", path.display()))
    }
}

/// `[fib] nexthop-objects`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NexthopObjects {
    /// Unless they cannot be had
    Auto,
    /// Whatever becomes of them
    On,
    /// Next hops stand in each route
    Off,
}

impl NexthopObjects {
    /// Names the mode of all agents of the lab and of the tests that run in racks or beside foreign daemons: `auto`,
    /// `on`, `off`; without it, or empty, configurations are as they are written.
    pub const VARIABLE: &str = "SELVEDGE_NEXTHOP_OBJECTS";

    /// What the environment says.
    ///
    /// # Errors
    /// It says something else.
    pub fn of_environment() -> Result<Option<Self>> {
        Self::of_words(std::env::var_os(Self::VARIABLE))
    }

    fn of_words(value: Option<OsString>) -> Result<Option<Self>> {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
        let words = value.to_string_lossy();
        Self::from_str(&words, false).map(Some).map_err(|_unknown| {
            Error::Missing(format!("{} is {words:?}: it has to be auto, on or off", Self::VARIABLE))
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
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
    /// Writes the configuration, with the control socket moved into `directory` and the mode of nexthop objects that
    /// `programs` asks for, and starts the daemon; returns when it takes connections there.
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
        if let Some(account) = programs.account {
            account.own(directory)?;
        }
        agent.start_again(netns)?;
        Ok(agent)
    }

    /// Writes another configuration; it counts after [`Agent::signal`] with SIGHUP, or the next start.
    ///
    /// # Errors
    /// The text is not TOML, or the file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        let path = self.config_path();
        let text = adapted(&self.name, config, &self.socket(), self.programs.nexthop_objects)?;
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
        command.args(self.command_line().into_iter().skip(1));
        command.env(ENVIRONMENT.0, ENVIRONMENT.1);
        let mut process = Process::start(&self.name, command, &self.directory.join("log"))?;
        process.await_ready(START_LIMIT, || Ok(UnixStream::connect(&socket).is_ok()))?;
        self.process = Some(process);
        Ok(())
    }

    /// The program and its arguments.
    #[must_use]
    pub fn command_line(&self) -> Vec<OsString> {
        let Programs { daemon, arguments, account, .. } = &self.programs;
        let mut words: Vec<OsString> = [daemon.into()].into_iter().chain(arguments.iter().cloned()).collect();
        words.extend(["--config".into(), self.config_path().into()]);
        if let Some(Account { uid, gid }) = account {
            words.extend(["--user".into(), format!("{uid}:{gid}").into()]);
        }
        words
    }

    /// Its process id; `None` while it is stopped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it runs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What it runs from the next start on.
    pub fn replace_programs(&mut self, programs: Programs) {
        self.programs = programs;
    }

    /// Puts a copy of the program into the directory, for the next start: another file, as after an upgrade.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn replace_program(&mut self) -> Result<()> {
        let path = self.directory.join("upgraded");
        fs::copy(&self.programs.daemon, &path).doing(|| format!("copy to {}", path.display()))?;
        self.programs.daemon = path;
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

    /// Waits until the daemon ends by itself.
    ///
    /// # Errors
    /// It is not running, or does not end in time.
    pub fn await_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.take().ok_or_else(|| self.not_running())?.await_end(limit)
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

    /// Whether its routes are to name nexthop objects; `None`: as its configuration says.
    #[must_use]
    pub fn nexthop_objects(&self) -> Option<NexthopObjects> {
        self.programs.nexthop_objects
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

fn adapted(name: &str, config: &str, socket: &Path, objects: Option<NexthopObjects>) -> Result<String> {
    let mut file: toml::Table = config
        .parse()
        .map_err(|source| Error::Toml { file: format!("the configuration of {name}"), source })?;
    set(&mut file, "control", "socket", &socket.display().to_string());
    if let Some(objects) = objects {
        set(&mut file, "fib", "nexthop-objects", objects.word());
    }
    Ok(file.to_string())
}

fn set(file: &mut toml::Table, section: &str, key: &str, value: &str) {
    let section = file.entry(section).or_insert_with(|| toml::Table::new().into());
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_control_socket_changes() {
        let path = Path::new("/run/x");
        for config in ["[bgp]\nlocal-as = 1\n", "[control]\nsocket = \"/y\"\n[bgp]\nlocal-as = 1\n"] {
            let text = adapted("c1", config, path, None).unwrap();
            assert_eq!(table(&text), table("[bgp]\nlocal-as = 1\n[control]\nsocket = \"/run/x\"\n"));
        }
        assert!(matches!(adapted("c1", "[", path, None), Err(Error::Toml { .. })));
    }

    #[test]
    fn the_mode_of_nexthop_objects_overrides_the_file() {
        let path = Path::new("/run/x");
        for config in ["[fib]\nmetric = 7\n", "[fib]\nmetric = 7\nnexthop-objects = \"on\"\n"] {
            let text = adapted("c1", config, path, Some(NexthopObjects::Off)).unwrap();
            let expected = "[fib]\nmetric = 7\nnexthop-objects = \"off\"\n[control]\nsocket = \"/run/x\"\n";
            assert_eq!(table(&text), table(expected));
        }
    }

    #[test]
    fn the_environment_names_a_mode_by_the_word_of_the_file() {
        assert_eq!(NexthopObjects::of_words(None).unwrap(), None);
        assert_eq!(NexthopObjects::of_words(Some(OsString::new())).unwrap(), None);
        for mode in [NexthopObjects::Auto, NexthopObjects::On, NexthopObjects::Off] {
            assert_eq!(NexthopObjects::of_words(Some(mode.word().into())).unwrap(), Some(mode));
        }
        assert!(NexthopObjects::of_words(Some("of".into())).is_err());
    }
}
