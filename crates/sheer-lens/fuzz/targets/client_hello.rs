//! `cargo +nightly fuzz run client_hello`, in this folder's parent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::client_hello(bytes));
