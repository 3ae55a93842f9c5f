//! An endpoint's rules: who may have its token.

mod filter;

use std::fmt;

pub use filter::{Filter, FilterError, FilterErrorKind};

use crate::ident::ClusterName;
use crate::verify::VerifiedToken;

/// What rules can ask about a subject. OpenUnison's names, each with one value.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Attribute {
    /// `cluster`: the configured name of the issuer's cluster, never taken from a token.
    Cluster,
    /// `namespace` of the ServiceAccount.
    Namespace,
    /// `node-name`: the pod's node, where the token names it.
    NodeName,
    /// `node-uid`.
    NodeUid,
    /// `pod-name`.
    PodName,
    /// `pod-uid`.
    PodUid,
    /// `saname`: the ServiceAccount's name.
    ServiceAccountName,
    /// `sub`, also `username`: `system:serviceaccount:<namespace>:<name>`.
    Subject,
    /// `uid` of the ServiceAccount.
    Uid,
}

impl Attribute {
    const ALL: [(&'static str, Self); 10] = [
        ("cluster", Self::Cluster),
        ("namespace", Self::Namespace),
        ("node-name", Self::NodeName),
        ("node-uid", Self::NodeUid),
        ("pod-name", Self::PodName),
        ("pod-uid", Self::PodUid),
        ("saname", Self::ServiceAccountName),
        ("sub", Self::Subject),
        ("uid", Self::Uid),
        ("username", Self::Subject),
    ];

    /// The attribute of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, attribute)| *attribute)
    }

    /// All names, for an error message.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name)
    }

    /// Whether every subject has it: then `(name=*)` says nothing.
    pub const fn is_always_there(self) -> bool {
        !matches!(self, Self::NodeName | Self::NodeUid)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
            Self::NodeName => "node-name",
            Self::NodeUid => "node-uid",
            Self::PodName => "pod-name",
            Self::PodUid => "pod-uid",
            Self::ServiceAccountName => "saname",
            Self::Subject => "sub",
            Self::Uid => "uid",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The attributes of one subject.
#[derive(Clone, Debug)]
pub struct Attributes {
    cluster: String,
    namespace: String,
    node_name: Option<String>,
    node_uid: Option<String>,
    pod_name: String,
    pod_uid: String,
    service_account: String,
    subject: String,
    uid: String,
}

impl Attributes {
    /// The attributes of the subject of a token of `cluster`.
    pub fn of(token: &VerifiedToken, cluster: &ClusterName) -> Self {
        let account = token.service_account();
        Self {
            cluster: cluster.as_str().to_owned(),
            namespace: account.namespace.as_str().to_owned(),
            node_name: token.node().map(|node| node.name.clone()),
            node_uid: token.node().map(|node| node.uid.clone()),
            pod_name: token.pod().name.as_str().to_owned(),
            pod_uid: token.pod().uid.as_str().to_owned(),
            service_account: account.name.as_str().to_owned(),
            subject: account.username(),
            uid: account.uid.as_str().to_owned(),
        }
    }

    /// The value of an attribute, if the subject has it.
    pub fn value(&self, attribute: Attribute) -> Option<&str> {
        match attribute {
            Attribute::Cluster => Some(&self.cluster),
            Attribute::Namespace => Some(&self.namespace),
            Attribute::NodeName => self.node_name.as_deref(),
            Attribute::NodeUid => self.node_uid.as_deref(),
            Attribute::PodName => Some(&self.pod_name),
            Attribute::PodUid => Some(&self.pod_uid),
            Attribute::ServiceAccountName => Some(&self.service_account),
            Attribute::Subject => Some(&self.subject),
            Attribute::Uid => Some(&self.uid),
        }
    }
}

/// Who may have an endpoint's token.
#[derive(Clone, Debug)]
pub enum Policy {
    /// Every subject: the operator has written `allowAll: true`.
    AllowAll,
    /// Subjects that one of the filters matches. None of them: nobody.
    AnyOf(Vec<Filter>),
}
