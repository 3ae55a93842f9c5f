//! What a user gets, on a real node: the chart installed by helm, pods of the kubelet's, the AWS CLI in them, and two relying parties
//! that are told nothing but the issuer's URL.
//!
//! `cargo xtask test --only e2e` sets the stage and runs this on it, `alone` after all others.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops"
)]

mod alone;
mod chart;
mod cold_start;
mod credentials;
mod injection;
mod lifecycle;
mod mesh;
mod modes;
mod outage;
mod own;
mod published;
mod refresher;
mod refusals;
mod release;
mod rights;
mod stage;
mod store;
mod tokens;
mod verification;
