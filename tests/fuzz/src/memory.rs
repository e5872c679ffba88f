//! How much memory is asked for, so that a claimed length which allocates is seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; a cell without a destructor is counted up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

fn count(bytes: usize) {
    // A thread that ends may allocate when the cell is gone.
    let _ = ASKED.try_with(|asked| asked.set(asked.get().saturating_add(bytes)));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; panics if it asked for more than `limit` bytes in all.
pub fn bounded<T>(limit: usize, what: &str, work: impl FnOnce() -> T) -> T {
    let before = ASKED.get();
    let result = work();
    let asked = ASKED.get() - before;
    assert!(
        asked <= limit,
        "{what} asked for {asked} bytes of memory, more than {limit}"
    );
    result
}
