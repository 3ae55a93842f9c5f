//! The router of all endpoints, and the limits around it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::endpoint::{self, EndpointState};
use crate::error;

/// How long a request may take from its headers to its answer: a little more than a slow body and a slow decision, which have limits of
/// their own.
const PATIENCE: Duration = Duration::from_secs(11);

/// The router of endpoints by path prefix.
pub(crate) fn router(endpoints: Vec<(String, Arc<EndpointState>)>) -> Router {
    let routes = endpoints
        .into_iter()
        .fold(Router::new(), |router, (prefix, state)| {
            router.merge(endpoint::router(&prefix, &state))
        });
    limited(routes)
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
    use tower::ServiceExt as _;

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
