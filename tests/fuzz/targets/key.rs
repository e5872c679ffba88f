//! See `mothership_fuzz::key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::key::check(data));
