//! Publishes each endpoint's documents as its key ring changes, and each cluster's own as its API server changes them.
//!
//! It decides nothing about keys: what the outside world serves is read back elsewhere ([`crate::signing_keys::follow`]) and told to the
//! ring, which alone says when a key may sign. A publication that fails only ever delays a rotation.

mod cluster;
mod own_tokens;
mod report;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sts_config::Endpoint;
use sts_core::claims::TokenTemplate;
use sts_core::ident::Issuer;
use sts_publish::{Outcome, Publication, PublishError, Publisher, SetupError, Surroundings};
use svc_runtime::Shutdown;
use tokio::time::sleep;

use crate::running::Start;
use crate::signing_keys::{KeyRing, Published};

pub(crate) use cluster::open_cluster;
use own_tokens::RingTokens;
use report::Report;

/// What starts to publish.
pub(crate) type Opened = Box<dyn FnOnce() + Send>;

/// What starts to publish an endpoint's documents, if it wants that. Nothing is written before.
pub(crate) fn open(
    start: &Start,
    endpoint: &Endpoint,
    ring: &Arc<KeyRing>,
) -> Result<Option<Opened>, SetupError> {
    let Some(publish) = &endpoint.publish else {
        return Ok(None);
    };
    let TokenTemplate { issuer, .. } = &endpoint.template;
    let tokens = RingTokens::new(Arc::clone(ring), endpoint.template.clone());
    let surroundings = Surroundings {
        client: start.client(),
        namespace: start.namespace.clone(),
        tokens: Some(Arc::new(tokens)),
    };
    let max_age = endpoint.documents.max_age;
    let publisher = Publisher::new(publish, issuer, max_age, &surroundings)?;
    let report = Report::new(endpoint.name.as_str(), issuer, &start.metrics);
    let following = follow(
        Arc::clone(ring),
        issuer.clone(),
        publisher,
        report,
        start.shutdown.clone(),
    );
    let tasks = start.tasks.clone();
    Ok(Some(Box::new(move || tasks.spawn("publisher", following))))
}

/// Publishes a ring's documents until shutdown: at each change, and now and then, since others may change what is published.
async fn follow(
    ring: Arc<KeyRing>,
    issuer: Issuer,
    publisher: Publisher,
    mut report: Report,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let mut published = ring.published();
    let mut pace = Pace::default();
    loop {
        let current = published.borrow_and_update().clone();
        let wait = match current {
            None => REGULARLY,
            Some(current) => {
                let publishing = publish(&publisher, &issuer, &current);
                let outcome = tokio::select! {
                    () = shutdown.requested() => return Ok(()),
                    outcome = publishing => outcome,
                };
                report.round(&outcome, Some(current.generation));
                if outcome.is_ok() {
                    ring.are_carried();
                }
                pace.after(outcome.is_ok())
            }
        };
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(wait) => {}
            Ok(()) = published.changed() => {}
            () = ring.differs() => {}
        }
    }
}

async fn publish(
    publisher: &Publisher,
    issuer: &Issuer,
    current: &Published,
) -> Result<Outcome, PublishError> {
    let documents = &current.documents;
    let publication = Publication::of(issuer, &documents.discovery, &documents.jwks)?;
    publisher.publish(&publication, current.generation).await
}

/// When to come back.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
}

/// Without any change.
const REGULARLY: Duration = Duration::from_secs(60);
/// After the first failure; doubled for each one more.
const SOON: Duration = Duration::from_secs(2);

impl Pace {
    fn after(&mut self, success: bool) -> Duration {
        if success {
            self.failures = 0;
            return REGULARLY;
        }
        let doubled = SOON.saturating_mul(1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        doubled.min(REGULARLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_left_alone_for_longer_and_longer_up_to_a_minute() {
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..7).map(|_| pace.after(false).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pace.after(true), REGULARLY);
        assert_eq!(pace.after(false), SOON);
    }
}
