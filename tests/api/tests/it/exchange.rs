//! Which of the API server's tokens are exchanged.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::install::Install;
use super::process::Process;

async fn start() -> (Install, Process) {
    let install = Install::new().await;
    let mut server = Process::server(&install);
    server.becomes_ready().await;
    (install, server)
}

#[tokio::test]
async fn a_pods_token_is_exchanged_and_the_issued_one_verifies() {
    let (install, server) = start().await;
    let (pod, token) = install.good_token().await;
    let response = server.exchange(&install, &token).await;
    assert_eq!(response.status(), 200, "{:?}", server.lines());
    let issued = response.text().await.unwrap();
    let keys: JwkSet = serde_json::from_value(server.key_set(&install).await).unwrap();
    let header = decode_header(&issued).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["sts.amazonaws.com"]);
    validation.set_issuer(&["https://issuer.example.com"]);
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let claims = decode::<Value>(&issued, &key, &validation).unwrap().claims;
    assert_eq!(
        claims["sub"],
        format!("system:serviceaccount:{}:app", install.apps)
    );
    assert_eq!(claims["kubernetes.io"]["pod"]["uid"], pod.uid);
    assert_eq!(server.reason(1).await, "granted");
}

#[tokio::test]
async fn the_api_servers_own_audience_is_refused() {
    let (install, server) = start().await;
    let pod = install.create_pod("p", "app").await;
    let token = install.pod_token(&pod, None).await;
    assert_eq!(server.exchange_status(&install, &token).await, 401);
    assert_eq!(server.reason(1).await, "aud_mismatch");
}

#[tokio::test]
async fn another_audience_is_refused() {
    let (install, server) = start().await;
    let pod = install.create_pod("p", "app").await;
    let others = [
        "sts.amazonaws.com".to_owned(),
        format!("https://{}", install.host()),
        format!("{}/", install.audience()),
    ];
    for (index, audience) in others.iter().enumerate() {
        let token = install.pod_token(&pod, Some(audience)).await;
        assert_eq!(
            server.exchange_status(&install, &token).await,
            401,
            "{audience}"
        );
        assert_eq!(server.reason(index + 1).await, "aud_mismatch");
    }
}

#[tokio::test]
async fn a_token_bound_to_no_pod_is_refused() {
    let (install, server) = start().await;
    let audience = install.audience();
    let token = install
        .plane
        .token(&install.apps, "app", Some(&audience), None)
        .await;
    assert_eq!(server.exchange_status(&install, &token).await, 401);
    assert_eq!(server.reason(1).await, "not_bound");
}

#[tokio::test]
async fn a_pod_of_another_namespace_is_denied() {
    let (install, server) = start().await;
    let namespace = &install.namespace;
    let pod = install.create_pod_in(namespace, "p", "server").await;
    let bound = Some((pod.name.as_str(), pod.uid.as_str()));
    let token = install
        .plane
        .token(namespace, "server", Some(&install.audience()), bound)
        .await;
    let response = server.exchange(&install, &token).await;
    assert_eq!(response.status(), 403);
    assert_eq!(server.reason(1).await, "policy_denied");
}
