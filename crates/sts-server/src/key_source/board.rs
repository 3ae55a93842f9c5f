//! What readiness, metrics and log say of all key sets together.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sts_core::ident::{ClusterName, Issuer};
use svc_runtime::Condition;

use super::KeySource;
use crate::discovered::{Conflict, Terms, conflicts};
use crate::metrics::Metrics;

/// Tells of the key sets. One cluster's outage must not take the others' service away: the condition is met as long as one set of several
/// can be used.
pub(crate) struct KeySetBoard {
    metrics: Metrics,
    /// Held while the sources are looked at, so that the last one who tells has seen what all the others have read.
    known: Mutex<Known>,
}

struct Known {
    sources: Vec<Arc<KeySource>>,
    terms: Vec<Terms>,
    conflicts: BTreeSet<Conflict>,
    condition: Condition,
}

impl KeySetBoard {
    /// Of no key sets yet.
    pub(crate) fn new(metrics: Metrics, condition: Condition) -> Self {
        let known = Known {
            sources: Vec::new(),
            terms: Vec::new(),
            conflicts: BTreeSet::new(),
            condition,
        };
        Self {
            metrics,
            known: Mutex::new(known),
        }
    }

    /// These are the key sets from now on, and what endpoints take for granted of them.
    pub(crate) fn replace(&self, sources: Vec<Arc<KeySource>>, terms: Vec<Terms>) {
        self.change(|known| {
            known.sources = sources;
            known.terms = terms;
        });
    }

    /// A source was read, or could not be.
    pub(super) fn tell(&self, source: &KeySource, read: bool) {
        self.metrics.key_set(&source.cluster, read);
        self.change(|_| {});
    }

    /// What stands against other terms, of other key sets, and not against the present ones.
    pub(crate) fn new_conflicts(
        &self,
        sources: &[Arc<KeySource>],
        terms: &[Terms],
    ) -> Vec<Conflict> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = conflicts(terms, &issuers(sources));
        found.difference(&known.conflicts).cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        known.say_whether_ready();
        known.say_conflicts(&self.metrics);
    }
}

impl Known {
    fn say_whether_ready(&self) {
        if self.sources.iter().any(|any| any.current().is_some()) {
            self.condition.met();
        } else {
            let names = self.sources.iter().map(|one| one.cluster.as_str());
            let names: Vec<&str> = names.collect();
            self.condition.unmet(format!(
                "no key set could be read, of cluster {}",
                names.join(", ")
            ));
        }
    }

    /// Each once. Readiness does not wait for an end of them: other endpoints are served, and no replica is better off.
    fn say_conflicts(&mut self, metrics: &Metrics) {
        let found = conflicts(&self.terms, &issuers(&self.sources));
        for conflict in found.difference(&self.conflicts) {
            tracing::error!(endpoint = %conflict.endpoint(), "{conflict}");
        }
        for gone in self.conflicts.difference(&found) {
            metrics.conflict_gone(gone);
        }
        for conflict in &found {
            metrics.conflict(conflict);
        }
        self.conflicts = found;
    }
}

fn issuers(sources: &[Arc<KeySource>]) -> Vec<(ClusterName, Issuer)> {
    let named = |source: &Arc<KeySource>| Some((source.cluster.clone(), source.issuer()?));
    sources.iter().filter_map(named).collect()
}
