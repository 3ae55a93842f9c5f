//! Pods' default tokens, which are taken where the operator has written the API server's audience out, and only then.

use serde_json::json;
use sts_core::token::RawToken;
use sts_core::verify::{Expectations, VerifyError, verify};
use test_support::{TestKey, TokenBuilder};

use super::{NOW, at, expectations, keys, valid};

const API_SERVER: &str = "https://kubernetes.default.svc.cluster.local";
const SECOND: &str = "k3s";

/// The audience that a token is accepted for at an endpoint that also takes the API server's.
fn check(token: &TokenBuilder) -> Result<String, VerifyError> {
    let expectations = Expectations {
        api_server_audiences: vec![API_SERVER.parse().unwrap(), SECOND.parse().unwrap()],
        ..expectations()
    };
    let unverified = RawToken::new(token.sign(TestKey::rsa())).route().unwrap();
    let verified = verify(unverified, &keys(), &expectations, at(NOW))?;
    Ok(verified.audience().as_str().to_owned())
}

fn default_token() -> TokenBuilder {
    valid()
        .claim("aud", json!([API_SERVER]))
        .claim("exp", NOW + 31_536_000)
        .at("/kubernetes.io/warnafter", NOW + 3607)
}

#[test]
fn jwt_060_a_default_token_is_taken_where_it_is_written_out() {
    assert_eq!(check(&default_token()), Ok(API_SERVER.to_owned()));
    let both = default_token().claim("aud", json!([SECOND, API_SERVER]));
    assert_eq!(check(&both), Ok(SECOND.to_owned()));
}

#[test]
fn jwt_061_the_endpoints_own_audience_goes_on_to_be_good() {
    assert_eq!(check(&valid()), Ok(TokenBuilder::AUDIENCE.to_owned()));
}

#[test]
fn jwt_066_one_for_both_is_for_neither() {
    let both = valid().claim("aud", json!([TokenBuilder::AUDIENCE, API_SERVER]));
    assert_eq!(check(&both), Err(VerifyError::AudienceNotExclusive));
    let other = default_token().claim("aud", json!([API_SERVER, "other"]));
    assert_eq!(check(&other), Err(VerifyError::AudienceMismatch));
    let nobody = default_token().claim("aud", json!([]));
    assert_eq!(check(&nobody), Err(VerifyError::AudienceMismatch));
}

/// The long life belongs to the default token alone, and has an end too.
#[test]
fn jwt_079_a_year_is_for_the_default_token_alone() {
    let long = valid().claim("exp", NOW + 86_401);
    assert!(matches!(
        check(&long),
        Err(VerifyError::LifetimeTooLong { .. })
    ));
    let longer = default_token().claim("exp", NOW + 31_536_001);
    assert!(matches!(
        check(&longer),
        Err(VerifyError::LifetimeTooLong { .. })
    ));
}
