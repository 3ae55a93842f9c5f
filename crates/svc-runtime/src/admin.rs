//! The admin port: plain HTTP for the kubelet and Prometheus, never for callers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::readiness::Readiness;
use crate::server::{Limits, ServeError, serve_plain};
use crate::shutdown::Shutdown;

/// Serves `/livez`, `/readyz` and `/metrics` until shutdown is requested.
///
/// * `/livez`: 200 `ok` as long as the process can answer at all; it never depends on anything else.
/// * `/readyz`: 200 `ok`, or 503 with one line `<condition>: <reason>` per unmet condition.
/// * `/metrics`: the registry as `OpenMetrics` text.
///
/// # Errors
///
/// [`ServeError`] if the listener is not usable.
pub async fn serve_admin(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Arc<Registry>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    serve_plain(
        listener,
        router(readiness, metrics),
        Limits::for_admin(),
        shutdown,
    )
    .await
}

fn router(readiness: Readiness, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(render_metrics).with_state(metrics))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return "ok".into_response();
    }
    let lines: Vec<_> = unmet
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        lines.join(
            "
",
        ),
    )
        .into_response()
}

async fn render_metrics(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The media type of the text exposition format (`OpenMetrics` 1.0, "Overall Structure").
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
