//! What [`crate::patch`] adds to a pod, as an expression that gives the same operations.

use serde_json::{Value, json};

use super::cel::{concatenation, hole, list, literal, quote, those, when};
use super::facts::{Variable, grant, is_served, sources_hole, variable_of, wants};
use crate::patch;
use crate::plan::{Plan, SidecarUser};
use crate::pod::{OsView, PodView, SpecView, Text};
use crate::settings::{EndpointSettings, Settings};
use crate::sidecar::{
    self, FILES_ENV, List, PROJECTED_PATH, PROJECTED_VOLUME, PodPart, ROLES_SEPARATOR, Role,
    SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME, projected_volume, role_entry,
};

/// What the expression is made of; `params` is the ConfigMap with the STS's CA.
pub(super) fn variables(settings: &Settings) -> Vec<Variable> {
    let endpoints = &settings.endpoints;
    let variables = [
        ("environment", environment(endpoints)),
        ("mounts", mounts()),
        ("volumes", volumes()),
        ("roles", roles(endpoints)),
    ];
    let variables = variables.map(|(name, expression)| (name.to_owned(), expression));
    let has_sidecar = endpoints.iter().any(is_served);
    let containers = sidecar::roles(settings.sidecar.form)
        .iter()
        .filter(|_| has_sidecar);
    let containers = containers.map(|(_, role)| {
        let files = hole("variables.files");
        let part = PodPart {
            endpoints: &hole("variables.endpoints"),
            ca: &hole("params.data[\"ca.crt\"]"),
            roles: &hole("variables.roles"),
            files: Some(&files),
            user: SidecarUser::default(),
        };
        let container = container(settings, *role, &part, "variables.user");
        (container_variable(*role), literal(&container))
    });
    variables.into_iter().chain(containers).collect()
}

/// The operations.
pub(super) fn expression(settings: &Settings) -> String {
    let mut parts = vec![
        of_containers(List::Containers),
        of_containers(List::InitContainers),
        of_volumes(),
    ];
    if settings.endpoints.iter().any(is_served) {
        let roles = sidecar::roles(settings.sidecar.form).iter();
        parts.extend(roles.map(|(list, role)| of_sidecar(*list, *role)));
    }
    format!(
        "variables.refusals.size() > 0 ? [] : (\n{}\n)",
        parts.join("\n+\n")
    )
}

/// A container of ours, with holes. Files are not always written, and ids not always said.
pub(super) fn container(settings: &Settings, role: Role, part: &PodPart<'_>, user: &str) -> Value {
    let mut container = sidecar::render(&settings.sidecar, role, part);
    let environment = container.get_mut("env").and_then(Value::as_array_mut);
    for variable in environment.into_iter().flatten() {
        if variable.get("name") == Some(&json!(FILES_ENV)) {
            *variable = when("variables.files != \"\"", variable);
        }
    }
    let context = container.get_mut("securityContext");
    if let Some(context) = context.and_then(Value::as_object_mut) {
        context.insert("runAsUser".to_owned(), id(user));
        context.insert("runAsGroup".to_owned(), id("variables.group"));
    }
    container
}

/// An id, where there is one. Spelt out at each use: kube-apiserver 1.36 panics at an optional whose type it does not know, as it knows none
/// of a variable.
fn id(expression: &str) -> Value {
    let value = json!(hole(&format!("dyn({expression})")));
    when(&format!("{expression} != 0"), &value)
}

fn container_variable(role: Role) -> String {
    let name = role.container_name().replace('-', "_");
    format!("container_{name}")
}

/// What each container gets, by [`patch::variables`].
fn environment(endpoints: &[EndpointSettings]) -> String {
    let windows = PodView {
        spec: SpecView {
            os: Some(OsView {
                name: Text::from(crate::pod::WINDOWS),
            }),
            ..SpecView::default()
        },
        ..PodView::default()
    };
    those(endpoints.iter().map(|endpoint| {
        let plan = Plan {
            grants: vec![grant(endpoint)],
            identity: None,
            sidecar: None,
        };
        let linux = patch::variables(&plan, &PodView::default());
        let entries = linux.into_iter().zip(patch::variables(&plan, &windows));
        let entries = entries.map(|((name, linux), (_, windows))| {
            let (linux, windows) = (concatenation(&linux), concatenation(&windows));
            let value = if linux == windows {
                linux
            } else {
                format!("variables.windows ? {windows} : {linux}")
            };
            literal(&json!({"name": name, "value": hole(&value)}))
        });
        (wants(endpoint), entries.collect::<Vec<_>>().join(", "))
    }))
}

fn mounts() -> String {
    those([
        (
            "variables.sidecar".to_owned(),
            literal(&patch::mount(TOKENS_VOLUME, TOKENS_PATH)),
        ),
        (
            "variables.projected".to_owned(),
            literal(&patch::mount(PROJECTED_VOLUME, PROJECTED_PATH)),
        ),
    ])
}

fn volumes() -> String {
    let subject = projected_volume(SUBJECT_VOLUME, &sources_hole("subject_sources"));
    let projected = projected_volume(PROJECTED_VOLUME, &sources_hole("projected_sources"));
    those([
        (
            "variables.added".to_owned(),
            literal(&sidecar::tokens_volume()),
        ),
        ("variables.sidecar".to_owned(), literal(&subject)),
        ("variables.projected".to_owned(), literal(&projected)),
    ])
}

fn roles(endpoints: &[EndpointSettings]) -> String {
    let served = endpoints.iter().filter(|one| is_served(one));
    let entries = served.map(|endpoint| {
        let entry = role_entry(&grant(endpoint));
        (wants(endpoint), concatenation(&entry))
    });
    format!("{}.join({})", those(entries), quote(ROLES_SEPARATOR))
}

fn of_containers(place: List) -> String {
    let (field, variable) = (place.name(), variable_of(place));
    let place = format!("\"/spec/{field}/\" + string(i)");
    let has_variable = "c.env.exists(e, e.name == v.name)";
    // As `is_own_mount` judges it.
    let has_mount = "c.volumeMounts.exists(m, m.name == v.name && m.mountPath == v.mountPath \
                     && has(m.readOnly) && m.readOnly && !has(m.subPath) && !has(m.subPathExpr))";
    let added = [
        appended("env", &place, "environment", has_variable),
        appended("volumeMounts", &place, "mounts", has_mount),
    ];
    format!(
        "variables.{variable}.transformList(i, c, !(c.name in variables.ours), {}.flatten()).flatten()",
        list(added.into_iter())
    )
}

/// Appends what a container's list lacks; the list is made where there is none.
fn appended(field: &str, place: &str, wanted: &str, has: &str) -> String {
    let path = |end: &str| format!("{place} + \"/{end}\"");
    format!(
        "has(c.{field}) ? variables.{wanted}.filter(v, !{has}).map(v, {}) : {}",
        add(&path(&format!("{field}/-")), "v"),
        made(&path(field), wanted)
    )
}

fn of_volumes() -> String {
    format!(
        "(has(object.spec.volumes) ? variables.volumes.filter(v, !variables.pod_volumes.exists(o, o.name == v.name)).map(v, {}) : {})",
        add("\"/spec/volumes/-\"", "v"),
        made("\"/spec/volumes\"", "volumes")
    )
}

/// Each to its place, as `add_sidecar` puts it there, unless a container of any kind has its name.
fn of_sidecar(place: List, role: Role) -> String {
    let (field, variable) = (place.name(), variable_of(place));
    let container = format!("variables.{}", container_variable(role));
    let at = match place {
        List::Containers => "-",
        List::InitContainers => "0",
    };
    format!(
        "(!variables.sidecar || (variables.containers + variables.init_containers).exists(c, c.name == {}) ? [] : \
         [variables.{variable}.size() > 0 ? {} : {}])",
        quote(role.container_name()),
        add(&format!("\"/spec/{field}/{at}\""), &container),
        add(&format!("\"/spec/{field}\""), &format!("[{container}]")),
    )
}

fn made(path: &str, wanted: &str) -> String {
    let whole = format!("variables.{wanted}");
    format!("{whole}.size() == 0 ? [] : [{}]", add(path, &whole))
}

fn add(path: &str, value: &str) -> String {
    format!("JSONPatch{{op: \"add\", path: {path}, value: {value}}}")
}
