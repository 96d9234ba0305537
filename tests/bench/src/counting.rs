//! What work costs: processor time of this thread, which others on the machine lengthen less than they do the wall
//! clock's; and the system's allocator with a count of the octets in use, each block with what malloc adds to it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

pub(crate) struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Octets in use now.
pub(crate) fn in_use() -> usize {
    IN_USE.load(Relaxed)
}

/// The most octets in use since the last call.
pub(crate) fn take_peak() -> usize {
    PEAK.swap(in_use(), Relaxed)
}

/// Megabytes of this process that are in memory.
pub(crate) fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096.0 / 1e6
}

/// Processor time that this thread has used.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` alone, which lives until it returns.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// glibc: eight octets of header, blocks of sixteen.
fn rounded(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

fn add(size: usize) {
    let now = IN_USE.fetch_add(rounded(size), Relaxed) + rounded(size);
    PEAK.fetch_max(now, Relaxed);
}

fn subtract(size: usize) {
    IN_USE.fetch_sub(rounded(size), Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; the counts do not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        subtract(layout.size());
        add(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
