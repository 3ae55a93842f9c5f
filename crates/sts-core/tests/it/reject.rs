//! Tokens that must not be taken, each a valid one with one thing changed. Names are those of the attack catalogue in `docs/`.

use serde_json::{Value, json};
use sts_core::token::ParseTokenError::{
    AlgorithmNotAllowed, HeaderForbidden, KeyIdMissing, Malformed, TooLarge,
};
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, Refused, check_at, valid};

#[track_caller]
fn unreadable(token: &str, expected: sts_core::token::ParseTokenError) {
    assert_eq!(check_at(token, NOW).err(), Some(Refused::Parse(expected)));
}

#[track_caller]
fn refuses(token: &TokenBuilder, expected: VerifyError) {
    let token = token.sign(TestKey::rsa());
    assert_eq!(check_at(&token, NOW).err(), Some(Refused::Verify(expected)));
}

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
        let character = alphabet.as_bytes()[value + alias] as char;
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
    unreadable(&unsigned, Malformed);
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

#[test]
fn jwt_057_to_059_issuers_are_compared_byte_by_byte() {
    let issuer = TokenBuilder::ISSUER;
    for other in [
        format!("{issuer}/"),
        issuer.to_uppercase(),
        issuer.replace("https", "http"),
        format!("{issuer}:443"),
        "kubernetes/serviceaccount".to_owned(),
    ] {
        refuses(&valid().claim("iss", other), VerifyError::IssuerMismatch);
    }
    for value in [
        json!(""),
        Value::Null,
        json!(1),
        json!([issuer]),
        json!(format!("{issuer} ")),
    ] {
        unreadable(&valid().claim("iss", value).sign(TestKey::rsa()), Malformed);
    }
    unreadable(&valid().without("iss").sign(TestKey::rsa()), Malformed);
}

#[test]
fn jwt_060_to_068_audiences() {
    let ours = TokenBuilder::AUDIENCE;
    for other in [
        json!(["https://kubernetes.default.svc.cluster.local"]),
        json!("https://sts.test/gcp"),
        json!("https://sts.test/aw"),
        json!("https://sts.test/aws/"),
        json!("https://STS.test/aws"),
        json!([]),
        json!(""),
        json!([""]),
    ] {
        refuses(&valid().claim("aud", other), VerifyError::AudienceMismatch);
    }
    for wrong in [
        Value::Null,
        json!({}),
        json!(1),
        json!([ours, 123]),
        json!([[ours]]),
    ] {
        refuses(
            &valid().claim("aud", wrong),
            VerifyError::ClaimType { claim: "aud" },
        );
    }
    refuses(
        &valid().without("aud"),
        VerifyError::ClaimType { claim: "aud" },
    );
    refuses(
        &valid().claim("aud", json!([ours, "https://kubernetes.default.svc"])),
        VerifyError::AudienceNotExclusive,
    );
}

#[test]
fn jwt_070_the_last_second_is_over_when_it_begins() {
    let token = valid().claim("exp", NOW + 10).sign(TestKey::rsa());
    assert!(check_at(&token, NOW + 9).is_ok());
    for now in [NOW + 10, NOW + 11] {
        assert!(
            matches!(
                check_at(&token, now),
                Err(Refused::Verify(VerifyError::Expired { .. }))
            ),
            "{now}"
        );
    }
}

#[test]
fn jwt_071_to_076_081_times_are_whole_numbers() {
    for claim in ["exp", "iat", "nbf"] {
        refuses(&valid().without(claim), VerifyError::ClaimType { claim });
        for value in [
            json!("1999999999"),
            json!(true),
            Value::Null,
            json!([]),
            json!({}),
            json!(1.9e9),
            json!(1234.5),
            json!(-1),
            json!(i64::MIN),
            json!(253_402_300_800_u64),
            json!(u64::MAX),
            json!(1e30),
        ] {
            refuses(
                &valid().claim(claim, value),
                VerifyError::ClaimType { claim },
            );
        }
    }
    let long = valid().payload().replacen(
        &format!("\"exp\":{}", NOW + 3600),
        &format!("\"exp\":{}", "9".repeat(400)),
        1,
    );
    let token = valid().sign_payload(TestKey::rsa(), &long);
    assert!(check_at(&token, NOW).is_err());
}

#[test]
fn jwt_077_078_080_times_out_of_order() {
    refuses(&valid().claim("nbf", NOW + 61), VerifyError::NotYetValid);
    refuses(&valid().claim("iat", NOW + 61), VerifyError::NotYetValid);
    refuses(
        &valid().claim("exp", NOW + 1).claim("iat", NOW + 2),
        VerifyError::ClaimType { claim: "exp" },
    );
    refuses(
        &valid().claim("exp", NOW + 1).claim("nbf", NOW + 2),
        VerifyError::ClaimType { claim: "exp" },
    );
}

#[test]
fn jwt_079_tokens_issued_for_longer_than_a_day() {
    let life = |seconds| VerifyError::LifetimeTooLong {
        life: std::time::Duration::from_secs(seconds),
    };
    refuses(&valid().claim("exp", NOW + 86_401), life(86_401));
    refuses(&valid().claim("exp", NOW + 31_536_000), life(31_536_000));
}

#[test]
fn jwt_084_to_091_tokens_that_are_not_bound_to_a_pod() {
    let claim = |claim| VerifyError::ClaimType { claim };
    refuses(&valid().without("kubernetes.io"), VerifyError::NotBound);
    for value in [json!("x"), json!([]), Value::Null, json!(1)] {
        refuses(
            &valid().claim("kubernetes.io", value),
            claim("kubernetes.io"),
        );
    }
    let account = json!({"name": "app", "uid": TokenBuilder::SERVICE_ACCOUNT_UID});
    refuses(
        &valid().claim(
            "kubernetes.io",
            json!({"namespace": "team-a", "serviceaccount": account}),
        ),
        VerifyError::NotBound,
    );
    refuses(
        &valid().at("/kubernetes.io/secret", json!({"name": "s", "uid": "u"})),
        VerifyError::NotBound,
    );
    refuses(
        &valid().at("/kubernetes.io/pod", json!({})),
        claim("kubernetes.io.pod.name"),
    );
    refuses(
        &valid().at("/kubernetes.io/pod/uid", json!(1)),
        claim("kubernetes.io.pod.uid"),
    );
    let invalid = |claim| VerifyError::NameInvalid { claim };
    refuses(
        &valid().at("/kubernetes.io/pod/uid", ""),
        invalid("kubernetes.io.pod.uid"),
    );
    refuses(
        &valid().at("/kubernetes.io/pod/uid", "p1"),
        invalid("kubernetes.io.pod.uid"),
    );
    refuses(
        &valid().at("/kubernetes.io/serviceaccount/uid", ""),
        invalid("kubernetes.io.serviceaccount.uid"),
    );
}

#[test]
fn jwt_092_093_096_subjects_that_do_not_fit() {
    for sub in [
        "system:serviceaccount:team-b:app",
        "system:serviceaccount:team-a:b",
        "system:serviceaccount:team-a:app:x",
        "system:node:n1",
        "system:anonymous",
        "jane",
    ] {
        refuses(&valid().claim("sub", sub), VerifyError::SubjectMismatch);
    }
    let colon = valid()
        .claim("sub", "system:serviceaccount:team-a:b:c")
        .at("/kubernetes.io/serviceaccount/name", "b:c");
    refuses(
        &colon,
        VerifyError::NameInvalid {
            claim: "kubernetes.io.serviceaccount.name",
        },
    );
}

#[test]
fn jwt_094_namespaces_that_could_change_a_filter_or_a_path() {
    for name in [
        "*",
        "(",
        ")",
        "\\",
        "a\0",
        "a/b",
        "..",
        "Team",
        "a\u{3002}b",
        "",
        &"a".repeat(64),
    ] {
        refuses(
            &valid().at("/kubernetes.io/namespace", name),
            VerifyError::NameInvalid {
                claim: "kubernetes.io.namespace",
            },
        );
    }
}

#[test]
fn jwt_097_100_claims_of_a_wrong_type() {
    refuses(
        &valid().at("/kubernetes.io/warnafter", "1"),
        VerifyError::ClaimType {
            claim: "kubernetes.io.warnafter",
        },
    );
    refuses(
        &valid().claim("jti", 1),
        VerifyError::ClaimType { claim: "jti" },
    );
}

#[test]
fn jwt_101_legacy_tokens_of_secrets() {
    let legacy = valid()
        .without("kubernetes.io")
        .claim("kubernetes.io/serviceaccount/namespace", "team-a");
    refuses(&legacy, VerifyError::NotBound);
}
