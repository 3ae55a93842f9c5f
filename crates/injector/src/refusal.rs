//! Why a pod is refused: facts, and the one sentence its author reads.

use crate::annotations::AnnotationProblem;
use crate::review::PodName;
use crate::settings::{AnnotationShape, expected};

/// A reason to refuse a pod. Each sentence names the pod, what is wrong, and the remedy; none
/// repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The ServiceAccount could not be looked up, and the operator wants pods to wait then.
    #[error(
        "pod {pod}: the API server did not say in time which role ServiceAccount {account} has: try again in a few seconds, or have an operator look into the injector's log, and whether it may get ServiceAccounts"
    )]
    AccountUnanswered {
        /// The pod.
        pod: PodName,
        /// The ServiceAccount, made printable.
        account: String,
    },
    /// The annotation's value is not of the endpoint's shape.
    #[error(
        "pod {pod}: annotation {key} {problem}; expected {}: correct the annotation or remove the label {key}",
        expected(*shape)
    )]
    AnnotationInvalid {
        /// The pod.
        pod: PodName,
        /// The annotation's key, which is the label's too.
        key: String,
        /// What is wrong.
        problem: AnnotationProblem,
        /// What is expected.
        shape: AnnotationShape,
    },
    /// A label asks for a token, but its annotation is missing or empty.
    #[error(
        "pod {pod}: label {key} is set, but annotation {key} is missing or empty; expected {}: add the annotation or remove the label",
        expected(*shape)
    )]
    AnnotationMissing {
        /// The pod.
        pod: PodName,
        /// The key of both.
        key: String,
        /// What is expected.
        shape: AnnotationShape,
    },
    /// A container has our sidecar's name, but is another.
    #[error(
        "pod {pod}: container name {container} belongs to the sidecar that {key} asks for, and this one is not it: rename or remove the container, or remove the {key}"
    )]
    ContainerNameTaken {
        /// The pod.
        pod: PodName,
        /// The name.
        container: &'static str,
        /// What asks for the token: a label, or an annotation of its ServiceAccount.
        key: String,
    },
    /// The API server asks for an endpoint that is not in the configuration we run with.
    #[error(
        "pod {pod}: this injector does not know endpoint {endpoint} yet: try again in a few seconds"
    )]
    EndpointUnknown {
        /// The pod.
        pod: PodName,
        /// The endpoint, made printable.
        endpoint: String,
    },
    /// Two endpoints of one pod want the same variable.
    #[error(
        "pod {pod}: endpoints {first} and {second} both set the environment variable {variable}: keep the label of one of them"
    )]
    EnvironmentClash {
        /// The pod.
        pod: PodName,
        /// The variable.
        variable: String,
        /// An endpoint.
        first: String,
        /// The other.
        second: String,
    },
    /// The pod shares the node's network, so it cannot be told from the node.
    #[error(
        "pod {pod}: hostNetwork pods get no token, they cannot be told from their node: unset spec.hostNetwork or remove the {key}"
    )]
    HostNetwork {
        /// The pod.
        pod: PodName,
        /// What asks for the token: a label, or an annotation of its ServiceAccount.
        key: String,
    },
    /// The label's value is neither of the two we know.
    #[error(
        "pod {pod}: label {key} has to be \"true\" or \"false\": correct the label or remove it"
    )]
    LabelValue {
        /// The pod.
        pod: PodName,
        /// The label.
        key: String,
    },
    /// A container mounts something at, under or above our path.
    #[error(
        "pod {pod}: container {container} mounts another volume at, under or above {path}, where the token is mounted: move that mount"
    )]
    MountTaken {
        /// The pod.
        pod: PodName,
        /// The container, made printable.
        container: String,
        /// Our path.
        path: &'static str,
    },
    /// What the pod has of ours was made by other settings than those we run with: by another replica, shortly before or after a change.
    #[error(
        "pod {pod}: its {part} was made by another configuration than this injector has now: try again in a minute; if the manifest has it, remove it there, it is added anew"
    )]
    OtherSettings {
        /// The pod.
        pod: PodName,
        /// What was made.
        part: String,
    },
    /// The role of a ServiceAccount, or of a container, is none.
    #[error("pod {pod}: {place} {problem}; expected {}: correct it there", expected(*shape))]
    RoleInvalid {
        /// The pod.
        pod: PodName,
        /// Where the role is written.
        place: String,
        /// What is wrong.
        problem: AnnotationProblem,
        /// What is expected.
        shape: AnnotationShape,
    },
    /// The operator does not let this namespace have that role.
    #[error(
        "pod {pod}: namespace {namespace} may not have the role that {place} names: take another role, or have allowedRoles of kube-sts allow it"
    )]
    RoleNotAllowed {
        /// The pod.
        pod: PodName,
        /// Where the role is written.
        place: String,
        /// The namespace, made printable.
        namespace: String,
    },
    /// One token cannot be for two roles.
    #[error(
        "pod {pod}: {first} and {second} name two roles, but the token of endpoint {endpoint} is for one: name the same role in both, or remove one of them"
    )]
    RolesDiffer {
        /// The pod.
        pod: PodName,
        /// The endpoint.
        endpoint: String,
        /// Where a role is written.
        first: String,
        /// Where the other is.
        second: String,
    },
    /// The certificate of the STS's CA is not published yet.
    #[error(
        "pod {pod}: the STS has not published its CA certificate yet: try again in a few seconds"
    )]
    ServerCaMissing {
        /// The pod.
        pod: PodName,
    },
    /// A session's name is not one that AWS takes.
    #[error(
        "pod {pod}: annotation {key}, on it or on its ServiceAccount, is no session name; expected 2 to 64 letters, digits and _ + = , . @ -: correct the annotation"
    )]
    SessionName {
        /// The pod.
        pod: PodName,
        /// The annotation.
        key: String,
    },
    /// The pod has our sidecar, but changed so that it does not work or is less confined.
    #[error(
        "pod {pod}: {part} of its container {container} is not as kube-sts needs it: remove the container from the manifest, it is added anew, or keep other webhooks from changing it"
    )]
    SidecarChanged {
        /// The pod.
        pod: PodName,
        /// The sidecar's name.
        container: &'static str,
        /// The field that differs, made printable.
        part: String,
    },
    /// The pod came with our sidecar, made for other endpoints.
    #[error(
        "pod {pod}: its container {container} was made for other endpoints than its labels and its ServiceAccount ask for: remove the container from the manifest, it is added anew"
    )]
    SidecarOutdated {
        /// The pod.
        pod: PodName,
        /// The sidecar's name.
        container: &'static str,
    },
    /// Something else is mounted where a container's token has to be.
    #[error(
        "pod {pod}: container {container} mounts another volume at {path}, where its token is mounted: move that mount"
    )]
    TokenMountTaken {
        /// The pod.
        pod: PodName,
        /// The container, made printable.
        container: String,
        /// The path.
        path: String,
    },
    /// A volume has the name of the token's, but has no token.
    #[error(
        "pod {pod}: volume name {volume} belongs to the volume of the token that {key} asks for, and this one has none: rename or remove the volume, or remove the {key}"
    )]
    TokenVolumeTaken {
        /// The pod.
        pod: PodName,
        /// The name.
        volume: String,
        /// What asks for the token.
        key: String,
    },
    /// The pod wants to bring a volume, but does not.
    #[error(
        "pod {pod}: annotation tremolo.io/create-volume is \"false\", but the pod has no volume {volume}: add the volume or remove the annotation"
    )]
    VolumeMissing {
        /// The pod.
        pod: PodName,
        /// The name.
        volume: &'static str,
    },
    /// A container mounts a volume of ours, and not as we mount it.
    #[error(
        "pod {pod}: container {container} mounts volume {volume}, which kube-sts adds, in a way of its own: remove that mount, what the container needs is added"
    )]
    VolumeMounted {
        /// The pod.
        pod: PodName,
        /// The container, made printable.
        container: String,
        /// The volume.
        volume: &'static str,
    },
    /// A volume has the name of ours, but is another.
    #[error(
        "pod {pod}: volume name {volume} belongs to a volume that kube-sts adds, and this one is not it: rename or remove the volume"
    )]
    VolumeNameTaken {
        /// The pod.
        pod: PodName,
        /// The name.
        volume: &'static str,
    },
    /// The sidecar has no Windows image.
    #[error(
        "pod {pod}: Windows pods get no token, the sidecar runs on Linux only: remove the {key}"
    )]
    Windows {
        /// The pod.
        pod: PodName,
        /// What asks for the token: a label, or an annotation of its ServiceAccount.
        key: String,
    },
    /// What the pod wishes of the sidecar is not what can be wished.
    #[error(
        "pod {pod}: annotation {key} has to be {expected}: correct the annotation or remove it"
    )]
    Wish {
        /// The pod.
        pod: PodName,
        /// The annotation.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

impl Refusal {
    /// Stable name for metrics, logs and audit annotations.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccountUnanswered { .. } => "account_unanswered",
            Self::AnnotationInvalid { .. } => "annotation_invalid",
            Self::AnnotationMissing { .. } => "annotation_missing",
            Self::ContainerNameTaken { .. } => "container_name_taken",
            Self::EndpointUnknown { .. } => "endpoint_unknown",
            Self::EnvironmentClash { .. } => "environment_clash",
            Self::HostNetwork { .. } => "host_network",
            Self::LabelValue { .. } => "label_value",
            Self::MountTaken { .. } => "mount_taken",
            Self::OtherSettings { .. } => "other_settings",
            Self::RoleInvalid { .. } => "role_invalid",
            Self::RoleNotAllowed { .. } => "role_not_allowed",
            Self::RolesDiffer { .. } => "roles_differ",
            Self::ServerCaMissing { .. } => "server_ca_missing",
            Self::SessionName { .. } => "session_name",
            Self::SidecarChanged { .. } => "sidecar_changed",
            Self::SidecarOutdated { .. } => "sidecar_outdated",
            Self::TokenMountTaken { .. } => "token_mount_taken",
            Self::TokenVolumeTaken { .. } => "token_volume_taken",
            Self::VolumeMissing { .. } => "volume_missing",
            Self::VolumeMounted { .. } => "volume_mounted",
            Self::VolumeNameTaken { .. } => "volume_name_taken",
            Self::Windows { .. } => "windows",
            Self::Wish { .. } => "sidecar_annotation",
        }
    }

    /// Whose turn it is: the pod's author's, or ours.
    pub fn fault(&self) -> Fault {
        match self {
            Self::AccountUnanswered { .. }
            | Self::EndpointUnknown { .. }
            | Self::OtherSettings { .. }
            | Self::ServerCaMissing { .. } => Fault::Ours,
            Self::AnnotationInvalid { .. }
            | Self::AnnotationMissing { .. }
            | Self::ContainerNameTaken { .. }
            | Self::EnvironmentClash { .. }
            | Self::HostNetwork { .. }
            | Self::LabelValue { .. }
            | Self::MountTaken { .. }
            | Self::RoleInvalid { .. }
            | Self::RoleNotAllowed { .. }
            | Self::RolesDiffer { .. }
            | Self::SessionName { .. }
            | Self::SidecarChanged { .. }
            | Self::SidecarOutdated { .. }
            | Self::TokenMountTaken { .. }
            | Self::TokenVolumeTaken { .. }
            | Self::VolumeMissing { .. }
            | Self::VolumeMounted { .. }
            | Self::VolumeNameTaken { .. }
            | Self::Windows { .. }
            | Self::Wish { .. } => Fault::Pod,
        }
    }
}

/// Who has to act on a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// We do; the same pod will be taken later.
    Ours,
    /// The pod's author.
    Pod,
}
