//! A ring for tests.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use sts_core::ident::{EndpointName, Issuer};
use sts_core::keys::ring::{Sight, Terms};
use sts_core::time::Lifetime;
use tokio::sync::{Notify, watch};

use super::{KeyRing, Seen};

/// Every time it lives by.
pub(super) const LAG: Duration = Duration::from_secs(60);

/// One that nobody has filled yet.
pub(super) fn empty(sight: Sight) -> KeyRing {
    KeyRing {
        endpoint: EndpointName::parse("aws").unwrap(),
        issuer: Issuer::parse("https://issuer.example.com").unwrap(),
        terms: Terms {
            algorithm: sts_config::SigningAlgorithm::Es256,
            lifetime: Lifetime::new(LAG).unwrap(),
            max_age: LAG,
            lag: LAG,
            skew: LAG,
            rotate_every: None,
            most_keys: 10,
            sight,
        },
        state: ArcSwapOption::empty(),
        published: watch::Sender::new(None),
        outside: watch::Sender::new(Seen::NotLookedYet),
        carried: Notify::new(),
        differs: Notify::new(),
    }
}
