//! Metrics. Labels come from the configuration and from our own codes, so that no caller can make them many.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sts_core::exchange::Issued;
use sts_core::ident::{ClusterName, EndpointName};
use sts_core::keys::ring::Ring;

use crate::discovered::Conflict;
use crate::error::ExchangeError;
use crate::gauges::Shown;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ExchangeLabels {
    endpoint: String,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DangerLabels {
    endpoint: String,
    setting: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ConflictLabels {
    endpoint: String,
    setting: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WatchedLabels {
    cluster: String,
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KeyStepLabels {
    endpoint: String,
    step: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KeyLabels {
    endpoint: String,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PublicationLabels {
    of: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PublishedLabels {
    of: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EndpointLabels {
    endpoint: String,
}

const KEY_STATES: [&str; 3] = ["active", "prepared", "retiring"];
const WATCHED_KINDS: [&str; 3] = ["pods", "serviceaccounts", "namespaces"];

fn endpoint_labels(endpoint: &EndpointName) -> EndpointLabels {
    EndpointLabels {
        endpoint: endpoint.as_str().to_owned(),
    }
}

fn cluster_labels(cluster: &ClusterName) -> ClusterLabels {
    ClusterLabels {
        cluster: cluster.as_str().to_owned(),
    }
}

fn danger_labels(endpoint: &EndpointName) -> DangerLabels {
    DangerLabels {
        endpoint: endpoint.as_str().to_owned(),
        setting: "apiServerAudiences",
    }
}

fn conflict_labels(conflict: &Conflict) -> ConflictLabels {
    ConflictLabels {
        endpoint: conflict.endpoint().as_str().to_owned(),
        setting: conflict.name(),
    }
}

/// The server's counters.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    conflicts: Family<ConflictLabels, Gauge>,
    dangers: Family<DangerLabels, Gauge>,
    key_steps: Family<KeyStepLabels, Counter>,
    signing_keys: Family<KeyLabels, Gauge>,
    signing_up: Family<EndpointLabels, Gauge>,
    public_issuer_differs: Family<EndpointLabels, Gauge>,
    public_cluster_differs: Family<ClusterLabels, Gauge>,
    publications: Family<PublicationLabels, Counter>,
    published_up: Family<PublishedLabels, Gauge>,
    exchanges: Family<ExchangeLabels, Counter>,
    key_sets: Family<ClusterLabels, Gauge>,
    watched: Family<WatchedLabels, Gauge>,
    watches: Family<ClusterLabels, Gauge>,
}

impl Metrics {
    /// Counters that the registry shows.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "sts_danger",
            "What endpoints are set to against our advice: 1 for each setting",
            metrics.dangers.clone(),
        );
        registry.register(
            "sts_cluster_conflict",
            "What keeps endpoints from issuing tokens since an API server has said who it is: 1 for each setting",
            metrics.conflicts.clone(),
        );
        registry.register(
            "sts_watch_up",
            "Whether the watch of the cluster gives signs of life: 1 or 0",
            metrics.watches.clone(),
        );
        registry.register(
            "sts_watched_objects",
            "Objects of the cluster that the watch knows",
            metrics.watched.clone(),
        );
        registry.register(
            "sts_exchange",
            "Token exchanges by endpoint and outcome",
            metrics.exchanges.clone(),
        );
        registry.register(
            "sts_key_set_up",
            "Whether the cluster's key set could be read the last time: 1 or 0",
            metrics.key_sets.clone(),
        );
        metrics.register_keys(registry);
        metrics
    }

    fn register_keys(&self, registry: &mut Registry) {
        registry.register(
            "sts_key_step",
            "Steps in the life of an endpoint's signing keys",
            self.key_steps.clone(),
        );
        registry.register(
            "sts_signing_keys",
            "Published keys of an endpoint by state",
            self.signing_keys.clone(),
        );
        registry.register(
            "sts_signing_up",
            "Whether this replica may sign for the endpoint: 1 or 0",
            self.signing_up.clone(),
        );
        registry.register(
            "sts_public_issuer_differs",
            "Whether the endpoint's public issuer serves something else than our key set, or nothing: 1 or 0",
            self.public_issuer_differs.clone(),
        );
        registry.register(
            "sts_public_cluster_differs",
            "Whether a cluster's public issuer serves something else than its API server's keys, or nothing: 1 or 0",
            self.public_cluster_differs.clone(),
        );
        registry.register(
            "sts_publication",
            "Rounds of publishing the issuer documents of an endpoint or a cluster, by outcome",
            self.publications.clone(),
        );
        registry.register(
            "sts_published_up",
            "Whether the issuer documents of an endpoint or a cluster could be published the last time: 1 or 0",
            self.published_up.clone(),
        );
    }

    /// Counts one round of publishing the documents of an endpoint or a cluster.
    pub(crate) fn publication(&self, of: &str, outcome: &'static str, up: bool) {
        let labels = PublicationLabels {
            of: of.to_owned(),
            outcome,
        };
        self.publications.get_or_create(&labels).inc();
        let labels = PublishedLabels { of: of.to_owned() };
        self.published_up.get_or_create(&labels).set(i64::from(up));
    }

    /// Counts one step of an endpoint's keys.
    pub(crate) fn key_step(&self, endpoint: &EndpointName, step: &'static str) {
        let labels = KeyStepLabels {
            endpoint: endpoint.as_str().to_owned(),
            step,
        };
        self.key_steps.get_or_create(&labels).inc();
    }

    /// Shows an endpoint's keys, and whether one of them may sign.
    pub(crate) fn signing_keys(&self, endpoint: &EndpointName, ring: &Ring, signs: bool) {
        for state in KEY_STATES {
            let labels = KeyLabels {
                endpoint: endpoint.as_str().to_owned(),
                state,
            };
            let count = ring
                .keys()
                .filter(|key| key.phase().name() == state)
                .count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.signing_keys.get_or_create(&labels).set(count);
        }
        let labels = endpoint_labels(endpoint);
        self.signing_up.get_or_create(&labels).set(i64::from(signs));
    }

    /// Shows whether an endpoint's public issuer serves something else than our key set.
    pub(crate) fn public_issuer(&self, endpoint: &EndpointName, differs: bool) {
        let labels = endpoint_labels(endpoint);
        self.public_issuer_differs
            .get_or_create(&labels)
            .set(i64::from(differs));
    }

    /// Shows whether a cluster's public issuer serves something else than its API server's keys.
    pub(crate) fn public_cluster(&self, cluster: &ClusterName, differs: bool) {
        let labels = cluster_labels(cluster);
        self.public_cluster_differs
            .get_or_create(&labels)
            .set(i64::from(differs));
    }

    /// Shows whether a cluster's key set could be read.
    pub(crate) fn key_set(&self, cluster: &ClusterName, up: bool) {
        let labels = cluster_labels(cluster);
        self.key_sets.get_or_create(&labels).set(i64::from(up));
    }

    /// Shows what keeps an endpoint from issuing tokens.
    pub(crate) fn conflict(&self, conflict: &Conflict) {
        let labels = conflict_labels(conflict);
        self.conflicts.get_or_create(&labels).set(1);
    }

    /// Something does so no longer.
    pub(crate) fn conflict_gone(&self, conflict: &Conflict) {
        self.conflicts.remove(&conflict_labels(conflict));
    }

    /// Shows what an endpoint is set to against our advice.
    pub(crate) fn danger(&self, endpoint: &EndpointName) {
        self.dangers.get_or_create(&danger_labels(endpoint)).set(1);
    }

    /// Takes gauges away. Counters stay: they say what happened.
    pub(crate) fn forget(&self, gauge: &Shown) {
        match gauge {
            Shown::Danger(endpoint) => drop(self.dangers.remove(&danger_labels(endpoint))),
            Shown::KeySet(cluster) => drop(self.key_sets.remove(&cluster_labels(cluster))),
            Shown::PublicCluster(cluster) => {
                self.public_cluster_differs.remove(&cluster_labels(cluster));
            }
            Shown::PublicIssuer(endpoint) => {
                self.public_issuer_differs
                    .remove(&endpoint_labels(endpoint));
            }
            Shown::Published(of) => {
                self.published_up
                    .remove(&PublishedLabels { of: of.clone() });
            }
            Shown::SigningKeys(endpoint) => {
                for state in KEY_STATES {
                    let endpoint = endpoint.as_str().to_owned();
                    self.signing_keys.remove(&KeyLabels { endpoint, state });
                }
                self.signing_up.remove(&endpoint_labels(endpoint));
            }
            Shown::Watch(cluster) => {
                for kind in WATCHED_KINDS {
                    let cluster = cluster.as_str().to_owned();
                    self.watched.remove(&WatchedLabels { cluster, kind });
                }
                self.watches.remove(&cluster_labels(cluster));
            }
        }
    }

    /// Shows whether a cluster's watch gives signs of life.
    pub(crate) fn watch(&self, cluster: &ClusterName, up: bool) {
        let labels = cluster_labels(cluster);
        self.watches.get_or_create(&labels).set(i64::from(up));
    }

    /// Shows how many objects of a kind a cluster's watch knows.
    pub(crate) fn watched(&self, cluster: &ClusterName, kind: &'static str, count: usize) {
        let labels = WatchedLabels {
            cluster: cluster.as_str().to_owned(),
            kind,
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.watched.get_or_create(&labels).set(count);
    }

    /// Counts one exchange.
    pub(crate) fn count(&self, endpoint: &EndpointName, outcome: &Result<Issued, ExchangeError>) {
        let (outcome, reason) = match outcome {
            Ok(_) => ("allow", "granted"),
            Err(error) => ("deny", error.code()),
        };
        let labels = ExchangeLabels {
            endpoint: endpoint.as_str().to_owned(),
            outcome,
            reason,
        };
        self.exchanges.get_or_create(&labels).inc();
    }
}
