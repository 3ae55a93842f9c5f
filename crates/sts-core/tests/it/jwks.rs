//! Key sets that other issuers serve.

use serde_json::{Value, json};
use sts_core::keys::{KeySet, KeySetError};
use test_support::TestKey;

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut set = json!({"keys": [TestKey::rsa().jwk(), TestKey::other_rsa().jwk()]});
    change(&mut set["keys"][1]);
    set.to_string()
}

#[track_caller]
fn drops(change: impl FnOnce(&mut Value)) {
    let parsed = KeySet::parse(with(change).as_bytes()).unwrap();
    assert_eq!(
        (parsed.keys.len(), parsed.dropped.len()),
        (1, 1),
        "{:?}",
        parsed.dropped
    );
}

#[track_caller]
fn refuses(document: &str, expected: KeySetError) {
    assert_eq!(KeySet::parse(document.as_bytes()).err(), Some(expected));
}

#[test]
fn jwks_001_sets_with_secrets_are_refused_whole() {
    refuses(
        &with(|key| key["d"] = json!("AQAB")),
        KeySetError::SecretKey,
    );
    refuses(
        &with(|key| *key = json!({"kty": "oct", "kid": "x", "k": "AAAA"})),
        KeySetError::SecretKey,
    );
}

#[test]
fn jwks_002_one_kid_for_two_keys_is_refused() {
    let kid = TestKey::rsa().kid().to_owned();
    let key_id = kid.clone();
    refuses(
        &with(|key| key["kid"] = json!(kid)),
        KeySetError::DuplicateKeyId { key_id },
    );
    let twice = json!({"keys": [TestKey::rsa().jwk(), TestKey::rsa().jwk()]});
    assert_eq!(
        KeySet::parse(twice.to_string().as_bytes())
            .unwrap()
            .keys
            .len(),
        1
    );
}

#[test]
fn jwks_003_keys_that_cannot_be_used_are_left_out() {
    drops(|key| key["use"] = json!("enc"));
    drops(|key| key["key_ops"] = json!(["sign"]));
    drops(|key| key["alg"] = json!("RS384"));
    drops(|key| key["alg"] = json!("ES256"));
    drops(|key| key["e"] = json!("Aw"));
    drops(|key| key["e"] = json!("AQ"));
    drops(|key| key["e"] = json!("AQAA"));
    drops(|key| key["e"] = json!("AAEAAQ"));
    drops(|key| key["n"] = json!("AQAB"));
    let short = |key: &Value| key["n"].as_str().unwrap()[..172].to_owned();
    drops(|key| key["n"] = json!(short(key)));
    drops(|key| key["n"] = json!(format!("{}A", &key["n"].as_str().unwrap()[..341])));
    drops(|key| key["kid"] = json!(""));
    let mut ec = TestKey::ec().jwk();
    ec["x"] = ec["y"].clone();
    drops(|key| *key = ec);
}

#[test]
fn jwks_006_documents_of_another_kind_or_size() {
    refuses(&" ".repeat((1 << 20) + 1), KeySetError::TooLarge);
    for document in [
        "",
        "<html>",
        "[]",
        r#"{"keys":1}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[]}x"#,
        r#"{"issuer":"https://issuer.example"}"#,
    ] {
        refuses(document, KeySetError::Malformed);
    }
}

#[test]
fn jwks_007_sets_without_a_usable_key() {
    refuses(r#"{"keys":[]}"#, KeySetError::NoUsableKey);
    let mut weak = TestKey::rsa().jwk();
    weak["e"] = json!("Aw");
    refuses(
        &json!({"keys": [weak]}).to_string(),
        KeySetError::NoUsableKey,
    );
}

#[test]
fn jwks_009_unknown_key_types_and_members_are_ignored() {
    for unknown in [
        json!({"kty": "AKP", "kid": "m"}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "m", "x": "AA"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "m", "x": "AA", "y": "AA"}),
        json!({"kid": "m"}),
    ] {
        let parsed = KeySet::parse(with(|key| *key = unknown).as_bytes()).unwrap();
        assert_eq!((parsed.keys.len(), parsed.dropped.len()), (1, 0));
    }
    let parsed = KeySet::parse(with(|key| key["x5c"] = json!(["MIIB"])).as_bytes()).unwrap();
    assert_eq!(parsed.keys.len(), 2);
}

#[test]
fn jwks_008_a_hundred_keys_are_enough() {
    let key = TestKey::rsa().jwk();
    let keys: Vec<Value> = (0..200)
        .map(|at| {
            let mut key = key.clone();
            key["kid"] = json!(format!("k{at}"));
            key
        })
        .collect();
    let parsed = KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    assert_eq!((parsed.keys.len(), parsed.dropped.len()), (100, 100));
}
