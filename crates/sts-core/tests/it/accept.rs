//! Tokens that must be taken: as real clusters issue them, and with what a later Kubernetes may add.

use serde_json::json;
use sts_core::keys::KeySet;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, check_at, check_with, valid};

#[track_caller]
fn accepts(token: &TokenBuilder) {
    if let Err(refused) = check_at(&token.sign(TestKey::rsa()), NOW) {
        panic!("{refused:?}");
    }
}

#[test]
fn jwt_001_a_pods_token() {
    let token = check_at(&valid().sign(TestKey::rsa()), NOW).unwrap();
    assert_eq!(
        token.service_account().username(),
        "system:serviceaccount:team-a:app"
    );
    assert_eq!(token.pod().uid.as_str(), TokenBuilder::POD_UID);
    assert_eq!(token.expires().get(), NOW + 3600);
}

#[test]
fn es256_where_the_key_is_an_ec_key() {
    let key = TestKey::ec();
    let keys = KeySet::parse(TestKey::jwks(&[&key]).as_bytes())
        .unwrap()
        .keys;
    assert!(check_with(&valid().sign(&key), &keys, NOW).is_ok());
}

#[test]
fn jwt_046_typ_jwt() {
    accepts(&valid().header("typ", "JWT"));
}

#[test]
fn jwt_047_unknown_header_members() {
    accepts(&valid().header("foo", json!({"a": "b"})));
}

#[test]
fn jwt_061_067_our_audience_in_either_form() {
    accepts(&valid().claim("aud", TokenBuilder::AUDIENCE));
    accepts(&valid().claim(
        "aud",
        json!([TokenBuilder::AUDIENCE, TokenBuilder::AUDIENCE]),
    ));
}

#[test]
fn jwt_077_clocks_a_minute_apart() {
    accepts(&valid().claim("nbf", NOW + 60).claim("iat", NOW + 60));
}

#[test]
fn jwt_095_service_accounts_with_dots() {
    let long = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    for name in ["my.app.v1", long.as_str()] {
        let sub = format!("system:serviceaccount:team-a:{name}");
        accepts(
            &valid()
                .claim("sub", sub)
                .at("/kubernetes.io/serviceaccount/name", name),
        );
    }
}

#[test]
fn jwt_097_098_100_what_other_versions_of_kubernetes_write() {
    accepts(&valid().at("/kubernetes.io/warnafter", NOW + 10));
    accepts(&valid().at("/kubernetes.io/future", json!({"a": 1})));
    accepts(&valid().without("jti"));
    accepts(&valid().claim("azp", "x").claim("scope", "y"));
}
