//! Finds out whether the subject of a token is alive, and what labels are around it, in the way that the endpoint wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sts_config::Verification;
use sts_core::authorize::Permission;
use sts_core::ident::Uid;
use sts_core::liveness::{
    Existence, Grace, Grant, LivenessError, Sighting, Verdict, accept_in_grace, accept_offline,
    accept_seen, agree,
};
use sts_core::policy::{KnownLabels, LabelKeys};
use sts_core::time::UnixSeconds;
use sts_core::token::RawToken;
use sts_core::verify::VerifiedToken;

use crate::cluster::Cluster;
use crate::error::ExchangeError;
use crate::presence::Around;

/// How an endpoint knows that a subject is alive.
pub(crate) struct Confirming {
    verification: Verification,
    grace: Grace,
    verdicts: Arc<Verdicts>,
}

/// The API server's words, kept as long as they count. Empty without a grace.
#[derive(Default)]
pub(crate) struct Verdicts(Mutex<HashMap<Subject, Verdict>>);

/// A pod of a cluster as it was configured: of another API server under the same name nothing is known.
type Subject = (u64, Uid);

/// How many are kept. In a cluster with more pods some get no grace.
const MOST_VERDICTS: usize = 50_000;

impl Confirming {
    /// `verdicts` are those of the endpoint before its configuration changed.
    pub(crate) fn new(verification: Verification, grace: Grace, verdicts: Arc<Verdicts>) -> Self {
        Self {
            verification,
            grace,
            verdicts,
        }
    }

    /// The API server's words so far.
    pub(crate) fn verdicts(&self) -> Arc<Verdicts> {
        Arc::clone(&self.verdicts)
    }

    /// The grant for a permission, if its subject is alive as far as the endpoint wants to know.
    pub(crate) async fn confirm(
        &self,
        cluster: &Cluster,
        token: &RawToken,
        permission: Permission,
        now: UnixSeconds,
    ) -> Result<Grant, ExchangeError> {
        match self.verification {
            Verification::Jwks => Ok(accept_offline(permission)),
            Verification::TokenReview => self.review(cluster, token, permission, now).await,
            Verification::Watch => self.look(cluster, permission, now).await,
        }
    }

    /// What is known of the labels around a token's pod. What is not known is not in it, and allows nothing.
    pub(crate) async fn labels(
        &self,
        cluster: &Cluster,
        keys: &LabelKeys,
        token: &VerifiedToken,
    ) -> Result<KnownLabels, ExchangeError> {
        match self.verification {
            // The configuration is refused where rules ask for labels.
            Verification::Jwks => Ok(KnownLabels::default()),
            Verification::TokenReview => {
                let reader = cluster.labels.as_ref().ok_or(UNREACHABLE)?;
                let labels = reader.read(keys, token).await.or(Err(UNREACHABLE))?;
                labels.ok_or(ExchangeError::Liveness(LivenessError::PodGone))
            }
            Verification::Watch => {
                let presence = cluster.presence.as_ref().ok_or(UNREACHABLE)?;
                let around = presence.look_around(token).await.or(Err(UNREACHABLE))?;
                let around = around.ok_or(ExchangeError::Liveness(LivenessError::Unconfirmed))?;
                self.believe(around).map_err(ExchangeError::Liveness)
            }
        }
    }

    /// Old labels are no reason to refuse a pod for, and none to allow it: it may come back.
    fn believe(&self, around: Around) -> Result<KnownLabels, LivenessError> {
        let Around { pod, labels, age } = around;
        Sighting::confirmation(age, self.grace)?;
        match pod {
            Existence::Absent => Err(LivenessError::PodGone),
            Existence::Ending(_) | Existence::Present => Ok(labels),
        }
    }

    async fn review(
        &self,
        cluster: &Cluster,
        token: &RawToken,
        permission: Permission,
        now: UnixSeconds,
    ) -> Result<Grant, ExchangeError> {
        // The configuration is refused where a cluster cannot be called.
        let reviewer = cluster.reviewer.as_ref().ok_or(UNREACHABLE)?;
        let audience = permission.token().audience().clone();
        let pod = (cluster.serial, permission.token().pod().uid.clone());
        let review = match reviewer.review(token, &audience).await {
            Ok(review) => review,
            Err(error) if error.is_silence() => {
                let last = self.verdicts.last(&pod);
                let in_grace = |last| accept_in_grace(permission, &last, self.grace, now).ok();
                return last.and_then(in_grace).ok_or(UNREACHABLE);
            }
            Err(_) => return Err(UNREACHABLE),
        };
        match agree(permission, &review) {
            Ok(grant) => {
                self.remember(pod, &grant, now);
                Ok(grant)
            }
            Err(error) => {
                // Its newest word is a no: an older yes must not count when it falls silent later.
                self.verdicts.forget(&pod);
                Err(ExchangeError::Liveness(error))
            }
        }
    }

    fn remember(&self, pod: Subject, grant: &Grant, now: UnixSeconds) {
        if self.grace.get().is_zero() {
            return;
        }
        if let Some(verdict) = grant.verdict(now) {
            let oldest = now.saturating_sub(self.grace.get());
            self.verdicts.put(pod, verdict, oldest);
        }
    }

    async fn look(
        &self,
        cluster: &Cluster,
        permission: Permission,
        now: UnixSeconds,
    ) -> Result<Grant, ExchangeError> {
        let presence = cluster.presence.as_ref().ok_or(UNREACHABLE)?;
        let sighting = presence.look(permission.token()).await;
        let sighting = sighting.or(Err(UNREACHABLE))?;
        let sighting = sighting.ok_or(ExchangeError::Liveness(LivenessError::Unconfirmed))?;
        accept_seen(permission, sighting, self.grace, now).map_err(ExchangeError::Liveness)
    }
}

const UNREACHABLE: ExchangeError = ExchangeError::Unavailable {
    what: "the API server",
};

impl Verdicts {
    fn last(&self, key: &Subject) -> Option<Verdict> {
        self.lock().get(key).cloned()
    }

    fn forget(&self, key: &Subject) {
        drop(self.lock().remove(key));
    }

    fn put(&self, key: Subject, verdict: Verdict, oldest: UnixSeconds) {
        let mut verdicts = self.lock();
        if verdicts.len() >= MOST_VERDICTS {
            verdicts.retain(|_, verdict| verdict.at() >= oldest);
        }
        if verdicts.len() < MOST_VERDICTS {
            drop(verdicts.insert(key, verdict));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, Verdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
