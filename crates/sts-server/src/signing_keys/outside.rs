//! Reads an endpoint's documents back from the public issuer, as a relying party does: discovery first, then the key set it names.

mod served;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use sts_config::ReadBack;
use sts_core::documents::IssuerDocuments;
use sts_core::ident::Issuer;
use sts_core::keys::KeySet;
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::{KeyRing, Published, Seen};
use crate::key_source::{Downloaded, FetchError, document_client, download};
use crate::metrics::Metrics;

pub(crate) use served::Served;

/// The public issuer, and how it is reached.
pub(crate) struct PublicIssuer {
    client: Client,
    issuer: Issuer,
    /// Where the issuer's documents are read: the issuer itself, unless it is reached by another address from here.
    base: String,
}

/// Why the public issuer cannot be read.
#[derive(Debug, Error)]
pub(crate) enum OutsideError {
    /// The discovery document is another issuer's, or none.
    #[error("discovery document does not say issuer {issuer}")]
    Discovery { issuer: Issuer },
    /// A document cannot be read.
    #[error("{what} cannot be read")]
    Fetch {
        what: &'static str,
        #[source]
        source: FetchError,
    },
    /// The discovery document sends relying parties elsewhere.
    #[error("discovery document's jwks_uri does not lie under the issuer")]
    JwksUri,
}

impl OutsideError {
    /// Whether that is an answer, by which nobody could verify a token of ours: unlike silence, which leaves relying parties what they
    /// have. 403 is what S3 says of an object that is not there.
    fn serves_nothing(&self) -> bool {
        match self {
            Self::Discovery { .. } | Self::JwksUri => true,
            Self::Fetch { source, .. } => matches!(
                source,
                FetchError::Set(_)
                    | FetchError::Status {
                        status: 401 | 403 | 404 | 410
                    }
            ),
        }
    }
}

impl PublicIssuer {
    /// # Errors
    /// [`FetchError`] if no client can be made, such as for a CA file that cannot be read.
    pub(crate) fn new(issuer: &Issuer, read_back: &ReadBack) -> Result<Self, FetchError> {
        let ReadBack { ca_file, address } = read_back;
        Ok(Self {
            client: document_client(ca_file.as_deref())?,
            issuer: issuer.clone(),
            base: address
                .clone()
                .unwrap_or_else(|| issuer.as_str().to_owned()),
        })
    }

    /// What it serves.
    pub(crate) async fn read(&self) -> Result<Served, OutsideError> {
        let discovery = self
            .get("the discovery document", IssuerDocuments::DISCOVERY_PATH)
            .await?;
        let discovery: serde_json::Value =
            serde_json::from_slice(&discovery.bytes).unwrap_or_default();
        let text = |name| discovery.get(name).and_then(serde_json::Value::as_str);
        if text("issuer") != Some(self.issuer.as_str()) {
            return Err(OutsideError::Discovery {
                issuer: self.issuer.clone(),
            });
        }
        let path = text("jwks_uri").and_then(|uri| uri.strip_prefix(self.issuer.as_str()));
        let path = path
            .filter(|path| path.starts_with('/'))
            .ok_or(OutsideError::JwksUri)?;
        let document = self.get("the key set", path).await?;
        let set = KeySet::parse(&document.bytes).map_err(|error| OutsideError::Fetch {
            what: "the key set",
            source: error.into(),
        })?;
        Ok(Served {
            key_set: serde_json::from_slice(&document.bytes).unwrap_or_default(),
            key_ids: set.keys.ids().cloned().collect(),
            max_age: document.cache_control.as_deref().and_then(served::max_age),
            discovery,
        })
    }

    async fn get(&self, what: &'static str, path: &str) -> Result<Downloaded, OutsideError> {
        let url = format!("{}{path}", self.base);
        download(&self.client, &url)
            .await
            .map_err(|source| OutsideError::Fetch { what, source })
    }
}

/// Looks at the public issuer until shutdown: often while a key waits to be seen there, and else often enough to notice that somebody
/// changed what it serves. The first look meets the condition, whatever it shows: before it, no key may sign.
///
/// # Errors
/// None: what cannot be read is said and read again.
pub(crate) async fn follow(
    ring: Arc<KeyRing>,
    issuer: PublicIssuer,
    metrics: Metrics,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let mut looks = Looks {
        ring,
        issuer: issuer.issuer.clone(),
        metrics,
        said: None,
    };
    let looking = looks.go_on(|| issuer.read(), &condition);
    tokio::select! {
        () = shutdown.requested() => Ok(()),
        never = looking => match never {},
    }
}

/// What is seen goes to the ring, and what is wrong with it to the log.
struct Looks {
    ring: Arc<KeyRing>,
    issuer: Issuer,
    metrics: Metrics,
    /// What was said last.
    said: Option<String>,
}

impl Looks {
    async fn go_on<R>(&mut self, read: impl Fn() -> R, condition: &Condition) -> Infallible
    where
        R: Future<Output = Result<Served, OutsideError>>,
    {
        let ring = Arc::clone(&self.ring);
        let mut published = ring.published();
        loop {
            // The ring may change while this look is on its way, and what it shows be older than that: then the next one comes at once.
            published.mark_unchanged();
            let begun = Instant::now();
            let read = read().await;
            let expected = published.borrow().clone();
            let differs = self.take(read, begun, expected.as_deref());
            condition.met();
            let waits = differs || expected.is_some_and(|expected| expected.is_rotating);
            tokio::select! {
                () = sleep(if waits { OFTEN } else { REGULARLY }) => {}
                Ok(()) = published.changed() => {}
                () = ring.carried.notified() => {}
            }
        }
    }

    /// Takes note of a look. Returns whether something else is served than should be.
    fn take(
        &mut self,
        read: Result<Served, OutsideError>,
        begun: Instant,
        expected: Option<&Published>,
    ) -> bool {
        let documents = expected.map(|expected| &expected.documents);
        let differs = match (&read, documents) {
            (Ok(served), Some(ours)) => !served.is(&ours.discovery, &ours.jwks),
            (Ok(_), None) => false,
            (Err(_), _) => true,
        };
        self.metrics.public_issuer(&self.ring.endpoint, differs);
        let (seen, problem) = match read {
            Ok(served) => {
                let problem =
                    differs.then(|| "public issuer does not serve our documents".to_owned());
                let seen = Seen::Serves {
                    key_ids: served.key_ids_like(documents.map(|ours| ours.jwks.as_str())),
                    max_age: served.max_age,
                    begun,
                };
                (seen, problem)
            }
            Err(error) => {
                let seen = if error.serves_nothing() {
                    Seen::Serves {
                        key_ids: BTreeSet::new(),
                        max_age: None,
                        begun,
                    }
                } else {
                    Seen::Silent
                };
                (seen, Some(chain(&error).to_string()))
            }
        };
        self.say(problem, expected.map(|expected| expected.generation));
        self.ring.outside.send_replace(seen);
        differs
    }

    /// Says what is wrong, or that nothing is any more, once.
    fn say(&mut self, problem: Option<String>, generation: Option<u64>) {
        if problem == self.said {
            return;
        }
        let (endpoint, issuer) = (self.ring.endpoint.as_str(), self.issuer.as_str());
        if let Some(problem) = &problem {
            tracing::warn!(
                endpoint,
                issuer,
                generation,
                problem,
                "public issuer differs"
            );
            self.ring.differs.notify_one();
        } else {
            tracing::info!(
                endpoint,
                issuer,
                generation,
                "public issuer serves our key set"
            );
        }
        self.said = problem;
    }
}

/// While a key waits.
const OFTEN: Duration = Duration::from_secs(2);
/// Somebody else's change is noticed within a minute.
const REGULARLY: Duration = Duration::from_secs(30);
