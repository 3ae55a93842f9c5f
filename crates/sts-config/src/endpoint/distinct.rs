//! What no two endpoints may share.

use std::collections::HashMap;

use super::{Endpoint, KeySource};
use crate::problem::Problems;

pub(crate) fn check_distinct(endpoints: &[Endpoint], problems: &Problems) {
    unique(endpoints, problems, "name", |endpoint| {
        Some(endpoint.name.as_str().to_owned())
    });
    unique(endpoints, problems, "path", |endpoint| {
        Some(endpoint.path.to_string())
    });
    unique(endpoints, problems, "tokenAudience", |endpoint| {
        Some(endpoint.token_audience.as_str().to_owned())
    });
    check_danger(endpoints, problems);
    unique(endpoints, problems, "injector.label", |endpoint| {
        endpoint
            .injection
            .as_ref()
            .map(|injection| injection.label.clone())
    });
    // An issuer's documents name the keys of one endpoint.
    unique(endpoints, problems, "issuer", |endpoint| {
        Some(endpoint.template.issuer.as_str().to_owned())
    });
    // Separate keys are what keeps one AWS account's tokens from another's.
    unique(endpoints, problems, "key", |endpoint| {
        Some(match &endpoint.key {
            KeySource::File { path, .. } => format!("file {}", path.display()),
            KeySource::Secret { name, .. } => format!("Secret {name}"),
        })
    });
}

fn unique(
    endpoints: &[Endpoint],
    problems: &Problems,
    key: &str,
    value: impl Fn(&Endpoint) -> Option<String>,
) {
    let mut seen: HashMap<String, &Endpoint> = HashMap::new();
    for endpoint in endpoints {
        let Some(value) = value(endpoint) else {
            continue;
        };
        if let Some(first) = seen.get(&value) {
            problems.error(
                endpoint.place.key(key),
                format!(
                    "is {value}, which endpoint {} has already: each needs its own",
                    first.name
                ),
            );
        } else {
            seen.insert(value, endpoint);
        }
    }
}

/// A token for one endpoint must not come in at another one as an API server's.
fn check_danger(endpoints: &[Endpoint], problems: &Problems) {
    for endpoint in endpoints {
        let dangerous = &endpoint.danger.api_server_audiences;
        let owner = endpoints
            .iter()
            .find(|other| dangerous.contains(&other.token_audience));
        if let Some(owner) = owner {
            problems.error(
                endpoint.place.key("danger.apiServerAudiences"),
                format!(
                    "has {}, the token audience of endpoint {}: write the API server's audience alone",
                    owner.token_audience, owner.name
                ),
            );
        }
    }
}
