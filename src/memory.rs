//! The memory of this process as a whole: what the kernel and the allocator say of it, and how what is free gets back
//! to the kernel.
//!
//! The allocator is the C library's. It needs the least of those that were measured (`tests/bench/README.md`), and it
//! keeps its promise to give back what is free, with two settings that are made here. It has one arena
//! ([`use_one_arena`]): with one for each thread, what a task allocated on one worker and freed on another would lie in
//! several, each with its own holes. And it is told to give back free pages when there was work ([`give_back`]): by
//! itself it does so only at the end of its heap, where some small thing that lives on always lies. The third setting
//! can only be made in the environment: `GLIBC_TUNABLES=glibc.malloc.tcache_count=0`. A free block that a thread keeps
//! for itself holds its page.

use std::io;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How often it is looked whether there was work. What is freed meanwhile, at the rate at which routes can go, is a few
/// megabytes, which take a few milliseconds to give back.
const PERIOD: Duration = Duration::from_millis(500);
/// Processor time of the process that may have freed something worth the while.
const WORK: Duration = Duration::from_millis(10);

/// What the kernel says of this process, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// In memory now.
    pub resident: u64,
    /// The most that was in memory since the start.
    pub peak: u64,
    /// Of [`Self::resident`], what is of this process alone: heap and stacks.
    pub anonymous: u64,
    /// Of [`Self::resident`], what is in files: the program itself and its libraries.
    pub file: u64,
}

impl Resident {
    /// Reads `/proc/self/status`.
    ///
    /// # Errors
    /// When it cannot be read, or lacks one of the numbers.
    pub fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        Self::parse(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// See proc_pid_status(5); its "kB" are 1024 octets.
    fn parse(status: &str) -> Option<Self> {
        let octets = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            resident: octets("VmRSS")?,
            peak: octets("VmHWM")?,
            anonymous: octets("RssAnon")?,
            file: octets("RssFile")?,
        })
    }
}

/// What the allocator says, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// Handed out, with what the allocator adds to each block.
    pub in_use: u64,
    /// Free, and not given back; it may be in memory or not.
    pub free: u64,
}

impl Allocated {
    /// Asks the allocator, which looks at all its free blocks.
    #[must_use]
    #[cfg(target_env = "gnu")]
    pub fn read() -> Option<Self> {
        // SAFETY: the call has no arguments, and locks what it reads.
        let info = unsafe { libc::mallinfo2() };
        let octets = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Some(Self { in_use: octets(info.uordblks + info.hblkhd), free: octets(info.fordblks) })
    }

    /// Other C libraries do not tell.
    #[must_use]
    #[cfg(not(target_env = "gnu"))]
    pub fn read() -> Option<Self> {
        None
    }
}

/// One heap for all threads. To be called before there are any others: an arena that is there stays.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call changes a number of the allocator's, under its lock.
    unsafe {
        // Where it is refused there are more arenas, and nothing else is different.
        let _ = libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the kernel whenever there was work, as long as it is polled.
pub async fn give_back() {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done = processor_time();
    loop {
        ticks.tick().await;
        if processor_time().saturating_sub(done) >= WORK {
            // It takes some milliseconds: not on a thread that has sessions to serve.
            let _ = tokio::task::spawn_blocking(trim).await;
            done = processor_time();
        }
    }
}

fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call gives back pages that nobody has, under the allocator's lock.
    unsafe {
        let _ = libc::malloc_trim(0);
    }
}

/// That all threads of this process have used.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` alone, which lives until it returns.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    // Without this clock it would seem that there is never any work.
    if result == 0 {
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        let status = "Name:\tselvedge\nVmPeak:\t  3 kB\nVmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\n\
                      RssAnon:\t     700 kB\nRssFile:\t    7300 kB\nRssShmem:\t       0 kB\n";
        let expected = Resident { resident: 8_192_000, peak: 9_216_000, anonymous: 716_800, file: 7_475_200 };
        assert_eq!(Resident::parse(status), Some(expected));
        assert_eq!(Resident::parse("VmRSS:\t8000 kB\n"), None);
        let own = Resident::read().unwrap();
        assert!(own.peak >= own.resident && own.anonymous > 0, "{own:?}");
    }

    /// A heap whose end is in use, and full of holes: what glibc keeps when nobody asks.
    #[test]
    #[cfg(target_env = "gnu")]
    fn holes_are_given_back() {
        const BLOCKS: usize = 64_000;
        let mut blocks: Vec<Option<Box<[u8; 1000]>>> =
            (0..BLOCKS).map(|_| Some(Box::new([1; 1000]))).collect();
        let full = Resident::read().unwrap().anonymous;
        // Every hundredth lives on.
        blocks
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| number % 100 != 0)
            .for_each(|(_, block)| *block = None);
        let held = Resident::read().unwrap().anonymous;
        trim();
        let left = Resident::read().unwrap().anonymous;
        let freed = full - left;
        assert!(freed > 50_000_000, "{full} octets at most, {held} when they were free, {left} given back");
    }
}
