//! The mutating admission webhook: a pod that asks by label gets a sidecar that keeps a token for it.
//!
//! ```text
//! bytes ─▶ review ─▶ pod view ─▶ (facts) ─▶ decide ─▶ patch ─▶ respond        all of it pure but the facts: `admit`
//! ```
//!
//! [`endpoint`] carries the bytes, [`intake`] bounds them; [`decide`] says yes, no, or not ours; [`patch`] only ever adds, and
//! nothing to a pod that has all. The admission path makes no network call but one: where a pod is asked for by its ServiceAccount, and
//! [`accounts`] does not know that yet. [`server_ca`] and
//! `ca_bundle` follow their objects beside it. It does not know who may have a token (`sts-core` does),
//! and never writes what it read of a pod to a log. Start reading at [`admit`](admit::admit).

mod ca_bundle;
mod collide;
mod intact;
mod listed;
mod near_miss;
mod preview;
mod reload;
mod run;
mod version;
mod warnings;
mod wishes;

pub mod accounts;
pub mod admission_policy;
pub mod admit;
pub mod annotations;
pub mod command;
pub mod decide;
pub mod endpoint;
pub mod identity;
pub mod intake;
pub mod metrics;
pub mod patch;
pub mod plan;
pub mod pod;
pub mod refusal;
pub mod respond;
pub mod review;
pub mod server_ca;
pub mod settings;
pub mod sidecar;

pub use run::{Own, RunError, Runnable, run};
