//! Clients of the API server we run under: one for watches, one for calls that somebody waits for.

use std::time::Duration;

use axum::http::header::{HeaderValue, InvalidHeaderValue, USER_AGENT};
use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;

use crate::crypto::install_crypto_provider;

/// A client for watches and background work. It has no read time-out: a watch is silent while nothing changes, and
/// [`crate::follow::follow_object`] has a time-out of its own. Put single calls into `tokio::time::timeout`.
///
/// The configuration is the pod's ServiceAccount in a cluster and the kubeconfig elsewhere.
///
/// # Errors
///
/// [`KubeClientError`] if there is no usable configuration.
pub async fn kube_client(user_agent: &str) -> Result<Client, KubeClientError> {
    connect(user_agent, |_| {}).await
}

/// A client for calls on a request's path, such as a TokenReview: an API server that does not answer within [`READ_TIMEOUT`] is an
/// error. Not for watches.
///
/// # Errors
///
/// [`KubeClientError`] if there is no usable configuration.
pub async fn kube_request_client(user_agent: &str) -> Result<Client, KubeClientError> {
    connect(user_agent, answer_in_time).await
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum KubeClientError {
    /// The user agent is not a header value.
    #[error("{user_agent:?} cannot be a user agent")]
    UserAgent {
        /// The text as given.
        user_agent: String,
        /// What is wrong with it.
        source: InvalidHeaderValue,
    },
    /// Neither a pod's ServiceAccount nor a kubeconfig was found.
    #[error("no configuration of a Kubernetes client found")]
    Configuration(#[source] InferConfigError),
    /// The configuration was found, but no client can be made of it.
    #[error("the configuration of the Kubernetes client is not usable")]
    Client(#[source] Box<kube::Error>),
}

/// How long a call of [`kube_request_client`] waits for an answer.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The two clients of [`kube_client`] and [`kube_request_client`], of a configuration of another API server.
///
/// # Errors
///
/// [`KubeClientError`] if the configuration is not usable.
pub fn kube_clients_of(config: Config, user_agent: &str) -> Result<KubeClients, KubeClientError> {
    Ok(KubeClients {
        watches: client_of(config.clone(), user_agent, |_| {})?,
        requests: client_of(config, user_agent, answer_in_time)?,
    })
}

/// Clients of one API server.
#[derive(Clone)]
pub struct KubeClients {
    /// For watches and background work; see [`kube_client`].
    pub watches: Client,
    /// For calls on a request's path; see [`kube_request_client`].
    pub requests: Client,
}

impl std::fmt::Debug for KubeClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeClients")
    }
}

fn answer_in_time(config: &mut Config) {
    config.read_timeout = Some(READ_TIMEOUT);
    // Else the time a pooled connection lay idle counts against the next answer.
    config.reset_reader_on_write = true;
    // Whoever waits asks again by itself; a 429 that is asked again in silence would look like no answer.
    config.default_retry = false;
}

async fn connect(
    user_agent: &str,
    adjust: impl FnOnce(&mut Config),
) -> Result<Client, KubeClientError> {
    install_crypto_provider();
    let config = Config::infer()
        .await
        .map_err(KubeClientError::Configuration)?;
    client_of(config, user_agent, adjust)
}

fn client_of(
    mut config: Config,
    user_agent: &str,
    adjust: impl FnOnce(&mut Config),
) -> Result<Client, KubeClientError> {
    install_crypto_provider();
    let agent = HeaderValue::from_str(user_agent).map_err(|source| KubeClientError::UserAgent {
        user_agent: user_agent.to_owned(),
        source,
    })?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    config.headers.push((USER_AGENT, agent));
    adjust(&mut config);
    Client::try_from(config).map_err(|error| KubeClientError::Client(Box::new(error)))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
