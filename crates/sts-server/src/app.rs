//! The router of all endpoints, and the limits around it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::response::Response;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::catch_panic::CatchPanicLayer;

use crate::endpoint::{self, EndpointState};
use crate::error;
use crate::serving::Serving;

/// How long a request may take from its headers to its answer: a little more than a slow body and a slow decision, which have limits of
/// their own.
const PATIENCE: Duration = Duration::from_secs(11);

/// The routes of endpoints by path prefix.
pub(crate) fn routes<'e>(
    endpoints: impl IntoIterator<Item = (&'e str, &'e Arc<EndpointState>)>,
) -> Router {
    endpoints
        .into_iter()
        .fold(Router::new(), |router, (prefix, state)| {
            router.merge(endpoint::router(prefix, state))
        })
}

/// The router of whatever is served at the moment: each request is for the one version that it met.
pub(crate) fn router(serving: Arc<ArcSwap<Serving>>) -> Router {
    let present = service_fn(move |request| serving.load().routes.clone().oneshot(request));
    limited(Router::new().fallback_service(present))
}

/// What stands around every handler.
fn limited(routes: Router) -> Router {
    let limits = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(HandleErrorLayer::new(
            async |_: tower::BoxError| -> Response { error::too_slow() },
        ))
        .timeout(PATIENCE);
    routes.layer(limits)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn http_023_a_panic_costs_one_request() {
        let panics = async || -> &'static str { panic!("on purpose") };
        let routes = Router::new()
            .route("/panics", get(panics))
            .route("/works", get(async || "works"));
        let router = limited(routes);
        for (path, status) in [
            ("/panics", StatusCode::INTERNAL_SERVER_ERROR),
            ("/works", StatusCode::OK),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
    }
}
