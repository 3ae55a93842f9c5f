//! The public keys of the clusters whose tokens are taken: read in the background, handed out as snapshots.

mod board;
mod fetch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sts_config::JwksSource;
use sts_core::ident::{ClusterName, Issuer, KeyId};
use sts_core::keys::KeySet;
use svc_runtime::Shutdown;
use svc_runtime::log::chain;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

pub(crate) use board::KeySetBoard;
pub use fetch::FetchError;
pub(crate) use fetch::{Downloaded, document_client, download, get};
use fetch::{Fetched, Fetcher};

use crate::api_server::ApiServer;

/// How often a key set is read again.
const REFRESH: Duration = Duration::from_secs(300);
/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long a key set is good for when it cannot be read again.
const OLDEST: Duration = Duration::from_secs(3600);
/// How seldom tokens with unknown key ids may make us read a key set: a flood of them costs one request in that time.
const COOL_DOWN: Duration = Duration::from_secs(10);

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
    /// The source of a configured cluster's keys.
    pub(crate) fn new(
        cluster: &sts_config::Cluster,
        api_server: Option<&ApiServer>,
    ) -> Result<Self, FetchError> {
        let sts_config::Cluster {
            name,
            issuer,
            jwks,
            api_server: _,
            publish: _,
            place: _,
        } = cluster;
        let fetcher = match jwks {
            JwksSource::ApiServer => {
                Fetcher::api_server(api_server.cloned().ok_or(FetchError::NoApiServer)?)
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

    /// The configured issuer, or the one that the API server named.
    pub(crate) fn issuer(&self) -> Option<Issuer> {
        let discovered = || {
            let snapshot = self.snapshot.load();
            snapshot.as_ref().map(|snapshot| snapshot.issuer.clone())
        };
        self.configured_issuer.clone().or_else(discovered)
    }

    /// Whether that is its issuer; `None` while it is not known.
    pub(crate) fn is_of(&self, issuer: &Issuer) -> Option<bool> {
        if let Some(configured) = &self.configured_issuer {
            return Some(configured == issuer);
        }
        let snapshot = self.snapshot.load();
        snapshot.as_ref().map(|snapshot| snapshot.issuer == *issuer)
    }

    /// The key set, read again if it lacks the key and the last attempt is long enough ago; `None` if there is none that is young enough.
    /// Nobody waits for an attempt that somebody else makes: a flood of unknown key ids would hold all slots that long.
    pub(crate) async fn keys_with(&self, key: &KeyId) -> Option<Arc<Snapshot>> {
        let present = self.current();
        if present
            .as_ref()
            .is_none_or(|snapshot| snapshot.keys.find(key).is_none())
        {
            self.refresh_if_cool().await;
        }
        self.current()
    }

    /// Whether there is a key set that can be used.
    pub(crate) fn is_known(&self) -> bool {
        self.current().is_some()
    }

    fn current(&self) -> Option<Arc<Snapshot>> {
        self.snapshot
            .load_full()
            .filter(|snapshot| snapshot.read.elapsed() < OLDEST)
    }

    /// Keeps the key set fresh until shutdown, and tells the board how it is.
    pub(crate) async fn keep_fresh(
        self: Arc<Self>,
        board: Arc<KeySetBoard>,
        shutdown: Shutdown,
    ) -> Result<(), FetchError> {
        loop {
            let fresh = self.read(self.attempt.lock().await).await;
            board.tell(&self, fresh);
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = sleep(if fresh { REFRESH } else { RETRY }) => {}
            }
        }
    }

    /// Reads the key set unless that is being tried, or was tried a short time ago.
    async fn refresh_if_cool(&self) {
        let Ok(attempt) = self.attempt.try_lock() else {
            return;
        };
        if attempt.is_none_or(|last| last.elapsed() >= COOL_DOWN) {
            self.read(attempt).await;
        }
    }

    /// Reads the key set; whether that worked. A set that cannot be used changes nothing.
    async fn read(&self, mut attempt: MutexGuard<'_, Option<Instant>>) -> bool {
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

#[cfg(test)]
#[path = "key_source/tests.rs"]
mod tests;
