//! The calls about a key Secret. Each has a time limit; a lost race is an answer, not an error.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{GetParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use sts_core::time::UnixSeconds;
use tokio::time::{Instant, timeout};

use super::api_clock::{parse_date, seconds};
use super::{PATIENCE, SigningKeyError};

/// A key Secret at the API server.
pub(super) struct Store {
    client: Client,
    api: Api<Secret>,
    namespace: String,
    name: String,
}

/// What others wrote on the Secret, such as helm: it comes back with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What was read, and when.
pub(super) struct Reading {
    pub(super) secret: Option<Secret>,
    /// What the API server's clock said.
    pub(super) date: Option<UnixSeconds>,
    /// Before the request was sent: what was read is not older than this.
    pub(super) begun: Instant,
    pub(super) begun_wall: Timestamp,
}

impl Store {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(super) fn api(&self) -> Api<Secret> {
        self.api.clone()
    }

    /// Reads the Secret as the cluster has agreed on it, and the API server's clock.
    pub(super) async fn read(&self) -> Result<Reading, SigningKeyError> {
        let (begun, begun_wall) = (Instant::now(), svc_runtime::clock::now());
        let call = async {
            let request = Request::new(Secret::url_path(&(), Some(&self.namespace)));
            let request = request
                .get(&self.name, &GetParams::default())
                .map_err(kube::Error::BuildRequest)?;
            let response = self.client.send(request.map(Body::from)).await?;
            let date = response
                .headers()
                .get("date")
                .and_then(|date| date.to_str().ok());
            let date = date.and_then(parse_date);
            let (parts, body) = response.into_parts();
            let body = body.collect_bytes().await?;
            if parts.status == 404 {
                return Ok((None, date));
            }
            if !parts.status.is_success() {
                return Err(refused(&body));
            }
            let secret = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            Ok((Some(secret), date))
        };
        let (secret, date) = self.in_time("read", call).await?;
        Ok(Reading {
            secret,
            date: date.or_else(|| seconds(begun_wall)),
            begun,
            begun_wall,
        })
    }

    /// Makes the Secret empty, by server-side apply: it is the same whoever does it, changes nothing in a Secret that is there, and is
    /// the one way of creating that RBAC can allow for a single name.
    pub(super) async fn create_empty(&self, labels: Labels) -> Result<(), SigningKeyError> {
        let empty = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: labels.labels,
                annotations: labels.annotations,
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let parameters = PatchParams {
            field_manager: Some(CREATOR.to_owned()),
            force: true,
            ..PatchParams::default()
        };
        let patch = Patch::Apply(&empty);
        let call = self.api.patch(&self.name, &parameters, &patch);
        match timeout(PATIENCE, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Err(SigningKeyError::SecretMissing {
                    name: self.name.clone(),
                })
            }
            Ok(Err(source)) => Err(self.failed("created", source)),
            Err(_elapsed) => Err(SigningKeyError::Silence),
        }
    }

    /// Replaces the Secret if it is still the one that was read. `None`: somebody else was faster.
    pub(super) async fn replace(&self, secret: &Secret) -> Result<Option<Secret>, SigningKeyError> {
        let parameters = PostParams {
            field_manager: Some("kube-sts-server".to_owned()),
            ..PostParams::default()
        };
        let call = async {
            match self.api.replace(&self.name, &parameters, secret).await {
                Ok(written) => Ok(Some(written)),
                // 404: it was deleted meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        self.in_time("written", call).await
    }

    async fn in_time<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, SigningKeyError> {
        match timeout(PATIENCE, call).await {
            Ok(answer) => answer.map_err(|source| self.failed(verb, source)),
            Err(_elapsed) => Err(SigningKeyError::Silence),
        }
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> SigningKeyError {
        SigningKeyError::Kubernetes {
            name: self.name.clone(),
            verb,
            source: Box::new(source),
        }
    }
}

/// Apart from the manager of later writes, so that no apply ever takes a field away.
const CREATOR: &str = "kube-sts-server-create";

/// The API server's refusal, as it words it.
fn refused(body: &[u8]) -> kube::Error {
    match serde_json::from_slice(body) {
        Ok(status) => kube::Error::Api(Box::new(status)),
        Err(error) => kube::Error::SerdeError(error),
    }
}
