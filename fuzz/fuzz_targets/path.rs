//! libFuzzer's entry point for [`fuzz_targets::path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::path(input));
