//! Which pods [`crate::decide`] refuses, in its words, by what they look like in the end: what somebody has undone since it was added.

use serde_json::{Value, json};

use super::additions::container;
use super::cel::{any, hole, list, literal, quote, those};
use super::facts::{Variable, is_served, variable_of};
use super::refused::{Rule, overlaps, pod, sentences};
use crate::plan::SidecarUser;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::sidecar::{
    self, CA_ENV, DEFAULT_MESSAGE_PATH, ENDPOINTS_ENV, List, MESSAGE_PATH, NOT_COMPARED, PROGRAM,
    PROJECTED_VOLUME, PodPart, ROLES_ENV, Role, SUBJECT_PATH, SUBJECT_VOLUME, TOKENS_PATH,
    TOKENS_VOLUME,
};

/// The sentences of a pod as it is in the end, in which something is missing, or is not as it was added.
pub(super) fn variables(settings: &Settings) -> Vec<Variable> {
    let has_sidecar = settings.endpoints.iter().any(is_served);
    let roles = sidecar::roles(settings.sidecar.form)
        .iter()
        .filter(|_| has_sidecar);
    let mut rules = Vec::new();
    let mut variables = Vec::new();
    for (place, role) in roles {
        let (variable, more) = of_container(settings, *place, *role);
        variables.extend(variable);
        rules.extend(more);
    }
    rules.extend(of_volumes());
    variables.push(("undone".to_owned(), sentences(rules)));
    variables
}

/// A container of ours as [`sidecar::difference`] compares it: what others may set or add is left out.
fn of_container(settings: &Settings, place: List, role: Role) -> (Vec<Variable>, [Rule; 3]) {
    let name = role.container_name();
    let (found, changed) = (
        format!("found_{}", name.replace('-', "_")),
        format!("changed_{}", name.replace('-', "_")),
    );
    let list = variable_of(place);
    let quoted = quote(name);
    let image = quote(&settings.sidecar.image);
    let variables = vec![
        (
            found.clone(),
            format!("variables.{list}.filter(c, c.name == {quoted} && c.image == {image})"),
        ),
        (
            changed.clone(),
            format!(
                "variables.{found}.map(c, {}).flatten()",
                differences(settings, role)
            ),
        ),
    ];
    let rules = [
        (
            format!("variables.sidecar && variables.{found}.size() != 1"),
            Refusal::ContainerNameTaken {
                pod: pod(),
                container: name,
            },
        ),
        (
            format!(
                "variables.sidecar && !variables.{found}.all(c, {})",
                serves()
            ),
            Refusal::SidecarOutdated {
                pod: pod(),
                container: name,
            },
        ),
        (
            format!("variables.sidecar && variables.{changed}.size() > 0"),
            Refusal::SidecarChanged {
                pod: pod(),
                container: name,
                part: hole(&format!("variables.{changed}[0]")),
            },
        ),
    ];
    (variables, rules)
}

/// That container `c` was made for the endpoints that the pod asks for.
fn serves() -> String {
    let name = quote(ENDPOINTS_ENV);
    format!(
        "has(c.env) && c.env.exists(e, e.name == {name} && has(e.value) && e.value == variables.endpoints)"
    )
}

/// The names of the fields in which container `c` is not as it is added.
fn differences(settings: &Settings, role: Role) -> String {
    let files = hole("variables.files");
    let part = PodPart {
        endpoints: &hole("variables.endpoints"),
        ca: "",
        roles: "",
        files: Some(&files),
        user: SidecarUser::default(),
    };
    let user = "(has(c.securityContext.runAsUser) && c.securityContext.runAsUser > 0 \
                ? int(c.securityContext.runAsUser) : variables.user)";
    let expected = container(settings, role, &part, user);
    let fields = expected.as_object().into_iter().flatten();
    let compared = fields.filter(|(field, _)| !NOT_COMPARED.contains(&field.as_str()));
    let mut conditions: Vec<(String, String)> = compared
        .map(|(field, value)| {
            let is_same = match field.as_str() {
                "env" => same_environment(value),
                "volumeMounts" => same_mounts(value),
                _ => format!("c.{field} == {}", literal(value)),
            };
            (format!("!(has(c.{field}) && {is_same})"), quote(field))
        })
        .collect();
    let known = expected.as_object().into_iter().flatten();
    let known = known.map(|(field, _)| field.as_str()).chain(NOT_COMPARED);
    let known = list(known.chain([MESSAGE_PATH]).map(quote));
    // It is mounted into the container, and would hide what is there.
    let moved = format!(
        "has(c.{MESSAGE_PATH}) && c.{MESSAGE_PATH} != {}",
        quote(DEFAULT_MESSAGE_PATH)
    );
    conditions.push((moved, quote(MESSAGE_PATH)));
    format!(
        "({} + c.filter(field, !(field in {known})))",
        those(conditions)
    )
}

/// The refresher reads no variables but its own; the roles are a wish, and the CA may be another.
fn same_environment(expected: &Value) -> String {
    let compared = expected.as_array().into_iter().flatten();
    let compared: Vec<Value> = compared
        .filter(|entry| entry.get("name") != Some(&json!(CA_ENV)))
        .cloned()
        .collect();
    let (roles, ca) = (quote(ROLES_ENV), quote(CA_ENV));
    format!(
        "c.env.filter(e, e.name.startsWith(\"STS_\") && !(e.name in [{roles}, {ca}])) == {} \
         && c.env.filter(e, e.name == {ca} && has(e.value)).size() == 1",
        literal(&compared.into())
    )
}

fn same_mounts(expected: &Value) -> String {
    let ours = list([TOKENS_VOLUME, SUBJECT_VOLUME].map(quote).into_iter());
    let hides = any([TOKENS_PATH, SUBJECT_PATH, PROGRAM].map(overlaps));
    format!(
        "c.volumeMounts.filter(m, m.name in {ours} || {hides}) == {}",
        literal(expected)
    )
}

fn of_volumes() -> Vec<Rule> {
    let is_there = |name: &str, is_ours: &str| {
        let name = quote(name);
        format!("variables.pod_volumes.exists(v, v.name == {name} && {is_ours})")
    };
    let has_tokens = |sources: &str| {
        format!(
            "has(v.projected) && has(v.projected.sources) && v.projected.sources.size() == variables.{sources}.size() \
             && variables.{sources}.all(s, v.projected.sources.exists(f, has(f.serviceAccountToken) \
             && f.serviceAccountToken.path == s.serviceAccountToken.path \
             && has(f.serviceAccountToken.audience) && f.serviceAccountToken.audience == s.serviceAccountToken.audience))"
        )
    };
    let in_memory = "has(v.emptyDir) && has(v.emptyDir.medium) && v.emptyDir.medium == \"Memory\"";
    let rule = |wanted: &str, volume: &'static str, is_ours: &str| {
        let refusal = Refusal::VolumeNameTaken { pod: pod(), volume };
        let condition = format!("variables.{wanted} && !{}", is_there(volume, is_ours));
        (condition, refusal)
    };
    vec![
        rule("added", TOKENS_VOLUME, in_memory),
        rule("sidecar", SUBJECT_VOLUME, &has_tokens("subject_sources")),
        rule(
            "projected",
            PROJECTED_VOLUME,
            &has_tokens("projected_sources"),
        ),
    ]
}
