//! Pods that get a token, and what they look like afterwards.

use serde_json::{Value, json};

use crate::support::{
    CA, SIDECAR, TOKENS, ask, ask_review, container, fixture, fixtures, inject, pod_with, review,
    set, token_mounts, variable, volume,
};

#[test]
fn adm_001_labelled_pod_with_annotation_gets_sidecar_volumes_environment_and_mounts() {
    let answered = ask(&fixture("bare"));
    assert_eq!(answered.response["allowed"], true);
    assert_eq!(answered.response["patchType"], "JSONPatch");
    let audit = json!({"decision": "inject", "endpoints": "aws", "reason": "label"});
    assert_eq!(answered.response["auditAnnotations"], audit);
    let app = container(&answered.pod, "app");
    let file = json!(format!("{TOKENS}/aws/token"));
    assert_eq!(variable(app, "AWS_WEB_IDENTITY_TOKEN_FILE"), [file]);
    let role = json!("arn:aws:iam::123456789012:role/bare");
    assert_eq!(variable(app, "AWS_ROLE_ARN"), [role]);
    let mount = json!({"name": "sts-tokens", "mountPath": TOKENS, "readOnly": true});
    assert_eq!(token_mounts(app), [&mount]);
    assert!(answered.warnings().is_empty());
}

#[test]
fn adm_006_missing_and_null_arrays_are_made() {
    let pod = inject(&fixture("bare"));
    assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 2);
    let pod = inject(&fixture("future"));
    assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(container(&pod, "app")["env"].as_array().unwrap().len(), 2);
}

#[test]
fn adm_007_what_we_do_not_know_survives() {
    let before = fixture("future");
    let mut after = inject(&before);
    for pointer in ["/spec/initContainers", "/spec/containers/0/env"] {
        set(&mut after, pointer, Value::Null);
    }
    for pointer in ["/spec/volumes", "/spec/containers/0/volumeMounts"] {
        after
            .pointer_mut(pointer)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .truncate(1);
    }
    assert_eq!(after, before);
}

#[test]
fn adm_008_a_second_pass_changes_nothing() {
    for (name, pod) in fixtures() {
        let second = ask(&inject(&pod));
        assert_eq!(second.response["allowed"], true, "{name}");
        assert!(second.patch.0.is_empty(), "{name}: {:?}", second.patch);
        assert_eq!(second.response.get("patchType"), None, "{name}");
        assert_eq!(second.response.get("auditAnnotations"), None, "{name}");
        assert_eq!(
            (second.outcome.decision, second.outcome.reason),
            ("skip", "already_injected")
        );
    }
}

#[test]
fn adm_008_a_second_pass_after_the_api_server_filled_in_defaults_changes_nothing() {
    let mut pod = inject(&fixture("bare"));
    for (pointer, value) in [
        (
            "/spec/initContainers/0/terminationMessagePath",
            json!("/dev/termination-log"),
        ),
        (
            "/spec/initContainers/0/volumeMounts/-",
            json!({"name": "kube-api-access-x", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}),
        ),
        // Another webhook's, which it adds to every container.
        (
            "/spec/initContainers/0/volumeMounts/-",
            json!({"name": "agent", "mountPath": "/var/run/agent"}),
        ),
        (
            "/spec/initContainers/0/env/-",
            json!({"name": "AGENT_HOST", "value": "10.0.0.1"}),
        ),
        ("/spec/initContainers/0/imagePullPolicy", json!("Always")),
        (
            "/spec/initContainers/0/resources",
            json!({"requests": {"cpu": "10m"}}),
        ),
        (
            "/spec/initContainers/0/securityContext/runAsUser",
            json!(1_000_680_000),
        ),
        // Renewed between the passes.
        ("/spec/initContainers/0/env/1/value", json!("another CA")),
        ("/spec/volumes/1/projected/defaultMode", json!(420)),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
    ] {
        set(&mut pod, pointer, value);
    }
    assert!(ask(&pod).patch.0.is_empty());
}

#[test]
fn adm_009_a_container_added_later_is_the_only_one_changed() {
    let mut pod = inject(&fixture("bare"));
    set(
        &mut pod,
        "/spec/containers/-",
        json!({"name": "late", "image": "late:1"}),
    );
    let second = ask(&pod);
    assert!(!second.patch.0.is_empty());
    for operation in &second.patch.0 {
        assert!(
            operation.path().as_str().starts_with("/spec/containers/1/"),
            "{operation:?}"
        );
    }
    assert_eq!(
        variable(container(&second.pod, "late"), "AWS_ROLE_ARN").len(),
        1
    );
    assert_eq!(token_mounts(container(&second.pod, "late")).len(), 1);
    assert!(ask(&second.pod).patch.0.is_empty());
}

#[test]
fn adm_009_a_sidecar_moved_by_another_webhook_stays_where_it_is() {
    let mut pod = inject(&fixture("init-and-native-sidecar"));
    pod["spec"]["initContainers"]
        .as_array_mut()
        .unwrap()
        .reverse();
    assert!(ask(&pod).patch.0.is_empty());
}

#[test]
fn adm_011_dry_run_gets_the_same_answer() {
    let mut dry = review(&fixture("bare"));
    dry["request"]["dryRun"] = json!(true);
    let answered = ask_review(Some(&CA), &dry).unwrap();
    assert_eq!(answered.response, ask(&fixture("bare")).response);
}

#[test]
fn adm_014_privileged_container_is_served_and_the_sidecar_stays_restricted() {
    let context = json!({"privileged": true});
    let pod = inject(&pod_with("/spec/containers/0/securityContext", context));
    let sidecar = &container(&pod, SIDECAR)["securityContext"];
    assert_eq!(sidecar.get("privileged"), None);
    assert_eq!(sidecar["allowPrivilegeEscalation"], false);
}

#[test]
fn adm_016_variables_the_user_set_are_kept_with_a_warning() {
    let answered = ask(&fixture("user-environment"));
    let literal = container(&answered.pod, "literal");
    let own = json!("arn:aws:iam::999999999999:role/mine");
    assert_eq!(variable(literal, "AWS_ROLE_ARN"), [own]);
    assert_eq!(variable(literal, "AWS_WEB_IDENTITY_TOKEN_FILE").len(), 1);
    let reference = container(&answered.pod, "reference");
    assert_eq!(
        variable(reference, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        [Value::Null]
    );
    assert_eq!(variable(reference, "AWS_ROLE_ARN").len(), 1);
    let warnings = answered.warnings();
    assert!(warnings.contains(&"kube-sts: container literal keeps its own AWS_ROLE_ARN"));
    let token = "kube-sts: container reference keeps its own AWS_WEB_IDENTITY_TOKEN_FILE";
    assert!(warnings.contains(&token));
}

#[test]
fn adm_017_what_would_shadow_the_role_is_warned_of() {
    let answered = ask(&fixture("user-environment"));
    let warnings = answered.warnings();
    for part in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "envFrom"] {
        let named =
            |warning: &&&str| warning.contains("container static") && warning.contains(part);
        assert_eq!(warnings.iter().filter(named).count(), 1, "{warnings:?}");
    }
    assert!(!answered.response.to_string().contains("AKIACANARY"));
    let mut vault = fixture("user-environment");
    set(
        &mut vault,
        "/metadata/labels",
        json!({"tremolo.io/vault-role": "true"}),
    );
    set(
        &mut vault,
        "/metadata/annotations",
        json!({"tremolo.io/vault-role": "r"}),
    );
    assert!(ask(&vault).warnings().is_empty());
}

#[test]
fn shared_processes_are_warned_of() {
    let warned = |value: Value| {
        let answered = ask(&pod_with("/spec/shareProcessNamespace", value));
        assert_eq!(answered.outcome.decision, "inject");
        let warnings = answered.warnings();
        assert!(warnings.iter().all(|warning| warning.len() < 120));
        let named = |warning: &&str| warning.contains("shareProcessNamespace");
        warnings.into_iter().filter(named).count()
    };
    assert_eq!(warned(json!(true)), 1);
    assert_eq!(warned(json!(false)), 0);
    assert_eq!(warned(Value::Null), 0);
}

#[test]
fn warnings_are_short_and_few() {
    let name = "n".repeat(300);
    let env = json!([{"name": "AWS_ROLE_ARN", "value": "x"}]);
    let one = json!({"name": name, "image": "i", "env": env});
    let many = Value::Array(vec![one; 100]);
    let answered = ask(&pod_with("/spec/containers", many));
    let warnings = answered.warnings();
    assert_eq!(warnings.len(), 20);
    assert!(
        warnings.iter().all(|warning| warning.chars().count() < 120),
        "{warnings:?}"
    );
    assert_eq!(warnings[19], "kube-sts: and 81 more warnings");
}

#[test]
fn adm_018_an_identical_mount_and_volume_are_ours_already() {
    let mut pod = fixture("bare");
    let mount = json!([{"name": "sts-tokens", "mountPath": TOKENS, "readOnly": true}]);
    set(&mut pod, "/spec/containers/0/volumeMounts", mount);
    let volumes = json!([{"name": "sts-tokens", "emptyDir": {"medium": "Memory"}}]);
    set(&mut pod, "/spec/volumes", volumes);
    let pod = inject(&pod);
    assert_eq!(token_mounts(container(&pod, "app")).len(), 1);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 2);
}

#[test]
fn init_containers_and_foreign_native_sidecars_are_served_ephemeral_ones_are_not() {
    let pod = inject(&fixture("init-and-native-sidecar"));
    let names: Vec<_> = pod["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    let names: Vec<_> = names
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, [SIDECAR, "migrate", "proxy"]);
    for name in ["app", "worker", "migrate", "proxy"] {
        let container = container(&pod, name);
        assert_eq!(variable(container, "AWS_ROLE_ARN").len(), 1, "{name}");
        assert_eq!(token_mounts(container).len(), 1, "{name}");
    }
    let debug = json!({"name": "debug", "image": "debug:1"});
    assert_eq!(pod["spec"]["ephemeralContainers"], json!([debug]));
    assert_eq!(variable(container(&pod, "proxy"), "MODE"), [json!("x")]);
}

#[test]
fn one_sidecar_serves_two_endpoints() {
    let pod = inject(&fixture("two-endpoints"));
    assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    let endpoints = "aws=https://sts.example/aws/token,vault=https://sts.example/vault/token";
    assert_eq!(
        variable(container(&pod, SIDECAR), "STS_ENDPOINTS"),
        [json!(endpoints)]
    );
    let app = container(&pod, "app");
    assert_eq!(
        variable(app, "VAULT_TOKEN_FILE"),
        [json!(format!("{TOKENS}/vault/token"))]
    );
    assert_eq!(variable(app, "VAULT_ROLE"), [json!("team a/reader")]);
    assert_eq!(token_mounts(app).len(), 1);
    let sources = &volume(&pod, "sts-subject-tokens")["projected"]["sources"];
    assert_eq!(sources.as_array().unwrap().len(), 2);
}

#[test]
fn adm_025_annotations_of_ours_that_are_not_in_the_configuration_are_ignored() {
    let mut pod = fixture("bare");
    for key in [
        "image",
        "command",
        "audience",
        "expiration",
        "url",
        "aws-role-image",
    ] {
        set(
            &mut pod,
            &format!("/metadata/annotations/tremolo.io~1{key}"),
            json!("evil"),
        );
    }
    assert_eq!(ask(&pod).response, ask(&fixture("bare")).response);
}

#[test]
fn adm_031_pod_without_a_name_is_served() {
    let pod = inject(&fixture("generate-name"));
    assert_eq!(
        container(&pod, SIDECAR)["securityContext"]["runAsUser"],
        65532
    );
}

#[test]
fn adm_032_pods_of_no_and_of_many_containers_do_not_disturb() {
    let none = inject(&pod_with("/spec/containers", Value::Null));
    assert_eq!(none["spec"]["containers"], Value::Null);
    let many = vec![json!({"name": "c", "image": "i"}); 200];
    let mut pod = pod_with("/spec/containers", Value::Array(many));
    set(
        &mut pod,
        "/metadata/annotations/example.com~1big",
        json!("x".repeat(1 << 20)),
    );
    let pod = inject(&pod);
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert!(containers.iter().all(|one| token_mounts(one).len() == 1));
}

#[test]
fn adm_038_keys_with_slash_and_tilde_are_read_and_left_alone() {
    let before = fixture("future");
    let after = inject(&before);
    assert_eq!(after["metadata"], before["metadata"]);
}
