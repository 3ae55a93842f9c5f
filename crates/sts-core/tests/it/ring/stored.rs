//! The stored ring against the one in memory.

use sts_core::keys::ring::{Inputs, Loss, Phase, Ring, Step, Stored, reconcile};

use super::{
    START, WAIT, at, id, phase, step, terms, wish, with_active, with_prepared, with_rotated,
};

#[test]
fn rot_008_a_deleted_ring_is_put_back_with_a_new_key() {
    let ring = with_active(&terms());
    let found = reconcile(Some(&ring), &Stored::Empty, None, &terms(), at(START + 1)).unwrap();
    assert!(found.deleted);
    let next = step(
        &found.ring,
        &terms(),
        Inputs::default().after(&found),
        "b",
        START + 1,
    );
    assert_eq!(
        (phase(&next.ring, "a"), phase(&next.ring, "b")),
        ("active", "prepared")
    );
    assert!(next.ring.generation() > ring.generation());
}

#[test]
fn rot_008_a_ring_deleted_while_nobody_had_it_keeps_its_public_keys_and_its_new_key_waits() {
    let ledger = with_active(&terms());
    let found = reconcile(None, &Stored::Empty, Some(&ledger), &terms(), at(START + 1)).unwrap();
    assert_eq!(
        found.steps,
        [Step::StartedAnew {
            kept: vec![id("a")]
        }]
    );
    let next = step(
        &found.ring,
        &terms(),
        Inputs::default().after(&found),
        "b",
        START + 1,
    )
    .ring;
    assert_eq!(
        (phase(&next, "a"), phase(&next, "b")),
        ("retiring", "prepared")
    );
    let early = step(&next, &terms(), Inputs::default(), "c", START + WAIT);
    assert_eq!(phase(&early.ring, "b"), "prepared");
    let late = step(&next, &terms(), Inputs::default(), "c", START + 1 + WAIT);
    assert_eq!(phase(&late.ring, "b"), "active");
}

#[test]
fn rot_009_nonsense_is_repaired_from_memory_and_otherwise_left_alone() {
    let ring = with_active(&terms());
    let damaged = Stored::Damaged("nonsense".to_owned());
    let found = reconcile(Some(&ring), &damaged, None, &terms(), at(START)).unwrap();
    assert_eq!(phase(&found.ring, "a"), "active");
    assert!(!found.deleted);
    let lost = reconcile(None, &damaged, Some(&ring), &terms(), at(START));
    assert_eq!(
        lost,
        Err(Loss {
            damage: "nonsense".to_owned()
        })
    );
}

#[test]
fn rot_010_an_older_ring_is_not_taken() {
    let old = with_active(&terms());
    let new = with_rotated(&terms());
    let restored = Stored::Whole(old);
    let found = reconcile(Some(&new), &restored, None, &terms(), at(START + WAIT)).unwrap();
    assert_eq!(
        (phase(&found.ring, "a"), phase(&found.ring, "b")),
        ("retiring", "active")
    );
    assert!(found.ring.generation() > new.generation());
    let [Step::RolledBack { stored: 1, ours }] = found.steps[..] else {
        panic!("{:?}", found.steps)
    };
    assert_eq!(ours, new.generation());
}

#[test]
fn rot_010_a_key_cut_out_by_hand_is_published_again() {
    let new = with_rotated(&terms());
    let found = reconcile(
        Some(&new),
        &without(&new, "a"),
        None,
        &terms(),
        at(START + WAIT),
    )
    .unwrap();
    assert_eq!(
        found.steps,
        [Step::KeptKeys {
            keys: vec![id("a")]
        }]
    );
    assert_eq!(phase(&found.ring, "a"), "retiring");
}

/// What is stored once somebody cut that key out of a ring by hand.
fn without(ring: &Ring, name: &str) -> Stored {
    let mut text: serde_json::Value = serde_json::from_str(&ring.render()).unwrap();
    let keys = text["keys"].as_array_mut().unwrap();
    keys.retain(|key| key["kid"] != name);
    Stored::Whole(Ring::parse(&text.to_string()).unwrap())
}

/// Its wait is long over, but key sets without it were served after the cut.
#[test]
fn rot_010_a_prepared_key_cut_out_by_hand_does_not_sign_when_the_ring_of_before_is_restored() {
    let ring = with_prepared(&terms());
    let cut = without(&ring, "b");
    let found = reconcile(Some(&ring), &cut, None, &terms(), at(START + 1)).unwrap();
    let served = step(&found.ring, &terms(), wish("1"), "c", START + 1).ring;
    assert_eq!(phase(&served, "b"), "gone");

    let (late, restored) = (START + WAIT, Stored::Whole(ring.clone()));
    let found = reconcile(Some(&served), &restored, None, &terms(), at(late)).unwrap();
    let next = step(&found.ring, &terms(), wish("1"), "c", late).ring;
    assert_eq!((phase(&next, "a"), phase(&next, "b")), ("active", "gone"));
    let [Step::RolledBack { .. }] = found.steps[..] else {
        panic!("{:?}", found.steps)
    };
}

/// The same where the server started after the cut, so that nobody counted it.
#[test]
fn rot_010_a_prepared_key_that_a_hand_brings_back_waits_anew() {
    let ring = with_prepared(&terms());
    let Stored::Whole(served) = without(&ring, "b") else {
        unreachable!()
    };
    let (late, restored) = (START + WAIT, Stored::Whole(ring));
    let found = reconcile(Some(&served), &restored, None, &terms(), at(late)).unwrap();
    let next = step(&found.ring, &terms(), wish("1"), "c", late).ring;
    assert_eq!(
        (phase(&next, "a"), phase(&next, "b")),
        ("active", "prepared")
    );
    let early = step(&next, &terms(), wish("1"), "c", late + WAIT - 1).ring;
    assert_eq!(phase(&early, "b"), "prepared");
    let signs = step(&next, &terms(), wish("1"), "c", late + WAIT).ring;
    assert_eq!(phase(&signs, "b"), "active");
}

/// The replica that had not heard of the cut found its own ring restored, and let the key sign: one that knows better undoes it.
#[test]
fn rot_010_a_cut_key_that_a_replica_without_news_let_sign_signs_no_more() {
    let ring = with_prepared(&terms());
    let cut = without(&ring, "b");
    let found = reconcile(Some(&ring), &cut, None, &terms(), at(START + 1)).unwrap();
    let served = step(&found.ring, &terms(), wish("1"), "c", START + 1).ring;
    let late = START + WAIT;
    let mistaken = step(&ring, &terms(), wish("1"), "c", late).ring;
    assert_eq!(phase(&mistaken, "b"), "active");
    assert_eq!(mistaken.generation(), served.generation());

    let now = at(late + 1);
    let stored = Stored::Whole(mistaken.clone());
    let found = reconcile(Some(&served), &stored, None, &terms(), now).unwrap();
    assert_eq!(
        (phase(&found.ring, "a"), phase(&found.ring, "b")),
        ("active", "retiring"),
        "published for what it signed"
    );
    assert!(found.ring.generation() > mistaken.generation());
    // The one that was mistaken takes that over.
    let stored = Stored::Whole(found.ring.clone());
    let again = reconcile(Some(&mistaken), &stored, None, &terms(), now).unwrap();
    assert_eq!(again.ring, found.ring);
}

#[test]
fn rot_010_a_revoked_key_is_not_published_again() {
    let ring = with_active(&terms());
    let revoked = [id("a")];
    let inputs = Inputs {
        revoke: &revoked,
        ..Inputs::default()
    };
    let after = step(&ring, &terms(), inputs, "b", START + 1).ring;
    let found = reconcile(
        Some(&ring),
        &Stored::Whole(after),
        None,
        &terms(),
        at(START + 1),
    )
    .unwrap();
    assert_eq!(phase(&found.ring, "a"), "gone");
}

/// A public record with some of its values changed by whoever may write the ConfigMap.
fn forged(ring: &Ring, forge: impl FnOnce(&mut serde_json::Value)) -> Ring {
    let mut text: serde_json::Value = serde_json::from_str(&ring.render()).unwrap();
    forge(&mut text);
    Ring::parse(&text.to_string()).unwrap()
}

#[test]
fn rot_008_a_record_of_keys_for_ever_keeps_them_a_day_and_a_week_at_most() {
    let rotated = with_rotated(&terms());
    let record = forged(&rotated, |text| {
        for key in text["keys"].as_array_mut().unwrap() {
            key["lifetimeSeconds"] = u64::MAX.into();
            key["maxAgeSeconds"] = u64::MAX.into();
            if key["state"] == "retiring" {
                key["removedFrom"] = "9999-12-01T00:00:00Z".into();
            }
        }
    });
    let now = START + WAIT + 1;
    let found = reconcile(None, &Stored::Empty, Some(&record), &terms(), at(now)).unwrap();
    assert_eq!(found.ring.keys().count(), 2);
    let latest = at(now + 8 * 86_400);
    for key in found.ring.keys() {
        let Phase::Retiring { removed_from, .. } = key.phase() else {
            panic!("{key:?}")
        };
        assert!(removed_from <= latest, "{key:?}");
    }
}

#[test]
fn rot_008_a_record_of_an_implausible_generation_is_not_believed() {
    let ring = with_active(&terms());
    for generation in [u64::MAX, (1 << 32) + ring.generation() + 1] {
        let record = forged(&ring, |text| text["generation"] = generation.into());
        let now = at(START + 1);
        let found = reconcile(None, &Stored::Empty, Some(&record), &terms(), now).unwrap();
        assert_eq!(found.ring, Ring::default());
        let found = reconcile(Some(&ring), &Stored::Empty, Some(&record), &terms(), now).unwrap();
        assert_eq!(found.ring.generation(), ring.generation() + 1);
    }
}

#[test]
fn rot_008_a_record_adds_no_key_to_the_ring_of_a_running_server() {
    let ring = with_active(&terms());
    let record = forged(&ring, |text| {
        text["generation"] = (ring.generation() + 1).into();
        let mut key = text["keys"][0].clone();
        key["kid"] = "forged".into();
        key["state"] = "retiring".into();
        key["retired"] = key["activated"].take();
        key["removedFrom"] = "9999-12-01T00:00:00Z".into();
        text["keys"].as_array_mut().unwrap().push(key);
    });
    let now = at(START + 1);
    let damaged = Stored::Damaged("nonsense".to_owned());
    for stored in [Stored::Empty, damaged] {
        let found = reconcile(Some(&ring), &stored, Some(&record), &terms(), now).unwrap();
        assert_eq!(
            (phase(&found.ring, "a"), phase(&found.ring, "forged")),
            ("active", "gone")
        );
        assert!(found.ring.generation() > record.generation());
    }
}

/// The stale replica is the first to put the ring back: the key that it has goes on signing, rather than nobody for the time of a wait.
#[test]
fn rot_008_a_key_that_the_record_retired_for_an_unknown_one_goes_on_signing() {
    let ring = with_active(&terms());
    let next = with_prepared(&terms());
    let rotated = step(&next, &terms(), wish("1"), "c", START + WAIT).ring;
    assert_eq!(phase(&rotated, "a"), "retiring");
    let now = at(START + WAIT + 1);
    let found = reconcile(Some(&ring), &Stored::Empty, Some(&rotated), &terms(), now).unwrap();
    assert_eq!(
        (phase(&found.ring, "a"), phase(&found.ring, "b")),
        ("active", "gone")
    );
}
