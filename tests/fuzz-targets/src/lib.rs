//! What is fuzzed: a function of bytes for each of our readers of untrusted input. Each panics when something does not hold that must hold
//! for any input. The tests of this crate replay the corpus in `fuzz/corpus` with random changes; `cargo xtask fuzz` drives the same
//! functions with libFuzzer, which follows the branches that inputs take.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzz target says that something is wrong"
)]

mod admission;
mod cel;
mod filter;
mod request;
mod token;

pub use admission::admission;
pub use cel::cel;
pub use filter::filter;
pub use request::{form, path};
pub use token::token;

use std::collections::BTreeSet;

use serde_json::Value;
use sts_config::Config;
use sts_core::keys::KeySet;

/// A fuzz target: any bytes go in, and it panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("admission", admission),
    ("cel", cel),
    ("config", config),
    ("filter", filter),
    ("form", form),
    ("jwks", jwks),
    ("path", path),
    ("token", token),
];

/// A configuration file. One that is taken has no two endpoints that could be mistaken for each other.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match Config::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(config) => {
            let count = config.endpoints.len();
            let endpoints = config.endpoints.iter();
            let names: BTreeSet<_> = endpoints.clone().map(|one| one.name.as_str()).collect();
            let paths: BTreeSet<_> = endpoints.clone().map(|one| one.path.prefix()).collect();
            let audiences: BTreeSet<_> = endpoints.map(|one| one.token_audience.as_str()).collect();
            assert_eq!([names.len(), paths.len(), audiences.len()], [count; 3]);
        }
    }
}

/// A key set of another issuer. One that is taken is JSON for others too, has a key, and no secret.
pub fn jwks(input: &[u8]) {
    let Ok(parsed) = KeySet::parse(input) else {
        return;
    };
    let document: Value = serde_json::from_slice(input).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert!((1..=100).contains(&parsed.keys.len()));
    assert!(parsed.keys.len() + parsed.dropped.len() <= keys.len());
    for key in keys {
        for secret in ["d", "dp", "dq", "k", "p", "q", "qi"] {
            assert_eq!(key.get(secret), None);
        }
    }
}
