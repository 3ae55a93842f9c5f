//! Which gauges show something that is configured. The others are taken away: one that stands at its last value would look alive.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sts_config::Config;
use sts_core::ident::{ClusterName, EndpointName};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::parts::Parts;

/// A gauge, or some that come and go together.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Shown {
    /// What the endpoint is set to against our advice.
    Danger(EndpointName),
    KeySet(ClusterName),
    PublicCluster(ClusterName),
    PublicIssuer(EndpointName),
    /// Of an endpoint's or a cluster's documents.
    Published(String),
    SigningKeys(EndpointName),
    Watch(ClusterName),
}

/// What the gauges may show. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    present: BTreeSet<Shown>,
    /// Of a version that is not in use yet.
    coming: BTreeSet<Shown>,
    /// Taken away until then, again and again: a task that ends may still show something.
    gone: BTreeMap<Shown, Instant>,
}

/// The gauges of a version that is not in use yet. If it is dropped they go again.
#[derive(Debug)]
pub(crate) struct Coming(Gauges);

/// How long a task that is told to end may take.
const LONGEST_END: Duration = Duration::from_secs(120);

impl Gauges {
    pub(crate) fn prepare(&self, config: &Config, parts: &Parts) -> Coming {
        self.lock().coming = gauges_of(config, parts);
        Coming(self.clone())
    }

    /// Takes away what shows nothing that is configured.
    pub(crate) fn sweep(&self, metrics: &Metrics) {
        let mut known = self.lock();
        let Known {
            present,
            coming,
            gone,
        } = &mut *known;
        let now = Instant::now();
        gone.retain(|_, until| now < *until);
        let gone = gone.keys();
        for gauge in gone.filter(|gauge| !present.contains(gauge) && !coming.contains(gauge)) {
            metrics.forget(gauge);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coming {
    /// The version is in use.
    pub(crate) fn arrive(self) {
        let mut known = self.0.lock();
        let new = mem::take(&mut known.coming);
        let old = mem::replace(&mut known.present, new);
        known.leave(old);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut known = self.0.lock();
        let unused = mem::take(&mut known.coming);
        known.leave(unused);
    }
}

impl Known {
    fn leave(&mut self, gauges: BTreeSet<Shown>) {
        let until = Instant::now() + LONGEST_END;
        self.gone
            .extend(gauges.into_iter().map(|gauge| (gauge, until)));
    }
}

fn gauges_of(config: &Config, parts: &Parts) -> BTreeSet<Shown> {
    let mut gauges = BTreeSet::new();
    for cluster in &config.clusters {
        gauges.insert(Shown::KeySet(cluster.name.clone()));
        if let Some(publish) = &cluster.publish {
            gauges.insert(Shown::Published(cluster.name.as_str().to_owned()));
            if publish.documents.read_back.is_some() {
                gauges.insert(Shown::PublicCluster(cluster.name.clone()));
            }
        }
    }
    let watches = parts.watches.iter();
    gauges.extend(watches.map(|watch| Shown::Watch(watch.cluster.name.clone())));
    for endpoint in &config.endpoints {
        let name = &endpoint.name;
        gauges.insert(Shown::SigningKeys(name.clone()));
        if endpoint.publish.is_some() {
            gauges.insert(Shown::Published(name.as_str().to_owned()));
        }
        if endpoint.documents.read_back.is_some() {
            gauges.insert(Shown::PublicIssuer(name.clone()));
        }
        if !endpoint.danger.api_server_audiences.is_empty() {
            gauges.insert(Shown::Danger(name.clone()));
        }
    }
    gauges
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn version(gauges: &Gauges, names: &[&str]) -> Coming {
        let names = names.iter().map(|name| ClusterName::parse(name).unwrap());
        gauges.lock().coming = names.map(Shown::KeySet).collect();
        Coming(gauges.clone())
    }

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_gauge_goes_with_what_it_shows_and_also_if_that_never_came() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let gauges = Gauges::default();
        let name = |name: &str| ClusterName::parse(name).unwrap();
        version(&gauges, &["stays", "goes"]).arrive();
        let coming = version(&gauges, &["stays", "comes"]);
        for cluster in ["stays", "goes", "comes"] {
            metrics.key_set(&name(cluster), true);
        }
        gauges.sweep(&metrics);
        assert!(shown(&registry).contains("goes") && shown(&registry).contains("comes"));
        drop(coming);
        gauges.sweep(&metrics);
        assert!(!shown(&registry).contains("comes"));
        version(&gauges, &["stays"]).arrive();
        gauges.sweep(&metrics);
        // Its task had not ended yet.
        metrics.key_set(&name("goes"), false);
        gauges.sweep(&metrics);
        let text = shown(&registry);
        assert!(!text.contains("goes") && text.contains("stays"), "{text}");
        tokio::time::advance(LONGEST_END).await;
        gauges.sweep(&metrics);
        assert!(gauges.lock().gone.is_empty());
    }
}
