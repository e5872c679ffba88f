//! See `mothership_fuzz::frontend`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::frontend::check(data));
