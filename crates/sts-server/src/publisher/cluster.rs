//! Publishes a cluster's own issuer documents: what its API server says of its keys, under the cluster's public issuer URL.
//!
//! Nobody signs here with those keys, and nobody decides when the API server may: whoever changes its key watches the log and the metric
//! for the new key to be public, as `docs/publishing.md` tells.

use std::convert::Infallible;
use std::time::Duration;

use sts_config::{Cluster, ClusterPublish};
use sts_core::ident::{ClusterName, Issuer};
use sts_core::publication::{Absences, ClusterDocuments, Publication};
use sts_core::time::UnixSeconds;
use sts_publish::{Outcome, PublishError, Publisher, Surroundings};
use svc_runtime::Shutdown;
use svc_runtime::log::chain;
use tokio::time::sleep;

use super::report::Report;
use super::{Opened, Pace, SetupError};
use crate::api_server::ApiServer;
use crate::key_source::{FetchError, get};
use crate::metrics::Metrics;
use crate::run::RunError;
use crate::running::Start;
use crate::signing_keys::PublicIssuer;

/// What starts to publish a cluster's own documents, if it wants that.
pub(crate) fn open_cluster(
    start: &Start,
    cluster: &Cluster,
    api_server: Option<&ApiServer>,
) -> Result<Option<Opened>, RunError> {
    // The configuration has checked that the three go together.
    let (Some(published), Some(issuer), Some(api_server)) =
        (&cluster.publish, &cluster.issuer, api_server)
    else {
        return Ok(None);
    };
    let failed = |source: SetupError| RunError::ClusterPublisher {
        cluster: cluster.name.clone(),
        source,
    };
    let surroundings = Surroundings {
        client: start.client(),
        namespace: start.namespace.clone(),
        tokens: None,
    };
    let ClusterPublish {
        publish, documents, ..
    } = published;
    let publisher = Publisher::new(publish, issuer, documents.max_age, &surroundings);
    let outside = match &documents.read_back {
        Some(read_back) => Some(PublicIssuer::new(issuer, read_back)?),
        None => None,
    };
    let name = cluster.name.as_str();
    let own = Own {
        cluster: cluster.name.clone(),
        issuer: issuer.clone(),
        published: published.clone(),
        api_server: api_server.clone(),
        publisher: publisher.map_err(failed)?,
        outside,
        absences: Absences::default(),
        report: Report::new(name, issuer, &start.metrics),
        metrics: start.metrics.clone(),
        said: None,
    };
    let following = own.follow(start.shutdown.clone());
    let tasks = start.tasks.clone();
    Ok(Some(Box::new(move || {
        tasks.spawn("cluster's publisher", following);
    })))
}

/// One cluster's own documents.
struct Own {
    cluster: ClusterName,
    issuer: Issuer,
    published: ClusterPublish,
    api_server: ApiServer,
    publisher: Publisher,
    outside: Option<PublicIssuer>,
    absences: Absences,
    report: Report,
    metrics: Metrics,
    /// What was said last of the public issuer.
    said: Option<String>,
}

/// The API server tells nobody when its keys change.
const OFTEN: Duration = Duration::from_secs(10);

impl Own {
    async fn follow(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut pace = Pace::default();
        loop {
            let round = async {
                let up = self.round().await;
                pace.after(up).min(OFTEN)
            };
            let wait = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                wait = round => wait,
            };
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = sleep(wait) => {}
            }
        }
    }

    async fn round(&mut self) -> bool {
        let documents = match self.fetch().await {
            Ok(Ok(documents)) => documents,
            Ok(Err(error)) => {
                let outcome = Err(PublishError::from(error));
                self.report.round(&outcome, None);
                return false;
            }
            Err(error) => {
                self.report.failed("not_fetched", &chain(&error));
                return false;
            }
        };
        let seconds = u64::try_from(svc_runtime::clock::now().as_second()).ok();
        let now = seconds
            .and_then(UnixSeconds::new)
            .unwrap_or(UnixSeconds::EPOCH);
        let publishing = self
            .publisher
            .publish_cluster(&documents, &mut self.absences, now);
        let (outcome, publication) = match publishing.await {
            Ok((outcome, publication)) => (Ok(outcome), Some(publication)),
            Err(error) => (Err(error), None),
        };
        self.report.round(&outcome, None);
        if let Some(publication) = publication {
            self.look_outside(&publication, outcome.ok()).await;
            return true;
        }
        false
    }

    /// What the API server says, looked at.
    async fn fetch(
        &self,
    ) -> Result<Result<ClusterDocuments, sts_core::publication::NotPublic>, FetchError> {
        let discovery = get(&self.api_server, "/.well-known/openid-configuration").await?;
        let key_set = get(&self.api_server, "/openid/v1/jwks").await?;
        let (discovery, key_set) = (
            String::from_utf8_lossy(&discovery),
            String::from_utf8_lossy(&key_set),
        );
        Ok(ClusterDocuments::parse(
            &self.issuer,
            &discovery,
            &key_set,
            self.published.key_set,
        ))
    }

    /// Reads the documents back as a relying party does.
    async fn look_outside(&mut self, publication: &Publication, outcome: Option<Outcome>) {
        let Some(outside) = &self.outside else { return };
        let problem = match outside.read().await {
            Ok(served) if served.is(publication.discovery(), publication.key_set()) => None,
            Ok(_) => Some("public issuer does not serve the cluster's documents yet".to_owned()),
            Err(error) => Some(chain(&error).to_string()),
        };
        self.metrics
            .public_cluster(&self.cluster, problem.is_some());
        let (cluster, issuer) = (self.cluster.as_str(), self.issuer.as_str());
        match &problem {
            Some(problem) if self.said.as_ref() != Some(problem) => {
                tracing::warn!(cluster, issuer, problem, "cluster's public issuer differs");
            }
            None if self.said.is_some() || outcome == Some(Outcome::Written) => {
                let keys = publication.key_ids().join(", ");
                tracing::info!(
                    cluster,
                    issuer,
                    keys,
                    "cluster's public issuer serves its keys"
                );
            }
            Some(_) | None => {}
        }
        self.said = problem;
    }
}
