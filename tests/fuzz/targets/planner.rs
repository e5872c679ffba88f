//! See `mothership_fuzz::planner`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::planner::check(data));
