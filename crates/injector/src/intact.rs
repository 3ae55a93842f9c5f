//! Whether a container of ours that a pod has already still does its work, and is as confined as we made it.
//!
//! Others work on a pod between two passes over it: they rewrite images, set resources, add variables and mounts to every container, make
//! its security context tighter. And the pass before may have been another replica's, whose settings are a minute older or newer. All of that
//! passes. What would keep the sidecar from working, or loosens what it may do, does not. It is no boundary against the pod's author, who
//! can run any container with any token of the pod.

use serde_json::{Value, json};

use crate::collide::overlap;
use crate::plan::SidecarUser;
use crate::settings::Gate;
use crate::sidecar::{
    CA_ENV, DEFAULT_MESSAGE_PATH, ENDPOINTS_ENV, FILES_ENV, LISTEN_ENV, MESSAGE_PATH, PROGRAM,
    ROLES_ENV, Role, SUBJECT_PATH, SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME, WAIT_ENV,
    own_mounts, render_gate, render_liveness,
};

/// The first field by which the container does not work, or is less confined; nothing if there is none.
///
/// The endpoints and files that it is for are not looked at: they are the plan's.
pub(crate) fn spoilt_field(role: Role, user: SidecarUser, found: &Value) -> Option<&'static str> {
    let (lifecycle, probe) = (&found["lifecycle"], &found["startupProbe"]);
    let hook = &lifecycle["postStart"];
    let is_native = role == Role::Native;
    let is_gate = |value: &Value, gate| is_native && *value == render_gate(gate).1;
    let is_hook = |value: &Value| is_gate(&json!({"postStart": value}), Gate::Hook);
    let is_open = is_native && hook.is_null() && probe.is_null();
    let context = &found["securityContext"];
    // A user that we name is named for a reason: the pod would run as root without.
    let has_user = user.user.is_none() || !context["runAsUser"].is_null();
    let liveness = &found["livenessProbe"];
    let restart = if is_native {
        json!("Always")
    } else {
        Value::Null
    };
    let last_words = &found[MESSAGE_PATH];
    let checks = [
        ("args", found["args"] == json!([role.command()])),
        ("command", is_empty(&found["command"])),
        ("env", has_our_variables(&found["env"])),
        ("envFrom", is_empty(&found["envFrom"])),
        ("lifecycle", !is_open && (hook.is_null() || is_hook(hook))),
        (
            "livenessProbe",
            liveness.is_null() || *liveness == render_liveness(),
        ),
        ("readinessProbe", found["readinessProbe"].is_null()),
        ("restartPolicy", found["restartPolicy"] == restart),
        ("securityContext", has_user && is_confined(context)),
        (
            "startupProbe",
            probe.is_null() || is_gate(probe, Gate::Probe),
        ),
        (
            // It is mounted into the container, and would hide what is there.
            MESSAGE_PATH,
            last_words.is_null() || *last_words == DEFAULT_MESSAGE_PATH,
        ),
        ("volumeDevices", is_empty(&found["volumeDevices"])),
        ("volumeMounts", has_our_mounts(&found["volumeMounts"])),
    ];
    let mut spoilt = checks.into_iter().filter(|(_, is_good)| !is_good);
    spoilt.next().map(|(field, _)| field)
}

fn is_empty(list: &Value) -> bool {
    list.as_array()
        .map_or_else(|| list.is_null(), Vec::is_empty)
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Webhooks that add a variable to every container add it to ours too. The refresher reads none but its own, and no proxy's. Those it has
/// once, each as any settings of ours would write it.
fn has_our_variables(env: &Value) -> bool {
    let name = |entry: &Value| entry["name"].as_str().map(str::to_owned);
    let ours: Vec<&Value> = elements(env)
        .filter(|entry| {
            entry["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("STS_"))
        })
        .collect();
    let mut names: Vec<_> = ours.iter().filter_map(|entry| name(entry)).collect();
    names.sort_unstable();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_twice = names.windows(2).any(|pair| pair.first() == pair.get(1));
    !is_twice
        && [ENDPOINTS_ENV, CA_ENV, WAIT_ENV].into_iter().all(has)
        && ours.into_iter().all(is_our_variable)
}

fn is_our_variable(entry: &Value) -> bool {
    let (Some(name), Some(value)) = (entry["name"].as_str(), entry["value"].as_str()) else {
        return false;
    };
    match name {
        // The CA may be renewed between the passes. The roles are the pod's wish, which the STS judges; a pass that knows of one opt-in
        // only does not know them all.
        CA_ENV | ENDPOINTS_ENV | FILES_ENV | ROLES_ENV => true,
        LISTEN_ENV => value
            .strip_prefix("[::]:")
            .is_some_and(|port| port.parse::<u16>().is_ok()),
        WAIT_ENV => is_duration(value),
        _ => false,
    }
}

fn is_duration(text: &str) -> bool {
    let number = text.strip_suffix("ms").or_else(|| text.strip_suffix('s'));
    number.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 0))
}

/// Both of our volumes where they belong, and nothing that hides them or our program. Others add mounts to every container, the API server
/// one of its own token.
fn has_our_mounts(mounts: &Value) -> bool {
    let mut ours = own_mounts().to_vec();
    for mount in elements(mounts) {
        let is_ours = mount["name"] == TOKENS_VOLUME || mount["name"] == SUBJECT_VOLUME;
        let path = mount["mountPath"].as_str().unwrap_or("/");
        let hides = [TOKENS_PATH, SUBJECT_PATH, PROGRAM]
            .iter()
            .any(|needed| overlap(path, needed));
        match ours.iter().position(|one| one == mount) {
            Some(at) => drop(ours.remove(at)),
            None if is_ours || hides => return false,
            None => {}
        }
    }
    ours.is_empty()
}

/// What Pod Security `restricted` asks for and a read-only root is said in so many words, and nothing is set that takes it back. Tighter it
/// may be. A field that we do not know may do anything.
fn is_confined(context: &Value) -> bool {
    let Some(fields) = context.as_object() else {
        return false;
    };
    let capabilities = &context["capabilities"];
    let mut dropped = elements(&capabilities["drop"]);
    context["allowPrivilegeEscalation"] == false
        && context["readOnlyRootFilesystem"] == true
        && context["runAsNonRoot"] == true
        && dropped.any(|one| one == "ALL")
        && is_profile(&context["seccompProfile"])
        && fields.iter().all(|(field, value)| is_tight(field, value))
}

fn is_tight(field: &str, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    match field {
        "allowPrivilegeEscalation"
        | "readOnlyRootFilesystem"
        | "runAsNonRoot"
        | "seccompProfile"
        | "runAsGroup" => true,
        "appArmorProfile" => is_profile(value),
        "capabilities" => is_empty(&value["add"]),
        "privileged" => *value == false,
        "procMount" => value == "Default",
        // OpenShift gives each namespace a level. A type, user or role may be one that confines nothing; these are Pod Security's.
        "seLinuxOptions" => {
            let is_none = |field: &str| value[field].as_str().is_none_or(str::is_empty);
            let kind = value["type"].as_str().unwrap_or_default();
            is_none("user") && is_none("role") && SELINUX_TYPES.contains(&kind)
        }
        // OpenShift gives each namespace its users.
        "runAsUser" => value.as_i64().is_some_and(|user| user > 0),
        _ => false,
    }
}

fn is_profile(profile: &Value) -> bool {
    profile["type"] == "RuntimeDefault" || profile["type"] == "Localhost"
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>
pub(crate) const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
