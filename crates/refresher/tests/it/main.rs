//! The real program against a real TLS server, in a directory that stands for the pod's volumes.
//!
//! Tests are named after the rows of the refresher's catalogue that they prove.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "clippy lets tests panic, but knows only functions marked as tests, not their helpers"
)]

mod answers;
mod calm;
mod files;
mod gate;
mod herd;
mod life;
mod pod;
mod sts;
mod trouble;
mod watched;
