//! Reads a cluster's key set from where the configuration says, and from nowhere else: no address in a document is followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use axum::http::header::CACHE_CONTROL;
use reqwest::redirect::Policy;
use sts_core::ident::Issuer;
use sts_core::keys::{KeySet, KeySetError, LARGEST_JWKS, ParsedKeySet};
use thiserror::Error;
use tokio::time::timeout;

use crate::api_server::{ApiServer, CallError, call};

/// How long a document may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster's issuer and keys.
pub(super) struct Fetched {
    pub(super) issuer: Issuer,
    pub(super) keys: ParsedKeySet,
}

/// Reads one cluster's key set.
pub(super) enum Fetcher {
    ApiServer(ApiServer),
    File(PathBuf),
    Url {
        client: reqwest::Client,
        url: String,
    },
}

/// Why a key set cannot be read.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The API server does not say who it is.
    #[error("the API server's discovery document names no issuer")]
    Discovery,
    /// The HTTP client cannot be made, or the request fails.
    #[error("{what} cannot be fetched")]
    Http {
        /// What was fetched.
        what: &'static str,
        /// What went wrong; addresses and statuses, no credentials.
        #[source]
        source: reqwest::Error,
    },
    /// The API server does not answer as it should.
    #[error("the API server does not give {path}")]
    Kubernetes {
        /// What was asked for.
        path: &'static str,
        /// Why not.
        #[source]
        source: CallError,
    },
    /// The configuration needs an API server and there is none.
    #[error("there is no API server to ask: we run outside of a cluster")]
    NoApiServer,
    /// The document cannot be used.
    #[error("key set cannot be used")]
    Set(#[from] KeySetError),
    /// It took too long.
    #[error("no answer within {PATIENCE:?}")]
    Slow,
    /// The server answers with something else than the document.
    #[error("answer has status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl Fetcher {
    pub(super) fn api_server(api_server: ApiServer) -> Self {
        Self::ApiServer(api_server)
    }

    pub(super) fn file(path: PathBuf) -> Self {
        Self::File(path)
    }

    /// A client of its own for each URL.
    pub(super) fn url(url: &str, ca_file: Option<&Path>) -> Result<Self, FetchError> {
        Ok(Self::Url {
            client: document_client(ca_file)?,
            url: url.to_owned(),
        })
    }

    pub(super) async fn fetch(&self, issuer: Option<&Issuer>) -> Result<Fetched, FetchError> {
        timeout(PATIENCE, self.fetch_slowly(issuer))
            .await
            .unwrap_or(Err(FetchError::Slow))
    }

    async fn fetch_slowly(&self, configured: Option<&Issuer>) -> Result<Fetched, FetchError> {
        let document = match self {
            Self::ApiServer(api_server) => get(api_server, "/openid/v1/jwks").await?.to_vec(),
            Self::File(path) => {
                tokio::fs::read(path)
                    .await
                    .map_err(|source| FetchError::Unreadable {
                        path: path.clone(),
                        source,
                    })?
            }
            Self::Url { client, url } => download(client, url).await?.bytes,
        };
        let issuer = match (configured, self) {
            (Some(issuer), _) => issuer.clone(),
            (None, Self::ApiServer(api_server)) => discover(api_server).await?,
            (None, Self::File(_) | Self::Url { .. }) => return Err(FetchError::Discovery),
        };
        Ok(Fetched {
            issuer,
            keys: KeySet::parse(&document)?,
        })
    }
}

/// A client for public documents: no credentials, no redirects, and its own trust if there is a CA file.
pub(crate) fn document_client(ca_file: Option<&Path>) -> Result<reqwest::Client, FetchError> {
    let failed = |source| FetchError::Http {
        what: "the key set",
        source,
    };
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .https_only(true)
        .timeout(PATIENCE)
        .connect_timeout(PATIENCE);
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|source| FetchError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)?;
        builder = builder.tls_certs_only(roots);
    } else {
        builder = builder.tls_certs_merge(sts_publish::public_roots());
    }
    builder.build().map_err(failed)
}

/// Any ServiceAccount may read these two paths (ClusterRole `system:service-account-issuer-discovery`). What the discovery document says
/// about where keys are is not followed.
pub(crate) async fn get(api_server: &ApiServer, path: &'static str) -> Result<Bytes, FetchError> {
    let answer = async {
        let request = Request::get(path).body(Vec::new());
        let request = request.or(Err(CallError::Malformed))?;
        let client = api_server.requests()?;
        call(&client, request, LARGEST_JWKS, PATIENCE).await
    };
    answer
        .await
        .map_err(|source| FetchError::Kubernetes { path, source })
}

async fn discover(api_server: &ApiServer) -> Result<Issuer, FetchError> {
    let document = get(api_server, "/.well-known/openid-configuration").await?;
    let document: serde_json::Value =
        serde_json::from_slice(&document).or(Err(FetchError::Discovery))?;
    let issuer = document.get("issuer").and_then(serde_json::Value::as_str);
    issuer
        .and_then(|issuer| Issuer::parse(issuer).ok())
        .ok_or(FetchError::Discovery)
}

/// A document, and how long its server says it may be kept.
pub(crate) struct Downloaded {
    pub(crate) bytes: Vec<u8>,
    /// The field `Cache-Control`, if it is there and a text.
    pub(crate) cache_control: Option<String>,
}

/// Downloads a document of at most [`LARGEST_JWKS`] bytes.
pub(crate) async fn download(
    client: &reqwest::Client,
    url: &str,
) -> Result<Downloaded, FetchError> {
    let failed = |source: reqwest::Error| FetchError::Http {
        what: "the key set",
        source: source.without_url(),
    };
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != 200 {
        return Err(FetchError::Status {
            status: response.status().as_u16(),
        });
    }
    let cache_control = response.headers().get(CACHE_CONTROL);
    let cache_control = cache_control.and_then(|field| field.to_str().ok());
    let cache_control = cache_control.map(str::to_owned);
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        document.extend_from_slice(&chunk);
        if document.len() > LARGEST_JWKS {
            return Err(FetchError::Set(KeySetError::TooLarge));
        }
    }
    Ok(Downloaded {
        bytes: document,
        cache_control,
    })
}

#[cfg(test)]
#[path = "fetch/tests.rs"]
mod tests;
