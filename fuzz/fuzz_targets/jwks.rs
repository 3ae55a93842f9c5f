//! libFuzzer's entry point for [`fuzz_targets::jwks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::jwks(input));
