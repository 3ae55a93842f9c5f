//! Refusals of pods in which something else stands where ours has to go.

use injector::decide::Entry;
use injector::refusal::Refusal;
use serde_json::{Value, json};

use crate::refuse::{name, refuses};
use crate::support::{
    CA, SIDECAR, TOKENS, ask, ask_as, fixture, inject, pod_with, review, set, settings,
};

#[test]
fn adm_018_foreign_volume_of_our_name_is_denied() {
    for (volume, value) in [
        ("sts-tokens", json!({"name": "sts-tokens", "emptyDir": {}})),
        (
            "sts-tokens",
            json!({"name": "sts-tokens", "hostPath": {"path": "/"}}),
        ),
        (
            "sts-subject-tokens",
            json!({"name": "sts-subject-tokens", "emptyDir": {"medium": "Memory"}}),
        ),
        (
            "sts-subject-tokens",
            json!({"name": "sts-subject-tokens", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "other", "path": "aws"}}]}}),
        ),
    ] {
        let expected = Refusal::VolumeNameTaken {
            pod: name(),
            volume,
        };
        let pod = pod_with("/spec/volumes", json!([value]));
        refuses(
            &pod,
            &expected,
            &["pod apps/bare", volume, "rename or remove"],
        );
    }
}

#[test]
fn adm_018_foreign_mount_at_under_or_above_our_path_is_denied() {
    let under = format!("{TOKENS}/aws");
    for mount in [
        json!({"name": "v", "mountPath": TOKENS}),
        json!({"name": "v", "mountPath": under}),
        json!({"name": "v", "mountPath": "/var/run/secrets/"}),
    ] {
        let expected = Refusal::MountTaken {
            pod: name(),
            container: "app".to_owned(),
            path: TOKENS,
        };
        let pod = pod_with("/spec/containers/0/volumeMounts", json!([mount]));
        refuses(
            &pod,
            &expected,
            &["pod apps/bare", "container app", TOKENS, "move that mount"],
        );
    }
}

#[test]
fn a_mount_of_our_volumes_that_is_not_ours_is_denied() {
    for (volume, mount) in [
        ("sts-tokens", json!({"mountPath": TOKENS})),
        (
            "sts-tokens",
            json!({"mountPath": TOKENS, "readOnly": false}),
        ),
        (
            "sts-tokens",
            json!({"mountPath": TOKENS, "readOnly": true, "subPath": "aws"}),
        ),
        (
            "sts-tokens",
            json!({"mountPath": "/data", "readOnly": true}),
        ),
        ("sts-subject-tokens", json!({"mountPath": "/data"})),
        (
            "sts-subject-tokens",
            json!({"mountPath": "/var/run/secrets/sts.tremolo.io/subject", "readOnly": true}),
        ),
    ] {
        let mut mount = mount;
        mount["name"] = json!(volume);
        let thief = json!([{"name": "thief", "image": "i", "volumeMounts": [mount]}]);
        for pointer in ["/spec/initContainers", "/spec/containers"] {
            let expected = Refusal::VolumeMounted {
                pod: name(),
                container: "thief".to_owned(),
                volume,
            };
            let pod = pod_with(pointer, thief.clone());
            let words = [
                "pod apps/bare",
                "container thief",
                volume,
                "remove that mount",
            ];
            refuses(&pod, &expected, &words);
        }
    }
}

/// What may stand in the sidecar instead of ours, and the field that it is in.
fn changes() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/command", json!(["/bin/sh"]), "command"),
        ("/args", json!(["once"]), "args"),
        (
            "/env/-",
            json!({"name": "STS_CA_FILE", "value": "/evil"}),
            "env",
        ),
        ("/env/2/value", json!("0s"), "env"),
        (
            "/env/-",
            json!({"name": "STS_CA_CERTIFICATES", "value": "another"}),
            "env",
        ),
        (
            "/env/1",
            json!({"name": "STS_CA_CERTIFICATES", "valueFrom": {}}),
            "env",
        ),
        (
            "/envFrom",
            json!([{"configMapRef": {"name": "x"}}]),
            "envFrom",
        ),
        (
            "/volumeMounts/1/mountPath",
            json!("/elsewhere"),
            "volumeMounts",
        ),
        (
            "/volumeMounts/-",
            json!({"name": "data", "mountPath": "/refresher"}),
            "volumeMounts",
        ),
        (
            "/lifecycle/postStart/exec/command",
            json!(["true"]),
            "lifecycle",
        ),
        ("/lifecycle/postStart", Value::Null, "lifecycle"),
        ("/startupProbe", json!({"exec": {}}), "startupProbe"),
        ("/readinessProbe", json!({"exec": {}}), "readinessProbe"),
        ("/restartPolicy", json!(null), "restartPolicy"),
        (
            "/terminationMessagePath",
            json!("/tmp/x"),
            "terminationMessagePath",
        ),
        ("/livenessProbe", json!({}), "livenessProbe"),
    ]
}

/// What may be set in its security context so that it is less confined.
fn loosenings() -> Vec<(&'static str, Value)> {
    vec![
        ("privileged", json!(true)),
        ("runAsUser", json!(0)),
        ("runAsNonRoot", json!(false)),
        ("readOnlyRootFilesystem", Value::Null),
        ("allowPrivilegeEscalation", json!(true)),
        ("capabilities/drop", json!(["MKNOD"])),
        ("capabilities/add", json!(["NET_ADMIN"])),
        ("seccompProfile", json!({"type": "Unconfined"})),
        ("appArmorProfile", json!({"type": "Unconfined"})),
        ("seLinuxOptions", json!({"type": "spc_t"})),
        ("procMount", json!("Unmasked")),
        ("ofTheFuture", json!(true)),
    ]
}

#[test]
fn a_sidecar_that_is_not_the_one_we_add_is_denied() {
    let loosenings = loosenings().into_iter().map(|(field, value)| {
        let pointer = format!("/securityContext/{field}");
        (pointer, value, "securityContext")
    });
    let changes = changes()
        .into_iter()
        .map(|(pointer, value, part)| (pointer.to_owned(), value, part));
    for (pointer, value, part) in changes.chain(loosenings) {
        let mut pod = inject(&fixture("bare"));
        let pointer = format!("/spec/initContainers/0{pointer}");
        set(&mut pod, &pointer, value);
        let expected = Refusal::SidecarChanged {
            pod: name(),
            container: SIDECAR,
            part: part.to_owned(),
        };
        let words = ["pod apps/bare", part, SIDECAR, "remove the container"];
        refuses(&pod, &expected, &words);
    }
}

/// Registries are rewritten, digests resolved, defaults filled in, security made tighter, by webhooks that see every container; and another
/// replica may run with settings a minute older or newer.
#[test]
fn what_other_webhooks_and_replicas_do_to_the_sidecar_passes_where_it_keeps_working_and_confined() {
    let probe = json!({
        "exec": {"command": ["/refresher", "probe"]},
        "periodSeconds": 1, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 86_400,
    });
    let liveness = json!({
        "exec": {"command": ["/refresher", "probe", "--liveness"]},
        "periodSeconds": 60, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 3,
    });
    let listen = json!({"name": "STS_METRICS_LISTEN", "value": "[::]:9090"});
    for changes in [
        vec![("/image", json!("mirror.example/refresher@sha256:11"))],
        vec![(
            "/securityContext/capabilities/drop",
            json!(["ALL", "MKNOD", "KILL"]),
        )],
        vec![("/securityContext/privileged", json!(false))],
        vec![("/securityContext/runAsUser", json!(1_000_680_000))],
        vec![("/securityContext/runAsGroup", json!(3000))],
        vec![(
            "/securityContext/seLinuxOptions",
            json!({"level": "s0:c26,c15", "type": "container_t"}),
        )],
        vec![(
            "/securityContext/seccompProfile",
            json!({"type": "Localhost", "localhostProfile": "tight.json"}),
        )],
        vec![(
            "/securityContext/appArmorProfile",
            json!({"type": "RuntimeDefault"}),
        )],
        vec![("/securityContext/procMount", json!("Default"))],
        vec![("/lifecycle/preStop", json!({"sleep": {"seconds": 1}}))],
        vec![("/env/2/value", json!("500ms"))],
        vec![("/env/-", listen)],
        vec![("/livenessProbe", liveness)],
        vec![("/lifecycle", Value::Null), ("/startupProbe", probe)],
        vec![("/terminationMessagePolicy", json!("File"))],
        vec![("/workingDir", json!("/"))],
        vec![("/ofTheFuture", json!({"a": 1}))],
    ] {
        let mut pod = inject(&fixture("bare"));
        for (pointer, value) in &changes {
            let pointer = format!("/spec/initContainers/0{pointer}");
            set(&mut pod, &pointer, value.clone());
        }
        let answered = ask(&pod);
        assert_eq!(answered.outcome.reason, "already_injected", "{changes:?}");
    }
}

/// Replicas take a changed configuration over one after the other, and a pod may be asked of both. Its author has nothing to mend.
#[test]
fn a_sidecar_of_another_configuration_is_a_refusal_for_now_and_not_the_authors_fault() {
    let file = json!({"name": "STS_FILES", "value": "[]"});
    for (pointer, value) in [
        ("/env/0/value", json!("aws=https://sts.example/moved/token")),
        ("/env/-", file),
    ] {
        let mut pod = inject(&fixture("bare"));
        set(
            &mut pod,
            &format!("/spec/initContainers/0{pointer}"),
            value.clone(),
        );
        is_of_other_settings(&pod, "container kube-sts-refresher");
    }
    let mut pod = inject(&fixture("bare"));
    let audience = "/spec/volumes/1/projected/sources/0/serviceAccountToken/audience";
    set(&mut pod, audience, json!("another"));
    is_of_other_settings(&pod, "volume sts-subject-tokens");
    // Made in the classic form, which is another place.
    let classic = injector::settings::Settings {
        sidecar: injector::settings::SidecarSettings {
            form: injector::settings::SidecarForm::Classic,
            ..settings().sidecar
        },
        ..settings()
    };
    let entry = Entry::Endpoint("aws");
    let review = review(&fixture("bare"));
    let made = ask_as(&classic, Some(&CA), entry, &review).unwrap();
    is_of_other_settings(&made.pod, "container kube-sts-first-token");
}

#[track_caller]
fn is_of_other_settings(pod: &Value, part: &str) {
    let answered = ask(pod);
    assert_eq!(answered.outcome.reason, "other_settings");
    let status = &answered.response["status"];
    assert_eq!(status["code"], 503);
    let message = status["message"].as_str().unwrap();
    for word in [part, "another configuration", "try again in a minute"] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn adm_019_foreign_container_of_our_name_is_denied() {
    let foreign = json!([{"name": SIDECAR, "image": "other:1"}]);
    for pointer in ["/spec/initContainers", "/spec/containers"] {
        let expected = Refusal::ContainerNameTaken {
            pod: name(),
            container: SIDECAR,
            key: "label tremolo.io/aws-role".to_owned(),
        };
        let pod = pod_with(pointer, foreign.clone());
        refuses(
            &pod,
            &expected,
            &[
                "pod apps/bare",
                SIDECAR,
                "rename or remove",
                "remove the label tremolo.io/aws-role",
            ],
        );
    }
}

#[test]
fn sidecar_made_for_other_endpoints_is_denied() {
    let mut pod = inject(&fixture("bare"));
    set(
        &mut pod,
        "/metadata/labels/tremolo.io~1vault-role",
        json!("true"),
    );
    set(
        &mut pod,
        "/metadata/annotations/tremolo.io~1vault-role",
        json!("r"),
    );
    let expected = Refusal::SidecarOutdated {
        pod: name(),
        container: SIDECAR,
    };
    refuses(
        &pod,
        &expected,
        &["pod apps/bare", SIDECAR, "remove the container"],
    );
}
