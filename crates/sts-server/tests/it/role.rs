//! The role that a pod asks for: how it is said, whom it is given to, and what the token says of it.

use serde_json::{Value, json};
use test_support::TestKey;

use super::exchange::claims;
use super::support::{Server, Setup, parameters, refused, token, valid};

const APP: &str = "arn:aws:iam::123456789012:role/team-a/app";
const OTHER: &str = "arn:aws:iam::123456789012:role/team-b/app";

/// Endpoint `aws` binds roles, and its tokens name them.
async fn start() -> Server {
    let mut setup = Setup::new();
    let rule = "  - filter: \"(namespace=team-a)\"\n".to_owned();
    let roles = "  roles:\n  - pattern: \"arn:aws:iam::123456789012:role/${namespace}/*\"\n  aws: {roles: true}\n";
    setup.changes.push((rule.clone(), format!("{rule}{roles}")));
    setup.start().await
}

fn form<'a>(token: &'a str, role: &'a str) -> Vec<(&'a str, &'a str)> {
    [&parameters(token)[..], &[("role", role)]].concat()
}

async fn issued(server: &Server, endpoint: &str, token: &str) -> Value {
    let issuer = if endpoint == "/aws" {
        "https://issuer.example.com"
    } else {
        "https://second.example.com/k8s"
    };
    claims(server, endpoint, issuer, token).await
}

#[tokio::test]
async fn a_bound_role_is_in_the_token_in_every_form() {
    let server = start().await;
    let token = token();
    let body: Value = server
        .form("/aws/token", &form(&token, APP))
        .await
        .json()
        .await
        .unwrap();
    let by_form = body["access_token"].as_str().unwrap().to_owned();
    let ask = |method: &str, path: &str| {
        let request = server.request(method, path).bearer_auth(&token);
        request.header("sts-role", APP).send()
    };
    let by_bearer = ask("POST", "/aws/token")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let openunison: Value = ask("GET", "/aws/token/user")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let by_openunison = openunison["token"]["jwt"].as_str().unwrap().to_owned();
    for token in [by_form, by_bearer, by_openunison] {
        let claims = issued(&server, "/aws", &token).await;
        assert_eq!(claims["https://aws.amazon.com/roles"], json!([APP]));
    }
    let lines = server.audit(3).await;
    assert!(lines.iter().all(|line| line["role"] == APP), "{lines:?}");
}

#[tokio::test]
async fn a_role_that_is_not_bound_or_none_is_refused() {
    let server = start().await;
    let token = token();
    let answer = server.form("/aws/token", &form(&token, OTHER)).await;
    refused(answer, 400, "invalid_target").await;
    refused(
        server.exchange("/aws/token", &token).await,
        400,
        "invalid_target",
    )
    .await;
    let empty = server.form("/aws/token", &form(&token, "")).await;
    refused(empty, 400, "invalid_target").await;
    refused(
        server.bearer("/aws/token", &token).await,
        403,
        "insufficient_scope",
    )
    .await;
    let lines = server.audit(4).await;
    // The rule that allows the subject is named, and the role that it may not have.
    assert!(
        lines
            .iter()
            .all(|line| line["rule"] == "(namespace=team-a)"),
        "{lines:?}"
    );
    assert_eq!(lines[0]["role"], OTHER);
    assert!(
        lines[1..].iter().all(|line| line.get("role").is_none()),
        "{lines:?}"
    );
    let reasons: Vec<&Value> = lines.iter().map(|line| &line["reason"]).collect();
    assert_eq!(
        reasons,
        [
            "role_denied",
            "role_missing",
            "role_missing",
            "role_missing"
        ]
    );
}

/// Where no roles are bound, the pod's wish changes nothing, and nothing of it is in the token.
#[tokio::test]
async fn iss_007_a_role_that_nothing_binds_is_in_no_token() {
    let server = start().await;
    let token = valid().claim("aud", json!(["https://sts.test/aws2"]));
    let token = token.sign(TestKey::rsa());
    let answer = server.form("/aws2/token", &form(&token, OTHER)).await;
    let body: Value = answer.json().await.unwrap();
    let claims = issued(&server, "/aws2", body["access_token"].as_str().unwrap()).await;
    assert!(!claims.to_string().contains("role"), "{claims}");
}

#[tokio::test]
async fn http_012_a_role_is_one_and_in_one_place() {
    let server = start().await;
    let token = token();
    let twice = [&form(&token, APP)[..], &[("role", APP)]].concat();
    let wild = form(&token, "arn:aws:iam::123456789012:role/*");
    let line = form(&token, "a\nb");
    for parameters in [twice, wild, line] {
        let answer = server.form("/aws/token", &parameters).await;
        refused(answer, 400, "invalid_request").await;
    }
    let both = server
        .request("POST", "/aws/token")
        .header("sts-role", APP)
        .form(&form(&token, APP));
    refused(both.send().await.unwrap(), 400, "invalid_request").await;
    let headers = server
        .request("POST", "/aws/token")
        .bearer_auth(&token)
        .header("sts-role", APP)
        .header("sts-role", OTHER);
    refused(headers.send().await.unwrap(), 400, "invalid_request").await;
}
