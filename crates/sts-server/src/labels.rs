//! The labels around a token's pod, where no watch has them: one request for the metadata of the pod, one for that of its namespace.

use std::time::Duration;

use sts_core::ident::ClusterName;
use sts_core::policy::{KnownLabels, LabelKeys, Labels};
use sts_core::verify::VerifiedToken;
use svc_runtime::log::chain;

use crate::api_server::{ApiServer, CallError};
use crate::presence::{Kind, Object};

/// How long the API server may take for one object.
const PATIENCE: Duration = Duration::from_secs(2);
/// Annotations alone may have 256 KiB, and who manages which field is not much less.
const LARGEST_ANSWER: usize = 2 << 20;

/// Asks one cluster's API server.
#[derive(Clone)]
pub(crate) struct LabelReader {
    cluster: ClusterName,
    api_server: ApiServer,
}

impl LabelReader {
    pub(crate) fn new(cluster: ClusterName, api_server: ApiServer) -> Self {
        Self {
            cluster,
            api_server,
        }
    }

    /// The labels under these keys, for a token whose signature is checked: nobody else can make us ask. `None` if the token's pod is
    /// not there, or another one of its name is.
    pub(crate) async fn read(
        &self,
        keys: &LabelKeys,
        token: &VerifiedToken,
    ) -> Result<Option<KnownLabels>, CallError> {
        let read = tokio::try_join!(self.of_pod(keys, token), self.of_namespace(keys, token));
        if let Err(error) = &read {
            tracing::error!(cluster = %self.cluster, error = %chain(error), "labels cannot be read");
        }
        let (pod, namespace) = read?;
        Ok(pod.map(|pod| KnownLabels { pod, namespace }))
    }

    async fn of_pod(
        &self,
        keys: &LabelKeys,
        token: &VerifiedToken,
    ) -> Result<Option<Labels>, CallError> {
        if keys.pod.is_empty() {
            return Ok(Some(Labels::new()));
        }
        let namespace = token.service_account().namespace.as_str();
        let pod = token.pod();
        let found = self.get(Kind::Pod, namespace, pod.name.as_str()).await?;
        let same = found.filter(|found| found.uid().ok().as_ref() == Some(&pod.uid));
        Ok(same.map(|found| found.labels(&keys.pod)))
    }

    /// Nothing is known of a namespace that is not there.
    async fn of_namespace(
        &self,
        keys: &LabelKeys,
        token: &VerifiedToken,
    ) -> Result<Labels, CallError> {
        if keys.namespace.is_empty() {
            return Ok(Labels::new());
        }
        let name = token.service_account().namespace.as_str();
        let found = self.get(Kind::Namespace, "", name).await?;
        Ok(found.map_or_else(Labels::new, |found| found.labels(&keys.namespace)))
    }

    async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, CallError> {
        let caller = self.api_server.caller()?;
        let request = kind.get(namespace, name)?;
        match caller.call(request, LARGEST_ANSWER, PATIENCE).await {
            Ok(answer) => serde_json::from_slice(&answer)
                .map(Some)
                .or(Err(CallError::Malformed)),
            Err(CallError::Refused { status: 404 }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
