//! A look ahead: what the STS's rules will say of this ServiceAccount and role, by the STS's own code. It is a warning, since the rules
//! may have changed by the time the sidecar asks; and where they depend on what is not known of the pod yet, nothing is said.

use sts_core::ident::{Namespace, Role, ServiceAccountName};
use sts_core::policy::{Attributes, Policy, Refusal};

use crate::identity::Credentials;
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
            let what = refusal(rules, &namespace, &account, role(plan, endpoint).as_ref())?;
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
    namespace: &Namespace,
    account: &ServiceAccountName,
    role: Option<&Role>,
) -> Option<&'static str> {
    let EndpointRules {
        name: _,
        clusters,
        policy,
    } = rules;
    let of_cluster = |cluster| {
        let attributes = Attributes::supposed(cluster, namespace, account);
        would_refuse(policy, &attributes, role)
    };
    let refusals = clusters
        .iter()
        .map(of_cluster)
        .collect::<Option<Vec<_>>>()?;
    refusals.first().copied()
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

/// The role that a pod wishes for from an endpoint.
fn role(plan: &Plan<'_>, endpoint: &EndpointSettings) -> Option<Role> {
    let granted = plan.grants.iter().find(|(one, _)| *one == endpoint);
    if let Some((_, annotation)) = granted {
        return Role::parse(annotation.as_str()).ok();
    }
    match &plan.identity.as_ref()?.credentials {
        Credentials::Agent { .. } => None,
        Credentials::WebIdentity(roles) => Role::parse(roles.of("")?.as_str()).ok(),
    }
}
