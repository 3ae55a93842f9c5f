//! Metrics. Labels come from the configuration and from our own codes: no caller can make them many.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::admit::Outcome;

/// The injector's counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    decisions: Family<DecisionLabels, Counter>,
}

impl Metrics {
    /// Counters that the registry shows: `injector_decisions_total{endpoint,decision,reason}`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help =
            "Reviews by endpoint, decision and reason; a pod of several endpoints counts for each";
        registry.register("injector_decisions", help, metrics.decisions.clone());
        metrics
    }

    /// Counts a review.
    pub(crate) fn count(&self, outcome: &Outcome) {
        let Outcome {
            decision,
            reason,
            endpoints,
        } = outcome;
        for endpoint in endpoints {
            self.increment(endpoint, decision, reason);
        }
        if endpoints.is_empty() {
            self.increment("", decision, reason);
        }
    }

    /// Counts a request that is no review.
    pub(crate) fn count_unreadable(&self, reason: &'static str) {
        self.increment("", "unreadable", reason);
    }

    fn increment(&self, endpoint: &str, decision: &'static str, reason: &'static str) {
        let labels = DecisionLabels {
            endpoint: endpoint.to_owned(),
            decision,
            reason,
        };
        self.decisions.get_or_create(&labels).inc();
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    endpoint: String,
    decision: &'static str,
    reason: &'static str,
}
