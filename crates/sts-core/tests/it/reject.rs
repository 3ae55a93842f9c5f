//! Tokens that must not be taken, each a valid one with one thing changed in its form, header or signature.

use serde_json::{Value, json};
use sts_core::token::ParseTokenError::{
    AlgorithmNotAllowed, HeaderForbidden, KeyIdMissing, Malformed, TooLarge,
};
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, Refused, check_at, refuses, unreadable, valid};

fn signed() -> String {
    valid().sign(TestKey::rsa())
}

fn segments() -> [String; 3] {
    let token = signed();
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

#[test]
fn jwt_002_to_006_texts_that_are_no_compact_jws() {
    let [header, payload, signature] = segments();
    let token = signed();
    for text in [
        String::new(),
        header.clone(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.x"),
        format!("{header}.{payload}.{signature}.x.y"),
        "..".to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}\0"),
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
    ] {
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_007_008_009_a_token_has_one_spelling() {
    let [header, payload, signature] = segments();
    unreadable(&format!("{header}.{payload}.{signature}="), Malformed);
    unreadable(&format!("{header}=.{payload}.{signature}"), Malformed);
    unreadable(
        &format!("{header}.{payload}.+{}", &signature[1..]),
        Malformed,
    );
    // 256 bytes leave four unused bits in the last character: fifteen other characters would decode to the same bytes.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = signature.chars().last().unwrap();
    let value = alphabet.find(last).unwrap();
    for alias in 1..16 {
        let character = char::from(alphabet.as_bytes()[value + alias]);
        let text = format!(
            "{header}.{payload}.{}{character}",
            &signature[..signature.len() - 1]
        );
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_011_012_013_every_changed_bit_and_length() {
    let token = signed();
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(check_at(&text, NOW).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(check_at(&token[..at], NOW).is_err(), "cut at {at}");
        let longer = format!("{}A{}", &token[..at], &token[at..]);
        assert!(check_at(&longer, NOW).is_err(), "one more at {at}");
    }
}

#[test]
fn jwt_017_018_sizes_are_bounded() {
    unreadable(&format!("{}{}", signed(), "A".repeat(8192)), TooLarge);
    unreadable(
        &valid().header("x", "a".repeat(1024)).sign(TestKey::rsa()),
        TooLarge,
    );
}

#[test]
fn jwt_019_to_025_payloads_that_are_no_json_object() {
    let payload = valid().payload();
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(8), "]".repeat(8));
    let bom = format!("\u{feff}{payload}");
    let trailing = format!("{payload}x");
    let twice = format!("{payload}{payload}");
    let surrogate = payload.replacen('{', r#"{"a":"\ud834","#, 1);
    let comment = payload.replacen('{', "{/**/", 1);
    let comma = payload.replacen('}', ",}", 1);
    for text in [
        "[]",
        r#""x""#,
        "1",
        "null",
        "",
        "{",
        &deep,
        &bom,
        &trailing,
        &twice,
        &surrogate,
        &comment,
        &comma,
        r#"{"iss":NaN}"#,
        "{'iss':'x'}",
    ] {
        unreadable(&valid().sign_payload(TestKey::rsa(), text), Malformed);
    }
}

#[test]
fn jwt_026_to_030_duplicate_members() {
    let payload = valid().payload();
    for member in [
        r#""iss":"x""#,
        r#""sub":"x""#,
        r#""aud":[]"#,
        r#""exp":1"#,
        r#""\u0069ss":"x""#,
        r#""kubernetes.io":{}"#,
        r#""odd":1,"odd":2"#,
    ] {
        let text = payload.replacen('{', &format!("{{{member},"), 1);
        unreadable(&valid().sign_payload(TestKey::rsa(), &text), Malformed);
    }
    let inner = payload.replacen(
        r#""namespace":"team-a""#,
        r#""namespace":"team-b","namespace":"team-a""#,
        1,
    );
    assert_ne!(inner, payload);
    unreadable(&valid().sign_payload(TestKey::rsa(), &inner), Malformed);
    let kid = TestKey::rsa().kid();
    for header in [
        format!(r#"{{"alg":"none","alg":"RS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"x","kid":"{kid}"}}"#),
    ] {
        unreadable(
            &TokenBuilder::compact(TestKey::rsa(), &header, &payload),
            Malformed,
        );
    }
}

#[test]
fn jwt_031_to_037_algorithms_off_the_list() {
    for name in [
        "none", "None", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "EdDSA", "rs256",
        "RS256 ",
    ] {
        unreadable(
            &valid().header("alg", name).sign(TestKey::rsa()),
            AlgorithmNotAllowed,
        );
    }
    for value in [Value::Null, json!(1), json!([]), json!({})] {
        unreadable(
            &valid().header("alg", value).sign(TestKey::rsa()),
            Malformed,
        );
    }
    let [_, payload, _] = segments();
    let unsigned = format!("eyJhbGciOiJub25lIiwia2lkIjoieCJ9.{payload}.");
    unreadable(&unsigned, AlgorithmNotAllowed);
}

#[test]
fn jwt_036_an_algorithm_of_another_key_type() {
    refuses(
        &valid().header("alg", "ES256"),
        VerifyError::AlgorithmNotAllowed,
    );
}

#[test]
fn jwt_042_to_046_headers_that_bring_their_own_key_or_reading() {
    for name in [
        "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "enc", "cty",
    ] {
        unreadable(
            &valid().header(name, json!(["exp"])).sign(TestKey::rsa()),
            HeaderForbidden,
        );
    }
    unreadable(
        &valid().header("typ", "at+jwt").sign(TestKey::rsa()),
        HeaderForbidden,
    );
    unreadable(
        &valid().header("typ", 123).sign(TestKey::rsa()),
        HeaderForbidden,
    );
}

#[test]
fn jwt_048_to_050_key_ids() {
    let header = format!(r#"{{"alg":"{}"}}"#, TestKey::rsa().algorithm());
    unreadable(
        &TokenBuilder::compact(TestKey::rsa(), &header, &valid().payload()),
        KeyIdMissing,
    );
    for value in [
        json!(""),
        json!(1),
        Value::Null,
        json!([]),
        json!("a".repeat(129)),
    ] {
        unreadable(
            &valid().header("kid", value).sign(TestKey::rsa()),
            Malformed,
        );
    }
    for value in [
        "../../etc/passwd",
        "/dev/null",
        "http://169.254.169.254/",
        "__proto__",
        "k1",
    ] {
        refuses(&valid().header("kid", value), VerifyError::KeyUnknown);
    }
}

#[test]
fn jwt_055_a_signature_of_another_key() {
    let forged = valid()
        .header("kid", TestKey::rsa().kid())
        .sign(TestKey::other_rsa());
    assert_eq!(
        check_at(&forged, NOW).err(),
        Some(Refused::Verify(VerifyError::SignatureInvalid))
    );
    let unknown = valid().sign(TestKey::other_rsa());
    assert_eq!(
        check_at(&unknown, NOW).err(),
        Some(Refused::Verify(VerifyError::KeyUnknown))
    );
}
