//! What a policy's expressions know of a pod and of the configuration: variables, each of which the next may use.

use serde_json::{Value, json};

use super::cel::{all, any, concatenation, hole, list, literal, quote, those};
use crate::annotations::AnnotationValue;
use crate::plan::{Grant, OPT_IN};
use crate::pod::{OS_LABELS, WINDOWS};
use crate::settings::{EndpointSettings, InjectionMode, Settings};
use crate::sidecar::{
    ENDPOINTS_SEPARATOR, FIRST_TOKEN_NAME, List, SIDECAR_NAME, endpoint_entry, files_value,
    projected_source, subject_source,
};
use crate::wishes::{CREATE_VOLUME, GROUP, IMAGE_USER, USER};

/// A named expression.
pub(super) type Variable = (String, String);

/// What both policies know.
pub(super) fn variables(settings: &Settings) -> Vec<Variable> {
    let served = settings.endpoints.iter().filter(|one| is_served(one));
    let projected = settings.endpoints.iter().filter(|one| !is_served(one));
    let mut variables = of_pod();
    variables.extend(settings.endpoints.iter().flat_map(of_endpoint));
    let of_settings = [
        ("sidecar", any(served.clone().map(wants))),
        ("projected", any(projected.clone().map(wants))),
        ("user", user()),
        ("group", id(GROUP, "0")),
        (
            "added",
            format!(
                "variables.sidecar && {} != \"false\"",
                annotation(CREATE_VOLUME)
            ),
        ),
        (
            "ours",
            list([SIDECAR_NAME, FIRST_TOKEN_NAME].map(quote).into_iter()),
        ),
        ("asker", asker(served.clone())),
        ("endpoints", endpoints(served.clone())),
        ("files", files(served.clone())),
        (
            "subject_sources",
            sources(served, |endpoint| {
                subject_source(&settings.sidecar, endpoint)
            }),
        ),
        ("projected_sources", sources(projected, projected_source)),
    ];
    variables.extend(of_settings.map(|(name, expression)| (name.to_owned(), expression)));
    variables
}

/// The lists of a pod's containers, in the order in which the webhook goes through them.
pub(super) const LISTS: [List; 2] = [List::InitContainers, List::Containers];

/// The variable of a list.
pub(super) fn variable_of(list: List) -> &'static str {
    match list {
        List::Containers => "containers",
        List::InitContainers => "init_containers",
    }
}

/// Whether the endpoint's label asks for a token.
pub(super) fn wants(endpoint: &EndpointSettings) -> String {
    format!("variables.wants_{}", identifier(endpoint))
}

/// The endpoint's annotation, or an empty text.
pub(super) fn value(endpoint: &EndpointSettings) -> String {
    format!("variables.value_{}", identifier(endpoint))
}

/// The endpoint with its annotation, as a plan has them: a hole in its value's place.
pub(super) fn grant(endpoint: &EndpointSettings) -> Grant<'_> {
    let value = AnnotationValue::stand_in(hole(&value(endpoint)));
    (endpoint, value)
}

pub(super) fn is_served(endpoint: &EndpointSettings) -> bool {
    endpoint.mode == InjectionMode::Sidecar
}

/// Whether the pod has an annotation.
pub(super) fn has_annotation(key: &str) -> String {
    format!("{} in variables.annotations", quote(key))
}

/// Its value.
pub(super) fn annotation(key: &str) -> String {
    let key = quote(key);
    format!("({key} in variables.annotations ? variables.annotations[{key}] : \"\")")
}

/// That a text is a uid or gid as [`crate::wishes`] reads it.
pub(super) fn is_id(text: &str) -> String {
    // Ten digits hold the largest, and CEL reads no number that does not fit.
    format!("({text}.matches(\"^0*[0-9]{{1,10}}$\") && int({text}) <= {LARGEST})")
}

/// An endpoint's name is a DNS label.
fn identifier(endpoint: &EndpointSettings) -> String {
    endpoint.name.replace('-', "_")
}

fn of_pod() -> Vec<Variable> {
    let or_empty = |path: &str, empty: &str| {
        let path = format!("variables.pod.{path}");
        format!("has({path}) ? {path} : {empty}")
    };
    let named = |field: &str| {
        let path = format!("variables.pod.metadata.{field}");
        format!("has({path}) && {path} != \"\" ? {path}")
    };
    let label = |label: &&str| {
        let (label, windows) = (quote(label), quote(WINDOWS));
        format!("({label} in variables.nodes && variables.nodes[{label}] == {windows})")
    };
    let windows = format!(
        "has(variables.pod.spec.os) && variables.pod.spec.os.name == {}",
        quote(WINDOWS)
    );
    let windows = [format!("({windows})")]
        .into_iter()
        .chain(OS_LABELS.iter().map(label));
    let variables = [
        // A schema would not let an object be compared with a map.
        ("pod", "dyn(object)".to_owned()),
        ("labels", or_empty("metadata.labels", "{}")),
        ("annotations", or_empty("metadata.annotations", "{}")),
        ("containers", or_empty("spec.containers", "[]")),
        ("init_containers", or_empty("spec.initContainers", "[]")),
        ("pod_volumes", or_empty("spec.volumes", "[]")),
        ("nodes", or_empty("spec.nodeSelector", "{}")),
        (
            "name",
            format!(
                "request.namespace + \"/\" + ({} : {} + \"*\" : \"(no name)\")",
                named("name"),
                named("generateName")
            ),
        ),
        ("windows", any(windows)),
    ];
    variables
        .map(|(name, expression)| (name.to_owned(), expression))
        .into()
}

fn of_endpoint(endpoint: &EndpointSettings) -> [Variable; 2] {
    let (name, key) = (identifier(endpoint), quote(&endpoint.key));
    let wanted = quote(OPT_IN);
    [
        (
            format!("wants_{name}"),
            format!("{key} in variables.labels && variables.labels[{key}] == {wanted}"),
        ),
        (format!("value_{name}"), annotation(&endpoint.key)),
    ]
}

/// As [`crate::wishes::Wishes::user`] decides it.
fn user() -> String {
    let context = "variables.pod.spec.securityContext";
    let is_root = all([
        format!("has({context})"),
        format!("has({context}.runAsUser)"),
        format!("{context}.runAsUser == 0"),
    ]);
    id(USER, &format!("({is_root} ? {IMAGE_USER} : 0)"))
}

/// The number that an annotation names, 0 being none.
fn id(key: &str, otherwise: &str) -> String {
    let text = annotation(key);
    let is_id = is_id(&text);
    format!("{is_id} && int({text}) != 0 ? int({text}) : {otherwise}")
}

/// What asks for the sidecar, as a refusal names it: the first label of several.
fn asker<'e>(served: impl Iterator<Item = &'e EndpointSettings>) -> String {
    let label = |endpoint: &EndpointSettings| quote(&format!("label {}", endpoint.key));
    let labels = those(served.map(|endpoint| (wants(endpoint), label(endpoint))));
    format!("({labels} + [\"\"])[0]")
}

fn endpoints<'e>(served: impl Iterator<Item = &'e EndpointSettings>) -> String {
    let entries = served.map(|endpoint| (wants(endpoint), quote(&endpoint_entry(endpoint))));
    let separator = quote(ENDPOINTS_SEPARATOR);
    format!("{}.join({separator})", those(entries))
}

/// The JSON that [`files_value`] makes of each endpoint's, joined.
fn files<'e>(served: impl Iterator<Item = &'e EndpointSettings>) -> String {
    let entries = served.filter_map(|endpoint| {
        let text = files_value(&[grant(endpoint)])?;
        let elements = text.strip_prefix('[')?.strip_suffix(']')?;
        Some((wants(endpoint), concatenation(elements)))
    });
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return quote("");
    }
    let files = those(entries);
    format!("{files}.size() == 0 ? \"\" : \"[\" + {files}.join(\",\") + \"]\"")
}

fn sources<'e>(
    endpoints: impl Iterator<Item = &'e EndpointSettings>,
    source: impl Fn(&EndpointSettings) -> Value,
) -> String {
    those(endpoints.map(|endpoint| (wants(endpoint), literal(&source(endpoint)))))
}

/// A volume's list of sources, in a hole.
pub(super) fn sources_hole(variable: &str) -> Value {
    json!(hole(&format!("variables.{variable}")))
}

const LARGEST: i64 = crate::wishes::LARGEST_ID;
