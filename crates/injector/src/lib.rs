//! The mutating admission webhook: a pod that asks by label gets a sidecar that keeps a token for it.
//!
//! ```text
//! bytes ─▶ review ─▶ pod view ─▶ decide ─▶ patch ─▶ respond        all of it pure: `admit`
//! ```
//!
//! [`endpoint`] carries the bytes, [`intake`] bounds them; [`decide`] says yes, no, or not ours; [`patch`] only ever adds, and
//! nothing to a pod that has all. The admission path makes no network call: [`server_ca`] and
//! `ca_bundle` follow their objects beside it. It does not know who may have a token (`sts-core` does),
//! and never writes what it read of a pod to a log. Start reading at [`admit`](admit::admit).

mod ca_bundle;
mod collide;
mod run;

pub mod admit;
pub mod annotations;
pub mod command;
pub mod decide;
pub mod endpoint;
pub mod intake;
pub mod metrics;
pub mod patch;
pub mod pod;
pub mod refusal;
pub mod respond;
pub mod review;
pub mod server_ca;
pub mod settings;
pub mod sidecar;
pub mod warnings;

pub use run::{RunError, Runnable, run};
