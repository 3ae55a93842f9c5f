//! Which pods [`crate::decide`] refuses, in its words, by what they look like in the end: what somebody has undone since it was added.

use serde_json::json;

use super::cel::{all, any, hole, list, literal, quote, those};
use super::facts::{Variable, is_served, variable_of};
use super::refused::{Rule, overlaps, pod, sentences};
use crate::intact::SELINUX_TYPES;
use crate::refusal::Refusal;
use crate::settings::{Gate, Settings};
use crate::sidecar::{
    self, CA_ENV, DEFAULT_MESSAGE_PATH, ENDPOINTS_ENV, FILES_ENV, LISTEN_ENV, List, MESSAGE_PATH,
    PROGRAM, PROJECTED_VOLUME, ROLES_ENV, Role, SUBJECT_PATH, SUBJECT_VOLUME, TOKENS_PATH,
    TOKENS_VOLUME, WAIT_ENV,
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
        let (variable, more) = of_container(*place, *role);
        variables.extend(variable);
        rules.extend(more);
    }
    rules.extend(of_volumes());
    variables.push(("undone".to_owned(), sentences(rules)));
    variables
}

/// A container of ours as [`crate::collide`] and [`crate::intact`] look at it: which are found, and what is wrong with them.
fn of_container(place: List, role: Role) -> ([Variable; 2], [Rule; 4]) {
    let name = role.container_name();
    let (found, spoilt) = (
        format!("found_{}", name.replace('-', "_")),
        format!("spoilt_{}", name.replace('-', "_")),
    );
    let (list, quoted) = (variable_of(place), quote(name));
    let is_ours = format!(
        "c.name == {quoted} && has(c.env) && {}.size() > 0",
        texts(ENDPOINTS_ENV)
    );
    let fields = those(spoilt_fields(role));
    let rules = rules(name, &found, &spoilt);
    let variables = [
        (
            found.clone(),
            format!("variables.{list}.filter(c, {is_ours})"),
        ),
        (
            spoilt,
            format!("variables.{found}.map(c, {fields}).flatten()"),
        ),
    ];
    (variables, rules)
}

fn rules(name: &'static str, found: &str, spoilt: &str) -> [Rule; 4] {
    let not_all =
        |condition: &str| format!("variables.sidecar && !variables.{found}.all(c, {condition})");
    let names = |text: &str| format!("{text}.split(\",\").map(entry, entry.split(\"=\")[0])");
    let endpoints = texts(ENDPOINTS_ENV);
    let (served, wanted) = (
        names(&format!("{endpoints}[0]")),
        names("variables.endpoints"),
    );
    let files = "(variables.files == \"\" ? [] : [variables.files])";
    let is_by_ours = format!(
        "{endpoints} == [variables.endpoints] && {} == {files}",
        texts(FILES_ENV)
    );
    let taken = Refusal::ContainerNameTaken {
        pod: pod(),
        container: name,
        key: hole("variables.asker"),
    };
    let outdated = Refusal::SidecarOutdated {
        pod: pod(),
        container: name,
    };
    let other_settings = Refusal::OtherSettings {
        pod: pod(),
        part: format!("container {name}"),
    };
    let changed = Refusal::SidecarChanged {
        pod: pod(),
        container: name,
        part: hole(&format!("variables.{spoilt}[0]")),
    };
    [
        (
            format!("variables.sidecar && variables.{found}.size() != 1"),
            taken,
        ),
        (not_all(&format!("{served} == {wanted}")), outdated),
        (not_all(&is_by_ours), other_settings),
        (
            format!("variables.sidecar && variables.{spoilt}.size() > 0"),
            changed,
        ),
    ]
}

/// The values of a variable of container `c`.
fn texts(variable: &str) -> String {
    let name = quote(variable);
    format!("c.env.filter(e, e.name == {name} && has(e.value)).map(e, string(e.value))")
}

/// Conditions on container `c`, each with the field in which it does not work, or is less confined.
fn spoilt_fields(role: Role) -> Vec<(String, String)> {
    let args = literal(&json!([role.command()]));
    let gate = |gate| literal(&sidecar::render_gate(gate).1);
    let probe = |field: &str, ours: &str| format!("has(c.{field}) && c.{field} != {ours}");
    let listed = |field: &str| format!("has(c.{field}) && c.{field}.size() > 0");
    let hook = "has(c.lifecycle) && has(c.lifecycle.postStart)";
    let (lifecycle, startup, restart) = if role == Role::Native {
        (
            format!(
                "!({hook}) ? !has(c.startupProbe) : {{\"postStart\": c.lifecycle.postStart}} != {}",
                gate(Gate::Hook)
            ),
            probe("startupProbe", &gate(Gate::Probe)),
            "!(has(c.restartPolicy) && c.restartPolicy == \"Always\")",
        )
    } else {
        (
            hook.to_owned(),
            "has(c.startupProbe)".to_owned(),
            "has(c.restartPolicy)",
        )
    };
    let liveness = literal(&sidecar::render_liveness());
    let last_words = quote(DEFAULT_MESSAGE_PATH);
    let checks = [
        ("args", format!("!(has(c.args) && c.args == {args})")),
        ("command", listed("command")),
        ("env", format!("!({})", our_environment())),
        ("envFrom", listed("envFrom")),
        ("lifecycle", format!("({lifecycle})")),
        ("livenessProbe", probe("livenessProbe", &liveness)),
        ("readinessProbe", "has(c.readinessProbe)".to_owned()),
        ("restartPolicy", restart.to_owned()),
        ("securityContext", format!("!({})", is_confined())),
        ("startupProbe", startup),
        // It is mounted into the container, and would hide what is there.
        (MESSAGE_PATH, probe(MESSAGE_PATH, &last_words)),
        ("volumeDevices", listed("volumeDevices")),
        ("volumeMounts", format!("!({})", our_mounts())),
    ];
    let quoted = |(field, condition): (&str, String)| (condition, quote(field));
    checks.into_iter().map(quoted).collect()
}

/// The refresher reads no variables but its own, which it has once each.
fn our_environment() -> String {
    let known = [
        ENDPOINTS_ENV,
        CA_ENV,
        FILES_ENV,
        ROLES_ENV,
        WAIT_ENV,
        LISTEN_ENV,
    ];
    let needed = [ENDPOINTS_ENV, CA_ENV, WAIT_ENV];
    let ours = "c.env.filter(e, e.name.startsWith(\"STS_\"))";
    let needed = needed.map(|name| format!("{}.size() == 1", texts(name)));
    let is_like = |name: &str, pattern: &str| {
        format!(
            "{}.all(value, value.matches({}))",
            texts(name),
            quote(pattern)
        )
    };
    all([
        format!(
            "{ours}.all(e, e.name in {} && has(e.value) && {ours}.filter(f, f.name == e.name).size() == 1)",
            list(known.map(quote).into_iter())
        ),
        all(needed),
        is_like(WAIT_ENV, "^0*[1-9][0-9]*(ms|s)$"),
        is_like(LISTEN_ENV, r"^\[::\]:[0-9]{1,5}$"),
    ])
}

fn our_mounts() -> String {
    let ours = list([TOKENS_VOLUME, SUBJECT_VOLUME].map(quote).into_iter());
    let hides = any([TOKENS_PATH, SUBJECT_PATH, PROGRAM].map(overlaps));
    let wanted = sidecar::own_mounts().map(|mount| literal(&mount));
    let found = format!("c.volumeMounts.filter(m, m.name in {ours} || {hides})");
    let is_there = wanted.map(|mount| format!("{found}.exists(m, m == {mount})"));
    all([
        "has(c.volumeMounts)".to_owned(),
        format!("{found}.size() == {}", is_there.len()),
        all(is_there),
    ])
}

fn is_confined() -> String {
    let context = "c.securityContext";
    let is = |field: &str, value: &str| {
        format!("has({context}.{field}) && {context}.{field} == {value}")
    };
    let absent_or =
        |field: &str, condition: &str| format!("(!has({context}.{field}) || {condition})");
    let is_profile =
        |field: &str| format!("{context}.{field}.type in [\"RuntimeDefault\", \"Localhost\"]");
    let options = format!("{context}.seLinuxOptions");
    let is_empty = |field: &str| format!("(!has({options}.{field}) || {options}.{field} == \"\")");
    let types = list(SELINUX_TYPES.map(quote).into_iter());
    let selinux = all([
        is_empty("user"),
        is_empty("role"),
        format!("(!has({options}.type) || {options}.type in {types})"),
    ]);
    let added = format!("{context}.capabilities.add");
    all([
        "has(c.securityContext)".to_owned(),
        is("allowPrivilegeEscalation", "false"),
        is("readOnlyRootFilesystem", "true"),
        is("runAsNonRoot", "true"),
        format!(
            "has({context}.capabilities) && has({context}.capabilities.drop) && \"ALL\" in {context}.capabilities.drop"
        ),
        format!("(!has({added}) || {added}.size() == 0)"),
        format!(
            "has({context}.seccompProfile) && {}",
            is_profile("seccompProfile")
        ),
        absent_or("appArmorProfile", &is_profile("appArmorProfile")),
        absent_or("privileged", &format!("{context}.privileged == false")),
        absent_or("procMount", &format!("{context}.procMount == \"Default\"")),
        absent_or("seLinuxOptions", &format!("({selinux})")),
        absent_or("runAsUser", &format!("{context}.runAsUser > 0")),
        format!("(variables.user == 0 || has({context}.runAsUser))"),
        format!(
            "{context}.all(field, field in {})",
            list(CONTEXT_FIELDS.map(quote).into_iter())
        ),
    ])
}

/// The fields of a security context that are looked at, or may be as they like; what another does nobody knows.
const CONTEXT_FIELDS: [&str; 11] = [
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "privileged",
    "procMount",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxOptions",
    "seccompProfile",
];

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
