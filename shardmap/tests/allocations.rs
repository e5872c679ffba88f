//! The way from an integer parameter to its shard allocates nothing: it is taken by almost every statement.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU32;

use mothership_shardmap::partition::leaf_remainder;
use mothership_shardmap::{KeyType, ShardMapBuilder, ShardSet, TextContext, slot};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; a cell without a destructor is counted up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn keys_of_fixed_width_reach_their_shard_without_an_allocation() {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("a").shard("b").shard("c");
    let map = builder.build().unwrap();
    let context = TextContext::UTC;
    let three = NonZeroU32::new(3).unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        let text = KeyType::Int8.from_text(b" 1234567890 ", &context).unwrap();
        let binary = KeyType::Int8
            .from_binary(23, &[0, 0, 0, 5], &context)
            .unwrap();
        let uuid = KeyType::Uuid
            .from_text(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", &context)
            .unwrap();
        let time = KeyType::TimestampTz
            .from_text(b"2024-02-29 12:00:00+01", &context)
            .unwrap();
        let short = KeyType::Text.from_text(b"a short text", &context).unwrap();
        let owner = map.slots().owner(slot(std::slice::from_ref(&text)));
        let leaf = leaf_remainder(&[Some((KeyType::Int8, &binary))], three);
        let set = ShardSet::one(owner).union(&ShardSet::all(3));
        std::hint::black_box((slot(&[text, uuid, time, short]), leaf, set));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
