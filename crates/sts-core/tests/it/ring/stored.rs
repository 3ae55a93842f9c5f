//! The stored ring against the one in memory.

use sts_core::keys::ring::{Inputs, Loss, Ring, Step, Stored, reconcile};

use super::{START, WAIT, at, id, phase, step, terms, wish, with_active, with_prepared};

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
    let new = step(
        &with_prepared(&terms()),
        &terms(),
        wish("1"),
        "c",
        START + WAIT,
    )
    .ring;
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
    let new = step(
        &with_prepared(&terms()),
        &terms(),
        wish("1"),
        "c",
        START + WAIT,
    )
    .ring;
    let mut text: serde_json::Value = serde_json::from_str(&new.render()).unwrap();
    text["keys"]
        .as_array_mut()
        .unwrap()
        .retain(|key| key["kid"] != "a");
    let cut = Ring::parse(&text.to_string()).unwrap();
    let found = reconcile(
        Some(&new),
        &Stored::Whole(cut),
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
