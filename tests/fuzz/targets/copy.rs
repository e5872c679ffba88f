//! See `mothership_fuzz::copy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::copy::check(data));
