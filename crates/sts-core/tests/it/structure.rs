//! The form of a compact JWS (RFC 7515, section 7.1): its segments, their encoding, their size.

use sts_core::token::ParseTokenError::{Malformed, TooLarge};
use test_support::{TestKey, TokenBuilder};

use super::{NOW, check_at, unreadable, valid};

fn signed() -> String {
    valid().sign(TestKey::rsa())
}

fn segments() -> [String; 3] {
    segments_of(&signed())
}

fn segments_of(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

#[test]
fn jwt_001_a_pods_token() {
    let token = check_at(&signed(), NOW).unwrap();
    let account = token.service_account();
    assert_eq!(account.username(), "system:serviceaccount:team-a:app");
    assert_eq!(account.uid.as_str(), TokenBuilder::SERVICE_ACCOUNT_UID);
    assert_eq!(token.pod().name.as_str(), "p1");
    assert_eq!(token.pod().uid.as_str(), TokenBuilder::POD_UID);
    assert_eq!(token.node().unwrap().name, "n1");
    assert_eq!(token.issuer().as_str(), TokenBuilder::ISSUER);
    assert_eq!(token.expires().get(), NOW + 3600);
    assert!(token.id().is_some());
}

#[test]
fn jwt_003_other_than_three_segments() {
    let [header, payload, signature] = segments();
    for text in [
        String::new(),
        header.clone(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.x"),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}.{payload}.{signature}."),
        format!(".{header}.{payload}.{signature}"),
    ] {
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_004_five_segments() {
    let [header, payload, signature] = segments();
    for text in [
        format!("{header}.{payload}.{signature}.x.y"),
        format!("{header}..{payload}.{signature}.{signature}"),
    ] {
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_005_json_serialisations() {
    let [header, payload, signature] = segments();
    let one = format!(r#"{{"protected":"{header}","signature":"{signature}"}}"#);
    for text in [
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        format!(r#"{{"payload":"{payload}","signatures":[{one}]}}"#),
        format!(r#"{{"payload":"{payload}","signatures":[{one},{one}]}}"#),
    ] {
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_006_white_space_and_control_characters() {
    let token = signed();
    let [header, payload, signature] = segments();
    for blank in [" ", "\t", "\r", "\n", "\r\n", "\0", "\u{a0}", "\u{feff}"] {
        for text in [
            format!("{blank}{token}"),
            format!("{token}{blank}"),
            format!("{header}{blank}.{payload}.{signature}"),
            format!("{header}.{blank}{payload}.{signature}"),
            format!(
                "{header}.{payload}.{}{blank}{}",
                &signature[..8],
                &signature[8..]
            ),
        ] {
            unreadable(&text, Malformed);
        }
    }
}

#[test]
fn jwt_007_padding() {
    let [header, payload, signature] = segments();
    for padding in ["=", "=="] {
        unreadable(
            &format!("{header}{padding}.{payload}.{signature}"),
            Malformed,
        );
        unreadable(
            &format!("{header}.{payload}{padding}.{signature}"),
            Malformed,
        );
        unreadable(
            &format!("{header}.{payload}.{signature}{padding}"),
            Malformed,
        );
    }
}

#[test]
fn jwt_008_the_standard_alphabet() {
    let [header, payload, signature] = segments();
    for other in ["+", "/", "?", ",", "%2d"] {
        unreadable(
            &format!("{header}.{payload}.{other}{}", &signature[1..]),
            Malformed,
        );
        unreadable(
            &format!("{header}.{other}{}.{signature}", &payload[1..]),
            Malformed,
        );
        unreadable(
            &format!("{other}{}.{payload}.{signature}", &header[1..]),
            Malformed,
        );
    }
}

/// The other spellings of a segment whose last character has unused bits.
fn aliases(segment: &str) -> Vec<String> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let unused = match segment.len() % 4 {
        2 => 15,
        3 => 3,
        _ => 0,
    };
    let (rest, last) = segment.split_at(segment.len() - 1);
    let value = alphabet.iter().position(|byte| *byte == last.as_bytes()[0]);
    let spelling = |alias: usize| format!("{rest}{}", char::from(alphabet[value.unwrap() + alias]));
    (1..=unused).map(spelling).collect()
}

#[test]
fn jwt_009_unused_bits_of_a_signature() {
    let [header, payload, signature] = segments();
    let spellings = aliases(&signature);
    assert_eq!(spellings.len(), 15, "256 bytes leave four bits");
    for signature in spellings {
        unreadable(&format!("{header}.{payload}.{signature}"), Malformed);
    }
}

#[test]
fn jwt_010_unused_bits_of_header_and_payload() {
    let mut seen = [0; 2];
    for length in 0..3 {
        let token = valid().header("x", "x".repeat(length));
        let token = token.claim("x", "x".repeat(length)).sign(TestKey::rsa());
        assert!(check_at(&token, NOW).is_ok());
        let [header, payload, signature] = segments_of(&token);
        for header in aliases(&header) {
            unreadable(&format!("{header}.{payload}.{signature}"), Malformed);
            seen[0] += 1;
        }
        for payload in aliases(&payload) {
            unreadable(&format!("{header}.{payload}.{signature}"), Malformed);
            seen[1] += 1;
        }
    }
    assert_eq!(seen, [18, 18]);
}

#[test]
fn jwt_014_a_segment_of_impossible_length() {
    let [header, payload, signature] = segments();
    let longer = |segment: &str| {
        let missing = (5 - segment.len() % 4) % 4;
        format!("{segment}{}", "A".repeat(missing))
    };
    for text in [
        format!("{}.{payload}.{signature}", longer(&header)),
        format!("{header}.{}.{signature}", longer(&payload)),
        format!("{header}.{payload}.{}", longer(&signature)),
        "A.A.A".to_owned(),
    ] {
        unreadable(&text, Malformed);
    }
}

#[test]
fn jwt_017_a_token_of_more_than_8192_bytes() {
    let [header, payload, signature] = segments();
    let fill = 8192 - header.len() - payload.len() - signature.len() - 2;
    let text = |fill: usize| format!("{header}.{payload}.{signature}{}", "A".repeat(fill));
    assert_eq!(text(fill).len(), 8192);
    // Another signature, and perhaps of no possible length: but looked at.
    assert!(check_at(&text(fill), NOW).is_err());
    unreadable(&text(fill + 1), TooLarge);
    unreadable(&"?".repeat(8193), TooLarge);
}

#[test]
fn jwt_018_a_header_of_more_than_1024_bytes() {
    let of = |length: usize| {
        let empty = valid().header("x", "").sign(TestKey::rsa());
        let segment = segments_of(&empty)[0].len() * 3 / 4;
        valid()
            .header("x", "x".repeat(length - segment))
            .sign(TestKey::rsa())
    };
    assert!(check_at(&of(1024), NOW).is_ok());
    unreadable(&of(1025), TooLarge);
}
