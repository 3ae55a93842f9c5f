//! Every refusal, by its variant and by the sentence that its reader gets.

use injector::annotations::AnnotationProblem;
use injector::decide::{Decision, Entry, decide};
use injector::refusal::{Fault, Refusal};
use injector::review::{PodName, parse_review};
use injector::settings::AnnotationShape;
use serde_json::{Value, json};
use svc_runtime::tls::CaBundle;

use crate::support::{CA, SIDECAR, TOKENS, ask, fixture, inject, pod_with, review, set, settings};

const KEY: &str = "tremolo.io/aws-role";

pub(crate) fn name() -> PodName {
    PodName::new("apps", Some("bare"), None)
}

#[track_caller]
fn refusal(ca: Option<&CaBundle>, pod: &Value) -> Refusal {
    let body = serde_json::to_vec(&review(pod)).unwrap();
    let review = parse_review(&body).unwrap();
    let entry = Entry::Endpoint("aws");
    match decide(&settings(), ca, entry, &review.facts, &review.pod) {
        Decision::Deny { refusal, .. } => refusal,
        decision @ (Decision::Inject(_) | Decision::Skip(_)) => panic!("{decision:?}"),
    }
}

/// The pod is refused by this variant, and the response says so with these words.
#[track_caller]
pub(crate) fn refuses(pod: &Value, expected: &Refusal, words: &[&str]) {
    assert_eq!(refusal(Some(&CA), pod), *expected);
    let answered = ask(pod);
    assert_eq!(answered.response["allowed"], false);
    assert_eq!(answered.response.get("patch"), None);
    let status = &answered.response["status"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(400), &json!("BadRequest"))
    );
    let message = status["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(
        !message.ends_with('.') && !message.contains('\n'),
        "{message}"
    );
    assert_eq!(
        answered.response["auditAnnotations"]["reason"],
        expected.code()
    );
    assert_eq!(answered.outcome.reason, expected.code());
    assert_eq!(expected.fault(), Fault::Pod);
}

#[test]
fn adm_003_label_without_annotation_is_denied() {
    let missing = pod_with("/metadata/annotations", json!({"other": "x"}));
    let mut none = fixture("bare");
    none["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let annotation = |text: &str| pod_with("/metadata/annotations", json!({KEY: text}));
    for pod in [missing, none, annotation(""), annotation(" \t\n")] {
        let (key, shape) = (KEY.to_owned(), AnnotationShape::AwsRoleArn);
        let expected = Refusal::AnnotationMissing {
            pod: name(),
            key,
            shape,
        };
        let words = [
            "pod apps/bare",
            KEY,
            "arn:aws:iam::<12 digits>:role/<name>",
            "add the annotation",
        ];
        refuses(&pod, &expected, &words);
    }
}

#[test]
fn adm_005_annotation_that_is_no_role_is_denied_without_repeating_it() {
    for (text, problem) in [
        (
            "arn:aws:iam::1234:role/canary".to_owned(),
            AnnotationProblem::Shape,
        ),
        (
            "arn:aws:iam::123456789012:role/canary$(HOME)".to_owned(),
            AnnotationProblem::Shape,
        ),
        (
            "canary".repeat(400),
            AnnotationProblem::TooLong { bytes: 2400 },
        ),
    ] {
        let pod = pod_with("/metadata/annotations", json!({KEY: text}));
        let (key, shape) = (KEY.to_owned(), AnnotationShape::AwsRoleArn);
        let expected = Refusal::AnnotationInvalid {
            pod: name(),
            key,
            problem,
            shape,
        };
        refuses(
            &pod,
            &expected,
            &[
                "pod apps/bare",
                KEY,
                "arn:aws:iam::",
                "correct the annotation",
            ],
        );
        assert!(!ask(&pod).response.to_string().contains("canary"));
    }
}

#[test]
fn adm_005_text_annotation_cannot_read_another_variable() {
    let mut pod = fixture("two-endpoints");
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1vault-role",
        json!("$(AWS_SECRET)"),
    );
    let expected = Refusal::AnnotationInvalid {
        pod: PodName::new("apps", Some("both"), None),
        key: "tremolo.io/vault-role".to_owned(),
        problem: AnnotationProblem::Shape,
        shape: AnnotationShape::PlainText,
    };
    refuses(&pod, &expected, &["tremolo.io/vault-role", "without $"]);
}

#[test]
fn adm_014_host_network_is_denied() {
    let expected = Refusal::HostNetwork {
        pod: name(),
        key: format!("label {KEY}"),
    };
    let pod = pod_with("/spec/hostNetwork", json!(true));
    refuses(&pod, &expected, &["pod apps/bare", "hostNetwork", KEY]);
    inject(&pod_with("/spec/hostNetwork", json!(false)));
    inject(&pod_with("/spec/hostPID", json!(true)));
}

#[test]
fn adm_015_windows_is_denied() {
    for (pointer, value) in [
        ("/spec/os", json!({"name": "windows"})),
        ("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
        (
            "/spec/nodeSelector",
            json!({"beta.kubernetes.io/os": "windows"}),
        ),
    ] {
        let expected = Refusal::Windows {
            pod: name(),
            key: format!("label {KEY}"),
        };
        refuses(
            &pod_with(pointer, value),
            &expected,
            &["pod apps/bare", "Windows", KEY],
        );
    }
    inject(&pod_with("/spec/os", json!({"name": "linux"})));
}

#[test]
fn two_endpoints_that_set_the_same_variable_are_denied() {
    let mut pod = fixture("bare");
    set(
        &mut pod,
        "/metadata/labels/tremolo.io~1aws2-role",
        json!("true"),
    );
    let role = json!("arn:aws:iam::123456789012:role/x");
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1aws2-role",
        role,
    );
    let expected = Refusal::EnvironmentClash {
        pod: name(),
        variable: "AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(),
        first: "aws".to_owned(),
        second: "aws2".to_owned(),
    };
    refuses(
        &pod,
        &expected,
        &[
            "pod apps/bare",
            "aws and aws2",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ],
    );
    assert_eq!(ask(&pod).outcome.endpoints, ["aws", "aws2"]);
}

#[test]
fn adm_031_messages_name_a_pod_without_a_name_by_its_prefix() {
    let mut pod = fixture("generate-name");
    set(&mut pod, "/metadata/annotations", json!({}));
    let message = refusal(Some(&CA), &pod).to_string();
    assert!(message.starts_with("pod apps/web-5d4f8-*: "), "{message}");
}

#[test]
fn adm_033_label_value_that_is_neither_true_nor_false_is_denied() {
    for value in ["True", "TRUE", "1", "yes", "", " true"] {
        let pod = pod_with("/metadata/labels", json!({KEY: value}));
        let expected = Refusal::LabelValue {
            pod: name(),
            key: KEY.to_owned(),
        };
        refuses(
            &pod,
            &expected,
            &["pod apps/bare", KEY, "\"true\"", "\"false\""],
        );
    }
}

#[test]
fn without_the_ca_of_the_sts_the_answer_is_to_try_again() {
    let refusal = refusal(None, &fixture("bare"));
    assert_eq!(refusal, Refusal::ServerCaMissing { pod: name() });
    assert_eq!(refusal.fault(), Fault::Ours);
    let answered = crate::support::ask_review(None, &review(&fixture("bare"))).unwrap();
    assert_eq!(answered.response["status"]["code"], 503);
    let message = answered.response["status"]["message"].as_str().unwrap();
    assert!(message.contains("try again in a few seconds"), "{message}");
    let unlabelled = pod_with("/metadata/labels", json!({}));
    let answered = crate::support::ask_review(None, &review(&unlabelled)).unwrap();
    assert_eq!(answered.response["allowed"], true);
}

#[test]
fn names_in_messages_are_cut_and_printable() {
    let mut pod = pod_with(
        "/metadata/name",
        json!(format!("a\u{1b}[31m\n{}", "x".repeat(100))),
    );
    set(&mut pod, "/spec/hostNetwork", json!(true));
    let message = refusal(Some(&CA), &pod).to_string();
    assert!(
        message
            .chars()
            .all(|character| matches!(character, ' '..='~')),
        "{message}"
    );
    assert!(message.contains("xxx...:"), "{message}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a row for each variant")]
fn codes_of_refusals_are_stable() {
    let (shape, problem) = (AnnotationShape::PlainText, AnnotationProblem::Shape);
    let code = |make: &dyn Fn(PodName, String) -> Refusal| make(name(), KEY.to_owned()).code();
    let codes = [
        code(&|pod, account| Refusal::AccountUnanswered { pod, account }),
        code(&|pod, key| Refusal::AnnotationInvalid {
            pod,
            key,
            problem,
            shape,
        }),
        code(&|pod, key| Refusal::AnnotationMissing { pod, key, shape }),
        code(&|pod, key| Refusal::ContainerNameTaken {
            pod,
            container: SIDECAR,
            key,
        }),
        code(&|pod, endpoint| Refusal::EndpointUnknown { pod, endpoint }),
        code(&|pod, key| Refusal::EnvironmentClash {
            pod,
            variable: key.clone(),
            first: key.clone(),
            second: key,
        }),
        code(&|pod, key| Refusal::HostNetwork { pod, key }),
        code(&|pod, key| Refusal::LabelValue { pod, key }),
        code(&|pod, key| Refusal::MountTaken {
            pod,
            container: key,
            path: TOKENS,
        }),
        code(&|pod, part| Refusal::OtherSettings { pod, part }),
        code(&|pod, place| Refusal::RoleInvalid {
            pod,
            place,
            problem,
            shape,
        }),
        code(&|pod, place| Refusal::RoleNotAllowed {
            pod,
            place,
            namespace: "apps".to_owned(),
        }),
        code(&|pod, endpoint| Refusal::RolesDiffer {
            pod,
            endpoint: endpoint.clone(),
            first: endpoint.clone(),
            second: endpoint,
        }),
        code(&|pod, _| Refusal::ServerCaMissing { pod }),
        code(&|pod, key| Refusal::SessionName { pod, key }),
        code(&|pod, part| Refusal::SidecarChanged {
            pod,
            container: SIDECAR,
            part,
        }),
        code(&|pod, _| Refusal::SidecarOutdated {
            pod,
            container: SIDECAR,
        }),
        code(&|pod, container| Refusal::TokenMountTaken {
            pod,
            container,
            path: TOKENS.to_owned(),
        }),
        code(&|pod, volume| Refusal::TokenVolumeTaken {
            pod,
            key: volume.clone(),
            volume,
        }),
        code(&|pod, _| Refusal::VolumeMissing {
            pod,
            volume: "sts-tokens",
        }),
        code(&|pod, container| Refusal::VolumeMounted {
            pod,
            container,
            volume: "sts-tokens",
        }),
        code(&|pod, _| Refusal::VolumeNameTaken {
            pod,
            volume: "sts-tokens",
        }),
        code(&|pod, key| Refusal::Windows { pod, key }),
        code(&|pod, _| Refusal::Wish {
            pod,
            key: "tremolo.io/user",
            expected: "a number",
        }),
    ];
    let expected = "account_unanswered annotation_invalid annotation_missing container_name_taken endpoint_unknown \
                    environment_clash host_network label_value mount_taken other_settings role_invalid role_not_allowed \
                    roles_differ server_ca_missing session_name sidecar_changed sidecar_outdated token_mount_taken \
                    token_volume_taken volume_missing volume_mounted volume_name_taken windows sidecar_annotation";
    assert_eq!(codes.join(" "), expected);
}
