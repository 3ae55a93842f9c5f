//! A subject token.

use std::sync::LazyLock;

use serde_json::Value;
use sts_core::keys::KeySet;
use sts_core::time::UnixSeconds;
use sts_core::token::RawToken;
use sts_core::verify::{Expectations, VerifiedToken, verify};
use test_support::{TestKey, TokenBuilder};

/// The time at which tokens are looked at: 2027-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_800_000_000;

struct Cluster {
    key: TestKey,
    keys: KeySet,
    expectations: Expectations,
}

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let key = TestKey::ec();
    let keys = KeySet::parse(TestKey::jwks(&[&key]).as_bytes()).unwrap();
    Cluster {
        keys: keys.keys,
        key,
        expectations: Expectations {
            issuer: TokenBuilder::ISSUER.parse().unwrap(),
            audience: TokenBuilder::AUDIENCE.parse().unwrap(),
            api_server_audiences: Vec::new(),
            longest_life: Expectations::LONGEST_LIFE,
        },
    }
});

/// A token's text, or its header and its claims on two lines, which are signed first: so that the reading of claims is fuzzed too, and not
/// only the refusal of bad signatures. `KID` in a header stands for the key's id.
///
/// A text that nobody signed is never taken. One that is taken says, to a lax reader of JSON too, what a token must say.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Some((header, payload)) = text.split_once('\n') else {
        assert!(check(text).is_none(), "nobody signed this");
        return;
    };
    let header = header.replace("KID", CLUSTER.key.kid());
    if let Some(verified) = check(&TokenBuilder::compact(&CLUSTER.key, &header, payload)) {
        says_what_it_must(&header, payload, &verified);
    }
}

/// The claims of the token that `test-support` calls valid, verified.
pub(crate) fn verified(change: fn(TokenBuilder) -> TokenBuilder) -> VerifiedToken {
    check(&change(TokenBuilder::valid(NOW)).sign(&CLUSTER.key)).unwrap()
}

fn check(text: &str) -> Option<VerifiedToken> {
    let Cluster {
        key: _,
        keys,
        expectations,
    } = &*CLUSTER;
    let unverified = RawToken::new(text.to_owned()).route().ok()?;
    let now = UnixSeconds::new(NOW).unwrap();
    verify(unverified, keys, expectations, now).ok()
}

fn says_what_it_must(header: &str, payload: &str, verified: &VerifiedToken) {
    let header: Value = serde_json::from_str(header).unwrap();
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["kid"], CLUSTER.key.kid());
    for member in ["crit", "jku", "jwk", "x5c", "x5u"] {
        assert_eq!(header.get(member), None);
    }
    let claims: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(claims["iss"], TokenBuilder::ISSUER);
    let audience = &claims["aud"];
    let ours = |audience: &Value| audience == TokenBuilder::AUDIENCE;
    let all = audience
        .as_array()
        .is_some_and(|all| !all.is_empty() && all.iter().all(ours));
    assert!(ours(audience) || all);
    let seconds = |claim: &str| claims[claim].as_u64().unwrap();
    assert!(NOW < seconds("exp") && seconds("exp") - seconds("iat") <= 86_400);
    assert!(seconds("iat") <= NOW + 60 && seconds("nbf") <= NOW + 60);
    assert_eq!(verified.expires().get(), seconds("exp"));
    let bound = &claims["kubernetes.io"];
    let account = verified.service_account();
    assert_eq!(bound["namespace"], account.namespace.as_str());
    assert_eq!(bound["serviceaccount"]["name"], account.name.as_str());
    assert_eq!(bound["serviceaccount"]["uid"], account.uid.as_str());
    assert_eq!(bound["pod"]["name"], verified.pod().name.as_str());
    assert_eq!(bound["pod"]["uid"], verified.pod().uid.as_str());
    assert_eq!(bound.get("secret"), None);
    assert_eq!(claims["sub"], account.username());
}
