//! The issuer's documents: discovery, JWK Set, and OpenUnison's bundle of both.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sts_api::IssuerDocs;
use sts_core::documents::{Discovery, Jwks};
use sts_core::sign::PublicJwk;

use super::EndpointState;
use crate::error::{self, ExchangeError, Presentation};

/// How long relying parties may keep the documents. AWS gives up on issuers whose key sets cannot be cached.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(super) async fn discovery(State(endpoint): State<Arc<EndpointState>>) -> Response {
    with_keys(&endpoint, |keys| {
        let document = Discovery::new(&endpoint.template.issuer, &keys);
        ([(header::CACHE_CONTROL, CACHED)], Json(document)).into_response()
    })
}

pub(super) async fn jwks(State(endpoint): State<Arc<EndpointState>>) -> Response {
    with_keys(&endpoint, |keys| {
        let headers = [
            (header::CACHE_CONTROL, CACHED),
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/jwk-set+json"),
            ),
        ];
        (headers, Json(Jwks::new(keys)).into_response().into_body()).into_response()
    })
}

pub(super) async fn issuer_docs(State(endpoint): State<Arc<EndpointState>>) -> Response {
    with_keys(&endpoint, |keys| {
        let discovery =
            serde_json::to_string_pretty(&Discovery::new(&endpoint.template.issuer, &keys));
        let keys = serde_json::to_string(&Jwks::new(keys));
        match discovery.and_then(|discovery| {
            Ok(IssuerDocs {
                discovery,
                keys: keys?,
            })
        }) {
            Ok(documents) => ([(header::CACHE_CONTROL, CACHED)], Json(documents)).into_response(),
            Err(_) => unavailable(),
        }
    })
}

/// The documents name the endpoint's keys, so there are none before there is a key.
fn with_keys(
    endpoint: &EndpointState,
    render: impl FnOnce(Vec<PublicJwk>) -> Response,
) -> Response {
    match endpoint.key.load_full() {
        Some(key) => render(vec![key.public().clone()]),
        None => unavailable(),
    }
}

fn unavailable() -> Response {
    error::respond(
        &ExchangeError::Unavailable {
            what: "signing key",
        },
        Presentation::Form,
    )
}
