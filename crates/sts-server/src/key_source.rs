//! The public keys of the clusters whose tokens are taken: read in the background, handed out as snapshots.

mod fetch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use sts_config::{Cluster, JwksSource};
use sts_core::ident::{ClusterName, Issuer, KeyId};
use sts_core::keys::KeySet;
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

pub use fetch::FetchError;
use fetch::{Fetched, Fetcher};

/// How often a key set is read again.
const REFRESH: Duration = Duration::from_secs(300);
/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long a key set is good for when it cannot be read again.
const OLDEST: Duration = Duration::from_secs(3600);
/// How seldom tokens with unknown key ids may make us read a key set: a flood of them costs one request in that time.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// The key sources of all clusters.
#[derive(Default)]
pub(crate) struct KeySources {
    sources: Vec<Arc<KeySource>>,
}

impl KeySources {
    /// The sources of the configured clusters; `client` is needed if one of them is the API server we run under.
    pub(crate) fn new(clusters: &[Cluster], client: Option<&Client>) -> Result<Self, FetchError> {
        let source = |cluster| KeySource::new(cluster, client).map(Arc::new);
        Ok(Self {
            sources: clusters.iter().map(source).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.sources.iter()
    }

    /// The source of an issuer's keys: byte for byte the configured issuer, or the one the API server names.
    pub(crate) fn of(&self, issuer: &Issuer) -> Option<&KeySource> {
        self.sources
            .iter()
            .find(|source| source.is_of(issuer))
            .map(AsRef::as_ref)
    }
}

/// A key set as it was read.
pub(crate) struct Snapshot {
    pub(crate) issuer: Issuer,
    pub(crate) keys: KeySet,
    read: Instant,
}

/// The keys of one cluster.
pub(crate) struct KeySource {
    cluster: ClusterName,
    configured_issuer: Option<Issuer>,
    fetcher: Fetcher,
    snapshot: ArcSwapOption<Snapshot>,
    /// When the last attempt began. Held while one runs, so that there is never more than one.
    attempt: Mutex<Option<Instant>>,
}

impl KeySource {
    fn new(cluster: &Cluster, client: Option<&Client>) -> Result<Self, FetchError> {
        let Cluster {
            name,
            issuer,
            jwks,
            place: _,
        } = cluster;
        let fetcher = match jwks {
            JwksSource::ApiServer => {
                Fetcher::api_server(client.cloned().ok_or(FetchError::NoApiServer)?)
            }
            JwksSource::File(path) => Fetcher::file(path.clone()),
            JwksSource::Url { url, ca_file } => Fetcher::url(url, ca_file.as_deref())?,
        };
        Ok(Self {
            cluster: name.clone(),
            configured_issuer: issuer.clone(),
            fetcher,
            snapshot: ArcSwapOption::empty(),
            attempt: Mutex::new(None),
        })
    }

    /// The configured name of the cluster.
    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    fn is_of(&self, issuer: &Issuer) -> bool {
        match &self.configured_issuer {
            Some(configured) => configured == issuer,
            None => self
                .snapshot
                .load()
                .as_ref()
                .is_none_or(|snapshot| snapshot.issuer == *issuer),
        }
    }

    /// The key set, read again if it lacks the key and the last attempt is long enough ago; `None` if there is none that is young enough.
    pub(crate) async fn keys_with(&self, key: &KeyId) -> Option<Arc<Snapshot>> {
        let present = self.current();
        if present
            .as_ref()
            .is_none_or(|snapshot| snapshot.keys.find(key).is_none())
        {
            self.refresh(COOL_DOWN).await;
        }
        self.current()
    }

    fn current(&self) -> Option<Arc<Snapshot>> {
        self.snapshot
            .load_full()
            .filter(|snapshot| snapshot.read.elapsed() < OLDEST)
    }

    /// Keeps the key set fresh until shutdown; the condition is met as long as there is one to check tokens with.
    pub(crate) async fn keep_fresh(
        self: Arc<Self>,
        condition: Condition,
        shutdown: Shutdown,
    ) -> Result<(), FetchError> {
        loop {
            let fresh = self.refresh(Duration::ZERO).await;
            match self.current() {
                Some(_) => condition.met(),
                None => condition.unmet(format!(
                    "no key set of cluster {} could be read",
                    self.cluster
                )),
            }
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = sleep(if fresh { REFRESH } else { RETRY }) => {}
            }
        }
    }

    /// Reads the key set unless that was tried within `cool_down`; whether it was read. A set that cannot be used changes nothing.
    async fn refresh(&self, cool_down: Duration) -> bool {
        let mut attempt = self.attempt.lock().await;
        if attempt.is_some_and(|last| last.elapsed() < cool_down) {
            return false;
        }
        let read = Instant::now();
        *attempt = Some(read);
        match self.fetcher.fetch(self.configured_issuer.as_ref()).await {
            Ok(Fetched { issuer, keys }) => {
                for dropped in &keys.dropped {
                    tracing::warn!(cluster = %self.cluster, kid = ?dropped.key_id, reason = dropped.reason, "key is left out");
                }
                self.snapshot.store(Some(Arc::new(Snapshot {
                    issuer,
                    keys: keys.keys,
                    read,
                })));
                true
            }
            Err(error) => {
                tracing::error!(cluster = %self.cluster, error = %chain(&error), "key set cannot be read");
                false
            }
        }
    }
}
