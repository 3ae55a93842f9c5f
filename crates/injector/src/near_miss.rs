//! Hints at what was probably meant: an annotation without its label, a key with a slip in it, a role written on the pod instead of its
//! ServiceAccount. They are warnings, since each of them may be meant as it is.

use crate::decide::Entry;
use crate::identity::{AUDIENCE, EXPIRATION, IdentityFacts, Lookup, Misspelt, ROLE, nearest};
use crate::pod::{Pairs, PodView};
use crate::review::Shown;
use crate::settings::{IdentitySettings, IdentityToken, KEY_PREFIX, Settings};
use crate::warnings::short;
use crate::wishes::KEYS;

/// The hints for a pod.
pub(crate) fn near_misses(settings: &Settings, entry: Entry<'_>, pod: &PodView<'_>) -> Vec<String> {
    let annotations = pod.metadata.annotations.iter().flat_map(Pairs::keys);
    let labels = pod.metadata.labels.iter().flat_map(Pairs::keys);
    let of_annotations = annotations.filter_map(|key| of_annotation(settings, pod, key));
    let of_labels = labels.filter_map(|key| of_label(settings, key));
    let mut hints: Vec<String> = of_annotations.chain(of_labels).collect();
    if let Entry::ServiceAccount(facts) = entry {
        hints.extend(of_account(facts));
        hints.extend(without_effect(settings, facts, pod));
    }
    hints
}

fn of_annotation(settings: &Settings, pod: &PodView<'_>, key: &str) -> Option<String> {
    if key.starts_with(KEY_PREFIX) {
        let is_endpoint = settings.endpoints.iter().any(|one| one.key == key);
        return match (is_endpoint, pod.label(key)) {
            (true, Some(_)) => None,
            (true, None) => Some(short(format!(
                "kube-sts: annotation {key} does nothing without label {key}: \"true\""
            ))),
            (false, _) => misspelt("annotation", key, &known(settings)),
        };
    }
    let prefix = &settings.identity.as_ref()?.prefix;
    let name = key
        .strip_prefix(prefix.as_str())
        .and_then(|rest| rest.strip_prefix('/'));
    match name {
        Some(ROLE) => Some(short(format!(
            "kube-sts: annotation {key} belongs on the ServiceAccount; on a pod it is {key}.<container>"
        ))),
        Some(name) => {
            let meant = nearest(name, &POD_NAMES).filter(|meant| *meant != name)?;
            Some(did_you_mean(
                "annotation",
                key,
                &format!("{prefix}/{meant}"),
            ))
        }
        None => None,
    }
}

fn of_label(settings: &Settings, key: &str) -> Option<String> {
    let is_ours = key.starts_with(KEY_PREFIX);
    if !is_ours || settings.endpoints.iter().any(|one| one.key == key) {
        return None;
    }
    let endpoints = settings.endpoints.iter().map(|one| one.key.as_str());
    misspelt("label", key, &endpoints.collect::<Vec<_>>())
}

/// Keys that an annotation with our prefix may have.
fn known(settings: &Settings) -> Vec<&str> {
    let endpoints = settings.endpoints.iter().map(|one| one.key.as_str());
    endpoints.chain(KEYS).collect()
}

fn misspelt(what: &str, key: &str, known: &[&str]) -> Option<String> {
    let meant = nearest(key, known).filter(|meant| *meant != key)?;
    Some(did_you_mean(what, key, meant))
}

fn did_you_mean(what: &str, found: &str, meant: &str) -> String {
    short(format!(
        "kube-sts: {what} {} is not known: was {meant} meant?",
        Shown(found)
    ))
}

fn of_account(facts: &IdentityFacts) -> Option<String> {
    match &facts.lookup {
        // It gets its credentials by another way.
        Lookup::Missing | Lookup::Unanswered if facts.has_agent => None,
        Lookup::Found(account) => {
            let Misspelt { found, meant } = account.misspelt.as_ref()?;
            Some(did_you_mean(
                "its ServiceAccount's annotation",
                found,
                meant,
            ))
        }
        Lookup::Missing if is_listed(facts) => None,
        Lookup::Missing => {
            Some("kube-sts: its ServiceAccount does not exist: it gets no credentials".to_owned())
        }
        Lookup::Unanswered if is_listed(facts) => Some(
            "kube-sts: its ServiceAccount could not be looked up: it gets what the ConfigMap says"
                .to_owned(),
        ),
        Lookup::Unanswered => Some(
            "kube-sts: its ServiceAccount could not be looked up: it may lack its credentials"
                .to_owned(),
        ),
        Lookup::Unasked => None,
    }
}

fn is_listed(facts: &IdentityFacts) -> bool {
    facts
        .listed
        .as_ref()
        .is_some_and(|listed| listed.has_role())
}

/// Annotations about the kubelet's token, where the token is an endpoint's: audience and life are the endpoint's too.
fn without_effect(settings: &Settings, facts: &IdentityFacts, pod: &PodView<'_>) -> Vec<String> {
    let Some(IdentitySettings {
        token: IdentityToken::Sidecar(endpoint),
        prefix,
        ..
    }) = &settings.identity
    else {
        return Vec::new();
    };
    let account = match &facts.lookup {
        Lookup::Found(account) if account.has_role() && !facts.has_agent => account,
        Lookup::Found(_) | Lookup::Missing | Lookup::Unanswered | Lookup::Unasked => {
            return Vec::new();
        }
    };
    let has_expiration = account.token_seconds.is_some()
        || pod.annotation(&format!("{prefix}/{EXPIRATION}")).is_some();
    let audience = account.audience.is_some().then_some(AUDIENCE);
    let expiration = has_expiration.then_some(EXPIRATION);
    let names = audience.into_iter().chain(expiration);
    names
        .map(|name| {
            short(format!(
                "kube-sts: annotation {prefix}/{name} does nothing: the token is endpoint {}'s",
                endpoint.name
            ))
        })
        .collect()
}

/// What a pod may say with the prefix of the ServiceAccounts' annotations.
const POD_NAMES: [&str; 4] = [
    "include-containers",
    "role-session-name",
    "skip-containers",
    EXPIRATION,
];
