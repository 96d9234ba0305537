//! Counts what each thread of a test takes from the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has taken memory until now.
pub(super) fn taken() -> u64 {
    TAKEN.get()
}

// SAFETY: every call is passed on to the system's allocator as it is; counting takes no memory, since the cell has no
// destructor and is made at compile time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`, and all memory here is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}
