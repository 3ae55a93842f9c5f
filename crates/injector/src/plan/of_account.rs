//! What the ServiceAccount gives, beside what labels give the same pod.

use super::{Asked, Grant, Plan, grants, is_served, labelled, sidecar, wanted};
use crate::annotations::AnnotationValue;
use crate::collide;
use crate::decide::SkipReason;
use crate::identity::{Credentials, Identity};
use crate::plan::OPT_IN;
use crate::refusal::Refusal;
use crate::settings::{AWS_ROLE_ARN, AWS_TOKEN_FILE, EndpointSettings};

/// What is made of a pod whose ServiceAccount gives it something.
pub(crate) enum OfAccount<'a> {
    /// This.
    Plan(Box<Plan<'a>>),
    /// Nothing, for this reason.
    Skip(SkipReason),
}

/// What the ServiceAccount gives; nothing if a label gives the same variables. The labels' sidecar serves it too, so theirs are part of
/// the plan where it needs one.
pub(crate) fn plan_of_account<'a>(
    asked: &Asked<'a, '_>,
    identity: Identity<'a>,
) -> Result<OfAccount<'a>, Refusal> {
    let labelled: Vec<_> = labelled(asked.settings, asked.pod)
        .into_iter()
        .filter(|(_, label)| *label == OPT_IN)
        .collect();
    if labelled.iter().any(|(endpoint, _)| is_for_aws(endpoint)) {
        return Ok(OfAccount::Skip(SkipReason::Labelled));
    }
    let mut plan = Plan {
        grants: Vec::new(),
        identity: None,
        sidecar: None,
    };
    if let Some(endpoint) = identity.endpoint.filter(|one| is_served(one)) {
        plan.grants = grants(asked, &labelled)?;
        let mut roles = wanted(&plan.grants);
        let mut served: Vec<_> = roles.iter().map(|(endpoint, _)| *endpoint).collect();
        let role = role(asked, &identity, endpoint, &roles)?;
        if !served.iter().any(|one| one.name == endpoint.name) {
            // The labels' entry was first: this one was not called then, or its lookup had no answer. The sidecar cannot be changed any more.
            if !served.is_empty() && collide::serves_exactly(&served, &asked.pod.spec) {
                return Ok(OfAccount::Skip(SkipReason::SidecarWithoutAccount));
            }
            served.push(endpoint);
            roles.extend(role.map(|role| (endpoint, role)));
        }
        plan.sidecar = sidecar(asked, served, roles)?;
    }
    plan.identity = Some(identity);
    collide::pod(asked.settings, &plan, &asked.request.pod, asked.pod)?;
    Ok(OfAccount::Plan(Box::new(plan)))
}

fn is_for_aws(endpoint: &EndpointSettings) -> bool {
    let names = [&endpoint.token_env, &endpoint.annotation_env];
    names
        .iter()
        .any(|name| *name == AWS_ROLE_ARN || *name == AWS_TOKEN_FILE)
}

/// The role that the sidecar is to ask for. It keeps one token of an endpoint: where that is for a role, all who name one have to name the
/// same, the label of the same endpoint too.
fn role(
    asked: &Asked<'_, '_>,
    identity: &Identity<'_>,
    endpoint: &EndpointSettings,
    labels: &[Grant<'_>],
) -> Result<Option<AnnotationValue>, Refusal> {
    let Credentials::WebIdentity(roles) = &identity.credentials else {
        return Ok(None);
    };
    let is_there = |name: &str| collide::has_container(name, &asked.pod.spec);
    let counts = |name: &str| identity.scope.covers(name) && is_there(name);
    let prefix = asked.settings.identity.as_ref();
    let prefix = prefix.map_or("", |identity| identity.prefix.as_str());
    let of_label = labels.iter().filter(|(one, _)| one.name == endpoint.name);
    let of_label = of_label.map(|(one, role)| (format!("annotation {}", one.key), role));
    let of_account = roles
        .named()
        .filter(|(_, container, _)| container.is_none_or(counts))
        .map(|(name, _, role)| (format!("annotation {prefix}/{name}"), role));
    let mut all = of_label.chain(of_account);
    let Some((first, role)) = all.next() else {
        return Ok(None);
    };
    let mut rules = asked.settings.rules.iter();
    let binds = rules.any(|rules| rules.name == endpoint.name && rules.policy.binds_roles());
    match all.find(|(_, other)| *other != role) {
        Some((second, _)) if binds => Err(Refusal::RolesDiffer {
            pod: asked.request.pod.clone(),
            endpoint: endpoint.name.clone(),
            first,
            second,
        }),
        Some(_) | None => Ok(Some(role.clone())),
    }
}
