//! Where endpoints' private keys come from: a Secret that all replicas share, or a file.

mod file;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use sts_config::KeySource;
use sts_core::sign::{KeyError, SigningKey};
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown};
use thiserror::Error;
use tokio::time::sleep;

/// How soon it is tried again when a key cannot be had.
const RETRY: Duration = Duration::from_secs(2);

/// Why there is no key.
#[derive(Debug, Error)]
pub(crate) enum SigningKeyError {
    /// The configuration needs an API server and there is none.
    #[error("Secret {name} cannot be read: we run outside of a cluster")]
    NoApiServer { name: String },
    /// The key that is there cannot be used. It is never replaced: a new key is a new identity.
    #[error("the key in {place} cannot be used")]
    Key {
        place: String,
        #[source]
        source: KeyError,
    },
    /// The Secret holds something, but no key under a name we know.
    #[error("Secret {name} has data but neither signing-key.pem nor tls.key")]
    NoKeyInSecret { name: String },
    /// The Secret is not there and we may not make it.
    #[error(
        "Secret {name} does not exist and may not be created: kubectl create secret generic {name}"
    )]
    SecretMissing { name: String },
    /// The API server does not do what it should.
    #[error("Secret {name} cannot be {verb}")]
    Kubernetes {
        name: String,
        verb: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
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
}

/// Loads an endpoint's key once, trying until it is there, and then is done.
pub(crate) async fn load(
    source: KeySource,
    client: Option<Client>,
    namespace: String,
    into: Arc<ArcSwapOption<SigningKey>>,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), SigningKeyError> {
    loop {
        match attempt(&source, client.as_ref(), &namespace).await {
            Ok(key) => {
                tracing::info!(kid = %key.key_id(), "signing key is loaded");
                into.store(Some(Arc::new(key)));
                condition.met();
                return Ok(());
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "signing key cannot be loaded");
                condition.unmet(error.to_string());
            }
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(RETRY) => {}
        }
    }
}

async fn attempt(
    source: &KeySource,
    client: Option<&Client>,
    namespace: &str,
) -> Result<SigningKey, SigningKeyError> {
    match source {
        KeySource::File {
            path,
            algorithm,
            create,
        } => file::load(path, *algorithm, *create).await,
        KeySource::Secret { name, algorithm } => {
            let client =
                client.ok_or_else(|| SigningKeyError::NoApiServer { name: name.clone() })?;
            secret::load_or_create(client, namespace, name, *algorithm).await
        }
    }
}

/// RSA generation takes up to a second of CPU, so it is not done on a thread that serves.
async fn generate(
    algorithm: sts_config::SigningAlgorithm,
) -> Result<(SigningKey, zeroize::Zeroizing<String>), SigningKeyError> {
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
    made.or(Err(SigningKeyError::Generation))?
        .map_err(|source| SigningKeyError::Key {
            place: "memory".to_owned(),
            source,
        })
}
