//! The audit line: one for each exchange, with what was decided and nothing that could be used.

use jsonwebtoken::decode_header;
use serde_json::Value;
use test_support::{TestKey, TokenBuilder};

use super::exchange::claims;
use super::support::{Server, parameters, token, valid};

#[tokio::test]
async fn iss_008_an_allowed_exchange() {
    let server = Server::start().await;
    let response = server.exchange("/aws/token", &token()).await;
    let body: Value = response.json().await.unwrap();
    let lines = server.audit(1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    for (field, value) in [
        ("schema", "kube-sts.audit/1"),
        ("decision", "allow"),
        ("reason", "granted"),
        ("endpoint", "aws"),
        ("rule", "(namespace=team-a)"),
        ("cluster", "elsewhere"),
        ("namespace", "team-a"),
        ("service_account", "app"),
        ("pod", "p1"),
        ("pod_uid", TokenBuilder::POD_UID),
        ("sub", "system:serviceaccount:team-a:app"),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert!(line["source"].as_str().unwrap().starts_with("127.0.0.1:"));
    // By its id, the issued token can be found again in a relying party's log.
    let issued = body["access_token"].as_str().unwrap();
    let key = decode_header(issued).unwrap().kid.unwrap();
    assert_eq!(line["kid"], key);
    let claims = claims(&server, "/aws", "https://issuer.example.com", issued).await;
    assert_eq!(line["jti"], claims["jti"]);
    assert_eq!(line["subject_jti"], "5f0a1a9e-7f0c-4a52-9a43-0d6f5a3b2c1d");
    assert_eq!(line["expires"], claims["exp"]);
}

#[tokio::test]
async fn one_line_for_each_exchange_and_none_for_anything_else() {
    let server = Server::start().await;
    let token = token();
    drop(server.exchange("/aws/token", &token).await);
    drop(server.bearer("/aws/reissue", &token).await);
    drop(server.bearer("/aws/token", "garbage").await);
    drop(server.exchange("/aws2/token", &token).await);
    drop(server.form("/aws/token", &[]).await);
    drop(server.get("/aws/token/user").await);
    drop(server.get("/aws/certs").await);
    drop(server.get("/aws/token").await);
    drop(server.get("/nowhere").await);
    let reasons: Vec<Value> = server
        .audit(6)
        .await
        .iter()
        .map(|line| line["reason"].clone())
        .collect();
    assert_eq!(
        reasons,
        [
            "granted",
            "granted",
            "malformed",
            "aud_mismatch",
            "request_invalid",
            "request_invalid"
        ]
    );
}

/// Nothing that a caller sent or got may be read back from the logs: neither whole nor in part.
#[tokio::test]
async fn no_log_line_holds_a_part_of_a_token() {
    let server = Server::start().await;
    let good = token();
    let expired = TokenBuilder::valid(super::support::now() - 7200).sign(TestKey::rsa());
    let denied = valid()
        .claim("sub", "system:serviceaccount:team-b:app")
        .at("/kubernetes.io/namespace", "team-b")
        .sign(TestKey::rsa());
    let mut secrets = vec!["canaryGarbage.canaryPayload.canarySignature".to_owned()];
    for token in [&good, &expired, &denied] {
        secrets.push(token.clone());
        drop(server.exchange("/aws/token", token).await);
        drop(server.bearer("/aws/token", token).await);
        drop(
            server
                .form("/aws/token?canaryQuery=1", &parameters(token))
                .await,
        );
    }
    drop(server.bearer("/aws/token", &secrets[0]).await);
    let form = [("canaryParameter", "canaryValue"), ("subject_token", &good)];
    drop(server.form("/aws/token", &form).await);
    let issued = server.bearer("/aws/token", &good).await;
    secrets.push(issued.text().await.unwrap());
    drop(server.audit(12).await);
    let key = std::fs::read_to_string(server.setup.path("keys/aws.pem")).unwrap();
    secrets.extend(
        key.lines()
            .filter(|line| !line.starts_with('-'))
            .map(str::to_owned),
    );
    let log = server.lines().join("\n");
    for secret in secrets {
        // Every token of ours begins with the same header.
        for part in secret.split('.').skip(usize::from(secret.contains('.'))) {
            let part = part.get(..24).unwrap_or(part);
            assert!(!log.contains(part), "{part} in {log}");
        }
    }
    assert!(!log.contains("canary"), "{log}");
}

/// `docs/audit.md` is what readers of the trail build on.
#[tokio::test]
async fn every_field_is_documented() {
    let server = Server::start().await;
    drop(server.bearer("/aws/token", &token()).await);
    drop(server.bearer("/aws/token", "garbage").await);
    let denied = valid()
        .claim("sub", "system:serviceaccount:team-b:app")
        .at("/kubernetes.io/namespace", "team-b");
    drop(
        server
            .bearer("/aws/token", &denied.sign(TestKey::rsa()))
            .await,
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
    let documented = std::fs::read_to_string(path).unwrap();
    // Of every log line.
    let common = ["level", "message", "target"];
    for line in server.audit(3).await {
        let fields = line.as_object().unwrap().keys();
        for name in fields.map(String::as_str) {
            let known = common.contains(&name) || documented.contains(&format!("`{name}`"));
            assert!(known, "{name} is not in docs/audit.md");
        }
    }
}
