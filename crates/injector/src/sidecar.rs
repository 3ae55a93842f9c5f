//! The container and the volumes we add, as JSON, and their names.
//!
//! A native sidecar
//! (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>) whose `postStart` hook
//! or startup probe holds the containers behind it back until the token file is there; where the API server is too old for one, an
//! init container that fetches the first token and an ordinary container that keeps it fresh. Both meet Pod Security
//! `restricted` (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).

use serde_json::{Map, Value, json};

use crate::plan::{Grant, SidecarPlan, SidecarUser};
use crate::settings::{
    CompanionFile, EndpointSettings, Gate, InjectionMode, SidecarForm, SidecarSettings,
};

/// Name of the container.
pub const SIDECAR_NAME: &str = "kube-sts-refresher";
/// Name of the init container of the classic form.
pub const FIRST_TOKEN_NAME: &str = "kube-sts-first-token";
/// Name of the volume of the tokens that the kubelet keeps for endpoints whose mode is `projected`.
pub const PROJECTED_VOLUME: &str = "sts-projected-tokens";
/// Where containers find those.
pub const PROJECTED_PATH: &str = "/var/run/secrets/sts.tremolo.io/projected";
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
    let folder = match endpoint.mode {
        InjectionMode::Projected => PROJECTED_PATH,
        InjectionMode::Sidecar => TOKENS_PATH,
    };
    format!("{folder}/{}/token", endpoint.name)
}

/// The sidecar's variable with the CA it trusts the STS by.
pub const CA_ENV: &str = "STS_CA_CERTIFICATES";

/// The sidecar's variable that says what to write beside the tokens.
pub(crate) const FILES_ENV: &str = "STS_FILES";

/// The sidecar's variable that bounds how long a hook waits.
pub(crate) const WAIT_ENV: &str = "STS_WAIT_TIMEOUT";

/// The sidecar's variable with the address of its metrics.
pub(crate) const LISTEN_ENV: &str = "STS_METRICS_LISTEN";

/// The value of [`ENDPOINTS_ENV`].
pub fn endpoints_value<'a>(endpoints: impl Iterator<Item = &'a EndpointSettings>) -> String {
    let pairs: Vec<String> = endpoints.map(endpoint_entry).collect();
    pairs.join(ENDPOINTS_SEPARATOR)
}

/// One endpoint of it.
pub(crate) fn endpoint_entry(endpoint: &EndpointSettings) -> String {
    format!("{}={}", endpoint.name, endpoint.exchange_url)
}

/// What stands between two of them.
pub(crate) const ENDPOINTS_SEPARATOR: &str = ",";

/// The sidecar's variable with the roles that tokens are wanted for: `name=role`, one to a line, since a role may have commas in it.
pub const ROLES_ENV: &str = "STS_ROLES";

fn roles_value(plan: &SidecarPlan<'_>) -> String {
    let roles: Vec<String> = plan.roles.iter().map(role_entry).collect();
    roles.join(ROLES_SEPARATOR)
}

/// One role of it.
pub(crate) fn role_entry((endpoint, role): &Grant<'_>) -> String {
    format!("{}={}", endpoint.name, role.as_str())
}

/// What stands between two of them.
pub(crate) const ROLES_SEPARATOR: &str = "\n";

/// A file that the sidecar writes beside a token, as a container sees it.
pub fn companion_file(endpoint: &EndpointSettings, file: &CompanionFile) -> String {
    format!("{TOKENS_PATH}/{}/{}", endpoint.name, file.name)
}

/// The value of the sidecar's variable that says what to write beside the tokens; none if that is nothing.
///
/// The annotations go beside the templates, not into them: a placeholder in an annotation is none.
pub(crate) fn files_value(grants: &[Grant<'_>]) -> Option<String> {
    let files: Vec<Value> = grants
        .iter()
        .flat_map(|(endpoint, annotation)| {
            endpoint.files.iter().map(move |file| {
                json!({
                    "endpoint": endpoint.name,
                    "name": file.name,
                    "template": file.template,
                    "annotation": annotation.as_str(),
                })
            })
        })
        .collect();
    // The kubelet expands $(NAME) in values, and takes $$ for $.
    (!files.is_empty()).then(|| Value::from(files).to_string().replace('$', "$$"))
}

/// A list of a pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Containers,
    InitContainers,
}

impl List {
    /// Its name in `spec`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
        }
    }
}

/// What is added to which list, under which name.
pub(crate) fn roles(form: SidecarForm) -> &'static [(List, Role)] {
    match form {
        SidecarForm::Classic => &[
            (List::InitContainers, Role::First),
            (List::Containers, Role::Classic),
        ],
        SidecarForm::Auto | SidecarForm::Native => &[(List::InitContainers, Role::Native)],
    }
}

/// What a container of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Keeps tokens fresh, beside others like it.
    Classic,
    /// Fetches each token once.
    First,
    /// Holds others back until the first tokens are there, and keeps them fresh.
    Native,
}

impl Role {
    pub(crate) fn container_name(self) -> &'static str {
        match self {
            Self::First => FIRST_TOKEN_NAME,
            Self::Classic | Self::Native => SIDECAR_NAME,
        }
    }

    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::First => "once",
            Self::Classic | Self::Native => "run",
        }
    }
}

/// The container.
pub(crate) fn container(settings: &SidecarSettings, plan: &SidecarPlan<'_>, role: Role) -> Value {
    let part = PodPart {
        endpoints: &endpoints_value(plan.endpoints.iter().copied()),
        ca: plan.server_ca.as_pem(),
        files: plan.files.as_deref(),
        roles: &roles_value(plan),
        user: plan.user,
    };
    render(settings, role, &part)
}

/// What of a container of ours is other from pod to pod.
pub(crate) struct PodPart<'p> {
    /// The value of [`ENDPOINTS_ENV`].
    pub(crate) endpoints: &'p str,
    /// The value of [`CA_ENV`].
    pub(crate) ca: &'p str,
    /// The value of [`FILES_ENV`].
    pub(crate) files: Option<&'p str>,
    /// The value of [`ROLES_ENV`], which is left out where it is empty.
    pub(crate) roles: &'p str,
    /// Whom it runs as.
    pub(crate) user: SidecarUser,
}

/// The container, from the configuration and what is the pod's.
pub(crate) fn render(settings: &SidecarSettings, role: Role, part: &PodPart<'_>) -> Value {
    let SidecarSettings {
        image,
        image_pull_policy,
        token_seconds: _,
        gate,
        liveness,
        wait_timeout,
        metrics_port,
        resources,
        form: _,
    } = settings;
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut variables = vec![
        variable(ENDPOINTS_ENV, part.endpoints),
        variable(CA_ENV, part.ca),
        variable(WAIT_ENV, wait_timeout),
    ];
    let listen = metrics_port.map(|port| format!("[::]:{port}"));
    variables.extend(listen.map(|listen| variable(LISTEN_ENV, &listen)));
    variables.extend(part.files.map(|files| variable(FILES_ENV, files)));
    if !part.roles.is_empty() {
        variables.push(variable(ROLES_ENV, part.roles));
    }
    let mut container = json!({
        "name": role.container_name(),
        "image": image,
        "imagePullPolicy": image_pull_policy,
        "args": [role.command()],
        "env": variables,
        "volumeMounts": own_mounts(),
        "resources": resources,
        "securityContext": security_context(part.user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let (Role::Native, Some(fields)) = (role, fields(&mut container)) {
        fields.insert("restartPolicy".to_owned(), json!("Always"));
        let (field, value) = render_gate(*gate);
        fields.insert(field.to_owned(), value);
    }
    if let (true, Some(fields)) = (*liveness && role != Role::First, fields(&mut container)) {
        fields.insert("livenessProbe".to_owned(), render_liveness());
    }
    // Who fetches once serves nobody.
    let port = metrics_port.filter(|_| role != Role::First);
    if let (Some(port), Some(fields)) = (port, fields(&mut container)) {
        let port = json!({"name": "sts-metrics", "containerPort": port, "protocol": "TCP"});
        fields.insert("ports".to_owned(), json!([port]));
    }
    container
}

/// What our containers mount: all that is mounted where.
pub(crate) fn own_mounts() -> [Value; 2] {
    [
        json!({"name": TOKENS_VOLUME, "mountPath": TOKENS_PATH}),
        json!({"name": SUBJECT_VOLUME, "mountPath": SUBJECT_PATH, "readOnly": true}),
    ]
}

/// The field of a native sidecar that holds the containers behind it back, and its value, with what the API server would fill in.
///
/// The probe goes on for a day before the sidecar is restarted, which would help nobody: it tries again by itself.
pub(crate) fn render_gate(gate: Gate) -> (&'static str, Value) {
    match gate {
        Gate::Hook => {
            let exec = json!({"exec": {"command": [PROGRAM, "wait"]}});
            ("lifecycle", json!({"postStart": exec}))
        }
        Gate::Probe => (
            "startupProbe",
            json!({
                "exec": {"command": [PROGRAM, "probe"]},
                "periodSeconds": 1,
                "timeoutSeconds": 5,
                "successThreshold": 1,
                "failureThreshold": 86_400,
            }),
        ),
    }
}

/// Each minute, and three in a row: each probe is a process, and a sidecar that has just started may have nothing to show yet.
pub(crate) fn render_liveness() -> Value {
    json!({
        "exec": {"command": [PROGRAM, "probe", "--liveness"]},
        "periodSeconds": 60,
        "timeoutSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": 3,
    })
}

/// The shared volume: in memory, so that no token reaches a disk.
pub fn tokens_volume() -> Value {
    json!({"name": TOKENS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

/// The pod's own tokens, one for each endpoint, each with the endpoint's audience.
pub(crate) fn subject_volume(settings: &SidecarSettings, plan: &SidecarPlan<'_>) -> Value {
    let endpoints = plan.endpoints.iter();
    let sources = endpoints.map(|endpoint| subject_source(settings, endpoint));
    projected_volume(SUBJECT_VOLUME, &sources.collect())
}

/// The pod's own token for one endpoint.
pub(crate) fn subject_source(settings: &SidecarSettings, endpoint: &EndpointSettings) -> Value {
    token_source(&endpoint.audience, settings.token_seconds, &endpoint.name)
}

/// The kubelet's token of one endpoint whose mode is `projected`.
pub(crate) fn projected_source(endpoint: &EndpointSettings) -> Value {
    let path = format!("{}/token", endpoint.name);
    token_source(&endpoint.audience, endpoint.projected_seconds, &path)
}

/// A volume of tokens that the kubelet keeps; `sources` is their list.
pub(crate) fn projected_volume(name: &str, sources: &Value) -> Value {
    json!({"name": name, "projected": {"sources": sources}})
}

/// One of its tokens.
pub(crate) fn token_source(audience: &str, seconds: u64, path: &str) -> Value {
    json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": seconds, "path": path}})
}

fn security_context(user: SidecarUser) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let Some(fields) = fields(&mut context) {
        let ids = [("runAsUser", user.user), ("runAsGroup", user.group)];
        for (key, id) in ids.into_iter().filter_map(|(key, id)| Some((key, id?))) {
            fields.insert(key.to_owned(), json!(id));
        }
    }
    context
}

fn fields(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.as_object_mut()
}

/// Where the kubelet mounts a file for a container's last words, and where it does so by default
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
pub(crate) const MESSAGE_PATH: &str = "terminationMessagePath";
pub(crate) const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";
/// The sidecar's program, in its image.
pub(crate) const PROGRAM: &str = "/refresher";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_gate_asks_the_refresher_and_is_said_in_full() {
        let (field, hook) = render_gate(Gate::Hook);
        let expected = json!({"postStart": {"exec": {"command": ["/refresher", "wait"]}}});
        assert_eq!((field, hook), ("lifecycle", expected));
        let (field, probe) = render_gate(Gate::Probe);
        assert_eq!(field, "startupProbe");
        assert_eq!(probe["exec"]["command"], json!(["/refresher", "probe"]));
        // What is left out the API server fills in, and a second pass takes it for somebody's change.
        let defaulted = [
            "failureThreshold",
            "periodSeconds",
            "successThreshold",
            "timeoutSeconds",
        ];
        for probe in [probe, render_liveness()] {
            assert!(
                defaulted.iter().all(|field| probe[field].is_u64()),
                "{probe}"
            );
        }
    }
}
