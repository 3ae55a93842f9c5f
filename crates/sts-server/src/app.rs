//! The router of all endpoints, and the limits around it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::endpoint::{self, EndpointState};
use crate::error;
use crate::extract::LARGEST_BODY;

/// How many requests are worked on at once; more are sent away at once, so that no queue grows.
const MOST_AT_ONCE: usize = 512;
/// How long a request may take from its headers to its answer: a TokenReview's patience and a slow body.
const PATIENCE: Duration = Duration::from_secs(10);

/// The router of endpoints by path prefix.
pub(crate) fn router(endpoints: Vec<(String, Arc<EndpointState>)>) -> Router {
    let routes = endpoints
        .into_iter()
        .fold(Router::new(), |router, (prefix, state)| {
            router.merge(endpoint::router(&prefix, &state))
        });
    let limits = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(HandleErrorLayer::new(
            async |_: tower::BoxError| -> Response { error::overloaded() },
        ))
        .load_shed()
        .concurrency_limit(MOST_AT_ONCE)
        .timeout(PATIENCE);
    routes
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(limits)
}
