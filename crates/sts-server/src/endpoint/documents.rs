//! The issuer's documents: discovery, JWK Set, and OpenUnison's bundle of both. They are written once for each ring; here they are served.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::EndpointState;
use crate::error::{self, ExchangeError, Presentation};
use crate::signing_keys::Published;

pub(super) async fn discovery(
    State(endpoint): State<Arc<EndpointState>>,
    headers: HeaderMap,
) -> Response {
    serve(&endpoint, &headers, |published| {
        let [tag, _, _] = &published.tags;
        (JSON, tag, &published.documents.discovery)
    })
}

pub(super) async fn jwks(
    State(endpoint): State<Arc<EndpointState>>,
    headers: HeaderMap,
) -> Response {
    serve(&endpoint, &headers, |published| {
        let [_, tag, _] = &published.tags;
        ("application/jwk-set+json", tag, &published.documents.jwks)
    })
}

pub(super) async fn issuer_docs(
    State(endpoint): State<Arc<EndpointState>>,
    headers: HeaderMap,
) -> Response {
    serve(&endpoint, &headers, |published| {
        let [_, _, tag] = &published.tags;
        (JSON, tag, &published.bundle)
    })
}

const JSON: &str = "application/json";

/// The documents name the endpoint's keys, so there are none before there is a key.
fn serve(
    endpoint: &EndpointState,
    request: &HeaderMap,
    choose: impl Fn(&Published) -> (&'static str, &String, &String),
) -> Response {
    let Some((published, max_age)) = endpoint.ring.documents(svc_runtime::clock::now()) else {
        let what = "signing key";
        return error::respond(&ExchangeError::Unavailable { what }, Presentation::Form);
    };
    let (content_type, tag, document) = choose(&published);
    // AWS gives up on issuers whose key sets cannot be cached.
    let cached = format!("public, max-age={}", max_age.as_secs());
    let headers = [(header::CACHE_CONTROL, cached), (header::ETAG, tag.clone())];
    if is_known(request, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, content_type)];
    (headers, content_type, document.clone()).into_response()
}

/// Whether the caller has the document already (RFC 9110, section 13.1.2).
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let fields = request.get_all(header::IF_NONE_MATCH).iter();
    fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*")
}
