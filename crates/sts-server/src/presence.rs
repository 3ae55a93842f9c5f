//! Which pods and ServiceAccounts of a cluster exist, known from a watch: so that an exchange costs the API server nothing.
//!
//! ```text
//! follow: list ─▶ watch ─▶ watch … ─▶ Index (object → being deleted since?) ◀── look ── miss? ─▶ one GET, single-flighted
//! ```
//!
//! Only metadata is asked for, and of that only a fingerprint of namespace, name and uid is kept. Each sign of life of the watch is remembered, since an index that nobody
//! feeds any more would let the dead live for ever: `sts_core::liveness` decides how old it may be.

mod follow;
mod index;
mod miss;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use sts_core::ident::{ClusterName, Uid};
use sts_core::liveness::{Existence, Sighting};
use sts_core::verify::VerifiedToken;
use svc_runtime::{Condition, Shutdown};
use tokio::time::{MissedTickBehavior, interval};

use crate::api_server::{ApiServer, CallError};
use crate::metrics::Metrics;
use follow::Followed;
use wire::Kind;

/// How often readiness and metrics are told.
const REPORT: Duration = Duration::from_secs(1);

/// The pods and ServiceAccounts of one cluster.
pub(crate) struct Presence {
    cluster: ClusterName,
    pods: Followed,
    service_accounts: Followed,
}

impl Presence {
    pub(crate) fn new(cluster: ClusterName, api_server: &ApiServer) -> Self {
        let followed = |kind| Followed::new(cluster.clone(), kind, api_server.clone());
        Self {
            pods: followed(Kind::Pod),
            service_accounts: followed(Kind::ServiceAccount),
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
        let pod = token.pod();
        Ok(Some(Sighting {
            pod: self
                .pods
                .look(namespace, pod.name.as_str(), &pod.uid)
                .await?,
            service_account: self
                .service_accounts
                .look(namespace, account.name.as_str(), &account.uid)
                .await?,
            age,
        }))
    }

    /// How long ago the quieter of the two watches gave a sign of life.
    fn age(&self) -> Option<Duration> {
        let (pods, accounts) = (self.pods.age()?, self.service_accounts.age()?);
        Some(pods.max(accounts))
    }

    /// Follows both kinds until shutdown.
    pub(crate) async fn follow(&self, shutdown: Shutdown) -> Result<(), Infallible> {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.pods.follow() => {}
            () = self.service_accounts.follow() => {}
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
    watches: Vec<Arc<Presence>>,
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
        for watch in &watches {
            let trouble = watch.trouble();
            metrics.watch(&watch.cluster, trouble.is_none());
            metrics.watched(&watch.cluster, "pods", watch.pods.len());
            metrics.watched(
                &watch.cluster,
                "serviceaccounts",
                watch.service_accounts.len(),
            );
            troubles.extend(trouble);
        }
        if troubles.len() < watches.len() {
            condition.met();
        } else {
            condition.unmet(troubles.join("; "));
        }
    }
}

/// What an object is known by: namespace, name and uid together, in 16 bytes. A token that names one pod and has the uid of another is for
/// neither. None of the three can hold the separator.
fn fingerprint(namespace: &str, name: &str, uid: &Uid) -> u128 {
    let text = format!("{namespace}/{name}/{uid}");
    let digest = digest(&SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(16);
    first.fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

/// An object as the API server shows it.
fn existence(deletion: Option<sts_core::time::UnixSeconds>) -> Existence {
    deletion.map_or(Existence::Present, Existence::Ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_002_objects_are_told_apart_by_namespace_name_and_uid() {
        let uid = |text: &str| Uid::parse(text).unwrap();
        let first = uid("8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b");
        let second = uid("8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5c");
        let pod = fingerprint("a", "p1", &first);
        assert_eq!(pod, fingerprint("a", "p1", &first));
        for (namespace, name, uid) in [
            ("b", "p1", &first),
            ("a", "p2", &first),
            ("a", "p1", &second),
        ] {
            assert_ne!(pod, fingerprint(namespace, name, uid));
        }
    }
}
