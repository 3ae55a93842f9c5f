//! The JSON of payload and header: strict, and read by everybody in the same way.

use serde_json::json;
use sts_core::token::ParseTokenError::{Malformed, TooLarge};
use test_support::{TestKey, TokenBuilder};

use super::{NOW, accepts, check_at, unreadable, valid};

#[track_caller]
fn refuses_payload(payload: impl AsRef<[u8]>) {
    let key = TestKey::rsa();
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, key.kid());
    unreadable(&TokenBuilder::compact(key, header, payload), Malformed);
}

#[track_caller]
fn refuses_header(header: impl AsRef<[u8]>) {
    let token = TokenBuilder::compact(TestKey::rsa(), header, valid().payload());
    unreadable(&token, Malformed);
}

/// The payload with a member put before, and with it put behind all others.
fn with_member(member: &str) -> [String; 2] {
    let payload = valid().payload();
    let inner = &payload[1..payload.len() - 1];
    [
        format!("{{{member},{inner}}}"),
        format!("{{{inner},{member}}}"),
    ]
}

#[test]
fn jwt_019_a_payload_that_is_no_object() {
    for payload in ["[]", r#""x""#, "1", "true", "null", "", " ", "{", "}"] {
        refuses_payload(payload);
    }
    for header in ["[]", r#""RS256""#, "1", "null", "", "{"] {
        refuses_header(header);
    }
}

#[test]
fn jwt_020_text_that_is_not_plain_utf8() {
    let payload = valid().payload();
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, TestKey::rsa().kid());
    let big = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<_>>()
    };
    let little = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let wide = |text: &str| {
        let characters = text.chars().map(u32::from);
        characters.flat_map(u32::to_be_bytes).collect::<Vec<_>>()
    };
    let broken = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.splice(1..1, *b"\"x\":\"\xff\",");
        bytes
    };
    for bytes in [
        big(&payload),
        little(&payload),
        wide(&payload),
        broken(&payload),
    ] {
        refuses_payload(bytes);
    }
    for bytes in [
        big(&header),
        little(&header),
        wide(&header),
        broken(&header),
    ] {
        refuses_header(bytes);
    }
    refuses_payload(format!("\u{feff}{payload}"));
    refuses_header(format!("\u{feff}{header}"));
}

#[test]
fn jwt_021_lone_surrogates() {
    for member in [r#""a":"\ud834""#, r#""\ud834":1"#, r#""a":"\udd1e\ud834""#] {
        for payload in with_member(member) {
            refuses_payload(payload);
        }
    }
    let kid = TestKey::rsa().kid();
    refuses_header(format!(r#"{{"alg":"RS256","kid":"{kid}","x":"\ud834"}}"#));
}

#[test]
fn jwt_022_text_behind_the_json() {
    let payload = valid().payload();
    for behind in ["x", "{}", ",", "]", "\0", "//"] {
        refuses_payload(format!("{payload}{behind}"));
    }
    refuses_payload(format!("{payload}{payload}"));
    let kid = TestKey::rsa().kid();
    refuses_header(format!(r#"{{"alg":"RS256","kid":"{kid}"}}{{}}"#));
}

#[test]
fn jwt_023_deep_nesting() {
    let nested = |levels: usize| {
        let inside = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let [payload, _] = with_member(&format!(r#""a":{inside}"#));
        valid().sign_payload(TestKey::rsa(), &payload)
    };
    assert!(check_at(&nested(7), NOW).is_ok(), "eight with the claims");
    for levels in [8, 99, 2000] {
        unreadable(&nested(levels), Malformed);
    }
    unreadable(&nested(100_000), TooLarge);
    refuses_header(format!(
        r#"{{"alg":{}{}}}"#,
        "[".repeat(300),
        "]".repeat(300)
    ));
}

#[test]
fn jwt_024_as_many_unknown_claims_as_fit() {
    let many = |count: usize| {
        let claims = (0..count).fold(valid(), |token, index| {
            token.claim(&format!("{index:x}"), 0)
        });
        claims.sign(TestKey::rsa())
    };
    assert!(check_at(&many(500), NOW).is_ok());
    unreadable(&many(1000), TooLarge);
}

#[test]
fn jwt_025_what_lax_parsers_take() {
    for member in [
        "/**/\"a\":1",
        "//\n\"a\":1",
        "\"a\":NaN",
        "\"a\":Infinity",
        "\"a\":-Infinity",
        "'a':1",
        "a:1",
        "\"a\":1,",
        "\"a\":01",
        "\"a\":0x1",
        "\"a\":+1",
        "\"a\":.5",
        "\"a\":1.",
        "\"a\":True",
        "\"a\":\"\t\"",
        "\"a\":\"\\x41\"",
        "\"a\" 1",
        "\"a\":[1,]",
    ] {
        for payload in with_member(member) {
            refuses_payload(payload);
        }
    }
}

#[test]
fn jwt_026_duplicate_member() {
    let claims = [
        r#""iss":"x""#,
        r#""sub":"x""#,
        r#""aud":[]"#,
        r#""exp":1"#,
        r#""iat":1"#,
        r#""nbf":1"#,
        r#""jti":"x""#,
    ];
    for claim in claims {
        for payload in with_member(claim) {
            refuses_payload(payload);
        }
    }
}

#[test]
fn jwt_027_duplicate_header_member() {
    let kid = TestKey::rsa().kid();
    for header in [
        format!(r#"{{"alg":"none","alg":"RS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","alg":"none"}}"#),
        format!(r#"{{"alg":"RS256","kid":"x","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","kid":"x"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","kid":"{kid}"}}"#),
    ] {
        refuses_header(header);
    }
}

#[test]
fn jwt_028_duplicate_kubernetes_claim() {
    for payload in with_member(r#""kubernetes.io":{}"#) {
        refuses_payload(payload);
    }
    let payload = valid().payload();
    for (member, other) in [
        (r#""namespace":"team-a""#, r#""namespace":"team-b""#),
        (r#""pod":{"#, r#""pod":{},"#),
        (r#""name":"app""#, r#""name":"admin""#),
    ] {
        let other = other.trim_end_matches(',');
        let twice = payload.replacen(member, &format!("{other},{member}"), 1);
        assert_ne!(twice, payload);
        refuses_payload(twice);
    }
}

#[test]
fn jwt_029_duplicate_hidden_by_an_escape() {
    for member in [
        r#""\u0069ss":"x""#,
        r#""s\u0075b":"x""#,
        r#""\u0061\u0075\u0064":[]"#,
    ] {
        for payload in with_member(member) {
            refuses_payload(payload);
        }
    }
    // An escape alone hides nothing.
    let [payload, _] = with_member(r#""a":1"#);
    let escaped = payload.replacen(r#""iss""#, r#""\u0069ss""#, 1);
    let token = valid().sign_payload(TestKey::rsa(), &escaped);
    assert!(check_at(&token, NOW).is_ok());
}

#[test]
fn jwt_030_duplicate_unknown_member() {
    for member in [
        r#""odd":1,"odd":1"#,
        r#""odd":{"a":1,"a":2}"#,
        r#""odd":[{"a":1,"a":2}]"#,
    ] {
        for payload in with_member(member) {
            refuses_payload(payload);
        }
    }
    accepts(&valid().claim("odd", json!([{"a": 1}, {"a": 2}])));
}

/// kube-apiserver looks for the issuer without regard to case, and takes the last it finds.
#[test]
fn jwt_102_members_that_differ_in_case_only() {
    for member in [
        r#""Iss":"https://evil.example""#,
        r#""ISS":[]"#,
        "\"i\u{17f}s\":\"x\"",
        r#""Sub":"x""#,
        r#""Kubernetes.io":{}"#,
        r#""odd":1,"Odd":1"#,
    ] {
        for payload in with_member(member) {
            refuses_payload(payload);
        }
    }
    let kid = TestKey::rsa().kid();
    for name in ["Alg", "KID", "\u{212a}id"] {
        refuses_header(format!(
            r#"{{"alg":"RS256","kid":"{kid}","{name}":"RS256"}}"#
        ));
    }
}
