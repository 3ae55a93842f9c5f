//! `exp`, `iat`, `nbf`: whole seconds, all there, in order, and now.

use std::time::Duration;

use serde_json::{Value, json};
use sts_core::time::UnixSeconds;
use sts_core::verify::VerifyError;
use test_support::{TestKey, TokenBuilder};

use super::{NOW, Refused, accepts, at, check_at, refuses, valid};

const CLAIMS: [&str; 3] = ["exp", "iat", "nbf"];

fn wrong_types() -> Vec<Value> {
    let number = NOW + 100;
    vec![
        json!(number.to_string()),
        json!(true),
        Value::Null,
        json!([]),
        json!([number]),
        json!({}),
        json!(""),
    ]
}

#[track_caller]
fn refuses_type(claim: &'static str, value: Value) {
    refuses(
        &valid().claim(claim, value),
        VerifyError::ClaimType { claim },
    );
}

/// The token with the text of a claim's number replaced by what JSON values cannot express.
#[track_caller]
fn refuses_text(claim: &'static str, number: &str) {
    let payload = valid().claim(claim, 7_777_777).payload();
    let payload = payload.replacen("7777777", number, 1);
    let token = valid().sign_payload(TestKey::rsa(), &payload);
    let expected = Refused::Verify(VerifyError::ClaimType { claim });
    assert_eq!(check_at(&token, NOW).err(), Some(expected), "{number}");
}

#[test]
fn jwt_070_the_last_second_is_over_when_it_begins() {
    let token = valid().claim("exp", NOW + 10).sign(TestKey::rsa());
    assert!(check_at(&token, NOW + 9).is_ok());
    for now in [NOW + 10, NOW + 11, NOW + 3600] {
        let (expires, now_seconds) = (at(NOW + 10), at(now));
        let expected = VerifyError::Expired {
            expires,
            now: now_seconds,
        };
        let refused = check_at(&token, now).err();
        assert_eq!(refused, Some(Refused::Verify(expected)));
    }
}

#[test]
fn jwt_071_exp_missing() {
    refuses(
        &valid().without("exp"),
        VerifyError::ClaimType { claim: "exp" },
    );
}

#[test]
fn jwt_072_exp_of_a_wrong_type() {
    for value in wrong_types() {
        refuses_type("exp", value);
    }
}

#[test]
fn jwt_073_nbf_or_iat_of_a_wrong_type() {
    for claim in ["iat", "nbf"] {
        for value in wrong_types() {
            refuses_type(claim, value);
        }
    }
    refuses(
        &valid().without("nbf"),
        VerifyError::ClaimType { claim: "nbf" },
    );
}

#[test]
fn jwt_074_times_with_a_fraction_or_an_exponent() {
    for claim in CLAIMS {
        for number in [
            "1800000100.0",
            "1800000100.5",
            "1.8e9",
            "1e10",
            "18E8",
            "1800000100e0",
        ] {
            refuses_text(claim, number);
        }
    }
}

#[test]
fn jwt_075_negative_times() {
    for claim in CLAIMS {
        for number in ["-1", "-1800000100", "-9223372036854775808", "-0.0"] {
            refuses_text(claim, number);
        }
    }
}

#[test]
fn jwt_076_times_too_large() {
    for claim in CLAIMS {
        for number in [
            "253402300800",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e30",
        ] {
            refuses_text(claim, number);
        }
        // Some readers of JSON give up on so many digits, and so do we: but not with a panic.
        let payload = valid().claim(claim, 7_777_777).payload();
        let payload = payload.replacen("7777777", &"9".repeat(400), 1);
        let token = valid().sign_payload(TestKey::rsa(), &payload);
        assert!(check_at(&token, NOW).is_err());
    }
    // The last second of the year 9999 can be written, and is too far away.
    let last = 253_402_300_799;
    let life = Duration::from_secs(last - NOW);
    refuses(
        &valid().claim("exp", last),
        VerifyError::LifetimeTooLong { life },
    );
}

#[test]
fn jwt_077_not_before_at_the_edge_of_the_leeway() {
    accepts(&valid().claim("nbf", NOW + 59));
    accepts(&valid().claim("nbf", NOW + 60));
    refuses(&valid().claim("nbf", NOW + 61), VerifyError::NotYetValid);
}

#[test]
fn jwt_078_issued_in_the_future() {
    accepts(&valid().claim("iat", NOW + 60));
    refuses(&valid().claim("iat", NOW + 61), VerifyError::NotYetValid);
    refuses(&valid().claim("iat", NOW + 3599), VerifyError::NotYetValid);
}

#[test]
fn jwt_079_tokens_issued_for_longer_than_a_day() {
    accepts(&valid().claim("exp", NOW + 86_400));
    for seconds in [86_401, 31_536_000, 31_536_000 * 10] {
        let life = Duration::from_secs(seconds);
        let token = valid().claim("exp", NOW + seconds);
        refuses(&token, VerifyError::LifetimeTooLong { life });
    }
    // How long ago that was does not matter.
    let old = valid()
        .claim("iat", NOW - 86_400)
        .claim("nbf", NOW - 86_400);
    let life = Duration::from_secs(86_400 + 3600);
    refuses(&old, VerifyError::LifetimeTooLong { life });
}

#[test]
fn jwt_080_times_out_of_order() {
    for claim in ["iat", "nbf"] {
        for start in [NOW + 1, NOW + 2] {
            let token = valid().claim("exp", NOW + 1).claim(claim, start);
            refuses(&token, VerifyError::ClaimType { claim: "exp" });
        }
    }
}

#[test]
fn jwt_081_iat_missing() {
    refuses(
        &valid().without("iat"),
        VerifyError::ClaimType { claim: "iat" },
    );
}

#[test]
fn jwt_083_clocks_of_other_centuries() {
    for now in [
        0,
        1,
        2_147_483_647,
        2_147_483_648,
        4_294_967_295,
        4_294_967_296,
    ] {
        let token = TokenBuilder::valid(now).sign(TestKey::rsa());
        assert!(check_at(&token, now).is_ok(), "{now}");
    }
    let last = UnixSeconds::LATEST.get();
    let token = TokenBuilder::valid(last - 3600).sign(TestKey::rsa());
    assert!(check_at(&token, last - 1).is_ok());
    assert!(check_at(&token, last).is_err());
    let beyond = TokenBuilder::valid(last).sign(TestKey::rsa());
    let expected = Refused::Verify(VerifyError::ClaimType { claim: "exp" });
    assert_eq!(check_at(&beyond, last).err(), Some(expected));
}
