//! FRR as a router of the rack: zebra, bgpd and perhaps bfdd in a namespace, with files and sockets of their own.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bgp::{Asn, Prefix};
use nix::sys::signal::Signal;
use nix::unistd::{Group, User};

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, output_of};

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// From start to an open socket; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Whether learned routes are advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transit {
    /// As a ToR does.
    Provided,
    /// As a host does: only its own prefixes leave it.
    Refused,
}

/// What one FRR is to be.
#[derive(Debug, Clone)]
pub struct FrrConfig {
    /// Its name in `show` commands and in the FQDN capability.
    pub hostname: String,
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Unnumbered neighbors.
    pub interfaces: Vec<String>,
    /// What it originates, whether or not the kernel has a route for it.
    pub networks: Vec<Prefix>,
    /// ToR or host.
    pub transit: Transit,
    /// Preferred source of the IPv4 routes that it installs.
    pub source: Option<Ipv4Addr>,
}

/// A running FRR. Its daemons are killed when it is dropped.
#[derive(Debug)]
pub struct Frr {
    directory: PathBuf,
    zebra: Option<Process>,
    bgpd: Option<Process>,
    bfdd: Option<Process>,
}

impl Frr {
    /// Whether FRR's bgpd is installed on this machine.
    #[must_use]
    pub fn is_installed() -> bool {
        Path::new(DAEMONS).join("bgpd").exists()
    }

    /// Writes the configuration and starts both daemons; returns when bgpd takes commands.
    ///
    /// # Errors
    /// FRR is not installed, or a daemon does not start.
    pub fn start(netns: &Netns, directory: &Path, config: &FrrConfig) -> Result<Self> {
        Self::start_with(netns, directory, &zebra_conf(config), &bgpd_conf(config))
    }

    /// The same with the files of the daemons as they are to be.
    ///
    /// # Errors
    /// As [`Frr::start`], or bgpd does not understand its file.
    pub fn start_with(netns: &Netns, directory: &Path, zebra: &str, bgpd: &str) -> Result<Self> {
        if !Self::is_installed() {
            return Err(Error::Missing(format!("FRR is not installed: there is no {DAEMONS}/bgpd")));
        }
        let files = [
            ("zebra.conf", zebra),
            ("bgpd.conf", bgpd),
            ("vtysh.conf", "no service integrated-vtysh-config\n"),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        }
        Self::give_directory(directory)?;
        let mut frr = Self { directory: directory.to_owned(), zebra: None, bgpd: None, bfdd: None };
        frr.start_daemons(netns)?;
        // It goes on without the line, and nobody would know what a test is about.
        match frr.log().lines().find(|line| line.contains("on config line")) {
            Some(line) => Err(Error::Missing(line.to_owned())),
            None => Ok(frr),
        }
    }

    /// Gives a directory and the files in it to the user `frr`: the daemons give up root for it before they open files
    /// and sockets.
    ///
    /// # Errors
    /// FRR is installed without its user, or the system refuses.
    pub fn give_directory(directory: &Path) -> Result<()> {
        let missing = || Error::Missing("FRR is installed without its user or group frr".to_owned());
        let user = User::from_name("frr").doing(|| "look up user frr".to_owned())?.ok_or_else(missing)?;
        let group = Group::from_name("frr").doing(|| "look up group frr".to_owned())?.ok_or_else(missing)?;
        let give = |path: &Path| {
            chown(path, Some(user.uid.as_raw()), Some(group.gid.as_raw()))
                .doing(|| format!("give {} to frr", path.display()))
        };
        give(directory)?;
        let entries = fs::read_dir(directory).doing(|| format!("list {}", directory.display()))?;
        entries.flatten().try_for_each(|entry| give(&entry.path()))
    }

    /// Kills bgpd as a crash does: its TCP connections are reset, zebra lives on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill_bgpd(&mut self) -> Result<()> {
        self.bgpd.take().map_or(Ok(()), Process::kill)
    }

    /// Sends bgpd a signal: stopped, it keeps its TCP connections and says nothing more.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal_bgpd(&self, signal: Signal) -> Result<()> {
        let missing = || Error::Missing("bgpd is not running".to_owned());
        self.bgpd.as_ref().ok_or_else(missing)?.signal(signal)
    }

    /// Starts bgpd again after [`Frr::kill_bgpd`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start_bgpd(&mut self, netns: &Netns) -> Result<()> {
        self.kill_bgpd()?;
        self.bgpd = Some(self.start_daemon(netns, "bgpd", "bgpd.vty")?);
        Ok(())
    }

    /// Starts bfdd beside the others, which find it through zebra. Again after [`Frr::kill_bfdd`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start_bfdd(&mut self, netns: &Netns, config: &str) -> Result<()> {
        self.kill_bfdd()?;
        let path = self.directory.join("bfdd.conf");
        fs::write(&path, config).doing(|| format!("write {}", path.display()))?;
        Self::give_directory(&self.directory)?;
        self.bfdd = Some(self.start_daemon(netns, "bfdd", "bfdd.vty")?);
        Ok(())
    }

    /// Kills bfdd: its sessions fall silent.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill_bfdd(&mut self) -> Result<()> {
        self.bfdd.take().map_or(Ok(()), Process::kill)
    }

    /// Adds lines to the file of bgpd at the beginning of its `router bgp`, where FRR writes what concerns all
    /// neighbors; they count from its next start.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn add_lines(&self, lines: &str) -> Result<()> {
        let path = self.directory.join("bgpd.conf");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        let text = text.split_inclusive('\n').map(|line| match line.strip_prefix("router bgp ") {
            Some(_) => format!("{line}{lines}"),
            None => line.to_owned(),
        });
        fs::write(&path, text.collect::<String>()).doing(|| format!("write {}", path.display()))
    }

    /// Kills both daemons and starts them again.
    ///
    /// # Errors
    /// The system refuses, or a daemon does not start.
    pub fn restart(&mut self, netns: &Netns) -> Result<()> {
        self.kill_bgpd()?;
        self.zebra.take().map_or(Ok(()), Process::kill)?;
        self.start_daemons(netns)
    }

    /// All that bgpd logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("bgpd.log")).unwrap_or_default()
    }

    /// Runs a command in bgpd's or zebra's command line and gives what it prints.
    ///
    /// # Errors
    /// vtysh is not installed or the command fails.
    pub fn vtysh(&self, command: &str) -> Result<String> {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(&self.directory);
        vtysh.arg("--config_dir").arg(&self.directory).args(["-c", command]);
        output_of(vtysh)
    }

    /// Changes the running configuration of bgpd: lines as in its file.
    ///
    /// # Errors
    /// As [`Frr::vtysh`].
    pub fn configure(&self, lines: &str) -> Result<()> {
        self.configure_daemon("bgpd", lines)
    }

    /// The same for one of the daemons.
    ///
    /// # Errors
    /// As [`Frr::vtysh`].
    pub fn configure_daemon(&self, daemon: &str, lines: &str) -> Result<()> {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(&self.directory).arg("--config_dir").arg(&self.directory);
        vtysh.args(["-d", daemon, "-c", "configure terminal"]);
        vtysh.args(lines.lines().flat_map(|line| ["-c", line]));
        output_of(vtysh).map(drop)
    }

    /// Runs a command that ends in `json`.
    ///
    /// # Errors
    /// As [`Frr::vtysh`], or it prints something else.
    pub fn vtysh_json(&self, command: &str) -> Result<serde_json::Value> {
        let text = self.vtysh(command)?;
        serde_json::from_str(&text)
            .map_err(|source| Error::Json { command: format!("vtysh -c '{command}'"), source })
    }

    /// The AS path of the best route to a prefix, as text; `None` where there is no route.
    ///
    /// # Errors
    /// As [`Frr::vtysh_json`].
    pub fn best_path(&self, prefix: Prefix) -> Result<Option<String>> {
        let family = match prefix.address() {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        let answer = self.vtysh_json(&format!("show bgp {family} unicast {prefix} json"))?;
        let paths = answer.get("paths").and_then(|paths| paths.as_array()).into_iter().flatten();
        Ok(paths
            .filter(|path| path.pointer("/bestpath/overall").is_some_and(|best| best == true))
            .find_map(|path| path.pointer("/aspath/string")?.as_str().map(str::to_owned)))
    }

    /// Every AS path of every route of a family, by prefix.
    ///
    /// # Errors
    /// As [`Frr::vtysh_json`].
    pub fn all_paths(&self, family: bgp::Family) -> Result<Vec<(String, String)>> {
        let family = match family {
            bgp::Family::Ipv4Unicast => "ipv4",
            bgp::Family::Ipv6Unicast => "ipv6",
        };
        let answer = self.vtysh_json(&format!("show bgp {family} unicast json"))?;
        let routes = answer.get("routes").and_then(|routes| routes.as_object()).into_iter().flatten();
        Ok(routes
            .flat_map(|(prefix, paths)| {
                paths.as_array().into_iter().flatten().filter_map(move |path| {
                    let as_path = path.get("path")?.as_str()?;
                    Some((prefix.clone(), as_path.to_owned()))
                })
            })
            .collect())
    }

    fn start_daemons(&mut self, netns: &Netns) -> Result<()> {
        self.zebra = Some(self.start_daemon(netns, "zebra", "zserv.api")?);
        self.bgpd = Some(self.start_daemon(netns, "bgpd", "bgpd.vty")?);
        Ok(())
    }

    /// `socket` is what the daemon opens when it is ready.
    fn start_daemon(&self, netns: &Netns, name: &str, socket: &str) -> Result<Process> {
        let directory = self.directory.as_path();
        let socket = directory.join(socket);
        // A killed daemon leaves its socket file, which would pass for readiness.
        let _ = fs::remove_file(&socket);
        let mut command = netns.command(Path::new(DAEMONS).join(name));
        command.args([OsStr::new("-f"), directory.join(format!("{name}.conf")).as_os_str()]);
        command.args([OsStr::new("-i"), directory.join(format!("{name}.pid")).as_os_str()]);
        command.args([OsStr::new("-z"), directory.join("zserv.api").as_os_str()]);
        command.args([OsStr::new("--vty_socket"), directory.as_os_str()]);
        if name == "bfdd" {
            command.arg("--bfdctl").arg(directory.join("bfdd.sock"));
        }
        // Without a TCP terminal; every daemon of every namespace would want its port.
        command.args(["-A", "127.0.0.1", "-P", "0"]);
        command.arg("--log").arg(format!("file:{}", directory.join(format!("{name}.log")).display()));
        let mut process = Process::start(name, command, &directory.join(format!("{name}.out")))?;
        process.await_ready(START_LIMIT, || Ok(socket.exists()))?;
        Ok(process)
    }
}

fn zebra_conf(config: &FrrConfig) -> String {
    let mut text = format!("hostname {}\n", config.hostname);
    if let Some(source) = config.source {
        text.push_str(&format!(
            "route-map source permit 10\n set src {source}\nexit\nip protocol bgp route-map source\n"
        ));
    }
    text
}

fn bgpd_conf(config: &FrrConfig) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_bgpd_conf(config, &mut text);
    text
}

fn write_bgpd_conf(config: &FrrConfig, text: &mut String) -> std::fmt::Result {
    writeln!(text, "frr defaults datacenter\nhostname {}", config.hostname)?;
    writeln!(text, "router bgp {}\n bgp router-id {}", config.asn, config.router_id)?;
    writeln!(text, " bgp bestpath as-path multipath-relax\n no bgp network import-check")?;
    for interface in &config.interfaces {
        writeln!(text, " neighbor {interface} interface remote-as external")?;
    }
    for (family, wants_v4) in [("ipv4", true), ("ipv6", false)] {
        writeln!(text, " address-family {family} unicast")?;
        for network in config.networks.iter().filter(|network| network.address().is_ipv4() == wants_v4) {
            writeln!(text, "  network {network}")?;
        }
        for interface in &config.interfaces {
            writeln!(text, "  neighbor {interface} activate")?;
            if config.transit == Transit::Refused {
                writeln!(text, "  neighbor {interface} filter-list own out")?;
            }
        }
        writeln!(text, " exit-address-family")?;
    }
    writeln!(text, "exit\nbgp as-path access-list own seq 5 permit ^$")
}
