//! The pod as a decision sees it: names, labels, annotations, environment names and mounts. Nothing
//! else is read, so a field we do not know cannot disturb us, and nothing is ever written back.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A pod, partly read (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>).
#[derive(Debug, Default, Deserialize)]
pub struct PodView<'a> {
    /// Name, labels and annotations.
    #[serde(borrow, default)]
    pub metadata: MetadataView<'a>,
    /// What the pod runs.
    #[serde(borrow, default)]
    pub spec: SpecView<'a>,
    /// All of it, for the rare look at a container as a whole.
    #[serde(skip)]
    pub json: &'a str,
}

/// `metadata`, partly read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataView<'a> {
    /// The pod's name, where it has one already.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// The prefix the API server makes a name from.
    #[serde(borrow, default)]
    pub generate_name: Option<Text<'a>>,
    /// Labels.
    #[serde(borrow, default)]
    pub labels: Option<Pairs<'a>>,
    /// Annotations.
    #[serde(borrow, default)]
    pub annotations: Option<Pairs<'a>>,
}

/// `spec`, partly read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecView<'a> {
    /// The containers.
    #[serde(borrow, default)]
    pub containers: Option<Vec<ContainerView<'a>>>,
    /// Init containers, native sidecars among them.
    #[serde(borrow, default)]
    pub init_containers: Option<Vec<ContainerView<'a>>>,
    /// The ServiceAccount; the API server fills it in before it asks us.
    #[serde(borrow, default)]
    pub service_account_name: Option<Text<'a>>,
    /// The volumes.
    #[serde(borrow, default)]
    pub volumes: Option<Vec<VolumeView<'a>>>,
    /// Whether the pod shares the node's network.
    #[serde(default)]
    pub host_network: Option<bool>,
    /// Whether the containers see each other's processes.
    #[serde(default)]
    pub share_process_namespace: Option<bool>,
    /// The operating system, where the pod says so.
    #[serde(borrow, default)]
    pub os: Option<OsView<'a>>,
    /// Labels of the nodes it may run on.
    #[serde(borrow, default)]
    pub node_selector: Option<Pairs<'a>>,
    /// The pod's security context.
    #[serde(default)]
    pub security_context: Option<SecurityContextView>,
}

/// `spec.os`.
#[derive(Debug, Default, Deserialize)]
pub struct OsView<'a> {
    /// `linux` or `windows`.
    #[serde(borrow, default)]
    pub name: Text<'a>,
}

/// `spec.securityContext`, partly read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContextView {
    /// The uid of containers that do not say another.
    #[serde(default)]
    pub run_as_user: Option<i64>,
}

/// A container, partly read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Its image.
    #[serde(borrow, default)]
    pub image: Option<Text<'a>>,
    /// Its environment.
    #[serde(borrow, default)]
    pub env: Option<Vec<EnvView<'a>>>,
    /// Sources of more environment; we only want to know whether there are any.
    #[serde(default)]
    pub env_from: Option<Vec<serde::de::IgnoredAny>>,
    /// Its mounts.
    #[serde(borrow, default)]
    pub volume_mounts: Option<Vec<MountView<'a>>>,
}

impl PodView<'_> {
    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value(self.metadata.annotations.as_ref(), key)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        value(self.metadata.labels.as_ref(), key)
    }
}

impl SpecView<'_> {
    /// Whether it is for Windows nodes, as far as the pod says so.
    pub fn is_windows(&self) -> bool {
        let by_name = self
            .os
            .as_ref()
            .is_some_and(|os| os.name.as_str() == WINDOWS);
        let selector = self.node_selector.as_ref();
        by_name
            || OS_LABELS
                .iter()
                .any(|label| value(selector, label) == Some(WINDOWS))
    }
}

fn value<'p>(pairs: Option<&'p Pairs<'_>>, key: &str) -> Option<&'p str> {
    pairs.and_then(|pairs| pairs.value(key))
}

pub(crate) const WINDOWS: &str = "windows";
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-os>, and its name of old.
pub(crate) const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

impl ContainerView<'_> {
    /// The entry of the environment that counts: of two with one name, the last.
    pub fn variable(&self, name: &str) -> Option<&EnvView<'_>> {
        self.env
            .iter()
            .flatten()
            .rfind(|variable| variable.name.as_str() == name)
    }
}

/// One environment variable, partly read: a `valueFrom` has no value here.
#[derive(Debug, Default, Deserialize)]
pub struct EnvView<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Its literal value.
    #[serde(borrow, default)]
    pub value: Option<Text<'a>>,
}

/// One mount, partly read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountView<'a> {
    /// The volume's name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Where it is mounted.
    #[serde(borrow, default)]
    pub mount_path: Text<'a>,
    /// Whether it cannot be written to.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// Part of the volume that is mounted.
    #[serde(borrow, default)]
    pub sub_path: Option<Text<'a>>,
    /// The same with variables in it.
    #[serde(borrow, default)]
    pub sub_path_expr: Option<Text<'a>>,
}

/// One volume, partly read: only what tells ours from another's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeView<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Set for an emptyDir.
    #[serde(borrow, default)]
    pub empty_dir: Option<EmptyDirView<'a>>,
    /// Set for a projected volume.
    #[serde(borrow, default)]
    pub projected: Option<ProjectedView<'a>>,
}

/// An emptyDir, partly read.
#[derive(Debug, Default, Deserialize)]
pub struct EmptyDirView<'a> {
    /// `Memory` for a tmpfs.
    #[serde(borrow, default)]
    pub medium: Option<Text<'a>>,
}

/// A projected volume, partly read.
#[derive(Debug, Default, Deserialize)]
pub struct ProjectedView<'a> {
    /// What is projected.
    #[serde(borrow, default)]
    pub sources: Option<Vec<SourceView<'a>>>,
}

/// One source of a projected volume; not set for the kinds we do not make.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView<'a> {
    /// A ServiceAccount token.
    #[serde(borrow, default)]
    pub service_account_token: Option<TokenSourceView<'a>>,
}

/// A ServiceAccount token, partly read.
#[derive(Debug, Default, Deserialize)]
pub struct TokenSourceView<'a> {
    /// Its audience.
    #[serde(borrow, default)]
    pub audience: Option<Text<'a>>,
    /// Its file.
    #[serde(borrow, default)]
    pub path: Text<'a>,
}

/// A string that borrows from the request where JSON lets it.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A map of strings. A key that stands twice is an error: two readers would see two pods.
#[derive(Debug, Default)]
pub struct Pairs<'a>(BTreeMap<Text<'a>, Text<'a>>);

impl Pairs<'_> {
    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(Text::as_str)
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(Text::as_str)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
            if pairs.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(Pairs(pairs))
    }
}
