//! Issuer and audience: compared byte by byte, and nobody's but ours.

use serde_json::{Value, json};
use sts_core::token::ParseTokenError::Malformed;
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{accepts, refuses, unreadable, valid};

const OURS: &str = TokenBuilder::AUDIENCE;

#[test]
fn jwt_057_issuers_are_compared_byte_by_byte() {
    let issuer = TokenBuilder::ISSUER;
    for other in [
        format!("{issuer}/"),
        issuer.to_uppercase(),
        issuer.replace("https", "HTTPS"),
        issuer.replace("https", "http"),
        format!("{issuer}:443"),
        issuer.replace('.', "%2E"),
        issuer.replace("local", "loca%6c"),
        format!("{issuer}#"),
        format!("{issuer}."),
        issuer[..issuer.len() - 1].to_owned(),
    ] {
        refuses(&valid().claim("iss", other), VerifyError::IssuerMismatch);
    }
    for blank in [" ", "\t", "\0"] {
        let token = valid().claim("iss", format!("{issuer}{blank}"));
        unreadable(&token.sign(TestKey::rsa()), Malformed);
    }
}

#[test]
fn jwt_058_issuer_missing_or_of_a_wrong_type() {
    let issuer = TokenBuilder::ISSUER;
    for value in [
        json!(""),
        Value::Null,
        json!(1),
        json!(true),
        json!([issuer]),
        json!({}),
    ] {
        unreadable(&valid().claim("iss", value).sign(TestKey::rsa()), Malformed);
    }
    unreadable(&valid().without("iss").sign(TestKey::rsa()), Malformed);
}

#[test]
fn jwt_059_the_issuer_of_legacy_tokens() {
    let legacy = valid().claim("iss", "kubernetes/serviceaccount");
    refuses(&legacy, VerifyError::IssuerMismatch);
}

#[test]
fn jwt_060_the_api_servers_audience() {
    for audience in [
        TokenBuilder::ISSUER,
        "https://kubernetes.default.svc",
        "api",
        "k3s",
    ] {
        for value in [json!([audience]), json!(audience)] {
            refuses(&valid().claim("aud", value), VerifyError::AudienceMismatch);
        }
    }
}

#[test]
fn jwt_061_our_audience_as_one_string() {
    accepts(&valid().claim("aud", OURS));
}

#[test]
fn jwt_062_audience_missing_empty_or_of_a_wrong_type() {
    let wrong = || VerifyError::ClaimType { claim: "aud" };
    refuses(&valid().without("aud"), wrong());
    for value in [
        Value::Null,
        json!({}),
        json!({OURS: OURS}),
        json!(1),
        json!(true),
    ] {
        refuses(&valid().claim("aud", value), wrong());
    }
    for value in [json!([]), json!(""), json!([""])] {
        refuses(&valid().claim("aud", value), VerifyError::AudienceMismatch);
    }
}

#[test]
fn jwt_063_our_audience_beside_what_is_no_text() {
    for value in [
        json!([OURS, 123]),
        json!([123, OURS]),
        json!([OURS, null]),
        json!([[OURS]]),
        json!([OURS, [OURS]]),
        json!([{"aud": OURS}]),
    ] {
        let wrong = VerifyError::ClaimType { claim: "aud" };
        refuses(&valid().claim("aud", value), wrong);
    }
}

#[test]
fn jwt_064_another_endpoints_audience() {
    for other in [
        "https://sts.test/gcp",
        "https://sts.test/aws2",
        "https://sts.test",
    ] {
        refuses(&valid().claim("aud", other), VerifyError::AudienceMismatch);
    }
}

#[test]
fn jwt_065_audiences_like_ours() {
    for other in [
        "https://sts.test/aw",
        "ttps://sts.test/aws",
        "https://sts.test/aws/",
        "https://sts.test/aws ",
        " https://sts.test/aws",
        "https://sts.test/AWS",
        "https://STS.test/aws",
        "https://sts.test//aws",
        "https://sts.test/%61ws",
        "https://sts.t\u{435}st/aws",
        "https://sts.test/aws\0",
        "*",
    ] {
        for value in [json!(other), json!([other])] {
            refuses(&valid().claim("aud", value), VerifyError::AudienceMismatch);
        }
    }
}

#[test]
fn jwt_066_our_audience_and_another_one() {
    for value in [
        json!([OURS, TokenBuilder::ISSUER]),
        json!([TokenBuilder::ISSUER, OURS]),
        json!([OURS, ""]),
        json!([OURS, OURS, "x"]),
    ] {
        refuses(
            &valid().claim("aud", value),
            VerifyError::AudienceNotExclusive,
        );
    }
}

#[test]
fn jwt_067_our_audience_twice() {
    accepts(&valid().claim("aud", json!([OURS, OURS])));
}

#[test]
fn jwt_068_a_thousand_audiences_and_ours_the_last() {
    let mut many = vec!["a"; 1000];
    many.push(OURS);
    refuses(
        &valid().claim("aud", many),
        VerifyError::AudienceNotExclusive,
    );
}

#[test]
fn jwt_069_claims_of_other_protocols_are_ignored() {
    let token = valid().claim("azp", "x").claim("client_id", "y");
    accepts(&token.claim("scope", "z").claim("act", json!({"sub": "a"})));
}
