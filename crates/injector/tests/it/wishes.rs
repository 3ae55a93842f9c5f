//! OpenUnison's annotations of the sidecar.

use injector::refusal::Refusal;
use serde_json::{Value, json};

use crate::refuse::{name, refuses};
use crate::support::{SIDECAR, ask, container, fixture, inject, set, volume};

fn wishing(wishes: &[(&str, &str)]) -> Value {
    let mut pod = fixture("bare");
    for (key, value) in wishes {
        set(
            &mut pod,
            &format!("/metadata/annotations/tremolo.io~1{key}"),
            json!(value),
        );
    }
    pod
}

#[test]
fn user_and_group_are_the_sidecars() {
    let pod = inject(&wishing(&[
        ("user", "1000"),
        ("group", "3000"),
        ("non-root", "true"),
    ]));
    let context = &container(&pod, SIDECAR)["securityContext"];
    assert_eq!(
        (&context["runAsUser"], &context["runAsGroup"]),
        (&json!(1000), &json!(3000))
    );
    assert_eq!(context["runAsNonRoot"], true);
    assert!(
        ask(&pod).patch.0.is_empty(),
        "and the second pass changes nothing"
    );
    assert_eq!(container(&pod, "app").get("securityContext"), None);
}

/// As in OpenUnison. That nobody runs as root is not the pod's to choose.
#[test]
fn user_0_names_nobody_and_the_sidecar_never_runs_as_root() {
    let pod = inject(&wishing(&[
        ("user", "0"),
        ("group", "0"),
        ("non-root", "false"),
    ]));
    let context = &container(&pod, SIDECAR)["securityContext"];
    assert_eq!(
        (context.get("runAsUser"), context.get("runAsGroup")),
        (None, None)
    );
    assert_eq!(context["runAsNonRoot"], true);
}

#[test]
fn wishes_that_are_none_are_denied() {
    for (key, value, expected) in [
        ("tremolo.io/user", "root", "a number such as \"1000\""),
        ("tremolo.io/user", "-1", "a number such as \"1000\""),
        ("tremolo.io/user", "+1", "a number such as \"1000\""),
        (
            "tremolo.io/group",
            "2147483648",
            "a number such as \"1000\"",
        ),
        ("tremolo.io/non-root", "yes", "\"true\" or \"false\""),
        ("tremolo.io/create-volume", "", "\"true\" or \"false\""),
    ] {
        let pod = wishing(&[(key.trim_start_matches("tremolo.io/"), value)]);
        let refusal = Refusal::Wish {
            pod: name(),
            key,
            expected,
        };
        refuses(
            &pod,
            &refusal,
            &["pod apps/bare", key, expected, "correct the annotation"],
        );
    }
}

#[test]
fn a_pod_may_bring_the_volume_that_tokens_are_written_to() {
    let mut pod = wishing(&[("create-volume", "false")]);
    let own = json!({"name": "sts-tokens", "emptyDir": {"sizeLimit": "2Mi"}});
    set(&mut pod, "/spec/volumes", json!([own]));
    let answered = ask(&pod);
    assert_eq!(*volume(&answered.pod, "sts-tokens"), own);
    assert_eq!(answered.pod["spec"]["volumes"].as_array().unwrap().len(), 2);
    let warned = answered
        .warnings()
        .iter()
        .any(|warning| warning.contains("not in memory"));
    assert!(warned, "{:?}", answered.warnings());
    assert!(ask(&answered.pod).patch.0.is_empty());
}

#[test]
fn a_pod_that_says_it_brings_the_volume_has_to() {
    let pod = wishing(&[("create-volume", "false")]);
    let refusal = Refusal::VolumeMissing {
        pod: name(),
        volume: "sts-tokens",
    };
    refuses(
        &pod,
        &refusal,
        &["pod apps/bare", "no volume sts-tokens", "add the volume"],
    );
}

/// ADM-025: nothing else of the sidecar can be chosen by a pod.
#[test]
fn adm_025_other_annotations_change_nothing() {
    let plain = inject(&fixture("bare"));
    let wished = inject(&wishing(&[
        ("image", "evil:1"),
        ("command", "sh"),
        ("audience", "x"),
        ("lifetime", "1h"),
        ("url", "https://evil.example"),
    ]));
    assert_eq!(wished["spec"], plain["spec"]);
}
