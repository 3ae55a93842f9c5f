//! Facts → who the pod is. Precedence: EKS Pod Identity's file, the ServiceAccount's annotations, the ConfigMap, and for a container
//! with a role of its own the pod's annotation.

use super::account::{Account, EXPIRATION, parse_expiration};
use super::roles::{Roles, of_pod};
use super::{
    Credentials, IDENTITY_VOLUME, Identity, IdentityFacts, Lookup, Origin, ProjectedToken, Scope,
    Session, TokenVolume,
};
use crate::annotations::AnnotationValue;
use crate::pod::{PodView, Text};
use crate::refusal::Refusal;
use crate::review::{RequestFacts, Shown};
use crate::settings::{
    ContainerCredentials, IdentitySettings, IdentityToken, LookupFailure, SessionName,
};
use crate::sidecar::{TOKENS_PATH, TOKENS_VOLUME, token_file};

/// Who the pod is; nothing for a pod that is nobody to us.
pub(crate) fn resolve<'a>(
    settings: &'a IdentitySettings,
    facts: &IdentityFacts,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Result<Option<Identity<'a>>, Refusal> {
    if let (true, Some(agent)) = (facts.has_agent, &settings.container_credentials) {
        return Ok(Some(of_agent(settings, agent, facts, request, pod)));
    }
    let account = match (&facts.lookup, settings.lookup_failure) {
        (Lookup::Found(account), _) => Some(account.as_ref()),
        // As in AWS's webhook: who cannot be asked for may still be listed.
        (Lookup::Missing, _) | (Lookup::Unanswered, LookupFailure::Admit) => None,
        (Lookup::Unasked, _) => return Ok(None),
        (Lookup::Unanswered, LookupFailure::Deny) => {
            let account = pod.spec.service_account_name.as_ref();
            return Err(Refusal::AccountUnanswered {
                pod: request.pod.clone(),
                account: Shown(account.map_or("", Text::as_str)).to_string(),
            });
        }
    };
    let nobody = Account::default();
    let listed = facts.listed.as_deref().filter(|listed| listed.has_role());
    let source = match (account, listed) {
        (Some(account), _) if account.has_role() => (account, Origin::ServiceAccount),
        (_, Some(listed)) => (listed, Origin::ConfigMap),
        (account, None) if of_pod(&settings.prefix, pod).next().is_some() => {
            (account.unwrap_or(&nobody), Origin::Pod)
        }
        (_, None) => return Ok(None),
    };
    of_account(settings, source, request, pod).map(Some)
}

fn of_account<'a>(
    settings: &'a IdentitySettings,
    (account, origin): (&Account, Origin),
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Result<Identity<'a>, Refusal> {
    let roles = Roles::parse(settings, (account, origin), request, pod)?;
    let expiration = pod.annotation(&format!("{}/{EXPIRATION}", settings.prefix));
    let wanted = expiration
        .and_then(parse_expiration)
        .or(account.token_seconds);
    let (volume, file, endpoint) = match &settings.token {
        IdentityToken::Projected {
            audience,
            mount_path,
            seconds,
            endpoint,
        } => {
            let audience = account.audience.as_ref().unwrap_or(audience);
            let projected = ProjectedToken {
                audience: audience.clone(),
                seconds: wanted.unwrap_or(*seconds),
                path: "token".to_owned(),
            };
            let file = in_container(&format!("{mount_path}/token"), pod);
            let volume = volume(IDENTITY_VOLUME, mount_path, Some(projected));
            (volume, file, endpoint.as_ref())
        }
        IdentityToken::Sidecar(endpoint) => {
            let volume = volume(TOKENS_VOLUME, TOKENS_PATH, None);
            (volume, token_file(endpoint), Some(endpoint))
        }
    };
    Ok(Identity {
        origin,
        credentials: Credentials::WebIdentity(roles),
        volume,
        token_file: file,
        endpoint,
        region: settings.region.as_deref(),
        regional_sts: account.regional_sts.unwrap_or(settings.regional_sts),
        session: session(settings, account, request, pod)?,
        scope: scope(&settings.prefix, pod),
    })
}

fn of_agent<'a>(
    settings: &'a IdentitySettings,
    agent: &'a ContainerCredentials,
    facts: &IdentityFacts,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Identity<'a> {
    let ContainerCredentials {
        file: _,
        audience,
        mount_path,
        volume_name,
        token_path,
        full_uri,
    } = agent;
    let expiration = pod.annotation(&format!("{}/{EXPIRATION}", settings.prefix));
    // Its annotations hold for these credentials too, with or without a role; else the ConfigMap's entry does.
    let account = match &facts.lookup {
        Lookup::Found(account) => Some(account),
        Lookup::Missing | Lookup::Unanswered | Lookup::Unasked => facts.listed.as_ref(),
    };
    let seconds = expiration
        .and_then(parse_expiration)
        .or_else(|| account?.token_seconds)
        .unwrap_or(settings.agent_seconds);
    let regional_sts = account.and_then(|account| account.regional_sts);
    let projected = ProjectedToken {
        audience: audience.clone(),
        seconds: spread(seconds, request.spread),
        path: token_path.clone(),
    };
    Identity {
        origin: Origin::Agent,
        credentials: Credentials::Agent { uri: full_uri },
        volume: volume(volume_name, mount_path, Some(projected)),
        token_file: in_container(&format!("{mount_path}/{token_path}"), pod),
        endpoint: None,
        region: settings.region.as_deref(),
        regional_sts: regional_sts.unwrap_or(settings.regional_sts),
        session: Session::Default,
        scope: scope(&settings.prefix, pod),
    }
}

fn volume(name: &str, mount_path: &str, projected: Option<ProjectedToken>) -> TokenVolume {
    TokenVolume {
        name: name.to_owned(),
        mount_path: mount_path.to_owned(),
        projected,
    }
}

/// Windows containers have the path on drive C, though it is mounted by its Unix name.
pub(crate) fn in_container(path: &str, pod: &PodView<'_>) -> String {
    if pod.spec.is_windows() {
        format!("C:{}", path.replace('/', "\\"))
    } else {
        path.to_owned()
    }
}

/// A day is spread over its last two hours, so that tokens that were asked for together are not renewed together. AWS's webhook does
/// that to these tokens alone.
fn spread(seconds: u64, number: u64) -> u64 {
    if seconds == DAY {
        DAY - number % (SPREAD + 1)
    } else {
        seconds
    }
}

fn session(
    settings: &IdentitySettings,
    account: &Account,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Result<Session, Refusal> {
    let key = format!("{}/role-session-name", settings.prefix);
    let of_pod = pod.annotation(&key).filter(|name| !name.is_empty());
    match (of_pod.or(account.session.as_deref()), settings.session_name) {
        (Some(name), _) => match AnnotationValue::session_name(name) {
            Some(name) => Ok(Session::Named(name)),
            None => Err(Refusal::SessionName {
                pod: request.pod.clone(),
                key,
            }),
        },
        // AWS takes 64 characters; names that the API server makes have no more, and others are left to the SDK.
        (None, SessionName::Pod) if has_session_length(pod) => Ok(Session::Pod),
        (None, SessionName::Pod | SessionName::Annotated) => Ok(Session::Default),
    }
}

fn has_session_length(pod: &PodView<'_>) -> bool {
    let name = pod.metadata.name.as_ref();
    name.is_none_or(|name| name.as_str().is_empty() || (2..=64).contains(&name.as_str().len()))
}

fn scope(prefix: &str, pod: &PodView<'_>) -> Scope {
    let list = |name: &str| pod.annotation(&format!("{prefix}/{name}")).map(names);
    Scope {
        include: list("include-containers").filter(|names| !names.is_empty()),
        skip: list("skip-containers").unwrap_or_default(),
    }
}

/// AWS's webhook reads a line of CSV and does not trim; nobody means the blank.
fn names(text: &str) -> Vec<String> {
    let names = text.split(',').map(|name| name.trim().trim_matches('"'));
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

const DAY: u64 = 86_400;
const SPREAD: u64 = 7_200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_spread_over_its_last_two_hours_and_nothing_else_is() {
        for number in [0, 1, 7_200, 7_201, u64::MAX] {
            assert!((79_200..=86_400).contains(&spread(DAY, number)), "{number}");
        }
        assert_eq!(spread(DAY, 7_200), 79_200);
        assert_eq!(spread(3_600, 17), 3_600);
    }

    #[test]
    fn names_are_trimmed() {
        assert_eq!(names("a, b,\"c\" ,,"), ["a", "b", "c"]);
        assert!(names(" ").is_empty());
    }
}
