//! The runtime over real loopback connections: TLS, limits, replacement of certificates, drain and the admin port.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod admin;
mod certificate;
mod drain;
mod limits;
mod support;
mod tls;
