//! A ConfigMap in our namespace, for a web server to mount: each document is an entry named as the last part of its path.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::timeout;

use super::{Version, Written};
use crate::document::{Document, Held};
use crate::error::{CallError, PATIENCE, PublishError};

/// The ConfigMap.
#[derive(Debug)]
pub(crate) struct ConfigMapStore {
    api: Api<ConfigMap>,
    name: String,
}

impl ConfigMapStore {
    pub(crate) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
        }
    }

    pub(crate) async fn read(&self, path: &str) -> Result<(Option<Held>, Version), PublishError> {
        let found = timeout(PATIENCE, self.api.get_opt(&self.name)).await;
        let found = found.or(Err(PublishError::Slow))?;
        let found = found.map_err(|error| self.failed(path, "read", error))?;
        let config_map = found.ok_or_else(|| PublishError::Missing {
            name: self.name.clone(),
        })?;
        let text = config_map
            .data
            .as_ref()
            .and_then(|data| data.get(entry(path)));
        let mark = config_map.annotations().get(&mark(path));
        let held = text.map(|text| Held {
            bytes: text.clone().into_bytes(),
            generation: mark.and_then(|mark| mark.parse().ok()),
            headers: None,
        });
        Ok((held, Version::ConfigMap(Box::new(config_map))))
    }

    /// Replaces the ConfigMap if its `resourceVersion` is still the one that was read.
    pub(crate) async fn write(
        &self,
        document: &Document<'_>,
        version: Version,
    ) -> Result<Written, PublishError> {
        let Version::ConfigMap(mut config_map) = version else {
            return Ok(Written::Conflict);
        };
        let path = document.path;
        config_map
            .data
            .get_or_insert_default()
            .insert(entry(path).to_owned(), document.text.to_owned());
        if let Some(generation) = document.generation {
            config_map
                .annotations_mut()
                .insert(mark(path), generation.to_string());
        }
        let parameters = PostParams {
            field_manager: Some("kube-sts-publisher".to_owned()),
            ..PostParams::default()
        };
        let writing = self.api.replace(&self.name, &parameters, &config_map);
        match timeout(PATIENCE, writing).await {
            Ok(Ok(_)) => Ok(Written::Done),
            // 404: it was deleted meanwhile.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Ok(Written::Conflict)
            }
            Ok(Err(error)) => Err(self.failed(path, "written", error)),
            Err(_elapsed) => Err(PublishError::Slow),
        }
    }

    pub(crate) fn entry(&self, path: &str) -> String {
        format!("ConfigMap {}, entry {}", self.name, entry(path))
    }

    fn failed(&self, path: &str, verb: &'static str, source: kube::Error) -> PublishError {
        PublishError::Store {
            object: self.entry(path),
            verb,
            source: CallError::Kubernetes(Box::new(source)),
        }
    }
}

fn entry(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The annotation with a document's generation.
fn mark(path: &str) -> String {
    format!("sts.tremolo.io/generation.{}", entry(path))
}
