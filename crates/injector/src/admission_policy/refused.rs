//! Which pods [`crate::decide`] refuses, in its words, before anything is added to them.

use super::cel::{all, concatenation, hole, list, quote, those};
use super::facts::{
    LISTS, Variable, annotation, has_annotation, is_id, is_served, value, variable_of, wants,
};
use crate::annotations::{AnnotationProblem, MAX_BYTES, pattern};
use crate::collide::first_clash;
use crate::plan::{OPT_IN, OPT_OUT};
use crate::refusal::Refusal;
use crate::review::PodName;
use crate::settings::{EndpointSettings, Settings};
use crate::sidecar::{
    self, FIRST_TOKEN_NAME, PROJECTED_PATH, PROJECTED_VOLUME, SIDECAR_NAME, SUBJECT_VOLUME,
    TOKENS_PATH, TOKENS_VOLUME,
};
use crate::wishes::{A_FLAG, A_NUMBER, CREATE_VOLUME, GROUP, NON_ROOT, USER};

/// A condition, and why a pod of which it holds is refused.
pub(super) type Rule = (String, Refusal);

/// The sentences of a pod that nothing is added to: what it asks for, and what of its own stands in our way.
pub(super) fn variables(settings: &Settings) -> Vec<Variable> {
    let mut rules: Vec<Rule> = settings.endpoints.iter().flat_map(of_values).collect();
    rules.extend(of_pairs(&settings.endpoints));
    rules.extend(settings.endpoints.iter().flat_map(of_places));
    rules.extend(of_wishes());
    rules.extend(of_names(settings));
    let mut variables = Vec::new();
    for (name, condition, refusal) in of_mounts() {
        let others = "(variables.init_containers + variables.containers).filter(c, !(c.name in variables.ours))";
        let found = format!(
            "{others}.filter(c, has(c.volumeMounts) && c.volumeMounts.exists(m, {condition})).map(c, c.name)"
        );
        variables.push((name.clone(), found));
        rules.push((format!("variables.{name}.size() > 0"), refusal));
    }
    variables.push(("refusals".to_owned(), sentences(rules)));
    variables
}

pub(super) fn sentences(rules: impl IntoIterator<Item = Rule>) -> String {
    let rules = rules.into_iter();
    those(rules.map(|(condition, refusal)| (condition, concatenation(&refusal.to_string()))))
}

pub(super) fn pod() -> PodName {
    PodName::stand_in(hole("variables.name"))
}

/// Label and annotation of an endpoint.
fn of_values(endpoint: &EndpointSettings) -> Vec<Rule> {
    let EndpointSettings { key, shape, .. } = endpoint;
    let (quoted, wants, value) = (quote(key), wants(endpoint), value(endpoint));
    let known = list([OPT_IN, OPT_OUT].map(quote).into_iter());
    let is_shaped = format!(
        "{value}.size() <= {MAX_BYTES} && {value}.matches({})",
        quote(pattern(*shape))
    );
    vec![
        (
            format!("{quoted} in variables.labels && !(variables.labels[{quoted}] in {known})"),
            Refusal::LabelValue {
                pod: pod(),
                key: key.clone(),
            },
        ),
        (
            format!("{wants} && {value}.trim() == \"\""),
            Refusal::AnnotationMissing {
                pod: pod(),
                key: key.clone(),
                shape: *shape,
            },
        ),
        (
            format!("{wants} && {value}.trim() != \"\" && !({is_shaped})"),
            Refusal::AnnotationInvalid {
                pod: pod(),
                key: key.clone(),
                problem: AnnotationProblem::Shape,
                shape: *shape,
            },
        ),
    ]
}

/// Endpoints that cannot be in one pod.
fn of_pairs(endpoints: &[EndpointSettings]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (at, second) in endpoints.iter().enumerate() {
        for first in endpoints.iter().take(at) {
            if let Some((variable, _, _)) = first_clash([first, second]) {
                let refusal = Refusal::EnvironmentClash {
                    pod: pod(),
                    variable: variable.to_owned(),
                    first: first.name.clone(),
                    second: second.name.clone(),
                };
                rules.push((all([wants(first), wants(second)]), refusal));
            }
        }
    }
    rules
}

/// Pods that no sidecar runs in.
fn of_places(endpoint: &EndpointSettings) -> Vec<Rule> {
    if !is_served(endpoint) {
        return Vec::new();
    }
    let wants = wants(endpoint);
    let key = format!("label {}", endpoint.key);
    let on_host = "has(variables.pod.spec.hostNetwork) && variables.pod.spec.hostNetwork";
    vec![
        (
            format!("{wants} && variables.windows"),
            Refusal::Windows {
                pod: pod(),
                key: key.clone(),
            },
        ),
        (
            format!("{wants} && {on_host}"),
            Refusal::HostNetwork { pod: pod(), key },
        ),
    ]
}

fn of_wishes() -> Vec<Rule> {
    let wish = |key: &'static str, is_good: String, expected: &'static str| {
        let condition = format!("variables.sidecar && {} && !{is_good}", has_annotation(key));
        let refusal = Refusal::Wish {
            pod: pod(),
            key,
            expected,
        };
        (condition, refusal)
    };
    let flag = |key| format!("({} in [\"true\", \"false\"])", annotation(key));
    let has_tokens = format!(
        "variables.pod_volumes.exists(v, v.name == {})",
        quote(TOKENS_VOLUME)
    );
    vec![
        wish(NON_ROOT, flag(NON_ROOT), A_FLAG),
        wish(CREATE_VOLUME, flag(CREATE_VOLUME), A_FLAG),
        wish(USER, is_id(&annotation(USER)), A_NUMBER),
        wish(GROUP, is_id(&annotation(GROUP)), A_NUMBER),
        (
            format!("variables.sidecar && !variables.added && !{has_tokens}"),
            Refusal::VolumeMissing {
                pod: pod(),
                volume: TOKENS_VOLUME,
            },
        ),
    ]
}

/// Our names where the configured form of the sidecar has no container of them.
fn of_names(settings: &Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    for place in LISTS {
        for name in [SIDECAR_NAME, FIRST_TOKEN_NAME] {
            let mut known = sidecar::roles(settings.sidecar.form).iter();
            if known.any(|(list, role)| *list == place && role.container_name() == name) {
                continue;
            }
            let refusal = Refusal::ContainerNameTaken {
                pod: pod(),
                container: name,
                key: hole("variables.asker"),
            };
            let quoted = quote(name);
            let list = variable_of(place);
            let condition =
                format!("variables.sidecar && variables.{list}.exists(c, c.name == {quoted})");
            rules.push((condition, refusal));
        }
    }
    rules
}

/// Mounts that no container but ours may have: a variable's name, a condition on mount `m`, and the refusal.
fn of_mounts() -> Vec<(String, String, Refusal)> {
    let own = |volume: &str, path: &str| {
        all([
            format!("m.name == {}", quote(volume)),
            format!("m.mountPath == {}", quote(path)),
            "has(m.readOnly) && m.readOnly && !has(m.subPath) && !has(m.subPathExpr)".to_owned(),
        ])
    };
    let mut rules = Vec::new();
    for volume in [SUBJECT_VOLUME, TOKENS_VOLUME] {
        let name = format!("mounts_{}", volume.replace('-', "_"));
        let is_own = own(TOKENS_VOLUME, TOKENS_PATH);
        let condition = format!(
            "variables.sidecar && m.name == {} && !({is_own})",
            quote(volume)
        );
        let container = hole(&format!("variables.{name}[0]"));
        let refusal = Refusal::VolumeMounted {
            pod: pod(),
            container,
            volume,
        };
        rules.push((name, condition, refusal));
    }
    for (wanted, volume, path) in [
        ("sidecar", TOKENS_VOLUME, TOKENS_PATH),
        ("projected", PROJECTED_VOLUME, PROJECTED_PATH),
    ] {
        let name = format!("hides_{}", volume.replace('-', "_"));
        let condition = format!(
            "variables.{wanted} && !({}) && {}",
            own(volume, path),
            overlaps(path)
        );
        let container = hole(&format!("variables.{name}[0]"));
        let refusal = Refusal::MountTaken {
            pod: pod(),
            container,
            path,
        };
        rules.push((name, condition, refusal));
    }
    rules
}

/// That mount `m` is at, under or above the path. CEL cannot take `..` back, so a path with one counts as such.
pub(super) fn overlaps(path: &str) -> String {
    let path = quote(&format!("{path}/"));
    let normal = "(\"/\" + m.mountPath.split(\"/\").filter(s, s != \"\" && s != \".\").map(s, s + \"/\").join(\"\"))";
    format!(
        "({normal}.startsWith({path}) || {path}.startsWith({normal}) || m.mountPath.split(\"/\").exists(s, s == \"..\"))"
    )
}
