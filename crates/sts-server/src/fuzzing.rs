//! Doors for the fuzz targets, with the feature `fuzzing` alone: what is read of a request before anything is known of its sender.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::routing::any;
use futures_util::FutureExt as _;
use sts_core::ident::Audience;
use tower::ServiceExt as _;

use crate::extract;
use crate::routes::ROUTES;

/// The subject token that a request to the token endpoint is taken to carry, if it is taken. Empty headers are left out.
pub fn subject_token(authorization: &[u8], content_type: &[u8], body: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::AUTHORIZATION, authorization),
        (header::CONTENT_TYPE, content_type),
    ] {
        if !value.is_empty() {
            headers.insert(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    let audience = Audience::parse("sts.amazonaws.com").ok()?;
    let (_, presented) = extract::token(&headers, body, &audience);
    Some(presented.ok()?.token.expose().to_owned())
}

/// Whether a request target reaches a route of an endpoint at `/aws`.
pub fn is_routed(target: &str) -> bool {
    let router = ROUTES.iter().fold(Router::new(), |router, (suffix, _)| {
        router.route(&format!("/aws{suffix}"), any(async || StatusCode::OK))
    });
    let Ok(request) = Request::get(target).body(Body::empty()) else {
        return false;
    };
    let answer = router.oneshot(request).now_or_never();
    answer.is_some_and(|answer| answer.is_ok_and(|answer| answer.status() == StatusCode::OK))
}
