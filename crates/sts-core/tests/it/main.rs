//! The core from outside: tokens in, tokens or refusals out.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on stops"
)]

mod audience;
mod danger;
mod header;
mod issue;
mod issue_claims;
mod json;
mod jwks;
mod labels;
mod mutation;
mod policy_table;
mod ring;
mod ring_model;
mod signature;
mod structure;
mod subject;
mod time;

use sts_core::keys::KeySet;
use sts_core::time::UnixSeconds;
use sts_core::token::{ParseTokenError, RawToken};
use sts_core::verify::{Expectations, VerifiedToken, VerifyError, verify};
use test_support::{TestKey, TokenBuilder};

/// 2027-01-15T08:00:00Z.
const NOW: u64 = 1_800_000_000;

/// Why a token was refused, at whichever step.
#[derive(Debug, PartialEq)]
enum Refused {
    Parse(ParseTokenError),
    Verify(VerifyError),
}

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

fn valid() -> TokenBuilder {
    TokenBuilder::valid(NOW)
}

fn expectations() -> Expectations {
    Expectations {
        issuer: TokenBuilder::ISSUER.parse().unwrap(),
        audience: TokenBuilder::AUDIENCE.parse().unwrap(),
        api_server_audiences: Vec::new(),
        longest_life: Expectations::LONGEST_LIFE,
    }
}

/// The keys of the cluster: one RSA key.
fn keys() -> KeySet {
    KeySet::parse(TestKey::jwks(&[TestKey::rsa()]).as_bytes())
        .unwrap()
        .keys
}

fn check_at(token: &str, now: u64) -> Result<VerifiedToken, Refused> {
    check_with(token, &keys(), now)
}

fn check_with(token: &str, keys: &KeySet, now: u64) -> Result<VerifiedToken, Refused> {
    let unverified = RawToken::new(token.to_owned())
        .route()
        .map_err(Refused::Parse)?;
    verify(unverified, keys, &expectations(), at(now)).map_err(Refused::Verify)
}

#[track_caller]
fn accepts(token: &TokenBuilder) {
    if let Err(refused) = check_at(&token.sign(TestKey::rsa()), NOW) {
        panic!("{refused:?}");
    }
}

#[track_caller]
fn unreadable(token: &str, expected: ParseTokenError) {
    assert_eq!(check_at(token, NOW).err(), Some(Refused::Parse(expected)));
}

#[track_caller]
fn refuses(token: &TokenBuilder, expected: VerifyError) {
    let token = token.sign(TestKey::rsa());
    assert_eq!(check_at(&token, NOW).err(), Some(Refused::Verify(expected)));
}
