//! Tokens with a good signature that say what they must not: each a valid one with one claim changed.

use serde_json::{Value, json};
use sts_core::token::ParseTokenError::Malformed;
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, Refused, check_at, refuses, unreadable, valid};

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
