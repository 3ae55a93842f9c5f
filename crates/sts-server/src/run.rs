//! Puts the server together: configuration → keys and certificates → listeners → ready.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use sts_config::{
    ApiServer, Config, ConfigFile, KeySource, KubeconfigSource, PublicStore, ServerConfig,
    ServingTls,
};
use sts_core::ident::{ClusterName, EndpointName};
use sts_publish::SetupError;
use svc_runtime::kube_client::KubeClientError;
use svc_runtime::reload::{LOOK_EVERY, ReloadMetrics, Report, follow_configuration};
use svc_runtime::tls::{AuthorityError, CertificateError, ServingCertificate};
use svc_runtime::{
    EventWriter, FileChanges, KubeClients, Limits, Readiness, Shutdown, Tasks, TasksError,
};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::api_server::USER_AGENT;
use crate::capacity::{Capacity, CommonPlaces};
use crate::certificate::start_certificate;
use crate::clusters::say_what_is_exposed;
use crate::discovered::Terms;
use crate::gauges::Gauges;
use crate::key_source::{FetchError, KeySetBoard};
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::prepare::prepare;
use crate::reload::Reloading;
use crate::running::{Running, Start};
use crate::serving::{Serving, Shared, record};
use crate::{app, exchange, presence};

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
    /// A ring of keys cannot be taken over on other terms.
    #[error("signing keys cannot be taken over")]
    Ring(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task of the running server failed.
    #[error("server ended")]
    Tasks(#[from] TasksError),
}

/// Who writes Events.
pub(crate) const EVENT_CONTROLLER: &str = "kube-sts-server";

/// Which of the cluster's objects are ours.
#[derive(Clone, Debug)]
pub struct Own {
    /// The namespace of all of them.
    pub namespace: String,
    /// The pod that Events about the configuration are about: its name and uid.
    pub pod: Option<(String, String)>,
}

/// Runs the server until SIGTERM.
///
/// # Errors
/// [`RunError`] when it cannot start, or when one of its tasks fails.
pub async fn run(file: ConfigFile, own: Own) -> Result<(), RunError> {
    svc_runtime::install_crypto_provider();
    svc_runtime::keep_memory_private();
    let ConfigFile { path, text, config } = file;
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    say_what_is_exposed(&config.endpoints);
    let server = config.server.as_ref().ok_or(RunError::NoServer)?;
    let tasks = Tasks::new(Shutdown::new());
    let readiness = Readiness::new();
    let tasks = tasks.with_readiness(readiness.clone());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let reloads = ReloadMetrics::register(&mut registry, "sts", &text);
    let mut start = starting(&config, server, &own, &tasks, readiness, metrics).await?;
    let prepared = prepare(&start, &Running::default(), &config)?;
    let running = prepared.commit();
    start
        .board
        .replace(running.key_sources(), Terms::of(&config));
    start.watched.store(Arc::new(running.presences()));
    // Not before: where there is no watch, nothing has to be waited for.
    start.tasks.spawn("watch report", report_watches(&start));
    let shared = Shared {
        capacity: Capacity::new(),
        limits: RateLimits::new(server.rate_limit),
        metrics: start.metrics.clone(),
        gauges: start.gauges.clone(),
    };
    let serving = Serving::first(&config, &running, shared);
    let serving = Arc::new(ArcSwap::from_pointee(serving));
    let certificate = start_certificate(&start, &server.tls, &config.url.host())?;
    certificate.register_metrics(&mut registry);
    serve(&start, server, certificate, Arc::clone(&serving), registry).await?;
    tracing::info!(listen = %server.listen, admin = %server.admin_listen, "serving");
    // Whatever is set up from now on makes nobody wait.
    start.readiness = None;
    let report = Report::new(reloads, events(&start, &own));
    let file = FileChanges::after(&path, LOOK_EVERY, text.into_bytes());
    let shutdown = start.shutdown.clone();
    let reloading = Reloading {
        start,
        config,
        running,
        serving,
    };
    let following = follow_configuration(file, reloading, report, shutdown);
    tasks.spawn("configuration", following);
    tasks.run().await.map_err(Into::into)
}

async fn starting(
    config: &Config,
    server: &ServerConfig,
    own: &Own,
    tasks: &Tasks,
    readiness: Readiness,
    metrics: Metrics,
) -> Result<Start, RunError> {
    let clients = if needs_api_server(config) {
        Some(own_clients().await?)
    } else {
        None
    };
    let shutdown = tasks.shutdown();
    let board = KeySetBoard::new(metrics.clone(), readiness.condition("key set"));
    let watched = Arc::new(ArcSwap::default());
    Ok(Start {
        namespace: own.namespace.clone(),
        clients,
        readiness: Some(readiness),
        shutdown,
        tasks: tasks.spawner(),
        metrics,
        gauges: Gauges::default(),
        ledger: server.key_ledger.clone(),
        board: Arc::new(board),
        places: CommonPlaces::new(),
        watched,
    })
}

fn report_watches(start: &Start) -> impl Future<Output = Result<(), Infallible>> + use<> {
    let watched = Arc::clone(&start.watched);
    let condition = start.condition("watch");
    presence::report(
        watched,
        start.metrics.clone(),
        condition,
        start.shutdown.clone(),
    )
}

/// Clients of the API server we run under.
pub(crate) async fn own_clients() -> Result<KubeClients, KubeClientError> {
    Ok(KubeClients {
        watches: svc_runtime::kube_client(USER_AGENT).await?,
        requests: svc_runtime::kube_request_client(USER_AGENT).await?,
    })
}

fn events(
    start: &Start,
    own: &Own,
) -> Option<(EventWriter, k8s_openapi::api::core::v1::ObjectReference)> {
    let (name, uid) = own.pod.as_ref()?;
    let pod = svc_runtime::own_pod(&own.namespace, Some(name), Some(uid))?;
    let writer = EventWriter::new(start.client()?, EVENT_CONTROLLER);
    Some((writer, pod))
}

pub(crate) fn needs_api_server(config: &Config) -> bool {
    let Config {
        clusters,
        endpoints,
        server,
        ..
    } = config;
    clusters.iter().any(|cluster| match &cluster.api_server {
        Some(ApiServer::Own | ApiServer::Kubeconfig(KubeconfigSource::Secret(_))) => true,
        Some(ApiServer::At { .. } | ApiServer::Kubeconfig(KubeconfigSource::File(_))) | None => {
            false
        }
    }) || endpoints.iter().any(|endpoint| {
        let store = endpoint.publish.as_ref().map(|publish| &publish.store);
        matches!(endpoint.key, KeySource::Secret { .. })
            || matches!(store, Some(PublicStore::ConfigMap { .. }))
    }) || server
        .as_ref()
        .is_some_and(|server| matches!(server.tls, ServingTls::Secret { .. }))
}

async fn serve(
    start: &Start,
    server: &ServerConfig,
    certificate: ServingCertificate,
    serving: Arc<ArcSwap<Serving>>,
    registry: Registry,
) -> Result<(), RunError> {
    let listener = bind(server.listen).await?;
    let admin = bind(server.admin_listen).await?;
    let shutdown = start.shutdown.clone();
    let readiness = start.readiness.clone().unwrap_or_default();
    let admin = svc_runtime::serve_admin(admin, readiness, Arc::new(registry), shutdown.clone());
    start.tasks.spawn("admin port", admin);
    let tls = certificate.server_config();
    let router = app::router(Arc::clone(&serving));
    let tcp = svc_runtime::serve_tls(listener, tls, router, limits(), shutdown);
    start.tasks.spawn("server", record(tcp, serving));
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

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Bind { address, source })
}
