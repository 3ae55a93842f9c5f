//! What people read.

use sts_core::keys::ring::{Inputs, Phase, Ring, RingTextError};

use super::{START, WAIT, at, id, step, terms, wish, with_active, with_prepared, with_rotated};

#[test]
fn a_ring_comes_back_from_its_text() {
    let revoked = [id("b")];
    let inputs = Inputs {
        revoke: &revoked,
        ..wish("2")
    };
    let active = with_rotated(&terms());
    let ring = step(&active, &terms(), inputs, "d", START + WAIT + 1).ring;
    assert_eq!(Ring::parse(&ring.render()), Ok(ring));
}

#[test]
fn rot_014_a_later_releases_ring_is_named_and_not_guessed_at() {
    let text = with_active(&terms())
        .render()
        .replace("\"format\": 1", "\"format\": 2");
    let error = Ring::parse(&text).unwrap_err();
    assert_eq!(error, RingTextError::LaterFormat { format: 2 });
    assert!(
        error
            .to_string()
            .contains("go back to the release that wrote it")
    );
}

#[test]
fn rot_009_rings_that_cannot_be_are_refused() {
    let text = with_prepared(&terms()).render();
    let refuses = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        assert!(Ring::parse(&text.replace(from, to)).is_err(), "{to}");
    };
    refuses(
        "\"state\": \"prepared\"",
        "\"state\": \"active\", \"activated\": \"2026-01-01T00:00:00Z\"",
    );
    refuses("\"kid\": \"b\"", "\"kid\": \"a\"");
    refuses("\"kid\": \"b\"", "\"kid\": \"\"");
    refuses("\"ES256\"", "\"none\"");
    refuses("\"prepared\": \"1970", "\"prepared\": \"1869");
    refuses("\"activated\"", "\"when\"");
    refuses("{", "");
}

#[test]
fn what_a_person_reads_says_where_a_rotation_stands() {
    let ring = with_prepared(&terms());
    assert_eq!(
        ring.status(),
        "a signs; b is published and signs from 1970-01-12T13:53:40Z, when no key set without it can be in use any more"
    );
    let active = step(&ring, &terms(), wish("1"), "c", START + WAIT).ring;
    assert_eq!(
        active.status(),
        "b signs; a stays published until 1970-01-12T14:15:40Z"
    );
    let Phase::Active { since } = active.active().unwrap().phase() else {
        panic!("{active:?}")
    };
    assert_eq!(since, at(START + WAIT));
}

#[test]
fn disc_005_next_current_and_previous_keys_are_published_in_the_order_of_their_use() {
    let active = with_rotated(&terms());
    let ring = step(&active, &terms(), wish("2"), "c", START + WAIT).ring;
    let published: Vec<&str> = ring.keys().map(|key| key.id().as_str()).collect();
    assert_eq!(published, ["b", "c", "a"]);
}
