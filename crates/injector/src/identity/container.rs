//! What a container is told: variables in the order of AWS's webhook, and none that the container has already.

use serde_json::{Value, json};

use super::{Credentials, Identity, Session};
use crate::pod::ContainerView;
use crate::settings::{AWS_ROLE_ARN, AWS_TOKEN_FILE};

/// The entries of the environment that a container lacks. Nothing for a container that is left alone altogether, mount and all: one
/// that is not served, or has variables of each kind already.
pub(crate) fn additions(
    identity: &Identity<'_>,
    container: &ContainerView<'_>,
) -> Option<Vec<Value>> {
    let credentials = credential_variables(identity, container);
    if credentials.is_empty() {
        return None;
    }
    let has = |names: &[&str]| names.iter().any(|name| container.variable(name).is_some());
    // One of a kind is enough: half of ours and half of theirs is neither.
    let has_credentials = credentials.iter().any(|(name, _)| has(&[*name]));
    let (has_region, has_sts) = (has(&REGION), has(&[REGIONAL_STS]));
    if has_credentials && has_region && has_sts {
        return None;
    }
    let mut entries = Vec::new();
    if identity.regional_sts && !has_sts {
        entries.push(json!({"name": REGIONAL_STS, "value": "regional"}));
    }
    if let (Some(region), false) = (identity.region, has_region) {
        let variables = REGION.iter();
        entries.extend(variables.map(|name| json!({"name": name, "value": region})));
    }
    if !has_credentials {
        let ours = credentials.iter();
        entries.extend(ours.map(|(name, value)| json!({"name": name, "value": value})));
        if !has(&[SESSION]) {
            entries.extend(session(&identity.session));
        }
    }
    Some(entries)
}

/// The variables that credentials come by, and our values of them; empty for a container that is not served.
pub(crate) fn credential_variables<'i>(
    identity: &'i Identity<'_>,
    container: &ContainerView<'_>,
) -> Vec<(&'static str, &'i str)> {
    let name = container.name.as_str();
    if !identity.scope.covers(name) {
        return Vec::new();
    }
    match &identity.credentials {
        Credentials::Agent { uri } => vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", *uri),
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

/// In the order they are written.
const REGION: [&str; 2] = ["AWS_DEFAULT_REGION", "AWS_REGION"];
const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";
