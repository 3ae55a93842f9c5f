//! The token service: it takes a pod's ServiceAccount token and gives one of the endpoint's own issuer, or says why not.
//!
//! It decides nothing: `sts-core` does. What is here carries bytes in and out, fetches what the decision needs, and writes down what
//! was decided. Follow a request from `endpoint` to `exchange`; `error` is the one place where a refusal becomes an HTTP status.

mod api_server;
mod app;
mod audit;
mod ca_config_map;
mod capacity;
mod certificate;
mod cluster;
mod clusters;
mod confirm;
mod discovered;
mod endpoint;
mod error;
mod exchange;
pub mod explain;
mod extract;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gauges;
mod key_source;
mod labels;
mod limit;
mod metrics;
mod parts;
mod prepare;
mod presence;
mod publisher;
mod reload;
mod review;
mod routes;
mod run;
mod running;
mod serving;
mod signing_keys;

pub use api_server::CallError;
pub use key_source::FetchError;
pub use run::{Own, RunError, run};
