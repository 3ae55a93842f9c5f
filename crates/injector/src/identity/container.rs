//! What a container is told: variables in the order of AWS's webhook, and none that the container has already.

use serde_json::{Value, json};

use super::{Credentials, Identity, Session};
use crate::pod::{ContainerView, Text};
use crate::settings::{AWS_ROLE_ARN, AWS_TOKEN_FILE};

/// The entries of the environment that a container lacks. Nothing for a container that is left alone altogether, mount and all: one
/// that is not served, or has variables of each kind already, and credentials that are not ours.
pub(crate) fn additions(
    identity: &Identity<'_>,
    container: &ContainerView<'_>,
) -> Option<Vec<Value>> {
    let credentials = credential_variables(identity, container);
    if credentials.is_empty() || is_left_alone(&credentials, container) {
        return None;
    }
    let mut entries = Vec::new();
    for kind in surroundings(identity) {
        entries.extend(missing(&kind, container));
    }
    let ours = missing(&credentials, container);
    let names_session = !ours.is_empty() && container.variable(SESSION).is_none();
    entries.extend(ours);
    if names_session {
        entries.extend(session(&identity.session));
    }
    Some(entries)
}

/// The names of variables that the container has with values of its own, where ours would say something else.
pub(crate) fn kept(identity: &Identity<'_>, container: &ContainerView<'_>) -> Vec<&'static str> {
    let credentials = credential_variables(identity, container);
    if credentials.is_empty() {
        return Vec::new();
    }
    let kinds = surroundings(identity).into_iter().chain([credentials]);
    let names = kinds.flatten().filter(|one| is_other(*one, container));
    let mut names: Vec<_> = names.map(|(name, _)| name).collect();
    let own = container.variable(SESSION);
    let own = own.and_then(|entry| entry.value.as_ref()).map(Text::as_str);
    // The pod's name is by a reference, which has no value here: whose it is cannot be told, and nothing is said.
    let is_other = match (&identity.session, own) {
        (Session::Named(ours), Some(own)) => ours.as_str() != own,
        (Session::Pod, Some(_)) => true,
        (Session::Default, _) | (_, None) => false,
    };
    names.extend(is_other.then_some(SESSION));
    names
}

/// Whether a container for which there are credentials does without the token's volume, for what it has.
pub(crate) fn is_alone(identity: &Identity<'_>, container: &ContainerView<'_>) -> bool {
    let credentials = credential_variables(identity, container);
    let mut mounts = container.volume_mounts.iter().flatten();
    let is_mounted = mounts.any(|mount| mount.name.as_str() == identity.volume.name);
    !credentials.is_empty() && !is_mounted && is_left_alone(&credentials, container)
}

/// As AWS's webhook has it.
fn is_left_alone(credentials: &[Variable<'_>], container: &ContainerView<'_>) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| container.variable(name).is_some());
    has_others(credentials, container) && has(&REGION) && has(&[REGIONAL_STS])
}

/// A variable's name and our value of it.
type Variable<'v> = (&'static str, &'v str);

/// Where AWS is, of each kind what we would say: the STS endpoint, and the region.
fn surroundings<'i>(identity: &'i Identity<'_>) -> [Vec<Variable<'i>>; 2] {
    let sts = identity.regional_sts.then_some((REGIONAL_STS, "regional"));
    let region = identity.region.into_iter();
    let region = region.flat_map(|region| REGION.map(|name| (name, region)));
    [sts.into_iter().collect(), region.collect()]
}

/// What is lacking of a kind. Half of ours and half of theirs is neither, so one value that is not ours keeps ours out.
fn missing(kind: &[Variable<'_>], container: &ContainerView<'_>) -> Vec<Value> {
    if has_others(kind, container) {
        return Vec::new();
    }
    let lacking = kind
        .iter()
        .filter(|(name, _)| container.variable(name).is_none());
    lacking
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn has_others(kind: &[Variable<'_>], container: &ContainerView<'_>) -> bool {
    kind.iter().any(|one| is_other(*one, container))
}

/// Whether the container has the variable, and not with our value.
pub(crate) fn is_other((name, value): (&str, &str), container: &ContainerView<'_>) -> bool {
    container
        .variable(name)
        .is_some_and(|entry| entry.value.as_ref().map(Text::as_str) != Some(value))
}

/// The variables that credentials come by, and our values of them; empty for a container that is not served.
pub(crate) fn credential_variables<'i>(
    identity: &'i Identity<'_>,
    container: &ContainerView<'_>,
) -> Vec<Variable<'i>> {
    let name = container.name.as_str();
    if !identity.scope.covers(name) {
        return Vec::new();
    }
    match &identity.credentials {
        Credentials::Agent { uri } => vec![
            (AGENT_URI, *uri),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                &identity.token_file,
            ),
        ],
        Credentials::WebIdentity(roles) => roles.of(name).map_or_else(Vec::new, |role| {
            vec![
                (AWS_ROLE_ARN, role.as_str()),
                (AWS_TOKEN_FILE, &identity.token_file),
            ]
        }),
    }
}

fn session(session: &Session) -> Option<Value> {
    match session {
        Session::Default => None,
        Session::Named(name) => Some(json!({"name": SESSION, "value": name.as_str()})),
        Session::Pod => {
            let field = json!({"apiVersion": "v1", "fieldPath": "metadata.name"});
            Some(json!({"name": SESSION, "valueFrom": {"fieldRef": field}}))
        }
    }
}

/// Where containers are told to find the agent.
pub(crate) const AGENT_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// In the order they are written.
const REGION: [&str; 2] = ["AWS_DEFAULT_REGION", "AWS_REGION"];
const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";
