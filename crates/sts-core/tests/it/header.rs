//! The header: which algorithm, which key, and nothing that would change how the token is read.

use serde_json::{Value, json};
use sts_core::keys::KeySet;
use sts_core::token::ParseTokenError::{
    AlgorithmNotAllowed, HeaderForbidden, KeyIdMissing, Malformed,
};
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, accepts, check_at, check_with, refuses, unreadable, valid};

#[test]
fn jwt_031_no_algorithm() {
    for name in ["none", "None", "NONE", "nOnE"] {
        let signed = valid().header("alg", name).sign(TestKey::rsa());
        unreadable(&signed, AlgorithmNotAllowed);
        let (input, _) = signed.rsplit_once('.').unwrap();
        unreadable(&format!("{input}."), AlgorithmNotAllowed);
        // The signature of the good token with another header.
        let good = valid().sign(TestKey::rsa());
        let (_, signature) = good.rsplit_once('.').unwrap();
        unreadable(&format!("{input}.{signature}"), AlgorithmNotAllowed);
    }
}

#[test]
fn jwt_032_algorithm_missing_or_of_a_wrong_type() {
    for value in [
        Value::Null,
        json!(1),
        json!(true),
        json!([]),
        json!(["RS256"]),
        json!({}),
    ] {
        unreadable(
            &valid().header("alg", value).sign(TestKey::rsa()),
            Malformed,
        );
    }
    let header = json!({"kid": TestKey::rsa().kid()}).to_string();
    let token = TokenBuilder::compact(TestKey::rsa(), header, valid().payload());
    unreadable(&token, Malformed);
}

#[test]
fn jwt_036_an_algorithm_of_another_key_type() {
    refuses(
        &valid().header("alg", "ES256"),
        VerifyError::AlgorithmNotAllowed,
    );
    let key = TestKey::ec();
    let keys = KeySet::parse(TestKey::jwks(&[&key]).as_bytes())
        .unwrap()
        .keys;
    assert!(check_with(&valid().sign(&key), &keys, NOW).is_ok());
    let confused = check_with(&valid().header("alg", "RS256").sign(&key), &keys, NOW);
    let expected = super::Refused::Verify(VerifyError::AlgorithmNotAllowed);
    assert_eq!(confused.err(), Some(expected));
}

#[test]
fn jwt_037_names_like_an_algorithms() {
    for name in [
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "RS256\0",
        "RS-256",
        "ＲＳ256",
        "es256",
        "",
    ] {
        let token = valid().header("alg", name).sign(TestKey::rsa());
        unreadable(&token, AlgorithmNotAllowed);
    }
}

#[track_caller]
fn forbidden(name: &str, value: impl Into<Value>) {
    let token = valid().header(name, value).sign(TestKey::rsa());
    unreadable(&token, HeaderForbidden);
}

#[test]
fn jwt_042_a_key_in_the_header() {
    let attacker = TestKey::other_rsa();
    for kid in [attacker.kid(), TestKey::rsa().kid()] {
        let token = valid().header("jwk", attacker.jwk()).header("kid", kid);
        unreadable(&token.sign(attacker), HeaderForbidden);
    }
    forbidden("jwk", TestKey::rsa().jwk());
    forbidden("jwk", Value::Null);
}

#[test]
fn jwt_043_an_address_or_certificate_of_a_key_in_the_header() {
    for name in ["jku", "x5u"] {
        forbidden(name, "https://evil.example/keys");
        forbidden(name, "http://169.254.169.254/");
    }
    forbidden("x5c", json!(["MIIB"]));
    forbidden("x5t", "dGVzdA");
    forbidden("x5t#S256", "dGVzdA");
}

#[test]
fn jwt_044_critical_members() {
    for value in [
        json!([]),
        json!(["exp"]),
        json!(["b64"]),
        json!("x"),
        Value::Null,
    ] {
        forbidden("crit", value);
    }
    forbidden("b64", false);
    forbidden("b64", true);
    let unencoded = valid().header("crit", json!(["b64"])).header("b64", false);
    unreadable(&unencoded.sign(TestKey::rsa()), HeaderForbidden);
}

#[test]
fn jwt_045_compressed_encrypted_or_nested() {
    forbidden("zip", "DEF");
    forbidden("enc", "A256GCM");
    forbidden("cty", "JWT");
    let inner = valid().sign(TestKey::rsa());
    let nested = valid().sign_payload(TestKey::rsa(), &inner);
    unreadable(&nested, Malformed);
}

#[test]
fn jwt_046_type() {
    accepts(&valid());
    accepts(&valid().header("typ", "JWT"));
    for other in [
        json!("at+jwt"),
        json!("jwt"),
        json!("JOSE"),
        json!(""),
        json!(123),
        Value::Null,
    ] {
        forbidden("typ", other);
    }
}

#[test]
fn jwt_047_unknown_header_members() {
    accepts(&valid().header("foo", json!({"a": "b"})));
    accepts(&valid().header("x5", 1).header("iss", "x"));
}

#[test]
fn jwt_048_no_key_id() {
    let header = json!({"alg": TestKey::rsa().algorithm()}).to_string();
    let token = TokenBuilder::compact(TestKey::rsa(), header, valid().payload());
    unreadable(&token, KeyIdMissing);
}

#[test]
fn jwt_049_key_ids_that_are_none() {
    for value in [
        json!(""),
        json!(1),
        Value::Null,
        json!([TestKey::rsa().kid()]),
        json!({}),
        json!("a".repeat(129)),
    ] {
        unreadable(
            &valid().header("kid", value).sign(TestKey::rsa()),
            Malformed,
        );
    }
    refuses(
        &valid().header("kid", "a".repeat(128)),
        VerifyError::KeyUnknown,
    );
}

#[test]
fn jwt_050_key_ids_that_want_to_be_more() {
    let kid = TestKey::rsa().kid();
    for value in [
        "../../etc/passwd",
        "/dev/null",
        "http://169.254.169.254/",
        "__proto__",
        "*",
        "%00",
        &kid.to_lowercase(),
        &kid[1..],
        &format!("{kid}="),
    ] {
        refuses(&valid().header("kid", value), VerifyError::KeyUnknown);
    }
    for value in [
        format!("{kid}\0"),
        format!("{kid}' OR '1'='1"),
        format!("{kid}\n"),
    ] {
        unreadable(
            &valid().header("kid", value).sign(TestKey::rsa()),
            Malformed,
        );
    }
}

#[test]
fn jwt_053_an_old_key_that_is_still_served() {
    let (new, old) = (TestKey::other_rsa(), TestKey::rsa());
    let keys = |served: &[&TestKey]| {
        KeySet::parse(TestKey::jwks(served).as_bytes())
            .unwrap()
            .keys
    };
    for key in [new, old] {
        assert!(check_with(&valid().sign(key), &keys(&[new, old]), NOW).is_ok());
    }
    let refused = check_with(&valid().sign(old), &keys(&[new]), NOW);
    let expected = super::Refused::Verify(VerifyError::KeyUnknown);
    assert_eq!(refused.err(), Some(expected));
}

#[test]
fn jwt_055_a_signature_of_another_key() {
    let forged = valid().header("kid", TestKey::rsa().kid());
    let forged = check_at(&forged.sign(TestKey::other_rsa()), NOW);
    let expected = super::Refused::Verify(VerifyError::SignatureInvalid);
    assert_eq!(forged.err(), Some(expected));
    let unknown = check_at(&valid().sign(TestKey::other_rsa()), NOW);
    let expected = super::Refused::Verify(VerifyError::KeyUnknown);
    assert_eq!(unknown.err(), Some(expected));
}

#[test]
fn jwt_103_a_nonce_in_the_header() {
    for value in [json!(1), json!("x"), Value::Null] {
        forbidden("nonce", value);
    }
}
