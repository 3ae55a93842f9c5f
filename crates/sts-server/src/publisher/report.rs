//! What publishing came to: a log line when that changes, and a metric.

use std::fmt;

use sts_core::ident::Issuer;
use sts_publish::{Outcome, PublishError};
use svc_runtime::log::chain;

use crate::metrics::Metrics;

/// Reports on one issuer's documents.
pub(super) struct Report {
    /// The endpoint, or the cluster.
    whose: String,
    issuer: Issuer,
    metrics: Metrics,
    /// What was said last.
    said: Option<String>,
}

impl Report {
    pub(super) fn new(whose: &str, issuer: &Issuer, metrics: &Metrics) -> Self {
        Self {
            whose: whose.to_owned(),
            issuer: issuer.clone(),
            metrics: metrics.clone(),
            said: None,
        }
    }

    /// Reports one round of publishing.
    pub(super) fn round(
        &mut self,
        outcome: &Result<Outcome, PublishError>,
        generation: Option<u64>,
    ) {
        let code = match outcome {
            Ok(Outcome::Unchanged) => "unchanged",
            Ok(Outcome::Written) => "written",
            Err(error) => error.code(),
        };
        self.metrics.publication(&self.whose, code, outcome.is_ok());
        let (whose, issuer) = (self.whose.as_str(), self.issuer.as_str());
        match outcome {
            Ok(outcome) => {
                if *outcome == Outcome::Written || self.said.is_some() {
                    tracing::info!(whose, issuer, generation, "issuer documents are published");
                }
                self.said = None;
            }
            Err(error) => self.complain(code, &chain(error)),
        }
    }

    /// Says what is wrong, once.
    pub(super) fn complain(&mut self, code: &'static str, problem: &dyn fmt::Display) {
        let text = problem.to_string();
        if self.said.as_ref() != Some(&text) {
            let (whose, issuer) = (self.whose.as_str(), self.issuer.as_str());
            tracing::error!(whose, issuer, code, error = %text, "issuer documents are not published");
        }
        self.said = Some(text);
    }

    /// Reports what could not even be tried.
    pub(super) fn failed(&mut self, code: &'static str, problem: &dyn fmt::Display) {
        self.metrics.publication(&self.whose, code, false);
        self.complain(code, problem);
    }
}
