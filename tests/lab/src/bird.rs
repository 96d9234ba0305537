//! BIRD as a router of the lab, with files and a socket of its own.

use std::fmt;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bgp::Asn;

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, output_of};
use crate::topology::Router;

/// Where Debian puts it.
const DAEMON: &str = "/usr/sbin/bird";

/// From start to an open socket; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running BIRD. It is killed when it is dropped.
#[derive(Debug)]
pub struct Bird {
    directory: PathBuf,
    process: Option<Process>,
}

impl Bird {
    /// Whether it is installed on this machine.
    #[must_use]
    pub fn is_installed() -> bool {
        Path::new(DAEMON).exists()
    }

    /// Writes the configuration and starts the daemon; returns when it takes commands.
    ///
    /// # Errors
    /// It is not installed, or does not start: [`Error::DaemonEnded`] says what is wrong with the configuration.
    pub fn start(netns: &Netns, directory: &Path, config: &str) -> Result<Self> {
        if !Self::is_installed() {
            return Err(Error::Missing(format!("BIRD is not installed: there is no {DAEMON}")));
        }
        let path = directory.join("bird.conf");
        fs::write(&path, config).doing(|| format!("write {}", path.display()))?;
        let mut bird = Self { directory: directory.to_owned(), process: None };
        bird.start_again(netns)?;
        Ok(bird)
    }

    /// Starts it after [`Bird::kill`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self, netns: &Netns) -> Result<()> {
        self.start_with(netns, &[])
    }

    /// The same as a graceful restart, over the kernel's routes that it left.
    ///
    /// # Errors
    /// It does not start.
    pub fn recover(&mut self, netns: &Netns) -> Result<()> {
        self.start_with(netns, &["-R"])
    }

    fn start_with(&mut self, netns: &Netns, arguments: &[&str]) -> Result<()> {
        self.kill()?;
        let socket = self.socket();
        // A killed daemon leaves its socket file, which would pass for readiness.
        let _ = fs::remove_file(&socket);
        let mut command = netns.command(DAEMON);
        command
            .args(arguments)
            .args(["-f", "-c"])
            .arg(self.directory.join("bird.conf"))
            .arg("-s")
            .arg(&socket);
        let mut process = Process::start("bird", command, &self.directory.join("bird.log"))?;
        process.await_ready(START_LIMIT, || Ok(socket.exists()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a crash does. Nothing where it is stopped already.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Runs a command of `birdc` and gives what it prints.
    ///
    /// # Errors
    /// birdc is not installed or the command fails.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let mut birdc = Command::new("birdc");
        birdc.arg("-s").arg(self.socket()).args(command.split_ascii_whitespace());
        output_of(birdc)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("bird.ctl")
    }
}

/// Its configuration as a ToR of the rack.
#[derive(Debug)]
pub(crate) struct BirdTor<'a> {
    pub(crate) router: &'a Router,
    /// Name of port and protocol, AS and link-local address of each.
    pub(crate) neighbors: Vec<(&'static str, Asn, Ipv6Addr)>,
}

impl fmt::Display for BirdTor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Router { asn, loopback, loopback_v6, .. } = self.router;
        writeln!(f, "log stderr all;\nrouter id {loopback};\nprotocol device {{ scan time 10; }}")?;
        // The kernel has the loopback addresses already.
        let learned = "export where source = RTS_BGP;";
        writeln!(
            f,
            "protocol kernel {{ ipv4 {{ {learned} }}; }}\nprotocol kernel {{ ipv6 {{ {learned} }}; }}"
        )?;
        writeln!(f, "protocol static {{ ipv4; route {loopback}/32 blackhole; }}")?;
        writeln!(f, "protocol static {{ ipv6; route {loopback_v6}/128 blackhole; }}")?;
        for (port, remote, address) in &self.neighbors {
            writeln!(
                f,
                "protocol radv {{ interface \"{port}\" {{ max ra interval 4; default lifetime 30; }}; }}
protocol bgp {port} {{
    local as {asn};
    neighbor {address}%{port} as {remote};
    check link yes;
    connect retry time 1;
    error wait time 1, 2;
    graceful restart on;
    ipv4 {{ import all; export all; extended next hop on; }};
    ipv6 {{ import all; export all; }};
}}"
            )?;
        }
        Ok(())
    }
}
