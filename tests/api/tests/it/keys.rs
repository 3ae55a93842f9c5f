//! The signing key's Secret: made once, kept for ever, never replaced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::install::{Install, Variant};
use super::process::Process;
use super::wait::eventually;

async fn secret(install: &Install) -> Value {
    install
        .plane
        .get(&install.path("secrets/aws-signing-key"))
        .await
}

async fn not_ready_because(server: &Process, part: &str) -> String {
    eventually(part, async || {
        let (status, text) = server.readiness().await;
        (status == 503 && text.contains(part)).then_some(text)
    })
    .await
}

#[tokio::test]
async fn the_key_survives_a_restart() {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (set, filled) = (server.key_set(&install).await, secret(&install).await);
    let annotations = &filled["metadata"]["annotations"];
    assert_eq!(annotations["sts.tremolo.io/kid"], set["keys"][0]["kid"]);
    assert_eq!(annotations["sts.tremolo.io/algorithm"], "RS256");
    server.kill();
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    assert_eq!(server.key_set(&install).await, set);
    assert_eq!(secret(&install).await, filled, "nothing is written twice");
}

#[tokio::test]
async fn a_users_own_key_is_taken() {
    let install = Install::new().await;
    let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap()
        .serialize_pem();
    let data =
        json!({"data": {"tls.key": STANDARD.encode(pem), "tls.crt": STANDARD.encode("unused")}});
    let path = install.path("secrets/aws-signing-key");
    drop(install.plane.ok("PATCH", &path, Some(&data)).await);
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let (_, token) = install.good_token().await;
    assert_eq!(server.exchange_status(&install, &token).await, 200);
    let after = secret(&install).await;
    for entry in ["tls.key", "tls.crt"] {
        assert_eq!(
            after["data"][entry], data["data"][entry],
            "it stays as the user wrote it"
        );
    }
    let kid = after["metadata"]["annotations"]["sts.tremolo.io/kid"]
        .as_str()
        .unwrap();
    assert_eq!(
        after["data"][format!("{kid}.pem")],
        data["data"]["tls.key"],
        "it is the one that signs"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_and_left_alone() {
    for data in [
        json!({"signing-key.pem": STANDARD.encode("no key")}),
        json!({"signing-key.pem": ""}),
        json!({"something-else": STANDARD.encode("x")}),
    ] {
        let install = Install::new().await;
        let path = install.path("secrets/aws-signing-key");
        let before = install
            .plane
            .ok("PATCH", &path, Some(&json!({"data": data})))
            .await;
        let server = Process::server(&install);
        let said = not_ready_because(&server, "aws-signing-key").await;
        assert!(said.contains("signing key: "), "{said}");
        let (_, token) = install.good_token().await;
        let response = server.exchange(&install, &token).await;
        assert_eq!(response.status(), 503, "{data}");
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(secret(&install).await, before, "{data}");
    }
}

/// An administrator puts it right, and nobody has to restart anything.
#[tokio::test]
async fn a_key_put_right_is_taken_without_a_restart() {
    let install = Install::new().await;
    let path = install.path("secrets/aws-signing-key");
    let broken = json!({"data": {"signing-key.pem": STANDARD.encode("no key")}});
    drop(install.plane.ok("PATCH", &path, Some(&broken)).await);
    let mut server = Process::server(&install);
    drop(not_ready_because(&server, "aws-signing-key").await);
    drop(
        install
            .plane
            .ok("PATCH", &path, Some(&json!({"data": null})))
            .await,
    );
    server.becomes_ready().await;
    assert_eq!(
        server.key_set(&install).await["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// The right to create is for this one name.
#[tokio::test]
async fn a_missing_secret_is_made() {
    let install = Install::new().await;
    install
        .plane
        .delete(&install.path("secrets/aws-signing-key"))
        .await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let kid = &server.key_set(&install).await["keys"][0]["kid"];
    assert_eq!(
        &secret(&install).await["metadata"]["annotations"]["sts.tremolo.io/kid"],
        kid
    );
}

#[tokio::test]
async fn a_missing_secret_that_may_not_be_made_is_named_with_the_remedy() {
    let variant = Variant {
        without_create: true,
        ..Variant::default()
    };
    let install = Install::variant(variant).await;
    install
        .plane
        .delete(&install.path("secrets/aws-signing-key"))
        .await;
    let server = Process::server(&install);
    let said = not_ready_because(&server, "aws-signing-key").await;
    assert!(
        said.contains("kubectl create secret generic aws-signing-key"),
        "{said}"
    );
}

/// The same for the certificate: another program's Secret under our name is not ours to fill.
#[tokio::test]
async fn a_certificate_secret_of_somebody_else_is_named_and_left_alone() {
    let install = Install::new().await;
    let path = install.path("secrets/server-tls");
    let data = json!({"data": {"tls.crt": STANDARD.encode("no certificate"), "tls.key": STANDARD.encode("no key")}});
    let before = install.plane.ok("PATCH", &path, Some(&data)).await;
    let server = Process::server(&install);
    let said = not_ready_because(&server, "left alone").await;
    assert!(said.contains("certificate: "), "{said}");
    assert!(said.contains("server-tls"), "{said}");
    assert_eq!(install.plane.get(&path).await, before);
}

/// As the chart has it: with the right to create a key's Secret by its name comes none to another ServiceAccount's token.
#[tokio::test]
async fn the_server_cannot_make_a_secret_that_the_control_plane_fills_with_a_token() {
    const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let install = Install::new().await;
    let (plane, name) = (install.plane, &install.namespace);
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
                    "resources": ["secrets"], "scope": "Namespaced"}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            },
            "matchConditions": [{"name": "is-the-server",
                "expression": format!("request.userInfo.username == \"system:serviceaccount:{name}:server\"")}],
            "validations": [
                {"expression": "(has(object.type) && object.type in [\"Opaque\", \"kubernetes.io/tls\"])\n\
                    || (oldObject != null && has(object.type) && has(oldObject.type) && object.type == oldObject.type)",
                    "message": "types Opaque and kubernetes.io/tls only", "reason": "Forbidden"},
                {"expression": "!has(object.metadata.ownerReferences)\n\
                    || object.metadata.ownerReferences.all(one, oldObject != null && has(oldObject.metadata.ownerReferences)\n\
                    && oldObject.metadata.ownerReferences.exists(old, old.uid == one.uid))",
                    "message": "no ownerReferences", "reason": "Forbidden"},
            ],
        },
    });
    drop(plane.create(POLICIES, policy).await);
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let bindings = POLICIES.replace("policies", "policybindings");
    drop(plane.create(&bindings, binding).await);

    let token = plane.token(name, "server", None, None).await;
    let path = install.path("secrets/aws-signing-key");
    let apply = async |object: Value| {
        let url = format!("{path}?fieldManager=thief&force=true");
        plane.apply_as(&token, &url, &object).await
    };
    plane.delete(&path).await;
    let stolen = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "aws-signing-key", "annotations": {"kubernetes.io/service-account.name": "injector"}}});
    // The policy is known to the API server a moment after it was created.
    eventually("the policy refuses it", async || {
        let (status, answer) = apply(stolen.clone()).await;
        if status == 201 {
            plane.delete(&path).await;
        }
        let message = answer["message"].as_str().unwrap_or_default();
        (status == 403 && message.contains("types Opaque")).then_some(())
    })
    .await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "server-ca", "uid": "1"});
    let owned = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "aws-signing-key", "ownerReferences": [owner]}});
    let (status, answer) = apply(owned).await;
    assert_eq!(status, 403, "{answer}");
    // What it does every day it still may.
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    assert_eq!(secret(&install).await["type"], "Opaque");
}
