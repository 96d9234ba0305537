//! What the daemons of an agent cost: processor time and memory, as the kernel accounts them.

use std::fs;
use std::io;
use std::time::Duration;

use lab::{Error, Result};

use super::refused;

/// Memory of some processes together, in KiB. A page that two of them share counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// VmRSS: what is resident now.
    pub(super) resident_kib: u64,
    /// VmHWM: the most that was, each at its own time.
    pub(super) peak_kib: u64,
}

/// Processor time that the processes have used, in user and kernel mode, threads that ended included. What the kernel
/// does for a netlink request is in it: it does it in the process that asks. To the nanosecond, where
/// `/proc/PID/stat` counts in hundredths of a second.
pub(super) fn cpu_time(ids: &[u32]) -> Result<Duration> {
    ids.iter().map(|id| cpu_time_of(*id)).sum()
}

fn cpu_time_of(id: u32) -> Result<Duration> {
    let failed = |errno: i32| Error::Io {
        doing: format!("read the processor time of process {id}"),
        source: io::Error::from_raw_os_error(errno),
    };
    let pid = libc::pid_t::try_from(id).map_err(|_overflow| failed(libc::ESRCH))?;
    let mut clock = 0;
    // SAFETY: the call writes to `clock` alone, which lives until it returns.
    match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
        0 => {}
        errno => return Err(failed(errno)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` alone, which lives until it returns.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(failed(libc::ESRCH));
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default()))
}

/// What the processes have in memory.
pub(super) fn memory(ids: &[u32]) -> Result<Memory> {
    let mut sum = Memory { resident_kib: 0, peak_kib: 0 };
    for id in ids {
        let path = format!("/proc/{id}/status");
        let status = fs::read_to_string(&path).map_err(refused(&format!("read {path}")))?;
        let memory =
            parse(&status).ok_or_else(|| Error::Missing(format!("{path} has no VmRSS and VmHWM")))?;
        sum.resident_kib += memory.resident_kib;
        sum.peak_kib += memory.peak_kib;
    }
    Ok(sum)
}

/// Lets the peak begin again at what is resident now (proc_pid_clear_refs(5)).
pub(super) fn forget_peak(ids: &[u32]) -> Result<()> {
    ids.iter().try_for_each(|id| {
        let path = format!("/proc/{id}/clear_refs");
        fs::write(&path, "5").map_err(refused(&format!("write {path}")))
    })
}

fn parse(status: &str) -> Option<Memory> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory { resident_kib: value("VmRSS")?, peak_kib: value("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let status =
            "Name:\tbird\nVmPeak:\t   12000 kB\nVmHWM:\t    6200 kB\nVmRSS:\t    4700 kB\nThreads:\t1\n";
        assert_eq!(parse(status), Some(Memory { resident_kib: 4700, peak_kib: 6200 }));
        assert_eq!(parse("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_uses_both() {
        let own = [std::process::id()];
        let before = cpu_time(&own).unwrap();
        while cpu_time(&own).unwrap() == before {
            std::hint::spin_loop();
        }
        let memory = memory(&own).unwrap();
        assert!(memory.peak_kib >= memory.resident_kib && memory.resident_kib > 100, "{memory:?}");
    }
}
