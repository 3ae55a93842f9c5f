//! The ServiceAccount opt-in: who a pod is by its ServiceAccount, and what it is told of that. The job of the EKS pod identity webhook
//! (<https://github.com/aws/amazon-eks-pod-identity-webhook>), by its annotations, variables, names and order.
//!
//! ```text
//! ServiceAccount ─▶ account ─┐
//! ConfigMap ─▶ listed ───────┼─▶ facts ─▶ resolve ─▶ Identity ─▶ container (env, mount)
//! EKS Pod Identity's file ───┘  (edge: `accounts`, `listed`)         └── pure ──┘
//! ```

mod account;
mod container;
mod glob;
mod resolve;
mod roles;

use std::sync::Arc;

use crate::annotations::AnnotationValue;
use crate::settings::{EndpointSettings, Settings};

pub(crate) use account::{AUDIENCE, CONTAINER_ROLE, EXPIRATION, ROLE, nearest};
pub use account::{Account, Misspelt};
pub(crate) use container::{AGENT_URI, additions, credential_variables, is_alone, is_other, kept};
pub(crate) use glob::matches;
pub(crate) use resolve::{in_container, resolve};
pub use roles::Roles;

/// What is known of a pod's ServiceAccount when its pod is decided on.
#[derive(Clone, Debug)]
pub struct IdentityFacts {
    /// The ServiceAccount itself.
    pub lookup: Lookup,
    /// What the ConfigMap says of it.
    pub listed: Option<Arc<Account>>,
    /// Whether EKS Pod Identity's file lists it.
    pub has_agent: bool,
}

/// What became of looking for a ServiceAccount.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// It is there.
    Found(Arc<Account>),
    /// There is none of that name.
    Missing,
    /// Nobody was asked: the pod names none, as static pods do.
    Unasked,
    /// The API server did not answer in time.
    Unanswered,
}

/// Who a pod is, and what its containers are told of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Where it comes from.
    pub origin: Origin,
    /// How its containers get credentials.
    pub credentials: Credentials<'a>,
    /// The volume with the token.
    pub volume: TokenVolume,
    /// The token's file, as a container sees it.
    pub token_file: String,
    /// The endpoint whose token it is, or whose audience a kubelet's token has; `None`: no endpoint of ours is concerned.
    pub endpoint: Option<&'a EndpointSettings>,
    /// The region.
    pub region: Option<&'a str>,
    /// Whether to use regional STS endpoints.
    pub regional_sts: bool,
    /// The session's name.
    pub session: Session,
    /// Which containers are served.
    pub scope: Scope,
}

impl Identity<'_> {
    /// The containers that annotations name.
    pub(crate) fn named_containers(&self) -> impl Iterator<Item = &str> {
        let roles = match &self.credentials {
            Credentials::Agent { .. } => None,
            Credentials::WebIdentity(roles) => Some(roles),
        };
        let of_roles = roles.into_iter().flat_map(Roles::containers);
        self.scope.names().chain(of_roles)
    }
}

/// Where an identity comes from, as audit annotations and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// EKS Pod Identity's file.
    Agent,
    /// The ConfigMap.
    ConfigMap,
    /// An annotation of the pod, for a container.
    Pod,
    /// The ServiceAccount's annotations.
    ServiceAccount,
}

impl Origin {
    /// Stable name for metrics, logs and audit annotations.
    pub fn code(self) -> &'static str {
        match self {
            Self::Agent => "container_credentials",
            Self::ConfigMap => "config_map",
            Self::Pod => "pod_annotation",
            Self::ServiceAccount => "service_account",
        }
    }

    /// What asks for the token, as a refusal names it behind "the".
    pub(crate) fn asker(self, settings: &Settings) -> String {
        let prefix = settings.identity.as_ref();
        let prefix = prefix.map_or("", |identity| identity.prefix.as_str());
        match self {
            Self::Agent => "entry of its ServiceAccount for EKS Pod Identity".to_owned(),
            Self::ConfigMap => "ConfigMap's entry of its ServiceAccount".to_owned(),
            Self::Pod => format!("annotation {prefix}/{CONTAINER_ROLE}<container>"),
            Self::ServiceAccount => format!("annotation {prefix}/{ROLE} of its ServiceAccount"),
        }
    }
}

/// How containers get credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// From the agent on their node.
    Agent {
        /// Where it answers.
        uri: &'a str,
    },
    /// From AWS's STS, for a role.
    WebIdentity(Roles),
}

/// The volume a token is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenVolume {
    /// Its name.
    pub name: String,
    /// Where it is mounted.
    pub mount_path: String,
    /// What the kubelet puts there; `None` for the sidecar's volume.
    pub projected: Option<ProjectedToken>,
}

/// A token that the kubelet keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectedToken {
    /// `aud`.
    pub audience: String,
    /// Asked for this long.
    pub seconds: u64,
    /// Its file in the volume.
    pub path: String,
}

/// `AWS_ROLE_SESSION_NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// Of the SDK's making.
    Default,
    /// As an annotation says.
    Named(AnnotationValue),
    /// The pod's name, which the kubelet fills in.
    Pod,
}

/// Which containers are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// These alone, where the pod says so.
    pub include: Option<Vec<String>>,
    /// Not these.
    pub skip: Vec<String>,
}

impl Scope {
    /// Whether a container of that name is served.
    pub fn covers(&self, container: &str) -> bool {
        let is_in = |list: &Vec<String>| list.iter().any(|name| name == container);
        self.include.as_ref().is_none_or(is_in) && !is_in(&self.skip)
    }

    /// All names it was made of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let include = self.include.iter().flatten();
        include.chain(&self.skip).map(String::as_str)
    }
}

/// Name of the volume with the kubelet's token, as AWS's webhook has it.
pub const IDENTITY_VOLUME: &str = "aws-iam-token";
/// The label that AWS's webhook gives to pods with an agent.
pub(crate) const AGENT_LABEL: &str = "eks.amazonaws.com/pod-identity";
/// The label by which a pod is left alone, whatever its value.
pub(crate) const SKIP_LABEL: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
