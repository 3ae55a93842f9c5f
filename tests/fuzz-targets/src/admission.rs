//! An AdmissionReview.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use injector::admit::admit;
use injector::decide::Entry;
use injector::identity::{Account, IdentityFacts, Lookup};
use injector::review::parse_review;
use injector::settings::Settings;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;
use sts_config::Config;
use svc_runtime::tls::{Authority, CaBundle};

/// Each with its own part for ServiceAccounts, and what is known of a pod's: the kubelet's token, an agent's credentials, the STS's token.
static INSTALLATIONS: LazyLock<[(Settings, IdentityFacts); 3]> = LazyLock::new(|| {
    [
        installation("{region: eu-central-1, regionalSts: true, sessionName: pod}"),
        installation("{containerCredentials: {file: /agent.json}}"),
        installation("{endpoint: aws}"),
    ]
});

/// The second is listed in the agent's file.
fn installation(accounts: &str) -> (Settings, IdentityFacts) {
    let sample = include_str!("../../../docs/samples/in-cluster.yaml");
    let config = Config::parse(&format!("{sample}\n  serviceAccounts: {accounts}\n")).unwrap();
    let injector = config.injector.unwrap();
    let parsed = injector.service_accounts.as_ref();
    let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, parsed);
    let role = "arn:aws:iam::123456789012:role/app".to_owned();
    let annotations = ["role-arn", "role-arn.b"].map(|name| format!("eks.amazonaws.com/{name}"));
    let annotations = annotations.map(|key| (key, role.clone()));
    let account = Account::read("eks.amazonaws.com", &BTreeMap::from(annotations));
    let facts = IdentityFacts {
        lookup: Lookup::Found(Arc::new(account)),
        listed: None,
        has_agent: accounts.contains("agent"),
    };
    (settings, facts)
}

static CA: LazyLock<CaBundle> = LazyLock::new(|| {
    let authority = Authority::create(
        "fuzz",
        std::time::Duration::from_secs(3600),
        svc_runtime::clock::now(),
    )
    .unwrap();
    authority.bundle().clone()
});

/// A review that is answered gets its own uid back; a patch only adds, can be applied, and a pod that has it gets none.
pub fn admission(input: &[u8]) {
    for (settings, facts) in INSTALLATIONS.iter() {
        for entry in [Entry::Endpoint("aws"), Entry::ServiceAccount(facts)] {
            by(settings, entry, input);
        }
    }
}

fn by(settings: &Settings, entry: Entry<'_>, input: &[u8]) {
    let Some((review, patch)) = answer(settings, entry, input) else {
        return;
    };
    let only_adds = patch
        .iter()
        .all(|operation| matches!(operation, PatchOperation::Add(_)));
    assert!(only_adds, "{patch}");
    // An API server sends no pod without `metadata` and `spec`, and could not apply what we add to one.
    let pod = &review["request"]["object"];
    if patch.0.is_empty() || !pod["metadata"].is_object() || !pod["spec"].is_object() {
        return;
    }
    let mut again = review.clone();
    json_patch::patch(&mut again["request"]["object"], &patch).unwrap();
    // RFC 6902's `add` of a member that is there replaces it.
    let (before, after) = (&review["request"]["object"], &again["request"]["object"]);
    assert!(is_within(before, after), "{patch}");
    let (_, second) = answer(settings, entry, again.to_string().as_bytes()).unwrap();
    assert!(second.0.is_empty(), "{second}");
}

/// Whether all of one value is in the other, and in the same order: more may be before, between and behind it. `null` is nothing.
fn is_within(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, _) => true,
        (Value::Object(one), Value::Object(other)) => one.iter().all(|(name, value)| {
            let found = other.get(name);
            found.is_some_and(|found| is_within(value, found))
        }),
        (Value::Array(one), Value::Array(other)) => {
            let mut rest = other.iter();
            one.iter()
                .all(|element| rest.any(|found| is_within(element, found)))
        }
        (one, other) => one == other,
    }
}

/// The review as JSON, and the answer's patch.
fn answer(settings: &Settings, entry: Entry<'_>, input: &[u8]) -> Option<(Value, Patch)> {
    let review = parse_review(input).ok()?;
    let admission = admit(settings, Some(&CA), entry, review).unwrap();
    // What we do not read may be no JSON at all; then there is nothing to compare.
    let review: Value = serde_json::from_slice(input).ok()?;
    let answer: Value = serde_json::from_slice(&admission.body).unwrap();
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    let patch = answer["response"]["patch"].as_str().unwrap_or_default();
    let patch = STANDARD.decode(patch).unwrap();
    let patch = if patch.is_empty() {
        Patch(Vec::new())
    } else {
        serde_json::from_slice(&patch).unwrap()
    };
    Some((review, patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_within;

    #[test]
    fn what_was_replaced_or_moved_is_not_within() {
        let pod = json!({"a": [1, {"b": 2}], "c": null});
        for after in [
            json!({"a": [0, 1, {"b": 2, "x": 3}, 4], "c": [], "d": 5}),
            pod.clone(),
        ] {
            assert!(is_within(&pod, &after), "{after}");
        }
        for after in [
            json!({"a": [{"b": 2}, 1]}),
            json!({"a": [1, {"b": 3}]}),
            json!({"a": [1]}),
            json!({"c": null}),
        ] {
            assert!(!is_within(&pod, &after), "{after}");
        }
    }
}
