//! `cargo +nightly fuzz run frames`, in this folder's parent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::frames(bytes));
