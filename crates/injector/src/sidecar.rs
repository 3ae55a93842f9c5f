//! The container and the volumes we add, as JSON, and their names.
//!
//! A native sidecar
//! (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>) whose `postStart` hook
//! holds the containers behind it back until the token file is there. It meets Pod Security
//! `restricted` (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).

use serde_json::{Map, Value, json};

use crate::decide::{Plan, SidecarUser};
use crate::settings::{EndpointSettings, SidecarSettings};

/// Name of the container.
pub const SIDECAR_NAME: &str = "kube-sts-refresher";
/// Name of the volume the token files are in.
pub const TOKENS_VOLUME: &str = "sts-tokens";
/// Name of the volume of the pod's own tokens; only the sidecar mounts it.
pub const SUBJECT_VOLUME: &str = "sts-subject-tokens";
/// Where containers find the token files.
pub const TOKENS_PATH: &str = "/var/run/secrets/sts.tremolo.io/tokens";
/// Where the sidecar finds the pod's own tokens.
pub const SUBJECT_PATH: &str = "/var/run/secrets/sts.tremolo.io/subject";
/// The sidecar's variable that names the endpoints: `name=url`, separated by commas.
pub const ENDPOINTS_ENV: &str = "STS_ENDPOINTS";

/// The token file of an endpoint, as a container sees it.
pub fn token_file(endpoint: &EndpointSettings) -> String {
    format!("{TOKENS_PATH}/{}/token", endpoint.name)
}

/// The value of [`ENDPOINTS_ENV`].
pub fn endpoints_value<'a>(endpoints: impl Iterator<Item = &'a EndpointSettings>) -> String {
    let pairs: Vec<String> = endpoints
        .map(
            |EndpointSettings {
                 name, exchange_url, ..
             }| format!("{name}={exchange_url}"),
        )
        .collect();
    pairs.join(",")
}

/// The container.
pub fn container(settings: &SidecarSettings, plan: &Plan<'_>) -> Value {
    let SidecarSettings {
        image,
        image_pull_policy,
        token_seconds: _,
        wait_timeout,
        resources,
    } = settings;
    json!({
        "name": SIDECAR_NAME,
        "image": image,
        "imagePullPolicy": image_pull_policy,
        "restartPolicy": "Always",
        "args": ["run"],
        "env": [
            {"name": ENDPOINTS_ENV, "value": endpoints_value(plan.endpoints())},
            {"name": "STS_CA_CERTIFICATES", "value": plan.server_ca.as_pem()},
            {"name": "STS_WAIT_TIMEOUT", "value": wait_timeout},
        ],
        "lifecycle": {"postStart": {"exec": {"command": ["/refresher", "wait"]}}},
        "volumeMounts": [
            {"name": TOKENS_VOLUME, "mountPath": TOKENS_PATH},
            {"name": SUBJECT_VOLUME, "mountPath": SUBJECT_PATH, "readOnly": true},
        ],
        "resources": resources,
        "securityContext": security_context(plan.sidecar_user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The shared volume: in memory, so that no token reaches a disk.
pub fn tokens_volume() -> Value {
    json!({"name": TOKENS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

/// The pod's own tokens, one for each endpoint, each with the endpoint's audience.
pub fn subject_volume(settings: &SidecarSettings, plan: &Plan<'_>) -> Value {
    let sources: Vec<Value> = plan
        .endpoints()
        .map(|EndpointSettings { name, audience, .. }| {
            json!({"serviceAccountToken": {
                "audience": audience,
                "expirationSeconds": settings.token_seconds,
                "path": name,
            }})
        })
        .collect();
    json!({"name": SUBJECT_VOLUME, "projected": {"sources": sources}})
}

fn security_context(user: SidecarUser) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let (SidecarUser::InsteadOfRoot, Some(fields)) = (user, fields(&mut context)) {
        fields.insert("runAsUser".to_owned(), json!(IMAGE_USER));
    }
    context
}

fn fields(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.as_object_mut()
}

/// `USER` of the refresher's image.
const IMAGE_USER: i64 = 65532;
