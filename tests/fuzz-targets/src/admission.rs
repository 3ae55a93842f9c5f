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

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let sample = include_str!("../../../docs/samples/in-cluster.yaml");
    let accounts = "{region: eu-central-1, regionalSts: true, sessionName: pod}";
    let config = Config::parse(&format!("{sample}\n  serviceAccounts: {accounts}\n")).unwrap();
    let injector = config.injector.unwrap();
    let accounts = injector.service_accounts.as_ref();
    Settings::new(&config.url, &config.endpoints, &injector.sidecar, accounts)
});

/// A ServiceAccount with a role.
static FACTS: LazyLock<IdentityFacts> = LazyLock::new(|| {
    let role = "arn:aws:iam::123456789012:role/app".to_owned();
    let annotations = BTreeMap::from([("eks.amazonaws.com/role-arn".to_owned(), role)]);
    let account = Account::read("eks.amazonaws.com", &annotations);
    IdentityFacts {
        lookup: Lookup::Found(Arc::new(account)),
        listed: None,
        has_agent: false,
    }
});

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
    for entry in [Entry::Endpoint("aws"), Entry::ServiceAccount(&FACTS)] {
        by(entry, input);
    }
}

fn by(entry: Entry<'_>, input: &[u8]) {
    let Some((review, patch)) = answer(entry, input) else {
        return;
    };
    let only_adds = patch
        .iter()
        .all(|operation| matches!(operation, PatchOperation::Add(_)));
    assert!(only_adds, "{patch}");
    // An API server sends no pod without a `spec`, and could not apply what we add to one.
    if patch.0.is_empty() || !review["request"]["object"]["spec"].is_object() {
        return;
    }
    let mut again = review;
    json_patch::patch(&mut again["request"]["object"], &patch).unwrap();
    let (_, second) = answer(entry, again.to_string().as_bytes()).unwrap();
    assert!(second.0.is_empty(), "{second}");
}

/// The review as JSON, and the answer's patch.
fn answer(entry: Entry<'_>, input: &[u8]) -> Option<(Value, Patch)> {
    let review = parse_review(input).ok()?;
    let admission = admit(&SETTINGS, Some(&CA), entry, review).unwrap();
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
