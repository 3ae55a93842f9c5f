//! The issuer's documents.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::TestKey;
use tokio::time::Instant;

use super::support::{Server, header, valid};

const CACHED: &str = "public, max-age=300";

#[tokio::test]
async fn disc_001_to_003_009_discovery_names_the_issuer_and_where_its_keys_are() {
    let server = Server::start().await;
    for (path, issuer, algorithm) in [
        ("/aws", "https://issuer.example.com", "RS256"),
        ("/aws2", "https://second.example.com/k8s", "ES256"),
    ] {
        let response = server
            .get(&format!("{path}/.well-known/openid-configuration"))
            .await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "application/json");
        assert_eq!(header(&response, "cache-control"), CACHED);
        let document: Value = response.json().await.unwrap();
        assert_eq!(document["issuer"], issuer);
        assert_eq!(document["jwks_uri"], format!("{issuer}/certs"));
        // What OpenID Connect Discovery 1.0, section 3, requires of an issuer without a token endpoint for users.
        for member in [
            "authorization_endpoint",
            "response_types_supported",
            "subject_types_supported",
        ] {
            assert!(!document[member].is_null(), "{member}");
        }
        let algorithms = &document["id_token_signing_alg_values_supported"];
        assert_eq!(algorithms, &serde_json::json!([algorithm]));
    }
}

#[tokio::test]
async fn key_set_is_the_same_under_both_names_and_holds_no_private_part() {
    let server = Server::start().await;
    let mut sets = Vec::new();
    for path in ["/aws/certs", "/aws/openid/v1/jwks"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "content-type"),
            "application/jwk-set+json"
        );
        assert_eq!(header(&response, "cache-control"), CACHED);
        sets.push(response.json::<Value>().await.unwrap());
    }
    assert_eq!(sets[0], sets[1]);
    let keys = sets[0]["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let members: Vec<&str> = keys[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
}

#[tokio::test]
async fn issuer_docs_are_two_texts_in_json() {
    let server = Server::start().await;
    let response = server.get("/aws/issuer-docs").await;
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), CACHED);
    let documents: Value = response.json().await.unwrap();
    for (member, path) in [
        ("discovery", "/aws/.well-known/openid-configuration"),
        ("keys", "/aws/certs"),
    ] {
        let text = documents[member].as_str().unwrap();
        let served: Value = server.get(path).await.json().await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), served);
    }
}

#[tokio::test]
async fn disc_007_documents_are_cached_and_not_sent_again_to_who_has_them() {
    let server = Server::start().await;
    for path in [
        "/aws/certs",
        "/aws/.well-known/openid-configuration",
        "/aws/issuer-docs",
    ] {
        let first = server.get(path).await;
        let tag = header(&first, "etag").to_owned();
        assert!(tag.starts_with('"'), "strong: {tag}");
        for known in [tag.as_str(), "*", &format!("\"another\", W/{tag}")] {
            let again = server.request("GET", path).header("if-none-match", known);
            let again = again.send().await.unwrap();
            assert_eq!(again.status(), 304, "{known}");
            assert_eq!(header(&again, "etag"), tag);
            assert_eq!(header(&again, "cache-control"), CACHED);
            assert_eq!(again.text().await.unwrap(), "");
        }
        let other = server
            .request("GET", path)
            .header("if-none-match", "\"another\"");
        assert_eq!(other.send().await.unwrap().status(), 200);
    }
}

/// AWS gives up after five seconds.
#[tokio::test]
async fn disc_010_documents_are_served_quickly() {
    let server = Server::start().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(server.get("/aws/certs").await.status(), 200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// Two endpoints, each with a key of its own, asked in turn and at once.
#[tokio::test]
async fn key_008_no_endpoint_signs_with_anothers_key() {
    let server = Server::start().await;
    let mut of_both = Vec::new();
    for path in ["/aws", "/aws2"] {
        let set: Value = server
            .get(&format!("{path}/certs"))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(set["keys"].as_array().unwrap().len(), 1);
        of_both.push(set["keys"][0]["kid"].as_str().unwrap().to_owned());
    }
    assert_ne!(of_both[0], of_both[1]);
    let asked = (0..20).map(async |number| {
        let at = number % 2;
        let path = ["/aws", "/aws2"][at];
        let token = valid().claim("aud", json!([format!("https://sts.test{path}")]));
        let token = token.sign(TestKey::rsa());
        let response = server.bearer(&format!("{path}/token"), &token).await;
        let issued = response.text().await.unwrap();
        let header = jsonwebtoken::decode_header(&issued).unwrap();
        assert_eq!(header.kid.as_deref(), Some(of_both[at].as_str()));
    });
    drop(futures_util::future::join_all(asked).await);
}
