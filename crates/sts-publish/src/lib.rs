//! Carries an issuer's two public documents to where the outside world reads them: an object store, a directory, a ConfigMap.
//!
//! It takes nothing but a [`Publication`], which was looked at member by member, so that no private key can go this way; it knows neither
//! keys nor rings, and decides nothing about when a key may sign. The key set is written before the discovery document, and each on the
//! condition that nobody wrote it since it was read, where the store knows conditions: a replica that was asleep changes nothing.
//!
//! ```text
//! Publication, generation ─▶ [Publisher::publish] ─▶ read ─▶ judge ─▶ write if unchanged ─▶ drop a CDN's copies
//! ```
//!
//! Start reading at [`Publisher`].

mod cloud_front;
mod document;
mod error;
mod publisher;
mod store;
mod web_identity;

pub use error::{CallError, PublishError, SetupError};
pub use publisher::{Outcome, Publisher, Surroundings};
pub use store::public_roots;
pub use sts_core::publication::Publication;
pub use web_identity::OwnTokens;

#[cfg(test)]
mod tests;
