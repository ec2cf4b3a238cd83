//! `cargo +nightly fuzz run hpack`, in this folder's parent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::hpack(bytes));
