//! The issuer's documents.

use serde_json::Value;

use super::support::{Server, header};

const CACHED: &str = "public, max-age=300";

#[tokio::test]
async fn discovery_names_the_issuer_and_where_its_keys_are() {
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
