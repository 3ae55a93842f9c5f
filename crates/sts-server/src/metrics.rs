//! Metrics. Labels come from the configuration and from our own codes, so that no caller can make them many.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sts_core::exchange::Issued;
use sts_core::ident::{ClusterName, EndpointName};

use crate::error::ExchangeError;

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

/// The server's counters.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    exchanges: Family<ExchangeLabels, Counter>,
    key_sets: Family<ClusterLabels, Gauge>,
}

impl Metrics {
    /// Counters that the registry shows.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
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
        metrics
    }

    /// Shows whether a cluster's key set could be read.
    pub(crate) fn key_set(&self, cluster: &ClusterName, up: bool) {
        let labels = ClusterLabels {
            cluster: cluster.as_str().to_owned(),
        };
        self.key_sets.get_or_create(&labels).set(i64::from(up));
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
