//! The life of a ring of signing keys, rule by rule. `ring_model.rs` checks them all against each other.

mod permit;
mod stored;
mod text;

use std::time::Duration;

use sts_core::ident::KeyId;
use sts_core::keys::Algorithm;
use sts_core::keys::ring::{Advance, Inputs, Phase, Ring, Sight, Sighting, Step, Terms, advance};
use sts_core::time::{Lifetime, UnixSeconds};

pub(crate) const LIFETIME: u64 = 900;
pub(crate) const MAX_AGE: u64 = 300;
pub(crate) const LAG: u64 = 60;
pub(crate) const SKEW: u64 = 60;
/// How long a new key waits, and how long an old one stays.
pub(crate) const WAIT: u64 = LAG + MAX_AGE + SKEW;
pub(crate) const STAY: u64 = LAG + LIFETIME + MAX_AGE + SKEW;
/// When the tests begin.
pub(crate) const START: u64 = 1_000_000;

pub(crate) fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

pub(crate) fn id(name: &str) -> KeyId {
    KeyId::parse(name).unwrap()
}

pub(crate) fn terms() -> Terms {
    Terms {
        algorithm: Algorithm::Es256,
        lifetime: Lifetime::new(Duration::from_secs(LIFETIME)).unwrap(),
        max_age: Duration::from_secs(MAX_AGE),
        lag: Duration::from_secs(LAG),
        skew: Duration::from_secs(SKEW),
        rotate_every: None,
        most_keys: 4,
        sight: Sight::ByTime,
    }
}

pub(crate) fn observed() -> Terms {
    Terms {
        sight: Sight::Observed,
        ..terms()
    }
}

/// Advances with a key of that name at hand.
pub(crate) fn step(
    ring: &Ring,
    terms: &Terms,
    inputs: Inputs<'_>,
    spare: &str,
    now: u64,
) -> Advance {
    let spare = id(spare);
    let inputs = Inputs {
        spare: Some((&spare, terms.algorithm)),
        ..inputs
    };
    let next = advance(ring, terms, &inputs, at(now));
    let again = advance(&next.ring, terms, &inputs, at(now));
    assert_eq!(again.ring, next.ring, "twice is once");
    assert!(again.steps.is_empty(), "{:?}", again.steps);
    next
}

pub(crate) fn wish(value: &str) -> Inputs<'_> {
    Inputs {
        rotate: Some(value),
        ..Inputs::default()
    }
}

pub(crate) fn phase(ring: &Ring, name: &str) -> &'static str {
    ring.find(&id(name))
        .map_or("gone", |key| key.phase().name())
}

/// A ring whose key `a` signs.
pub(crate) fn with_active(terms: &Terms) -> Ring {
    let sighting = sighting(&["a"], START);
    let inputs = Inputs {
        sighting: Some(&sighting),
        ..Inputs::default()
    };
    step(&Ring::default(), terms, inputs, "a", START).ring
}

/// The same with `b` prepared.
pub(crate) fn with_prepared(terms: &Terms) -> Ring {
    let ring = step(&with_active(terms), terms, wish("1"), "b", START).ring;
    assert_eq!(phase(&ring, "b"), "prepared");
    ring
}

/// And then active, with `a` retiring.
pub(crate) fn with_rotated(terms: &Terms) -> Ring {
    let ring = step(&with_prepared(terms), terms, wish("1"), "c", START + WAIT).ring;
    assert_eq!(
        (phase(&ring, "a"), phase(&ring, "b")),
        ("retiring", "active")
    );
    ring
}

pub(crate) fn sighting(keys: &[&str], time: u64) -> Sighting {
    Sighting {
        key_ids: keys.iter().map(|name| id(name)).collect(),
        at: at(time),
        max_age: Duration::ZERO,
    }
}

pub(crate) fn see(ring: &Ring, terms: &Terms, keys: &[&str], now: u64) -> Advance {
    let sighting = sighting(keys, now);
    let inputs = Inputs {
        sighting: Some(&sighting),
        ..wish("1")
    };
    step(ring, terms, inputs, "unused", now)
}

#[test]
fn the_first_key_of_a_new_issuer_signs_at_once() {
    let ring = with_active(&terms());
    assert_eq!(phase(&ring, "a"), "active");
    assert_eq!(ring.generation(), 1);
}

#[test]
fn a_key_is_wanted_before_it_is_taken() {
    let next = advance(&Ring::default(), &terms(), &Inputs::default(), at(START));
    assert!(next.wants_key);
    assert_eq!(next.ring, Ring::default());
}

#[test]
fn rot_001_a_new_key_signs_only_when_no_key_set_without_it_is_in_use() {
    let ring = with_prepared(&terms());
    let early = step(&ring, &terms(), wish("1"), "c", START + WAIT - 1);
    assert_eq!(phase(&early.ring, "a"), "active");
    assert_eq!(early.wake, Some(at(START + WAIT)));
    let late = step(&ring, &terms(), wish("1"), "c", START + WAIT);
    assert_eq!(
        (phase(&late.ring, "a"), phase(&late.ring, "b")),
        ("retiring", "active")
    );
}

#[test]
fn rot_002_a_key_that_the_public_issuer_does_not_serve_does_not_sign() {
    let terms = observed();
    let ring = with_prepared(&terms);
    // However long it takes.
    let unseen = see(&ring, &terms, &["a"], START + 100 * WAIT);
    assert_eq!(phase(&unseen.ring, "b"), "prepared");
    assert!(
        unseen.ring.status().contains("waits to be seen"),
        "{}",
        unseen.ring.status()
    );
    let seen = see(&ring, &terms, &["a", "b"], START + 1000);
    assert_eq!(
        phase(&seen.ring, "b"),
        "prepared",
        "caches may still be without it"
    );
    let signing = see(&seen.ring, &terms, &["a", "b"], START + 1000 + WAIT);
    assert_eq!(phase(&signing.ring, "b"), "active");
}

#[test]
fn rot_002_a_key_that_vanished_from_the_public_issuer_waits_anew() {
    let terms = observed();
    let seen = see(&with_prepared(&terms), &terms, &["a", "b"], START + 10).ring;
    let lost = see(&seen, &terms, &["a"], START + 20);
    assert_eq!(lost.steps, [Step::LostFromSight { key: id("b") }]);
    let again = see(&lost.ring, &terms, &["a", "b"], START + 500).ring;
    let early = see(&again, &terms, &["a", "b"], START + 20 + WAIT);
    assert_eq!(phase(&early.ring, "b"), "prepared");
}

#[test]
fn rot_002_an_issuer_that_cannot_be_read_holds_a_rotation_up() {
    let terms = observed();
    let seen = see(&with_prepared(&terms), &terms, &["a", "b"], START + 10).ring;
    let blind = step(&seen, &terms, wish("1"), "c", START + 10 + WAIT);
    assert_eq!(phase(&blind.ring, "b"), "prepared");
}

#[test]
fn rot_003_a_revoked_key_goes_at_once_and_its_successor_need_not_wait() {
    let ring = with_active(&terms());
    let revoked = [id("a")];
    let inputs = Inputs {
        revoke: &revoked,
        ..Inputs::default()
    };
    let next = step(&ring, &terms(), inputs, "b", START + 1);
    assert_eq!(
        (phase(&next.ring, "a"), phase(&next.ring, "b")),
        ("gone", "active")
    );
    assert!(next.ring.is_revoked(&id("a")));
    let said = next.steps[0].to_string();
    assert!(said.contains("every token it signed is refused"), "{said}");
}

#[test]
fn rot_003_a_revoked_key_does_not_come_back_as_the_users_key() {
    let given = id("a");
    let revoked = [id("a")];
    let ring = with_active(&terms());
    let inputs = Inputs {
        revoke: &revoked,
        given: Some((&given, Algorithm::Es256)),
        ..Inputs::default()
    };
    let next = step(&ring, &terms(), inputs, "b", START + 1);
    assert_eq!(phase(&next.ring, "a"), "gone");
}

#[test]
fn rot_003_a_revoked_prepared_key_leaves_the_active_one_alone() {
    let revoked = [id("b")];
    let inputs = Inputs {
        revoke: &revoked,
        ..wish("1")
    };
    let next = step(&with_prepared(&terms()), &terms(), inputs, "c", START + 1);
    assert_eq!(
        (phase(&next.ring, "a"), phase(&next.ring, "b")),
        ("active", "gone")
    );
}

#[test]
fn rot_011_a_retired_key_stays_until_its_last_token_is_dead() {
    let active = with_rotated(&terms());
    let retired = START + WAIT;
    let early = step(&active, &terms(), wish("1"), "c", retired + STAY - 1);
    assert_eq!(phase(&early.ring, "a"), "retiring");
    let late = step(&active, &terms(), wish("1"), "c", retired + STAY);
    assert_eq!(late.steps, [Step::Removed { key: id("a") }]);
}

#[test]
fn rot_011_tokens_of_a_longer_life_that_was_configured_before_are_waited_for() {
    let long = Terms {
        lifetime: Lifetime::new(Duration::from_secs(86_400)).unwrap(),
        ..terms()
    };
    let ring = with_prepared(&long);
    // Then the lifetime is shortened.
    let active = step(&ring, &terms(), wish("1"), "c", START + WAIT).ring;
    let later = step(&active, &terms(), wish("1"), "c", START + WAIT + STAY);
    assert_eq!(phase(&later.ring, "a"), "retiring");
}

#[test]
fn rot_012_however_late_it_is_there_is_one_new_key() {
    let terms = Terms {
        rotate_every: Some(Duration::from_secs(86_400)),
        ..terms()
    };
    let ring = with_active(&terms);
    let next = step(&ring, &terms, Inputs::default(), "b", START + 40 * 86_400);
    assert_eq!(
        (phase(&next.ring, "a"), phase(&next.ring, "b")),
        ("active", "prepared")
    );
    assert_eq!(next.ring.keys().count(), 2);
}

#[test]
fn a_schedule_counts_from_when_a_key_began_to_sign() {
    let terms = Terms {
        rotate_every: Some(Duration::from_secs(86_400)),
        ..terms()
    };
    let ring = with_active(&terms);
    let before = step(&ring, &terms, Inputs::default(), "b", START + 86_399);
    assert_eq!(before.ring, ring);
    assert_eq!(before.wake, Some(at(START + 86_400)));
    let due = step(&ring, &terms, Inputs::default(), "b", START + 86_400);
    assert_eq!(phase(&due.ring, "b"), "prepared");
}

#[test]
fn rot_013_no_more_keys_are_published_than_the_cap_allows() {
    let terms = terms();
    let (mut ring, mut now) = (with_active(&terms), START);
    for round in 0..1000 {
        now += 70;
        let (wish_value, spare) = (format!("{round}"), format!("key-{round}"));
        let next = step(&ring, &terms, wish(&wish_value), &spare, now);
        assert!(next.ring.keys().count() <= terms.most_keys);
        assert_eq!(
            next.ring
                .keys()
                .filter(|key| key.phase().name() == "active")
                .count(),
            1
        );
        ring = next.ring;
    }
    let full = advance(&ring, &terms, &wish("last"), at(now));
    assert!(full.is_full || full.ring.prepared().is_some());
    assert!(ring.render().len() < 4096, "nothing is kept for ever");
}

#[test]
fn a_wish_is_fulfilled_once_and_joins_a_rotation_that_is_under_way() {
    let ring = with_prepared(&terms());
    let joined = step(&ring, &terms(), wish("2"), "c", START + 1).ring;
    assert_eq!(phase(&joined, "c"), "gone");
    let active = step(&joined, &terms(), wish("2"), "c", START + WAIT).ring;
    assert_eq!(phase(&active, "c"), "gone");
    let third = step(&active, &terms(), wish("3"), "c", START + WAIT).ring;
    assert_eq!(phase(&third, "c"), "prepared");
}

#[test]
fn a_users_new_key_is_prepared_like_any_other() {
    let given = id("mine");
    let inputs = Inputs {
        given: Some((&given, Algorithm::Rs256)),
        ..Inputs::default()
    };
    let ring = with_active(&terms());
    let next = step(&ring, &terms(), inputs, "unused", START + 1).ring;
    assert_eq!(
        (phase(&next, "a"), phase(&next, "mine")),
        ("active", "prepared")
    );
    assert_eq!(phase(&next, "unused"), "gone");
}

/// The documents of another system may be in caches.
#[test]
fn a_first_key_waits_where_the_public_issuer_serves_others() {
    let terms = observed();
    let foreign = sighting(&["somebody-elses"], START);
    let inputs = Inputs {
        sighting: Some(&foreign),
        ..Inputs::default()
    };
    let ring = step(&Ring::default(), &terms, inputs, "a", START).ring;
    let seen = see(&ring, &terms, &["a"], START + 10).ring;
    assert_eq!(phase(&seen, "a"), "prepared");
    let signing = see(&seen, &terms, &["a"], START + 10 + WAIT).ring;
    assert_eq!(phase(&signing, "a"), "active");
}

#[test]
fn a_cdn_that_tells_relying_parties_a_longer_time_than_we_do_delays_the_rotation() {
    let terms = observed();
    let ring = with_prepared(&terms);
    let told = Duration::from_secs(3600);
    let long = Sighting {
        max_age: told,
        ..sighting(&["a", "b"], START + 10)
    };
    let inputs = Inputs {
        sighting: Some(&long),
        ..wish("1")
    };
    let seen = advance(&ring, &terms, &inputs, at(START + 10)).ring;
    let waits = match seen.prepared().unwrap().phase() {
        Phase::Prepared { signs_from, .. } => signs_from.unwrap(),
        Phase::Active { .. } | Phase::Retiring { .. } => panic!("{seen:?}"),
    };
    assert!(waits >= at(START + 10).saturating_add(told), "{seen:?}");
}
