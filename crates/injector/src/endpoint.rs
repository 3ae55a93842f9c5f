//! `POST /mutate`: bytes in, bytes out. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tower::limit::ConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::admit::{Admission, AdmitError, admit};
use crate::metrics::Metrics;
use crate::server_ca::ServerCa;
use crate::settings::Settings;

/// What the handler works with.
#[derive(Debug)]
pub struct Webhook {
    /// Endpoints and sidecar.
    pub settings: Settings,
    /// The STS's CA, as far as it is known.
    pub server_ca: ServerCa,
    /// Counters.
    pub metrics: Metrics,
}

/// The webhook's router and the limits around it.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/mutate", post(mutate))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(ConcurrencyLimitLayer::new(MOST_AT_ONCE))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            PATIENCE,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(Arc::new(webhook))
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if !is_json(headers.get(header::CONTENT_TYPE)) {
        webhook.metrics.count_unreadable("media_type");
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            webhook.metrics.count_unreadable("body");
            return rejection.into_response();
        }
    };
    let Webhook {
        settings,
        server_ca,
        metrics,
    } = webhook.as_ref();
    let admitted = admit(settings, server_ca.snapshot().as_deref(), &body);
    match admitted {
        Ok(admission) => answer(metrics, admission),
        Err(AdmitError::Review(error)) => {
            metrics.count_unreadable(error.code());
            tracing::debug!(reason = error.code(), "request is no review");
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
        Err(error @ AdmitError::Respond(_)) => {
            metrics.count_unreadable("respond");
            tracing::error!(error = %svc_runtime::log::chain(&error), "no answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn answer(metrics: &Metrics, admission: Admission) -> Response {
    let Admission {
        body,
        uid,
        pod,
        outcome,
    } = admission;
    metrics.count(&outcome);
    tracing::info!(
        review.uid = uid,
        pod = %pod,
        decision = outcome.decision,
        reason = outcome.reason,
        "reviewed",
    );
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Whether the media type is JSON, whatever its parameters.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(JSON))
}

const JSON: &str = "application/json";
/// Twice what the API server takes of an object, and room for the old one.
const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// Reviews at once; more wait. A review takes microseconds, so only slow bodies come near it.
const MOST_AT_ONCE: usize = 256;
/// From a request's head to its answer. The API server gives a webhook 10 s by default.
const PATIENCE: Duration = Duration::from_secs(5);
