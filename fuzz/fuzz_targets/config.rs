//! libFuzzer's entry point for [`fuzz_targets::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::config(input));
