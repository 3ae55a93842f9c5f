//! No-webhook mode: what [`decide`](crate::decide) and [`patch`](crate::patch) do for labels, as policies that the API server applies by
//! itself (<https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>, GA in Kubernetes 1.36).
//!
//! A MutatingAdmissionPolicy adds what the patch adds, and nothing to a pod that would be refused; a ValidatingAdmissionPolicy refuses that
//! pod in the same words, and one that another has changed since. Containers, volumes, variables and sentences are made by
//! the code that the webhook uses, with a hole where it puts in something of the pod (`cel.rs`); only conditions are written twice.
//! The CA that sidecars trust is a parameter, which the API server reads from its ConfigMap: it follows each renewal.

mod additions;
mod cel;
mod facts;
mod refused;
mod undone;

use serde_json::{Map, Value, json};
use sts_config::Config;
use thiserror::Error;

use crate::decide::MIRROR_ANNOTATION;
use crate::plan::OPT_OUT;
use crate::settings::{EndpointSettings, Settings};
use facts::Variable;

/// Why there is no policy.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// The configuration has no part `injector`, and so no sidecar.
    #[error("the configuration has no part `injector`, which says what the sidecar is")]
    NoInjector,
    /// No endpoint can be asked for.
    #[error("no endpoint has a part `injector`: there is nothing to add to a pod")]
    NoEndpoint,
}

/// What policies do otherwise than the webhook, or cannot do at all: what whoever applies them has to know.
pub const DIFFERENCES: [&str; 10] = [
    "Pods of annotated ServiceAccounts get nothing: an expression cannot look up another object.",
    "Nobody is warned of what was probably meant, nor of what the STS's rules would refuse.",
    "There is no `injector_decisions_total`, and no audit annotation with the reason: the API server's own metrics of policies and its \
     audit log say what was refused.",
    "Of several things that are wrong with a pod another may be named first.",
    "An annotation that is too long is refused with the shape that is expected, not with its length.",
    "A pod that mounts a volume of ours without bringing it is refused by the API server, which misses the volume.",
    "A mount whose path has `..` in it counts as hiding ours, wherever it leads, and its pod is refused.",
    "While the CA of the STS is missing, labelled pods are refused in the API server's words; a CA that is no certificate is handed out, \
     and the sidecar says so.",
    "A sidecar whose form is `auto` is a native one.",
    "Policies are of the configuration from which they were rendered: render and apply them again when it changes, the refresher's image by \
     an upgrade included.",
];

/// Where policies are put, and what they look at.
#[derive(Debug)]
pub struct Scope<'s> {
    /// What they are named.
    pub name: &'s str,
    /// The namespace of the installation: the CA's ConfigMap is there, and its pods are left alone.
    pub namespace: &'s str,
    /// Labels of the namespaces whose pods are looked at; none is all.
    pub namespace_labels: &'s [(String, String)],
}

/// The policies and their bindings, in the order in which they are to be applied: what refuses comes before what adds.
///
/// # Errors
/// [`PolicyError`] in all its variants.
pub fn render(config: &Config, scope: &Scope<'_>) -> Result<Vec<Value>, PolicyError> {
    let injector = config.injector.as_ref().ok_or(PolicyError::NoInjector)?;
    // The ServiceAccounts' part needs a look at other objects, which no expression can have.
    let mut settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, None);
    settings
        .excluded_namespaces
        .push(scope.namespace.to_owned());
    if settings.endpoints.is_empty() {
        return Err(PolicyError::NoEndpoint);
    }
    let parameter = settings
        .endpoints
        .iter()
        .any(facts::is_served)
        .then_some(injector.server_ca_config_map.as_str());
    let param_ref = parameter.map(|name| {
        let reference =
            json!({"name": name, "namespace": scope.namespace, "parameterNotFoundAction": "Deny"});
        ("paramRef", reference)
    });
    let mut objects = vec![validating(&settings, scope)];
    let deny = Some(("validationActions", json!(["Deny"])));
    objects.extend(bindings(&settings, scope, "Validating", deny.as_ref()));
    objects.push(mutating(&settings, scope, parameter.is_some()));
    objects.extend(bindings(&settings, scope, "Mutating", param_ref.as_ref()));
    Ok(objects)
}

fn mutating(settings: &Settings, scope: &Scope<'_>, has_parameter: bool) -> Value {
    let mut variables = facts::variables(settings);
    variables.extend(refused::variables(settings));
    variables.extend(additions::variables(settings));
    let mut spec = common(settings, scope, &variables);
    if has_parameter {
        let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        spec.insert("paramKind".to_owned(), kind);
    }
    let expression = additions::expression(settings);
    let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    spec.insert("mutations".to_owned(), json!([mutation]));
    spec.insert("reinvocationPolicy".to_owned(), json!("IfNeeded"));
    object("MutatingAdmissionPolicy", scope.name, spec)
}

fn validating(settings: &Settings, scope: &Scope<'_>) -> Value {
    let mut variables = facts::variables(settings);
    variables.extend(refused::variables(settings));
    variables.extend(undone::variables(settings));
    let mut spec = common(settings, scope, &variables);
    let validation = |sentences: &str, otherwise: &str| {
        json!({
            "expression": format!("{otherwise}variables.{sentences}.size() == 0"),
            "messageExpression": format!("variables.{sentences}[0]"),
            "reason": "Invalid",
        })
    };
    let validations = json!([
        validation("refusals", ""),
        validation("undone", "variables.refusals.size() > 0 || "),
    ]);
    spec.insert("validations".to_owned(), validations);
    object("ValidatingAdmissionPolicy", scope.name, spec)
}

fn common(settings: &Settings, scope: &Scope<'_>, variables: &[Variable]) -> Map<String, Value> {
    let mirror = cel::quote(MIRROR_ANNOTATION);
    let condition = json!({
        "name": "not-a-mirror-pod",
        "expression": format!("!has(object.metadata.annotations) || !({mirror} in object.metadata.annotations)"),
    });
    let variables = variables
        .iter()
        .map(|(name, expression)| json!({"name": name, "expression": expression}));
    let members = [
        ("failurePolicy", json!("Fail")),
        ("matchConstraints", constraints(settings, scope)),
        ("matchConditions", json!([condition])),
        ("variables", variables.collect()),
    ];
    members
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn constraints(settings: &Settings, scope: &Scope<'_>) -> Value {
    let excluded = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": settings.excluded_namespaces,
    });
    let labels = scope.namespace_labels.iter();
    let labels: Map<String, Value> = labels
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    json!({
        "resourceRules": [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced",
        }],
        "namespaceSelector": {"matchExpressions": [excluded], "matchLabels": labels},
    })
}

/// One for each label, so that the API server looks at no pod without one, not even while the parameter is missing. A pod with two is
/// looked at twice, the second time to no effect.
fn bindings(
    settings: &Settings,
    scope: &Scope<'_>,
    kind: &str,
    more: Option<&(&str, Value)>,
) -> Vec<Value> {
    let binding = |endpoint: &EndpointSettings| {
        let labels = json!([
            {"key": endpoint.key, "operator": "Exists"},
            {"key": endpoint.key, "operator": "NotIn", "values": [OPT_OUT]},
        ]);
        let members = [
            ("policyName", json!(scope.name)),
            (
                "matchResources",
                json!({"objectSelector": {"matchExpressions": labels}}),
            ),
        ];
        let members = members.into_iter().chain(more.cloned());
        let spec = members
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let name = format!("{}-{}", scope.name, endpoint.name);
        object(&format!("{kind}AdmissionPolicyBinding"), &name, spec)
    };
    settings.endpoints.iter().map(binding).collect()
}

fn object(kind: &str, name: &str, spec: Map<String, Value>) -> Value {
    let labels = json!({"app.kubernetes.io/part-of": "kube-sts"});
    Value::from_iter([
        ("apiVersion", json!("admissionregistration.k8s.io/v1")),
        ("kind", json!(kind)),
        ("metadata", json!({"name": name, "labels": labels})),
        ("spec", Value::Object(spec)),
    ])
}

#[cfg(test)]
mod tests {
    use super::DIFFERENCES;

    #[test]
    fn the_documentation_names_each_difference() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let page = words(include_str!("../../../docs/injection.md"));
        for difference in DIFFERENCES {
            assert!(page.contains(&format!("* {difference}")), "{difference}");
        }
    }
}
