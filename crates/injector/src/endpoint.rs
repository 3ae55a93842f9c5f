//! `POST /mutate/{endpoint}` and `POST /mutate`: bytes in, bytes out. It decides nothing.
//!
//! The API server has an entry of the webhook configuration for each endpoint, and each has its own path:
//! so an injector that is older than the entry can tell that it does not know the endpoint. The entry without one is for pods of annotated
//! ServiceAccounts.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tower_http::catch_panic::CatchPanicLayer;

use crate::accounts::Accounts;
use crate::admit::{Admission, AdmitError, admit};
use crate::decide::Entry;
use crate::intake::{Intake, TakenIn};
use crate::metrics::Metrics;
use crate::review::{PodReview, ReviewError, parse_review};
use crate::server_ca::ServerCa;
use crate::settings::LiveSettings;

/// What the handler works with.
#[derive(Debug)]
pub struct Webhook {
    /// Endpoints and sidecar.
    pub settings: LiveSettings,
    /// The STS's CA, as far as it is known.
    pub server_ca: ServerCa,
    /// The ServiceAccounts.
    pub accounts: Accounts,
    /// Counters.
    pub metrics: Metrics,
    /// The bytes that bodies may take.
    pub intake: Intake,
}

/// The webhook's router. A review is answered in microseconds, without waiting for anything but the one ServiceAccount that is not known
/// yet: what bounds the work at once is the [`Intake`].
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/mutate", post(by_account))
        .route("/mutate/{endpoint}", post(by_label))
        .layer(CatchPanicLayer::new())
        .with_state(Arc::new(webhook))
}

async fn by_label(
    State(webhook): State<Arc<Webhook>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match take(&webhook, &headers, body).await {
        Ok(body) => body,
        Err(declined) => return declined,
    };
    match parse_review(&body.bytes) {
        Ok(review) => answer(&webhook, Entry::Endpoint(&endpoint), review),
        Err(error) => unreadable(&webhook.metrics, error),
    }
}

async fn by_account(
    State(webhook): State<Arc<Webhook>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match take(&webhook, &headers, body).await {
        Ok(body) => body,
        Err(declined) => return declined,
    };
    match parse_review(&body.bytes) {
        Ok(review) => {
            let facts = webhook.accounts.facts(&review).await;
            answer(&webhook, Entry::ServiceAccount(&facts), review)
        }
        Err(error) => unreadable(&webhook.metrics, error),
    }
}

async fn take(webhook: &Webhook, headers: &HeaderMap, body: Body) -> Result<TakenIn, Response> {
    let Webhook {
        metrics, intake, ..
    } = webhook;
    if !is_json(headers.get(header::CONTENT_TYPE)) {
        metrics.count_unreadable("media_type");
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    intake.take(headers, body).await.map_err(|declined| {
        metrics.count_unreadable(declined.code());
        declined.status().into_response()
    })
}

fn unreadable(metrics: &Metrics, error: ReviewError) -> Response {
    metrics.count_unreadable(error.code());
    tracing::debug!(reason = error.code(), "request is no review");
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}

fn answer(webhook: &Webhook, entry: Entry<'_>, review: PodReview<'_>) -> Response {
    let Webhook {
        settings,
        server_ca,
        metrics,
        ..
    } = webhook;
    let settings = settings.snapshot();
    match admit(&settings, server_ca.snapshot().as_deref(), entry, review) {
        Ok(admission) => respond(metrics, admission),
        Err(error @ AdmitError::Respond(_)) => {
            metrics.count_unreadable("respond");
            tracing::error!(error = %svc_runtime::log::chain(&error), "no answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn respond(metrics: &Metrics, admission: Admission) -> Response {
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
