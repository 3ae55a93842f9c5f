//! The container and the volumes we add, as JSON, and their names.
//!
//! A native sidecar
//! (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>) whose `postStart` hook
//! holds the containers behind it back until the token file is there. It meets Pod Security
//! `restricted` (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).

use serde_json::{Map, Value, json};

use crate::collide::overlap;
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

/// The sidecar's variable with the CA it trusts the STS by.
pub const CA_ENV: &str = "STS_CA_CERTIFICATES";

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
    let endpoints = endpoints_value(plan.endpoints());
    render(
        settings,
        &endpoints,
        plan.server_ca.as_pem(),
        plan.sidecar_user,
    )
}

/// The first field in which `found` is not the container that we would add; nothing if it is the same.
///
/// The CA may be another, since it may be renewed between the passes over a pod. What the API server fills
/// in or its own plugins set is not compared: resources (LimitRanger), pull policy (AlwaysPullImages), the
/// mount of the API server's token (ServiceAccount), a user other than root (OpenShift).
pub(crate) fn difference(
    settings: &SidecarSettings,
    endpoints: &str,
    user: SidecarUser,
    found: &Value,
) -> Option<String> {
    let ca = of_name(&found["env"], CA_ENV).and_then(|entry| entry["value"].as_str());
    let expected = render(settings, endpoints, ca.unwrap_or_default(), user);
    let (Some(expected), Some(mut found)) = (expected.as_object(), found.as_object().cloned())
    else {
        return Some("type".to_owned());
    };
    forgive(&mut found, expected);
    let keys = expected.keys().chain(found.keys());
    let mut different = keys.filter(|key| expected.get(*key) != found.get(*key));
    different.next().cloned()
}

/// Takes out what others may set, and puts in what they may change.
fn forgive(found: &mut Map<String, Value>, expected: &Map<String, Value>) {
    for key in NOT_COMPARED {
        match expected.get(key) {
            Some(value) => drop(found.insert(key.to_owned(), value.clone())),
            None => drop(found.remove(key)),
        }
    }
    if found.get("terminationMessagePath") == Some(&json!("/dev/termination-log")) {
        found.remove("terminationMessagePath");
    }
    if let Some(mounts) = found.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        mounts.retain(|mount| !is_harmless_mount(mount));
    }
    if let Some(variables) = found.get_mut("env").and_then(Value::as_array_mut) {
        variables.retain(|variable| !is_harmless_variable(variable));
    }
    let context = found.get_mut("securityContext").and_then(fields);
    if let Some(context) = context {
        let is_other = |user: &Value| user.as_i64().is_some_and(|user| user > 0);
        if context.get("runAsUser").is_some_and(is_other) {
            match expected["securityContext"].get("runAsUser") {
                Some(user) => drop(context.insert("runAsUser".to_owned(), user.clone())),
                None => drop(context.remove("runAsUser")),
            }
        }
    }
}

/// Webhooks that add a variable to every container add it to ours too. The refresher reads none but its own, and no proxy's.
fn is_harmless_variable(variable: &Value) -> bool {
    variable["name"]
        .as_str()
        .is_some_and(|name| !name.starts_with("STS_"))
}

/// The same of volumes, the API server's own among them: harmless where they hide neither our files nor our program.
fn is_harmless_mount(mount: &Value) -> bool {
    let is_ours = mount["name"] == TOKENS_VOLUME || mount["name"] == SUBJECT_VOLUME;
    let path = mount["mountPath"].as_str().unwrap_or("/");
    !is_ours
        && [TOKENS_PATH, SUBJECT_PATH, PROGRAM]
            .iter()
            .all(|needed| !overlap(path, needed))
}

fn of_name<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|entry| entry["name"] == name)
}

fn render(settings: &SidecarSettings, endpoints: &str, ca: &str, user: SidecarUser) -> Value {
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
            {"name": ENDPOINTS_ENV, "value": endpoints},
            {"name": CA_ENV, "value": ca},
            {"name": "STS_WAIT_TIMEOUT", "value": wait_timeout},
        ],
        "lifecycle": {"postStart": {"exec": {"command": [PROGRAM, "wait"]}}},
        "volumeMounts": [
            {"name": TOKENS_VOLUME, "mountPath": TOKENS_PATH},
            {"name": SUBJECT_VOLUME, "mountPath": SUBJECT_PATH, "readOnly": true},
        ],
        "resources": resources,
        "securityContext": security_context(user),
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

/// Fields that others may set as they like.
const NOT_COMPARED: [&str; 3] = ["imagePullPolicy", "resizePolicy", "resources"];
/// The sidecar's program, in its image.
const PROGRAM: &str = "/refresher";
/// `USER` of the refresher's image.
const IMAGE_USER: i64 = 65532;
