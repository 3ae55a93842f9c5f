//! What is read of the API server's lists and events: names, uids and deletion times. kube's own metadata type would build trees of
//! `managedFields`, 17 KB for each pod.

use axum::http::Request;
use kube::api::{ListParams, WatchParams};
use kube::core::Request as Resource;
use serde::Deserialize;
use sts_core::ident::Uid;
use sts_core::time::UnixSeconds;

use crate::api_server::CallError;

/// What is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Pod,
    ServiceAccount,
}

/// How many objects one answer has: 1.4 MB of pods' metadata.
const PAGE: u32 = 500;
/// How long a watch is kept open, in seconds. That the next one is opened is our sign of life.
const WATCH: u32 = 10;

impl Kind {
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::ServiceAccount => "serviceaccounts",
        }
    }

    /// A pod that has run to its end needs no token, whoever has kept its old one.
    const fn running(self) -> Option<&'static str> {
        match self {
            Self::Pod => Some("status.phase!=Succeeded,status.phase!=Failed"),
            Self::ServiceAccount => None,
        }
    }

    pub(super) fn list(self, next: Option<&str>) -> Result<Request<Vec<u8>>, CallError> {
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.field_selector = self.running().map(str::to_owned);
        parameters.continue_token = next.map(str::to_owned);
        let all = Resource::new(format!("/api/v1/{}", self.plural()));
        all.list_metadata(&parameters).or(Err(CallError::Malformed))
    }

    pub(super) fn watch(self, version: &str) -> Result<Request<Vec<u8>>, CallError> {
        let mut parameters = WatchParams::default().timeout(WATCH);
        parameters.field_selector = self.running().map(str::to_owned);
        let all = Resource::new(format!("/api/v1/{}", self.plural()));
        all.watch_metadata(&parameters, version)
            .or(Err(CallError::Malformed))
    }

    /// One object, as the store has it now: a list, since only a list can leave out pods that have finished.
    pub(super) fn one(self, namespace: &str, name: &str) -> Result<Request<Vec<u8>>, CallError> {
        let mut selector = format!("metadata.name={name}");
        if let Some(running) = self.running() {
            selector.push(',');
            selector.push_str(running);
        }
        let path = format!("/api/v1/namespaces/{namespace}/{}", self.plural());
        Resource::new(path)
            .list_metadata(&ListParams::default().fields(&selector))
            .or(Err(CallError::Malformed))
    }
}

/// A list of objects.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) metadata: PageMetadata,
    /// `null` where there is none.
    items: Option<Vec<Object>>,
}

impl Page {
    pub(super) fn items(&self) -> &[Object] {
        self.items.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

impl Object {
    /// What it is known by; an API server that gives no UUIDs is none that we know.
    pub(super) fn fingerprint(&self) -> Result<u128, CallError> {
        let Metadata {
            namespace,
            name,
            uid,
            resource_version: _,
            deletion_timestamp: _,
        } = &self.metadata;
        let uid = Uid::parse(uid).or(Err(CallError::Malformed))?;
        Ok(super::fingerprint(namespace, name, &uid))
    }

    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// A time before 1970 is long ago.
    pub(super) fn deletion(&self) -> Option<UnixSeconds> {
        let at = self.metadata.deletion_timestamp?.as_second();
        Some(
            UnixSeconds::EPOCH.saturating_add(std::time::Duration::from_secs(
                u64::try_from(at).unwrap_or_default(),
            )),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver 1.36 writes it.
    #[test]
    fn a_list_of_nothing_is_a_list() {
        let text = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"items":null}"#;
        let page: Page = serde_json::from_str(text).unwrap();
        assert_eq!(page.items().len(), 0);
        assert_eq!(page.metadata.resource_version, "7");
    }

    #[test]
    fn of_metadata_only_names_version_and_deletion_are_read() {
        let text = r#"{"metadata":{"namespace":"n","name":"p","uid":"11111111-2222-4333-8444-555555555555","resourceVersion":"9",
            "deletionTimestamp":"2027-01-15T08:00:00Z","managedFields":[{"fieldsV1":{"f:metadata":{}}}]}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        let uid = Uid::parse("11111111-2222-4333-8444-555555555555").unwrap();
        let expected = super::super::fingerprint("n", "p", &uid);
        assert_eq!(object.fingerprint().ok(), Some(expected));
        assert_eq!(object.version(), "9");
        assert_eq!(object.deletion().map(UnixSeconds::get), Some(1_800_000_000));
    }
}
