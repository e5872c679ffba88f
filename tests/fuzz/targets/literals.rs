//! See `mothership_fuzz::literals`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::literals::check(data));
