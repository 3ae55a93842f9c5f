//! Pods and requests that are left alone, and bodies that are no question.

use injector::review::ReviewError;
use serde_json::{Value, json};

use crate::support::{CA, ask, ask_review, fixture, pod_with, review, set};

#[track_caller]
fn skips(review: &Value, reason: &str) {
    let answered = ask_review(Some(&CA), review).unwrap();
    assert_eq!(answered.response["allowed"], true);
    assert!(answered.patch.0.is_empty());
    assert_eq!(
        (answered.outcome.decision, answered.outcome.reason),
        ("skip", reason)
    );
}

#[track_caller]
fn changed(pointer: &str, value: Value) -> Value {
    let mut review = review(&fixture("bare"));
    set(&mut review, pointer, value);
    review
}

#[test]
fn adm_002_unlabelled_pod_is_left_alone() {
    skips(
        &review(&pod_with("/metadata/labels", json!({"app": "x"}))),
        "unlabelled",
    );
    skips(
        &review(&pod_with("/metadata/labels", Value::Null)),
        "unlabelled",
    );
    let mut bare = fixture("bare");
    bare["metadata"].as_object_mut().unwrap().remove("labels");
    skips(&review(&bare), "unlabelled");
}

#[test]
fn adm_010_only_the_creation_of_a_pod_is_changed() {
    for operation in ["UPDATE", "CONNECT"] {
        skips(
            &changed("/request/operation", json!(operation)),
            "not_create",
        );
    }
    let mut delete = changed("/request/operation", json!("DELETE"));
    delete["request"]["object"] = Value::Null;
    skips(&delete, "not_create");
}

#[test]
fn adm_010_subresources_are_left_alone_whatever_their_kind() {
    for part in ["ephemeralcontainers", "status", "eviction", "binding"] {
        let mut review = changed("/request/subResource", json!(part));
        skips(&review, "subresource");
        review["request"]["kind"]["kind"] = json!("Eviction");
        skips(&review, "subresource");
    }
    assert_eq!(ask(&fixture("bare")).outcome.decision, "inject");
    let whole = changed("/request/subResource", json!(""));
    assert_eq!(
        ask_review(Some(&CA), &whole).unwrap().outcome.decision,
        "inject"
    );
}

#[test]
fn adm_012_mirror_pod_is_left_alone() {
    let key = "/metadata/annotations/kubernetes.io~1config.mirror";
    skips(&review(&pod_with(key, json!("hash"))), "mirror_pod");
}

#[test]
fn adm_033_label_false_opts_out() {
    let pod = pod_with("/metadata/labels", json!({"tremolo.io/aws-role": "false"}));
    skips(&review(&pod), "opted_out");
    let mut one_of_two = fixture("two-endpoints");
    set(
        &mut one_of_two,
        "/metadata/labels/tremolo.io~1aws-role",
        json!("false"),
    );
    assert_eq!(ask(&one_of_two).outcome.endpoints, ["vault"]);
}

#[test]
fn adm_026_what_is_no_question_about_a_pod_gets_no_answer() {
    for (pointer, value, expected) in [
        ("/request/uid", json!(""), ReviewError::NoUid),
        ("/request/uid", json!("u".repeat(129)), ReviewError::NoUid),
        ("/request", Value::Null, ReviewError::NoRequest),
        (
            "/request/kind/kind",
            json!("Deployment"),
            ReviewError::NotAPod,
        ),
        ("/request/kind/group", json!("apps"), ReviewError::NotAPod),
        ("/request/object", Value::Null, ReviewError::NoObject),
        (
            "/apiVersion",
            json!("admission.k8s.io/v1beta1"),
            ReviewError::NotV1,
        ),
        ("/kind", json!("Review"), ReviewError::NotV1),
    ] {
        let review = changed(pointer, value);
        assert_eq!(
            ask_review(Some(&CA), &review).unwrap_err(),
            expected,
            "{pointer}"
        );
    }
    let mut no_uid = review(&fixture("bare"));
    no_uid["request"].as_object_mut().unwrap().remove("uid");
    assert_eq!(
        ask_review(Some(&CA), &no_uid).unwrap_err(),
        ReviewError::NoUid
    );
    let mut deployment = changed("/request/kind/kind", json!("Deployment"));
    set(&mut deployment, "/request/operation", json!("DELETE"));
    assert_eq!(
        ask_review(Some(&CA), &deployment).unwrap_err(),
        ReviewError::NotAPod
    );
}

#[test]
fn adm_026_pod_of_wrong_types_gets_no_answer() {
    for (pointer, value) in [
        ("/spec/containers", json!({"name": "x"})),
        ("/spec/containers/0/name", json!(1)),
        ("/metadata/labels", json!(["a"])),
        ("/spec/hostNetwork", json!("true")),
    ] {
        let error = ask_review(Some(&CA), &review(&pod_with(pointer, value))).unwrap_err();
        assert!(
            matches!(error, ReviewError::PodMalformed { .. }),
            "{pointer}: {error:?}"
        );
    }
}

#[test]
fn codes_of_reviews_that_cannot_be_read_are_stable() {
    let (line, column) = (1, 2);
    let codes = [
        ReviewError::Malformed { line, column },
        ReviewError::NoObject,
        ReviewError::NoRequest,
        ReviewError::NoUid,
        ReviewError::NotAPod,
        ReviewError::NotUtf8,
        ReviewError::NotV1,
        ReviewError::PodMalformed { line, column },
    ]
    .map(ReviewError::code);
    let expected = [
        "malformed",
        "no_object",
        "no_request",
        "no_uid",
        "not_a_pod",
        "not_utf8",
        "not_v1",
        "pod_malformed",
    ];
    assert_eq!(codes, expected);
}
