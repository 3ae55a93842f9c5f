//! An AdmissionReview.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use injector::admit::admit;
use injector::settings::Settings;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;
use sts_config::Config;
use svc_runtime::tls::{Authority, CaBundle};

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let config = Config::parse(include_str!("../../../docs/samples/in-cluster.yaml")).unwrap();
    let injector = config.injector.unwrap();
    Settings::new(&config.url, &config.endpoints, &injector.sidecar)
});

static CA: LazyLock<CaBundle> = LazyLock::new(|| {
    let authority = Authority::create("fuzz", svc_runtime::clock::now()).unwrap();
    authority.bundle().clone()
});

/// A review that is answered gets its own uid back; a patch only adds, can be applied, and a pod that has it gets none.
pub fn admission(input: &[u8]) {
    let Some((review, patch)) = answer(input) else {
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
    let (_, second) = answer(again.to_string().as_bytes()).unwrap();
    assert!(second.0.is_empty(), "{second}");
}

/// The review as JSON, and the answer's patch.
fn answer(input: &[u8]) -> Option<(Value, Patch)> {
    let admission = admit(&SETTINGS, Some(&CA), "aws", input).ok()?;
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
