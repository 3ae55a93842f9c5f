//! A keeper that is busy, with making a key or with Events, reads on meanwhile: a ring that nobody confirms for `staleAfter` does not
//! sign, and a rotation must not be felt.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use sts_core::keys::ring::{Step, Stored};
use sts_core::sign::SigningKey;
use tokio::time::{Instant, sleep};

use super::super::api_clock::ApiClock;
use super::super::store::Store;
use super::super::{Confirmed, KeyRing, SigningKeyError, State, generate, secret};
use super::{Keeper, confirmed};

/// Also without any event: what is in memory must be known to be the stored ring.
const LONGEST_LOOK: Duration = Duration::from_secs(15);
/// However soon a ring is stale.
const SHORTEST_LOOK: Duration = Duration::from_millis(250);

impl Keeper {
    /// Makes a key, which takes up to a second of CPU, and more where there is little of it.
    pub(super) async fn make_key(&mut self) -> Result<Arc<SigningKey>, SigningKeyError> {
        let algorithm = self.ring.terms.algorithm;
        let reading_on = read_on(&self.store, &mut self.clock, &self.ring);
        tokio::select! {
            made = generate(algorithm) => made,
            never = reading_on => match never {},
        }
    }

    /// Says what a write changed, which takes as long as the API server likes with Events.
    pub(super) async fn tell_steps(&mut self, written: &Secret, steps: &[Step]) {
        let reading_on = read_on(&self.store, &mut self.clock, &self.ring);
        tokio::select! {
            () = self.report.steps(written, steps) => {}
            never = reading_on => match never {},
        }
    }
}

/// Confirms the ring in memory time and again, as long as it is the stored one. What fails or has changed is for the next look.
async fn read_on(store: &Store, clock: &mut ApiClock, ring: &KeyRing) -> Infallible {
    loop {
        sleep(ring.regularly()).await;
        let Ok(reading) = store.read().await else {
            continue;
        };
        let Some(date) = reading.date else { continue };
        let now = clock.read(date, reading.begun, Instant::now());
        let content = secret::read(reading.secret.as_ref(), ring.terms.algorithm);
        ring.confirm(&content.stored, confirmed(&reading, now));
    }
}

impl KeyRing {
    /// How often the stored ring is read.
    pub(super) fn regularly(&self) -> Duration {
        (self.terms.lag / 4).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }

    /// Takes note that the ring in memory is the stored one, if it is.
    pub(super) fn confirm(&self, stored: &Stored, confirmed: Confirmed) {
        let Some(state) = self.state.load_full() else {
            return;
        };
        let is_stored = matches!(stored, Stored::Whole(stored) if *stored == state.ring);
        if is_stored {
            self.state.store(Some(Arc::new(State {
                ring: state.ring.clone(),
                keys: state.keys.clone(),
                published: Arc::clone(&state.published),
                confirmed: Some(confirmed),
            })));
        }
    }
}

#[cfg(test)]
mod tests {
    use sts_core::keys::ring::{Inputs, Ring, Sight, Withheld, advance};
    use sts_core::time::UnixSeconds;

    use super::super::super::testing::{LAG, empty};
    use super::super::super::{Key, Keys};
    use super::*;

    fn read_before(ago: Duration) -> Confirmed {
        Confirmed {
            at: Instant::now().checked_sub(ago).unwrap(),
            wall: svc_runtime::clock::now(),
            clock_apart: Duration::ZERO,
        }
    }

    #[test]
    fn reading_the_ring_in_memory_again_lets_it_go_on_signing_and_reading_another_does_not() {
        let key = Arc::new(SigningKey::generate(sts_config::SigningAlgorithm::Es256).unwrap());
        let memory = empty(Sight::ByTime);
        let inputs = Inputs {
            given: Some((key.key_id(), key.algorithm())),
            ..Inputs::default()
        };
        let now = UnixSeconds::new(1_000_000).unwrap();
        let ring = advance(&Ring::default(), &memory.terms, &inputs, now).ring;
        let keys = Keys::from([(key.key_id().clone(), Key::Private(key))]);
        let long_ago = read_before(LAG * 2);
        memory.install(&ring, keys, Some(long_ago)).unwrap();
        let signer = || memory.signer(svc_runtime::clock::now());
        let stale = |stored: Stored| {
            memory.confirm(&stored, read_before(Duration::ZERO));
            signer().err()
        };
        assert_eq!(signer().err(), Some(Withheld::Stale));
        for other in [
            Stored::Empty,
            Stored::Damaged("half of it".to_owned()),
            Stored::Whole(Ring::default()),
        ] {
            assert_eq!(stale(other), Some(Withheld::Stale));
        }
        assert_eq!(stale(Stored::Whole(ring)), None);
    }

    /// LAG is both `staleAfter` and `maxAge` here: a key that others prepare just after the last reading signs after both.
    #[test]
    fn a_replica_whose_ring_nobody_confirms_is_not_ready_before_a_key_that_it_lacks_can_sign() {
        let memory = empty(Sight::ByTime);
        assert!(memory.is_behind(svc_runtime::clock::now()), "no ring");
        let after = |ago: u64| {
            let confirmed = read_before(Duration::from_secs(ago));
            let ring = Ring::default();
            memory.install(&ring, Keys::new(), Some(confirmed)).unwrap();
            let now = svc_runtime::clock::now();
            let (_, max_age) = memory.documents(now).expect("live tokens need them");
            (max_age.as_secs(), memory.is_behind(now))
        };
        assert_eq!(after(50), (60, false));
        assert_eq!(after(70), (5, false));
        assert_eq!(after(118), (5, false));
        assert_eq!(after(121), (5, true));
    }
}
