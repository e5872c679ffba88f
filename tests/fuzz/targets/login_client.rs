//! See `mothership_fuzz::login_client`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mothership_fuzz::login_client::check(data));
