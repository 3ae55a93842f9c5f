//! Sets the configured clusters up: their API servers, their key sets, and a watch where an endpoint wants one.

use std::sync::Arc;

use sts_config::{ApiServer as ApiServerConfig, Cluster as ClusterConfig, Endpoint, Verification};
use sts_core::ident::ClusterName;
use sts_core::policy::LabelKeys;

use crate::api_server::{ApiServer, Connection, USER_AGENT};
use crate::cluster::{Cluster, Clusters};
use crate::key_source::{FetchError, KeySetBoard, KeySource, KeySources};
use crate::labels::LabelReader;
use crate::metrics::Metrics;
use crate::presence::{self, Presence};
use crate::publisher;
use crate::review::Reviewer;
use crate::run::{RunError, Start};
use svc_runtime::KubeClients;

/// All clusters, running.
pub(crate) struct Started(Vec<Arc<Cluster>>);

impl Started {
    /// Those that an endpoint takes; the configuration has checked that they are there.
    pub(crate) fn select(&self, names: &[ClusterName]) -> Clusters {
        let taken = self
            .0
            .iter()
            .filter(|cluster| names.contains(cluster.name()));
        Clusters::new(taken.cloned().collect())
    }
}

/// Starts everything that keeps the clusters' state fresh.
pub(crate) async fn start_clusters(
    start: &Start,
    clusters: &[ClusterConfig],
    endpoints: &[Endpoint],
    metrics: &Metrics,
) -> Result<Started, RunError> {
    say_what_is_exposed(endpoints);
    let own = match &start.client {
        Some(client) => Some(KubeClients {
            watches: client.clone(),
            requests: svc_runtime::kube_request_client(USER_AGENT).await?,
        }),
        None => None,
    };
    let mut started = Vec::new();
    for cluster in clusters {
        let api_server = connect(start, cluster, own.as_ref())?;
        let api_server = api_server.map(|api_server| api_server.one_of(clusters.len()));
        publisher::start_cluster(start, cluster, api_server.as_ref(), metrics)?;
        let name = &cluster.name;
        let presence = api_server
            .as_ref()
            .zip(watched_labels(name, endpoints))
            .map(|(api_server, labels)| watch(start, name, api_server, &labels));
        started.push(Arc::new(Cluster {
            keys: Arc::new(KeySource::new(cluster, api_server.as_ref())?),
            labels: api_server
                .clone()
                .map(|server| LabelReader::new(name.clone(), server)),
            reviewer: api_server.map(|server| Reviewer::new(name.clone(), server)),
            presence,
        }));
    }
    follow_key_sets(start, &started, metrics);
    report_watches(start, &started, metrics);
    Ok(Started(started))
}

/// The labels that endpoints want to know by watching this cluster; `None` if none wants it watched.
fn watched_labels(cluster: &ClusterName, endpoints: &[Endpoint]) -> Option<LabelKeys> {
    let mut watching = endpoints
        .iter()
        .filter(|endpoint| {
            endpoint.verification == Verification::Watch && endpoint.clusters.contains(cluster)
        })
        .peekable();
    watching.peek()?;
    let mut labels = LabelKeys::default();
    watching.for_each(|endpoint| labels.extend(endpoint.policy.labels()));
    Some(labels)
}

/// The operator is to know what `verification: jwks` does without.
fn say_what_is_exposed(endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        if endpoint.verification == Verification::Jwks {
            tracing::warn!(
                endpoint = %endpoint.name,
                "verification is jwks: a token stays good until it expires, also when its pod or ServiceAccount is deleted"
            );
        }
    }
}

fn connect(
    start: &Start,
    cluster: &ClusterConfig,
    own: Option<&KubeClients>,
) -> Result<Option<ApiServer>, FetchError> {
    let name = cluster.name.clone();
    let (api_server, connection) = match &cluster.api_server {
        None => return Ok(None),
        Some(ApiServerConfig::Own) => {
            let clients = own.cloned().ok_or(FetchError::NoApiServer)?;
            return Ok(Some(ApiServer::own(clients)));
        }
        Some(ApiServerConfig::At {
            url,
            ca_file,
            token_file,
        }) => {
            let url = url.parse().or(Err(FetchError::Discovery))?;
            ApiServer::at(name, url, ca_file, token_file)
        }
        Some(ApiServerConfig::Kubeconfig(source)) => {
            let own = own.map(|clients| (&clients.watches, start.namespace.as_str()));
            ApiServer::described(name, source.clone(), own).ok_or(FetchError::NoApiServer)?
        }
    };
    follow(start, connection);
    Ok(Some(api_server))
}

fn follow(start: &Start, connection: Connection) {
    let following = connection.follow(start.shutdown.clone());
    start.tasks.spawn("cluster's API server", following);
}

fn watch(
    start: &Start,
    cluster: &ClusterName,
    api_server: &ApiServer,
    labels: &LabelKeys,
) -> Arc<Presence> {
    let presence = Arc::new(Presence::new(cluster.clone(), api_server, labels));
    let (following, shutdown) = (Arc::clone(&presence), start.shutdown.clone());
    start
        .tasks
        .spawn("watch", async move { following.follow(shutdown).await });
    presence
}

fn report_watches(start: &Start, clusters: &[Arc<Cluster>], metrics: &Metrics) {
    let watches = clusters
        .iter()
        .filter_map(|cluster| cluster.presence.clone());
    let watches: Vec<_> = watches.collect();
    if watches.is_empty() {
        return;
    }
    let condition = start.readiness.condition("watch");
    let reporting = presence::report(watches, metrics.clone(), condition, start.shutdown.clone());
    start.tasks.spawn("watch report", reporting);
}

fn follow_key_sets(start: &Start, clusters: &[Arc<Cluster>], metrics: &Metrics) {
    let sources = clusters.iter().map(|cluster| Arc::clone(&cluster.keys));
    let sources = Arc::new(KeySources::new(sources.collect()));
    let condition = start.readiness.condition("key set");
    let board = KeySetBoard::new(Arc::clone(&sources), metrics.clone(), condition);
    let board = Arc::new(board);
    for source in sources.iter() {
        start.tasks.spawn(
            "key set",
            Arc::clone(source).keep_fresh(Arc::clone(&board), start.shutdown.clone()),
        );
    }
}
