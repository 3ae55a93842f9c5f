//! Why documents are not published.

use std::path::PathBuf;
use std::time::Duration;

use sts_core::publication::NotPublic;
use thiserror::Error;

/// How long one call of a store may take, its retries included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The largest document that is read back from a store.
pub(crate) const LARGEST: u64 = 1 << 20;

/// Why a publisher cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The HTTP client cannot be made.
    #[error("HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// The directory cannot be used.
    #[error("{path} cannot be made")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The configuration needs an API server and there is none.
    #[error("ConfigMap {name} cannot be written: we run outside of a cluster")]
    NoApiServer {
        /// The ConfigMap.
        name: String,
    },
    /// Web identity needs an endpoint that signs.
    #[error("there are no tokens of ours for web identity")]
    NoTokens,
    /// The store's client cannot be made of what configuration and environment say.
    #[error("object store cannot be set up")]
    Store(#[source] object_store::Error),
    /// A CA file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Why documents are not published. Nothing of a document, a token or a credential is in it.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Others kept writing between our reading and our writing.
    #[error("{object} changes too often to be written")]
    Contended {
        /// The object.
        object: String,
    },
    /// The CDN did not take the order to drop its copies.
    #[error("CloudFront distribution {distribution} was not told to drop its copies")]
    Invalidation {
        /// The distribution.
        distribution: String,
        /// Why not.
        #[source]
        source: CallError,
    },
    /// The store holds documents of a later generation than ours, and goes on doing so.
    #[error(
        "{object} holds generation {held} of the documents, later than ours, {ours}: another installation publishes there, or the \
         keys were restored from an older state; if neither publishes there any more, delete that object"
    )]
    Later {
        /// The object.
        object: String,
        /// Its generation.
        held: u64,
        /// Ours.
        ours: u64,
    },
    /// The ConfigMap is not there.
    #[error(
        "ConfigMap {name} does not exist and may not be created: kubectl create configmap {name}"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// The documents may not be published.
    #[error("the documents are not fit for the public")]
    NotPublic(#[from] NotPublic),
    /// The store took too long.
    #[error("store did not answer within {PATIENCE:?}")]
    Slow,
    /// The store failed.
    #[error("{object} cannot be {verb}")]
    Store {
        /// The object.
        object: String,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: CallError,
    },
    /// What the store holds is larger than any document of ours.
    #[error("{object} has {size} bytes, which is no document of ours")]
    TooLarge {
        /// The object.
        object: String,
        /// Its size.
        size: u64,
    },
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// The request fails.
    #[error("request failed")]
    Http(#[source] object_store::client::HttpError),
    /// The API server refuses.
    #[error("API server refuses")]
    Kubernetes(#[source] Box<kube::Error>),
    /// The object store refuses.
    #[error("object store refuses")]
    ObjectStore(#[source] object_store::Error),
    /// The server answers with something else than success.
    #[error("answer has status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The request cannot be written.
    #[error("request cannot be written")]
    Unwritable,
}

impl PublishError {
    /// The stable code for metrics and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Contended { .. } => "contended",
            Self::Invalidation { .. } => "not_invalidated",
            Self::Later { .. } => "later_generation",
            Self::Missing { .. } => "config_map_missing",
            Self::NotPublic(error) => error.code(),
            Self::Slow => "store_slow",
            Self::Store { .. } => "store_failed",
            Self::TooLarge { .. } => "too_large",
        }
    }
}
