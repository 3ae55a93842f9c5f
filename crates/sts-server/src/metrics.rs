//! Metrics. Labels come from the configuration and from our own codes, so that no caller can make them many.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sts_core::exchange::Issued;
use sts_core::ident::EndpointName;

use crate::error::ExchangeError;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ExchangeLabels {
    endpoint: String,
    outcome: &'static str,
    reason: &'static str,
}

/// The server's counters.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    exchanges: Family<ExchangeLabels, Counter>,
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
        metrics
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
