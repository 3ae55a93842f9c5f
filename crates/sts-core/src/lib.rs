//! The pure core of kube-sts: it decides who gets which token, and signs it.
//!
//! It does no I/O, reads no clock, spawns no task and knows no HTTP status: `now` and everything that was fetched is passed in.
//! The data flows one way, and each step's result can be made by that step alone:
//!
//! ```text
//! token text ─▶ [token::RawToken::route] ─▶ UnverifiedToken
//!            ─▶ [verify::verify]         ─▶ VerifiedToken      signature, issuer, audience, times, pod binding
//!            ─▶ [authorize::authorize]   ─▶ Permission         the endpoint's rules
//!            ─▶ [liveness::agree]        ─▶ Grant              the API server says the same
//!            ─▶ [claims::OutgoingClaims] ─▶ [sign::SigningKey::sign] ─▶ SignedToken
//! ```
//!
//! Start reading at [`exchange`], which runs the steps after the API server's answer in one function.
#![warn(clippy::arithmetic_side_effects)]

pub mod authorize;
pub mod claims;
pub mod documents;
pub mod exchange;
pub mod ident;
pub mod keys;
pub mod liveness;
pub mod policy;
pub mod publication;
pub mod sign;
mod strict_json;
pub mod template;
pub mod time;
pub mod token;
pub mod verify;
