//! The injector from outside: a pod goes in, the patched pod is looked at.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers may fail the test; clippy.toml allows it in the tests alone"
)]

mod binary;
mod collide;
mod companions;
mod config;
mod forms;
mod hints;
mod http;
mod identity;
mod inject;
mod load;
mod property;
mod refuse;
mod shape;
mod skip;
mod support;
mod wishes;
