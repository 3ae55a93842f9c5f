use super::*;
use crate::authorize::authorize;
use crate::keys::KeySet;
use crate::policy::Policy;
use crate::time::UnixSeconds;
use crate::token::RawToken;
use crate::verify::{Expectations, verify};
use test_support::{TestKey, TokenBuilder};

const NOW: u64 = 1_800_000_000;

fn permitted() -> Permission {
    let key = TestKey::rsa();
    let token = RawToken::new(TokenBuilder::valid(NOW).sign(key))
        .route()
        .unwrap();
    let keys = KeySet::parse(TestKey::jwks(&[key]).as_bytes())
        .unwrap()
        .keys;
    let expectations = Expectations {
        issuer: TokenBuilder::ISSUER.parse().unwrap(),
        audience: audience(),
        longest_life: Expectations::LONGEST_LIFE,
    };
    let verified = verify(token, &keys, &expectations, UnixSeconds::new(NOW).unwrap()).unwrap();
    authorize(&Policy::AllowAll, &"c1".parse().unwrap(), verified).unwrap()
}

fn audience() -> Audience {
    TokenBuilder::AUDIENCE.parse().unwrap()
}

fn review() -> Review {
    Review {
        authenticated: true,
        error: None,
        audiences: vec![TokenBuilder::AUDIENCE.to_owned()],
        username: Some("system:serviceaccount:team-a:app".to_owned()),
        uid: Some(TokenBuilder::SERVICE_ACCOUNT_UID.to_owned()),
        pod_name: vec!["p1".to_owned()],
        pod_uid: vec![TokenBuilder::POD_UID.to_owned()],
    }
}

#[track_caller]
fn refuses(change: impl FnOnce(&mut Review), expected: LivenessError) {
    let mut review = review();
    change(&mut review);
    assert_eq!(
        agree(permitted(), &review, &audience()).err(),
        Some(expected)
    );
}

#[test]
fn live_001_the_same_subject_twice_is_alive() {
    let grant = agree(permitted(), &review(), &audience()).unwrap();
    assert_eq!(grant.permission().token().pod().name.as_str(), "p1");
}

#[test]
fn live_010_011_audiences_must_be_confirmed() {
    refuses(
        |review| review.audiences.clear(),
        LivenessError::AudienceMismatch,
    );
    refuses(
        |review| review.audiences = vec!["other".to_owned()],
        LivenessError::AudienceMismatch,
    );
}

#[test]
fn live_012_013_anything_but_a_plain_yes_is_a_no() {
    refuses(|review| review.authenticated = false, LivenessError::Gone);
    refuses(
        |review| review.error = Some("x".to_owned()),
        LivenessError::Gone,
    );
}

#[test]
fn live_014_disagreement_is_refused() {
    let other = "22222222-2222-4333-8444-555555555555".to_owned();
    let disagree = |about| LivenessError::Disagree { about };
    refuses(
        |review| review.username = Some("system:serviceaccount:team-a:b".to_owned()),
        disagree("username"),
    );
    refuses(|review| review.username = None, disagree("username"));
    refuses(
        |review| review.uid = Some(other.clone()),
        disagree("ServiceAccount uid"),
    );
    refuses(
        |review| review.pod_name = vec!["p2".to_owned()],
        disagree("pod name"),
    );
    refuses(
        |review| review.pod_uid = vec![other.clone()],
        disagree("pod uid"),
    );
}

#[test]
fn live_015_a_review_without_the_pod_is_refused() {
    refuses(
        |review| review.pod_name.clear(),
        LivenessError::Disagree { about: "pod name" },
    );
    refuses(
        |review| review.pod_uid.clear(),
        LivenessError::Disagree { about: "pod uid" },
    );
}
