//! libFuzzer's entry point for [`fuzz_targets::cel`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::cel(input));
