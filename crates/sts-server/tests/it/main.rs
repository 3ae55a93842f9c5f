//! The token service from outside: the real program over loopback HTTPS. Names are those of the attack catalogue where it has one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers may fail the test; clippy.toml allows it in the tests alone"
)]

mod abuse;
mod api_server;
mod audit;
mod command_line;
mod documents;
mod exchange;
mod explain;
mod flood;
mod http;
mod http2;
mod key_file;
mod life;
mod metrics;
mod refuse;
mod reload;
mod request;
mod role;
mod support;
