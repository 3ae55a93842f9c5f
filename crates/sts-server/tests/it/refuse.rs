//! Tokens that give none: the status and code that the caller sees, and the reason that it does not.

use std::time::Duration;

use test_support::{TestKey, TokenBuilder};
use tokio::time::sleep;

use super::support::{Server, refused, valid};

/// Both forms, and the reason in the audit line.
async fn refuses(server: &Server, token: &str, reason: &str) {
    let before = server.audit_now().len();
    let headers = refused(
        server.bearer("/aws/token", token).await,
        401,
        "invalid_token",
    )
    .await;
    let challenge = "Bearer realm=\"sts\", error=\"invalid_token\"";
    assert_eq!(headers["www-authenticate"], challenge);
    let headers = refused(
        server.exchange("/aws/token", token).await,
        400,
        "invalid_request",
    )
    .await;
    assert!(!headers.contains_key("www-authenticate"));
    for line in &server.audit(before + 2).await[before..] {
        assert_eq!(line["reason"], reason, "{line}");
    }
}

fn bad() -> Vec<(&'static str, String)> {
    let sign = |token: TokenBuilder| token.sign(TestKey::rsa());
    let good = sign(valid());
    let (rest, signature) = good.rsplit_once('.').unwrap();
    let other = TestKey::other_rsa();
    vec![
        ("malformed", "garbage".to_owned()),
        ("malformed", "x".repeat(4000)),
        ("malformed", format!("{rest}.")),
        ("too_large", "x".repeat(9000)),
        (
            "sig_invalid",
            format!("{rest}.AAAA{}", signature.get(4..).unwrap()),
        ),
        (
            "sig_invalid",
            valid().header("kid", TestKey::rsa().kid()).sign(other),
        ),
        ("kid_unknown", valid().sign(other)),
        ("alg_not_allowed", sign(valid().header("alg", "none"))),
        ("alg_not_allowed", sign(valid().header("alg", "HS256"))),
        ("alg_not_allowed", sign(valid().header("alg", "ES256"))),
        (
            "header_forbidden",
            sign(valid().header("jku", "https://evil.example/")),
        ),
        (
            "iss_mismatch",
            sign(valid().claim("iss", "https://evil.example")),
        ),
        (
            "aud_mismatch",
            sign(valid().claim("aud", "https://sts.test/aws2")),
        ),
        (
            "aud_mismatch",
            sign(valid().claim("aud", TokenBuilder::ISSUER)),
        ),
        (
            "aud_not_exclusive",
            sign(valid().claim("aud", vec![TokenBuilder::AUDIENCE, TokenBuilder::ISSUER])),
        ),
        (
            "expired",
            sign(TokenBuilder::valid(super::support::now() - 3601)),
        ),
        (
            "not_yet_valid",
            sign(TokenBuilder::valid(super::support::now() + 600)),
        ),
        ("not_bound", sign(valid().without("kubernetes.io"))),
        (
            "sub_mismatch",
            sign(valid().claim("sub", "system:serviceaccount:team-a:other")),
        ),
        (
            "expires_too_soon",
            sign(valid().claim("exp", super::support::now() + 30)),
        ),
    ]
}

#[tokio::test]
async fn http_022_every_bad_token_gets_the_same_answer() {
    let server = Server::start().await;
    for (reason, token) in bad() {
        // Of refusals without a subject, only 20 lines are written in a second.
        sleep(Duration::from_millis(150)).await;
        refuses(&server, &token, reason).await;
    }
    let mut bodies = Vec::new();
    for (_, token) in bad() {
        bodies.push(
            server
                .bearer("/aws/token", &token)
                .await
                .text()
                .await
                .unwrap(),
        );
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn http_004_a_token_of_one_endpoint_is_no_good_at_another() {
    let server = Server::start().await;
    let (first, second) = (
        valid().sign(TestKey::rsa()),
        valid()
            .claim("aud", "https://sts.test/aws2")
            .sign(TestKey::rsa()),
    );
    assert_eq!(server.bearer("/aws/token", &first).await.status(), 200);
    assert_eq!(server.bearer("/aws2/token", &second).await.status(), 200);
    refused(
        server.bearer("/aws2/token", &first).await,
        401,
        "invalid_token",
    )
    .await;
    refused(
        server.bearer("/aws/token", &second).await,
        401,
        "invalid_token",
    )
    .await;
}

#[tokio::test]
async fn no_rule_is_403_or_invalid_target() {
    let server = Server::start().await;
    let token = valid()
        .claim("sub", "system:serviceaccount:team-b:app")
        .at("/kubernetes.io/namespace", "team-b")
        .sign(TestKey::rsa());
    for path in ["/aws/token", "/aws/reissue"] {
        let headers = refused(server.bearer(path, &token).await, 403, "insufficient_scope").await;
        let challenge = "Bearer realm=\"sts\", error=\"insufficient_scope\"";
        assert_eq!(headers["www-authenticate"], challenge);
        refused(server.exchange(path, &token).await, 400, "invalid_target").await;
    }
    let openunison = server.request("GET", "/aws/token/user").bearer_auth(&token);
    refused(openunison.send().await.unwrap(), 403, "insufficient_scope").await;
    for line in server.audit(5).await {
        assert_eq!(line["reason"], "policy_denied");
        assert_eq!(line["namespace"], "team-b");
    }
}
