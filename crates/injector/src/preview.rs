//! A look ahead: what the STS's rules will say of this ServiceAccount and role, by the STS's own code. It is a warning, since the rules
//! may have changed by the time the sidecar asks; and where they depend on what is not known of the pod yet, nothing is said.

use sts_core::ident::{ClusterName, LabelKey, Namespace, Role, ServiceAccountName};
use sts_core::policy::{Attributes, KnownLabels, Labels, Policy, Refusal};

use crate::plan::Plan;
use crate::pod::{PodView, Text};
use crate::review::RequestFacts;
use crate::settings::{EndpointRules, EndpointSettings, Settings};
use crate::warnings::short;

/// The warnings for the endpoints that would refuse the pod.
pub(crate) fn refusals(
    settings: &Settings,
    plan: &Plan<'_>,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Vec<String> {
    let account = pod
        .spec
        .service_account_name
        .as_ref()
        .map_or("", Text::as_str);
    let (Ok(namespace), Ok(account)) = (
        Namespace::parse(&request.namespace),
        ServiceAccountName::parse(account),
    ) else {
        return Vec::new();
    };
    let endpoints = plan.sidecar.iter().flat_map(|sidecar| &sidecar.endpoints);
    endpoints
        .filter_map(|endpoint| {
            let rules = settings
                .rules
                .iter()
                .find(|rules| rules.name == endpoint.name)?;
            let subject = |cluster: &_| {
                Attributes::supposed(cluster, &namespace, &account)
                    .with_labels(labels(&rules.policy, pod))
            };
            let what = refusal(rules, subject, role(plan, endpoint).as_ref())?;
            let name = &endpoint.name;
            Some(short(format!(
                "kube-sts: endpoint {name} will refuse {namespace}/{account}: {what}"
            )))
        })
        .collect()
}

/// What stands against it in every cluster that the pod may be in.
fn refusal(
    rules: &EndpointRules,
    subject: impl Fn(&ClusterName) -> Attributes,
    role: Option<&Role>,
) -> Option<&'static str> {
    let EndpointRules {
        name: _,
        clusters,
        policy,
    } = rules;
    let refusals = clusters
        .iter()
        .map(|cluster| would_refuse(policy, &subject(cluster), role))
        .collect::<Option<Vec<_>>>()?;
    refusals.first().copied()
}

/// What is known of the pod's labels: those that it has now. One that it lacks may yet be added, and so is not known; its namespace's are
/// not known either.
fn labels(policy: &Policy, pod: &PodView<'_>) -> KnownLabels {
    let known = |key: &LabelKey| Some((key.clone(), Some(pod.label(key.as_str())?.to_owned())));
    KnownLabels {
        pod: policy.labels().pod.iter().filter_map(known).collect(),
        namespace: Labels::new(),
    }
}

fn would_refuse(
    policy: &Policy,
    attributes: &Attributes,
    role: Option<&Role>,
) -> Option<&'static str> {
    match policy.decide(attributes, role) {
        Ok(_) | Err(Refusal::Open { .. }) => None,
        Err(Refusal::NoRuleMatches { .. }) => Some("no rule allows it"),
        Err(Refusal::RoleMissing { .. }) => Some("it has to name a role"),
        Err(Refusal::RoleNotBound { .. }) => Some("it may not have that role"),
    }
}

/// The role that the sidecar asks an endpoint for.
fn role(plan: &Plan<'_>, endpoint: &EndpointSettings) -> Option<Role> {
    let mut roles = plan.sidecar.iter().flat_map(|sidecar| &sidecar.roles);
    let (_, role) = roles.find(|(one, _)| one.name == endpoint.name)?;
    Role::parse(role.as_str()).ok()
}
