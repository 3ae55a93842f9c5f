//! What exactly is added.

use serde_json::json;

use crate::support::{CA, SIDECAR, TOKENS, container, fixture, inject, pod_with, volume};

#[test]
fn adm_021_native_sidecar_stands_first() {
    let pod = inject(&fixture("init-and-native-sidecar"));
    let first = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&first["name"], &first["restartPolicy"]),
        (&json!(SIDECAR), &json!("Always"))
    );
}

#[test]
fn adm_022_sidecar_is_as_pod_security_restricted_wants_it() {
    let pod = inject(&fixture("bare"));
    let expected = json!({
        "name": SIDECAR,
        "image": "registry.example/refresher@sha256:00",
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "args": ["run"],
        "env": [
            {"name": "STS_ENDPOINTS", "value": "aws=https://sts.example/aws/token"},
            {"name": "STS_CA_CERTIFICATES", "value": CA.as_pem()},
            {"name": "STS_WAIT_TIMEOUT", "value": "10s"},
            {"name": "STS_ROLES", "value": "aws=arn:aws:iam::123456789012:role/bare"},
        ],
        "lifecycle": {"postStart": {"exec": {"command": ["/refresher", "wait"]}}},
        "volumeMounts": [
            {"name": "sts-tokens", "mountPath": TOKENS},
            {"name": "sts-subject-tokens", "mountPath": "/var/run/secrets/sts.tremolo.io/subject", "readOnly": true},
        ],
        "resources": {"requests": {"cpu": "5m"}, "limits": {"memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    assert_eq!(*container(&pod, SIDECAR), expected);
}

#[test]
fn sidecar_names_its_user_only_in_a_pod_that_runs_as_root() {
    for (user, expected) in [(json!(0), Some(&json!(65532))), (json!(1000), None)] {
        let pod = inject(&pod_with(
            "/spec/securityContext",
            json!({"runAsUser": user}),
        ));
        assert_eq!(
            container(&pod, SIDECAR)["securityContext"].get("runAsUser"),
            expected
        );
    }
}

#[test]
fn adm_024_subject_token_is_for_the_sidecar_alone_and_token_files_stay_in_memory() {
    let pod = inject(&fixture("bare"));
    let token =
        json!({"audience": "https://sts.example/aws", "expirationSeconds": 3600, "path": "aws"});
    let sources = json!([{"serviceAccountToken": token}]);
    assert_eq!(
        volume(&pod, "sts-subject-tokens")["projected"],
        json!({"sources": sources})
    );
    let shared = json!({"medium": "Memory", "sizeLimit": "1Mi"});
    assert_eq!(volume(&pod, "sts-tokens")["emptyDir"], shared);
    let app = container(&pod, "app")["volumeMounts"].to_string();
    assert!(!app.contains("sts-subject-tokens"), "{app}");
}
