//! Exchanges that give a token, in each of the three forms.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use test_support::{TestKey, TokenBuilder};

use super::support::{JWT, Server, header, now, parameters, token, valid};

/// The claims of an issued token, checked as a relying party does: with the key set that the endpoint serves.
pub(crate) async fn claims(server: &Server, path: &str, issuer: &str, token: &str) -> Value {
    let keys: JwkSet = server
        .get(&format!("{path}/certs"))
        .await
        .json()
        .await
        .unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    let jwk = keys.find(&header.kid.unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["sts.amazonaws.com"]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    decode::<Value>(token, &key, &validation).unwrap().claims
}

#[tokio::test]
async fn http_001_rfc_8693() {
    let server = Server::start().await;
    let response = server.exchange("/aws/token", &token()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "pragma"), "no-cache");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["issued_token_type"], JWT);
    assert_eq!(body["token_type"], "N_A");
    assert_eq!(body["expires_in"], 900);
    let issued = body["access_token"].as_str().unwrap();
    let claims = claims(&server, "/aws", "https://issuer.example.com", issued).await;
    assert_eq!(claims["sub"], "system:serviceaccount:team-a:app");
    assert_eq!(claims["aud"], "sts.amazonaws.com");
    assert_eq!(claims["cluster"], "elsewhere");
    assert_eq!(claims["kubernetes.io"]["pod"]["uid"], TokenBuilder::POD_UID);
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(life, 900);
}

#[tokio::test]
async fn http_001_what_else_a_form_may_say() {
    let server = Server::start().await;
    let token = token();
    for more in [
        ("requested_token_type", JWT),
        ("audience", "sts.amazonaws.com"),
        ("unknown", "ignored"),
        ("scope", ""),
    ] {
        let form = [&parameters(&token)[..], &[more]].concat();
        let response = server.form("/aws/token", &form).await;
        assert_eq!(response.status(), 200, "{more:?}");
    }
    let request = server
        .request("POST", "/aws/token")
        .header(
            "content-type",
            "Application/X-WWW-Form-URLEncoded; charset=UTF-8",
        )
        .form(&parameters(&token));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bearer_gets_the_bare_token() {
    let server = Server::start().await;
    for path in ["/aws/token", "/aws/reissue"] {
        let response = server.bearer(path, &token()).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "content-type"), "application/jwt");
        assert_eq!(header(&response, "cache-control"), "no-store");
        let issued = response.text().await.unwrap();
        drop(claims(&server, "/aws", "https://issuer.example.com", &issued).await);
    }
}

#[tokio::test]
async fn openunison_gets_its_own_json() {
    let server = Server::start().await;
    let second = valid().claim("aud", "https://sts.test/aws2");
    let request = server
        .request("GET", "/aws2/token/user")
        .bearer_auth(second.sign(TestKey::rsa()));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), "no-store");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["displayName"], "elsewhere:team-a:app");
    let issued = body["token"]["jwt"].as_str().unwrap();
    assert_eq!(decode_header(issued).unwrap().alg, Algorithm::ES256);
    let claims = claims(&server, "/aws2", "https://second.example.com/k8s", issued).await;
    assert_eq!(claims["sub"], "elsewhere:team-a:app");
    let expires = body["token"]["expires"].as_str().unwrap();
    assert_eq!(expires.len(), "2027-01-15T08:00:00Z".len(), "{expires}");
    let left = claims["exp"].as_u64().unwrap() - now();
    assert!((290..=300).contains(&left), "{left}");
}

#[tokio::test]
async fn an_issued_token_ends_with_the_pods() {
    let server = Server::start().await;
    let short = valid().claim("exp", now() + 300).sign(TestKey::rsa());
    let response = server.exchange("/aws/token", &short).await;
    let body: Value = response.json().await.unwrap();
    let lives = body["expires_in"].as_u64().unwrap();
    assert!((290..=300).contains(&lives), "{lives}");
}

#[tokio::test]
async fn iss_008_two_exchanges_give_two_tokens() {
    let server = Server::start().await;
    let token = token();
    let mut issued = Vec::new();
    for _ in 0..2 {
        issued.push(
            server
                .bearer("/aws/token", &token)
                .await
                .text()
                .await
                .unwrap(),
        );
    }
    assert_ne!(issued[0], issued[1]);
}
