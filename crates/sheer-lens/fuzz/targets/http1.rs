//! `cargo +nightly fuzz run http1`, in this folder's parent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::http1(bytes));
