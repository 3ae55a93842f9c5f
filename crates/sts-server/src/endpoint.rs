//! The handlers of an endpoint's routes. Each one takes a request apart, reads the clock once, calls one function and encodes what it says.

mod documents;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, post};
use sts_config::Danger;
use sts_core::claims::TokenTemplate;
use sts_core::ident::{Audience, EndpointName};
use sts_core::policy::Policy;

use crate::audit::Trail;
use crate::capacity::Capacity;
use crate::cluster::Clusters;
use crate::confirm::Confirming;
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::routes::{ROUTES, Route};
use crate::signing_keys::KeyRing;

/// What the handlers of one endpoint share.
pub(crate) struct EndpointState {
    pub(crate) name: EndpointName,
    pub(crate) token_audience: Audience,
    pub(crate) template: TokenTemplate,
    pub(crate) policy: Policy,
    pub(crate) confirming: Confirming,
    pub(crate) danger: Danger,
    /// Empty until it was read or made; until then the endpoint answers 503.
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) clusters: Clusters,
    pub(crate) metrics: Metrics,
    pub(crate) trail: Arc<Trail>,
    /// All endpoints have these in common.
    pub(crate) capacity: Capacity,
    pub(crate) limits: RateLimits,
}

/// The routes of one endpoint.
pub(crate) fn router(prefix: &str, state: &Arc<EndpointState>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, (suffix, route)| {
            let methods = match route {
                Route::Discovery => get(documents::discovery),
                Route::IssuerDocs => get(documents::issuer_docs),
                Route::Jwks => get(documents::jwks),
                Route::OpenUnisonToken => any(token::openunison),
                Route::Token => post(token::exchange),
            };
            router.route(
                &format!("{prefix}{suffix}"),
                methods.with_state(Arc::clone(state)),
            )
        })
}
