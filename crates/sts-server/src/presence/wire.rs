//! What is read of the API server's lists, objects and events: names, uids, deletion times and labels. kube's own metadata type would build trees of
//! `managedFields`, 17 KB for each pod.

use std::collections::{BTreeSet, HashMap};

use axum::http::Request;
use kube::api::{GetParams, ListParams, WatchParams};
use kube::core::Request as Resource;
use serde::Deserialize;
use sts_core::ident::{LabelKey, Uid};
use sts_core::policy::Labels;
use sts_core::time::UnixSeconds;

use super::index::{Entry, Kept};
use crate::api_server::CallError;

/// What is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Namespace,
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
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::ServiceAccount => "serviceaccounts",
        }
    }

    /// A pod that has run to its end needs no token, whoever has kept its old one.
    const fn running(self) -> Option<&'static str> {
        match self {
            Self::Pod => Some("status.phase!=Succeeded,status.phase!=Failed"),
            Self::Namespace | Self::ServiceAccount => None,
        }
    }

    /// The path of a namespace's objects; the namespace itself is in none.
    fn path(self, namespace: &str) -> String {
        match self {
            Self::Namespace => "/api/v1/namespaces".to_owned(),
            Self::Pod | Self::ServiceAccount => {
                format!("/api/v1/namespaces/{namespace}/{}", self.plural())
            }
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
        Resource::new(self.path(namespace))
            .list_metadata(&ListParams::default().fields(&selector))
            .or(Err(CallError::Malformed))
    }

    /// The same with the right to `get` alone, also if it is a pod that has finished.
    pub(crate) fn get(self, namespace: &str, name: &str) -> Result<Request<Vec<u8>>, CallError> {
        Resource::new(self.path(namespace))
            .get_metadata(name, &GetParams::default())
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
    pub(super) fn parse(text: &[u8]) -> Result<Self, CallError> {
        serde_json::from_slice(text).or(Err(CallError::Malformed))
    }

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
pub(crate) struct Object {
    metadata: Metadata,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    /// Empty for a namespace.
    #[serde(default)]
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<jiff::Timestamp>,
    labels: Option<HashMap<String, String>>,
}

impl Object {
    /// What it is known by: a namespace by its name alone, since tokens know no more of it. An API server that gives no UUIDs is none
    /// that we know.
    pub(super) fn fingerprint(&self, kind: Kind) -> Result<u128, CallError> {
        let Metadata {
            namespace, name, ..
        } = &self.metadata;
        let uid = self.uid()?;
        Ok(match kind {
            Kind::Namespace => super::fingerprint("", name, None),
            Kind::Pod | Kind::ServiceAccount => super::fingerprint(namespace, name, Some(&uid)),
        })
    }

    pub(crate) fn uid(&self) -> Result<Uid, CallError> {
        Uid::parse(&self.metadata.uid).or(Err(CallError::Malformed))
    }

    /// What is kept of it.
    pub(super) fn entry(&self, keys: &[LabelKey]) -> Entry {
        let value = |key: &LabelKey| self.label(key).map(Box::<str>::from);
        Entry {
            deletion: self.deletion(),
            labels: keys.iter().map(value).collect::<Kept>(),
        }
    }

    /// What it has under these keys.
    pub(crate) fn labels(&self, keys: &BTreeSet<LabelKey>) -> Labels {
        let value = |key: &LabelKey| (key.clone(), self.label(key).map(str::to_owned));
        keys.iter().map(value).collect()
    }

    fn label(&self, key: &LabelKey) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(key.as_str()).map(String::as_str)
    }

    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// A time before 1970 is long ago.
    fn deletion(&self) -> Option<UnixSeconds> {
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

    /// So no variable, argument or volume of a pod ever reaches this process.
    #[test]
    fn rbac_010_pods_are_asked_for_as_metadata_alone() {
        for kind in [Kind::Pod, Kind::ServiceAccount, Kind::Namespace] {
            let requests = [
                kind.list(None),
                kind.list(Some("next")),
                kind.watch("1"),
                kind.one("apps", "web"),
                kind.get("apps", "web"),
            ];
            for request in requests {
                let request = request.unwrap();
                let accept = request.headers()["accept"].to_str().unwrap();
                for choice in accept.split(',') {
                    assert!(choice.contains(";as=PartialObjectMetadata"), "{accept}");
                }
            }
        }
    }

    /// As kube-apiserver 1.36 writes it.
    #[test]
    fn a_list_of_nothing_is_a_list() {
        let text = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"items":null}"#;
        let page: Page = serde_json::from_str(text).unwrap();
        assert_eq!(page.items().len(), 0);
        assert_eq!(page.metadata.resource_version, "7");
    }

    #[test]
    fn of_metadata_only_names_version_deletion_and_labels_are_read() {
        let text = r#"{"metadata":{"namespace":"n","name":"p","uid":"11111111-2222-4333-8444-555555555555","resourceVersion":"9",
            "deletionTimestamp":"2027-01-15T08:00:00Z","labels":{"tier":"web","other":"x"},"managedFields":[{"fieldsV1":{"f:metadata":{}}}]}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        let uid = Uid::parse("11111111-2222-4333-8444-555555555555").unwrap();
        let expected = super::super::fingerprint("n", "p", Some(&uid));
        assert_eq!(object.fingerprint(Kind::Pod).ok(), Some(expected));
        assert_eq!(object.version(), "9");
        let keys = ["tier", "absent"].map(|key| LabelKey::parse(key).unwrap());
        let expected = Entry {
            deletion: UnixSeconds::new(1_800_000_000),
            labels: Box::new([Some("web".into()), None]),
        };
        assert_eq!(object.entry(&keys), expected);
        let labels = object.labels(&keys.iter().cloned().collect());
        assert_eq!(labels[&keys[0]].as_deref(), Some("web"));
        assert_eq!(labels[&keys[1]], None);
    }

    #[test]
    fn a_namespace_is_known_by_its_name() {
        let text = r#"{"metadata":{"name":"n","uid":"11111111-2222-4333-8444-555555555555","resourceVersion":"9"}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        let expected = super::super::fingerprint("", "n", None);
        assert_eq!(object.fingerprint(Kind::Namespace).ok(), Some(expected));
    }
}
