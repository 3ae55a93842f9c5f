//! Warnings at what was probably meant.

use injector::decide::Entry;
use injector::settings::Settings;
use serde_json::{Value, json};
use sts_config::Config;

use crate::support::{CA, ask, ask_as, fixture, pod_with, review, set};

#[track_caller]
fn warns(pod: &Value, expected: &str) {
    let answered = ask(pod);
    assert_eq!(
        answered.response["allowed"], true,
        "{:?}",
        answered.response
    );
    let warnings = answered.warnings();
    assert!(warnings.contains(&expected), "{warnings:?}");
    assert!(
        warnings.iter().all(|warning| warning.len() < 120),
        "{warnings:?}"
    );
}

#[test]
fn an_annotation_without_its_label_is_warned_of() {
    let mut pod = fixture("bare");
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1vault-role",
        json!("r"),
    );
    warns(
        &pod,
        "kube-sts: annotation tremolo.io/vault-role does nothing without label tremolo.io/vault-role: \"true\"",
    );
}

#[test]
fn a_misspelt_key_is_warned_of() {
    let mut pod = fixture("bare");
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1non-rot",
        json!("true"),
    );
    warns(
        &pod,
        "kube-sts: annotation tremolo.io/non-rot is not known: was tremolo.io/non-root meant?",
    );
    let pod = pod_with("/metadata/labels/tremolo.io~1vault-rule", json!("true"));
    warns(
        &pod,
        "kube-sts: label tremolo.io/vault-rule is not known: was tremolo.io/vault-role meant?",
    );
}

/// By the STS's own code: what it would answer is told while the pod's author still looks.
#[test]
fn a_service_account_that_no_rule_allows_and_a_role_that_none_binds_are_warned_of() {
    let sample = include_str!("../../../../docs/samples/in-cluster.yaml");
    let config = Config::parse(sample).unwrap();
    let injector = config.injector.as_ref().unwrap();
    let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, None);
    let warnings = |namespace: &str, role: &str| {
        let mut review = review(&fixture("bare"));
        review["request"]["namespace"] = json!(namespace);
        let pod = &mut review["request"]["object"];
        pod["spec"]["serviceAccountName"] = json!("app");
        let role = format!("arn:aws:iam::123456789012:role/{role}");
        pod["metadata"]["annotations"]["tremolo.io/aws-role"] = json!(role);
        let answered = ask_as(&settings, Some(&CA), Entry::Endpoint("aws"), &review).unwrap();
        assert_eq!(answered.outcome.decision, "inject");
        answered.warnings().join(";")
    };
    assert_eq!(warnings("myns", "myns/app"), "");
    let refused =
        |subject: &str, what: &str| format!("kube-sts: endpoint aws will refuse {subject}: {what}");
    assert_eq!(
        warnings("apps", "apps/app"),
        refused("apps/app", "no rule allows it")
    );
    let unbound = refused("myns/app", "it may not have that role");
    assert_eq!(warnings("myns", "other/app"), unbound);
}

/// The pod's own labels count as far as it has them; of others, and of the namespace's, nothing is said.
#[test]
fn rules_that_ask_for_labels_are_previewed_as_far_as_they_are_known() {
    let sample = include_str!("../../../../docs/samples/in-cluster.yaml");
    let warnings = |expression: &str, tier: Option<&str>| {
        let rule = "filter: \"(namespace=myns)\"";
        assert!(sample.contains(rule));
        let text = sample.replace(rule, &format!("cel: \"{expression}\""));
        let config = Config::parse(&text).unwrap();
        let injector = config.injector.as_ref().unwrap();
        let settings = Settings::new(&config.url, &config.endpoints, &injector.sidecar, None);
        let mut review = review(&fixture("bare"));
        review["request"]["namespace"] = json!("myns");
        let pod = &mut review["request"]["object"];
        pod["spec"]["serviceAccountName"] = json!("app");
        let role = "arn:aws:iam::123456789012:role/myns/app";
        pod["metadata"]["annotations"]["tremolo.io/aws-role"] = json!(role);
        if let Some(tier) = tier {
            pod["metadata"]["labels"]["tier"] = json!(tier);
        }
        let answered = ask_as(&settings, Some(&CA), Entry::Endpoint("aws"), &review).unwrap();
        assert_eq!(answered.outcome.decision, "inject");
        answered.warnings().join(";")
    };
    let refused = "kube-sts: endpoint aws will refuse myns/app: no rule allows it";
    let web = "pod_labels.tier == 'web'";
    assert_eq!(warnings(web, Some("web")), "");
    assert_eq!(warnings(web, Some("db")), refused);
    assert_eq!(warnings(web, None), "", "it may yet get one");
    let namespace = "namespace_labels.team == 'a'";
    assert_eq!(warnings(namespace, Some("db")), "");
    let both = format!("{web} && {namespace}");
    assert_eq!(warnings(&both, Some("web")), "");
    assert_eq!(warnings(&both, Some("db")), refused);
}

#[test]
fn keys_that_are_meant_are_not_warned_of() {
    let mut pod = fixture("two-endpoints");
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1user",
        json!("1000"),
    );
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1something-else",
        json!("x"),
    );
    set(
        &mut pod,
        "/metadata/annotations/example.com~1non-rot",
        json!("x"),
    );
    assert!(
        ask(&pod).warnings().is_empty(),
        "{:?}",
        ask(&pod).warnings()
    );
}
