//! The agents that are compared: how each is configured and started, all for the same task.
//!
//! Two unnumbered neighbors, ECMP over both, the loopback announced to them, nothing else: a host is not transit.
//! Timers are those of a data centre, keepalives every 3 s and a hold time of 9 s.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{Bird, Error, Frr, Process, Result};

use super::refused;
use super::site::{ASN, LOOPBACK, Site, uplinks};

const BIRD: &str = "/usr/sbin/bird";
const FRR: &str = "/usr/lib/frr";
/// From start to an open socket; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Candidate {
    /// This project's agent.
    Selvedge,
    /// zebra and bgpd.
    Frr,
    /// BIRD 2.
    Bird,
}

impl Candidate {
    /// In the order in which they take their turns.
    pub(super) const ALL: [Self; 3] = [Self::Selvedge, Self::Frr, Self::Bird];

    /// Whether it is installed on this machine.
    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::Selvedge => true,
            Self::Frr => Frr::is_installed(),
            Self::Bird => Bird::is_installed(),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Selvedge => "Selvedge",
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
        })
    }
}

/// Whether an agent keeps its routes over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GracefulRestart {
    /// With this restart time.
    On(Duration),
    /// Not announced.
    Off,
}

/// Whether an agent is started for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    First,
    /// After a crash: its routes are still in the kernel.
    Again,
}

/// The daemons of one agent. Killed when dropped: an orderly end would take the routes back one by one.
#[derive(Debug)]
pub(super) struct Agent {
    candidate: Candidate,
    graceful_restart: GracefulRestart,
    program: PathBuf,
    processes: Vec<Process>,
    started: Instant,
}

impl Agent {
    /// Writes the configuration and starts the daemons. `program` is Selvedge's daemon.
    pub(super) fn start(
        candidate: Candidate,
        program: &Path,
        graceful_restart: GracefulRestart,
        site: &Site,
    ) -> Result<Self> {
        let directory = &site.directory;
        let (name, text) = match candidate {
            Candidate::Selvedge => ("selvedge.toml", selvedge_toml(graceful_restart, directory)),
            Candidate::Frr => ("frr.conf", frr_conf(graceful_restart)),
            Candidate::Bird => ("bird.conf", bird_conf(graceful_restart)),
        };
        let path = directory.join(name);
        fs::write(&path, text).map_err(refused(&format!("write {}", path.display())))?;
        if candidate == Candidate::Frr {
            Frr::give_directory(directory)?;
        }
        let mut agent = Self {
            candidate,
            graceful_restart,
            program: program.to_owned(),
            processes: Vec::new(),
            started: Instant::now(),
        };
        agent.spawn(Start::First, site)?;
        Ok(agent)
    }

    /// Kills all daemons at once, as a crash does.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.processes.drain(..).try_for_each(Process::kill)
    }

    /// Starts them after [`Agent::kill`].
    pub(super) fn start_again(&mut self, site: &Site) -> Result<()> {
        self.spawn(Start::Again, site)
    }

    /// Just before the first daemon was started last.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Process ids of the daemons.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Whether all daemons still run.
    ///
    /// # Errors
    /// [`Error::DaemonEnded`] with the end of its log.
    pub(super) fn check_running(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check_running)
    }

    fn spawn(&mut self, start: Start, site: &Site) -> Result<()> {
        self.kill()?;
        self.started = Instant::now();
        let directory = &site.directory;
        match self.candidate {
            Candidate::Selvedge => {
                let config = directory.join("selvedge.toml");
                self.spawn_daemon(
                    "selvedge",
                    &self.program.clone(),
                    &["--config".into(), config.into()],
                    site,
                )
            }
            Candidate::Bird => {
                let mut arguments = vec!["-f".into(), "-c".into(), directory.join("bird.conf").into()];
                arguments.extend(["-s".into(), directory.join("bird.ctl").into()]);
                // Its switch for graceful recovery.
                arguments.extend((start == Start::Again).then(|| "-R".into()));
                self.spawn_daemon("bird", Path::new(BIRD), &arguments, site)
            }
            Candidate::Frr => {
                let socket = directory.join("zserv.api");
                // A killed zebra leaves it, and it would pass for readiness.
                let _ = fs::remove_file(&socket);
                // As large a receive buffer as it will take, so that it does not lose its own notifications.
                let mut zebra: Vec<OsString> = vec!["-s".into(), "90000000".into()];
                if let GracefulRestart::On(time) = self.graceful_restart {
                    zebra.extend(["-K".into(), time.as_secs().to_string().into()]);
                }
                self.spawn_frr("zebra", zebra, site)?;
                let Some(process) = self.processes.last_mut() else { return Ok(()) };
                process.await_ready(START_LIMIT, || Ok(socket.exists()))?;
                self.spawn_frr("bgpd", Vec::new(), site)
            }
        }
    }

    fn spawn_frr(&mut self, name: &str, mut arguments: Vec<OsString>, site: &Site) -> Result<()> {
        let directory = &site.directory;
        arguments.extend(["-f".into(), directory.join("frr.conf").into()]);
        arguments.extend(["-i".into(), directory.join(format!("{name}.pid")).into()]);
        arguments.extend(["-z".into(), directory.join("zserv.api").into()]);
        arguments.extend(["--vty_socket".into(), directory.into()]);
        // Without a TCP terminal.
        arguments.extend(["-A", "127.0.0.1", "-P", "0"].map(OsString::from));
        arguments.extend(["--log".into(), format!("file:{}/{name}.log", directory.display()).into()]);
        self.spawn_daemon(name, &Path::new(FRR).join(name), &arguments, site)
    }

    fn spawn_daemon(
        &mut self,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        site: &Site,
    ) -> Result<()> {
        if !program.exists() {
            return Err(Error::Missing(format!("there is no {}", program.display())));
        }
        let mut command = site.dut.command_on("dut", program);
        command.args(arguments);
        let log = site.directory.join(format!("{name}.out"));
        self.processes.push(Process::start(name, command, &log)?);
        Ok(())
    }
}

fn selvedge_toml(graceful_restart: GracefulRestart, directory: &Path) -> String {
    let restart_s = match graceful_restart {
        GracefulRestart::On(time) => time.as_secs(),
        GracefulRestart::Off => 0,
    };
    let mut text = format!(
        "[bgp]\nlocal-as = {}\nrouter-id = \"{LOOPBACK}\"\ngraceful-restart = \"{restart_s}s\"\n\n\
         [fib]\nmax-paths = 64\n\n[control]\nsocket = \"{}\"\n",
        ASN.0,
        directory.join("control.sock").display()
    );
    for uplink in uplinks() {
        let interface = uplink.interface;
        // Writing into a String cannot fail.
        let _ = write!(text, "\n[[neighbor]]\ninterface = \"{interface}\"\nmax-prefixes = 4000000\n");
    }
    text
}

/// One file for both daemons; each reads what it knows.
fn frr_conf(graceful_restart: GracefulRestart) -> String {
    let mut text = format!(
        "frr defaults datacenter\nhostname dut\nrouter bgp {}\n bgp router-id {LOOPBACK}\n \
         no bgp ebgp-requires-policy\n bgp bestpath as-path multipath-relax\n",
        ASN.0
    );
    if graceful_restart != GracefulRestart::Off {
        text.push_str(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n");
    }
    for uplink in uplinks() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, " neighbor {} interface remote-as external", uplink.interface);
    }
    let _ = writeln!(text, " address-family ipv4 unicast\n  network {LOOPBACK}/32");
    for uplink in uplinks() {
        let _ = writeln!(text, "  neighbor {} filter-list own out", uplink.interface);
    }
    text.push_str(" exit-address-family\nexit\nbgp as-path access-list own seq 5 permit ^$\n");
    text
}

/// It has no discovery by Router Advertisements: the addresses of its neighbors are written here. Its own limit of
/// 16 next hops to a route is raised to 64 as for the others.
fn bird_conf(graceful_restart: GracefulRestart) -> String {
    let (wait, kernel, session) = match graceful_restart {
        GracefulRestart::On(time) => {
            (format!("graceful restart wait {};\n", time.as_secs()), " persist; graceful restart;", "on")
        }
        GracefulRestart::Off => (String::new(), "", "aware"),
    };
    let mut text = format!(
        "router id {LOOPBACK};\n{wait}protocol device {{ scan time 10; }}\n\
         protocol direct {{ ipv4; interface \"lo\"; }}\n\
         protocol kernel {{ merge paths on limit 64; netlink rx buffer 134217728;{kernel}\n  \
         ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n"
    );
    for uplink in uplinks() {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "protocol bgp {interface} {{ local {own} as {asn}; neighbor {tor}%{interface} as {tor_asn};\n  \
             hold time 9; connect delay time 1; graceful restart {session};\n  \
             ipv4 {{ import all; export where source = RTS_DEVICE; extended next hop on; }}; }}\n",
            interface = uplink.interface,
            own = uplink.own,
            asn = ASN.0,
            tor = uplink.tor,
            tor_asn = uplink.tor_asn.0,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESTART: GracefulRestart = GracefulRestart::On(Duration::from_secs(60));

    #[test]
    fn selvedge_is_told_what_the_others_are() {
        let text = selvedge_toml(RESTART, Path::new("/run/x"));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["bgp"]["local-as"].as_integer(), Some(65000));
        assert_eq!(table["bgp"]["graceful-restart"].as_str(), Some("60s"));
        assert_eq!(table["control"]["socket"].as_str(), Some("/run/x/control.sock"));
        let interfaces: Vec<_> =
            table["neighbor"].as_array().unwrap().iter().map(|one| one["interface"].as_str()).collect();
        assert_eq!(interfaces, [Some("tor1"), Some("tor2")]);
        let text = selvedge_toml(GracefulRestart::Off, Path::new("/run/x"));
        assert!(text.contains("graceful-restart = \"0s\""), "{text}");
    }

    #[test]
    fn bird_is_told_the_addresses_of_its_neighbors() {
        let text = bird_conf(GracefulRestart::Off);
        for wanted in ["local fe80::d1 as 65000", "neighbor fe80::a1%tor1 as 65101", "fe80::a2%tor2 as 65102"]
        {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(text.contains("graceful restart aware") && !text.contains("persist"), "{text}");
        let text = bird_conf(RESTART);
        assert!(text.contains("graceful restart on") && text.contains("graceful restart wait 60"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn frr_keeps_its_routes_only_when_asked() {
        assert!(!frr_conf(GracefulRestart::Off).contains("graceful"));
        let text = frr_conf(RESTART);
        assert!(text.contains("bgp graceful-restart preserve-fw-state"), "{text}");
        assert_eq!(text.matches("remote-as external").count(), 2);
        assert_eq!(text.matches("filter-list own out").count(), 2);
    }
}
