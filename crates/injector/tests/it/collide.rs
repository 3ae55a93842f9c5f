//! Refusals of pods in which something else stands where ours has to go.

use injector::refusal::Refusal;
use serde_json::{Value, json};

use crate::refuse::{name, refuses};
use crate::support::{SIDECAR, TOKENS, fixture, inject, pod_with, set};

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
            "/securityContext/privileged",
            json!(true),
            "securityContext",
        ),
        ("/securityContext/runAsUser", json!(0), "securityContext"),
        (
            "/lifecycle/preStop",
            json!({"sleep": {"seconds": 1}}),
            "lifecycle",
        ),
        (
            "/lifecycle/postStart/exec/command",
            json!(["true"]),
            "lifecycle",
        ),
        ("/restartPolicy", json!(null), "restartPolicy"),
        (
            "/terminationMessagePath",
            json!("/tmp/x"),
            "terminationMessagePath",
        ),
        ("/livenessProbe", json!({}), "livenessProbe"),
    ]
}

#[test]
fn a_sidecar_that_is_not_the_one_we_add_is_denied() {
    for (pointer, value, part) in changes() {
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

#[test]
fn adm_019_foreign_container_of_our_name_is_denied() {
    let foreign = json!([{"name": SIDECAR, "image": "other:1"}]);
    for pointer in ["/spec/initContainers", "/spec/containers"] {
        let expected = Refusal::ContainerNameTaken {
            pod: name(),
            container: SIDECAR,
        };
        let pod = pod_with(pointer, foreign.clone());
        refuses(
            &pod,
            &expected,
            &["pod apps/bare", SIDECAR, "rename or remove"],
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
