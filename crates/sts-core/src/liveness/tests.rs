use super::*;
use crate::authorize::{Request, authorize};
use crate::ident::{Audience, Uid};
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
        api_server_audiences: Vec::new(),
        longest_life: Expectations::LONGEST_LIFE,
    };
    let verified = verify(token, &keys, &expectations, UnixSeconds::new(NOW).unwrap()).unwrap();
    let cluster = "c1".parse().unwrap();
    authorize(&Policy::allow_all(), Request::of(&cluster), verified).unwrap()
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
    assert_eq!(agree(permitted(), &review).err(), Some(expected));
}

#[test]
fn live_001_the_same_subject_twice_is_alive() {
    let grant = agree(permitted(), &review()).unwrap();
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

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

const SEEN: Sighting = Sighting {
    pod: Existence::Present,
    service_account: Existence::Present,
    age: Duration::ZERO,
};

#[track_caller]
fn seen(sighting: Sighting, grace: u64) -> Result<Confirmation, LivenessError> {
    let grace = Grace::new(Duration::from_secs(grace)).unwrap();
    accept_seen(permitted(), sighting, grace, at(NOW)).map(|grant| grant.confirmation())
}

#[test]
fn live_001_a_watch_that_has_both_is_enough() {
    assert_eq!(seen(SEEN, 0), Ok(Confirmation::Watch));
}

#[test]
fn live_002_a_pod_that_the_watch_does_not_have_is_gone() {
    let pod = Existence::Absent;
    assert_eq!(
        seen(Sighting { pod, ..SEEN }, 0),
        Err(LivenessError::PodGone)
    );
}

#[test]
fn live_008_a_service_account_that_the_watch_does_not_have_is_gone() {
    let service_account = Existence::Absent;
    let sighting = Sighting {
        service_account,
        ..SEEN
    };
    assert_eq!(seen(sighting, 0), Err(LivenessError::ServiceAccountGone));
}

/// As at kube-apiserver: 60 s after `deletionTimestamp` is still in time, 61 s is not.
#[test]
fn live_004_005_the_end_of_a_pod_that_is_being_deleted() {
    for (deletion, expected) in [
        (NOW + 30, Ok(Confirmation::Watch)),
        (NOW - 60, Ok(Confirmation::Watch)),
        (NOW - 61, Err(LivenessError::PodGone)),
    ] {
        let pod = Existence::Ending(at(deletion));
        assert_eq!(seen(Sighting { pod, ..SEEN }, 0), expected, "{deletion}");
    }
    let service_account = Existence::Ending(at(NOW - 61));
    let sighting = Sighting {
        service_account,
        ..SEEN
    };
    assert_eq!(seen(sighting, 0), Err(LivenessError::ServiceAccountGone));
}

#[test]
fn live_020_a_watch_that_is_too_old_vouches_for_nobody() {
    for (age, grace, expected) in [
        (30, 0, Ok(Confirmation::Watch)),
        (31, 0, Err(LivenessError::Unconfirmed)),
        (31, 60, Ok(Confirmation::Grace)),
        (90, 60, Ok(Confirmation::Grace)),
        (91, 60, Err(LivenessError::Unconfirmed)),
    ] {
        let age = Duration::from_secs(age);
        assert_eq!(seen(Sighting { age, ..SEEN }, grace), expected, "{age:?}");
    }
}

#[test]
fn grace_is_for_the_subject_that_was_vouched_for_and_for_its_time() {
    let verdict = agree(permitted(), &review()).unwrap();
    let verdict = verdict.verdict(at(NOW)).unwrap();
    let accepted = |verdict: &Verdict, grace: u64, now: u64| {
        let grace = Grace::new(Duration::from_secs(grace)).unwrap();
        accept_in_grace(permitted(), verdict, grace, at(now)).map(|grant| grant.longest_life())
    };
    let short = Ok(Some(Grace::TOKEN_LIFE));
    assert_eq!(accepted(&verdict, 60, NOW), short);
    assert_eq!(accepted(&verdict, 60, NOW + 60), short);
    let refused = Err(LivenessError::Unconfirmed);
    assert_eq!(accepted(&verdict, 60, NOW + 61), refused);
    assert_eq!(accepted(&verdict, 60, NOW - 1), refused, "clock set back");
    assert_eq!(accepted(&verdict, 0, NOW), refused, "no grace by default");
    let pod = Uid::parse("22222222-2222-4333-8444-555555555555").unwrap();
    let other = Verdict { pod, ..verdict };
    assert_eq!(accepted(&other, 60, NOW), refused);
    assert_eq!(Grace::new(Duration::from_secs(301)), None);
}

#[test]
fn grace_does_not_feed_itself() {
    let verdict = agree(permitted(), &review()).unwrap();
    let verdict = verdict.verdict(at(NOW)).unwrap();
    let grace = Grace::new(Duration::from_secs(60)).unwrap();
    let grant = accept_in_grace(permitted(), &verdict, grace, at(NOW + 50)).unwrap();
    assert!(grant.verdict(at(NOW + 50)).is_none());
    assert!(accept_offline(permitted()).verdict(at(NOW)).is_none());
}
