//! Control groups of either version, to take memory, processor time or threads from one process.
//!
//! A group is made for one fault, below the one that this process is in (version 1) or at the root (version 2, where a
//! group with processes may have no groups with limits), and removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{Error, Result, eventually};

use crate::stranger::PATIENCE;

const ROOT: &str = "/sys/fs/cgroup";

/// What there can be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Octets of memory taken from now on.
    Memory(u64),
    /// Of one processor.
    ProcessorPercent(u32),
    /// Threads.
    Threads(u64),
}

impl Limit {
    fn controller(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::ProcessorPercent(_) => "cpu",
            Self::Threads(_) => "pids",
        }
    }

    /// Files and what is to stand in them.
    fn settings(self, version: Version) -> Vec<(&'static str, String)> {
        /// In microseconds, as the kernel's own default.
        const PERIOD: u32 = 100_000;
        match (self, version) {
            (Self::Memory(octets), Version::One) => vec![("memory.limit_in_bytes", octets.to_string())],
            (Self::Memory(octets), Version::Two) => {
                vec![("memory.max", octets.to_string()), ("memory.swap.max", "0".to_owned())]
            }
            (Self::ProcessorPercent(percent), Version::One) => vec![
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", (PERIOD / 100 * percent).to_string()),
            ],
            (Self::ProcessorPercent(percent), Version::Two) => {
                vec![("cpu.max", format!("{} {PERIOD}", PERIOD / 100 * percent))]
            }
            (Self::Threads(number), Version::One | Version::Two) => vec![("pids.max", number.to_string())],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A group with one process in it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where its processes go in the end.
    parent: PathBuf,
    version: Version,
}

/// Of each second.
const REAL_TIME_US: &str = "100000";

impl Cgroup {
    /// Makes a group with a limit and puts a process into it; `None` where this machine has no such groups.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn around(pid: u32, limit: Limit) -> Result<Option<Self>> {
        let controller = limit.controller();
        let Some((version, parent)) = place(controller) else { return Ok(None) };
        let path = parent.join(format!("selvedge-faults-{}", std::process::id()));
        match version {
            Version::One => {}
            Version::Two => write(&parent.join("cgroup.subtree_control"), &format!("+{controller}"))?,
        }
        fs::create_dir(&path)
            .map_err(|source| Error::Io { doing: format!("make {}", path.display()), source })?;
        let group = Self { path, parent, version };
        group.set(limit)?;
        // A thread of real-time priority, BFD's, can only be put into a group that has time for such threads (the kernel's
        // Documentation/scheduler/sched-rt-group.rst); without RT_GROUP_SCHED there is no such file.
        let real_time = group.path.join("cpu.rt_runtime_us");
        if real_time.exists() {
            write(&real_time, REAL_TIME_US)?;
        }
        write(&group.path.join("cgroup.procs"), &pid.to_string())?;
        Ok(Some(group))
    }

    /// Sets a limit, or another one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn set(&self, limit: Limit) -> Result<()> {
        let settings = limit.settings(self.version);
        settings.iter().try_for_each(|(file, value)| write(&self.path.join(file), value))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for process in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            // One that has ended meanwhile is not in it any more.
            let _ = write(&self.parent.join("cgroup.procs"), process);
        }
        // A process that was killed stays until it is reaped.
        let removed =
            eventually("a control group without processes", PATIENCE, || Ok(fs::remove_dir(&self.path).ok()));
        if let Err(error) = removed {
            eprintln!("{} is left: {error}", self.path.display());
        }
    }
}

/// Where groups with this controller can be made.
fn place(controller: &str) -> Option<(Version, PathBuf)> {
    let root = Path::new(ROOT);
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        let is_there = controllers.split_ascii_whitespace().any(|name| name == controller);
        return is_there.then(|| (Version::Two, root.to_owned()));
    }
    // Lines such as `4:memory:/path` (cgroups(7)).
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|name| name == controller);
        fields.next().filter(|_| is_it)
    })?;
    let path = root.join(controller).join(path.trim_start_matches('/'));
    path.is_dir().then_some((Version::One, path))
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value)
        .map_err(|source| Error::Io { doing: format!("write {value:?} to {}", path.display()), source })
}
