//! Fuzzes `targets::frames`: `cargo +nightly fuzz run frames`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each program fuzzes one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::frames(data));
