//! What is served at one moment: one version of the configuration, exchanged as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use sts_config::{Config, Endpoint};
use sts_core::ident::EndpointName;
use svc_runtime::ServeError;
use tokio::time::timeout;

use crate::app;
use crate::audit::{self, Trail};
use crate::capacity::Capacity;
use crate::clusters::Known;
use crate::confirm::Confirming;
use crate::endpoint::EndpointState;
use crate::gauges::Gauges;
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::parts::RingPart;
use crate::running::Running;

/// One version of what is served. Requests that met it keep it until they are answered.
pub(crate) struct Serving {
    pub(crate) routes: Router,
    endpoints: Vec<Arc<EndpointState>>,
    shared: Shared,
}

/// What all versions have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) capacity: Capacity,
    pub(crate) limits: RateLimits,
    pub(crate) metrics: Metrics,
    pub(crate) gauges: Gauges,
}

impl Serving {
    /// The first version.
    pub(crate) fn first(config: &Config, running: &Running, shared: Shared) -> Self {
        Self::of(config, running, shared, None)
    }

    /// The version that follows this one: what endpoints of the same name know stays known.
    pub(crate) fn next(&self, config: &Config, running: &Running, limits: RateLimits) -> Self {
        let shared = Shared {
            limits,
            ..self.shared.clone()
        };
        Self::of(config, running, shared, Some(self))
    }

    pub(crate) fn limits(&self) -> &RateLimits {
        &self.shared.limits
    }

    /// All versions have one.
    pub(crate) fn capacity(&self) -> &Capacity {
        &self.shared.capacity
    }

    fn of(config: &Config, running: &Running, shared: Shared, before: Option<&Self>) -> Self {
        let clusters = Known::of(running);
        let mut states = Vec::new();
        for endpoint in &config.endpoints {
            let before = before.and_then(|before| before.find(&endpoint.name));
            if let Some(state) = state(endpoint, running, &clusters, &shared, before) {
                states.push((endpoint.path.prefix(), Arc::new(state)));
            }
        }
        Self {
            routes: app::routes(states.iter().map(|(prefix, state)| (*prefix, state))),
            endpoints: states.into_iter().map(|(_, state)| state).collect(),
            shared,
        }
    }

    fn find(&self, name: &EndpointName) -> Option<&EndpointState> {
        let mut endpoints = self.endpoints.iter();
        endpoints
            .find(|endpoint| endpoint.name == *name)
            .map(AsRef::as_ref)
    }

    /// What is to be done once in a window.
    fn tick(&self) {
        for endpoint in &self.endpoints {
            endpoint.trail.next_window();
        }
        self.shared.limits.sweep();
        self.shared.gauges.sweep(&self.shared.metrics);
    }
}

/// An endpoint as its requests see it. Each has a ring that runs.
fn state(
    endpoint: &Endpoint,
    running: &Running,
    clusters: &Known,
    shared: &Shared,
    before: Option<&EndpointState>,
) -> Option<EndpointState> {
    let Shared {
        capacity,
        limits,
        metrics,
        gauges: _,
    } = shared.clone();
    let part = RingPart::of(endpoint);
    let ring = running.rings.iter().find(|run| run.part == part)?;
    let name = endpoint.name.clone();
    if !endpoint.danger.api_server_audiences.is_empty() {
        metrics.danger(&name);
    }
    let verdicts = before.map(|before| before.confirming.verdicts());
    let trail = before.map(|before| Arc::clone(&before.trail));
    Some(EndpointState {
        trail: trail.unwrap_or_else(|| Arc::new(Trail::new(name.clone()))),
        capacity,
        name,
        token_audience: endpoint.token_audience.clone(),
        template: endpoint.template.clone(),
        policy: endpoint.policy.clone(),
        confirming: Confirming::new(
            endpoint.verification,
            endpoint.grace,
            verdicts.unwrap_or_default(),
        ),
        danger: endpoint.danger.clone(),
        ring: Arc::clone(&ring.handle),
        clusters: clusters.select(&endpoint.clusters),
        metrics,
        limits,
    })
}

/// Serves to the end and a little longer, until every exchange is recorded, and turns the audit trails' windows meanwhile.
pub(crate) async fn record(
    serving: impl Future<Output = Result<(), ServeError>>,
    present: Arc<ArcSwap<Serving>>,
) -> Result<(), ServeError> {
    let all = async {
        let ended = serving.await;
        let capacity = present.load().capacity().clone();
        capacity.idle().await;
        ended
    };
    let mut all = std::pin::pin!(all);
    loop {
        let ended = timeout(audit::WINDOW, all.as_mut()).await;
        present.load().tick();
        if let Ok(ended) = ended {
            return ended;
        }
    }
}
