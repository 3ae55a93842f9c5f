//! Which pods and ServiceAccounts of a cluster exist, known from a watch: so that an exchange costs the API server nothing.
//!
//! ```text
//! follow: list ─▶ watch ─▶ watch … ─▶ Index (object → being deleted since? labels) ◀── look ── miss? ─▶ one GET, single-flighted
//! ```
//!
//! Only metadata is asked for, and of that only a fingerprint of namespace, name and uid is kept, and the labels that rules ask for. Each sign of life of the watch is remembered, since an index that nobody
//! feeds any more would let the dead live for ever: `sts_core::liveness` decides how old it may be.

mod follow;
mod index;
mod miss;
mod moment;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use sts_core::ident::{ClusterName, Uid};
use sts_core::liveness::{Existence, Sighting};
use sts_core::policy::{KnownLabels, LabelKeys, Labels};
use sts_core::verify::VerifiedToken;
use svc_runtime::{Condition, Shutdown};
use tokio::time::{MissedTickBehavior, interval};

use crate::api_server::{ApiServer, CallError};
use crate::metrics::Metrics;
use follow::Followed;
use index::Entry;
pub(crate) use wire::{Kind, Object};

/// How often readiness and metrics are told.
const REPORT: Duration = Duration::from_secs(1);

/// The pods and ServiceAccounts of one cluster, and its namespaces where rules ask for their labels.
pub(crate) struct Presence {
    cluster: ClusterName,
    pods: Followed,
    service_accounts: Followed,
    namespaces: Option<Followed>,
}

/// What the watch knows of the labels around a token's pod.
pub(crate) struct Around {
    /// Whether the pod is there at all.
    pub(crate) pod: Existence,
    pub(crate) labels: KnownLabels,
    /// As in [`Sighting`].
    pub(crate) age: Duration,
}

impl Presence {
    /// Follows what `labels` asks for too, and knows of no other labels.
    pub(crate) fn new(cluster: ClusterName, api_server: &ApiServer, labels: &LabelKeys) -> Self {
        let LabelKeys { pod, namespace } = labels;
        let followed =
            |kind, keys: Vec<_>| Followed::new(cluster.clone(), kind, api_server.clone(), keys);
        let namespaces = (!namespace.is_empty())
            .then(|| followed(Kind::Namespace, namespace.iter().cloned().collect()));
        Self {
            pods: followed(Kind::Pod, pod.iter().cloned().collect()),
            service_accounts: followed(Kind::ServiceAccount, Vec::new()),
            namespaces,
            cluster,
        }
    }

    /// What is known of a token's subject. What the watch does not have is asked for, once for all who ask at the same time: a pod may
    /// come before its event. `None` before the first list is through.
    pub(crate) async fn look(&self, token: &VerifiedToken) -> Result<Option<Sighting>, CallError> {
        let Some(age) = self.age() else {
            return Ok(None);
        };
        let account = token.service_account();
        let namespace = account.namespace.as_str();
        let service_account =
            self.service_accounts
                .look(namespace, account.name.as_str(), Some(&account.uid));
        Ok(Some(Sighting {
            pod: existence(self.pod(token).await?.as_ref()),
            service_account: existence(service_account.await?.as_ref()),
            age,
        }))
    }

    /// What is known of the labels around a token's pod, in the same way.
    pub(crate) async fn look_around(
        &self,
        token: &VerifiedToken,
    ) -> Result<Option<Around>, CallError> {
        let Some(age) = self.age() else {
            return Ok(None);
        };
        let pod = self.pod(token).await?;
        let namespace = match &self.namespaces {
            Some(namespaces) => {
                let name = token.service_account().namespace.as_str();
                let found = namespaces.look("", name, None).await?;
                found.map(|entry| namespaces.labels(entry))
            }
            None => None,
        };
        Ok(Some(Around {
            pod: existence(pod.as_ref()),
            labels: KnownLabels {
                pod: pod.map_or_else(Labels::new, |entry| self.pods.labels(entry)),
                namespace: namespace.unwrap_or_default(),
            },
            age,
        }))
    }

    /// Whether the first lists are through.
    pub(crate) fn is_listed(&self) -> bool {
        self.age().is_some()
    }

    async fn pod(&self, token: &VerifiedToken) -> Result<Option<Entry>, CallError> {
        let namespace = token.service_account().namespace.as_str();
        let pod = token.pod();
        let name = pod.name.as_str();
        self.pods.look(namespace, name, Some(&pod.uid)).await
    }

    /// All that is followed.
    fn followed(&self) -> impl Iterator<Item = &Followed> {
        [&self.pods, &self.service_accounts]
            .into_iter()
            .chain(&self.namespaces)
    }

    /// How long ago the quietest of the watches gave a sign of life.
    fn age(&self) -> Option<Duration> {
        let ages: Option<Vec<Duration>> = self.followed().map(Followed::age).collect();
        ages?.into_iter().max()
    }

    /// Follows all of it until shutdown.
    pub(crate) async fn follow(&self, shutdown: Shutdown) -> Result<(), Infallible> {
        let following = join_all(self.followed().map(Followed::follow));
        tokio::select! {
            () = shutdown.requested() => {}
            _ = following => {}
        }
        Ok(())
    }

    /// How it goes, in words, if the watch cannot be relied on.
    fn trouble(&self) -> Option<String> {
        let cluster = &self.cluster;
        match self.age() {
            None => Some(format!("cluster {cluster} is not listed yet")),
            Some(age) if age > Sighting::FRESH => Some(format!(
                "cluster {cluster} gave no sign of life for {} s",
                age.as_secs()
            )),
            Some(_) => None,
        }
    }
}

/// Tells readiness and metrics of all watches, until shutdown. One cluster's outage must not take the others' service away: the condition
/// is met as long as one of several watches can be relied on.
pub(crate) async fn report(
    watches: Arc<ArcSwap<Vec<Arc<Presence>>>>,
    metrics: Metrics,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let mut ticks = interval(REPORT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mut troubles = Vec::new();
        let watches = watches.load();
        for watch in watches.iter() {
            let trouble = watch.trouble();
            metrics.watch(&watch.cluster, trouble.is_none());
            for followed in watch.followed() {
                metrics.watched(&watch.cluster, followed.plural(), followed.len());
            }
            troubles.extend(trouble);
        }
        if troubles.len() < watches.len() || watches.is_empty() {
            condition.met();
        } else {
            condition.unmet(troubles.join("; "));
        }
    }
}

/// What an object is known by: namespace, name and uid together, in 16 bytes. A token that names one pod and has the uid of another is for
/// neither. None of the three can hold the separator.
fn fingerprint(namespace: &str, name: &str, uid: Option<&Uid>) -> u128 {
    let uid = uid.map_or("", Uid::as_str);
    let text = format!("{namespace}/{name}/{uid}");
    let digest = digest(&SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(16);
    first.fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

/// An object as the API server shows it.
fn existence(entry: Option<&Entry>) -> Existence {
    match entry {
        None => Existence::Absent,
        Some(entry) => entry.deletion.map_or(Existence::Present, Existence::Ending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_002_objects_are_told_apart_by_namespace_name_and_uid() {
        let uid = |text: &str| Uid::parse(text).unwrap();
        let first = uid("8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b");
        let second = uid("8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5c");
        let pod = fingerprint("a", "p1", Some(&first));
        assert_eq!(pod, fingerprint("a", "p1", Some(&first)));
        for (namespace, name, uid) in [
            ("b", "p1", &first),
            ("a", "p2", &first),
            ("a", "p1", &second),
        ] {
            assert_ne!(pod, fingerprint(namespace, name, Some(uid)));
        }
    }
}
