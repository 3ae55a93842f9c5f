//! Endpoints' signing keys: the ring in memory, which requests sign with and documents are written from, and who keeps it.
//!
//! What becomes of a ring is decided by [`sts_core::keys::ring`]; here it is read, written by compare-and-swap, and swapped in memory as
//! one. Whoever carries the documents outside follows [`KeyRing::published`]; what the outside world serves comes back through
//! [`outside`].

mod api_clock;
mod file;
mod keeper;
mod ledger;
mod outside;
mod report;
mod secret;
mod store;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use kube::Client;
use sts_api::IssuerDocs;
use sts_config::{Endpoint, KeySource};
use sts_core::documents::{IssuerDocuments, entity_tag};
use sts_core::ident::{EndpointName, Issuer, KeyId};
use sts_core::keys::ring::{FURTHEST_APART, Outside, Ring, Sight, Terms, View, Withheld};
use sts_core::sign::{KeyError, PublicJwk, SigningKey};
use svc_runtime::{Condition, Shutdown};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::metrics::Metrics;

pub(crate) use outside::{PublicIssuer, follow};

/// An endpoint's keys in memory: swapped as a whole, so that whoever looks sees one ring and its documents.
pub(crate) struct KeyRing {
    endpoint: EndpointName,
    issuer: Issuer,
    terms: Terms,
    state: ArcSwapOption<State>,
    published: watch::Sender<Option<Arc<Published>>>,
    outside: watch::Sender<Seen>,
    /// The documents were carried outside just now: it is worth a look there.
    carried: Notify,
    /// The outside world serves something else since a moment ago: it is worth publishing anew.
    differs: Notify,
}

/// The documents of an endpoint as they are served and are to be published. Whoever publishes them follows [`KeyRing::published`] and
/// writes the newest: a higher generation is later.
#[derive(Debug)]
pub(crate) struct Published {
    /// Discovery and JWK Set.
    pub(crate) documents: IssuerDocuments,
    /// Both as OpenUnison serves them.
    pub(crate) bundle: String,
    /// The entity tags of discovery, JWK Set and bundle.
    pub(crate) tags: [String; 3],
    /// How long relying parties may keep them.
    pub(crate) max_age: Duration,
    /// The ring's generation.
    pub(crate) generation: u64,
    /// Whether a key waits to be seen outside.
    pub(crate) is_rotating: bool,
}

/// What the public issuer serves, for endpoints where it is read back.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// It was not read yet.
    NotLookedYet,
    /// It cannot be read.
    Silent,
    /// It serves these keys.
    Serves {
        /// Their ids.
        key_ids: BTreeSet<KeyId>,
        /// How long it tells relying parties to keep them, if it says so.
        max_age: Option<Duration>,
        /// When the reading began.
        begun: Instant,
    },
}

struct State {
    ring: Ring,
    keys: Keys,
    published: Arc<Published>,
    /// `None` for a ring that nobody else can change.
    confirmed: Option<Confirmed>,
}

/// When the ring in memory was last known to be the stored one.
#[derive(Clone, Copy)]
struct Confirmed {
    /// By a clock that is never set.
    at: Instant,
    /// By one that goes on while the machine sleeps.
    wall: Timestamp,
    /// How far that clock was from the API server's.
    clock_apart: Duration,
}

/// The keys of a ring by their ids.
type Keys = BTreeMap<KeyId, Key>;

/// A key, or what is left of it.
#[derive(Clone, Debug)]
enum Key {
    Private(Arc<SigningKey>),
    /// Its private half is lost.
    Public(PublicJwk),
}

/// Why there is no key.
#[derive(Debug, Error)]
pub(crate) enum SigningKeyError {
    /// One of two clocks is wrong, and we have just started: by the wrong one, keys would be removed that live tokens need.
    #[error(
        "own clock and the API server's differ by more than {FURTHEST_APART:?}: the ring is left alone"
    )]
    ClocksApart,
    /// Other replicas kept changing the Secret between our reading and our writing.
    #[error("Secret {name} changes too often to be written")]
    Contended { name: String },
    /// What is stored cannot be used, and nobody has it in memory. It is left alone: a new key is a new identity.
    #[error("Secret {name} cannot be used and is left alone: {damage}")]
    Damaged { name: String, damage: String },
    /// A file cannot be read or made.
    #[error("{path} cannot be {verb}")]
    File {
        path: String,
        verb: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The thread that made a key ended badly.
    #[error("key generation did not finish")]
    Generation,
    /// The key that is there cannot be used. It is never replaced: a new key is a new identity.
    #[error("the key in {place} cannot be used")]
    Key {
        place: String,
        #[source]
        source: KeyError,
    },
    /// The API server does not do what it should.
    #[error("Secret {name} cannot be {verb}")]
    Kubernetes {
        name: String,
        verb: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret is gone, and the ledger says that it had keys: a replica that has them in memory puts them back.
    #[error("Secret {name} is gone: waiting for a replica that has its keys in memory")]
    Orphaned { name: String },
    /// The public issuer was not read yet, so that nobody knows whether the issuer is new.
    #[error("public issuer was not read yet")]
    NotLookedYet,
    /// The public record cannot be read or written.
    #[error("ConfigMap {name} cannot be {verb}")]
    Ledger {
        name: String,
        verb: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The configuration needs an API server and there is none.
    #[error("Secret {name} cannot be read: we run outside of a cluster")]
    NoApiServer { name: String },
    /// The ring cannot be written as documents.
    #[error("key set cannot be written")]
    Render(#[source] serde_json::Error),
    /// The Secret is not there and we may not make it.
    #[error(
        "Secret {name} does not exist and may not be created: kubectl create secret generic {name}"
    )]
    SecretMissing { name: String },
    /// The API server does not answer.
    #[error("API server did not answer within {PATIENCE:?}")]
    Silence,
}

/// How long a call of the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeping a ring needs beside the endpoint.
pub(crate) struct Surroundings {
    pub(crate) client: Option<Client>,
    pub(crate) namespace: String,
    /// The ConfigMap with the public record of all rings.
    pub(crate) ledger: Option<String>,
    pub(crate) condition: Condition,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

impl KeyRing {
    /// The ring of an endpoint, empty until [`keep`] fills it.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let algorithm = match &endpoint.key {
            KeySource::File { algorithm, .. } | KeySource::Secret { algorithm, .. } => *algorithm,
        };
        let sight = if endpoint.documents.read_back.is_some() {
            Sight::Observed
        } else {
            Sight::ByTime
        };
        let rotation = &endpoint.rotation;
        let terms = Terms {
            algorithm,
            lifetime: endpoint.template.lifetime,
            max_age: endpoint.documents.max_age,
            lag: rotation.stale_after,
            skew: rotation.clock_skew,
            rotate_every: rotation.every,
            most_keys: rotation.most_keys,
            sight,
        };
        Self::on(
            endpoint.name.clone(),
            endpoint.template.issuer.clone(),
            terms,
        )
    }

    fn on(endpoint: EndpointName, issuer: Issuer, terms: Terms) -> Self {
        Self {
            endpoint,
            issuer,
            terms,
            state: ArcSwapOption::empty(),
            published: watch::Sender::new(None),
            outside: watch::Sender::new(Seen::NotLookedYet),
            carried: Notify::new(),
            differs: Notify::new(),
        }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &EndpointName {
        &self.endpoint
    }

    /// Whether there are keys.
    pub(crate) fn has_keys(&self) -> bool {
        self.state.load().is_some()
    }

    /// Whether there are keys, and the public issuer was looked at where it is read back.
    pub(crate) fn is_known(&self) -> bool {
        let waits = self.terms.sight == Sight::Observed
            && matches!(*self.outside.borrow(), Seen::NotLookedYet);
        self.has_keys() && !waits
    }

    /// Takes over what another ring of the same keys knows, on this one's terms.
    ///
    /// # Errors
    /// [`SigningKeyError::Render`].
    pub(crate) fn inherit(&self, old: &Self) -> Result<(), SigningKeyError> {
        let Some(state) = old.state.load_full() else {
            return Ok(());
        };
        let State {
            ring,
            keys,
            confirmed,
            ..
        } = state.as_ref();
        let ring = match confirmed {
            Some(_) => ring.clone(),
            // Nobody keeps a ring that is in no Secret: what the new terms change is changed here.
            None => file::on_terms(ring, &self.terms)?,
        };
        self.install(&ring, keys.clone(), *confirmed)
    }

    /// Whether it signs, or the other one does not either.
    pub(crate) fn signs_like(&self, old: &Self) -> bool {
        let now = svc_runtime::clock::now();
        self.signer(now).is_ok() || old.signer(now).is_err()
    }

    /// The key that may sign now.
    ///
    /// # Errors
    /// [`Withheld`].
    pub(crate) fn signer(&self, now: Timestamp) -> Result<Arc<SigningKey>, Withheld> {
        let state = self.state.load();
        let state = state.as_ref().ok_or(Withheld::NoActiveKey)?;
        let seen = self.outside.borrow();
        let outside = match &*seen {
            Seen::NotLookedYet => Outside::NotLookedYet,
            Seen::Silent => Outside::Silent,
            Seen::Serves { key_ids, .. } => Outside::Serves(key_ids),
        };
        let view = View {
            age: state
                .confirmed
                .map_or(Duration::ZERO, |confirmed| confirmed.age(now)),
            clock_apart: state
                .confirmed
                .map_or(Duration::ZERO, |confirmed| confirmed.clock_apart),
            outside,
        };
        let key = state.ring.signer(&self.terms, self.terms.lifetime, &view)?;
        match state.keys.get(key.id()) {
            Some(Key::Private(key)) => Ok(Arc::clone(key)),
            Some(Key::Public(_)) | None => Err(Withheld::NoActiveKey),
        }
    }

    /// The documents, and how long relying parties may keep them: less, when another replica may know later ones. They are given also where the
    /// API server is away: live tokens need them, and if it is away from all, nobody can change them.
    pub(crate) fn documents(&self, now: Timestamp) -> Option<(Arc<Published>, Duration)> {
        let state = self.state.load();
        let state = state.as_ref()?;
        let longest = state.published.max_age;
        let max_age = match state.confirmed.map(|confirmed| confirmed.age(now)) {
            Some(age) if age > self.terms.lag => MAX_AGE_OF_STALE.min(longest),
            Some(_) | None => longest,
        };
        Some((Arc::clone(&state.published), max_age))
    }

    /// Whether others should answer: there is no ring, or it was not read for `lag` and a document's life, after which a key may sign that it
    /// lacks. A replica that says so leaves its Service if the API server hears it; if it hears nobody, the Service stays as it is.
    pub(crate) fn is_behind(&self, now: Timestamp) -> bool {
        self.state.load().as_ref().is_none_or(|state| {
            let longest = self.terms.lag.saturating_add(state.published.max_age);
            state
                .confirmed
                .is_some_and(|confirmed| confirmed.age(now) > longest)
        })
    }

    /// The documents to publish, whenever they change. `None` until there are keys.
    pub(crate) fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.subscribe()
    }

    /// Takes note that the documents were carried to where the outside world reads them.
    pub(crate) fn are_carried(&self) {
        self.carried.notify_one();
    }

    /// Waits until the outside world begins to serve something else than the documents.
    pub(crate) async fn differs(&self) {
        self.differs.notified().await;
    }

    /// Swaps in a ring.
    fn install(
        &self,
        ring: &Ring,
        keys: Keys,
        confirmed: Option<Confirmed>,
    ) -> Result<(), SigningKeyError> {
        let before = self.state.load_full();
        let same = before.as_ref().filter(|before| before.ring == *ring);
        let published = match same {
            Some(before) => Arc::clone(&before.published),
            None => Arc::new(self.render(ring, &keys)?),
        };
        let state = State {
            ring: ring.clone(),
            keys,
            published: Arc::clone(&published),
            confirmed,
        };
        self.state.store(Some(Arc::new(state)));
        if same.is_none() {
            self.published.send_replace(Some(published));
        }
        Ok(())
    }

    fn render(&self, ring: &Ring, keys: &Keys) -> Result<Published, SigningKeyError> {
        let public = |key: &Key| match key {
            Key::Private(key) => key.public().clone(),
            Key::Public(key) => key.clone(),
        };
        let keys: Vec<PublicJwk> = ring
            .keys()
            .filter_map(|key| keys.get(key.id()))
            .map(public)
            .collect();
        let documents =
            IssuerDocuments::render(&self.issuer, &keys).map_err(SigningKeyError::Render)?;
        let bundle = serde_json::to_string(&IssuerDocs {
            discovery: documents.discovery.clone(),
            keys: documents.jwks.clone(),
        })
        .map_err(SigningKeyError::Render)?;
        let tags = [&documents.discovery, &documents.jwks, &bundle]
            .map(|text| entity_tag(text.as_bytes()));
        Ok(Published {
            documents,
            bundle,
            tags,
            max_age: self.terms.max_age,
            generation: ring.generation(),
            is_rotating: ring.prepared().is_some(),
        })
    }
}

/// For documents that another replica may have replaced meanwhile: whoever reads them comes back soon.
const MAX_AGE_OF_STALE: Duration = Duration::from_secs(5);

impl Confirmed {
    /// How long ago that was, by the clock that says more.
    fn age(self, now: Timestamp) -> Duration {
        let wall = Duration::try_from(now.duration_since(self.wall)).unwrap_or_default();
        self.at.elapsed().max(wall)
    }
}

/// Keeps an endpoint's ring until shutdown.
///
/// # Errors
/// None that ends it: whatever fails is said and tried again.
pub(crate) async fn keep(
    ring: Arc<KeyRing>,
    source: KeySource,
    surroundings: Surroundings,
) -> Result<(), SigningKeyError> {
    match source {
        KeySource::File {
            path,
            algorithm,
            create,
        } => file::keep(&ring, &path, algorithm, create, &surroundings).await,
        KeySource::Secret { name, algorithm: _ } => keeper::keep(ring, name, surroundings).await,
    }
}

/// RSA generation takes up to a second of CPU, so it is not done on a thread that serves.
async fn generate(
    algorithm: sts_config::SigningAlgorithm,
) -> Result<Arc<SigningKey>, SigningKeyError> {
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
    made.or(Err(SigningKeyError::Generation))?
        .map(Arc::new)
        .map_err(|source| SigningKeyError::Key {
            place: "memory".to_owned(),
            source,
        })
}
