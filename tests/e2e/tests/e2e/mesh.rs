//! Beside another webhook, which is called after ours, puts its own containers first and all that a pod has into another order.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::stage::{ALLOWED, Stage, stage, wait_for};
use crate::tokens::claims;

const MESH: &str = "mesh";
const POD: &str = "meshed";
const PROGRAM: &str = include_str!("../../manifests/mesh.py");

/// The webhook in a namespace of its own. Its configuration's name comes after ours, and so does its call.
fn install(stage: &Stage) -> Result<()> {
    let name = format!("mesh.{MESH}.svc");
    let certificate = rcgen::generate_simple_self_signed([name])?;
    let (chain, key) = (
        certificate.cert.pem(),
        certificate.signing_key.serialize_pem(),
    );
    let container = json!({
        "name": "mesh", "image": stage.awscli_image,
        "command": ["python3", "/mesh/mesh.py"], "env": [{"name": "IMAGE", "value": stage.awscli_image}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "mesh", "mountPath": "/mesh"}],
    });
    let selector = json!({"app": "mesh"});
    let webhook = json!({
        "name": "mesh.example.com",
        "clientConfig": {"service": {"name": "mesh", "namespace": MESH}, "caBundle": STANDARD.encode(&chain)},
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "objectSelector": {"matchLabels": {"mesh": "yes"}},
    });
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MESH}}),
        // `default` comes some time after its namespace.
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mesh", "namespace": MESH}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mesh", "namespace": MESH},
            "stringData": {"mesh.py": PROGRAM, "tls.crt": chain, "tls.key": key}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mesh", "namespace": MESH, "labels": selector},
            "spec": {"serviceAccountName": "mesh", "terminationGracePeriodSeconds": 1, "containers": [container],
                "volumes": [{"name": "mesh", "secret": {"secretName": "mesh"}}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mesh", "namespace": MESH},
            "spec": {"selector": selector, "ports": [{"port": 443, "targetPort": 8443}]}}),
    ];
    stage.apply(&list(&objects))?;
    stage.kubectl(&[
        "-n",
        MESH,
        "wait",
        "--for=condition=Ready",
        "pod/mesh",
        "--timeout=60s",
    ])?;
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "zz-mesh"}, "webhooks": [webhook]});
    stage.apply(&configuration.to_string())?;
    Ok(())
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

fn names(list: &Value) -> Vec<&str> {
    let names = list.as_array().into_iter().flatten();
    names
        .filter_map(|container| container["name"].as_str())
        .collect()
}

/// Each container fails where it has no token, or the mesh was not at it.
fn pod(stage: &Stage) -> Value {
    let check = "test -s \"$AWS_WEB_IDENTITY_TOKEN_FILE\" && test \"$MESH\" = yes";
    let container = |name: &str| json!({"name": name, "image": stage.awscli_image, "command": ["sh", "-c", format!("{check} && exec sleep 100000")]});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": POD, "namespace": ALLOWED,
            "labels": {"tremolo.io/aws-role": "true", "mesh": "yes"},
            "annotations": {"tremolo.io/aws-role": "arn:aws:iam::123456789012:role/demo"},
        },
        "spec": {
            "serviceAccountName": "aws-test", "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "own", "image": stage.awscli_image, "command": ["sh", "-c", check]}],
            "containers": [container("app"), container("second")],
        },
    })
}

#[test]
fn a_pod_that_a_mesh_reorders_has_its_token_in_every_container() -> Result<()> {
    let stage = stage();
    install(stage)?;
    let manifest = pod(stage).to_string();
    // The API server learns of the configuration by a watch of its own.
    let dry = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let is_called = || {
        let answer = stage.kubectl_with(&dry, &manifest)?;
        Ok(answer.contains("mesh-proxy").then_some(()))
    };
    wait_for("the mesh to be called", Duration::from_secs(30), is_called)?;
    stage.apply(&manifest)?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s"];
    let became = stage.kubectl(&[&ready[..], &["-n", ALLOWED, &format!("pod/{POD}")]].concat());
    let seen = stage.get(&["pod", POD, "-n", ALLOWED])?;
    ensure!(became.is_ok(), "{became:?} {}", seen["status"]);
    check_order(&seen["spec"])?;
    for container in ["mesh-proxy", "second", "app"] {
        let line = "cat $AWS_WEB_IDENTITY_TOKEN_FILE";
        let token = stage.kubectl(&[
            "-n", ALLOWED, "exec", POD, "-c", container, "--", "sh", "-c", line,
        ])?;
        let pod = &claims(&token)?["kubernetes.io"]["pod"]["name"];
        ensure!(pod == POD, "{container} has another's token: {pod}");
    }
    for object in [
        "mutatingwebhookconfiguration/zz-mesh",
        "namespace/mesh",
        &format!("pod/{POD}"),
    ] {
        stage.forget(ALLOWED, object);
    }
    Ok(())
}

fn check_order(spec: &Value) -> Result<()> {
    let init = names(&spec["initContainers"]);
    ensure!(
        init == ["mesh-init", "mesh-proxy", "kube-sts-refresher", "own"],
        "{init:?}"
    );
    let containers = names(&spec["containers"]);
    ensure!(containers == ["second", "app"], "{containers:?}");
    let sidecar = spec.pointer("/initContainers/2/env/0/name");
    ensure!(
        sidecar == Some(&json!("MESH")),
        "the mesh was not at the sidecar"
    );
    Ok(())
}
