//! What a test needs from the machine. A test that cannot run says so loudly: in its output, and in the file that
//! `SELVEDGE_SKIPPED_TESTS` names, which `tests/run` counts.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;

use crate::bird::Bird;
use crate::cni::Plugins;
use crate::frr::Frr;
use crate::kubernetes::Cluster;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Namespaces, raw sockets and routes need it.
    Root,
    /// FRR's zebra and bgpd.
    Frr,
    /// BIRD.
    Bird,
    /// The programs of Kubernetes, etcd and openssl(1).
    Kubernetes,
    /// The CNI project's plugins.
    Cni,
    /// strace(1), which shows what a program asks of the kernel.
    Strace,
    /// systemd-analyze(1), which knows what is in systemd's sets of system calls; systemd itself need not run.
    SystemdAnalyze,
}

impl Requirement {
    /// Whether this machine has it.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Frr => Frr::is_installed(),
            Self::Bird => Bird::is_installed(),
            Self::Kubernetes => Cluster::is_installed(),
            Self::Cni => Plugins::are_installed(),
            Self::Strace => Path::new("/usr/bin/strace").exists(),
            Self::SystemdAnalyze => Path::new("/usr/bin/systemd-analyze").exists(),
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Root => "this needs root",
            Self::Frr => "this needs FRR: apt-get install frr",
            Self::Bird => "this needs BIRD: apt-get install bird2",
            Self::Kubernetes => {
                "this needs an API server: tests/kubernetes-build; apt-get install etcd-server openssl"
            }
            Self::Cni => "this needs the CNI plugins: apt-get install containernetworking-plugins",
            Self::Strace => "this needs strace: apt-get install strace",
            Self::SystemdAnalyze => "this needs systemd-analyze: apt-get install systemd",
        }
    }
}

/// Whether all of it is there. If not, says which test is skipped and why, and the test should return.
#[must_use]
pub fn can_run(requirements: &[Requirement]) -> bool {
    let Some(missing) = requirements.iter().find(|requirement| !requirement.is_met()) else { return true };
    let thread = thread::current();
    let line = format!("SKIPPED {}: {}", thread.name().unwrap_or("test"), missing.missing());
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("SELVEDGE_SKIPPED_TESTS")
        && let Err(error) =
            File::options().create(true).append(true).open(path).and_then(|mut list| writeln!(list, "{line}"))
    {
        eprintln!("and could not be counted: {error}");
    }
    false
}
