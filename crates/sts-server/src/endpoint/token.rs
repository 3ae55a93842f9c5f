//! The token endpoint in its three forms.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sts_api::{OpenUnisonJwt, OpenUnisonToken, TOKEN_TYPE_JWT, TokenResponse};
use sts_core::exchange::Issued;

use super::EndpointState;
use crate::error::{self, ExchangeError, Presentation, RequestError};
use crate::exchange;
use crate::extract::{self, Presented};

/// `POST /token`, `/reissue`: RFC 8693, or JWTReissuer's Bearer header and bare answer.
pub(super) async fn exchange(
    State(endpoint): State<Arc<EndpointState>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (presentation, token) = if let Err(too_often) = endpoint.limits.address(source) {
        // The body is not even read.
        (Presentation::Form, Err(too_often.into()))
    } else {
        let (presentation, token) = presented(&endpoint, query, &headers, body).await;
        (presentation, token.map_err(ExchangeError::Request))
    };
    match issue(&endpoint, token, source).await {
        Err(error) => error::respond(&error, presentation),
        Ok(issued) => match presentation {
            Presentation::Bearer => bare(&issued),
            Presentation::Form => standard(&issued),
        },
    }
}

async fn presented(
    endpoint: &EndpointState,
    query: Option<String>,
    headers: &HeaderMap,
    body: Body,
) -> (Presentation, Result<Presented, RequestError>) {
    match (query, extract::body(body).await) {
        (Some(_), _) => (Presentation::Form, Err(RequestError::Query)),
        (None, Err(error)) => (Presentation::Form, Err(error)),
        (None, Ok(body)) => extract::token(headers, &body, &endpoint.template.audience),
    }
}

/// `GET /token/user`: OpenUnison's form. It is routed with every method, because axum would answer HEAD with it too and so issue a token
/// that nobody receives.
pub(super) async fn openunison(
    method: Method,
    State(endpoint): State<Arc<EndpointState>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET {
        let allow = [(header::ALLOW, HeaderValue::from_static("GET"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
    }
    let token = match (endpoint.limits.address(source), query) {
        (Err(too_often), _) => Err(too_often.into()),
        (Ok(()), Some(_)) => Err(ExchangeError::Request(RequestError::Query)),
        (Ok(()), None) => extract::bearer_with_role(&headers).map_err(ExchangeError::Request),
    };
    match issue(&endpoint, token, source).await {
        Err(error) => error::respond(&error, Presentation::Bearer),
        Ok(issued) => uncached(Json(openunison_body(&issued))),
    }
}

async fn issue(
    endpoint: &Arc<EndpointState>,
    presented: Result<Presented, ExchangeError>,
    source: SocketAddr,
) -> Result<Issued, ExchangeError> {
    exchange::run(endpoint, presented, source, svc_runtime::clock::now()).await
}

fn standard(issued: &Issued) -> Response {
    uncached(Json(TokenResponse {
        access_token: issued.token.expose().to_owned(),
        issued_token_type: TOKEN_TYPE_JWT.to_owned(),
        token_type: "N_A".to_owned(),
        expires_in: issued.lifetime_seconds,
    }))
}

fn bare(issued: &Issued) -> Response {
    let content_type = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/jwt"),
    )];
    uncached((content_type, issued.token.expose().to_owned()))
}

fn openunison_body(issued: &Issued) -> OpenUnisonToken {
    let expires = i64::try_from(issued.expires)
        .ok()
        .and_then(|at| jiff::Timestamp::from_second(at).ok());
    OpenUnisonToken {
        display_name: issued.subject.clone(),
        token: OpenUnisonJwt {
            jwt: issued.token.expose().to_owned(),
            expires: expires.map(|at| at.to_string()).unwrap_or_default(),
        },
    }
}

/// A token belongs to the one who asked for it, never into a cache.
fn uncached(response: impl IntoResponse) -> Response {
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    (headers, response).into_response()
}
