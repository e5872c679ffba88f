//! See `mothership_fuzz::backend`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::backend::check(data));
