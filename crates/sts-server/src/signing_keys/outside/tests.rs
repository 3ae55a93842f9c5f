//! When a look comes, by a clock that stands still while anybody has something to do.

use std::cell::RefCell;

use sts_core::keys::KeySetError;
use sts_core::keys::ring::{Ring, Sight};
use tokio::time::timeout;

use super::super::Keys;
use super::super::testing::empty;
use super::*;

fn observed() -> (Arc<KeyRing>, Looks) {
    let ring = Arc::new(empty(Sight::Observed));
    let looks = Looks {
        ring: Arc::clone(&ring),
        issuer: ring.issuer.clone(),
        metrics: Metrics::default(),
        said: None,
    };
    (ring, looks)
}

/// The times of the looks at a public issuer that serves nothing, each of which takes a second, while `meanwhile` happens to the ring.
async fn looks(meanwhile: impl AsyncFnOnce(&KeyRing)) -> Vec<Duration> {
    let (ring, mut looks) = observed();
    let (start, times) = (Instant::now(), RefCell::new(Vec::new()));
    let read = || {
        times.borrow_mut().push(start.elapsed());
        async {
            sleep(SECOND).await;
            Err(OutsideError::JwksUri)
        }
    };
    let condition = Condition::unlisted("public issuer");
    let looking = timeout(SECOND * 10, looks.go_on(read, &condition));
    let (_, ()) = tokio::join!(looking, meanwhile(&ring));
    times.into_inner()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn while_something_else_is_served_a_look_comes_two_seconds_after_the_last() {
    assert_eq!(looks(async |_| {}).await[..2], [Duration::ZERO, SECOND * 3]);
}

/// Such as by another replica that saw the new key sooner: what this look shows may be from before that.
#[tokio::test(start_paused = true)]
async fn a_ring_that_changes_during_a_look_is_looked_for_again_at_once() {
    let changed = async |ring: &KeyRing| {
        sleep(SECOND / 2).await;
        ring.install(&Ring::default(), Keys::new(), None).unwrap();
    };
    assert_eq!(looks(changed).await[..2], [Duration::ZERO, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn documents_that_were_carried_outside_are_looked_for_at_once() {
    let carried = async |ring: &KeyRing| {
        sleep(SECOND * 3 / 2).await;
        ring.are_carried();
    };
    assert_eq!(looks(carried).await[..2], [Duration::ZERO, SECOND * 3 / 2]);
}

/// Silence leaves relying parties what they have; an answer without our keys does not.
#[tokio::test]
async fn an_answer_without_our_keys_is_not_silence() {
    let (ring, mut looks) = observed();
    let (what, status) = ("the key set", |status| FetchError::Status { status });
    for (source, is_silent) in [
        (status(404), false),
        (status(403), false),
        (KeySetError::NoUsableKey.into(), false),
        (status(500), true),
        (status(429), true),
        (FetchError::Slow, true),
    ] {
        let text = source.to_string();
        let read = Err(OutsideError::Fetch { what, source });
        assert!(looks.take(read, Instant::now(), None));
        let seen = ring.outside.borrow();
        let silent = match &*seen {
            Seen::Silent => true,
            Seen::Serves { key_ids, .. } => !key_ids.is_empty(),
            Seen::NotLookedYet => panic!("{text}"),
        };
        assert_eq!(silent, is_silent, "{text}");
    }
}
