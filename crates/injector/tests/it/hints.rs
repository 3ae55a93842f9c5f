//! Warnings at what was probably meant.

use serde_json::{Value, json};

use crate::support::{ask, fixture, pod_with, set};

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
