//! `POST /mutate/{endpoint}`: bytes in, bytes out. It decides nothing.
//!
//! The API server has an entry of the webhook configuration for each endpoint, and each has its own path:
//! so an injector that is older than the entry can tell that it does not know the endpoint.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tower_http::catch_panic::CatchPanicLayer;

use crate::admit::{Admission, AdmitError, admit};
use crate::intake::Intake;
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
    /// The bytes that bodies may take.
    pub intake: Intake,
}

/// The webhook's router. A review is answered in microseconds, without waiting for anything: what bounds
/// the work at once is the [`Intake`].
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/mutate/{endpoint}", post(mutate))
        .layer(CatchPanicLayer::new())
        .with_state(Arc::new(webhook))
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Webhook {
        settings,
        server_ca,
        metrics,
        intake,
    } = webhook.as_ref();
    if !is_json(headers.get(header::CONTENT_TYPE)) {
        metrics.count_unreadable("media_type");
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let body = match intake.take(&headers, body).await {
        Ok(body) => body,
        Err(declined) => {
            metrics.count_unreadable(declined.code());
            return declined.status().into_response();
        }
    };
    let admitted = admit(
        settings,
        server_ca.snapshot().as_deref(),
        &endpoint,
        &body.bytes,
    );
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
