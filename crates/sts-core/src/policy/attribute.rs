//! What rules and templates can ask about a subject.

use std::collections::BTreeMap;
use std::fmt;

use super::KnownLabels;
use crate::ident::{ClusterName, Namespace, PodName, ServiceAccountName, Uid};
use crate::verify::VerifiedToken;

/// What rules can ask about a subject, by OpenUnison's names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Attribute {
    /// `cluster`: the configured name of the issuer's cluster, never taken from a token.
    Cluster,
    /// `credential-id`: `JTI=` and the `jti` of the pod's token, where the cluster writes one.
    CredentialId,
    /// `groups`, the one with several values: those every ServiceAccount has by its namespace.
    Groups,
    /// `namespace` of the ServiceAccount.
    Namespace,
    /// `node-name`: the pod's node, where the token names it.
    NodeName,
    /// `node-uid`.
    NodeUid,
    /// `objectClass`: `inetOrgPerson`, for everybody.
    ObjectClass,
    /// `pod-name`.
    PodName,
    /// `pod-uid`.
    PodUid,
    /// `saname`: the ServiceAccount's name.
    ServiceAccountName,
    /// `sub`, also `username` and `token_sub`: `system:serviceaccount:<namespace>:<name>`.
    Subject,
    /// `uid` of the ServiceAccount.
    Uid,
}

/// What every subject has for `objectClass`.
const OBJECT_CLASS: &str = "inetOrgPerson";
/// The groups of every ServiceAccount (Kubernetes: `k8s.io/apiserver/pkg/authentication/serviceaccount`).
const COMMON_GROUPS: [&str; 2] = ["system:authenticated", "system:serviceaccounts"];
/// Begins the group of a namespace's ServiceAccounts.
const NAMESPACE_GROUP: &str = "system:serviceaccounts:";
/// Begins what names a token.
const CREDENTIAL_PREFIX: &str = "JTI=";
/// Begins every ServiceAccount's user name.
pub(crate) const SUBJECT_PREFIX: &str = "system:serviceaccount:";

/// What a subject's name is made of.
fn namespace_and_account(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix(SUBJECT_PREFIX)?.split_once(':')
}

impl Attribute {
    const ALL: [(&'static str, Self); 14] = [
        ("cluster", Self::Cluster),
        ("credential-id", Self::CredentialId),
        ("groups", Self::Groups),
        ("namespace", Self::Namespace),
        ("node-name", Self::NodeName),
        ("node-uid", Self::NodeUid),
        ("objectClass", Self::ObjectClass),
        ("pod-name", Self::PodName),
        ("pod-uid", Self::PodUid),
        ("saname", Self::ServiceAccountName),
        ("sub", Self::Subject),
        ("token_sub", Self::Subject),
        ("uid", Self::Uid),
        ("username", Self::Subject),
    ];

    /// The attribute of that name; names are case-sensitive, as OpenUnison's are.
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

    /// Each attribute once, under its first name.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        let synonym = |name: &str| matches!(name, "token_sub" | "username");
        Self::ALL
            .iter()
            .filter(move |(name, _)| !synonym(name))
            .map(|(_, attribute)| *attribute)
    }

    /// Whether every subject has it: then `(name=*)` says nothing.
    pub const fn is_always_there(self) -> bool {
        !matches!(self, Self::CredentialId | Self::NodeName | Self::NodeUid)
    }

    /// The values that every subject has, whoever it is.
    pub(crate) const fn common_values(self) -> &'static [&'static str] {
        match self {
            Self::Groups => &COMMON_GROUPS,
            Self::ObjectClass => &[OBJECT_CLASS],
            Self::Cluster
            | Self::CredentialId
            | Self::Namespace
            | Self::NodeName
            | Self::NodeUid
            | Self::PodName
            | Self::PodUid
            | Self::ServiceAccountName
            | Self::Subject
            | Self::Uid => &[],
        }
    }

    /// Whether some subject could have that value. A filter that asks for `Team-A` would match nobody, and its negation everybody.
    pub(crate) fn can_be(self, value: &str) -> bool {
        match self {
            Self::Cluster => ClusterName::parse(value).is_ok(),
            Self::CredentialId => value
                .strip_prefix(CREDENTIAL_PREFIX)
                .is_some_and(|id| !id.is_empty()),
            Self::Groups => {
                COMMON_GROUPS.contains(&value)
                    || value
                        .strip_prefix(NAMESPACE_GROUP)
                        .is_some_and(|name| Namespace::parse(name).is_ok())
            }
            Self::Namespace => Namespace::parse(value).is_ok(),
            Self::NodeName | Self::PodName => PodName::parse(value).is_ok(),
            Self::NodeUid => !value.is_empty(),
            Self::ObjectClass => value == OBJECT_CLASS,
            Self::PodUid | Self::Uid => Uid::parse(value).is_ok(),
            Self::ServiceAccountName => ServiceAccountName::parse(value).is_ok(),
            Self::Subject => namespace_and_account(value).is_some_and(|(namespace, name)| {
                Namespace::parse(namespace).is_ok() && ServiceAccountName::parse(name).is_ok()
            }),
        }
    }

    /// The values of others that this value of it is made of: a subject's name says namespace and ServiceAccount.
    pub(crate) fn parts_of(self, value: &str) -> Vec<(Self, &str)> {
        let namespace = |name| vec![(Self::Namespace, name)];
        match self {
            Self::Groups => value.strip_prefix(NAMESPACE_GROUP).map(namespace),
            Self::ObjectClass => None,
            Self::Subject => namespace_and_account(value).map(|(namespace, name)| {
                vec![
                    (Self::Namespace, namespace),
                    (Self::ServiceAccountName, name),
                ]
            }),
            Self::Cluster
            | Self::CredentialId
            | Self::Namespace
            | Self::NodeName
            | Self::NodeUid
            | Self::PodName
            | Self::PodUid
            | Self::ServiceAccountName
            | Self::Uid => Some(vec![(self, value)]),
        }
        .unwrap_or_default()
    }

    /// Whether that character can stand in a value.
    pub(crate) fn can_contain(self, character: char) -> bool {
        let label =
            character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        match self {
            Self::Cluster => {
                character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
            }
            Self::CredentialId | Self::NodeUid => true,
            Self::Groups => label || character == ':',
            Self::Namespace => label,
            Self::NodeName | Self::PodName | Self::ServiceAccountName => label || character == '.',
            Self::ObjectClass => character.is_ascii_alphabetic(),
            Self::PodUid | Self::Uid => matches!(character, '0'..='9' | 'a'..='f' | '-'),
            Self::Subject => label || matches!(character, '.' | ':'),
        }
    }

    /// The longest value, in characters.
    pub(crate) const fn longest(self) -> usize {
        match self {
            Self::Cluster | Self::Namespace => 63,
            Self::CredentialId => 259,
            Self::Groups => 86,
            Self::NodeName | Self::PodName | Self::ServiceAccountName => 253,
            Self::NodeUid | Self::PodUid | Self::Uid => 36,
            Self::ObjectClass => 13,
            Self::Subject => 339,
        }
    }

    /// The name in rules; the name in CEL is [`Attribute::identifier`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::CredentialId => "credential-id",
            Self::Groups => "groups",
            Self::Namespace => "namespace",
            Self::NodeName => "node-name",
            Self::NodeUid => "node-uid",
            Self::ObjectClass => "objectClass",
            Self::PodName => "pod-name",
            Self::PodUid => "pod-uid",
            Self::ServiceAccountName => "saname",
            Self::Subject => "sub",
            Self::Uid => "uid",
        }
    }

    /// The name as a variable of CEL, where `-` is an operator.
    pub fn identifier(self) -> String {
        self.name().replace('-', "_")
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
    values: BTreeMap<Attribute, String>,
    labels: KnownLabels,
    completeness: Completeness,
}

/// What it means that an attribute has no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Completeness {
    /// The subject does not have it.
    Complete,
    /// It is not known: the subject is one that somebody asks about, not one that asks.
    Supposed,
}

impl Attributes {
    /// The attributes of the subject of a token of `cluster`.
    pub fn of(token: &VerifiedToken, cluster: &ClusterName, labels: KnownLabels) -> Self {
        let account = token.service_account();
        let supposed = Self::supposed(cluster, &account.namespace, &account.name)
            .with(Attribute::Uid, account.uid.as_str())
            .with(Attribute::PodName, token.pod().name.as_str())
            .with(Attribute::PodUid, token.pod().uid.as_str());
        let mut attributes = Self {
            labels,
            completeness: Completeness::Complete,
            ..supposed
        };
        if let Some(node) = token.node() {
            attributes = attributes
                .with(Attribute::NodeName, &node.name)
                .with(Attribute::NodeUid, &node.uid);
        }
        if let Some(id) = token.id() {
            attributes =
                attributes.with(Attribute::CredentialId, &format!("{CREDENTIAL_PREFIX}{id}"));
        }
        attributes
    }

    /// What can be said of any pod with that ServiceAccount. Whatever is not added to it is not known.
    pub fn supposed(
        cluster: &ClusterName,
        namespace: &Namespace,
        account: &ServiceAccountName,
    ) -> Self {
        let attributes = Self {
            values: BTreeMap::new(),
            labels: KnownLabels::default(),
            completeness: Completeness::Supposed,
        };
        attributes
            .with(Attribute::Cluster, cluster.as_str())
            .with(Attribute::Namespace, namespace.as_str())
            .with(Attribute::ServiceAccountName, account.as_str())
            .with(Attribute::Groups, &format!("{NAMESPACE_GROUP}{namespace}"))
            .with(
                Attribute::Subject,
                &format!("{SUBJECT_PREFIX}{namespace}:{account}"),
            )
    }

    /// The same with one more value.
    #[must_use]
    pub fn with(mut self, attribute: Attribute, value: &str) -> Self {
        drop(self.values.insert(attribute, value.to_owned()));
        self
    }

    /// The same, with nothing left to be known.
    #[must_use]
    pub(crate) fn complete(self) -> Self {
        Self {
            completeness: Completeness::Complete,
            ..self
        }
    }

    /// The same with labels.
    #[must_use]
    pub fn with_labels(mut self, labels: KnownLabels) -> Self {
        self.labels = labels;
        self
    }

    /// The labels around the subject.
    pub fn labels(&self) -> &KnownLabels {
        &self.labels
    }

    /// The value of an attribute, if the subject has it and everybody else may have another.
    pub fn value(&self, attribute: Attribute) -> Option<&str> {
        self.values.get(&attribute).map(String::as_str)
    }

    /// All values of an attribute.
    pub fn values(&self, attribute: Attribute) -> impl Iterator<Item = &str> {
        let common = attribute.common_values().iter().copied();
        self.value(attribute).into_iter().chain(common)
    }

    /// Whether an attribute without a value is one that is not known, rather than one that the subject does not have.
    pub fn is_supposed(&self) -> bool {
        self.completeness == Completeness::Supposed
    }
}
