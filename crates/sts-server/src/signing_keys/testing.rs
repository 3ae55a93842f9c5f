//! A ring for tests.

use std::time::Duration;

use sts_core::ident::{EndpointName, Issuer};
use sts_core::keys::ring::{Sight, Terms};
use sts_core::time::Lifetime;

use super::KeyRing;

/// Every time it lives by.
pub(super) const LAG: Duration = Duration::from_secs(60);

/// One that nobody has filled yet.
pub(super) fn empty(sight: Sight) -> KeyRing {
    let terms = Terms {
        algorithm: sts_config::SigningAlgorithm::Es256,
        lifetime: Lifetime::new(LAG).unwrap(),
        max_age: LAG,
        lag: LAG,
        skew: LAG,
        rotate_every: None,
        most_keys: 10,
        sight,
    };
    KeyRing::on(
        EndpointName::parse("aws").unwrap(),
        Issuer::parse("https://issuer.example.com").unwrap(),
        terms,
    )
}
