//! See `mothership_fuzz::startup`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::startup::check(data));
