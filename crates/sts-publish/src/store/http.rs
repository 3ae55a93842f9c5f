//! The HTTP client of all stores: no redirects, bounded time, its own trust where there is a CA file.

use std::path::Path;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::redirect::Policy;

use crate::error::SetupError;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(8);

/// Gives every store the same client. A redirect would carry a signed request to whoever is named in it.
#[derive(Debug)]
pub(crate) struct Connector(pub(crate) reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// The roots that browsers trust, beside whatever the system has: our images have none.
pub fn public_roots() -> Vec<reqwest::Certificate> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    roots
        .filter_map(|root| reqwest::Certificate::from_der(root).ok())
        .collect()
}

/// The client. Plain HTTP is for the cloud's own credential services alone; addresses of stores are https by their configuration.
pub(crate) fn document_client(ca_file: Option<&Path>) -> Result<reqwest::Client, SetupError> {
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .timeout(REQUEST)
        .connect_timeout(REQUEST);
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|source| SetupError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(SetupError::Client)?;
        builder = builder.tls_certs_only(roots);
    } else {
        builder = builder.tls_certs_merge(public_roots());
    }
    builder.build().map_err(SetupError::Client)
}
