//! The kubectl plugin against running servers.

use serde_json::{Value, json};

use super::install::Install;
use super::process::{Process, kubectl_sts};
use super::public_issuer::PublicIssuer;
use super::ring::{active_kid, next_kid, short_times};

const SECRET: &str = "aws-signing-key";

async fn start() -> (Install, Process, String) {
    let install = Install::new().await;
    install.tune(&short_times());
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    let kid = active_kid(&install).await.unwrap();
    (install, server, kid)
}

async fn runs(install: &Install, arguments: &[&str]) -> String {
    let (ended_well, text) = kubectl_sts(install, arguments).await;
    assert!(ended_well, "{arguments:?}: {text}");
    text
}

/// The chart's ConfigMap with the configuration, which the plugin reads issuers from.
pub(crate) async fn with_configuration(install: &Install, server: &Process) {
    let file = install.config_file(server.listen, server.admin, |_| {});
    let text = std::fs::read_to_string(file).unwrap();
    let object = json!({"metadata": {"name": "config"}, "data": {"config.yaml": text}});
    drop(
        install
            .plane
            .create(&install.path("configmaps"), object)
            .await,
    );
}

#[tokio::test]
async fn a_rotation_is_started_and_watched() {
    let (install, server, first) = start().await;
    let before = runs(&install, &["status"]).await;
    assert!(before.starts_with("SECRET"), "{before}");
    assert!(
        before.contains(&format!("{SECRET}: {first} signs")),
        "{before}"
    );
    drop(runs(&install, &["rotate", SECRET]).await);
    let second = next_kid(&install, &first).await;
    let status = runs(&install, &["status", SECRET, "-o", "json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let keys = status[0]["ring"]["keys"].as_array().unwrap();
    let states: Vec<(&Value, &Value)> = keys
        .iter()
        .map(|key| (&key["kid"], &key["state"]))
        .collect();
    assert_eq!(
        states,
        [
            (&json!(second), &json!("active")),
            (&json!(first), &json!("retiring"))
        ]
    );
    // Again: the same command is another wish.
    drop(runs(&install, &["rotate", SECRET]).await);
    drop(next_kid(&install, &second).await);
    drop(server);
}

#[tokio::test]
async fn a_revocation_must_be_meant() {
    let (install, _server, first) = start().await;
    let (ended_well, text) = kubectl_sts(&install, &["revoke", SECRET, &first]).await;
    assert!(!ended_well && text.contains("--yes"), "{text}");
    let (ended_well, text) =
        kubectl_sts(&install, &["revoke", SECRET, "no-such-key", "--yes"]).await;
    assert!(
        !ended_well && text.contains("has no key no-such-key"),
        "{text}"
    );
    assert_eq!(active_kid(&install).await.unwrap(), first);
    drop(runs(&install, &["revoke", SECRET, &first, "--yes"]).await);
    drop(next_kid(&install, &first).await);
}

#[tokio::test]
async fn a_secret_that_is_no_key_is_named() {
    let (install, _server, _) = start().await;
    for arguments in [["rotate", "server-tls"], ["rotate", "no-such-secret"]] {
        let (ended_well, text) = kubectl_sts(&install, &arguments).await;
        assert!(!ended_well && text.contains(arguments[1]), "{text}");
    }
}

#[tokio::test]
async fn key_012_issuer_docs_are_the_servers_to_the_byte_and_hold_nothing_else() {
    let (install, server, _) = start().await;
    with_configuration(&install, &server).await;
    let folder = install.folder().join("site");
    let out = folder.to_str().unwrap();
    drop(runs(&install, &["issuer-docs", "aws", "--out", out]).await);
    let client = server.client(&install).await;
    for path in ["/certs", "/.well-known/openid-configuration"] {
        let served = client
            .get(server.url(&install, &format!("/aws{path}")))
            .send()
            .await
            .unwrap();
        let served = served.text().await.unwrap();
        let written = std::fs::read_to_string(folder.join(path.trim_start_matches('/'))).unwrap();
        assert_eq!(written, served);
        for private in ["PRIVATE KEY", "\"d\"", "\"p\"", "\"q\"", "\"k\""] {
            assert!(!written.contains(private), "{path}");
        }
    }
    let (ended_well, text) = kubectl_sts(&install, &["issuer-docs", "azure"]).await;
    assert!(!ended_well && text.contains("there are: aws"), "{text}");
}

#[tokio::test]
async fn a_token_is_judged_as_a_relying_party_judges_it() {
    let (install, server, first) = start().await;
    let public = PublicIssuer::start(install.folder()).await;
    let (_, subject) = install.good_token().await;
    let token = server
        .exchange(&install, &subject)
        .await
        .text()
        .await
        .unwrap();
    let (address, ca_file) = (public.url(), public.ca_file.to_str().unwrap().to_owned());
    let verify = |token: String, audience: &'static str| {
        let (address, ca_file, install) = (address.clone(), ca_file.clone(), &install);
        async move {
            let arguments = [
                "verify",
                &token,
                "--address",
                &address,
                "--ca-file",
                &ca_file,
                "--audience",
                audience,
            ];
            kubectl_sts(install, &arguments).await
        }
    };
    let (good, text) = verify(token.clone(), "sts.amazonaws.com").await;
    assert!(
        !good && text.contains("404"),
        "nothing is published yet: {text}"
    );
    let client = server.client(&install).await;
    let documents = client
        .get(server.url(&install, "/aws/issuer-docs"))
        .send()
        .await
        .unwrap();
    public.publish(&documents.json().await.unwrap());
    let (good, text) = verify(token.clone(), "sts.amazonaws.com").await;
    assert!(good && text.contains(&first), "{text}");
    let (good, text) = verify(token.clone(), "another").await;
    assert!(!good && text.contains("InvalidAudience"), "{text}");
    // The signature of another token.
    let (_, other) = install.good_token().await;
    let other = server
        .exchange(&install, &other)
        .await
        .text()
        .await
        .unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let (good, text) = verify(format!("{signed}.{signature}"), "sts.amazonaws.com").await;
    assert!(!good && text.contains("InvalidSignature"), "{text}");
}
