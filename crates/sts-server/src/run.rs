//! Puts the server together: configuration → keys and certificates → listeners → ready.

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use sts_config::{
    ApiServer, Config, Endpoint, KeySource, KubeconfigSource, PublicStore, RateLimit, ServerConfig,
    ServingTls,
};
use sts_core::ident::{ClusterName, EndpointName};
use sts_publish::SetupError;
use svc_runtime::kube_client::KubeClientError;
use svc_runtime::tls::{AuthorityError, CertificateError, ServingCertificate};
use svc_runtime::{Limits, Readiness, ServeError, Shutdown, Tasks, TasksError};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::api_server::USER_AGENT;
use crate::audit::Trail;
use crate::capacity::Capacity;
use crate::certificate::start_certificate;
use crate::clusters::{Started, start_clusters};
use crate::confirm::Confirming;
use crate::endpoint::EndpointState;
use crate::key_source::FetchError;
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::signing_keys::{KeyRing, PublicIssuer, Surroundings};
use crate::{app, audit, exchange, publisher, signing_keys};

/// Why the server does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A port cannot be bound.
    #[error("{address} cannot be bound")]
    Bind {
        /// The address of the configuration.
        address: std::net::SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The CA's certificate cannot be written.
    #[error("{path} cannot be written")]
    CaFile {
        /// The file of the configuration.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The certificate made for this run cannot be used.
    #[error("certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// No certificate could be made for this run.
    #[error("no certificate could be made")]
    Ephemeral(#[from] AuthorityError),
    /// A key set's source cannot be set up.
    #[error("key sets cannot be read")]
    KeySources(#[from] FetchError),
    /// There is no API server, and the configuration needs one.
    #[error("no API server can be asked")]
    Kubernetes(#[from] KubeClientError),
    /// A cluster's own documents cannot be published as configured.
    #[error("publisher of cluster {cluster} cannot be set up")]
    ClusterPublisher {
        /// The cluster.
        cluster: ClusterName,
        /// Why not.
        #[source]
        source: SetupError,
    },
    /// The configuration has no part `server`.
    #[error("configuration has no part `server`")]
    NoServer,
    /// An endpoint's documents cannot be published as configured.
    #[error("publisher of endpoint {endpoint} cannot be set up")]
    Publisher {
        /// The endpoint.
        endpoint: EndpointName,
        /// Why not.
        #[source]
        source: SetupError,
    },
    /// A task of the running server failed.
    #[error("server ended")]
    Tasks(#[from] TasksError),
}

/// What the parts of a starting server need of each other.
pub(crate) struct Start {
    pub(crate) namespace: String,
    pub(crate) client: Option<Client>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
    pub(crate) tasks: Tasks,
}

/// Runs the server until SIGTERM; `namespace` holds its own objects.
///
/// # Errors
/// [`RunError`] when it cannot start, or when one of its tasks fails.
pub async fn run(config: Config, namespace: String) -> Result<(), RunError> {
    svc_runtime::install_crypto_provider();
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let Config {
        url,
        clusters,
        endpoints,
        server,
        injector: _,
        warnings: _,
    } = config;
    let server = server.ok_or(RunError::NoServer)?;
    let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
    let tasks = Tasks::new(shutdown.clone()).with_readiness(readiness.clone());
    let needs_api_server = needs_api_server(&clusters, &endpoints, &server);
    let client = if needs_api_server {
        Some(svc_runtime::kube_client(USER_AGENT).await?)
    } else {
        None
    };
    let start = Start {
        namespace,
        client,
        readiness,
        shutdown,
        tasks,
    };

    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let clusters = start_clusters(&start, &clusters, &endpoints, &metrics).await?;
    let rings = start_rings(&start, &endpoints, server.key_ledger.as_ref(), &metrics)?;
    let endpoints = endpoints.into_iter().zip(rings);
    let states = start_endpoints(endpoints, server.rate_limit, &clusters, &metrics);
    let certificate = start_certificate(&start, &server.tls, &url.host())?;
    certificate.register_metrics(&mut registry);
    serve(&start, &server, certificate, states, registry).await?;
    tracing::info!(listen = %server.listen, admin = %server.admin_listen, "serving");
    start.tasks.run().await.map_err(Into::into)
}

fn needs_api_server(
    clusters: &[sts_config::Cluster],
    endpoints: &[Endpoint],
    server: &ServerConfig,
) -> bool {
    clusters.iter().any(|cluster| match &cluster.api_server {
        Some(ApiServer::Own | ApiServer::Kubeconfig(KubeconfigSource::Secret(_))) => true,
        Some(ApiServer::At { .. } | ApiServer::Kubeconfig(KubeconfigSource::File(_))) | None => {
            false
        }
    }) || endpoints.iter().any(|endpoint| {
        let store = endpoint.publish.as_ref().map(|publish| &publish.store);
        matches!(endpoint.key, KeySource::Secret { .. })
            || matches!(store, Some(PublicStore::ConfigMap { .. }))
    }) || matches!(server.tls, ServingTls::Secret { .. })
}

/// Each endpoint's keys, and who keeps them.
fn start_rings(
    start: &Start,
    endpoints: &[Endpoint],
    ledger: Option<&String>,
    metrics: &Metrics,
) -> Result<Vec<Arc<KeyRing>>, RunError> {
    let ring = |endpoint: &Endpoint| {
        let ring = Arc::new(KeyRing::new(endpoint));
        let surroundings = Surroundings {
            client: start.client.clone(),
            namespace: start.namespace.clone(),
            ledger: ledger.cloned(),
            condition: start.readiness.condition("signing key"),
            metrics: metrics.clone(),
            shutdown: start.shutdown.clone(),
        };
        let keeping = signing_keys::keep(Arc::clone(&ring), endpoint.key.clone(), surroundings);
        start.tasks.spawn("signing key", keeping);
        if let Some(read_back) = &endpoint.documents.read_back {
            let issuer = PublicIssuer::new(&endpoint.template.issuer, read_back)?;
            let (metrics, shutdown) = (metrics.clone(), start.shutdown.clone());
            let condition = start.readiness.condition("public issuer");
            let ring = Arc::clone(&ring);
            let following = signing_keys::follow(ring, issuer, metrics, condition, shutdown);
            start.tasks.spawn("public issuer", following);
        }
        publisher::start(start, endpoint, &ring, metrics).map_err(|source| {
            let endpoint = endpoint.name.clone();
            RunError::Publisher { endpoint, source }
        })?;
        Ok(ring)
    };
    endpoints.iter().map(ring).collect()
}

fn start_endpoints(
    endpoints: impl Iterator<Item = (Endpoint, Arc<KeyRing>)>,
    rate_limit: RateLimit,
    clusters: &Started,
    metrics: &Metrics,
) -> Vec<(String, Arc<EndpointState>)> {
    let limits = RateLimits::new(rate_limit);
    let capacity = Capacity::new();
    let state = |(endpoint, ring): (Endpoint, Arc<KeyRing>)| {
        let Endpoint {
            name,
            path,
            token_audience,
            template,
            clusters: accepted,
            verification,
            grace,
            danger,
            policy,
            ..
        } = endpoint;
        if !danger.api_server_audiences.is_empty() {
            metrics.danger(&name, "apiServerAudiences");
        }
        let state = EndpointState {
            trail: Trail::new(name.clone()),
            capacity: capacity.clone(),
            name,
            token_audience,
            template,
            policy,
            confirming: Confirming::new(verification, grace),
            danger,
            ring,
            clusters: clusters.select(&accepted),
            metrics: metrics.clone(),
            limits: limits.clone(),
        };
        (path.prefix().to_owned(), Arc::new(state))
    };
    endpoints.map(state).collect()
}

async fn serve(
    start: &Start,
    server: &ServerConfig,
    certificate: ServingCertificate,
    endpoints: Vec<(String, Arc<EndpointState>)>,
    registry: Registry,
) -> Result<(), RunError> {
    let listener = bind(server.listen).await?;
    let admin = bind(server.admin_listen).await?;
    let (readiness, shutdown) = (start.readiness.clone(), start.shutdown.clone());
    let admin = svc_runtime::serve_admin(admin, readiness, Arc::new(registry), shutdown.clone());
    start.tasks.spawn("admin port", admin);
    let tls = certificate.server_config();
    let states = endpoints.iter().map(|(_, state)| Arc::clone(state));
    let states = states.collect();
    let router = app::router(endpoints);
    let serving = svc_runtime::serve_tls(listener, tls, router, limits(), shutdown);
    start.tasks.spawn("server", record(serving, states));
    Ok(())
}

/// A caller needs few requests at once; and when the connections are drained, there must be time left for the decisions of the last ones.
fn limits() -> Limits {
    let defaults = Limits::default();
    Limits {
        max_concurrent_streams: 16,
        drain: defaults.drain.saturating_sub(exchange::PATIENCE),
        ..defaults
    }
}

/// Serves to the end and a little longer, until every exchange is recorded, and turns the audit trails' windows meanwhile.
async fn record(
    serving: impl Future<Output = Result<(), ServeError>>,
    endpoints: Vec<Arc<EndpointState>>,
) -> Result<(), ServeError> {
    let all = async {
        let ended = serving.await;
        for endpoint in &endpoints {
            endpoint.capacity.idle().await;
        }
        ended
    };
    let mut all = std::pin::pin!(all);
    loop {
        let ended = timeout(audit::WINDOW, all.as_mut()).await;
        for endpoint in &endpoints {
            endpoint.trail.next_window();
        }
        if let Some(endpoint) = endpoints.first() {
            endpoint.limits.sweep();
        }
        if let Ok(ended) = ended {
            return ended;
        }
    }
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Bind { address, source })
}
