//! libFuzzer's entry point for [`fuzz_targets::token`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::token(input));
