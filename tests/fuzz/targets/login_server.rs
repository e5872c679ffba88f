//! See `mothership_fuzz::login_server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::login_server::check(data));
